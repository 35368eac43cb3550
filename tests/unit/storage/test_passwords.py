"""Passwords: an unknown name costs a guesser as much as a known one."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from storage.db import passwords
from storage.db.tables import Base


def test_an_unknown_name_costs_as_much_as_a_known_one() -> None:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        nobody = passwords.candidate(session, None, "nobody")
    hasher = PasswordHasher()
    # Otherwise: made again with today's parameters, and put into `storage.db.passwords`.
    assert not hasher.check_needs_rehash(nobody.password_hash)
    with pytest.raises(VerifyMismatchError):
        hasher.verify(nobody.password_hash, "")
    assert not passwords.matches(nobody, "")
