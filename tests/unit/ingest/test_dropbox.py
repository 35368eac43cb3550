"""What docks pushed: crashes, full disks and two transfers of one dock, without a network."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from evidence.errors import Conflict, InvalidInput, Unavailable
from ingest.sources.dropbox import Dropbox
from ingest.sources.dropbox_folder import DropboxFolder
from ingest.sources.dropbox_shelf import Dock

AGENCY = UUID("0190a000-0000-7000-8000-0000000000aa")
DOCK = Dock(AGENCY, "D-1", None, "token:1")


def opened(folder: Path, **told: Any) -> Dropbox:
    return Dropbox(folder, lambda _: None, 1 << 30, told.pop("max_dock_bytes", 1 << 40), **told)


def pushed(box: Dropbox, name: bytes, content: bytes, *, in_order: bool = True) -> None:
    incoming = box.begin(DOCK, name, "sftp", truncate=True)
    incoming.write(content, 0)
    incoming.end(in_order=in_order)


def bytes_of(box: Dropbox, name: bytes) -> bytes:
    listed = DropboxFolder(box)
    file = next(each for each in listed.files() if each.path.endswith(b"/" + name))
    return b"".join(listed.read(file, 0))


def test_name_is_not_taken_from_a_transfer_that_is_writing_it(tmp_path: Path) -> None:
    box = opened(tmp_path / "box")
    pushed(box, b"other.part", b"other")
    incoming = box.begin(DOCK, b"a.mp4", "ftp", truncate=True)
    incoming.declared_bytes = 7
    incoming.write(b"footage", 0)
    with pytest.raises(Conflict):
        box.rename(DOCK, b"other.part", b"a.mp4")
    assert incoming.end(in_order=True).proof == "declared_size"
    assert bytes_of(box, b"a.mp4") == b"footage"


def test_rest_that_is_sent_again_leaves_nothing_of_an_older_file_behind_it(tmp_path: Path) -> None:
    box = opened(tmp_path / "box")
    pushed(box, b"a.mp4.part", b"older and longer footage", in_order=False)
    incoming = box.begin(DOCK, b"a.mp4.part", "ftp", truncate=True, offset_bytes=5)
    incoming.write(b" rest", 5)
    incoming.end(in_order=True)
    box.rename(DOCK, b"a.mp4.part", b"a.mp4")
    assert bytes_of(box, b"a.mp4") == b"older rest"


@pytest.mark.parametrize(("same_boot", "left"), [(True, b"synced, then not"), (False, b"synced")])
def test_length_without_bytes_does_not_count_after_another_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_boot: bool, left: bytes
) -> None:
    box = opened(tmp_path / "box")
    incoming = box.begin(DOCK, b"a.mp4", "sftp", truncate=True)
    incoming.write(b"synced", 0)
    incoming.sync()
    incoming.write(b", then not", 6)
    if not same_boot:
        monkeypatch.setattr("ingest.sources.dropbox_shelf.boot", lambda: "another")
    again = opened(tmp_path / "box")
    assert bytes_of(again, b"a.mp4") == left
    monkeypatch.setattr("ingest.sources.dropbox_shelf.boot", lambda: "a third")
    assert bytes_of(opened(tmp_path / "box"), b"a.mp4") == left, "what was synced at a start counts"


def test_disk_that_is_full_at_the_begin_cuts_nothing_and_leaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = opened(tmp_path / "box")
    pushed(box, b"a.mp4", b"footage")

    def full(_path: Path, _content: bytes) -> None:
        raise OSError(28, "No space left on device")

    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as broken:
        broken.setattr("ingest.sources.dropbox_shelf.write_durably", full)
        for name in (b"a.mp4", b"new.mp4"):
            with pytest.raises(Unavailable):
                box.begin(DOCK, name, "sftp", truncate=True)
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    assert bytes_of(box, b"a.mp4") == b"footage"
    assert len(list((tmp_path / "box").glob("*/*.part"))) == 1


class Disk:
    """A disk whose syncs fail when told to."""

    fails = False

    def sync(self, descriptor: int) -> None:
        if self.fails:
            raise OSError(errno.EIO, "Input/output error")
        os.fdatasync(descriptor)


@pytest.mark.parametrize(
    "asked", [False, True], ids=["at the close", "when the dock asks, and not at the close"]
)
def test_sync_that_fails_frees_the_name_and_keeps_only_what_was_synced_before(
    tmp_path: Path, asked: bool
) -> None:
    disk = Disk()
    box = opened(tmp_path / "box", sync=disk.sync)
    pushed(box, b"a.mp4", b"first", in_order=False)
    incoming = box.begin(DOCK, b"a.mp4", "sftp", truncate=False)
    incoming.write(b" second", 5)
    disk.fails = True
    with pytest.raises(Unavailable):
        incoming.sync() if asked else incoming.end(in_order=True)
    disk.fails = False
    if asked:
        assert incoming.end(in_order=True).state == "torn", "a second sync would lie about the first"
    for each in (box, opened(tmp_path / "box")):
        assert bytes_of(each, b"a.mp4") == b"first"
        assert not DropboxFolder(each).files()[0].may_settle
    box.begin(DOCK, b"a.mp4", "sftp", truncate=False).end(in_order=True)


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


def test_file_begun_again_is_of_who_sends_it_now(tmp_path: Path) -> None:
    box = opened(tmp_path / "box")
    pushed(box, b"a.mp4", b"of one", in_order=False)
    other = Dock(AGENCY, "D-1", "CAM-2", "token:2")
    box.begin(other, b"a.mp4", "sftp", truncate=True).end(in_order=True)
    found = DropboxFolder(box).files()[0]
    assert found.origin is not None
    assert (found.origin.device_no, found.origin.actor) == ("CAM-2", "token:2")


def test_record_of_a_version_that_knew_no_boot_is_read(tmp_path: Path) -> None:
    box = opened(tmp_path / "box")
    pushed(box, b"a.mp4", b"footage")
    record = next((tmp_path / "box").glob("*/*.json"))
    said = json.loads(record.read_bytes())
    del said["boot"]
    record.write_text(json.dumps(said))
    assert bytes_of(opened(tmp_path / "box"), b"a.mp4") == b"footage"
