"""Several ingest hosts over one data folder stay out of each other's open uploads."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

import pytest

from config.load import SettingsError
from config.settings import Settings
from evidence.clock import SystemClock
from evidence.errors import Unavailable
from ingest.daemon.listening import upload_store
from storage.db.credentials import Uploader
from tests.support.installations import settings_for

DOCK = Uploader(UUID(int=1), UUID(int=2), "CG01", dock_no="D1", device_no=None)


def _settings(tmp_path: Path, host_id: str | None) -> Settings:
    return settings_for(tmp_path, f"sqlite:///{tmp_path / 'test.db'}", ingest__host_id=host_id)


def test_two_hosts_share_a_data_folder_and_name_each_other_in_refusals(tmp_path: Path) -> None:
    clock = SystemClock()
    with (
        upload_store(_settings(tmp_path, "north"), clock) as north,
        upload_store(_settings(tmp_path, "south"), clock) as south,
    ):
        upload = asyncio.run(north.create(DOCK, 10, "", ""))
        assert upload.record.upload_id.startswith("north.")
        assert upload.part_path.parent == tmp_path / "data" / "uploads" / "north"
        with pytest.raises(Unavailable) as elsewhere:
            south.find(upload.record.upload_id, DOCK)
    assert elsewhere.value.code == "upload_elsewhere"


def test_one_host_alone_needs_no_name(tmp_path: Path) -> None:
    with upload_store(_settings(tmp_path, None), SystemClock()) as store:
        assert asyncio.run(store.create(DOCK, 1, "", "")).record.upload_id.startswith("h0.")
        assert store.folder == tmp_path / "data" / "uploads"


@pytest.mark.parametrize("name", ["", "Host", "a.b", "../x", "a" * 17])
def test_name_of_a_host_that_could_not_begin_an_upload_id_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError):
        _settings(tmp_path, name)
