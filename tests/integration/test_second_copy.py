"""A second store of what rooms record: kept up, away, full, cut off between two steps, and used."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from cli.main import main
from evidence.session import CopyState
from ingest.daemon.second_copies import AGAIN_S, DIFFERS, DIFFERS_AGAIN_S, CopiedRoom, Copier, Verdict
from ingest.damage import DAMAGED
from ingest.recorder import second_copy, sessions, sheet
from ingest.recorder.copying import Work, complete
from ingest.recorder.places import room_folder
from ingest.recorder.stream import Finished
from storage.db import agencies, custody, items, second_copies
from storage.db.alarms import alarms
from storage.db.room_tables import SecondCopy
from storage.open import Storage
from storage.second_copy import SecondStore, attached, prepare, sums_of
from tests.support.clocks import SettableClock
from tests.support.rooms import ROOM, finished_file, hand_in

SIZE = 48
"""Of a file that `finished_file` makes."""


class Room:
    """A room, its recorder's folder, and a second store."""

    def __init__(self, storage: Storage, clock: SettableClock, folder: Path) -> None:
        self.storage, self.clock, self.at_s = storage, clock, 0.0
        self.recorder, self.second = folder / "recorder", folder / "second"
        self.second.mkdir()
        with storage.database.transaction() as session:
            self.agency = agencies.agency_by_code(session, "demo")
            row = sessions.start(session, self.agency, ROOM, facts={}, actor="operator:1", now=clock.now())
            self.session_id: UUID = row.id
        prepare(self.second, self.agency.store_id, clock.now())
        self.copier = self.another()

    def another(self, bytes_s: int = 1 << 30) -> Copier:
        copier = Copier(
            self.second, self.storage, self.recorder, self.agency.store_id, bytes_s, clock=lambda: self.at_s
        )
        copier.rooms.append(CopiedRoom("R-1", self.agency.id, "demo"))
        return copier

    @property
    def own(self) -> Path:
        """The room's folder on the first disk, as seen from that of recordings."""
        return room_folder(Path(), self.agency.id, "R-1")

    @property
    def home(self) -> Path:
        """The room's folder in the second store."""
        return self.second / "demo" / "R-1"

    def finished(self, number: int = 0) -> Finished:
        begins = self.clock.now() + timedelta(minutes=5 * number)
        return finished_file(
            self.storage,
            self.recorder / self.own / "main",
            begins,
            begins + timedelta(minutes=5),
            number=number,
        )

    def hold(self, finished: Finished) -> None:
        """As the daemon does with a finished file."""
        item_id = hand_in(self.storage, self.session_id, finished)
        finished.path.unlink()
        with self.storage.database.transaction() as session:
            agency = agencies.agency_by_code(session, "demo")
            for _ in range(2):
                second_copy.want(session, agency, "R-1", finished, item_id, self.clock.now())

    def look(self, seconds: float = 1.0, copier: Copier | None = None) -> None:
        self.at_s += seconds
        (copier or self.copier).look()

    def row(self, finished: Finished) -> SecondCopy:
        with self.storage.database.read() as session:
            return second_copies.copies_of(session, self.agency.id, [finished.key])[finished.key]

    def live(self, finished: Finished) -> Path:
        return self.home / "live" / second_copy.live_name(finished.stream, finished.run, finished.name)

    def leaves(self, finished: Finished) -> list[str]:
        with self.storage.database.read() as session:
            found = custody.leaves_about(session, self.agency.id, str(self.row(finished).item_id))
        actions = [json.loads(leaf.body or b"{}")["action"] for leaf in found]
        return [action for action in actions if action.startswith("item:cop")]

    def standing(self) -> list[str]:
        with self.storage.database.read() as session:
            return [row.code for row in alarms(session, self.agency.id)]

    def held(self, finished: Finished) -> Path:
        """The original in the first store."""
        path = self.storage.objects.path(self.key(finished))
        assert path is not None
        return path

    def key(self, finished: Finished) -> str:
        digest = finished.sha256.hex()
        return f"{self.agency.id.hex}/o/{digest[:2]}/{digest[2:4]}/{digest}"


@pytest.fixture
def room(storage: Storage, clock: SettableClock, tmp_path: Path) -> Room:
    """Over each database in turn."""
    return Room(storage, clock, tmp_path)


@pytest.fixture
def one_room(sqlite_storage: Storage, clock: SettableClock, tmp_path: Path) -> Room:
    """Where the database has no part."""
    return Room(sqlite_storage, clock, tmp_path)


