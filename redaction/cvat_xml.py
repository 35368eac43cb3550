"""CVAT for video 1.1 XML as it is read: piece by piece, in memory bounded by what it says, not by its length.

What is read is anybody's: no document types and entities; bounds on depth, on one tag, on tracks, shapes and
corners; numbers of a plain form (no NaN, no exponents). Of shapes their numbers are kept and no text.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import XMLParser

from evidence.errors import InvalidInput
from redaction.plan import CORNER_UNITS, TRACK_CLASSES, Key
from redaction.plan_json import KEYS_MAX, POINTS_MAX, SPANS_MAX, TRACKS_MAX

VERSION = "1.1"
WHOLE = "whole_frame"
ATTRIBUTES = ("id", "shape", "reason", "text", "state")
DEPTH_MAX = 8
TAG_MAX_BYTES = 1 << 20
TEXT_MAX_CHARS = 4_096
# Hidden frames travel as tracks.
ENTRIES_MAX = TRACKS_MAX + SPANS_MAX
CORNERS_MAX = 2_000_000
NUMBER = re.compile(r"-?\d{1,6}(\.\d{1,9})?")
COUNT = re.compile(r"\d{1,9}")
# Numbers are whole numbers of this part of a pixel, or degree.
UNITS = 10**9
EDGES = {"box": ("xtl", "ytl", "xbr", "ybr"), "ellipse": ("cx", "cy", "rx", "ry"), "polygon": ()}
MILLIONTH = Decimal("0.000001")


class CvatRefused(InvalidInput):
    """What came back is not CVAT for video 1.1 as this reads it."""

    default_code = "cvat_invalid"


def refusal(what: str, expected: str, found: object) -> CvatRefused:
    """The one line that says what is wrong with a document."""
    return CvatRefused(f"CVAT {what}: expected {expected}, found {str(found)[:80]}")


@dataclass(frozen=True)
class Drawn:
    """One track of the format; a key's ``pts`` is its frame number."""

    label: str
    shape: str
    said: Mapping[str, str]
    keys: tuple[Key, ...]


@dataclass
class Reading:
    """What a document says."""

    size: tuple[int, int] | None = None
    frame_count: int | None = None
    name: str = ""
    tracks: list[Drawn] = field(default_factory=list)


def parse(pieces: Iterable[bytes]) -> Reading:
    """Read a document.

    Args:
        pieces: Its bytes, in order.

    Raises:
        CvatRefused: It is not the format, or more than is read (``cvat_invalid``).
    """
    document = _Document()
    parser = XMLParser(target=document, forbid_dtd=True)
    try:
        for piece in pieces:
            parser.feed(piece)
            document.unanswered_bytes += len(piece)
            if document.unanswered_bytes > TAG_MAX_BYTES + len(piece):
                raise refusal("tag", f"at most {TAG_MAX_BYTES} bytes", "more")
        parser.close()
    except DefusedXmlException as error:
        raise refusal("document", "no document type and no entities", type(error).__name__) from error
    except (ParseError, ValueError) as error:
        raise refusal("document", "well-formed XML", error) from error
    return document.reading


@dataclass
class _Shapes:
    """The shapes of one track, as numbers: 56 bytes each, and the corners of polygons."""

    label: str
    kind: str = ""
    said: dict[str, str] = field(default_factory=dict)
    count: int = 0
    """Of all; those between key frames are not kept."""
    frames: array[int] = field(default_factory=lambda: array("q"))
    outside: bytearray = field(default_factory=bytearray)
    numbers: array[int] = field(default_factory=lambda: array("q"))
    corners: list[tuple[tuple[int, int], ...]] = field(default_factory=list)
    turns: set[int] = field(default_factory=set)
    """Two at most: one, or several."""


