"""One suite over every way of fetching files: what a source promises must not depend on how it speaks."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from evidence.errors import Unavailable
from ingest.sources.partial import OVERLAP_BYTES
from ingest.sources.settling import LONG_S
from tests.support.fetching import BIG, PLACES, PUSHED, REMOTE, SETTLE_S, Desk, desk_at, sha
from tests.support.places import PushedPlace


@pytest.fixture(params=PLACES, ids=lambda kind: kind.kind)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    yield from desk_at(request.param, tmp_path)


@pytest.fixture(params=[*PLACES, *PUSHED], ids=lambda kind: kind.__name__)
def any_desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    yield from desk_at(request.param, tmp_path)


@pytest.fixture(params=REMOTE, ids=lambda kind: kind.kind)
def remote_desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
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


def test_unfinished_name_is_warned_of_only_once_it_has_stayed_for_long(desk: Desk) -> None:
    desk.place.put("a.mp4.part", b"half")
    with capture_logs() as logs:
        for _ in range(3):
            desk.look()
        desk.now_s += LONG_S
        for _ in range(3):
            assert desk.look().skipped == ["a.mp4.part"]
    told = [entry["log_level"] for entry in logs if entry.get("code") == "skipped"]
    assert told == ["info", "warning"]


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


def told_apart(desk: Desk) -> None:
    """Have it known by other means than its first bytes that a file is still the same."""
    desk.place.tells_identity = True
    desk.restart(frees=desk.place.can_free)  # Whoever frees reads all of it again in any case.


def test_cut_line_is_gone_on_from_where_it_broke(remote_desk: Desk) -> None:
    desk = remote_desk
    told_apart(desk)
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
    told_apart(desk)
    desk.place.put("a.mp4", BIG)
    desk.place.cut_after_bytes = 5 << 19
    desk.look()
    served = desk.place.served_bytes
    told_apart(desk)
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


def test_what_came_before_a_cut_is_read_once_more_where_nothing_tells_the_file_apart(
    remote_desk: Desk,
) -> None:
    desk = remote_desk
    desk.place.put("a.mp4", BIG)
    desk.place.cut_after_bytes = 5 << 19
    desk.look()
    had = max(path.stat().st_size for path in desk.store.staging_dir.iterdir())
    in_the_comparison = len(BIG) - had + OVERLAP_BYTES + (had >> 1)
    desk.place.cut_after_bytes, served = in_the_comparison, desk.place.served_bytes
    for _ in range(8):
        if desk.place.cut_after_bytes is not None:
            assert desk.source.scan_once().taken == []
    assert desk.place.cut_after_bytes is None
    desk.restart()
    desk.look()
    assert desk.digests() == [sha(BIG)]
    assert desk.place.served_bytes - served >= len(BIG) + OVERLAP_BYTES
    assert list(desk.store.staging_dir.iterdir()) == []


@pytest.mark.parametrize("dies", [False, True], ids=["same process", "another process"])
def test_file_replaced_during_a_cut_by_one_that_is_equal_at_the_seam_is_not_spliced(
    remote_desk: Desk, dies: bool
) -> None:
    desk = remote_desk
    path = desk.place.put("a.mp4", b"one" + BIG)
    state = path.stat()
    desk.place.cut_after_bytes = 5 << 19
    desk.look()
    path.write_bytes(b"two" + BIG)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    if dies:
        desk.restart()
    for _ in range(6):
        desk.look()
    assert desk.digests() == [sha(b"two" + BIG)]


def test_declared_digest_saves_the_second_reading(remote_desk: Desk) -> None:
    desk = remote_desk
    desk.place.put("a.mp4", BIG)
    desk.place.put("a.mp4.sha256", sha(BIG).encode())
    desk.place.cut_after_bytes = 5 << 19
    desk.source.scan_once()
    had = max(path.stat().st_size for path in desk.store.staging_dir.iterdir())
    served = desk.place.served_bytes
    for _ in range(3):
        desk.look()
    assert desk.digests() == [sha(BIG)]
    assert desk.place.served_bytes - served < len(BIG) - had + 2 * OVERLAP_BYTES


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
    assert desk.source.scan_once().failed == {"a.mp4": "source_changed"}
    desk.reserve = lambda _: None  # type: ignore[method-assign]
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


def test_marked_file_that_never_comes_to_its_digest_is_taken_for_quarantine(remote_desk: Desk) -> None:
    desk = remote_desk
    desk.restart(marker_suffix=".ok")
    desk.place.put("a.mp4", b"foot")
    desk.place.put("a.mp4.sha256", sha(b"footage").encode())
    desk.place.put("a.ok", b"")
    for _ in range(8):
        desk.look()
    assert [staged.sha256.hex() for staged in desk.accepted] == [sha(b"foot")]
    assert desk.accepted[0].declared_sha256 == hashlib.sha256(b"footage").digest()


def test_marker_says_when_a_file_is_whole(remote_desk: Desk) -> None:
    desk = remote_desk
    desk.restart(marker_suffix=".ok")
    desk.place.put("a.mp4", b"footage")
    desk.look()
    assert desk.look().taken == []
    desk.place.put("a.ok", b"")
    assert desk.source.scan_once().taken == ["a.mp4"]
