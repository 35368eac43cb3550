"""Scores against plans and truths written down by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evidence.errors import InvalidInput
from redaction.geometry import Box
from redaction.plan import Key
from redaction.score import Score, Truth, read_truth, score, truth_beside
from tests.unit.redaction.plans import face, plan_of

PTS = [frame * 512 for frame in range(100)]
# Hides (40, 40) to (80, 80) in frames 10 to 20.
PLAN = plan_of(face("t", Key(10 * 512, 40, 40, 80, 80), Key(20 * 512, 40, 40, 80, 80)))


def must(frame: int, box: tuple[int, int, int, int], person: int | None = None) -> Truth:
    return Truth(frame, Box(*box), "must", person)


def test_box_under_a_mask_is_covered_and_one_beside_it_is_bare() -> None:
    made = score(PLAN, PTS, {12}, [must(12, (50, 50, 70, 70)), must(12, (100, 50, 120, 70))])
    assert (made.must, made.must_covered, made.must_well_covered) == (2, 1, 1)
    assert made.recall == 0.5


@pytest.mark.parametrize(
    ("columns", "covered", "well"), [((60, 100), 0, 0), ((50, 100), 1, 0), ((41, 82), 1, 1), ((80, 90), 0, 0)]
)
def test_part_that_is_hidden_decides(columns: tuple[int, int], covered: int, well: int) -> None:
    # The mask ends at column 80: a half, three fifths, all but a fortieth, nothing.
    made = score(PLAN, PTS, {15}, [must(15, (columns[0], 40, columns[1], 80))])
    assert (made.must_covered, made.must_well_covered) == (covered, well)


def test_frame_before_the_mask_is_bare_and_its_spell_is_told() -> None:
    truths = [must(frame, (45, 45, 75, 75), person=1) for frame in range(5, 25)]
    made = score(PLAN, PTS, range(5, 25), truths)
    assert (made.persons, made.persons_bare, made.longest_bare_frames) == (1, 1, 5)
    assert made.bare_frames == [(5, 9), (21, 24)]


def test_person_who_is_always_hidden_is_not_bare() -> None:
    truths = [must(frame, (45, 45, 75, 75), person=1) for frame in range(10, 21)]
    made = score(PLAN, PTS, range(10, 21), truths)
    assert (made.persons, made.persons_bare, made.bare_frames) == (1, 0, [])


def test_what_is_ignored_is_neither_asked_for_nor_hidden_in_vain() -> None:
    made = score(
        PLAN, PTS, {12}, [Truth(12, Box(40, 40, 80, 80), "ignore"), Truth(12, Box(0, 0, 9, 9), "hard")]
    )
    assert (made.must, made.hard, made.hard_covered) == (0, 1, 0)
    assert (made.masked_px, made.over_masked_px) == (1600, 0)
    assert made.recall is None


def test_mask_where_nobody_is_counts_as_too_much() -> None:
    made = score(PLAN, PTS, {12, 50}, [])
    assert made.over_masked_px == 1600
    assert made.over_masked == 1600 / (2 * 320 * 180)


def test_ellipse_hides_less_than_its_box() -> None:
    plan = plan_of(face("t", Key(0, 40, 40, 80, 80), Key(5120, 40, 40, 80, 80), shape="ellipse"))
    made = score(plan, PTS, {5}, [must(5, (40, 40, 80, 80))])
    assert (made.must_covered, made.must_well_covered) == (1, 0)


def test_what_lies_in_the_notch_of_a_polygon_is_bare() -> None:
    corners = ((4000, 4000), (8000, 4000), (8000, 5000), (5000, 5000), (5000, 8000), (4000, 8000))
    plan = plan_of(face("t", Key(0, 40, 40, 80, 80, points=corners), shape="polygon"))
    made = score(plan, PTS, {0}, [must(0, (52, 52, 78, 78)), must(0, (40, 40, 50, 80))])
    assert (made.must, made.must_covered, made.must_well_covered) == (2, 1, 1)


def test_scores_of_clips_add_up_and_travel_as_json() -> None:
    first = Score(frames=2, must=4, must_covered=3, longest_bare_frames=7, persons=1, bare_frames=[(1, 7)])
    second = Score(frames=1, must=1, must_covered=1, longest_bare_frames=2, cpu_s=3.0, footage_s=30.0)
    total = Score.from_json(json.loads(json.dumps(first.to_json())))
    assert total == first
    total.add(second)
    assert (total.must, total.recall, total.longest_bare_frames, total.cpu_s_per_min) == (5, 0.8, 7, 6.0)


def test_truth_of_another_clip_is_refused() -> None:
    with pytest.raises(InvalidInput, match="another clip"):
        score(PLAN, PTS, {100}, [])


def test_truth_lies_beside_its_clip(tmp_path: Path) -> None:
    (tmp_path / "a.plates.json").write_text(
        json.dumps(
            {"frames": [{"frame": 0, "plates": [{"box": [1, 2, 3, 4], "tier": "must"}]}, {"frame": 9}]}
        )
    )
    (path,) = truth_beside(tmp_path / "a.mp4")
    assert read_truth(path) == ({0, 9}, [must(0, (1, 2, 3, 4))])
    assert truth_beside(tmp_path / "b.mp4") == []


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        {"frames": [{}]},
        {"frames": [{"frame": 0, "faces": [{"box": [0, 0, 4], "tier": "must"}]}]},
        {"frames": [{"frame": 0, "faces": [{"box": [4, 4, 0, 0], "tier": "must"}]}]},
        {"frames": [{"frame": 0, "faces": [{"box": [0, 0, 4, 4], "tier": "maybe"}]}]},
        {"frames": [{"frame": -1, "faces": [{"box": [0, 0, 4, 4], "tier": "must"}]}]},
    ],
)
def test_truth_in_another_form_is_refused(tmp_path: Path, wrong: Any) -> None:
    path = tmp_path / "a.faces.json"
    path.write_text(json.dumps(wrong))
    with pytest.raises(InvalidInput, match="expected frames"):
        read_truth(path)
