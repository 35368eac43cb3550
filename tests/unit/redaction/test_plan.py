from __future__ import annotations

import json
from typing import Any

import pytest

from evidence.coverage import SOUND_WORDS
from evidence.errors import InvalidInput, NotFound
from redaction.amend import amend
from redaction.geometry import Box, RegionOutsidePicture
from redaction.plan import Key, Masks, RedactionPlan, State, mask_regions, treatment_of_sound
from redaction.plan_json import plan_from_json
from tests.unit.redaction.plans import face, plan_of

MUTE = {"op": "mute", "from_us": 10, "to_us": 20, "stream": None, "kind": "silence", "reason": "privacy"}
BOX = {
    "op": "add_box",
    "shape": "ellipse",
    "reason": "minor",
    "keys": [[0, 1, 2, 30, 40, 0], [512, 3, 2, 32, 40, 0]],
}


def test_plan_survives_its_own_text() -> None:
    plan = amend(plan_of(face("a", Key(0, 1, 1, 9, 9), Key(512, 2, 2, 8, 8, True))), [MUTE, BOX], "account-7")
    assert plan_from_json(json.loads(plan.to_bytes())) == plan


def test_equal_plans_have_one_text() -> None:
    plan = plan_of(face("a", Key(0, 1, 1, 9, 9)))
    assert plan_from_json(plan.to_json()).to_bytes() == plan.to_bytes()
    assert b"." not in plan.to_bytes().replace(b"liuhen-plan/1", b"")


def test_amended_plan_names_its_parent_and_leaves_it_alone() -> None:
    first = plan_of(face("a", Key(0, 1, 1, 9, 9)))
    text = first.to_bytes()
    second = amend(first, [{"op": "delete_box", "track": "a"}], "account-7")
    assert (second.number, second.parent, second.author) == (2, 1, "account-7")
    assert first.to_bytes() == text


def test_deleted_box_is_refused_and_kept_and_hides_nothing() -> None:
    first = plan_of(face("a", Key(0, 1, 1, 9, 9)))
    second = amend(first, [{"op": "delete_box", "track": "a"}], "account-7")
    refused = second.tracks[0]
    assert (refused.state, refused.by, refused.origin) == (State.REFUSED, "account-7", "account")
    assert mask_regions(first, 0) != []
    assert mask_regions(second, 0) == []


def test_moved_box_hides_the_new_place_under_the_mover_s_name() -> None:
    first = plan_of(face("a", Key(0, 1, 1, 9, 9)))
    keys = [[0, 100, 100, 120, 120, 0], [512, 100, 100, 120, 120, 0]]
    second = amend(first, [{"op": "move_box", "track": "a", "keys": keys}], "account-7")
    assert (second.tracks[0].origin, second.tracks[0].by) == ("account", "account-7")
    assert mask_regions(second, 256)[0].box == Box(100, 100, 120, 120)


def test_muted_and_unmuted_span_is_kept_and_not_in_force() -> None:
    muted = amend(plan_of(), [MUTE, {**MUTE, "stream": 1}], "account-7")
    assert len(muted.muted(0)) == 1
    assert len(muted.muted(1)) == 2
    unmuted = amend(muted, [{"op": "unmute", "span": muted.muted_spans[0].id}], "account-8")
    assert unmuted.muted(0) == []
    assert unmuted.muted_spans[0].by == "account-8"
    assert len(unmuted.muted_spans) == 2


def test_what_is_said_of_sound_alone_is_what_its_plan_does() -> None:
    def said(*spans: tuple[int, int, int | None, str], streams: int = 1) -> str:
        changes = [
            {**MUTE, "from_us": low, "to_us": high, "stream": stream, "kind": kind}
            for low, high, stream, kind in spans
        ]
        plan = amend(plan_of(sound_alone=True), changes, "account-7") if changes else plan_of()
        treatment = treatment_of_sound(plan, streams, 100)
        assert treatment in SOUND_WORDS
        return treatment

    assert said() == "bare"
    assert said((0, 100, None, "silence"), streams=2) == "muted"
    assert said((40, 100, 0, "silence"), (0, 40, None, "silence")) == "muted"
    assert said((0, 99, None, "silence")) == "partly"
    assert said((1, 100, None, "silence")) == "partly"
    assert said((0, 40, None, "silence"), (41, 100, None, "silence")) == "partly"
    assert said((0, 100, 0, "silence"), streams=2) == "partly"
    assert said((0, 60, None, "silence"), (50, 100, None, "voice")) == "replaced"
    whole = amend(plan_of(sound_alone=True), [{**MUTE, "from_us": 0, "to_us": 100}], "account-7")
    refused = amend(whole, [{"op": "unmute", "span": whole.muted_spans[0].id}], "account-7")
    assert treatment_of_sound(refused, 1, 100) == "bare"


