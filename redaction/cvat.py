"""Tracks of a plan as CVAT for video 1.1 XML and back, for people who draw with another tool.

Out: every track, and every span of hidden frames as a track of the label ``whole_frame``. The label is the
class; the attributes ``id``, ``shape``, ``reason``, ``text`` and ``state`` say the rest. Frames are numbered
in order of showing. Back: what came back as it went out stays exactly as it is; what was moved becomes a move
under the name of whoever brings it; what is new is added; what is missing is refused, as if deleted. Sound
has no place in the format and stays as it is.

What the format cannot say, and what is therefore lost of a track that was changed outside: key frames at
times that no frame has move to the next frame, and corners are kept to a hundredth of a pixel. Boxes that
come back between pixels are rounded so that more is hidden. What was turned comes back as the upright
rectangle around it; where it turns on its way, around it in every position. Of polygons every listed frame
counts, as the tool's way from one to the next is its own.

What comes back is anybody's: no document types and entities, bounds on size, depth, tracks and shapes, and
numbers of a plain form (no NaN, no exponents).
"""

from __future__ import annotations

import io
import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Any
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from evidence.errors import Conflict, InvalidInput
from evidence.ids import new_id
from redaction.amend import next_version, refused, why
from redaction.plan import CORNER_UNITS, TRACK_CLASSES, Key, RedactionPlan, State, Track, WholeFrameSpan
from redaction.plan_json import KEYS_MAX, POINTS_MAX, SPANS_MAX, TRACKS_MAX, invalid_plan, read_word

VERSION = "1.1"
WHOLE = "whole_frame"
SIZE_MAX_BYTES = 16 << 20
DEPTH_MAX = 8
# Hidden frames travel as tracks.
ENTRIES_MAX = TRACKS_MAX + SPANS_MAX
ATTRIBUTES = ("id", "shape", "reason", "text", "state")
NUMBER = re.compile(r"-?\d{1,6}(\.\d{1,9})?")
CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
MILLIONTH = Decimal("0.000001")
COUNT = re.compile(r"\d{1,9}")


class CvatRefused(InvalidInput):
    """What came back is not CVAT for video 1.1 as this reads it."""

    default_code = "cvat_invalid"


def _refused(what: str, expected: str, found: object) -> CvatRefused:
    return CvatRefused(f"CVAT {what}: expected {expected}, found {str(found)[:80]}")


@dataclass(frozen=True)
class Drawn:
    """One track of the format; a key's ``pts`` is its frame number."""

    label: str
    shape: str
    said: Mapping[str, str]
    keys: tuple[Key, ...]


@dataclass
class _Reading:
    size: tuple[int, int] | None = None
    frame_count: int | None = None
    name: str = ""
    tracks: list[Drawn] = field(default_factory=list)
    shape_count: int = 0


def write_cvat(plan: RedactionPlan, times: Sequence[int]) -> str:
    """The tracks of a plan.

    Args:
        plan: For pictures.
        times: When each frame of its rendition is shown, ascending.

    Raises:
        Conflict: The plan was made for other frames (``plan_does_not_fit``).
    """
    picture = _require_fit(plan, times)
    root = Element("annotations")
    SubElement(root, "version").text = VERSION
    task = SubElement(SubElement(root, "meta"), "task")
    SubElement(task, "name").text = _task_name(plan)
    SubElement(task, "size").text = str(len(times))
    SubElement(task, "mode").text = "interpolation"
    size = SubElement(task, "original_size")
    SubElement(size, "width").text, SubElement(size, "height").text = map(str, picture)
    labels = SubElement(task, "labels")
    for name in (*TRACK_CLASSES, WHOLE):
        _label(labels, name)
    entries: list[tuple[str, str, Track | WholeFrameSpan, tuple[Key, ...]]] = [
        (track.track_class, track.shape, track, track.keys) for track in plan.tracks
    ]
    whole = Key(0, 0, 0, *picture)
    for span in plan.whole_frame_spans:
        ends = whole._replace(pts=span.from_pts), whole._replace(pts=span.to_pts)
        entries.append((WHOLE, "rectangle", span, ends))
    for number, (label, shape, entry, keys) in enumerate(entries):
        shown = list(_on_frames(keys, times))
        if not shown:
            # Between two frames: nothing of it is ever seen, and the format has no place for it.
            continue
        track = SubElement(root, "track", id=str(number), label=label, source="manual")
        text = CONTROL.sub(" ", entry.reason_text)
        said = {"id": entry.id, "shape": shape, "reason": str(entry.reason), "text": text,
                "state": str(entry.state)}  # fmt: skip
        for key in shown:
            _shape(track, shape, key, said)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(root, encoding="unicode")


