"""A host's clock is set while a room records: nothing of a session is taken for nobody's."""

from __future__ import annotations

from typing import Any

from ingest.recorder.clocks import DAY_US, Readings

S = 1_000_000
BEGUN = {"kind": "begun", "monotonic_us": 1000 * S, "utc_us": 101_000 * S}


def file(number: int, at_s: int, offset_s: int) -> dict[str, Any]:
    arrived = (at_s + offset_s) * S
    return {"kind": "file", "file": number, "monotonic_us": at_s * S, "arrived_utc_us": arrived}


def step(at_s: int, by_s: int) -> dict[str, Any]:
    return {"kind": "turn", "turn": "host_step", "monotonic_us": at_s * S, "by_us": by_s * S}


def readings(*lines: dict[str, Any]) -> Readings:
    found = Readings()
    for line in (BEGUN, *lines):
        found.note(line)
    return found


def spans(found: Readings, number: int, from_s: int, to_s: int) -> list[tuple[int, int]]:
    return [(begins // S, ends // S) for begins, ends in found.moments(number, from_s * S, to_s * S)]


def test_a_clock_that_was_set_back_reaches_to_where_it_was_before() -> None:
    found = readings(file(0, 1000, 100_000), step(1300, -600), file(1, 1302, 99_400))
    # Made before the step: a session that began since tells the time by the clock as it is now.
    assert spans(found, 0, 101_000, 101_302) == [(101_000, 101_302), (100_400, 100_702)]
    # Made after it: one that began before it begins later than the file.
    assert spans(found, 1, 100_702, 100_800) == [(100_702, 101_400)]
    assert (found.behind_us(0), found.behind_us(1)) == (-600 * S, 0)
    found.note(file(2, 1300 + DAY_US // S, 99_400))
    assert spans(found, 2, 200_000, 200_300) == [(200_000, 200_300)]


def test_a_clock_that_was_set_ahead_moves_what_waits_along() -> None:
    found = readings(file(0, 1000, 100_000), step(1300, 600), file(1, 1302, 100_600))
    assert spans(found, 0, 101_000, 101_302) == [(101_000, 101_302), (101_600, 101_902)]
    assert spans(found, 1, 101_902, 102_000) == [(101_902, 102_000)]
    assert found.behind_us(0) == 0
    assert [found.stepped_us(at_s * S) for at_s in (1300, 1300 + DAY_US // S)] == [600 * S, 0]
    # Of what its journal does not tell nothing is known but its own time.
    assert spans(found, 9, 1, 2) == [(1, 2)]
