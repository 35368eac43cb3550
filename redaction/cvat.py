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
What comes back is read by `redaction.cvat_xml`; both ways go track by track.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from evidence.errors import Conflict
from evidence.ids import new_id
from redaction.amend import next_version, refused, why
from redaction.cvat_xml import ATTRIBUTES, VERSION, WHOLE, Drawn, parse, refusal
from redaction.plan import CORNER_UNITS, TRACK_CLASSES, Key, RedactionPlan, State, Track, WholeFrameSpan
from redaction.plan_json import invalid_plan, read_word

SHAPES_AT_ONCE = 1_000
CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def write_cvat(plan: RedactionPlan, times: Sequence[int]) -> Iterator[str]:
    """The tracks of a plan, piece by piece.

    Args:
        plan: For pictures.
        times: When each frame of its rendition is shown, ascending.

    Raises:
        Conflict: The plan was made for other frames (``plan_does_not_fit``); before the first piece.
    """
    return _pieces(plan, times, require_fit(plan, times))


def _pieces(plan: RedactionPlan, times: Sequence[int], picture: tuple[int, int]) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>'
    version = Element("version")
    version.text = VERSION
    yield tostring(version, encoding="unicode") + tostring(_meta(plan, times, picture), encoding="unicode")
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
        text = CONTROL.sub(" ", entry.reason_text)
        said = {"id": entry.id, "shape": shape, "reason": str(entry.reason), "text": text,
                "state": str(entry.state)}  # fmt: skip
        # By the thousand: a track may be as long as the recording.
        yield f'<track id="{number}" label="{label}" source="manual">'
        for first in range(0, len(shown), SHAPES_AT_ONCE):
            some = Element("some")
            for key in shown[first : first + SHAPES_AT_ONCE]:
                _shape(some, shape, key, said)
            yield "".join(tostring(element, encoding="unicode") for element in some)
        yield "</track>"
    yield "</annotations>"


def _meta(plan: RedactionPlan, times: Sequence[int], picture: tuple[int, int]) -> Element:
    meta = Element("meta")
    task = SubElement(meta, "task")
    SubElement(task, "name").text = _task_name(plan)
    SubElement(task, "size").text = str(len(times))
    SubElement(task, "mode").text = "interpolation"
    size = SubElement(task, "original_size")
    SubElement(size, "width").text, SubElement(size, "height").text = map(str, picture)
    labels = SubElement(task, "labels")
    for name in (*TRACK_CLASSES, WHOLE):
        _label(labels, name)
    return meta


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


def read_cvat(
    pieces: Iterable[bytes], plan: RedactionPlan, times: Sequence[int], author: str
) -> RedactionPlan:
    """The next version of a plan, with its tracks as a drawing tool gave them back.

    Args:
        pieces: CVAT for video 1.1 XML, in order.
        plan: The version that was taken out, which must be the newest.
        times: When each frame of its rendition is shown, ascending.
        author: Account id of who brings it.

    Raises:
        CvatRefused: It is not the format, or more than is read (``cvat_invalid``).
        Conflict: It was drawn on another item, picture or version (``plan_does_not_fit``).
        InvalidInput: What was drawn makes no valid plan; `RegionOutsidePicture` for a box outside it.
    """
    picture = require_fit(plan, times)
    read = parse(pieces)
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
    ours = {
        drawn.said["id"]: drawn for drawn in parse(text.encode() for text in write_cvat(plan, times)).tracks
    }
    back: dict[str, Drawn] = {}
    for drawn in read.tracks:
        name = drawn.said.get("id") or str(new_id())
        if name in back:
            raise refusal("tracks", "each id once", name)
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
            raise refusal("state of a new track", "proposed or accepted", made.state)
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
        raise refusal(f"track {track.id}", "the label of a class", theirs.label)
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
        raise refusal("state kept_visible", "a text that says why", "none")
    return {**why(said), "state": state}


def _on_times(keys: Sequence[Key], times: Sequence[int]) -> tuple[Key, ...]:
    if keys[-1].pts >= len(times):
        raise refusal("frame", f"0 to {len(times) - 1}", keys[-1].pts)
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


def require_fit(plan: RedactionPlan, times: Sequence[int]) -> tuple[int, int]:
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