def test_a_file_is_followed_while_it_grows_and_told_of_once_it_was_read_back(room: Room) -> None:
    finished = room.finished()
    whole = finished.path.read_bytes()
    growing = finished.path.with_name(finished.name + ".part")
    finished.path.unlink()
    growing.write_bytes(whole[:20])
    room.look()
    assert room.live(finished).read_bytes() == whole[:20]
    growing.write_bytes(whole)
    assert room.copier.lag_bytes(room.own, "main") == 0
    room.look()
    growing.rename(finished.path)
    room.hold(finished)
    assert room.row(finished).state == CopyState.OUTSTANDING
    with room.storage.database.read() as session:
        assert second_copies.count_uncopied(session, room.agency.id) == {"R-1": 1}
    room.look()
    row = room.row(finished)
    assert (row.state, row.sha256, row.settled_at) == (CopyState.COPIED, finished.sha256, room.clock.now())
    # Named by the clock on the agency's wall.
    assert row.path == f"2026-03-04/09-00-00_main_{finished.run}-000000.mp4"
    assert (room.home / row.path).read_bytes() == whole
    assert list((room.home / "live").iterdir()) == [room.home / "live" / "lock"]
    assert sums_of(room.home / "2026-03-04" / "SHA256SUMS") == {Path(row.path).name: finished.sha256.hex()}
    assert room.leaves(finished) == ["item:copied"]
    assert room.copier.verdict() == Verdict(None)
    with room.storage.database.read() as session:
        assert second_copies.count_uncopied(session, room.agency.id) == {}


def test_the_end_sheet_says_of_each_file_whether_both_match(one_room: Room) -> None:
    room = one_room
    first, late, alone = room.finished(0), room.finished(1), room.finished(2)
    room.hold(first)
    room.look()
    room.hold(late)
    hand_in(room.storage, room.session_id, alone)
    with room.storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        sessions.stop(session, agency, room.session_id, actor="operator:1", now=room.clock.now())
    with room.storage.database.read() as session:
        told = sheet.end_sheet(session, room.agency, room.session_id, room.storage.keys, room.clock.now())
    assert told["second_copies"] == {"wanted": 2, "outstanding": 1, "copied": 1, "differs": 0}
    copies = [file["second_copy"] for file in told["files"]]
    assert copies[2] is None
    assert [each["state"] for each in copies[:2]] == ["copied", "outstanding"]
    assert (copies[0]["sha256"], copies[1]["sha256"]) == (first.sha256.hex(), None)
    drawn = " ".join(line.text for line in sheet._lines(told, sheet.ZoneInfo("UTC")))
    assert "两份一致 both copies match" in drawn
    assert "第二份待复制 second copy outstanding  1" in drawn


def test_a_disk_that_is_unmounted_is_told_of_and_caught_up_with(one_room: Room) -> None:
    first, second = one_room.finished(0), one_room.finished(1)
    growing = second.path.rename(second.path.with_name(second.name + ".part"))
    one_room.look()
    assert one_room.live(first).stat().st_size == SIZE
    # What is left is an empty folder on the root disk.
    one_room.second.rename(one_room.second.with_name("unmounted"))
    one_room.second.mkdir()
    with growing.open("ab") as file:
        file.write(b"more")
    one_room.look()
    assert (one_room.copier.verdict(), one_room.copier.lag_bytes(one_room.own, "main")) == (None, 4)
    one_room.hold(first)
    one_room.look(6)
    verdict = one_room.copier.verdict()
    assert verdict is not None and verdict.wrong is not None and "mount the disk" in verdict.wrong
    assert list(one_room.second.iterdir()) == []
    assert one_room.row(first).state == CopyState.OUTSTANDING
    one_room.second.rmdir()
    one_room.second.with_name("unmounted").rename(one_room.second)
    one_room.look()
    assert one_room.copier.verdict() == Verdict(None)
    assert one_room.row(first).state == CopyState.COPIED
    assert one_room.live(second).read_bytes() == growing.read_bytes()


