"""What docks pushed: crashes, full disks and two transfers of one dock, without a network."""

from __future__ import annotations

import errno
import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from evidence.errors import Conflict, InvalidInput, NotPermitted, Unavailable
from ingest.sources.dropbox import Dropbox
from ingest.sources.dropbox_folder import DropboxFolder
from ingest.sources.dropbox_shelf import Dock, Pushed, Shelf

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


# --- whose turn it is -----------------------------------------------------------------------------


class SlowDisk:
    """A disk whose first sync takes until it is let go."""

    def __init__(self) -> None:
        self.is_syncing = threading.Event()
        self.let_go = threading.Event()
        self._lock = threading.Lock()
        self._is_first = True

    def sync(self, descriptor: int) -> None:
        with self._lock:
            is_first, self._is_first = self._is_first, False
        if is_first:
            self.is_syncing.set()
            assert self.let_go.wait(20)
        os.fdatasync(descriptor)


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


# --- pieces that are missing ----------------------------------------------------------------------


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


# --- how much may wait ----------------------------------------------------------------------------


def test_dock_with_too_much_waiting_is_refused_while_it_sends_and_goes_on_once_there_is_room(
    tmp_path: Path,
) -> None:
    box = opened(tmp_path / "box", max_dock_bytes=10)
    pushed(box, b"old.part", b"123456")
    incoming = box.begin(DOCK, b"a.part", "sftp", truncate=True)
    incoming.write(b"foot", 0)
    with pytest.raises(Unavailable) as refused:
        incoming.write(b"a", 4)
    assert refused.value.code == "push_full"
    assert incoming.end(in_order=True).state == "torn", "a piece of it was refused"
    again = opened(tmp_path / "box", max_dock_bytes=10)
    with pytest.raises(Unavailable):
        again.begin(DOCK, b"a.part", "sftp", truncate=False).write(b"age", 4)
    again = opened(tmp_path / "box", max_dock_bytes=10)
    again.discard(DOCK, b"old.part")
    incoming = again.begin(DOCK, b"a.part", "sftp", truncate=False)
    incoming.write(b"age", 4)
    incoming.end(in_order=True)
    again.rename(DOCK, b"a.part", b"a.mp4")
    assert DropboxFolder(again).files()[0].proof == "renamed"


def test_what_is_cut_sent_again_or_freed_no_longer_counts(tmp_path: Path) -> None:
    box = opened(tmp_path / "box", max_dock_bytes=10)
    for _ in range(3):
        incoming = box.begin(DOCK, b"a.part", "sftp", truncate=True)
        incoming.write(b"0123456789", 0)
        incoming.truncate(2)
        incoming.write(b"23456789", 2)
        incoming.end(in_order=True)
    box.rename(DOCK, b"a.part", b"a.mp4")
    box.free(box.listed()[0].id, 3)
    pushed(box, b"b.part", b"0123456789")
    box.keep_name(box.listed()[0].id, 1)
    pushed(box, b"c.part", b"0123456789")
    with pytest.raises(Unavailable):
        pushed(box, b"d.part", b"x")


def test_bytes_of_one_dock_do_not_count_against_another(tmp_path: Path) -> None:
    box = opened(tmp_path / "box", max_dock_bytes=10)
    pushed(box, b"a.part", b"0123456789")
    other = box.begin(replace(DOCK, dock_no="D-2"), b"a.part", "sftp", truncate=True)
    other.write(b"0123456789", 0)
    assert other.end(in_order=True).state == "closed"


# --- names whose bytes are in custody -------------------------------------------------------------


def whole(box: Dropbox, name: bytes, content: bytes) -> str:
    pushed(box, name + b".part", content)
    box.rename(DOCK, name + b".part", name)
    return box.listed()[-1].id


def test_bytes_in_custody_go_and_their_name_stays(tmp_path: Path) -> None:
    box = opened(tmp_path / "box")
    whole(box, b"a.mp4", b"footage")
    box.keep_name(box.listed()[0].id, 1)
    for each in (box, opened(tmp_path / "box")):
        found = each.find(DOCK, b"a.mp4")
        assert found is not None
        assert (found.state, found.size_bytes) == ("in_custody", 7)
        assert [shown.name for shown in each.within(DOCK, b"")[0]] == [b"a.mp4"]
        assert each.listed() == [], "nobody takes it again"
    assert list((tmp_path / "box").glob("*/*.part")) == []
    with pytest.raises(NotPermitted):
        box.rename(DOCK, b"a.mp4", b"b.mp4")
    box.discard(DOCK, b"a.mp4")
    assert box.find(DOCK, b"a.mp4") is None


