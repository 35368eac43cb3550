"""What is hidden in one item, by whom and why: versioned, reviewed, never edited in place.

A plan is data. Version 1 is what the detectors proposed; every change makes a new version that names
the one it came from, and the old one stays. Nothing is taken out of a plan: what a person does not
want is *refused* and kept. A plan holds whole numbers and words only, so `RedactionPlan.to_bytes`
gives one text for one plan, and its digest names the plan.

Pixels are those of the source rendition as coded, before any rotation for showing. Picture times are
``pts`` of its video stream; sound times are microseconds from the first frame shown, or from the first
sound where there is no picture, as everywhere a person names a time.

`redaction.plan_json` reads plans from outside and checks everything about them, `redaction.amend` makes
the next version, `redaction.detect` the first; `redaction.render` and `redaction.check` follow any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from evidence.canonical import canonical_json
from evidence.errors import InvalidInput
from evidence.masks import Reason
from redaction.geometry import (
    Box,
    Polygon,
    Region,
    all_but,
    around,
    between,
    between_inward,
    clip,
    even_cover,
    is_empty,
)

VERSION = "liuhen-plan/1"
TRACK_CLASSES = ("face", "plate", "text", "person", "screen", "document", "manual")
SHAPES = ("rectangle", "ellipse", "polygon", "all_but")
ORIGINS = ("model", "account")
SOUND_KINDS = ("silence", "tone", "voice")
CORNER_UNITS = 100
"""Drawing tools place corners between pixels; whole pixels would leave out some of what was drawn."""
OPTIONAL = frozenset({"reason_text", "lineage"})
TREATMENTS = ("treated", "untreated")
FACES_ONLY = {"faces": "treated", "plates": "untreated", "text": "untreated", "voices": "untreated"}
COVERED_BY = {"faces": "face", "plates": "plate", "text": "text", "voices": "voice"}
"""What a detector has to find for each word of a plan's coverage."""


Corners = tuple[tuple[int, int], ...]


class State(StrEnum):
    """What became of a proposal. Proposed and accepted hide."""

    PROPOSED = "proposed"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    """It was none, or is not wanted."""
    KEPT_VISIBLE = "kept_visible"
    """It is one, and a person decided that it stays bare."""

    @property
    def hides(self) -> bool:
        return self in {State.PROPOSED, State.ACCEPTED}


class Key(NamedTuple):
    """Where a track is at one time; between two keys its box moves evenly."""

    pts: int
    x0: int
    y0: int
    x1: int
    y1: int
    outside: bool = False
    """From here to the next key the object is not in the picture, and nothing is masked."""
    points: Corners = ()
    """The corners of a polygon in hundredths of a pixel; the key's box is the smallest around them."""

    @property
    def box(self) -> Box:
        return Box(self.x0, self.y0, self.x1, self.y1)


@dataclass(frozen=True)
class Picture:
    """The video the plan was made for; a plan fits no other."""

    width_px: int
    height_px: int
    time_base: tuple[int, int]
    frame_count: int
    first_pts: int
    last_pts: int


@dataclass(frozen=True)
class Track:
    """One object, hidden from its first key to its last, both included.

    Of the shape ``all_but`` everything else is hidden, and while the object is outside, everything.
    """

    id: str
    track_class: str
    origin: str
    by: str
    """Model digest or account id."""
    reason: Reason
    state: State
    shape: str
    keys: tuple[Key, ...]
    score_permille: int = 0
    """The best sighting's score; 0 for what a person drew."""
    reason_text: str = ""
    """A person's words; always with the reason ``other``, and where something is kept visible."""
    lineage: tuple[str, ...] = ()
    """Ids of the tracks that were split or joined into this one."""


@dataclass(frozen=True)
class MutedSpan:
    """Sound that is replaced, half-open."""

    id: str
    from_us: int
    to_us: int
    stream: int | None
    """Which audio stream, from 0; all when null."""
    kind: str
    origin: str
    by: str
    reason: Reason
    state: State
    reason_text: str = ""


@dataclass(frozen=True)
class WholeFrameSpan:
    """Frames that are hidden entirely, both ends included."""

    id: str
    from_pts: int
    to_pts: int
    origin: str
    by: str
    reason: Reason
    state: State
    reason_text: str = ""


@dataclass(frozen=True)
class DoubtfulSpan:
    """Where the machine is not sure and a person is asked, both ends included.

    Picture times as everywhere in a plan; for sound alone, microseconds as in a muted span.
    """

    track: str | None
    from_pts: int
    to_pts: int
    why: str