def _task_name(plan: RedactionPlan) -> str:
    return f"liuhen {plan.item_id} {plan.number}"


def _label(labels: Element, name: str) -> None:
    label = SubElement(labels, "label")
    SubElement(label, "name").text = name
    attributes = SubElement(label, "attributes")
    for attribute in ATTRIBUTES:
        entry = SubElement(attributes, "attribute")
        SubElement(entry, "name").text = attribute
        SubElement(entry, "mutable").text = "False"
        SubElement(entry, "input_type").text = "text"
        SubElement(entry, "default_value").text = ""
        SubElement(entry, "values").text = ""


def _on_frames(keys: Sequence[Key], times: Sequence[int]) -> Iterator[Key]:
    """Keys with frame numbers for times, and an outside key behind the last frame that is hidden."""
    first, last = bisect_left(times, keys[0].pts), bisect_right(times, keys[-1].pts) - 1
    if first > last:
        return
    by_frame = {min(max(bisect_left(times, key.pts), first), last): key for key in keys}
    for frame, key in sorted(by_frame.items()):
        yield key._replace(pts=frame)
    if last + 1 < len(times) and not keys[-1].outside:
        yield keys[-1]._replace(pts=last + 1, outside=True)


def _shape(track: Element, shape: str, key: Key, said: Mapping[str, str]) -> None:
    common = {"frame": str(key.pts), "keyframe": "1", "outside": str(int(key.outside)), "occluded": "0",
              "z_order": "0"}  # fmt: skip
    if shape == "polygon":
        corners = ";".join(",".join(_hundredths(value) for value in point) for point in key.points)
        element = SubElement(track, "polygon", common | {"points": corners})
    elif shape == "ellipse":
        middle = {"cx": _hundredths((key.x0 + key.x1) * 50), "cy": _hundredths((key.y0 + key.y1) * 50)}
        half = {"rx": _hundredths((key.x1 - key.x0) * 50), "ry": _hundredths((key.y1 - key.y0) * 50)}
        element = SubElement(track, "ellipse", common | middle | half)
    else:
        edges = zip(("xtl", "ytl", "xbr", "ybr"), key.box, strict=True)
        element = SubElement(track, "box", common | {name: f"{edge}.00" for name, edge in edges})
    for name, value in said.items():
        SubElement(element, "attribute", name=name).text = value


def _hundredths(value: int) -> str:
    return f"{Decimal(value) / CORNER_UNITS:.2f}"


