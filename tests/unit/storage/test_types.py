"""What the columns make of what a database holds."""

from __future__ import annotations

import pickle
from uuid import UUID

import pytest

from evidence.ids import new_id
from storage.db.types import uuid_of


def test_an_id_that_is_made_quickly_is_one_like_any_other() -> None:
    for plain in (new_id(), UUID(int=0), UUID(int=(1 << 128) - 1)):
        found = uuid_of(plain.bytes)
        assert found == plain
        assert hash(found) == hash(plain)
        assert repr(found) == repr(plain)
        assert pickle.loads(pickle.dumps(found)) == plain  # noqa: S301 - our own, just written
        assert found is not None
        assert (found.is_safe, found.bytes) == (plain.is_safe, plain.bytes)
    assert uuid_of(None) is None


def test_what_is_no_id_is_refused() -> None:
    for value in (b"", bytes(15), bytes(17)):
        with pytest.raises(ValueError, match="16"):
            uuid_of(value)