@dataclass(frozen=True)
class RedactionPlan:
    """One version of a plan."""

    item_id: str
    number: int
    parent: int | None
    author: str
    """Who made this version: an account id, or ``model``."""
    coverage: Mapping[str, str]
    models: Mapping[str, str]
    """Digest of each model that looked, by family."""
    parameters: Mapping[str, int]
    """The detector's and the tracker's, whole numbers with their unit in the name."""
    picture: Picture | None
    """Null for sound alone."""
    tracks: tuple[Track, ...] = ()
    muted_spans: tuple[MutedSpan, ...] = ()
    whole_frame_spans: tuple[WholeFrameSpan, ...] = ()
    doubtful: tuple[DoubtfulSpan, ...] = ()
    version: str = VERSION

    def to_json(self) -> dict[str, Any]:
        """Plain lists, objects, strings and integers, as `redaction.plan_json` reads them."""
        plain = asdict(self)
        for track in plain["tracks"]:
            track["class"] = track.pop("track_class")
            track["keys"] = [_key_to_json(key) for key in track["keys"]]
        for entry in (*plain["tracks"], *plain["muted_spans"], *plain["whole_frame_spans"]):
            # What says nothing is left out: plans made before there was such a thing keep their text.
            for name in OPTIONAL & entry.keys():
                if not entry[name]:
                    del entry[name]
        return plain

    def to_bytes(self) -> bytes:
        """The plan's one canonical text (RFC 8785)."""
        return canonical_json(self.to_json())

    def muted(self, stream: int) -> list[MutedSpan]:
        """What is in force for one audio stream, in order of time."""
        spans = [span for span in self.muted_spans if span.state.hides and span.stream in {None, stream}]
        return sorted(spans, key=lambda span: (span.from_us, span.to_us))


def treatment_of_sound(plan: RedactionPlan, stream_count: int, duration_us: int) -> str:
    """What a plan does to sound that has no picture, as a word of `evidence.coverage.SOUND_WORDS`.

    Args:
        plan: One for sound alone.
        stream_count: Sound streams of the rendition.
        duration_us: From its first sound to its last.
    """
    streams = [plan.muted(number) for number in range(stream_count)]
    if all(_covers([s for s in spans if s.kind == "silence"], duration_us) for spans in streams):
        return "muted"
    if all(_covers(spans, duration_us) for spans in streams):
        return "replaced"
    return "partly" if any(streams) else "bare"


def _covers(spans: Sequence[MutedSpan], duration_us: int) -> bool:
    """Whether spans, in order of time, leave nothing of the sound."""
    end = 0
    for span in spans:
        if span.from_us > end:
            return False
        end = max(end, span.to_us)
    return end >= duration_us


def _key_to_json(key: Key) -> list[Any]:
    plain: list[Any] = [*key[:5], int(key.outside)]
    return [*plain, [list(point) for point in key.points]] if key.points else plain


def coverage_of(found: Iterable[str]) -> dict[str, str]:
    """What a plan may state when detectors of some classes looked."""
    looked = set(found)
    return {word: TREATMENTS[0 if one in looked else 1] for word, one in COVERED_BY.items()}


class Masks:
    """What a plan hides at each time; prepared once, asked for every frame."""

    def __init__(self, plan: RedactionPlan) -> None:
        if plan.picture is None:
            raise InvalidInput("plan: expected one for pictures, found one for sound alone")
        self._picture = plan.picture
        self._size = {"width_px": plan.picture.width_px, "height_px": plan.picture.height_px}
        self._whole = [s for s in plan.whole_frame_spans if s.state.hides]
        self._shown = [s for s in plan.whole_frame_spans if not s.state.hides]
        self._tracks = [track for track in plan.tracks if track.state.hides]
        self._first = np.array([track.keys[0].pts for track in self._tracks], dtype=np.int64)
        self._last = np.array([track.keys[-1].pts for track in self._tracks], dtype=np.int64)
        self._times = [np.array([key.pts for key in track.keys], dtype=np.int64) for track in self._tracks]

    @property
    def whole_frame(self) -> Region:
        """Everything."""
        return Region(Box(0, 0, self._picture.width_px, self._picture.height_px), "rectangle")

    def is_shown_by_decision(self, pts: int) -> bool:
        """Whether a person refused to hide the frame whole."""
        return any(span.from_pts <= pts <= span.to_pts for span in self._shown)

    def at(self, pts: int) -> list[Region]:
        """The regions to hide in the frame shown at ``pts``, with even edges."""
        return [region for _, region in self.named_at(pts)]

    def named_at(self, pts: int) -> list[tuple[str, Region]]:
        """The regions with the id of what hides them there."""
        whole = next((span for span in self._whole if span.from_pts <= pts <= span.to_pts), None)
        if whole is not None:
            return [(whole.id, self.whole_frame)]
        regions: list[tuple[str, Region]] = []
        for index in np.nonzero((self._first <= pts) & (self._last >= pts))[0].tolist():
            track = self._tracks[index]
            here, after = _around(track.keys, self._times[index], pts)
            if track.shape == "all_but":
                regions += [(track.id, region) for region in self._but(here, after, pts)]
            elif not here.outside:
                region = self._one(track.shape, here, after, pts)
                regions += [] if region is None else [(track.id, region)]
        return regions

    def _but(self, here: Key, after: Key | None, pts: int) -> list[Region]:
        if here.outside:
            return [self.whole_frame]
        boxes = all_but(_bare_box(here, after, pts), **self._size)
        return [Region(box, "rectangle") for box in boxes]

    def _one(self, shape: str, here: Key, after: Key | None, pts: int) -> Region | None:
        form: str | Polygon = shape
        if shape == "polygon":
            box, form = _polygon_at(here, after, pts)
            if after is not None and is_empty(clip(box, **self._size)):
                # It was there before and is there after: it is not gone between.
                box, form = _around_both(here, after), "rectangle"
        else:
            box = _box_at(here, after, pts)
        inside = clip(box, **self._size)
        if is_empty(inside):
            return None
        # An ellipse is never clipped: its box would change, and with it what it covers.
        if form == "ellipse" and inside != box:
            form = "rectangle"
        return Region(even_cover(box, **self._size), form)


