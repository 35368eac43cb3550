"""When a dock's copy is removed: never bytes that are not in custody, whatever is at the dock by then."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.sources import folder
from ingest.sources.partial import OVERLAP_BYTES
from tests.support.fetching import BIG, SETTLE_S, Desk, Died, FolderPlace, desk_at, sha
from tests.support.places import FtpPlace, HttpPlace, Place, SftpPlace

LONG_AGO_S = 946684800
"""What a card's clock says that begins anew each time."""


@pytest.fixture(params=[SftpPlace, FtpPlace], ids=lambda kind: kind.kind)
def freeing_desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    yield from desk_at(request.param, tmp_path)


def test_dock_copy_goes_only_after_the_receipt(freeing_desk: Desk) -> None:
    desk = freeing_desk
    desk.restart(frees=True)
    path = desk.place.put("a.mp4", b"footage")
    beside = desk.place.put("a.mp4.sha256", sha(b"footage").encode())
    for _ in range(3):
        desk.look()
    assert (path.exists(), desk.digests()) == (True, [sha(b"footage")])
    desk.receipts.add(hashlib.sha256(b"footage").digest())
    assert desk.look().freed == []  # The first of its two looks freed it.
    assert (path.exists(), beside.exists()) == (False, False)


def test_recording_like_a_removed_one_is_taken_before_it_is_removed(freeing_desk: Desk) -> None:
    desk = freeing_desk
    desk.restart(frees=True)
    desk.receipts.add(hashlib.sha256(b"footage").digest())
    path = desk.place.put("a.mp4", b"footage")
    os.utime(path, (946684800, 946684800))
    for _ in range(3):
        desk.look()
    assert not path.exists()
    # The card's clock stands still, and its recorder begins its numbers anew.
    path = desk.place.put("a.mp4", b"another")
    os.utime(path, (946684800, 946684800))
    for _ in range(3):
        desk.look()
    assert (path.exists(), desk.digests()) == (True, sorted([sha(b"footage"), sha(b"another")]))
    desk.restart(frees=True)
    for _ in range(2):
        desk.look()
    assert path.exists(), "no receipt was given for it"


def test_what_speaks_of_two_files_stays_until_both_go(freeing_desk: Desk) -> None:
    desk = freeing_desk
    desk.restart(frees=True, marker_suffix=".ok")
    desk.receipts.add(hashlib.sha256(b"footage").digest())
    first, second = desk.place.put("a.mp4", b"footage"), desk.place.put("a.jpg", b"picture")
    marker, sidecar = desk.place.put("a.ok", b""), desk.place.put("a.json", b'{"place": "A"}')
    for _ in range(3):
        desk.look()
    assert [each.exists() for each in (first, second, marker, sidecar)] == [False, True, True, True]
    desk.receipts.add(hashlib.sha256(b"picture").digest())
    for _ in range(2):
        desk.look()
    assert [each.exists() for each in (second, marker, sidecar)] == [False, False, False]


def test_dock_copy_stays_when_not_told_to_remove_it(freeing_desk: Desk) -> None:
    desk = freeing_desk
    path = desk.place.put("a.mp4", b"footage")
    desk.receipts.add(hashlib.sha256(b"footage").digest())
    for _ in range(3):
        desk.look()
    assert path.exists()


def test_copy_that_changed_after_its_receipt_is_another_file(freeing_desk: Desk) -> None:
    desk = freeing_desk
    desk.restart(frees=True)
    path = desk.place.put("a.mp4", b"footage")
    desk.look()
    path.write_bytes(b"footage, and more of it")
    desk.receipts.add(hashlib.sha256(b"footage").digest())
    desk.look()
    assert path.exists()
    desk.look()
    assert desk.digests() == sorted([sha(b"footage"), sha(b"footage, and more of it")])
    assert path.exists()


# --- equal name, size and time, other bytes -------------------------------------------------------


def put(desk: Desk, name: str, content: bytes, at_s: int = LONG_AGO_S) -> Path:
    """A file of a camera whose clock stands still, written over what is there."""
    path = desk.place.put(name, content)
    os.utime(path, (at_s, at_s))
    return path


def receipt(desk: Desk, content: bytes) -> None:
    desk.receipts.add(hashlib.sha256(content).digest())


def looks(desk: Desk, count: int = 3) -> None:
    for _ in range(count):
        desk.look()


@pytest.fixture(params=[True, False], ids=["renames", "refuses to rename"])
def renames(request: pytest.FixtureRequest, freeing_desk: Desk) -> bool:
    freeing_desk.place.refuses_rename = not request.param
    freeing_desk.restart(frees=True)
    return bool(request.param)


