"""The break log: nothing that is missing is left out, nothing that is there is called missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.breaks import (
    CAUSE_WORDS,
    JOINT_US,
    Break,
    Cause,
    Happened,
    Part,
    break_log,
    missing_us,
    place,
)
from evidence.kinds import GapReason
from evidence.session import Note, NoteKind

S = 1_000_000
ZERO = 1_772_503_200 * S


def part(begins: float, ends: float, why: str = "length", *happened: Happened, **more: Any) -> Part:
    given = {"stream": "main", "run": "r1", "number": 0, **more}
    return Part(
        from_us=ZERO + round(begins * S), to_us=ZERO + round(ends * S), why=why, happened=happened, **given
    )


def log(parts: list[Part], ends: float | None, *notes: Note, **more: Any) -> list[tuple[Cause, float, float]]:
    return [plain(each) for each in full(parts, ends, *notes, **more)]


def full(parts: list[Part], ends: float | None, *notes: Note, **more: Any) -> list[Break]:
    return break_log(ZERO, None if ends is None else ZERO + round(ends * S), parts, notes, **more)


def plain(each: Break) -> tuple[Cause, float, float]:
    return each.cause, (each.from_us - ZERO) / S, (each.to_us - ZERO) / S


def note(kind: NoteKind, at: float, **more: Any) -> Note:
    return Note(kind, ZERO + round(at * S), "system", "因故", **more)


PAUSE = note(NoteKind.PAUSE, 20, reason=GapReason.SECRET_OR_PRIVACY)
RESUME = note(NoteKind.RESUME, 30)


def test_files_that_join_leave_no_break_and_what_lies_outside_is_none_of_the_session() -> None:
    parts = [part(-100, 1), part(1.05, 10), part(9.95, 31, "ended")]
    assert log(parts, 30) == []
    assert log([*parts, part(200, 300)], 30) == []


def test_a_gap_is_told_to_the_millisecond_with_what_ended_the_file_before_it() -> None:
    lost = Happened("ended", ZERO, ZERO, why="source_stalled")
    for why, told, cause in (
        ("salvaged", (), Cause.PROCESS_DIED),
        ("run", (), Cause.CLOCK_JUMP),
        ("ended", (lost,), Cause.SOURCE_LOST),
        ("ended", (replace(lost, why="disk_floor"),), Cause.DISK),
        ("ended", (replace(lost, why="disk: No space left"),), Cause.DISK),
        ("ended", (replace(lost, why="stopped"),), Cause.STOPPED),
        ("ended", (replace(lost, why="shape_changed"),), Cause.SHAPE_CHANGED),
        ("ended", (), Cause.NOT_ON_RECORD),
        ("length", (), Cause.NOT_ON_RECORD),
    ):
        (each,) = full([part(0, 10, why, *told), part(11.2345, 30)], 30)
        assert plain(each) == (cause, 10.0, 11.2345)
        assert each.length_ms in {1234, 1235}
        assert each.is_missing
        assert not each.is_explained


def test_before_the_first_file_and_after_the_last() -> None:
    assert log([part(1.5, 20, "length")], 30) == [
        (Cause.NOT_YET_RECORDING, 0, 1.5), (Cause.OUTSTANDING, 20, 30),
    ]  # fmt: skip
    assert log([part(0, 20, "salvaged")], 30) == [(Cause.PROCESS_DIED, 20, 30)]
    # While it lasts, the file at work is not there yet: that is no break.
    assert log([part(0, 20, "length")], None) == []
    assert log([], 30, streams=["main"]) == [(Cause.NOTHING_RECORDED, 0, 30)]
    # What was recorded before and after it is none of it.
    assert log([part(40, 50)], 30) == [(Cause.NOTHING_RECORDED, 0, 30)]
    assert log([], None, streams=["main"]) == []


def test_a_pause_is_what_was_asked_for_and_the_rest_of_the_gap_is_not() -> None:
    stopped = Happened("ended", ZERO, ZERO, why="stopped")
    parts = [part(0, 19.98, "ended", stopped), part(31.4, 60)]
    first, second = full(parts, 60, PAUSE, RESUME)
    assert plain(first) == (Cause.PAUSED, 19.98, 30)
    assert [one.reason for one in first.reasons] == [GapReason.SECRET_OR_PRIVACY]
    assert first.is_explained
    assert plain(second) == (Cause.NOT_YET_RECORDING, 30, 31.4)
    # The source went a minute before anybody paused.
    parts = [part(0, 12, "salvaged"), part(30.05, 60)]
    assert log(parts, 60, PAUSE, RESUME) == [(Cause.PROCESS_DIED, 12, 20), (Cause.PAUSED, 20, 30.05)]
    # Recorded all the same, or for a while: it is none of the session's.
    assert log([part(0, 60)], 60, PAUSE, RESUME) == [(Cause.PAUSED, 20, 30)]
    parts = [part(0, 21.2), part(21.2, 26), part(26, 60)]
    assert log(parts, 60, PAUSE, RESUME) == [(Cause.PAUSED, 20, 30)]
    assert log([part(0, 21.2)], None, PAUSE) == []
    # Nobody resumed.
    assert log([part(0, 20)], 40, PAUSE) == [(Cause.PAUSED, 20, 40)]


def test_what_happened_inside_a_file_lies_where_it_happened_and_once() -> None:
    loss = Happened("loss", ZERO + 4 * S, ZERO + 6 * S, track=0)
    over = Happened("overrun", ZERO + 7 * S, ZERO + 8 * S, track=0)
    told = (loss, over, Happened("repeat", ZERO, ZERO), Happened("host_step", ZERO + S, ZERO + S, by_us=-5))
    assert log([part(0, 30, "length", *told)], 30) == [
        (Cause.HOST_STEP, 1, 1), (Cause.LINE_LOSS, 4, 6), (Cause.DISK, 7, 8),
    ]  # fmt: skip
    # A clock that was set ahead leaves a hole in what it shows, behind the file in which it was.
    ahead = Happened("host_step", ZERO + 9 * S, ZERO + 9 * S, by_us=5 * S)
    assert log([part(0, 10, "length", ahead), part(15, 30)], 30) == [
        (Cause.HOST_STEP, 9, 9), (Cause.HOST_STEP, 10, 15),
    ]  # fmt: skip
    # A loss that made the gap between two files is that gap's cause, and is not listed beside it.
    between = Happened("loss", ZERO + 10 * S, ZERO + 12 * S)
    assert log([part(0, 10, "length", between), part(12, 30)], 30) == [(Cause.LINE_LOSS, 10, 12)]
    # Also where a pause cuts that gap in two.
    across = Happened("loss", ZERO + 18 * S, ZERO + 24 * S)
    cut = [part(0, 18, "length", across), part(30, 40)]
    assert log(cut, 40, PAUSE, RESUME) == [(Cause.LINE_LOSS, 18, 20), (Cause.PAUSED, 20, 30)]
    # Told late, with the file after it.
    late = Happened("pause", ZERO + 10 * S, ZERO + 13 * S)
    assert log([part(0, 10), part(13, 30, "length", late)], 30) == [(Cause.SOURCE_PAUSED, 10, 13)]
    # What lies before the session is none of it.
    assert log([part(-60, 30, "length", Happened("loss", ZERO - 9 * S, ZERO - 8 * S))], 30) == []


def test_a_camera_that_loses_packets_all_day_is_told_in_the_time_it_takes_to_read() -> None:
    lost = [Happened("loss", ZERO + at * S, ZERO + at * S + S // 2) for at in range(0, 6000, 2)]
    parts = [part(at, at + 1, "salvaged", *lost[at // 2 : at // 2 + 1]) for at in range(0, 6000, 2)]
    found = full(parts, 6000)
    assert len(found) == 6000
    assert missing_us(found) == {"main": 4500 * S}


def test_files_that_overlap_by_more_than_a_joint_are_told_and_miss_nothing() -> None:
    (each,) = full([part(0, 10, "run"), part(8, 30)], 30)
    assert (plain(each), each.is_missing, each.length_ms) == ((Cause.OVERLAP, 8, 10), False, 0)
    assert each.is_explained


def test_a_reason_stands_beside_what_it_touches_on_its_own_stream() -> None:
    parts = [
        part(0, 10, "salvaged"),
        part(12, 30),
        part(0, 10, "salvaged", stream="room"),
        part(12, 30, stream="room"),
    ]
    said = note(NoteKind.REASON, 99, reason=GapReason.POWER_LOST, stream="room", from_us=ZERO + 11 * S,
                to_us=ZERO + 12 * S)  # fmt: skip
    main, room = full(parts, 30, said)
    assert (main.stream, main.is_explained) == ("main", False)
    assert (room.stream, room.reasons) == ("room", (said,))
    assert missing_us([main, room]) == {"main": 2 * S, "room": 2 * S}


def test_a_reason_answers_for_what_was_known_when_it_was_given_and_for_nothing_found_later() -> None:
    first, second = part(0, 10, "salvaged", noted_us=ZERO + 11 * S), part(12, 20, noted_us=ZERO + 21 * S)
    all_of_it = {"reason": GapReason.POWER_LOST, "stream": "main", "from_us": ZERO, "to_us": ZERO + 90 * S}
    while_it_lasted, afterwards = (note(NoteKind.REASON, at, **all_of_it) for at in (25, 35))

    def explained(parts: list[Part], *said: Note, **more: Any) -> list[tuple[Cause, float, bool]]:
        found = full(parts, 30, *said, **more)
        return [(each.cause, (each.from_us - ZERO) / S, each.is_explained) for each in found]

    # What it was given for, and not what was missing at the end.
    gaps = [(Cause.PROCESS_DIED, 10, True), (Cause.OUTSTANDING, 20, False)]
    assert explained([first, second], while_it_lasted) == gaps
    # Nor does it say why files are not waited for.
    waits = {"is_complete": False}
    assert explained([first, second], while_it_lasted, **waits) == [
        (Cause.OUTSTANDING, 10, False), (Cause.OUTSTANDING, 20, False),
    ]  # fmt: skip
    assert explained([first, part(12, 30)], while_it_lasted, **waits) == [(Cause.OUTSTANDING, 10, False)]
    whole = [part(0, 30, noted_us=ZERO + 21 * S)]
    assert explained(whole, while_it_lasted, **waits) == [(Cause.OUTSTANDING, 30, False)]
    assert explained(whole, afterwards, **waits) == [(Cause.OUTSTANDING, 30, True)]
    assert [is_so for *_, is_so in explained([first, second], afterwards, **waits)] == [True, True]
    # A file that is found after all has a loss in it, and leaves something else missing.
    lost = Happened("loss", ZERO + 22 * S, ZERO + 23 * S)
    found = [first, second, part(20, 25, "salvaged", lost, noted_us=ZERO + 40 * S)]
    assert explained(found, afterwards) == [
        (Cause.PROCESS_DIED, 10, True), (Cause.LINE_LOSS, 22, False), (Cause.PROCESS_DIED, 25, False),
    ]  # fmt: skip


ABOUT = {"kind": "file", "run": 3, "zero_us": 500 * S, "arrived_utc_us": ZERO + 2 * S, "monotonic_us": 7 * S}


def turn(what: str, media: float, by: float, run: int = 3) -> dict[str, Any]:
    return {"kind": "turn", "turn": what, "stream": 0, "run": run, "media_us": round(media * S),
            "by_us": round(by * S), "monotonic_us": 0}  # fmt: skip


def test_media_time_becomes_wall_time_with_pauses_and_drift_where_they_were() -> None:
    lines = [
        turn("loss", 510, 2),
        turn("pause", 540, 5),
        turn("loss", 560, 1),
        turn("pause", 490, 4),
        turn("loss", 999, 1, run=2),
        {"kind": "overrun", "stream": 1, "packets": 9, "size_bytes": 9, "from_us": 20 * S, "to_us": 21 * S},
        {"kind": "turn", "turn": "host_step", "by_us": 30 * S, "monotonic_us": 25 * S},
        {"kind": "turn", "turn": "more", "count": 12},
    ]
    found = place(lines, ABOUT, from_us=ZERO, to_us=ZERO + 105 * S, duration_us=100 * S)
    spans = [(each.what, (each.from_us - ZERO) / S, (each.to_us - ZERO) / S) for each in found]
    assert spans == [
        ("loss", 10, 12), ("pause", 40, 45), ("loss", 65, 66), ("pause", -14, -10),
        # Of another run, so by when it was told.
        ("loss", -6, -5), ("overrun", 15, 16), ("host_step", 20, 20), ("more", 0, 105),
    ]  # fmt: skip
    assert found[-1].count == 12
    drifted = place(
        [turn("loss", 550, 1)], ABOUT, from_us=ZERO, to_us=ZERO + 100 * S + 20_000, duration_us=100 * S
    )
    assert drifted[0].from_us == ZERO + 50 * S + 10_000
    # Without the line that says where the file begins, it is only known to lie in it.
    (somewhere,) = place([turn("loss", 550, 1)], {}, from_us=ZERO, to_us=ZERO + S, duration_us=S)
    assert (somewhere.from_us, somewhere.to_us) == (ZERO, ZERO + S)
    assert Happened.from_json(somewhere.to_json()) == somewhere


@given(
    st.lists(st.tuples(st.integers(0, 600), st.integers(1, 120)), max_size=12),
    st.lists(st.integers(0, 700), max_size=6),
)
def test_every_instant_is_in_a_file_and_no_pause_or_in_a_break(
    spans: list[tuple[int, int]], presses: list[int]
) -> None:
    """By whole seconds; far above the width of a joint."""
    assert JOINT_US < S
    notes = [
        note(NoteKind.PAUSE if place % 2 == 0 else NoteKind.RESUME, at, reason=GapReason.OTHER)
        for place, at in enumerate(sorted(presses))
    ]
    parts = [part(begins, begins + length) for begins, length in spans]
    found = full(parts, 600, *notes, streams=["main"])
    covered = {second for begins, length in spans for second in range(begins, begins + length)}
    pressed = [*sorted(presses), *([600] if len(presses) % 2 else [])]
    asked = zip(pressed[::2], pressed[1::2], strict=True)
    covered -= {second for begins, ends in asked for second in range(begins, ends)}
    for second in range(600):
        at_us = ZERO + second * S
        broken = [each for each in found if each.is_missing and each.from_us <= at_us < each.to_us]
        assert len(broken) == (0 if second in covered else 1), second


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_is_told_in_both_languages(cause: Cause) -> None:
    assert all(CAUSE_WORDS[cause])