def _around(keys: Sequence[Key], times: np.typing.NDArray[np.int64], pts: int) -> tuple[Key, Key | None]:
    """The key in force and the one that its box is on the way to; None: it stays."""
    at = int(np.searchsorted(times, pts, side="right")) - 1
    here = keys[at]
    # Leaving for the outside, the last known box stays until it is gone.
    if here.outside or here.pts == pts or keys[at + 1].outside:
        return here, None
    return here, keys[at + 1]


def _box_at(here: Key, after: Key | None, pts: int) -> Box:
    if after is None:
        return here.box
    return between(here.box, after.box, elapsed=pts - here.pts, whole=after.pts - here.pts)


def _bare_box(here: Key, after: Key | None, pts: int) -> Box:
    """The box that stays bare, rounded inward."""
    if after is None:
        return here.box
    return between_inward(here.box, after.box, elapsed=pts - here.pts, whole=after.pts - here.pts)


def _polygon_at(here: Key, after: Key | None, pts: int) -> tuple[Box, str | Polygon]:
    """Corner by corner where each is on the way to its own place; otherwise all that both boxes hold."""
    if after is None:
        return here.box, tuple((x / CORNER_UNITS, y / CORNER_UNITS) for x, y in here.points)
    if not _match(here.points, after.points):
        return _around_both(here, after), "rectangle"
    share = Fraction(pts - here.pts, after.pts - here.pts)
    points = [
        ((x0 + share * (x1 - x0)) / CORNER_UNITS, (y0 + share * (y1 - y0)) / CORNER_UNITS)
        for (x0, y0), (x1, y1) in zip(here.points, after.points, strict=True)
    ]
    return around(points), tuple((float(x), float(y)) for x, y in points)


def _around_both(here: Key, after: Key) -> Box:
    first, second = here.box, after.box
    low = min(first.x0, second.x0), min(first.y0, second.y0)
    return Box(*low, max(first.x1, second.x1), max(first.y1, second.y1))


@lru_cache(maxsize=1 << 10)
def _match(first: Corners, second: Corners) -> bool:
    """Whether two polygons list their corners alike: as many, the same way round, from the same one on.

    Otherwise corners that move to those of the same number pass through each other, and what lies between
    shrinks on the way, to nothing at worst.
    """
    if len(first) != len(second):
        return False
    one, other = np.array(first, dtype=np.int64), np.array(second, dtype=np.int64)
    if _way_round(one) * _way_round(other) <= 0:
        return False
    moved = [int(((np.roll(one, -shift, axis=0) - other) ** 2).sum()) for shift in range(len(one))]
    return moved[0] == min(moved)


def _way_round(corners: np.typing.NDArray[np.int64]) -> int:
    """1 or -1 by the sign of the area; 0 where there is none."""
    (x, y), (x_next, y_next) = corners.T, np.roll(corners, -1, axis=0).T
    return int(np.sign((x * y_next - x_next * y).sum()))


def mask_regions(plan: RedactionPlan, pts: int) -> list[Region]:
    """The regions to hide in one frame; for many frames keep a `Masks`."""
    return Masks(plan).at(pts)
