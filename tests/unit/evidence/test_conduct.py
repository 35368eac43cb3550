"""The checklist of a session: its points, what counts of what was noted, and where a moment is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from config.rooms import RoomSettings
from evidence.conduct import DEFAULTS, Lies, Place, Point, SessionKind, noted, places, points_of, shown_at
from evidence.errors import InvalidInput
from evidence.session import Note, NoteKind

NOW = datetime(2026, 3, 4, 1, tzinfo=UTC)
OWN = Point("own", "本机关事项", "")


def test_a_room_s_own_list_goes_before_that_of_its_kind() -> None:
    assert points_of("interview", [OWN]) == (OWN,)
    assert points_of("hearing", []) == DEFAULTS[SessionKind.HEARING]


def test_every_kind_has_a_list_with_what_the_rule_names() -> None:
    kinds = get_args(RoomSettings.model_fields["session_kind"].annotation)
    assert set(kinds) == set(SessionKind) == set(DEFAULTS)
    wanted = {"two_officers", "certificates_shown", "grounds_told", "legal_basis_told", "rights_told"}
    for points in DEFAULTS.values():
        codes = [point.code for point in points]
        assert len(set(codes)) == len(codes)
        assert wanted < set(codes)


def test_the_newest_note_of_a_point_counts_and_no_other_kind_does() -> None:
    def note(kind: NoteKind, at_us: int, point: str | None) -> Note:
        shown_us = at_us if kind is NoteKind.SHOWN else None
        return Note(kind, at_us, "account:x", point=point, shown_us=shown_us)

    points = [Point(code, code, code) for code in ("a", "b", "c")]
    notes = [
        note(NoteKind.SHOWN, 1, "a"), note(NoteKind.NOT_SHOWN, 2, "b"), note(NoteKind.MARKER, 3, "c"),
        note(NoteKind.NOT_SHOWN, 4, "a"), note(NoteKind.SHOWN, 5, "b"), note(NoteKind.SHOWN, 6, "gone"),
    ]  # fmt: skip
    found = {each.point.code: each for each in noted(points, notes)}
    assert {code: each.is_shown for code, each in found.items()} == {"a": False, "b": True, "c": False}
    assert [found[code].note.at_us if found[code].note else None for code in "abc"] == [4, 5, None]


@pytest.mark.parametrize(
    ("asked_s", "ended_s", "found_s"),
    [(None, None, 60), (0, None, 0), (60, None, 60), (30, 30, 30), (61, None, None), (-1, None, None),
     (31, 30, None), (None, 30, None)],
)  # fmt: skip
def test_a_point_is_shown_within_the_session(
    asked_s: int | None, ended_s: int | None, found_s: int | None
) -> None:
    asked, ended = (None if s is None else NOW + timedelta(seconds=s) for s in (asked_s, ended_s))
    now = NOW + timedelta(seconds=60)
    if found_s is None:
        with pytest.raises(InvalidInput) as refused:
            shown_at(asked, now, NOW, ended)
        assert refused.value.code == "point_time"
    else:
        assert shown_at(asked, now, NOW, ended) == NOW + timedelta(seconds=found_s)


def test_a_clock_set_back_shows_nothing_before_the_beginning() -> None:
    assert shown_at(None, NOW - timedelta(seconds=5), NOW, None) == NOW


def test_a_moment_is_in_each_stream_that_was_recorded_then() -> None:
    files = [Lies("main", 1, "i1", 0, 300_000_000), Lies("main", 2, "i2", 300_000_000, 600_000_000),
             Lies("room", 1, "i3", 100_000_000, 200_000_000)]  # fmt: skip
    assert places(150_500_000, files) == [Place("main", 1, "i1", 150_500), Place("room", 1, "i3", 50_500)]
    assert places(300_000_000, files) == [Place("main", 2, "i2", 0)]
    assert places(600_000_000, files) == [Place("main", 2, "i2", 300_000)]
    assert places(600_000_001, files) == []