class _Document:
    """Hears of tags and text as the parser meets them."""

    def __init__(self) -> None:
        self.reading = Reading()
        self.unanswered_bytes = 0
        self._path: list[str] = []
        self._text: list[str] | None = None
        self._attribute = ""
        self._track: _Shapes | None = None
        self._edges = [0, 0]
        self._shape_count = self._corner_count = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self.unanswered_bytes = 0
        self._path.append(tag)
        path = self._path
        if len(path) > DEPTH_MAX or path[0] != "annotations":
            raise refusal("document", f"annotations, at most {DEPTH_MAX} deep", "/".join(path))
        # What is not asked for is not kept.
        self._text = None
        if path[1:] == ["image"]:
            raise refusal("document", "tracks of a video task", "images of another task")
        if self._track is None:
            if path[1:] == ["track"]:
                self._begin_track(attributes.get("label", ""))
            else:
                self._text = []
        elif len(path) == 3:
            self._shape(self._track, tag, attributes)
        elif len(path) == 4 and tag == "attribute" and self._track.count == 1:
            self._attribute, self._text = attributes.get("name", ""), []

    def data(self, text: str) -> None:
        self.unanswered_bytes = 0
        if self._text is not None:
            self._text.append(text)
            if sum(map(len, self._text)) > TEXT_MAX_CHARS:
                if not "".join(self._text).strip():
                    # Room between two tags.
                    self._text = [""]
                    return
                raise refusal("text", f"at most {TEXT_MAX_CHARS} characters", "more")

    def end(self, _tag: str) -> None:
        self.unanswered_bytes = 0
        text = "".join(self._text or ()).strip()
        path = self._path
        if self._track is None:
            self._note(path, text)
        elif len(path) == 4 and self._text is not None:
            self._track.said[self._attribute] = text
        elif len(path) == 2:
            self.reading.tracks.append(_drawn(self._track))
            self._track = None
        self._text = None
        path.pop()

    def close(self) -> None:
        """Nothing is made at the end."""

    def _note(self, path: Sequence[str], text: str) -> None:
        match path:
            case ["annotations", "version"] if text != VERSION:
                raise refusal("version", VERSION, text)
            case [*_, "task", "name"]:
                self.reading.name = text
            case [*_, "task", "size"]:
                self.reading.frame_count = _count(text, "size")
            case [*_, "original_size", ("width" | "height") as name]:
                self._edges[name == "height"] = _count(text, name)
            case [*_, "original_size"]:
                self.reading.size = self._edges[0], self._edges[1]

    def _begin_track(self, label: str) -> None:
        if len(self.reading.tracks) >= ENTRIES_MAX:
            raise refusal("tracks", f"at most {ENTRIES_MAX}", "more")
        if label not in {*TRACK_CLASSES, WHOLE}:
            raise refusal("label", f"one of {', '.join((*TRACK_CLASSES, WHOLE))}", label)
        self._track = _Shapes(label)

    def _shape(self, track: _Shapes, kind: str, said: Mapping[str, str]) -> None:
        if kind not in EDGES or track.kind not in {"", kind}:
            raise refusal("track", "boxes, polygons or ellipses, of one kind", kind)
        track.kind = kind
        track.count += 1
        self._shape_count += 1
        if self._shape_count > KEYS_MAX:
            raise refusal("shapes", f"at most {KEYS_MAX}", "more")
        if kind != "polygon" and said.get("keyframe") == "0":
            return
        frame, outside = _count(said.get("frame", ""), "frame"), said.get("outside", "0")
        if outside not in {"0", "1"}:
            raise refusal("outside", "0 or 1", outside)
        if track.frames and frame <= track.frames[-1]:
            raise refusal("frames of a track", "ascending", f"{frame} after {track.frames[-1]}")
        track.frames.append(frame)
        track.outside.append(outside == "1")
        if len(track.turns) < 2:
            track.turns.add(_numbers([said.get("rotation") or "0"], 1)[0] % (360 * UNITS))
        track.numbers.extend(_numbers([said.get(name, "") for name in EDGES[kind]], len(EDGES[kind])))
        if kind == "polygon":
            corners = said.get("points", "").split(";")
            if not 3 <= len(corners) <= POINTS_MAX:
                raise refusal("points", f"3 to {POINTS_MAX}", len(corners))
            self._corner_count += len(corners)
            if self._corner_count > CORNERS_MAX:
                raise refusal("corners", f"at most {CORNERS_MAX}", "more")
            exact = [_numbers(corner.split(","), 2) for corner in corners]
            track.corners.append(tuple((_hundredths(x), _hundredths(y)) for x, y in exact))


