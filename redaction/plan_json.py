"""Read a redaction plan from plain data, with everything about it checked.

A plan reaches the renderer from a file, a request or a database row. Each place can hold anything, so
this module trusts none of it: types, limits, order, and that every box meets the picture.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields
from fractions import Fraction
from typing import Any, TypeVar

from evidence.canonical import MAX_SAFE_INTEGER
from evidence.errors import InvalidInput
from evidence.masks import Reason
from redaction.geometry import RegionOutsidePicture, around, clip, is_empty
from redaction.plan import (
    CORNER_UNITS,
    FACES_ONLY,
    OPTIONAL,
    ORIGINS,
    SHAPES,
    SOUND_KINDS,
    TRACK_CLASSES,
    TREATMENTS,
    VERSION,
    DoubtfulSpan,
    Key,
    MutedSpan,
    Picture,
    RedactionPlan,
    State,
    Track,
    WholeFrameSpan,
)

TRACKS_MAX = 20_000
KEYS_MAX = 2_000_000
SPANS_MAX = 10_000
COORDINATE_MAX = 1 << 17
TEXT_MAX = 200
POINTS_MAX = 200
LINEAGE_MAX = 1_000


def plan_from_json(value: object) -> RedactionPlan:
    """A plan from plain data, with everything about it checked.

    Raises:
        InvalidInput: Unknown or missing field, wrong type, a limit passed, keys out of order, a span that
            ends before it starts; `RegionOutsidePicture` for a box that never meets the picture.
    """
    plain = _fields(value, "plan", {f.name for f in fields(RedactionPlan)})
    if plain["version"] != VERSION:
        raise invalid_plan("plan version", VERSION, repr(plain["version"])[:40])
    picture = None if plain["picture"] is None else _picture(plain["picture"])
    parent = plain["parent"]
    plan = RedactionPlan(
        item_id=read_text(plain["item_id"], "item_id"),
        number=_whole(plain["number"], "number", low=1),
        parent=None if parent is None else _whole(parent, "parent", low=1),
        author=read_text(plain["author"], "author"),
        coverage=_coverage(plain["coverage"]),
        models={
            read_text(k, "model"): read_text(v, "model digest") for k, v in _map(plain["models"], "models")
        },
        parameters={
            read_text(k, "parameter"): _whole(v, k) for k, v in _map(plain["parameters"], "parameters")
        },
        picture=picture,
        tracks=tuple(_track(t, f"track {i}") for i, t in _list(plain["tracks"], "tracks", TRACKS_MAX)),
        muted_spans=tuple(
            _muted_span(s, f"muted span {i}")
            for i, s in _list(plain["muted_spans"], "muted spans", SPANS_MAX)
        ),
        whole_frame_spans=tuple(
            _whole_frame_span(s, f"whole-frame span {i}")
            for i, s in _list(plain["whole_frame_spans"], "whole-frame spans", SPANS_MAX)
        ),
        doubtful=tuple(
            _doubtful(s, f"doubtful span {i}")
            for i, s in _list(plain["doubtful"], "doubtful spans", KEYS_MAX)
        ),
    )
    _check_together(plan)
    return plan


def _check_together(plan: RedactionPlan) -> None:
    """What one entry alone cannot tell."""
    if plan.parent is not None and plan.parent >= plan.number:
        raise invalid_plan("plan parent", f"a version before {plan.number}", f"{plan.parent}")
    ids = [track.id for track in plan.tracks]
    ids += [span.id for span in plan.muted_spans]
    ids += [span.id for span in plan.whole_frame_spans]
    if len(set(ids)) != len(ids):
        raise invalid_plan("plan", "each track and span under its own id", "an id twice")
    if sum(len(track.keys) for track in plan.tracks) > KEYS_MAX:
        raise invalid_plan("plan", f"at most {KEYS_MAX} keys", "more")
    if plan.picture is None:
        if plan.tracks or plan.whole_frame_spans:
            raise invalid_plan("plan for sound alone", "no tracks and no whole-frame spans", "some")
        return
    size = {"width_px": plan.picture.width_px, "height_px": plan.picture.height_px}
    for number, track in enumerate(plan.tracks):
        for key in track.keys:
            if not key.outside and is_empty(clip(key.box, **size)):
                raise RegionOutsidePicture(
                    f"track {number} at pts {key.pts}: expected a box that meets the "
                    f"{plan.picture.width_px}x{plan.picture.height_px} picture, found {list(key.box)}; "
                    "use pixels of the source picture, or set the key's outside flag",
                    box=list(key.box),
                )


def _track(value: object, where: str) -> Track:
    names = {f.name for f in fields(Track)} - {"track_class"} | {"class"}
    plain = _fields(value, where, names)
    shape = _one_of(plain["shape"], f"{where} shape", SHAPES)
    return Track(
        id=read_text(plain["id"], f"{where} id"),
        track_class=_one_of(plain["class"], f"{where} class", TRACK_CLASSES),
        shape=shape,
        keys=read_keys(plain["keys"], where, shape),
        score_permille=_whole(plain["score_permille"], f"{where} score_permille", low=0, high=1000),
        lineage=tuple(
            read_text(name, f"{where} lineage")
            for _, name in _list(plain.get("lineage", []), f"{where} lineage", LINEAGE_MAX)
        ),
        **_authorship(plain, where),
    )


def read_keys(value: object, where: str, shape: str = "rectangle") -> tuple[Key, ...]:
    """The keys of one track, in order, each a box with pixels; of a polygon, with its corners."""
    keys = []
    form = "[pts, x0, y0, x1, y1, outside" + (", [[x, y], …]]" if shape == "polygon" else "]")
    length = 7 if shape == "polygon" else 6
    for _, entry in _list(value, f"{where} keys", KEYS_MAX):
        if not isinstance(entry, list | tuple) or len(entry) != length:
            raise invalid_plan(f"{where} key", form, repr(entry)[:80])
        pts = _whole(entry[0], f"{where} key pts")
        edges = [_coordinate(edge, f"{where} key edge") for edge in entry[1:5]]
        if entry[5] not in (0, 1):
            raise invalid_plan(f"{where} key outside", "0 or 1", repr(entry[5])[:40])
        x0, y0, x1, y1 = edges
        points = _points(entry[6], where) if shape == "polygon" else ()
        key = Key(pts, x0, y0, x1, y1, bool(entry[5]), points)
        if key.x1 <= key.x0 or key.y1 <= key.y0:
            raise invalid_plan(f"{where} key", "x0 < x1 and y0 < y1", f"{list(key.box)}")
        corners = [(Fraction(x, CORNER_UNITS), Fraction(y, CORNER_UNITS)) for x, y in points]
        if points and around(corners) != key.box:
            raise invalid_plan(f"{where} key", f"the box around its corners, {list(around(corners))}",
                               f"{list(key.box)}")  # fmt: skip
        keys.append(key)
    if not keys:
        raise invalid_plan(f"{where} keys", "at least one", "none")
    for before, after in itertools.pairwise(keys):
        if after.pts <= before.pts:
            raise invalid_plan(f"{where} keys", "ascending pts", f"{after.pts} after {before.pts}")
    return tuple(keys)


def _coordinate(value: object, where: str) -> int:
    return _whole(value, where, low=-COORDINATE_MAX, high=COORDINATE_MAX)


def _points(value: object, where: str) -> tuple[tuple[int, int], ...]:
    points = []
    for _, entry in _list(value, f"{where} corners", POINTS_MAX):
        if not isinstance(entry, list | tuple) or len(entry) != 2:
            raise invalid_plan(f"{where} corner", "[x, y]", repr(entry)[:40])
        most = COORDINATE_MAX * CORNER_UNITS
        x, y = (_whole(value, f"{where} corner", low=-most, high=most) for value in entry)
        points.append((x, y))
    if len(points) < 3:
        raise invalid_plan(f"{where} corners", f"3 to {POINTS_MAX}", f"{len(points)}")
    return tuple(points)


def _muted_span(value: object, where: str) -> MutedSpan:
    plain = _fields(value, where, {f.name for f in fields(MutedSpan)})
    from_us, to_us = _whole(plain["from_us"], f"{where} from_us"), _whole(plain["to_us"], f"{where} to_us")
    if to_us <= from_us:
        raise invalid_plan(where, "to_us after from_us", f"{from_us} to {to_us}")
    stream = plain["stream"]
    return MutedSpan(
        id=read_text(plain["id"], f"{where} id"), from_us=from_us, to_us=to_us,
        stream=None if stream is None else _whole(stream, f"{where} stream", low=0, high=255),
        kind=_one_of(plain["kind"], f"{where} kind", SOUND_KINDS), **_authorship(plain, where),
    )  # fmt: skip


def _whole_frame_span(value: object, where: str) -> WholeFrameSpan:
    plain = _fields(value, where, {f.name for f in fields(WholeFrameSpan)})
    from_pts, to_pts = _pts_span(plain, where)
    return WholeFrameSpan(
        id=read_text(plain["id"], f"{where} id"),
        from_pts=from_pts,
        to_pts=to_pts,
        **_authorship(plain, where),
    )


def _doubtful(value: object, where: str) -> DoubtfulSpan:
    plain = _fields(value, where, {f.name for f in fields(DoubtfulSpan)})
    from_pts, to_pts = _pts_span(plain, where)
    track = plain["track"]
    return DoubtfulSpan(
        None if track is None else read_text(track, f"{where} track"),
        from_pts,
        to_pts,
        read_text(plain["why"], f"{where} why"),
    )


def _pts_span(plain: Mapping[str, Any], where: str) -> tuple[int, int]:
    from_pts, to_pts = (
        _whole(plain["from_pts"], f"{where} from_pts"),
        _whole(plain["to_pts"], f"{where} to_pts"),
    )
    if to_pts < from_pts:
        raise invalid_plan(where, "to_pts not before from_pts", f"{from_pts} to {to_pts}")
    return from_pts, to_pts


def _authorship(plain: Mapping[str, Any], where: str) -> dict[str, Any]:
    return {
        "origin": _one_of(plain["origin"], f"{where} origin", ORIGINS),
        "by": read_text(plain["by"], f"{where} by"),
        "reason": read_word(plain["reason"], f"{where} reason", Reason),
        "state": read_word(plain["state"], f"{where} state", State),
        "reason_text": read_text(plain["reason_text"], f"{where} reason_text")
        if "reason_text" in plain
        else "",
    }


def _picture(value: object) -> Picture:
    plain = _fields(value, "picture", {f.name for f in fields(Picture)})
    base = plain["time_base"]
    if not isinstance(base, list | tuple) or len(base) != 2:
        raise invalid_plan("picture time_base", "[numerator, denominator]", repr(base)[:40])
    picture = Picture(
        width_px=_whole(plain["width_px"], "picture width_px", low=2, high=COORDINATE_MAX),
        height_px=_whole(plain["height_px"], "picture height_px", low=2, high=COORDINATE_MAX),
        time_base=(_whole(base[0], "time_base", low=1), _whole(base[1], "time_base", low=1)),
        frame_count=_whole(plain["frame_count"], "picture frame_count", low=1),
        first_pts=_whole(plain["first_pts"], "picture first_pts"),
        last_pts=_whole(plain["last_pts"], "picture last_pts"),
    )
    if picture.width_px % 2 or picture.height_px % 2:
        raise invalid_plan("picture size", "even sides", f"{picture.width_px}x{picture.height_px}")
    return picture


def _coverage(value: object) -> dict[str, str]:
    plain = _fields(value, "coverage", set(FACES_ONLY))
    return {name: _one_of(plain[name], f"coverage {name}", TREATMENTS) for name in FACES_ONLY}


def invalid_plan(where: str, expected: str, found: str) -> InvalidInput:
    """The error for anything wrong with a plan or a change to one."""
    return InvalidInput(f"{where}: expected {expected}, found {found}", code="plan_invalid")


def _fields(value: object, where: str, names: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or set(value) - OPTIONAL != names - OPTIONAL or set(value) - names:
        found = sorted(str(name) for name in value) if isinstance(value, Mapping) else type(value).__name__
        raise invalid_plan(where, f"an object with exactly {sorted(names)}", f"{found}"[:300])
    return value


def _map(value: object, where: str) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping) or len(value) > 64:
        raise invalid_plan(where, "an object of at most 64 entries", type(value).__name__)
    return list(value.items())


def _list(value: object, where: str, most: int) -> list[tuple[int, Any]]:
    if not isinstance(value, list | tuple):
        raise invalid_plan(where, "a list", type(value).__name__)
    if len(value) > most:
        raise invalid_plan(where, f"at most {most}", f"{len(value)}")
    return list(enumerate(value))


def _whole(value: object, where: str, *, low: int = -MAX_SAFE_INTEGER, high: int = MAX_SAFE_INTEGER) -> int:
    # A boolean is an int in Python and no number in a plan; NaN and fractions are floats.
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise invalid_plan(where, f"a whole number from {low} to {high}", repr(value)[:40])
    return value


def read_text(value: object, where: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_MAX:
        raise invalid_plan(where, f"1 to {TEXT_MAX} characters", repr(value)[:40])
    return value


def _one_of(value: object, where: str, words: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in words:
        raise invalid_plan(where, f"one of {', '.join(words)}", repr(value)[:40])
    return value


W = TypeVar("W", Reason, State)


def read_word(value: object, where: str, kind: type[W]) -> W:
    """A reason or a state."""
    return kind(_one_of(value, where, [word.value for word in kind]))
