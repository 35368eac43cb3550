"""How much of a dock may wait here, and what becomes of names whose bytes are in custody."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from evidence.errors import InvalidInput, NotPermitted, Unavailable
from ingest.sources.dropbox import EMPTY_LIFE_S
from ingest.sources.dropbox_folder import DropboxFolder
from tests.support.dropboxes import DOCK, bytes_of, opened, pushed, whole

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


def test_names_without_a_receipt_never_go_to_make_room_and_their_dock_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.sources.dropbox.MAX_NAMES", 2)
    box = opened(tmp_path / "box")
    for name in (b"1", b"2"):
        box.keep_name(whole(box, name, b"footage"), 1)
    for each in (box, opened(tmp_path / "box")):
        with pytest.raises(Unavailable) as refused:
            pushed(each, b"3", b"footage")
        assert refused.value.code == "push_limit"
        assert {kept.name for kept in each.within(DOCK, b"")[0]} == {b"1", b"2"}
    pushed(box, b"2", b"sent again")
    box.discard(DOCK, b"1")
    pushed(box, b"3", b"footage")
    assert {each.name for each in box.within(DOCK, b"")[0]} == {b"2", b"3"}
    other = replace(DOCK, dock_no="D-2")
    box.begin(other, b"1", "sftp", truncate=True).end(in_order=True)


def test_torn_file_without_a_byte_goes_after_a_day_and_no_other_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = opened(tmp_path / "box")
    pushed(box, b"empty.part", b"", in_order=False)
    pushed(box, b"half.part", b"foot", in_order=False)
    pushed(box, b"closed.part", b"")
    box.begin(DOCK, b"killed.part", "sftp", truncate=True)  # Its process dies.
    box = opened(tmp_path / "box")
    writing = box.begin(DOCK, b"open.part", "sftp", truncate=True)
    began_s = time.time()
    for seconds, left in ((-10, 5), (10, 3)):
        now_s = began_s + EMPTY_LIFE_S + seconds
        monkeypatch.setattr("ingest.sources.dropbox.time", SimpleNamespace(time=lambda now_s=now_s: now_s))
        with capture_logs() as logs:
            DropboxFolder(box).files()
        assert len(box.within(DOCK, b"")[0]) == left
        told = sorted(entry["name"] for entry in logs if entry["event"] == "push:empty_dropped")
        assert told == (["empty.part", "killed.part"] if left == 3 else [])
    writing.write(b"footage", 0)
    assert writing.end(in_order=True).size_bytes == 7
    assert len(list((tmp_path / "box").glob("*/*.json"))) == 3


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
