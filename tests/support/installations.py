"""A founded installation in a temporary folder: real store, real keys, real tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from config.load import load_settings
from config.settings import Settings
from storage.open import NewAgency, Storage, found
from tests.support.clocks import SettableClock
from tests.support.databases import database_url, empty_database_url, laid_url

AGENCY = NewAgency("demo", "示例执法局", case_no_pattern=r".{3,60}")

__all__ = ["AGENCY", "clock", "database_url", "empty_database_url", "settings", "sqlite_storage", "storage"]


def settings_for(folder: Path, database_url: str, **overrides: object) -> Settings:
    """Settings of an installation in that folder."""
    values = {
        "data.dir": str(folder / "data"),
        "data.free_floor_bytes": 0,
        "database.url": database_url,
        **{name.replace("__", "."): value for name, value in overrides.items()},
    }
    return load_settings({}, file=_no_file(folder), overrides=values)


def _no_file(folder: Path) -> Path:
    empty = folder / "empty.toml"
    empty.touch()
    return empty


@pytest.fixture
def clock() -> SettableClock:
    """A clock the test moves."""
    return SettableClock()


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """Settings over each database in turn."""
    return settings_for(tmp_path, database_url)


@pytest.fixture
def storage(settings: Settings, clock: SettableClock) -> Iterator[Storage]:
    """A founded installation over each database in turn, with a settable clock."""
    yield from _opened(settings, clock)


@pytest.fixture
def sqlite_storage(tmp_path: Path, clock: SettableClock) -> Iterator[Storage]:
    """A founded installation over SQLite alone."""
    yield from _opened(settings_for(tmp_path, laid_url("sqlite", tmp_path)), clock)


def _opened(settings: Settings, clock: SettableClock) -> Iterator[Storage]:
    opened = replace(found(settings, AGENCY, clock), clock=clock)
    yield opened
    opened.database.dispose()
