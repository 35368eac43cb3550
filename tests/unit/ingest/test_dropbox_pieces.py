"""Pieces of pushed files that are missing: no hole, and nothing of an older transfer, passes for footage."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from evidence.errors import InvalidInput, Unavailable
from ingest.sources.dropbox_folder import DropboxFolder
from tests.support.dropboxes import DOCK, bytes_of, opened, pushed


def test_hole_never_passes_for_footage(tmp_path: Path) -> None:
    box = opened(tmp_path / "box")
    incoming = box.begin(DOCK, b"a.part", "sftp", truncate=True)
    incoming.write(b"foo", 0)
    incoming.write(b"age", 4)
    ended = incoming.end(in_order=True)
    assert (ended.state, ended.size_bytes) == ("torn", 3), "the dock goes on where the hole began"
    box.rename(DOCK, b"a.part", b"a.mp4")
    assert DropboxFolder(box).files()[0].proof is None


def test_pieces_out_of_order_are_a_whole_file_once_all_came(tmp_path: Path) -> None:
    box = opened(tmp_path / "box")
    incoming = box.begin(DOCK, b"a.part", "sftp", truncate=True)
    for at in (6, 2, 0, 4, 1, 3, 5):
        incoming.write(b"footage"[at : at + 1], at)
    incoming.end(in_order=True)
    box.rename(DOCK, b"a.part", b"a.mp4")
    assert bytes_of(box, b"a.mp4") == b"footage"
    assert DropboxFolder(box).files()[0].proof == "renamed"


def test_pieces_that_leave_ever_more_gaps_are_refused(tmp_path: Path) -> None:
    box = opened(tmp_path / "box")
    incoming = box.begin(DOCK, b"a.part", "sftp", truncate=True)
    with pytest.raises(InvalidInput):
        for at in range(1, 5000, 2):
            incoming.write(b"x", at)
    assert incoming.end(in_order=True).size_bytes == 0


@pytest.mark.parametrize("goes_on", [False, True], ids=["ends at once", "goes on behind it"])
def test_piece_the_disk_refused_is_missed_although_its_sender_ends_politely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goes_on: bool
) -> None:
    box = opened(tmp_path / "box")
    incoming = box.begin(DOCK, b"a.part", "sftp", truncate=True)
    incoming.write(b"foo", 0)

    def full(_descriptor: int, _data: object, _offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("ingest.sources.incoming.os.pwrite", full)
        with pytest.raises(Unavailable):
            incoming.write(b"tage", 3)
    if goes_on:
        incoming.write(b"!", 7)
    incoming.end(in_order=True)
    box.rename(DOCK, b"a.part", b"a.mp4")
    found = box.find(DOCK, b"a.mp4")
    assert found is not None
    assert (found.state, found.proof, found.size_bytes) == ("torn", None, 3), "what came before it is kept"


def test_what_an_older_transfer_left_behind_the_end_of_a_new_one_is_none_of_it(tmp_path: Path) -> None:
    box = opened(tmp_path / "box")
    pushed(box, b"a.part", b"older and longer footage", in_order=False)
    incoming = box.begin(DOCK, b"a.part", "sftp", truncate=False)
    incoming.write(b"newer", 0)
    assert incoming.end(in_order=True).size_bytes == 5
    assert bytes_of(box, b"a.part") == b"newer"


def test_file_gone_on_with_from_before_its_end_is_whole(tmp_path: Path) -> None:
    box = opened(tmp_path / "box")
    pushed(box, b"a.part", b"footag", in_order=False)
    incoming = box.begin(DOCK, b"a.part", "sftp", truncate=False)
    incoming.write(b"ta", 3)
    incoming.write(b"ge", 5)
    incoming.end(in_order=True)
    box.rename(DOCK, b"a.part", b"a.mp4")
    assert DropboxFolder(box).files()[0].proof == "renamed"
    assert bytes_of(box, b"a.mp4") == b"footage"


@pytest.mark.parametrize("asked", [False, True], ids=["killed", "killed after a sync"])
def test_hole_does_not_outlive_the_process_that_was_to_fill_it(tmp_path: Path, asked: bool) -> None:
    box = opened(tmp_path / "box")
    incoming = box.begin(DOCK, b"a.part", "sftp", truncate=True)
    incoming.write(b"foo", 0)
    incoming.write(b"age", 4)
    if asked:
        incoming.sync()
    assert bytes_of(opened(tmp_path / "box"), b"a.part") == b"foo", "the dock goes on where the hole began"


def test_cut_that_a_power_cut_undoes_brings_no_older_bytes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = opened(tmp_path / "box")
    pushed(box, b"a.part", b"older footage", in_order=False)
    incoming = box.begin(DOCK, b"a.part", "sftp", truncate=False)
    incoming.truncate(0)
    # The cut did not reach the disk before the power went; its record did.
    (part,) = (tmp_path / "box").glob("*/*.part")
    part.write_bytes(b"older footage")
    monkeypatch.setattr("ingest.sources.dropbox_shelf.boot", lambda: "another")
    assert [each.size_bytes for each in opened(tmp_path / "box").listed()] == [0]


def test_bytes_whose_sync_failed_do_not_stay_over_older_ones(tmp_path: Path) -> None:
    fails: list[OSError] = []

    def sync(descriptor: int) -> None:
        if fails:
            raise fails[0]
        os.fdatasync(descriptor)

    box = opened(tmp_path / "box", sync=sync)
    pushed(box, b"a.part", b"older footage", in_order=False)
    incoming = box.begin(DOCK, b"a.part", "sftp", truncate=False)
    incoming.write(b"newer", 0)
    fails.append(OSError(errno.EIO, "the disk failed"))
    with pytest.raises(Unavailable):
        incoming.end(in_order=True)
    fails.clear()
    assert bytes_of(opened(tmp_path / "box"), b"a.part") == b""


def test_offset_beyond_what_is_here_is_refused_and_cuts_nothing(tmp_path: Path) -> None:
    box = opened(tmp_path / "box")
    pushed(box, b"a.part", b"footage", in_order=False)
    for name in (b"a.part", b"new.part"):
        with pytest.raises(InvalidInput) as refused:
            box.begin(DOCK, name, "ftp", truncate=True, offset_bytes=8)
        assert refused.value.code == "push_offset"
    assert [each.size_bytes for each in box.listed()] == [7]
    assert bytes_of(box, b"a.part") == b"footage"
    assert len(list((tmp_path / "box").glob("*/*"))) == 2
