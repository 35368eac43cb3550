"""More found than a plan may hold: it can be read again, and hides no less."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evidence.errors import InvalidInput
from evidence.masks import Reason
from redaction.detect import _store_plan
from redaction.fitting import SPANS_PROPOSED_MAX, TRACKS_PROPOSED_MAX, closed_up, fitted
from redaction.plan import DoubtfulSpan, Key, Masks, MutedSpan, Picture, State
from redaction.plan_json import KEYS_MAX, SPANS_MAX, TRACKS_MAX, plan_from_json
from tests.unit.redaction.plans import DIGEST, face, plan_of

LONG = Picture(320, 180, (1, 12800), 1_000_000, 0, 999_999)


def test_tracks_beyond_what_a_plan_holds_become_whole_frames_that_a_person_is_asked_about(
    tmp_path: Path,
) -> None:
    short = [face(f"s{at}", Key(10 * at, 1, 1, 9, 9)) for at in range(TRACKS_MAX)]
    lasting = face("l", Key(0, 50, 50, 90, 90), Key(999_999, 50, 50, 90, 90))
    found = replace(plan_of(*short, lasting, picture=LONG), doubtful=(DoubtfulSpan("s19999", 0, 9, "x"),))
    request = {"destination": str(tmp_path / "plan.json")}
    with pytest.raises(InvalidInput, match="at most"):
        _store_plan(request, found, {})
    assert not (tmp_path / "plan.json").exists()
    plan = fitted(found)
    _store_plan(request, plan, {})
    assert (len(plan.tracks), plan.tracks[-1]) == (TRACKS_PROPOSED_MAX, lasting)
    gone = {track.id for track in short} - {track.id for track in plan.tracks}
    before, after = Masks(found), Masks(plan)
    for at in range(0, TRACKS_MAX, 97):
        now = after.at(10 * at)
        assert now == ([after.whole_frame] if f"s{at}" in gone else before.at(10 * at))
    assert {doubt.why for doubt in plan.doubtful} == {"more masks than a plan holds, masked whole"}
    assert [(d.from_pts, d.to_pts) for d in plan.doubtful] == [
        (span.from_pts, span.to_pts) for span in plan.whole_frame_spans
    ]


def test_keys_beyond_what_a_plan_holds_become_whole_frames_too() -> None:
    many = tuple(Key(pts, 1, 1, 9, 9) for pts in range(KEYS_MAX // 4))
    tracks = [face(name, *many[: len(many) - at]) for at, name in enumerate("abcd")]
    plan = fitted(plan_of(*tracks, picture=LONG))
    assert [track.id for track in plan.tracks] == ["a", "b", "c"]
    assert [(span.from_pts, span.to_pts) for span in plan.whole_frame_spans] == [(0, len(many) - 4)]


def test_speech_in_more_spans_than_a_plan_holds_is_muted_over_the_shortest_pauses() -> None:
    spans = tuple(
        MutedSpan(f"m{at}", 100 * at, 100 * at + 50, at % 2, "silence", "model", DIGEST, Reason.PRIVACY,
                  State.PROPOSED)
        for at in range(SPANS_MAX + 1)
    )  # fmt: skip
    plan = fitted(replace(plan_of(), muted_spans=spans))
    assert len(plan.muted_spans) == SPANS_PROPOSED_MAX
    assert plan_from_json(plan.to_json()) == plan
    for stream in (0, 1):
        muted = plan.muted(stream)
        assert (muted[0].from_us, muted[-1].to_us) == (100 * stream, 100 * (SPANS_MAX - stream) + 50)
        at = 0
        for span in (span for span in spans if span.stream == stream):
            while muted[at].to_us < span.to_us:
                at += 1
            assert muted[at].from_us <= span.from_us


def test_spans_are_closed_up_over_the_shortest_pauses_and_no_more() -> None:
    assert closed_up([(9, 12), (0, 4), (3, 5), (6, 7), (30, 30)], 4) == [(0, 5), (6, 7), (9, 12), (30, 30)]
    assert closed_up([(9, 12), (0, 4), (6, 7), (30, 30)], 2) == [(0, 12), (30, 30)]
    assert closed_up([(0, 1), (5, 6)], 1) == [(0, 6)]
    assert closed_up([], 1) == []


def test_what_fits_stays_as_it_is() -> None:
    plan = plan_of(face("a", Key(0, 1, 1, 9, 9)))
    assert fitted(plan) == plan
