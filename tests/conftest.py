"""Fixtures every test may ask for."""

from __future__ import annotations

from tests.support.house import house
from tests.support.installations import clock, database_url, settings, sqlite_storage, storage

__all__ = ["clock", "database_url", "house", "settings", "sqlite_storage", "storage"]