@pytest.mark.parametrize("step", ["before the record", "after the record"])
def test_process_that_dies_while_bytes_go_loses_none_that_are_not_in_custody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    box = opened(tmp_path / "box")
    identity = whole(box, b"a.mp4", b"footage")

    def killed(*_args: object, **_named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        if step == "before the record":
            dying.setattr("ingest.sources.dropbox_shelf.write_durably", killed)
        else:
            dying.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            box.keep_name(identity, 1)
    assert len(list((tmp_path / "box").glob("*/*.part"))) == 1
    again = opened(tmp_path / "box")
    found = again.find(DOCK, b"a.mp4")
    assert found is not None
    if step == "before the record":
        assert bytes_of(again, b"a.mp4") == b"footage"
    else:
        assert (found.state, again.listed()) == ("in_custody", [])
        assert list((tmp_path / "box").glob("*/*.part")) == []


@pytest.mark.parametrize("way", ["begun under its name", "renamed to it"])
def test_what_is_pushed_under_a_kept_name_is_new(tmp_path: Path, way: str) -> None:
    box = opened(tmp_path / "box")
    kept = whole(box, b"a.mp4", b"footage")
    box.keep_name(kept, 1)
    with pytest.raises(InvalidInput):
        box.begin(DOCK, b"a.mp4", "ftp", truncate=True, offset_bytes=3)
    if way == "renamed to it":
        again = whole(box, b"a.mp4", b"footage")
    else:
        incoming = box.begin(DOCK, b"a.mp4", "ftp", truncate=True)
        incoming.declared_bytes = 7
        incoming.write(b"footage", 0)
        again = incoming.end(in_order=True).id
    assert again != kept, "another file, another arrival"
    assert [file.proof is not None for file in DropboxFolder(box).files()] == [True]
    box.free(again, 1)
    assert box.find(DOCK, b"a.mp4") is None, "its receipt was signed: the older name does not come back"
    assert opened(tmp_path / "box").find(DOCK, b"a.mp4") is None


def test_kept_names_never_keep_footage_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.sources.dropbox.MAX_NAMES", 2)
    box = opened(tmp_path / "box")
    for name in (b"1", b"2", b"3"):
        box.keep_name(whole(box, name, b"footage"), 1)
    assert {each.name for each in box.within(DOCK, b"")[0]} == {b"2", b"3"}
    for name in (b"4", b"5"):
        pushed(box, name, b"footage")
    with pytest.raises(Unavailable):
        pushed(box, b"6", b"footage")


def test_file_that_a_dock_goes_on_with_is_not_freed(tmp_path: Path) -> None:
    box = opened(tmp_path / "box")
    pushed(box, b"a.mp4", b"foot")
    file = DropboxFolder(box).files()[0]
    incoming = box.begin(DOCK, b"a.mp4", "sftp", truncate=False)
    for freeing in (DropboxFolder(box).remove, DropboxFolder(box).keep_name):
        with pytest.raises(Unavailable):
            freeing(file)
    incoming.write(b"age", 4)
    incoming.end(in_order=True)
    assert bytes_of(box, b"a.mp4") == b"footage"


@pytest.mark.parametrize("how", ["ended", "running", "torn by a crash"])
def test_file_sent_again_at_equal_size_and_time_is_another_and_not_freed_for_the_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("ingest.sources.dropbox.time", SimpleNamespace(time=lambda: 1_700_000_000))
    box = opened(tmp_path / "box")
    pushed(box, b"a.mp4", b"footage")
    (taken,) = DropboxFolder(box).files()
    incoming = box.begin(DOCK, b"a.mp4", "ftp", truncate=True)
    incoming.write(b"another", 0)
    if how == "ended":
        incoming.end(in_order=True)
    elif how == "torn by a crash":
        box = opened(tmp_path / "box")
    remote = DropboxFolder(box)
    for freeing in (remote.remove, remote.keep_name):
        with pytest.raises(Unavailable):
            freeing(taken)
    if how == "running":
        incoming.end(in_order=True)
    (now,) = remote.files()
    assert b"".join(remote.read(now, 0)) == b"another"
    assert (now.size_bytes, now.mtime_ns) == (taken.size_bytes, taken.mtime_ns)
    assert now.identity("here") != taken.identity("here"), "no journal takes one for the other"
    remote.remove(now)
    assert remote.files() == []


@pytest.mark.parametrize("way", ["renamed", "declared size"])
def test_table_that_a_dock_pushes_each_day_lies_here_once_and_is_its_to_remove(
    tmp_path: Path, way: str
) -> None:
    box = opened(tmp_path / "box")
    name = "D/清单.csv".encode()
    for day in (b"Monday", b"Sunday"):
        incoming = box.begin(DOCK, name + b".part" if way == "renamed" else name, "ftp", truncate=True)
        incoming.declared_bytes = len(day)
        incoming.write(day, 0)
        incoming.end(in_order=True)
        if way == "renamed":
            box.rename(DOCK, name + b".part", name)
    assert (len(box.listed()), bytes_of(box, name)) == (1, b"Sunday")
    assert len(list((tmp_path / "box").glob("*/*.part"))) == 1
    box.discard(DOCK, name)
    assert box.listed() == []