def _drawn(track: _Shapes) -> Drawn:
    if not track.frames:
        raise refusal("track", "a key frame", track.kind or "none")
    shape = track.kind
    if shape == "box":
        shape = "all_but" if track.said.get("shape") == "all_but" else "rectangle"
    turn: float | None = 0.0
    if track.turns != {0}:
        if shape not in {"rectangle", "ellipse"}:
            raise refusal(f"rotation of {shape}", "0", ", ".join(str(t / UNITS) for t in sorted(track.turns)))
        shape = "rectangle"
        # Where it turns on the way, whatever way it is turned.
        turn = None if len(track.turns) > 1 else next(iter(track.turns)) / UNITS
    keys = tuple(
        Key(frame, *_box(track, at, shape, turn), bool(track.outside[at]), *track.corners[at : at + 1])
        for at, frame in enumerate(track.frames)
    )
    wanted = {name: track.said[name] for name in ATTRIBUTES if name != "shape" and track.said.get(name)}
    return Drawn(track.label, shape, wanted, keys)


def _box(track: _Shapes, at: int, shape: str, turn: float | None) -> tuple[int, int, int, int]:
    """The box of a shape in whole pixels, rounded so that more is hidden."""
    unit = UNITS
    if track.corners:
        across, down = zip(*track.corners[at], strict=True)
        edges, unit = [min(across), min(down), max(across), max(down)], CORNER_UNITS
    else:
        edges = list(track.numbers[4 * at : 4 * at + 4])
        if track.kind == "ellipse":
            cx, cy, rx, ry = edges
            edges = [cx - rx, cy - ry, cx + rx, cy + ry]
        if turn != 0:
            edges = _turned(edges, turn)
    x0, y0, x1, y1 = edges
    if shape == "all_but":
        return -(-x0 // unit), -(-y0 // unit), x1 // unit, y1 // unit
    return x0 // unit, y0 // unit, -(-x1 // unit), -(-y1 // unit)


def _turned(edges: Sequence[int], turn: float | None) -> list[int]:
    """The upright box around a box that is turned about its middle.

    Args:
        edges: Left, top, right, bottom.
        turn: Degrees; None for the box around it however it is turned.
    """
    x0, y0, x1, y1 = (Decimal(edge) / UNITS for edge in edges)
    width, height = float(abs(x1 - x0)), float(abs(y1 - y0))
    if turn is None:
        across = down = math.hypot(width, height)
    else:
        cosine, sine = abs(math.cos(math.radians(turn))), abs(math.sin(math.radians(turn)))
        across, down = width * cosine + height * sine, width * sine + height * cosine
    # To a millionth, so that what is exact stays so when it is rounded outward.
    half_across, half_down = (Decimal(round(side / 2, 6)).quantize(MILLIONTH) for side in (across, down))
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    found = x - half_across, y - half_down, x + half_across, y + half_down
    return [int(edge * UNITS) for edge in found]


def _hundredths(value: int) -> int:
    """To the nearest hundredth of a pixel, a half to the even one."""
    whole, rest = divmod(value * CORNER_UNITS, UNITS)
    return whole + (2 * rest > UNITS or (2 * rest == UNITS and whole % 2))


def _numbers(texts: Sequence[str], count: int) -> list[int]:
    if len(texts) != count or any(NUMBER.fullmatch(text) is None for text in texts):
        raise refusal("coordinates", f"{count} plain decimal numbers", ",".join(texts))
    parts = (text.partition(".") for text in texts)
    return [int(whole + fraction.ljust(9, "0")) for whole, _, fraction in parts]


def _count(text: str, what: str) -> int:
    if COUNT.fullmatch(text) is None:
        raise refusal(what, "a whole number", text)
    return int(text)
