"""What of a plan nobody has decided, by how much it would bare."""

from __future__ import annotations

from typing import Any

import pytest

from evidence.doubts import open_doubts

PICTURE = {"width_px": 100, "height_px": 100, "time_base": [1, 1000], "frame_count": 9, "first_pts": 500,
           "last_pts": 9000}  # fmt: skip


def track(name: str, side: int, score: int = 500, state: str = "proposed", **more: Any) -> dict[str, Any]:
    keys = [[500, 0, 0, side, side, 0], [9000, 0, 0, side, side, 0]]
    return {"id": name, "class": "face", "state": state, "score_permille": score, "shape": "rectangle",
            "keys": keys, **more}  # fmt: skip


def plan(*tracks: dict[str, Any], doubtful: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"picture": PICTURE, "tracks": list(tracks), "muted_spans": [], "whole_frame_spans": [],
            "doubtful": doubtful, **more}  # fmt: skip


def doubt(name: str | None, first: int = 1500, last: int = 2500) -> dict[str, Any]:
    return {"track": name, "from_pts": first, "to_pts": last, "why": "w"}


def test_risk_is_length_times_share_of_the_picture_times_score() -> None:
    (found,) = open_doubts(plan(track("a", 50), doubtful=[doubt("a")]))
    assert (found.from_us, found.to_us) == (1_000_000, 2_000_000)
    assert (found.area_permille, found.score_permille) == (250, 500)
    assert found.risk_us == 1_000_000 // 4 // 2


def test_the_gravest_comes_first_and_what_is_small_still_comes() -> None:
    made = plan(
        track("small", 1, score=1), track("long", 10), track("wide", 100),
        doubtful=[doubt("small", 1500, 1500), doubt("long", 500, 9000), doubt("wide")],
    )  # fmt: skip
    assert [each.track for each in open_doubts(made)] == ["wide", "long", "small"]
    assert open_doubts(made)[-1].risk_us == 1


@pytest.mark.parametrize("state", ["accepted", "refused", "kept_visible"])
def test_a_track_that_a_person_decided_is_in_doubt_no_more(state: str) -> None:
    assert open_doubts(plan(track("a", 50, state=state), doubtful=[doubt("a")])) == []


def test_what_a_track_was_split_into_is_in_doubt_until_each_piece_is_decided() -> None:
    pieces = [track("b", 10, lineage=["a"]), track("c", 20, state="accepted", lineage=["a"])]
    (found,) = open_doubts(plan(*pieces, doubtful=[doubt("a")]))
    assert found.area_permille == 10


def test_frames_hidden_whole_are_in_doubt_until_their_span_is_decided() -> None:
    span = {"id": "s", "state": "proposed", "from_pts": 1500, "to_pts": 2500}
    (found,) = open_doubts(plan(doubtful=[doubt(None)], whole_frame_spans=[span]))
    assert (found.area_permille, found.risk_us) == (1000, 1_000_000)
    decided = {**span, "state": "accepted"}
    assert open_doubts(plan(doubtful=[doubt(None)], whole_frame_spans=[decided])) == []
    elsewhere = {**span, "from_pts": 2501, "to_pts": 3000}
    assert open_doubts(plan(doubtful=[doubt(None)], whole_frame_spans=[elsewhere])) == []


def test_of_sound_alone_times_are_microseconds_as_they_stand() -> None:
    muted = {"id": "s", "state": "proposed", "from_us": 0, "to_us": 700}
    made = {**plan(doubtful=[doubt(None, 0, 700)], muted_spans=[muted]), "picture": None}
    (found,) = open_doubts(made)
    assert (found.from_us, found.to_us, found.risk_us) == (0, 700, 700)
