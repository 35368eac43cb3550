"""Editing a plan by key frames: what each change hides, and that it never reveals unless it says so."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from evidence.errors import Conflict, InvalidInput, NotFound
from redaction.amend import amend, restore, reveals
from redaction.geometry import RegionOutsidePicture, region_cells
from redaction.plan import Key, Masks, RedactionPlan, State, Track
from redaction.plan_json import plan_from_json
from tests.unit.redaction.plans import face, plan_of

A = face("a", Key(0, 100, 60, 140, 100), Key(5120, 121, 60, 161, 100))
LAST = 99 * 512
CORNERS = [[10000, 6000], [14000, 6000], [12000, 10000]]


def changed(plan: RedactionPlan, *changes: dict[str, Any]) -> RedactionPlan:
    return amend(plan, list(changes), "account-7")


def hidden(plan: RedactionPlan, pts: int) -> NDArray[np.bool_]:
    """Which 2x2 cells of the picture a plan hides."""
    assert plan.picture is not None
    cells = np.zeros((plan.picture.height_px // 2, plan.picture.width_px // 2), np.bool_)
    for region in Masks(plan).at(pts):
        x0, y0, x1, y1 = (edge // 2 for edge in region.box)
        cells[y0:y1, x0:x1] |= region_cells(region)
    return cells


def hides_all_of(wide: RedactionPlan, narrow: RedactionPlan, times: range) -> bool:
    return all(bool((hidden(wide, pts) | ~hidden(narrow, pts)).all()) for pts in times)


def test_one_key_is_set_and_taken_out_and_the_last_stays() -> None:
    resized = changed(plan_of(A), {"op": "set_key", "track": "a", "key": [2560, 90, 50, 170, 110, 0]})
    assert [key.pts for key in resized.tracks[0].keys] == [0, 2560, 5120]
    assert (resized.tracks[0].by, resized.tracks[0].state) == ("account-7", State.ACCEPTED)
    back = changed(resized, {"op": "delete_key", "track": "a", "pts": 2560})
    assert back.tracks[0].keys == A.keys
    alone = changed(back, {"op": "delete_key", "track": "a", "pts": 0})
    for pts in (5120, 1, None):
        with pytest.raises(InvalidInput):
            changed(alone, {"op": "delete_key", "track": "a", "pts": pts})


def test_a_track_is_split_where_a_person_says_and_its_half_deleted_alone() -> None:
    whole = plan_of(A)
    parts = changed(whole, {"op": "split_track", "track": "a", "pts": 2500})
    head, tail = parts.tracks
    assert (head.id, head.keys[-1].pts, tail.keys[0].pts) == ("a", 2500, 2500)
    assert not reveals(whole, parts)
    assert hides_all_of(parts, whole, range(0, 5121, 256))
    bare = changed(parts, {"op": "delete_box", "track": tail.id})
    assert reveals(whole, bare)
    assert reveals(parts, bare)
    assert hidden(bare, 2499).any()
    assert not hidden(bare, 2501).any()
    for pts in (0, 5120, 9000, True, 1.5, float("nan")):
        with pytest.raises(InvalidInput):
            changed(whole, {"op": "split_track", "track": "a", "pts": pts})


def test_what_was_split_is_joined_again_and_reveals_nothing_at_any_step() -> None:
    whole = plan_of(A)
    parts = changed(whole, {"op": "split_track", "track": "a", "pts": 2500})
    one = changed(parts, {"op": "join_tracks", "tracks": [track.id for track in parts.tracks]})
    assert [track.id for track in one.tracks] == ["a"]
    assert not reveals(parts, one)
    assert not reveals(whole, one)


def test_a_join_hides_what_lies_between() -> None:
    late = face("b", Key(9000, 10, 10, 50, 50), Key(10000, 10, 10, 50, 50))
    apart = plan_of(A, late)
    joined = changed(apart, {"op": "join_tracks", "tracks": ["a", "b"]})
    assert not reveals(apart, joined)
    assert hidden(joined, 7000).any()
    for names in (["b", "a"], ["a", "a"], ["a"], "ab"):
        with pytest.raises(InvalidInput):
            changed(apart, {"op": "join_tracks", "tracks": names})
    with pytest.raises(NotFound):
        changed(apart, {"op": "join_tracks", "tracks": ["a", "nobody"]})


def test_a_track_is_extended_to_the_whole_recording_through_where_it_was_outside() -> None:
    gone = face("a", Key(512, 1, 1, 9, 9), Key(1024, 1, 1, 9, 9, True), Key(2048, 30, 1, 50, 9))
    before = plan_of(gone)
    after = changed(before, {"op": "extend_track", "track": "a"})
    assert not reveals(before, after)
    assert all(hidden(after, pts).any() for pts in (0, 1500, LAST))
    with pytest.raises(InvalidInput):
        changed(plan_of(face("a", Key(0, 1, 1, 9, 9, True))), {"op": "extend_track", "track": "a"})
    with pytest.raises(InvalidInput, match="accept it first"):
        changed(before, {"op": "delete_box", "track": "a"}, {"op": "extend_track", "track": "a"})


def test_a_face_kept_visible_is_a_decision_with_words_that_reveals() -> None:
    before = plan_of(A)
    after = changed(before, {"op": "keep_visible", "track": "a", "text": "执法人员,依法公开"})
    assert (after.tracks[0].state, after.tracks[0].reason_text) == (State.KEPT_VISIBLE, "执法人员,依法公开")
    assert not hidden(after, 0).any()
    assert reveals(before, after)
    assert not reveals(after, changed(after, {"op": "accept_box", "track": "a"}))
    assert plan_from_json(after.to_json()) == after
    with pytest.raises(InvalidInput):
        changed(before, {"op": "keep_visible", "track": "a", "text": ""})


def but(*keys: list[int]) -> dict[str, Any]:
    return {"op": "add_box", "shape": "all_but", "reason": "privacy", "class": "screen", "keys": list(keys)}


def test_all_but_a_region_is_hidden_and_the_region_is_never_larger_than_drawn() -> None:
    plan = changed(plan_of(), but([0, 101, 61, 201, 121, 0], [1000, 0, 0, 10, 10, 1], [2000, 5, 5, 7, 7, 0]))
    cells = hidden(plan, 0)
    assert not cells[31:60, 51:100].any()
    assert cells.sum() == cells.size - 29 * 49
    assert hidden(plan, 1500).all()
    assert hidden(plan, 2000).sum() == cells.size - (0 if hidden(plan, 2000).all() else 1)


def test_less_left_bare_reveals_nothing_and_more_does() -> None:
    plan = changed(plan_of(), but([0, 100, 60, 200, 120, 0], [1000, 110, 60, 210, 120, 0]))
    name = plan.tracks[0].id

    def move(*keys: list[int]) -> RedactionPlan:
        return changed(plan, {"op": "move_box", "track": name, "keys": list(keys)})

    assert not reveals(plan, move([0, 110, 70, 190, 110, 0], [1000, 120, 70, 200, 110, 0]))
    assert reveals(plan, move([0, 99, 60, 200, 120, 0], [1000, 110, 60, 210, 120, 0]))
    assert reveals(plan, move([0, 110, 70, 190, 110, 0], [999, 120, 70, 200, 110, 0]))
    assert not reveals(plan, move([0, 110, 70, 190, 110, 1], [1000, 120, 70, 200, 110, 1]))


def test_a_polygon_is_covered_whole_and_its_notch_is_not() -> None:
    notch = [[10000, 6000], [16000, 6000], [16000, 12000], [13000, 8000], [10000, 12000]]
    keys = [[0, 100, 60, 160, 120, 0, notch]]
    plan = changed(plan_of(), {"op": "add_box", "shape": "polygon", "reason": "minor", "keys": keys})
    cells = hidden(plan, 0)
    assert cells[30:40, 50:80].all()
    assert not cells[55, 64:66].any()
    assert plan_from_json(plan.to_json()) == plan
    for corners in (
        notch[:2],
        [[0, 0], [100, float("nan")], [300, 300]],
        [[0, 0], [9, 9]] * 101,
        [[0, 0, 0]] * 3,
    ):
        bad = [[0, 100, 60, 160, 120, 0, corners]]
        with pytest.raises(InvalidInput):
            changed(plan_of(), {"op": "add_box", "shape": "polygon", "reason": "minor", "keys": bad})


def test_a_polygon_on_its_way_to_one_of_other_corners_is_a_box_around_both() -> None:
    square = [[1000, 1000], [3000, 1000], [3000, 3000], [1000, 3000]]
    keys = [[0, 100, 60, 140, 100, 0, CORNERS], [1000, 10, 10, 30, 30, 0, square]]
    plan = changed(plan_of(), {"op": "add_box", "shape": "polygon", "reason": "minor", "keys": keys})
    assert hidden(plan, 500)[5:50, 5:70].all()
    parts = changed(plan, {"op": "set_key", "track": plan.tracks[0].id, "key": [500, *keys[0][1:]]})
    assert reveals(plan, parts)
    with pytest.raises(InvalidInput, match="set one first"):
        changed(plan, {"op": "split_track", "track": plan.tracks[0].id, "pts": 500})


SQUARE = ((1000, 1000), (3000, 1000), (3000, 3000), (1000, 3000))


@pytest.mark.parametrize(
    "there",
    [SQUARE[2:] + SQUARE[:2], SQUARE[1:] + SQUARE[:1], SQUARE[::-1], (SQUARE[0], *SQUARE[:0:-1])],
)
def test_a_polygon_whose_corners_are_listed_otherwise_stays_between_its_keys(
    there: tuple[tuple[int, int], ...],
) -> None:
    keys = Key(0, 10, 10, 30, 30, points=SQUARE), Key(1000, 10, 10, 30, 30, points=there)
    plan = plan_of(face("a", *keys, shape="polygon"))
    for pts in (1, 250, 500, 999):
        assert hidden(plan, pts)[5:15, 5:15].all(), pts
    wide = plan_of(face("a", *(key._replace(points=()) for key in keys)))
    assert not reveals(plan, wide)


def test_a_polygon_that_moves_and_turns_a_little_moves_corner_by_corner() -> None:
    there = tuple((x + 20000 + y // 9, y + 9000 - x // 9) for x, y in SQUARE)
    keys = Key(0, 10, 10, 30, 30, points=SQUARE), Key(1000, 211, 96, 234, 119, points=there)
    plan = plan_of(face("a", *keys, shape="polygon"))
    assert 100 <= hidden(plan, 500).sum() <= 200


def test_a_polygon_that_is_nothing_half_way_is_hidden_with_all_that_lies_between() -> None:
    """Thin and upright, its few pixels of width are turned over on the way, and its height is not."""
    here = ((1000, 1000), (1400, 1000), (1000, 9000), (1400, 9000), (1000, 17000))
    there = tuple((2400 - x, y) for x, y in here)
    middle = [(one[0] + other[0]) / 2 for one, other in zip(here, there, strict=True)]
    assert set(middle) == {1200}
    keys = Key(0, 10, 10, 14, 170, points=here), Key(1000, 10, 10, 14, 170, points=there)
    plan = plan_of(face("a", *keys, shape="polygon"))
    assert hidden(plan, 500)[5:85, 5:7].all()


def test_no_pixel_centre_inside_a_polygon_is_left_out() -> None:
    draw = random.Random(11)
    for _ in range(150):
        corners = [[draw.randint(-20, 90), draw.randint(-20, 70)] for _ in range(draw.randint(3, 7))]
        across, down = zip(*corners, strict=True)
        if min(across) == max(across) or min(down) == max(down) or max(across) <= 0 or max(down) <= 0:
            continue
        key = Key(
            0,
            min(across),
            min(down),
            max(across),
            max(down),
            False,
            tuple((x * 100, y * 100) for x, y in corners),
        )
        plan = plan_of(face("a", key, shape="polygon"))
        cells = hidden(plan, 0)
        y, x = np.mgrid[0:180, 0:320] + 0.5
        odd = np.zeros(x.shape, np.bool_)
        for (x0, y0), (x1, y1) in zip(corners, (*corners[1:], corners[0]), strict=True):
            if y0 != y1:
                odd ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        assert not (odd & ~np.repeat(np.repeat(cells, 2, 0), 2, 1)).any(), corners


def test_reasons_and_classes_change_nothing_that_is_hidden_and_other_needs_words() -> None:
    plan = plan_of(A)
    said = changed(
        plan, {"op": "set_class", "track": "a", "class": "plate"},
        {"op": "set_reason", "track": "a", "reason": "other", "text": "证人要求"},
    )  # fmt: skip
    assert (said.tracks[0].track_class, said.tracks[0].reason_text) == ("plate", "证人要求")
    assert not reveals(plan, said)
    for change in (
        {"op": "set_reason", "track": "a", "reason": "other"},
        {"op": "set_class", "track": "a", "class": "ghost"},
        {"op": "set_reason", "track": "a", "reason": "privacy", "text": "x" * 201},
    ):
        with pytest.raises(InvalidInput):
            changed(plan, change)


def test_undoing_is_a_version_of_its_own_that_is_judged_like_any() -> None:
    first = plan_of(A)
    second = changed(first, {"op": "delete_box", "track": "a"})
    third = restore(second, first, "account-8")
    assert (third.number, third.parent, third.author, third.tracks) == (3, 2, "account-8", first.tracks)
    assert not reveals(second, third)
    assert reveals(first, restore(third, second, "account-8"))
    even = plan_of(face("a", Key(0, 100, 60, 140, 100), Key(5120, 120, 60, 160, 100)))
    split = changed(even, {"op": "split_track", "track": "a", "pts": 2560})
    assert not reveals(split, restore(split, even, "account-8"))
    other = plan_from_json({**first.to_json(), "item_id": "item-2"})
    with pytest.raises(Conflict) as caught:
        restore(second, other, "account-8")
    assert caught.value.code == "plan_does_not_fit"


def test_a_plan_that_uses_nothing_new_keeps_the_text_it_always_had() -> None:
    plain = plan_of(A).to_json()["tracks"][0]
    assert set(plain) == {
        "id", "class", "origin", "by", "reason", "state", "shape", "keys", "score_permille",
    }  # fmt: skip


def test_a_box_outside_the_picture_and_keys_out_of_order_are_refused_by_name() -> None:
    with pytest.raises(RegionOutsidePicture):
        changed(plan_of(A), {"op": "set_key", "track": "a", "key": [9000, 400, 0, 420, 20, 0]})
    with pytest.raises(InvalidInput, match="ascending pts"):
        changed(
            plan_of(A), {"op": "move_box", "track": "a", "keys": [[9, 1, 1, 9, 9, 0], [5, 1, 1, 9, 9, 0]]}
        )


def test_whatever_is_said_to_reveal_nothing_hides_every_cell_at_every_time() -> None:
    """Random tracks of every shape, random edits: a version not said to reveal hides all of the old one."""
    draw = random.Random(5)
    held = 0
    for _ in range(250):
        shape = draw.choice(["rectangle", "ellipse", "polygon", "all_but"])
        old = plan_of(_track(draw, "a", shape), _track(draw, "b", shape, since=41))
        try:
            new = changed(old, *[_edit(draw, old) for _ in range(draw.randint(1, 2))])
        except (InvalidInput, NotFound):
            continue
        if not reveals(old, new):
            held += 1
            assert hides_all_of(new, old, range(0, 82, 3)), (old.tracks, new.tracks)
        if not reveals(new, old):
            assert hides_all_of(old, new, range(0, 82, 3)), (new.tracks, old.tracks)
    assert held > 60


def _track(draw: random.Random, name: str, shape: str, since: int = 0) -> Track:
    times = sorted(draw.sample(range(since, since + 40), draw.randint(2, 4)))
    return face(name, *(_key(draw, time, shape) for time in times), shape=shape)


def _key(draw: random.Random, time: int, shape: str) -> Key:
    x, y = draw.randint(0, 40), draw.randint(0, 40)
    corners = [(x, y), (x + draw.randint(3, 40), y), (x + 2, y + draw.randint(3, 40))]
    if draw.random() < 0.3:
        corners.insert(1, (x + 1, y + 1))
    across, down = zip(*corners, strict=True)
    is_gone = draw.random() < 0.2
    return Key(time, min(across), min(down), max(across), max(down), is_gone,
               tuple((100 * x, 100 * y) for x, y in corners) if shape == "polygon" else ())  # fmt: skip


def _edit(draw: random.Random, plan: RedactionPlan) -> dict[str, Any]:
    track = draw.choice(plan.tracks)
    op = draw.choice(["split_track", "join_tracks", "extend_track", "set_key", "delete_key", "move_box"])
    if op == "join_tracks":
        return {"op": op, "tracks": ["a", "b"]}
    if op == "split_track":
        inner = [key.pts for key in track.keys[1:-1]] or [draw.randint(1, 80)]
        return {"op": op, "track": track.id, "pts": draw.choice([*inner, draw.randint(1, 80)])}
    if op == "extend_track":
        return {"op": op, "track": track.id}
    if op == "delete_key":
        return {"op": op, "track": track.id, "pts": draw.choice(track.keys).pts}
    grown = [
        [key.pts, key.x0 - draw.randint(-1, 5), key.y0 - draw.randint(0, 5), key.x1 + draw.randint(-1, 5),
         key.y1 + draw.randint(0, 5), int(key.outside)]
        for key in track.keys
    ]  # fmt: skip
    if track.shape == "polygon":
        grown = [[*key[:5], int(key.outside), [list(point) for point in key.points]] for key in track.keys]
    if op == "set_key":
        return {"op": op, "track": track.id, "key": draw.choice(grown)}
    shape = "rectangle" if track.shape in {"rectangle", "ellipse"} and draw.random() < 0.5 else track.shape
    return {"op": op, "track": track.id, "keys": grown, "shape": shape}