def read_cvat(text: str, plan: RedactionPlan, times: Sequence[int], author: str) -> RedactionPlan:
    """The next version of a plan, with its tracks as a drawing tool gave them back.

    Args:
        text: CVAT for video 1.1 XML.
        plan: The version that was taken out, which must be the newest.
        times: When each frame of its rendition is shown, ascending.
        author: Account id of who brings it.

    Raises:
        CvatRefused: It is not the format, or more than is read (``cvat_invalid``).
        Conflict: It was drawn on another item, picture or version (``plan_does_not_fit``).
        InvalidInput: What was drawn makes no valid plan; `RegionOutsidePicture` for a box outside it.
    """
    picture = _require_fit(plan, times)
    read = _parse(text)
    stated: dict[str, tuple[object, object]] = {
        "size": (read.size, picture),
        "frames": (read.frame_count, len(times)),
    }
    if re.fullmatch(r"liuhen \S+ \d+", read.name):
        stated["item and version"] = (read.name, _task_name(plan))
    for what, (found, expected) in stated.items():
        if found is not None and found != expected:
            raise Conflict(
                f"CVAT: expected {what} {expected}, found {found}; take the newest plan out again",
                code="plan_does_not_fit",
            )
    ours = {drawn.said["id"]: drawn for drawn in _parse(write_cvat(plan, times)).tracks}
    back: dict[str, Drawn] = {}
    for drawn in read.tracks:
        name = drawn.said.get("id") or str(new_id())
        if name in back:
            raise _refused("tracks", "each id once", name)
        back[name] = drawn
    tracks = [
        _track_back(track, ours.get(track.id), back.get(track.id), times, author) for track in plan.tracks
    ]
    spans = [
        _span_back(span, ours.get(span.id), back.get(span.id), times, author)
        for span in plan.whole_frame_spans
    ]
    known = {track.id for track in plan.tracks} | {span.id for span in plan.whole_frame_spans}
    for drawn in (drawn for name, drawn in back.items() if name not in known):
        made = _new_span(drawn, times, author) if drawn.label == WHOLE else _new_track(drawn, times, author)
        if not made.state.hides:
            # Nothing was hidden there that could be refused.
            raise _refused("state of a new track", "proposed or accepted", made.state)
        if isinstance(made, Track):
            tracks.append(made)
        else:
            spans.append(made)
    return next_version(plan, replace(plan, tracks=tuple(tracks), whole_frame_spans=tuple(spans)), author)


def _track_back(
    track: Track, ours: Drawn | None, theirs: Drawn | None, times: Sequence[int], author: str
) -> Track:
    if ours is None or ours == theirs:
        return track
    if theirs is None:
        return track if track.state is State.REFUSED else replace(track, **refused(author))
    if theirs.label == WHOLE:
        raise _refused(f"track {track.id}", "the label of a class", theirs.label)
    drawn = _new_track(theirs, times, author)
    if (ours.shape, ours.keys) == (theirs.shape, theirs.keys):
        # What it hides was left alone, so its own times stay.
        drawn = replace(drawn, shape=track.shape, keys=track.keys)
    return replace(drawn, id=track.id, lineage=track.lineage, score_permille=track.score_permille)


def _span_back(
    span: WholeFrameSpan, ours: Drawn | None, theirs: Drawn | None, times: Sequence[int], author: str
) -> WholeFrameSpan:
    if ours is None or ours == theirs:
        return span
    if theirs is None:
        return span if span.state is State.REFUSED else replace(span, **refused(author))
    drawn = _new_span(theirs, times, author)
    if ours.keys == theirs.keys:
        drawn = replace(drawn, from_pts=span.from_pts, to_pts=span.to_pts)
    return replace(drawn, id=span.id)


def _new_track(drawn: Drawn, times: Sequence[int], author: str) -> Track:
    keys = _on_times(drawn.keys, times)
    return Track(
        id=str(new_id()), track_class=drawn.label, origin="account", by=author, shape=drawn.shape, keys=keys,
        **_said(drawn),
    )  # fmt: skip


def _new_span(drawn: Drawn, times: Sequence[int], author: str) -> WholeFrameSpan:
    keys = _on_times(drawn.keys, times)
    return WholeFrameSpan(str(new_id()), keys[0].pts, keys[-1].pts, "account", author, **_said(drawn))


def _said(drawn: Drawn) -> dict[str, Any]:
    said = {"reason": drawn.said.get("reason") or "privacy", "text": drawn.said.get("text") or None}
    state = read_word(drawn.said.get("state") or "accepted", "state", State)
    if state is State.KEPT_VISIBLE and said["text"] is None:
        raise _refused("state kept_visible", "a text that says why", "none")
    return {**why(said), "state": state}