@pytest.mark.usefixtures("renames")
@pytest.mark.parametrize("restarts", [False, True])
def test_recording_in_the_place_of_a_taken_one_is_taken_and_never_freed_unread(
    freeing_desk: Desk, restarts: bool
) -> None:
    desk = freeing_desk
    put(desk, "a.mp4", b"footage")
    looks(desk)
    put(desk, "a.mp4", b"another")
    if restarts:
        desk.restart(frees=True)
    looks(desk)
    assert desk.digests() == [sha(b"footage")], "a listing does not show it"
    receipt(desk, b"footage")
    assert desk.source.scan_once().replaced == ["a.mp4"]
    looks(desk)
    assert desk.held() == [b"another"]
    assert desk.digests() == sorted([sha(b"footage"), sha(b"another")])
    assert {staged.original_name_raw for staged in desk.accepted} == {b"a.mp4"}
    receipt(desk, b"another")
    looks(desk)
    assert desk.held() == []
    assert len(desk.accepted) == 2


@pytest.mark.parametrize("comes_back", [b"another", b"footage"])
def test_recording_that_comes_under_the_old_name_during_the_proof_is_another_file(
    freeing_desk: Desk, comes_back: bytes
) -> None:
    desk = freeing_desk
    desk.restart(frees=True)
    path = put(desk, "a.mp4", b"footage")
    put(desk, "a.mp4.json", b'{"place": "A"}')
    looks(desk)

    def write_anew() -> None:
        assert not path.exists(), "it is read under a name nobody else writes to"
        put(desk, "a.mp4", comes_back)

    desk.place.while_serving = write_anew
    receipt(desk, b"footage")
    assert desk.source.scan_once().freed == ["a.mp4"]
    assert desk.held() == sorted([comes_back, b'{"place": "A"}']), "what lies beside speaks of it by now"
    desk.receipts.clear()
    looks(desk)
    assert desk.digests() == sorted([sha(b"footage"), sha(comes_back)])
    assert path.read_bytes() == comes_back


def test_copy_that_is_written_to_while_it_is_proved_stays(freeing_desk: Desk, renames: bool) -> None:
    desk = freeing_desk
    path = put(desk, "a.mp4", b"footage")
    looks(desk)

    def write_on() -> None:
        copy = next(path.parent.glob("a.mp4*"))
        assert (copy == path) is not renames
        put(desk, copy.name, b"FOOTAGE", LONG_AGO_S + 1)

    desk.place.while_serving = write_on
    receipt(desk, b"footage")
    assert desk.source.scan_once().failed == {"a.mp4": "source_changed"}
    looks(desk, 4)
    assert desk.held() == [b"FOOTAGE"]
    assert desk.digests() == sorted([sha(b"footage"), sha(b"FOOTAGE")])


def test_proof_that_is_cut_goes_on_from_there(freeing_desk: Desk) -> None:
    desk = freeing_desk
    desk.restart(frees=True)
    put(desk, "a.mp4", BIG)
    looks(desk)
    assert desk.place.served_bytes == len(BIG)
    receipt(desk, BIG)
    desk.place.cut_after_bytes = 5 << 19
    assert desk.source.scan_once().failed == {"a.mp4": "source_cut"}
    looks(desk, 2)
    assert desk.held() == []
    assert desk.place.served_bytes < 3 * len(BIG) - OVERLAP_BYTES
    assert len(desk.accepted) == 1


def test_new_recordings_come_before_the_proof_of_old_ones(freeing_desk: Desk) -> None:
    desk = freeing_desk
    desk.restart(frees=True)
    put(desk, "a.mp4", b"footage")
    looks(desk)
    put(desk, "b.mp4", b"newer")
    desk.source.scan_once()
    desk.now_s += SETTLE_S
    receipt(desk, b"footage")
    order: list[str] = []
    desk.place.while_serving = lambda: order.append("b" if desk.held().count(b"footage") else "a")
    result = desk.source.scan_once()
    assert (result.taken, result.freed, order) == (["b.mp4"], ["a.mp4"], ["b"])


@pytest.mark.parametrize("name", ["x" * 251 + ".mp4", "执法 01.mp4"])
def test_any_name_can_be_freed(freeing_desk: Desk, name: str) -> None:
    desk = freeing_desk
    desk.restart(frees=True)
    put(desk, name, b"footage")
    receipt(desk, b"footage")
    looks(desk)
    assert (desk.held(), len(desk.accepted)) == ([], 1)


def test_dock_that_does_not_show_what_was_renamed_gets_the_name_back(freeing_desk: Desk) -> None:
    desk = freeing_desk
    desk.restart(frees=True)
    desk.place.hides_renamed = True
    first, second = put(desk, "a.mp4", b"footage"), put(desk, "b.mp4", b"another")
    looks(desk)
    put(desk, "a.mp4", b"FOOTAGE")
    receipt(desk, b"footage")
    assert desk.source.scan_once().replaced == ["a.mp4"]
    assert (first.exists(), second.exists()) == (True, True)
    receipt(desk, b"another")
    receipt(desk, b"FOOTAGE")
    looks(desk, 4)
    assert desk.held() == []
    assert desk.digests() == sorted([sha(b"footage"), sha(b"FOOTAGE"), sha(b"another")])


