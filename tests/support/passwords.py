"""The few passwords of the tests are hashed once a run: argon2 is slow on purpose, and scenes are many."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from argon2 import PasswordHasher

from storage.db import passwords


class Remembering:
    """The real hasher, and what it has found right; what is wrong is worked out each time."""

    def __init__(self, hasher: PasswordHasher) -> None:
        self.hash = cache(hasher.hash)
        self.verify = cache(hasher.verify)


@pytest.fixture(scope="session", autouse=True)
def proved_once() -> Iterator[None]:
    """For the programs of this process; what a test starts apart has its own."""
    real = passwords._hasher
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_hasher", Remembering(real))
        yield