def _on_times(keys: Sequence[Key], times: Sequence[int]) -> tuple[Key, ...]:
    if keys[-1].pts >= len(times):
        raise _refused("frame", f"0 to {len(times) - 1}", keys[-1].pts)
    timed = [key._replace(pts=times[key.pts]) for key in keys]
    if timed[-1].outside and timed[1:]:
        # It is over: the box stays until the frame before.
        over = timed.pop()
        until = times[bisect_left(times, over.pts) - 1]
        if until > timed[-1].pts:
            timed.append(timed[-1]._replace(pts=until))
        return tuple(timed)
    if not timed[-1].outside and timed[-1].pts < times[-1]:
        # There a track that is not ended lasts.
        timed.append(timed[-1]._replace(pts=times[-1]))
    return tuple(timed)


def _require_fit(plan: RedactionPlan, times: Sequence[int]) -> tuple[int, int]:
    """Width and height of the plan's picture."""
    picture = plan.picture
    if picture is None:
        raise invalid_plan("plan", "one for pictures", "one for sound alone")
    found = (len(times), times[0] if times else None, times[-1] if times else None)
    if found != (picture.frame_count, picture.first_pts, picture.last_pts):
        raise Conflict(
            f"plan and rendition: expected {picture.frame_count} frames from {picture.first_pts} to "
            f"{picture.last_pts}, found {found}; make a plan for this rendition",
            code="plan_does_not_fit",
        )
    return picture.width_px, picture.height_px


def _parse(text: str) -> _Reading:
    data = text.encode("utf-8", "surrogatepass")
    if len(data) > SIZE_MAX_BYTES:
        raise _refused("document", f"at most {SIZE_MAX_BYTES} bytes", len(data))
    reading = _Reading()
    path: list[str] = []
    try:
        for event, element in iterparse(io.BytesIO(data), events=("start", "end"), forbid_dtd=True):
            if event == "start":
                path.append(element.tag)
                if len(path) > DEPTH_MAX or path[0] != "annotations":
                    raise _refused("document", f"annotations, at most {DEPTH_MAX} deep", "/".join(path))
                continue
            _note(reading, "/".join(path), element)
            path.pop()
    except DefusedXmlException as error:
        raise _refused("document", "no document type and no entities", type(error).__name__) from error
    except (ParseError, ValueError) as error:
        raise _refused("document", "well-formed XML", error) from error
    return reading


def _note(reading: _Reading, path: str, element: Element) -> None:
    text = (element.text or "").strip()
    if path == "annotations/version" and text != VERSION:
        raise _refused("version", VERSION, text)
    if path == "annotations/image":
        raise _refused("document", "tracks of a video task", "images of another task")
    if path.endswith("/task/name"):
        reading.name = text
    elif path.endswith("/task/size"):
        reading.frame_count = _count(text, "size")
    elif path.endswith("/original_size"):
        width, height = (element.findtext(name) or "" for name in ("width", "height"))
        reading.size = _count(width, "width"), _count(height, "height")
    elif path == "annotations/track":
        if len(reading.tracks) >= ENTRIES_MAX:
            raise _refused("tracks", f"at most {ENTRIES_MAX}", "more")
        reading.shape_count += len(element)
        if reading.shape_count > KEYS_MAX:
            raise _refused("shapes", f"at most {KEYS_MAX}", "more")
        reading.tracks.append(_drawn(element))
        element.clear()


def _drawn(track: Element) -> Drawn:
    label = track.get("label", "")
    if label not in {*TRACK_CLASSES, WHOLE}:
        raise _refused("label", f"one of {', '.join((*TRACK_CLASSES, WHOLE))}", label)
    kinds = {shape.tag for shape in track}
    if len(kinds) != 1 or not kinds <= {"box", "polygon", "ellipse"}:
        raise _refused(
            "track", "boxes, polygons or ellipses, of one kind", ", ".join(sorted(map(str, kinds)))
        )
    (kind,) = kinds
    said = {attribute.get("name", ""): (attribute.text or "").strip() for attribute in track[0]}
    shape = kind
    if kind == "box":
        shape = "all_but" if said.get("shape") == "all_but" else "rectangle"
    listed = [one for one in track if kind == "polygon" or one.get("keyframe") != "0"]
    turns = {_numbers([one.get("rotation") or "0"], 1)[0] % 360 for one in listed}
    if turns - {Decimal(0)}:
        if shape not in {"rectangle", "ellipse"}:
            raise _refused(f"rotation of {shape}", "0", ", ".join(map(str, sorted(turns))))
        shape = "rectangle"
    # Where it turns on the way, whatever way it is turned.
    turn = None if len(turns) > 1 else float(*turns)
    keys: list[Key] = []
    for element in listed:
        key = _key(element, shape, turn)
        if keys and key.pts <= keys[-1].pts:
            raise _refused("frames of a track", "ascending", f"{key.pts} after {keys[-1].pts}")
        keys.append(key)
    if not keys:
        raise _refused("track", "a key frame", "none")
    wanted = {name: said[name] for name in ATTRIBUTES if name != "shape" and said.get(name)}
    return Drawn(label, shape, wanted, tuple(keys))


