"""CVAT for video 1.1: a round trip loses nothing, hostile documents are refused by name."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from evidence.errors import Conflict, EvidenceError, InvalidInput
from redaction import cvat
from redaction.amend import amend, reveals
from redaction.cvat_xml import TAG_MAX_BYTES, CvatRefused, parse
from redaction.geometry import RegionOutsidePicture
from redaction.plan import Key, Masks, RedactionPlan, State, Track
from tests.unit.redaction.plans import face, plan_of

TIMES = [512 * number for number in range(100)]
CORNERS = [[1000, 1000], [3050, 1000], [3000, 3025], [1500, 1500]]


def write_cvat(plan: RedactionPlan, times: Sequence[int]) -> str:
    return "".join(cvat.write_cvat(plan, times))


def read_cvat(text: str, plan: RedactionPlan, times: Sequence[int], author: str) -> RedactionPlan:
    data = text.encode()
    pieces = (data[at : at + 65536] for at in range(0, len(data), 65536))
    return cvat.read_cvat(pieces, plan, times, author)


def rich() -> RedactionPlan:
    """Every shape, a gap, a span of hidden frames, a decision, sound."""
    plan = plan_of(
        face("a", Key(0, 100, 60, 140, 100), Key(5120, 120, 60, 160, 100, True), Key(10240, 90, 50, 130, 90)),
        face("o", Key(512, 10, 10, 31, 40), Key(2048, 12, 10, 33, 40), shape="ellipse"),
        face("late", Key(700, 10, 10, 30, 30), Key(90 * 512 + 5, 10, 10, 30, 30)),
        face("never", Key(513, 10, 10, 30, 30), Key(600, 10, 10, 30, 30)),
    )
    changes: list[dict[str, Any]] = [
        {"op": "add_box", "shape": "polygon", "reason": "other", "text": "车牌 <&>", "class": "plate",
         "keys": [[1024, 10, 10, 31, 31, 0, CORNERS], [4096, 10, 10, 31, 31, 0, CORNERS]]},
        {"op": "add_box", "shape": "all_but", "reason": "minor", "keys": [[0, 5, 5, 301, 171, 0]]},
        {"op": "mask_frames", "from_pts": 700, "to_pts": 1600, "reason": "state_secret"},
        {"op": "mute", "from_us": 10, "to_us": 90, "stream": 0, "kind": "voice", "reason": "privacy"},
        {"op": "keep_visible", "track": "o", "text": "公开"},
    ]  # fmt: skip
    return amend(plan, changes, "account-7")


def frames_of(plan: RedactionPlan) -> list[Any]:
    masks = Masks(plan)
    return [masks.at(pts) for pts in TIMES]


def test_a_round_trip_without_a_change_loses_nothing() -> None:
    plan = rich()
    back = read_cvat(write_cvat(plan, TIMES), plan, TIMES, "account-8")
    assert (back.number, back.parent, back.author) == (3, 2, "account-8")
    assert (back.tracks, back.muted_spans) == (plan.tracks, plan.muted_spans)
    assert back.whole_frame_spans == plan.whole_frame_spans
    assert not reveals(plan, back)


def test_what_is_read_as_new_hides_the_same_frames() -> None:
    """Under other ids nothing is taken from the plan: what the format alone says hides what the plan hid."""
    plan = rich()
    text = write_cvat(plan, TIMES).replace('name="id">', 'name="id">x')
    with pytest.raises(CvatRefused, match="state of a new track"):
        read_cvat(text, plan, TIMES, "account-8")
    plan = replace(plan, tracks=tuple(track for track in plan.tracks if track.state.hides))
    text = write_cvat(plan, TIMES).replace('name="id">', 'name="id">x')
    back = read_cvat(text, plan, TIMES, "account-8")
    old = {track.id for track in plan.tracks}
    assert {track.state for track in back.tracks if track.id in old} == {
        State.REFUSED, State.PROPOSED,
    }  # fmt: skip
    as_sets = [[set(regions) for regions in frames_of(each)] for each in (plan, back)]
    assert as_sets[0] == as_sets[1]


def test_a_moved_box_is_a_move_and_a_missing_track_is_refused() -> None:
    plan = plan_of(face("a", Key(0, 10, 10, 30, 30)), face("b", Key(0, 50, 50, 70, 70)))
    text = write_cvat(plan, TIMES).replace('xtl="10.00"', 'xtl="8.25"', 1)
    text = text[: text.index('<track id="1"')] + "</annotations>"
    back = read_cvat(text, plan, TIMES, "account-8")
    moved, gone = back.tracks
    assert (moved.id, moved.by, moved.keys[0].x0) == ("a", "account-8", 8)
    assert (gone.state, gone.by, gone.origin) == (State.REFUSED, "account-8", "account")
    assert gone.keys == plan.tracks[1].keys
    assert reveals(plan, back)


@pytest.mark.parametrize("label", ["face", "whole_frame"])
@pytest.mark.parametrize("state", ["refused", "kept_visible"])
def test_a_new_track_that_shows_is_refused(label: str, state: str) -> None:
    said = f'<attribute name="state">{state}</attribute><attribute name="text">公开</attribute></box>'
    with pytest.raises(CvatRefused, match="state of a new track"):
        read_cvat(document(BOX.replace("/>", ">" + said), label=label), plan_of(), TIMES, "account-8")


def turned(shape: str, *turns: str) -> Track:
    shapes = [shape.format(frame=frame, turn=turn) for frame, turn in enumerate(turns)]
    (track,) = read_cvat(document(*shapes), plan_of(), TIMES, "account-8").tracks
    return track


@pytest.mark.parametrize(
    ("turns", "box"),
    [
        (["0", "360.0"], (100, 80, 140, 90)),
        (["90.0"], (115, 65, 125, 105)),
        (["-30"], (100, 70, 140, 100)),
        (["30", "30"], (100, 70, 140, 100)),
        # Turning on its way it stands on end between the two keys.
        (["0", "180"], (99, 64, 141, 106)),
    ],
)
def test_what_was_turned_comes_back_as_the_upright_rectangle_around_it(
    turns: list[str], box: tuple[int, int, int, int]
) -> None:
    form = '<box frame="{frame}" rotation="{turn}" xtl="100" ytl="80" xbr="140" ybr="90"/>'
    oval = '<ellipse frame="{frame}" rotation="{turn}" cx="120" cy="85" rx="20" ry="5"/>'
    is_turned = box != (100, 80, 140, 90)
    for shape, kept in ((form, "rectangle"), (oval, "ellipse")):
        track = turned(shape, *turns)
        assert track.shape == ("rectangle" if is_turned else kept)
        assert {key.box for key in track.keys} == {box}


@pytest.mark.parametrize("turn", ["nan", "1e2", "x"])
def test_a_turn_that_is_no_number_is_refused(turn: str) -> None:
    with pytest.raises(CvatRefused):
        turned('<box frame="{frame}" rotation="{turn}" xtl="1" ytl="1" xbr="9" ybr="9"/>', turn)


def test_what_stays_bare_and_polygons_are_not_turned() -> None:
    said = '<attribute name="shape">all_but</attribute></box>'
    with pytest.raises(CvatRefused, match="rotation of all_but"):
        turned('<box frame="{frame}" rotation="{turn}" xtl="1" ytl="1" xbr="9" ybr="9">' + said, "5.0")
    with pytest.raises(CvatRefused, match="rotation of polygon"):
        turned('<polygon frame="{frame}" rotation="{turn}" points="1,1;9,1;9,9"/>', "5")


BOX = '<box frame="0" keyframe="1" outside="0" xtl="1" ytl="1" xbr="9" ybr="9"/>'


def document(*shapes: str, label: str = "face", head: str = "", times: int = 1) -> str:
    return f"<annotations>{head}{f'<track label={label!r}>' + ''.join(shapes)}</track></annotations>" * times


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no xml",
        "<annotations>",
        '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e "ha">]><annotations>&e;</annotations>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations/>',
        "<svg/>",
        "<annotations>" + "<meta>" * 9 + "</meta>" * 9 + "</annotations>",
        document(BOX, head="<version>1.0</version>"),
        document(BOX, head="<image/>"),
        document(BOX, label="ghost"),
        document(),
        document("<points frame='0'/>"),
        document(BOX, "<polygon frame='1' points='1,1;9,1;9,9'/>"),
        document(BOX, BOX),
        document(BOX.replace('frame="0"', 'frame="5"'), BOX),
        document(BOX.replace('frame="0"', 'frame="100"')),
        document(BOX.replace('frame="0"', 'frame="-1"')),
        document(BOX.replace('xtl="1"', 'xtl="nan"')),
        document(BOX.replace('xtl="1"', 'xtl="1e2"')),
        document(BOX.replace('xtl="1"', "")),
        document(BOX.replace('outside="0"', 'outside="no"')),
        document("<polygon frame='0' points='1,1;9,1'/>"),
        document("<polygon frame='0' points='1,1;9,1;nan,9'/>"),
        document(f"<polygon frame='0' points='{';'.join(['1,1', '9,9'] * 101)}'/>"),
        "<annotations>" + f'<track label="face">{BOX}</track>' * 30_001 + "</annotations>",
        document(BOX.replace("/>", f' note="{"x" * (2 * TAG_MAX_BYTES)}"/>')),
        document(BOX, head=f"<!--{'x' * (2 * TAG_MAX_BYTES)}-->"),
        document(BOX, head=f"<meta>{'x' * 5000}</meta>"),
        document(BOX.replace("/>", f'><attribute name="text">{"x" * 5000}</attribute></box>')),
    ],
)
def test_what_is_not_the_format_is_refused_by_one_line(text: str) -> None:
    with pytest.raises(CvatRefused) as caught:
        read_cvat(text, plan_of(), TIMES, "account-8")
    assert caught.value.code == "cvat_invalid"
    assert "\n" not in caught.value.message


def test_a_box_outside_the_picture_or_inside_out_is_refused() -> None:
    outside = document(BOX.replace('xtl="1"', 'xtl="330"').replace('xbr="9"', 'xbr="340"'))
    with pytest.raises(RegionOutsidePicture):
        read_cvat(outside, plan_of(), TIMES, "account-8")
    with pytest.raises(InvalidInput):
        read_cvat(document(BOX.replace('xtl="1"', 'xtl="11"')), plan_of(), TIMES, "account-8")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("item-1 1", "item-2 1"),
        ("item-1 1", "item-1 7"),
        ("<size>100", "<size>99"),
        ("<width>320", "<width>640"),
    ],
)
def test_a_document_of_another_item_version_or_picture_is_refused(old: str, new: str) -> None:
    plan = plan_of()
    with pytest.raises(Conflict) as caught:
        read_cvat(write_cvat(plan, TIMES).replace(old, new), plan, TIMES, "account-8")
    assert caught.value.code == "plan_does_not_fit"


def test_a_rendition_of_other_frames_is_refused() -> None:
    with pytest.raises(Conflict):
        write_cvat(plan_of(), TIMES[:-1])
    with pytest.raises(EvidenceError):
        write_cvat(plan_of(sound_alone=True), TIMES)


def test_what_a_document_costs_is_bounded_by_its_shapes_and_not_by_its_length() -> None:
    count = 5_000
    box = (
        '<box frame="{}" keyframe="1" outside="0" xtl="1.25" ytl="1.00" xbr="9.00" ybr="9.50">'
        + '<attribute name="text">{}</attribute>'.format("x" * 400)
        + "</box>"
    )

    def pieces() -> Iterator[bytes]:
        yield b'<annotations><track label="face">'
        for number in range(count):
            yield box.format(number).encode()
            # Room that says nothing.
            yield b" " * 400
        yield b"</track></annotations>"

    tracemalloc.start()
    try:
        (drawn,) = parse(pieces()).tracks
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(drawn.keys), drawn.keys[7]) == (count, Key(7, 1, 1, 9, 10))
    # 4 MB of text; a key and its numbers take about 200 bytes.
    assert most < 500 * count
