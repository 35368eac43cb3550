"""One suite over every way of fetching files: what a source promises must not depend on how it speaks."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pytest

from config.settings import FolderSettings
from evidence.errors import Unavailable
from ingest.sources.base import ScanResult, Source, StagedFile
from ingest.sources.folder import FolderSource
from ingest.sources.journal import TakenJournal
from ingest.sources.partial import OVERLAP_BYTES
from ingest.sources.pulling import PullRules, PullSource
from ingest.sources.remote import Origin, RemoteFolder
from storage.objects.local import LocalObjectStore
from tests.support.places import (
    FtpPlace,
    FtpsPlace,
    HttpPlace,
    Place,
    PushedFtpPlace,
    PushedPlace,
    SftpPlace,
)

AGENCY = UUID("0190a000-0000-7000-8000-0000000000aa")
BIG = os.urandom(1 << 20) * 3
SETTLE_S = 10.0


class FolderPlace(Place):
    """A folder of this machine, or a mount of another."""

    kind = "folder"
    can_free = False

    def serve(self) -> None:
        if not self.folder.exists():
            (self.folder.parent / "away").rename(self.folder)

    def stop(self) -> None:
        self.folder.rename(self.folder.parent / "away")


PLACES: list[type[Place]] = [FolderPlace, SftpPlace, FtpPlace, FtpsPlace, HttpPlace]
REMOTE = [SftpPlace, FtpPlace, HttpPlace]
"""FTPS differs from FTP by its handshake alone, which the tests over all places see."""
PUSHED: list[type[Place]] = [PushedPlace, PushedFtpPlace]


@dataclass
class Desk:
    """A place, a store, and what was handed in: intake without its rows."""

    tmp_path: Path
    place: Place
    store: LocalObjectStore = field(init=False)
    accepted: list[StagedFile] = field(default_factory=list)
    failing: list[Exception] = field(default_factory=list)
    receipts: set[bytes] = field(default_factory=set)
    told: list[str] = field(default_factory=list)
    free_bytes: int | None = None
    now_s: float = 1000.0
    source: Source = field(init=False)
    remote: RemoteFolder | None = None

    def __post_init__(self) -> None:
        self.store = LocalObjectStore.create(self.tmp_path / "objects")
        self.restart()

    def restart(self, **rules: object) -> None:
        """A new process: nothing but disk is left of the old one."""
        seen = TakenJournal(self.tmp_path / "taken.jsonl")
        if self.place.kind == "folder":
            self.source = FolderSource(
                FolderSettings(path=self.place.folder, settle_s=SETTLE_S, **rules),  # type: ignore[arg-type]
                staging_dir=self.store.staging_dir,
                seen=seen,
                accept=lambda staged: self.accept(AGENCY, staged),
                reserve=self.reserve,
                monotonic_s=lambda: self.now_s,
            )
            return
        if self.remote is not None:
            self.remote.disconnect()
        self.remote = self.place.remote()
        self.source = PullSource(
            PullRules(
                self.place.kind,
                f"{self.place.kind}:place",
                None if isinstance(self.place, PushedPlace) else SETTLE_S,
                **rules,  # type: ignore[arg-type]
            ),
            self.remote,
            origin=Origin(AGENCY, "source:place", "D-1", None),
            staging_dir=self.store.staging_dir,
            seen=seen,
            accept=self.accept,
            may_free=lambda _agency, _key, sha256: sha256 in self.receipts,
            reserve=self.reserve,
            monotonic_s=lambda: self.now_s,
            tell=lambda code, _line: self.told.append(code),
        )

    def reserve(self, size: int) -> None:
        if self.free_bytes is not None and size > self.free_bytes:
            raise Unavailable("disk: full", code="disk_full")

    def accept(self, agency_id: UUID, staged: StagedFile) -> None:
        if self.failing:
            raise self.failing.pop(0)
        self.store.adopt(staged.path, staged.sha256, staged.size_bytes, agency_id.hex)
        self.accepted.append(staged)

    def look(self) -> ScanResult:
        """One look, a pause long enough, another look."""
        self.source.scan_once()
        self.now_s += SETTLE_S
        return self.source.scan_once()

    def scans(self) -> list[str]:
        """What two looks with a pause between them took."""
        first = self.source.scan_once().taken
        self.now_s += SETTLE_S
        return sorted([*first, *self.source.scan_once().taken])

    def digests(self) -> list[str]:
        return sorted(staged.sha256.hex() for staged in self.accepted)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def desk_at(kind: type[Place], tmp_path: Path) -> Iterator[Desk]:
    folder = tmp_path / "dock"
    folder.mkdir()
    place = kind(folder)
    place.serve()
    desk = Desk(tmp_path, place)
    yield desk
    if desk.remote is not None:
        desk.remote.disconnect()
        place.stop()


@pytest.fixture(params=PLACES, ids=lambda kind: kind.kind)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    yield from desk_at(request.param, tmp_path)


@pytest.fixture(params=[*PLACES, *PUSHED], ids=lambda kind: kind.__name__)
def any_desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    yield from desk_at(request.param, tmp_path)


@pytest.fixture(params=REMOTE, ids=lambda kind: kind.kind)
def remote_desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    yield from desk_at(request.param, tmp_path)


@pytest.fixture(params=[SftpPlace, FtpPlace], ids=lambda kind: kind.kind)
def freeing_desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    yield from desk_at(request.param, tmp_path)


def test_whole_file_arrives_once_with_its_digest_and_name(any_desk: Desk) -> None:
    desk = any_desk
    desk.place.put("2024-03/执法 01.mp4", BIG)
    first = desk.source.scan_once()
    if isinstance(desk.place, PushedPlace):
        assert first.taken == ["执法 01.mp4"], "proved whole: nothing to wait for"
    else:
        assert (first.taken, first.settling) == ([], ["执法 01.mp4"])
        assert desk.look().taken == ["执法 01.mp4"]
    assert desk.look().taken == []
    desk.restart()
    assert desk.look().taken == []
    assert desk.digests() == [sha(BIG)]
    staged = desk.accepted[0]
    assert staged.original_name_raw == "执法 01.mp4".encode()
    assert (staged.size_bytes, staged.source) == (len(BIG), desk.place.kind)
    assert list(desk.store.staging_dir.iterdir()) == []


def test_growing_file_is_not_taken_until_it_rests(desk: Desk) -> None:
    path = desk.place.put("a.mp4", b"1")
    for piece in range(3):
        desk.now_s += SETTLE_S - 1
        with path.open("ab") as file:
            file.write(b"%d" % piece)
        assert desk.source.scan_once().taken == []
    assert desk.look().taken == ["a.mp4"]
    assert desk.digests() == [sha(b"1012")]


def test_file_that_vanishes_or_is_renamed_is_no_failure(desk: Desk) -> None:
    gone, renamed = desk.place.put("a.mp4", b"one"), desk.place.put("b.mp4", b"two")
    desk.source.scan_once()
    gone.unlink()
    renamed.rename(renamed.with_name("c.mp4"))
    desk.now_s += SETTLE_S
    result = desk.source.scan_once()
    assert (result.taken, result.failed) == ([], {})
    assert desk.look().taken == ["c.mp4"]
    assert desk.digests() == [sha(b"two")]


def test_unfinished_names_and_empty_places_are_left_alone(desk: Desk) -> None:
    for name in ("a.mp4.part", ".b.mp4", "c.mp4.filepart"):
        desk.place.put(name, b"half")
    assert desk.look().taken == []
    assert desk.accepted == []


def test_equal_bytes_under_two_names_are_two_arrivals(any_desk: Desk) -> None:
    desk = any_desk
    desk.place.put("a.mp4", b"same")
    desk.place.put("b.mp4", b"same")
    assert desk.scans() == ["a.mp4", "b.mp4"]
    assert len({staged.reception_key for staged in desk.accepted}) == 2


def test_empty_file_arrives(any_desk: Desk) -> None:
    desk = any_desk
    desk.place.put("a.mp4", b"")
    assert desk.scans() == ["a.mp4"]
    assert desk.digests() == [sha(b"")]


def test_place_that_is_gone_is_waited_for(desk: Desk) -> None:
    desk.place.put("a.mp4", b"footage")
    desk.source.scan_once()
    desk.place.stop()
    desk.now_s += SETTLE_S
    assert desk.source.scan_once().is_gone
    assert desk.source.scan_once().is_gone
    desk.place.serve()
    assert desk.source.scan_once().taken == [], "what was seen before it went is not rest"
    assert desk.look().taken == ["a.mp4"]


def test_full_disk_ends_the_look_and_loses_nothing(any_desk: Desk) -> None:
    desk = any_desk
    desk.place.put("a.mp4", BIG)
    desk.free_bytes = 1000
    assert "disk_full" in {desk.source.scan_once().stopped, desk.look().stopped}
    desk.free_bytes = None
    for _ in range(4):
        desk.look()
    assert desk.digests() == [sha(BIG)]


def test_busy_database_costs_no_second_transfer_of_what_is_here(any_desk: Desk) -> None:
    desk = any_desk
    desk.place.put("a.mp4", BIG)
    desk.failing.append(Unavailable("database: busy", code="database_busy"))
    assert "database_busy" in {desk.source.scan_once().stopped, desk.look().stopped}
    for _ in range(3):
        desk.look()
    assert desk.digests() == [sha(BIG)]
    if desk.place.kind not in {"folder", "pushed"}:
        assert desk.place.served_bytes == len(BIG)


def test_hostile_names_are_taken_and_are_no_paths_of_ours(any_desk: Desk) -> None:
    desk = any_desk
    hostile = [b"\xd6\xb4\xb7\xa8.mp4", b"a\x01b.mp4", "\u202e4pm.exe".encode(), b"x" * 251 + b".mp4"]
    if desk.place.kind == "http":
        del hostile[0]  # JSON has no such names.
    for name in hostile:
        desk.place.put(name, b"footage of " + name)
    desk.look()
    assert sorted(staged.original_name_raw for staged in desk.accepted) == sorted(hostile)
    inside = [path.name for path in (desk.tmp_path / "objects").rglob("*")]
    assert not any(os.fsdecode(name) in each for name in hostile for each in inside)


def test_unreadable_file_holds_up_nobody(remote_desk: Desk) -> None:
    desk = remote_desk
    desk.place.put("a.mp4", b"locked")
    desk.place.put("b.mp4", b"open")
    desk.place.lock("a.mp4")
    for _ in range(4):
        desk.look()
    assert desk.digests() == [sha(b"open")]
    desk.place.locked.clear()  # type: ignore[attr-defined]
    for _ in range(16):
        desk.look()
    assert desk.digests() == sorted([sha(b"locked"), sha(b"open")])


def test_cut_line_is_gone_on_from_where_it_broke(remote_desk: Desk) -> None:
    desk = remote_desk
    desk.place.put("a.mp4", BIG)
    desk.place.cut_after_bytes = 5 << 19
    result = desk.look()
    assert result.taken == []
    assert result.failed == {"a.mp4": "source_cut"}
    had = max(path.stat().st_size for path in desk.store.staging_dir.iterdir())
    served = desk.place.served_bytes
    for _ in range(3):
        desk.look()
    assert desk.digests() == [sha(BIG)]
    again = desk.place.served_bytes - served
    assert had > 0
    assert again == len(BIG) - had + OVERLAP_BYTES, "only what was missing, and the overlap"
    assert list(desk.store.staging_dir.iterdir()) == []


def test_new_process_goes_on_with_what_the_old_one_fetched(remote_desk: Desk) -> None:
    desk = remote_desk
    desk.place.put("a.mp4", BIG)
    desk.place.cut_after_bytes = 5 << 19
    desk.look()
    served = desk.place.served_bytes
    desk.restart()
    desk.look()
    assert desk.digests() == [sha(BIG)]
    assert desk.place.served_bytes - served < len(BIG)


def test_file_replaced_during_a_cut_is_not_spliced(remote_desk: Desk) -> None:
    desk = remote_desk
    path = desk.place.put("a.mp4", BIG)
    state = path.stat()
    desk.place.cut_after_bytes = 5 << 19
    desk.look()
    other = bytes(reversed(BIG))
    path.write_bytes(other)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # The same size and time: only bytes tell.
    for _ in range(6):
        desk.look()
    assert desk.digests() == [sha(other)]


def test_file_that_grows_while_it_is_fetched_is_refused(remote_desk: Desk) -> None:
    desk = remote_desk
    path = desk.place.put("a.mp4", BIG)
    desk.source.scan_once()
    desk.now_s += SETTLE_S

    def grow(_: int) -> None:
        with path.open("ab") as file:
            file.write(b"more")
        os.utime(path, (time.time() + 5, time.time() + 5))

    desk.reserve = grow  # type: ignore[method-assign]
    desk.source._reserve = grow  # type: ignore[attr-defined]
    assert desk.source.scan_once().failed == {"a.mp4": "source_changed"}
    desk.source._reserve = lambda _: None  # type: ignore[attr-defined]
    desk.look()
    assert desk.digests() == [sha(BIG + b"more")]


def test_digest_beside_a_file_proves_it_whole_at_once(remote_desk: Desk) -> None:
    desk = remote_desk
    forms = ["{digest}  a.mp4\n", "{digest}", "{digest} *a.mp4\r\n"]
    for number, form in enumerate(forms):
        content = b"footage %d" % number
        desk.place.put(f"{number}.mp4", content)
        desk.place.put(f"{number}.mp4.sha256", form.format(digest=sha(content)).encode())
    assert desk.source.scan_once().taken == ["0.mp4", "1.mp4", "2.mp4"]
    assert {staged.declared_sha256 for staged in desk.accepted} == {staged.sha256 for staged in desk.accepted}
    assert desk.look().taken == []


def test_file_short_of_its_digest_waits_and_is_at_last_taken_as_it_is(remote_desk: Desk) -> None:
    desk = remote_desk
    desk.place.put("a.mp4", b"foot")
    desk.place.put("a.mp4.sha256", sha(b"footage").encode())
    assert desk.source.scan_once().failed == {"a.mp4": "declared_digest_missed"}
    assert desk.accepted == []
    for _ in range(6):
        desk.look()
    assert [staged.sha256.hex() for staged in desk.accepted] == [sha(b"foot")]
    assert desk.accepted[0].declared_sha256 == hashlib.sha256(b"footage").digest(), "intake quarantines it"


def test_marker_says_when_a_file_is_whole(remote_desk: Desk) -> None:
    desk = remote_desk
    desk.restart(marker_suffix=".ok")
    desk.place.put("a.mp4", b"footage")
    desk.look()
    assert desk.look().taken == []
    desk.place.put("a.ok", b"")
    assert desk.source.scan_once().taken == ["a.mp4"]


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