def test_a_disk_that_is_slow_or_says_nothing_is_told_of(
    one_room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_room.finished()
    slow = one_room.another(bytes_s=0)
    monkeypatch.setattr("ingest.daemon.second_copies.LEAST_BYTES", 1)
    for seconds in (1, 14, 14, 14, 14):
        one_room.look(seconds, slow)
        assert slow.verdict() == Verdict(None)
    one_room.look(14, slow)
    verdict = slow.verdict()
    assert verdict is not None and verdict.wrong is not None and "42 bytes behind" in verdict.wrong
    monkeypatch.undo()
    one_room.look(1, slow)
    assert slow.verdict() == Verdict(None)
    one_room.at_s += 16
    verdict = slow.verdict()
    assert verdict is not None and verdict.wrong is not None and "found none for 15 s" in verdict.wrong


def test_a_new_disk_gets_what_is_not_in_custody_yet(one_room: Room) -> None:
    finished = one_room.finished()
    one_room.look()
    one_room.second.rename(one_room.second.with_name("old"))
    one_room.second.mkdir()
    prepare(one_room.second, one_room.agency.store_id, one_room.clock.now())
    one_room.look()
    assert one_room.live(finished).stat().st_size == SIZE


def test_a_disk_that_refuses_costs_the_first_nothing(one_room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, number in enumerate((errno.ENOSPC, errno.EROFS, errno.EIO)):
        held, growing = one_room.finished(2 * place), one_room.finished(2 * place + 1)
        with monkeypatch.context() as patch:
            refuse_from_now_on(one_room, held, growing, number, patch)
        one_room.look(AGAIN_S)
        assert one_room.live(growing).read_bytes() == growing.path.read_bytes()
        assert one_room.row(held).state == CopyState.COPIED
        assert one_room.copier.verdict() == Verdict(None)


def refuse_from_now_on(
    room: Room, held: Finished, growing: Finished, number: int, patch: pytest.MonkeyPatch
) -> None:
    whole = growing.path.read_bytes()
    room.hold(held)
    real = os.pwrite

    def refuse(descriptor: int, data: bytes, at: int) -> int:
        if at or len(data) < 2:
            raise OSError(number, os.strerror(number))
        return real(descriptor, data[:7], at)

    patch.setattr(os, "pwrite", refuse)
    for _ in range(3):
        room.look(6)
    verdict = room.copier.verdict()
    assert verdict is not None and verdict.wrong is not None and str(room.second) in verdict.wrong
    assert (growing.path.read_bytes(), room.live(growing).read_bytes()) == (whole, whole[:7])


LEFT: dict[str, Callable[[bytes], bytes | None]] = {
    "the recorder died, and its own disk had less": lambda whole: whole + b"beyond",
    "the power went, and its last blocks are zeroes": lambda whole: whole[:30] + bytes(18),
    "it was begun before the power went": lambda whole: whole[:11],
    "nothing came of it": lambda _: None,
}


def test_whatever_is_there_is_made_the_file_in_custody(one_room: Room) -> None:
    for number, (what, there) in enumerate(LEFT.items()):
        finished = one_room.finished(number)
        whole = finished.path.read_bytes()
        one_room.look()
        one_room.hold(finished)
        left = there(whole)
        one_room.live(finished).unlink() if left is None else one_room.live(finished).write_bytes(left)
        one_room.look()
        row = one_room.row(finished)
        assert (row.state, (one_room.home / row.path).read_bytes()) == (CopyState.COPIED, whole), what


def test_cut_off_between_its_name_and_its_row_it_is_done_again(one_room: Room) -> None:
    finished = one_room.finished()
    one_room.hold(finished)
    with one_room.storage.database.read() as session:
        ((row, held),) = second_copies.uncopied(session, one_room.agency.id, "R-1", 9)
    with attached(one_room.second, one_room.agency.store_id) as second:
        for _ in complete(one_room.storage.objects, second, "demo/R-1", row, held, Work()):
            pass
    assert (one_room.home / row.path).stat().st_size == SIZE
    one_room.look()
    assert (one_room.row(finished).state, one_room.leaves(finished)) == (CopyState.COPIED, ["item:copied"])
    assert len(sums_of(one_room.home / "2026-03-04" / "SHA256SUMS")) == 1


def test_two_daemons_at_once_come_to_one_copy(one_room: Room) -> None:
    room = one_room
    finished, growing = room.finished(0), room.finished(1)
    room.look()
    other = room.another()
    room.look(0, other)
    room.hold(finished)
    with attached(room.second, room.agency.store_id) as second, second.alone("demo/R-1"):
        room.look(1, other)
        assert room.row(finished).state == CopyState.OUTSTANDING
    for copier in (other, room.copier, other):
        room.look(1, copier)
    assert (room.row(finished).state, room.leaves(finished)) == (CopyState.COPIED, ["item:copied"])
    assert room.live(growing).read_bytes() == growing.path.read_bytes()
    assert (room.copier.verdict(), other.verdict()) == (Verdict(None), Verdict(None))


def test_what_nobody_claimed_is_dropped_by_the_first_and_then_by_the_second(one_room: Room) -> None:
    finished = one_room.finished()
    one_room.look()
    notes = one_room.recorder / "dropped.second"
    notes.touch()
    # A first disk that takes no note is not kept from dropping.
    one_room.copier.drop(one_room.own, finished)
    notes.unlink()
    one_room.copier.drop(one_room.own, finished)
    one_room.look()
    # The first still has it.
    assert one_room.live(finished).exists()
    finished.path.unlink()
    one_room.look()
    assert not one_room.live(finished).exists()
    assert list((notes / one_room.own).iterdir()) == []


def test_a_first_disk_that_is_gone_removes_nothing_of_the_second(one_room: Room) -> None:
    finished = one_room.finished()
    one_room.look()
    one_room.recorder.rename(one_room.recorder.with_name("died"))
    one_room.look()
    one_room.recorder.mkdir()
    one_room.look()
    assert one_room.live(finished).stat().st_size == SIZE


def test_what_is_read_back_otherwise_is_an_alarm_until_it_matches(
    one_room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = one_room.finished()
    one_room.hold(finished)
    real = SecondStore.read_back

    def rotten(self: SecondStore, name: str, at: int = 0) -> Iterator[memoryview]:
        for chunk in real(self, name, at):
            yield memoryview(b"\0" + bytes(chunk[1:]))

    monkeypatch.setattr(SecondStore, "read_back", rotten)
    for _ in range(2):
        one_room.look(DIFFERS_AGAIN_S + 1)
        assert (one_room.row(finished).state, one_room.standing()) == (CopyState.DIFFERS, [DIFFERS])
    assert one_room.leaves(finished) == ["item:copy_differs"]
    monkeypatch.undo()
    one_room.look()
    assert one_room.row(finished).state == CopyState.DIFFERS
    one_room.look(DIFFERS_AGAIN_S)
    assert (one_room.row(finished).state, one_room.standing()) == (CopyState.COPIED, [])
    assert one_room.leaves(finished) == ["item:copy_differs", "item:copied"]


def test_a_file_that_takes_several_looks_is_gone_on_with_and_nothing_is_kept_open(
    one_room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.daemon.second_copies.SETTLE_S", -1)
    monkeypatch.setattr("ingest.recorder.copying.SLICE_BYTES", 16)
    finished, other = one_room.finished(0), one_room.finished(1)
    whole, live, away = finished.path.read_bytes(), one_room.live(finished), one_room.second.with_name("away")
    one_room.hold(finished)

    def look_until(state: CopyState, of: Finished) -> int:
        for looks in range(1, 20):
            one_room.look()
            handles = [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
            assert [each for each in handles if each.startswith(str(one_room.second))] == []
            if one_room.row(of).state == state:
                return looks
            if of is finished and looks == 2:
                # It can be unmounted, and goes on once it is back.
                one_room.second.rename(away)
                one_room.look()
                away.rename(one_room.second)
            if of is finished and looks == 4:
                # What was read of it is not what it holds any more.
                live.write_bytes(b"?" + whole[1:])
                os.utime(live, ns=(0, 0))
        raise AssertionError(f"expected {state}, found {one_room.row(of).state} after {looks} looks")

    # Three to fill it, one to read it; two for what it became, one for the original; four to make it anew.
    assert look_until(CopyState.COPIED, finished) == 11
    assert (one_room.home / one_room.row(finished).path).read_bytes() == whole
    real = SecondStore.read_back
    monkeypatch.setattr(
        SecondStore, "read_back",
        lambda self, name, at=0: (memoryview(bytes(len(chunk))) for chunk in real(self, name, at)),
    )  # fmt: skip
    one_room.hold(other)
    look_until(CopyState.DIFFERS, other)


def test_a_damaged_original_is_not_written_over_a_copy(one_room: Room) -> None:
    finished = one_room.finished()
    one_room.look()
    one_room.hold(finished)
    kept = one_room.live(finished).read_bytes()[:-1] + b"?"
    one_room.live(finished).write_bytes(kept)
    original = one_room.held(finished)
    original.chmod(0o644)
    original.write_bytes(bytes(SIZE))
    one_room.look()
    one_room.look(6)
    verdict = one_room.copier.verdict()
    assert verdict is not None and verdict.wrong is not None and finished.sha256.hex() in verdict.wrong
    assert one_room.live(finished).read_bytes() == kept
    assert one_room.row(finished).state == CopyState.OUTSTANDING


def test_one_file_that_cannot_be_copied_costs_the_others_nothing(one_room: Room) -> None:
    bad, good = one_room.finished(0), one_room.finished(1)
    one_room.live(bad).mkdir(parents=True)
    one_room.look()
    one_room.look(6)
    verdict = one_room.copier.verdict()
    assert verdict is not None and verdict.wrong is not None
    assert one_room.live(good).stat().st_size == SIZE


class PowerCut(BaseException):
    """Caught by nobody."""


def cut_off(*_given: object, **_named: object) -> None:
    raise PowerCut


def test_originals_are_put_back_by_command_and_the_check_names_what_is_wrong_with_copies(
    one_room: Room, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, damaged, sound = (one_room.finished(number) for number in range(3))
    for each in (gone, damaged, sound):
        one_room.hold(each)
    one_room.look()
    whole = {each.key: one_room.held(each).read_bytes() for each in (gone, damaged, sound)}
    one_room.held(gone).unlink()
    one_room.held(damaged).chmod(0o644)
    one_room.held(damaged).write_bytes(bytes(SIZE))
    config = tmp_path / "liuhen.toml"
    config.write_text(
        f'[data]\nfree_floor_bytes = 0\n[recorder]\nsecond_copy = "{one_room.second}"\n'
        '[[recorder.rooms]]\nroom_no = "R-1"\nname = "一号询问室"\n',
        encoding="utf-8",
    )

    def liuhen(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(
            [*words, "--config", str(config), "--data", str(tmp_path / "data"),
             "--set", f"database.url={one_room.storage.database.url}"]
        )  # fmt: skip
        return code, *capsys.readouterr()

    assert liuhen("room", "prepare-copy", str(one_room.second))[0] == 0
    # Cut off once the bytes are back and before that is on record, it is done again.
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr("cli.second_store.note_put_back", cut_off)
        liuhen("room", "restore")
    assert (one_room.held(gone).exists(), one_room.standing()) == (True, [DAMAGED])
    assert liuhen("room", "restore") == (0, f"{one_room.row(gone).path}  {gone.sha256.hex()}\n"
                                            "已补回 1 件 / put back: 1, not: 0\n", "")  # fmt: skip
    code, told, _ = liuhen("room", "restore", "R-1", "--digests", "--from", str(one_room.second))
    assert (code, damaged.sha256.hex() in told, one_room.standing()) == (0, True, [])
    with one_room.storage.database.read() as session:
        item_id = one_room.row(gone).item_id
        stored = items.object_of(session, items.item_by_id(session, one_room.agency.id, item_id))
        (leaf,) = custody.leaves_about(session, one_room.agency.id, str(stored.id))
    assert json.loads(leaf.body or b"{}")["action"] == "object:put_back"
    assert {each.key: one_room.held(each).read_bytes() for each in (gone, damaged, sound)} == whole
    assert len(one_room.storage.objects.kept_aside(one_room.key(damaged))) == 1
    assert "second_copy" not in liuhen("check", "--depth", "digests")[1]
    (one_room.home / one_room.row(gone).path).unlink()
    (one_room.home / one_room.row(damaged).path).write_bytes(bytes(SIZE))
    (one_room.home / one_room.row(sound).path).write_bytes(b"short")
    found = json.loads(liuhen("check", "--depth", "digests", "--json")[1])
    codes = sorted(each["code"] for each in found if each["kind"] == "second_copy")
    assert codes == ["copy_digest", "copy_missing", "copy_size"]
    unread, real = Path(one_room.row(gone).path).name, Path.stat

    def failing(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path.name == unread:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, follow_symlinks=follow_symlinks)

    with monkeypatch.context() as disk:
        # One file that cannot be looked at does not end the check of the others.
        disk.setattr(Path, "stat", failing)
        found = json.loads(liuhen("check", "--depth", "digests", "--json")[1])
    codes = sorted(each["code"] for each in found if each["kind"] == "second_copy")
    assert codes == ["copy_digest", "copy_size", "copy_unreadable"]
    one_room.held(damaged).unlink()
    code, told, _ = liuhen("room", "restore")
    assert (code, "put back: 0, not: 1" in told, one_room.standing()) == (1, True, [DAMAGED])
    assert not one_room.storage.objects.exists(one_room.key(damaged))
    one_room.second.rename(tmp_path / "pulled")
    found = json.loads(liuhen("check", "--json")[1])
    (told,) = [each["message"] for each in found if each["code"] == "second_store_missing"]
    assert [half.count(str(one_room.second)) for half in told.split(" / ")] == [1, 1]