# --- a process that dies in between ---------------------------------------------------------------

DEATHS = [
    ("before", "rename"),
    ("after", "rename"),
    ("before", "read"),
    ("before", "remove"),
    ("after", "remove"),
]


@pytest.mark.parametrize("death", DEATHS, ids=" ".join)
@pytest.mark.parametrize(("marker", "found"), [(".ok", b"footage"), (None, b"another")])
def test_death_on_the_way_loses_nothing_and_leaves_nothing(
    freeing_desk: Desk, death: tuple[str, str], marker: str | None, found: bytes
) -> None:
    desk = freeing_desk
    desk.restart(frees=True, marker_suffix=marker)
    put(desk, "a.mp4", b"footage")
    if marker:
        put(desk, "a.ok", b"")
    put(desk, "a.mp4.json", b'{"place": "A"}')
    looks(desk)
    put(desk, "a.mp4", found)
    receipt(desk, b"footage")
    assert desk.remote is not None
    desk.remote.dies = death
    with contextlib.suppress(Died):
        desk.source.scan_once()
    desk.restart(frees=True, marker_suffix=marker)
    looks(desk, 4)
    taken = {staged.sha256.hex() for staged in desk.accepted}
    assert taken == {sha(b"footage"), sha(found)}, "what is at the dock is here, or was"
    if found == b"another":
        assert b"another" in desk.held(), "there is no receipt for it"
        receipt(desk, b"another")
        looks(desk, 4)
    assert b"footage" not in desk.held()
    assert b"another" not in desk.held()
    assert {staged.original_name_raw for staged in desk.accepted} <= {b"a.mp4", b"a.mp4.json"}
    arrivals = [staged.reception_key for staged in desk.accepted]
    assert len(arrivals) == len(set(arrivals)), "taken anew it is another arrival"


def test_lost_answer_to_a_rename_is_no_lost_recording(freeing_desk: Desk) -> None:
    desk = freeing_desk
    desk.restart(frees=True)
    put(desk, "a.mp4", b"footage")
    looks(desk)
    receipt(desk, b"footage")
    assert desk.remote is not None
    desk.remote.dies = ("after", "rename")
    with pytest.raises(Died):
        desk.source.scan_once()
    desk.remote.dies = None
    assert desk.source.scan_once().freed == ["a.mp4"], "the same process knows what it asked for"
    assert (desk.held(), len(desk.accepted)) == ([], 1)


# --- where nothing is freed -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FolderPlace, FtpPlace, HttpPlace], ids=lambda kind: kind.kind)
def test_what_tells_one_file_from_another_is_heeded_where_it_is_told(
    kind: type[Place], tmp_path: Path
) -> None:
    for desk in desk_at(kind, tmp_path):
        desk.place.tells_identity = True
        path = put(desk, "a.mp4", b"footage")
        looks(desk, 2)
        path.rename(desk.place.folder / ".old")  # Its inode stays in use, and is not given out again.
        put(desk, "a.mp4", b"another")
        looks(desk, 2)
        assert desk.digests() == sorted([sha(b"footage"), sha(b"another")])


@pytest.fixture
def folder_desk(tmp_path: Path) -> Iterator[Desk]:
    yield from desk_at(FolderPlace, tmp_path)


def test_recording_that_comes_before_the_taken_one_is_moved_is_not_moved(folder_desk: Desk) -> None:
    desk = folder_desk
    desk.restart(after_take="move")
    path = put(desk, "a.mp4", b"footage")
    desk.after_accept = lambda: put(desk, "new", b"another").rename(path)
    desk.look()
    assert path.read_bytes() == b"another"
    assert not list(desk.place.folder.glob("done/*"))
    desk.after_accept = None
    looks(desk, 1)
    assert desk.digests() == sorted([sha(b"footage"), sha(b"another")])
    assert (desk.place.folder / "done" / "a.mp4").read_bytes() == b"another"


def test_recording_that_comes_while_the_taken_one_is_moved_gets_its_name_back(
    folder_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = folder_desk
    desk.restart(after_take="move")
    path = put(desk, "a.mp4", b"footage")
    move = folder._rename_beside

    def a_moment_too_late(file: Path, target: Path) -> Path:
        if path.exists() and path.read_bytes() == b"footage":
            put(desk, "new", b"another").rename(path)
        return move(file, target)

    monkeypatch.setattr(folder, "_rename_beside", a_moment_too_late)
    desk.look()
    assert path.read_bytes() == b"another"
    looks(desk, 1)
    assert desk.digests() == sorted([sha(b"footage"), sha(b"another")])
