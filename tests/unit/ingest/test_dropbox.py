"""What docks pushed: crashes, failing disks and two transfers of one dock, without a network."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path

import pytest

from evidence.errors import Conflict, NotPermitted, Unavailable
from ingest.sources.dropbox_folder import DropboxFolder
from ingest.sources.dropbox_shelf import Dock, Pushed, Shelf
from tests.support.dropboxes import DOCK, bytes_of, opened, pushed
from tests.support.pushing import SlowDisk


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


def test_file_begun_again_is_of_who_sends_it_now(tmp_path: Path) -> None:
    box = opened(tmp_path / "box")
    pushed(box, b"a.mp4", b"of one", in_order=False)
    other = Dock(DOCK.agency_id, "D-1", "CAM-2", "token:2")
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


# --- whose turn it is -----------------------------------------------------------------------------


def test_slow_sync_of_one_file_holds_up_no_other(tmp_path: Path) -> None:
    disk = SlowDisk()
    box = opened(tmp_path / "box", sync=disk.sync)
    slow = box.begin(DOCK, b"slow.mp4", "sftp", truncate=True)
    slow.write(b"footage", 0)
    ending = threading.Thread(target=slow.end, kwargs={"in_order": True})
    ending.start()
    assert disk.is_syncing.wait(5)
    pushed(box, b"a.part", b"quick")
    box.rename(DOCK, b"a.part", b"a.mp4")
    assert {each.name for each in box.within(DOCK, b"")[0]} == {b"slow.mp4", b"a.mp4"}
    for refused in (
        lambda: box.begin(DOCK, b"slow.mp4", "sftp", truncate=True),
        lambda: box.rename(DOCK, b"slow.mp4", b"b.mp4"),
        lambda: box.discard(DOCK, b"slow.mp4"),
    ):
        with pytest.raises(Conflict):
            refused()
    found = box.find(DOCK, b"slow.mp4")
    assert found is not None
    assert found.state == "open", "not said to be done before it is"
    disk.let_go.set()
    ending.join(5)
    assert bytes_of(box, b"slow.mp4") == b"footage"


def test_file_whose_transfer_was_let_go_is_written_by_nobody(tmp_path: Path) -> None:
    box = opened(tmp_path / "box")
    incoming = box.begin(DOCK, b"a.part", "sftp", truncate=True)
    incoming.write(b"footage", 0)
    incoming.let_go()
    incoming.let_go()
    with pytest.raises(Conflict):
        incoming.write(b"more", 7)
    assert [(each.state, each.size_bytes) for each in box.listed()] == [("torn", 7)]


def test_name_given_to_a_file_takes_the_place_of_a_half_one_and_of_no_whole_one(tmp_path: Path) -> None:
    box = opened(tmp_path / "box")
    pushed(box, b"a.mp4", b"half", in_order=False)
    for content in (b"first", b"second"):
        pushed(box, b"a.part", content)
        box.rename(DOCK, b"a.part", b"a.mp4")
    listed = DropboxFolder(box)
    assert [b"".join(listed.read(file, 0)) for file in listed.files()] == [b"first", b"second"]
    with pytest.raises(NotPermitted):
        box.rename(DOCK, b"a.mp4", b"b.mp4")


def test_process_that_dies_in_the_middle_of_a_rename_leaves_the_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = opened(tmp_path / "box")
    pushed(box, b"a.mp4", b"half", in_order=False)
    pushed(box, b"a.part", b"footage")

    def killed(_shelf: Shelf, _found: Pushed) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(Shelf, "forget", killed)
        with pytest.raises(KeyboardInterrupt):
            box.rename(DOCK, b"a.part", b"a.mp4")
    again = DropboxFolder(opened(tmp_path / "box"))
    assert [b"".join(again.read(file, 0)) for file in again.files() if file.proof] == [b"footage"]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("step", ["rename", "end", "discard", "keep_name", "begin over"])
def test_disk_that_fails_in_any_step_loses_nothing_and_frees_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int
) -> None:
    box = opened(tmp_path / "box")
    pushed(box, b"a.part", b"footage")
    identity = box.listed()[0].id
    incoming = box.begin(DOCK, b"a.part", "sftp", truncate=False) if step == "end" else None

    def failing(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    steps = {
        "rename": lambda: box.rename(DOCK, b"a.part", b"a.mp4"),
        "end": lambda: incoming and incoming.end(in_order=True),
        "discard": lambda: box.discard(DOCK, b"a.part"),
        "keep_name": lambda: box.keep_name(identity, 1),
        "begin over": lambda: box.begin(DOCK, b"a.part", "sftp", truncate=True),
    }
    with monkeypatch.context() as broken:
        broken.setattr("ingest.sources.dropbox_shelf.write_durably", failing)
        broken.setattr("ingest.sources.dropbox_shelf.fsync_directory", failing)
        with pytest.raises(Unavailable):
            steps[step]()
    if step != "discard":  # Its dock has asked for it to be gone.
        assert bytes_of(box, b"a.part") == b"footage"
        assert bytes_of(opened(tmp_path / "box"), b"a.part") == b"footage"
    pushed(box, b"a.part", b"again")
    box.rename(DOCK, b"a.part", b"a.mp4")
    assert bytes_of(box, b"a.mp4") == b"again"