def test_whole_frame_span_hides_everything_while_it_lasts() -> None:
    plan = amend(
        plan_of(), [{"op": "mask_frames", "from_pts": 512, "to_pts": 1024, "reason": "state_secret"}], "a"
    )
    whole = Box(0, 0, 320, 180)
    assert [region.box for region in mask_regions(plan, 512)] == [whole]
    assert [region.box for region in mask_regions(plan, 1024)] == [whole]
    assert mask_regions(plan, 1536) == mask_regions(plan, 0) == []
    bare = amend(plan, [{"op": "unmask_frames", "span": plan.whole_frame_spans[0].id}], "b")
    assert bare.whole_frame_spans[0].by == "b"
    assert mask_regions(bare, 512) == []


def test_box_moves_evenly_between_keys_and_ends_with_the_last() -> None:
    plan = plan_of(face("a", Key(0, 0, 0, 20, 20), Key(1000, 100, 0, 120, 20)))
    assert [mask_regions(plan, pts)[0].box.x0 for pts in (0, 500, 1000)] == [0, 50, 100]
    assert mask_regions(plan, 1001) == []
    assert mask_regions(plan, -1) == []


def test_outside_flag_hides_nothing_until_the_next_key_and_the_box_stays_until_it() -> None:
    plan = plan_of(face("a", Key(0, 0, 0, 20, 20), Key(500, 0, 0, 20, 20, True), Key(1000, 60, 0, 80, 20)))
    assert mask_regions(plan, 499)[0].box == Box(0, 0, 20, 20)
    assert mask_regions(plan, 500) == mask_regions(plan, 999) == []
    assert mask_regions(plan, 1000)[0].box == Box(60, 0, 80, 20)


def test_ellipse_that_leaves_the_picture_is_covered_as_a_rectangle() -> None:
    plan = plan_of(
        face("a", Key(0, -10, 0, 20, 20), shape="ellipse"), face("b", Key(0, 5, 5, 20, 20), shape="ellipse")
    )
    assert [region.shape for region in Masks(plan).at(0)] == ["rectangle", "ellipse"]


def _with(plan: RedactionPlan, **facts: Any) -> dict[str, Any]:
    return {**plan.to_json(), **facts}


