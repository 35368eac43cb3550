"""Whether a version of a plan shows anything that another hides: when in doubt, it does."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from redaction.amend import amend, reveals
from redaction.plan import Key, Masks, RedactionPlan, State
from tests.unit.redaction.plans import face, plan_of

A = face("a", Key(0, 100, 60, 140, 100), Key(5120, 120, 60, 160, 100))
OVAL = face("o", Key(0, 100, 60, 140, 100), Key(5120, 120, 60, 160, 100), shape="ellipse")
MUTE = {"op": "mute", "from_us": 10, "to_us": 90, "stream": None, "kind": "silence", "reason": "privacy"}
FRAMES = {"op": "mask_frames", "from_pts": 0, "to_pts": 1024, "reason": "minor"}
BOX = {"op": "add_box", "shape": "ellipse", "reason": "privacy", "keys": [[0, 1, 1, 9, 9, 0]]}


def changed(plan: RedactionPlan, *changes: dict[str, Any]) -> RedactionPlan:
    return amend(plan, list(changes), "account-7")


def moved(*keys: list[int]) -> dict[str, Any]:
    return {"op": "move_box", "track": "a", "keys": list(keys)}


@pytest.mark.parametrize(
    "change",
    [
        BOX,
        MUTE,
        FRAMES,
        {"op": "accept_box", "track": "a"},
        {"op": "set_reason", "track": "a", "reason": "minor"},
        moved([0, 90, 50, 150, 110, 0], [5120, 110, 50, 170, 110, 0]),
        moved([0, 100, 60, 160, 100, 0], [6000, 100, 60, 160, 100, 0]),
    ],
)
def test_hiding_more_reveals_nothing(change: dict[str, Any]) -> None:
    plan = plan_of(A)
    assert not reveals(plan, changed(plan, change))


@pytest.mark.parametrize(
    "change",
    [
        {"op": "delete_box", "track": "a"},
        moved([0, 101, 60, 141, 100, 0], [5120, 121, 60, 161, 100, 0]),
        moved([0, 90, 50, 170, 110, 0], [5119, 90, 50, 170, 110, 0]),
        moved([1, 90, 50, 170, 110, 0], [5120, 90, 50, 170, 110, 0]),
        moved([0, 90, 50, 170, 110, 0], [2000, 90, 50, 170, 110, 1], [3000, 90, 50, 170, 110, 0],
              [5120, 90, 50, 170, 110, 0]),
        moved([0, 90, 50, 170, 110, 0], [2560, 115, 50, 170, 110, 0], [5120, 90, 50, 170, 110, 0]),
    ],
)  # fmt: skip
def test_hiding_less_somewhere_reveals(change: dict[str, Any]) -> None:
    plan = plan_of(A)
    assert reveals(plan, changed(plan, change))


def test_a_deleted_box_under_another_one_still_reveals() -> None:
    plan = changed(plan_of(A), {**BOX, "shape": "rectangle", "keys": [[0, 0, 0, 320, 180, 0]]})
    assert reveals(plan, changed(plan, {"op": "delete_box", "track": "a"}))


def test_a_deleted_box_taken_back_reveals_nothing() -> None:
    plan = plan_of(A)
    gone = changed(plan, {"op": "delete_box", "track": "a"})
    assert not reveals(plan, changed(gone, {"op": "accept_box", "track": "a"}))


def test_unmuting_and_unmasking_reveal() -> None:
    plan = changed(plan_of(A), MUTE, FRAMES)
    assert reveals(plan, changed(plan, {"op": "unmute", "span": plan.muted_spans[0].id}))
    assert reveals(plan, changed(plan, {"op": "unmask_frames", "span": plan.whole_frame_spans[0].id}))


def test_showing_frames_the_decoder_could_not_vouch_for_reveals() -> None:
    plan = plan_of(A)
    decided = changed(plan, FRAMES)
    shown = changed(decided, {"op": "unmask_frames", "span": decided.whole_frame_spans[0].id})
    assert reveals(plan, shown)


def test_a_decision_to_show_that_the_old_version_does_not_have_just_so_reveals() -> None:
    everywhere = face("x", Key(0, 0, 0, 320, 180), Key(5120, 0, 0, 320, 180))
    bare = replace(A, state=State.REFUSED)
    assert reveals(plan_of(A), plan_of(A, replace(everywhere, state=State.REFUSED)))
    assert reveals(plan_of(A), plan_of(A, replace(everywhere, state=State.KEPT_VISIBLE)))
    assert reveals(plan_of(bare), plan_of(replace(bare, keys=everywhere.keys)))
    assert reveals(plan_of(bare), plan_of(replace(bare, shape="all_but")))
    assert not reveals(plan_of(bare), plan_of(replace(bare, state=State.KEPT_VISIBLE, reason_text="公开")))
    # What was split, spread over its other half, and refused is covered; the refusal is new all the same.
    wide = replace(everywhere, lineage=("a",))
    assert not reveals(plan_of(A), plan_of(wide))
    assert reveals(plan_of(A), plan_of(wide, bare))


def test_an_ellipse_moved_to_a_larger_one_reveals() -> None:
    plan = plan_of(OVAL)
    wider = {"op": "move_box", "track": "o", "keys": [[0, 60, 60, 200, 100, 0], [5120, 60, 60, 200, 100, 0]]}
    assert reveals(plan, changed(plan, wider))
    assert not reveals(plan_of(OVAL), plan_of(face("o", *OVAL.keys)))
    assert reveals(plan_of(A), plan_of(face("a", *A.keys, shape="ellipse")))


def test_what_reveals_nothing_covers_every_mask_of_every_frame() -> None:
    """Random moves: whenever none is said to reveal, each old region lies inside a new one."""
    draw = random.Random(7)

    def keys() -> list[Key]:
        times = sorted(draw.sample(range(0, 40), draw.randint(1, 4)))
        return [
            Key(time, x := draw.randint(0, 60), y := draw.randint(0, 60), x + draw.randint(2, 60),
                y + draw.randint(2, 60), draw.random() < 0.2)
            for time in times
        ]  # fmt: skip

    held = 0
    for _ in range(1500):
        old = keys()
        new = keys() if draw.random() < 0.3 else [
            Key(key.pts, key.x0 - draw.randint(-1, 9), key.y0 - draw.randint(0, 9),
                key.x1 + draw.randint(0, 9), key.y1 + draw.randint(0, 9), key.outside and draw.random() < 0.5)
            for key in old
        ]  # fmt: skip
        before, after = plan_of(face("a", *old)), plan_of(face("a", *new))
        if reveals(before, after):
            continue
        held += 1
        masks, later = Masks(before), Masks(after)
        for pts in range(41):
            for region in masks.at(pts):
                assert any(wide.box.contains(region.box) for wide in later.at(pts)), (old, new, pts)
    assert held > 100
