"""Fixtures every test may ask for."""

from __future__ import annotations

from tests.support.compiling import compiled_once
from tests.support.house import house
from tests.support.installations import (
    clock,
    database_url,
    empty_database_url,
    settings,
    sqlite_storage,
    storage,
)
from tests.support.passwords import proved_once
from tests.support.trust import trusted_once

__all__ = [
    "clock",
    "compiled_once",
    "database_url",
    "empty_database_url",
    "house",
    "proved_once",
    "settings",
    "sqlite_storage",
    "storage",
    "trusted_once",
]