GOOD = plan_of(face("a", Key(0, 1, 1, 9, 9), Key(512, 2, 2, 8, 8)))
TRACK = GOOD.to_json()["tracks"][0]


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        {"version": "liuhen-plan/1"},
        _with(GOOD, version="liuhen-plan/2"),
        _with(GOOD, extra=1),
        _with(GOOD, number=0),
        _with(GOOD, number=True),
        _with(GOOD, parent=1),
        _with(GOOD, coverage={"faces": "treated"}),
        _with(
            GOOD,
            coverage={"faces": "blurred", "plates": "untreated", "text": "untreated", "voices": "untreated"},
        ),
        _with(GOOD, parameters={"pad_us": 0.5}),
        _with(GOOD, picture=None),
        _with(GOOD, picture={**GOOD.to_json()["picture"], "width_px": 321}),
        _with(GOOD, picture={**GOOD.to_json()["picture"], "time_base": [1, 0]}),
        _with(GOOD, tracks=[TRACK, TRACK]),
        _with(GOOD, tracks=[TRACK] * 20_001),
        _with(GOOD, tracks=[{**TRACK, "class": "ghost"}]),
        _with(GOOD, tracks=[{**TRACK, "reason": "because"}]),
        _with(GOOD, tracks=[{**TRACK, "state": "approved"}]),
        _with(GOOD, tracks=[{**TRACK, "shape": "blur"}]),
        _with(GOOD, tracks=[{**TRACK, "keys": []}]),
        _with(GOOD, tracks=[{**TRACK, "keys": [[0, 1, 1, 9, 9]]}]),
        _with(GOOD, tracks=[{**TRACK, "keys": [[0, 9, 1, 9, 9, 0]]}]),
        _with(GOOD, tracks=[{**TRACK, "keys": [[0, 1, 1, 1 << 40, 9, 0]]}]),
        _with(GOOD, tracks=[{**TRACK, "keys": [[5, 1, 1, 9, 9, 0], [5, 1, 1, 9, 9, 0]]}]),
        _with(GOOD, tracks=[{**TRACK, "keys": [[5, 1, 1, 9, 9, 0], [4, 1, 1, 9, 9, 0]]}]),
        _with(GOOD, tracks=[{**TRACK, "keys": [[0, float("nan"), 1, 9, 9, 0]]}]),
        _with(GOOD, tracks=[{**TRACK, "keys": [[0, 1, 1, 9, 9, 2]]}]),
        _with(GOOD, tracks=[{**TRACK, "id": ""}]),
        _with(GOOD, doubtful=[{"track": None, "from_pts": 5, "to_pts": 4, "why": "x"}]),
    ],
)
def test_broken_plan_is_refused_with_one_line(broken: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        plan_from_json(broken)
    assert caught.value.code == "plan_invalid"
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("box", [[320, 0, 330, 10], [-20, 0, 0, 10], [0, 180, 10, 190], [5, -9, 15, 0]])
def test_box_outside_the_picture_is_refused(box: list[int]) -> None:
    with pytest.raises(RegionOutsidePicture):
        plan_from_json(_with(GOOD, tracks=[{**TRACK, "keys": [[0, *box, 0]]}]))
    plan_from_json(_with(GOOD, tracks=[{**TRACK, "keys": [[0, *box, 1]]}]))


@pytest.mark.parametrize(
    "change",
    [
        {"op": "explode"},
        {"op": "mute"},
        {"op": "delete_box", "track": "a", "why": "x"},
        {**MUTE, "from_us": 20},
        {**MUTE, "kind": "quieter"},
        {**MUTE, "stream": -1},
        {**BOX, "keys": [[0, 1, 2, "30", 40, 0]]},
        {**BOX, "shape": ["rectangle"]},
        {"op": "set_reason", "track": "a", "reason": 5},
        {"op": "mask_frames", "from_pts": 9, "to_pts": 3, "reason": "other"},
    ],
)
def test_change_that_is_not_understood_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        amend(GOOD, [change], "account-7")


@pytest.mark.parametrize("changes", [[], [MUTE] * 1001, ["mute"]])
def test_number_and_form_of_changes_are_bounded(changes: list[Any]) -> None:
    with pytest.raises(InvalidInput):
        amend(GOOD, changes, "account-7")


@pytest.mark.parametrize("op", ["delete_box", "accept_box", "unmute", "unmask_frames"])
def test_change_to_something_that_is_not_there_is_not_found(op: str) -> None:
    field = "span" if op.startswith("unm") else "track"
    with pytest.raises(NotFound):
        amend(GOOD, [{"op": op, field: "nobody"}], "account-7")


def test_sound_alone_has_no_tracks() -> None:
    plan = amend(plan_of(sound_alone=True), [MUTE], "account-7")
    with pytest.raises(InvalidInput):
        amend(plan, [BOX], "account-7")
    with pytest.raises(InvalidInput):
        mask_regions(plan, 0)


def test_ten_thousand_tracks_are_asked_quickly() -> None:
    keys = (Key(0, 0, 0, 20, 20), Key(512, 4, 4, 24, 24))
    masks = Masks(
        plan_of(
            *(
                face(str(number), *(k._replace(pts=k.pts + 1024 * number) for k in keys))
                for number in range(10_000)
            )
        )
    )
    assert all(len(masks.at(1024 * number)) == 1 for number in range(0, 10_000, 10))
