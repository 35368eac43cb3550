"""As root: flip a bit, change, drop, add and swap rows and leaves; `verify` and `check` name each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cli.shell import Desk
from config.settings import Settings
from storage.db import custody
from storage.open import found, open_storage
from tests.support.held_shift import desk_of, play_shift
from tests.support.installations import AGENCY, settings_for
from tests.support.tampering import WAYS, judge, tamper

SEEDS = range(2 * len(WAYS))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An installation at rest, and its newest checkpoint, kept elsewhere."""
    folder = tmp_path_factory.mktemp("pristine")
    settings = settings_for(folder, f"sqlite:///{folder / 'data' / 'liuhen.db'}")
    storage = found(settings, AGENCY)
    desk = play_shift(settings, storage, folder)
    with desk.read() as session:
        newest = custody.newest_checkpoint(session, desk.agency.id)
    assert newest is not None
    storage.database.dispose()
    return folder, newest.note


def copy_of(pristine: Path, folder: Path) -> Settings:
    """The same installation, to be harmed."""
    shutil.copytree(pristine / "data", folder / "data")
    return settings_for(folder, f"sqlite:///{folder / 'data' / 'liuhen.db'}")


def opened(settings: Settings) -> Desk:
    return desk_of(settings, open_storage(settings))


def test_untouched_installation_has_no_findings(pristine: tuple[Path, str], tmp_path: Path) -> None:
    folder, kept = pristine
    desk = opened(copy_of(folder, tmp_path))
    assert judge(desk, kept) == set()
    desk.storage.database.dispose()


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_root_does_is_named(pristine: tuple[Path, str], tmp_path: Path, seed: int) -> None:
    folder, kept = pristine
    settings = copy_of(folder, tmp_path)
    harm = tamper(settings.data.dir, seed)
    desk = opened(settings)
    named = judge(desk, kept)
    desk.storage.database.dispose()
    assert harm.names <= named, f"{harm.what}: expected {sorted(harm.names)} named, found {sorted(named)}"