def _key(element: Element, shape: str, turn: float | None) -> Key:
    frame, outside = _count(element.get("frame", ""), "frame"), element.get("outside", "0")
    if outside not in {"0", "1"}:
        raise _refused("outside", "0 or 1", outside)
    points: tuple[tuple[int, int], ...] = ()
    if shape == "polygon":
        corners = element.get("points", "").split(";")
        if not 3 <= len(corners) <= POINTS_MAX:
            raise _refused("points", f"3 to {POINTS_MAX}", len(corners))
        exact = [_numbers(corner.split(","), 2) for corner in corners]
        points = tuple((_to_hundredths(x), _to_hundredths(y)) for x, y in exact)
        across = [Decimal(x) / CORNER_UNITS for x, _ in points]
        down = [Decimal(y) / CORNER_UNITS for _, y in points]
        edges = [min(across), min(down), max(across), max(down)]
    elif element.tag == "ellipse":
        cx, cy, rx, ry = _numbers([element.get(name, "") for name in ("cx", "cy", "rx", "ry")], 4)
        edges = [cx - rx, cy - ry, cx + rx, cy + ry]
    else:
        edges = _numbers([element.get(name, "") for name in ("xtl", "ytl", "xbr", "ybr")], 4)
    if turn != 0:
        edges = _turned(edges, turn)
    low, high = (ROUND_CEILING, ROUND_FLOOR) if shape == "all_but" else (ROUND_FLOOR, ROUND_CEILING)
    x0, y0 = (int(edge.to_integral_value(low)) for edge in edges[:2])
    x1, y1 = (int(edge.to_integral_value(high)) for edge in edges[2:])
    return Key(frame, x0, y0, x1, y1, outside == "1", points)


def _turned(edges: Sequence[Decimal], turn: float | None) -> list[Decimal]:
    """The upright box around a box that is turned about its middle.

    Args:
        edges: Left, top, right, bottom.
        turn: Degrees; None for the box around it however it is turned.
    """
    x0, y0, x1, y1 = edges
    width, height = float(abs(x1 - x0)), float(abs(y1 - y0))
    if turn is None:
        across = down = math.hypot(width, height)
    else:
        cosine, sine = abs(math.cos(math.radians(turn))), abs(math.sin(math.radians(turn)))
        across, down = width * cosine + height * sine, width * sine + height * cosine
    # To a millionth, so that what is exact stays so when it is rounded outward.
    half_across, half_down = (Decimal(round(side / 2, 6)).quantize(MILLIONTH) for side in (across, down))
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return [x - half_across, y - half_down, x + half_across, y + half_down]


def _to_hundredths(value: Decimal) -> int:
    return int((value * CORNER_UNITS).to_integral_value(ROUND_HALF_EVEN))


def _numbers(texts: Sequence[str], count: int) -> list[Decimal]:
    if len(texts) != count or any(NUMBER.fullmatch(text) is None for text in texts):
        raise _refused("coordinates", f"{count} plain decimal numbers", ",".join(texts))
    return [Decimal(text) for text in texts]


def _count(text: str, what: str) -> int:
    if COUNT.fullmatch(text) is None:
        raise _refused(what, "a whole number", text)
    return int(text)
