"""The model of a rendition's fragments: where each lies in the file and what it shows.

Media time counts from the first frame shown: 0 is where the recording starts to be seen, whatever the
file's own clock says there (`FragmentIndex.origin`). `media.fmp4` makes an index from a file.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import accumulate, groupby, pairwise
from typing import Any, NamedTuple, Self

from media.errors import media_error

FORMAT = "liuhen-fragments-2"
BEFORE_KEYFRAMES = "liuhen-fragments-1"
"""Indexes of this form do not say where a keyframe ends; all else is the same."""


class Fragment(NamedTuple):
    """One ``moof`` and its ``mdat``; times in the timescale of the main track."""

    offset_bytes: int
    size_bytes: int
    start_pts: int
    """First instant shown, counted from the first frame of the rendition."""
    duration_pts: int
    frame_count: int
    starts_with_keyframe: bool
    lead_pts: int = 0
    """How long before ``start_pts`` its sound begins; 0 when it does not."""
    tail_pts: int = 0
    """How long after ``end_pts`` anything in it is still seen or heard; negative when it ends before."""
    keyframe_bytes: int = 0
    """From its first byte to the last one of the keyframe it starts with; 0: none, or not known."""
    keyframe_pts: int = 0
    """How long after ``start_pts`` that keyframe is shown; pictures may lead it in an open group."""

    @property
    def end_bytes(self) -> int:
        return self.offset_bytes + self.size_bytes

    @property
    def end_pts(self) -> int:
        return self.start_pts + self.duration_pts

    @property
    def first_pts(self) -> int:
        """The first instant of picture or sound in its bytes."""
        return self.start_pts - max(0, self.lead_pts)

    @property
    def last_pts(self) -> int:
        """The last instant of picture or sound in its bytes."""
        return self.end_pts + max(0, self.tail_pts)


@dataclass(frozen=True)
class Track:
    """One track of the ``moov``."""

    track_id: int
    kind: str
    """``video`` or ``audio``."""
    timescale: int
    codec: str
    """As HLS and MSE name it: ``avc1.64001F``, ``mp4a.40.2``."""
    width_px: int = 0
    height_px: int = 0
    default_duration: int = 0
    default_flags: int = 0
    default_size: int = 0


@dataclass(frozen=True)
class FragmentIndex:
    """Everything needed to serve any span of a rendition by byte ranges."""

    init_size_bytes: int
    """``ftyp`` and ``moov`` lie in the first so many bytes."""
    tracks: tuple[Track, ...]
    origin_pts: int
    """What the file's own clock says at media time 0, in the main track's timescale."""
    fragments: tuple[Fragment, ...]

    @cached_property
    def main(self) -> Track:
        """The picture's track, or the sound's where there is no picture."""
        return next((track for track in self.tracks if track.kind == "video"), self.tracks[0])

    @property
    def timescale(self) -> int:
        return self.main.timescale

    @property
    def origin(self) -> Fraction:
        """Seconds on the file's own clock at media time 0."""
        return Fraction(self.origin_pts, self.timescale)

    @cached_property
    def extent_us(self) -> tuple[int, int]:
        """The first and last instant of picture or sound, in microseconds; both 0 where there is nothing."""
        first = min((fragment.first_pts for fragment in self.fragments), default=0)
        last = max((fragment.last_pts for fragment in self.fragments), default=0)
        return first * 1_000_000 // self.timescale, last * 1_000_000 // self.timescale

    @cached_property
    def frame_count(self) -> int:
        return sum(fragment.frame_count for fragment in self.fragments)

    @cached_property
    def duration(self) -> Fraction:
        """Seconds from the first frame to the end of the last one."""
        return Fraction(max((fragment.end_pts for fragment in self.fragments), default=0), self.timescale)

    @property
    def size_bytes(self) -> int:
        """Length of what is whole."""
        return self.fragments[-1].end_bytes if self.fragments else self.init_size_bytes

    @property
    def codecs(self) -> str:
        return ",".join(track.codec for track in self.tracks)

    @cached_property
    def bitrate_bps(self) -> int:
        """Mean bits per second, 0 while nothing is there."""
        return int((self.size_bytes - self.init_size_bytes) * 8 / self.duration) if self.duration else 0

    @cached_property
    def peak_bitrate_bps(self) -> int:
        """Bits per second of the densest fragment."""
        rates = (
            fragment.size_bytes * 8 * self.timescale // fragment.duration_pts
            for fragment in self.fragments
            if fragment.duration_pts
        )
        return max(rates, default=0)

    def at(self, seconds: Fraction) -> int:
        """Number of the fragment that shows ``seconds``, clamped to those there are."""
        starts = [fragment.start_pts for fragment in self.fragments]
        return max(0, bisect_right(starts, seconds * self.timescale) - 1)

    def to_json(self) -> dict[str, Any]:
        """Compact JSON: columns, with offsets and starts only where they do not follow by themselves."""
        columns: list[tuple[int, int, int, int, int, int, int]] = []
        offsets: dict[str, int] = {}
        starts: dict[str, int] = {}
        shown: dict[str, int] = {}
        next_offset, next_start = self.init_size_bytes, 0
        for number, fragment in enumerate(self.fragments):
            if fragment.offset_bytes != next_offset:
                offsets[str(number)] = fragment.offset_bytes
            if fragment.start_pts != next_start:
                starts[str(number)] = fragment.start_pts
            if fragment.keyframe_pts:
                shown[str(number)] = fragment.keyframe_pts
            next_offset, next_start = fragment.end_bytes, fragment.end_pts
            key = int(fragment.starts_with_keyframe)
            size, _, duration, frames, _, lead, tail, key_bytes = fragment[1:9]
            columns.append((size, duration, frames, key, lead, tail, key_bytes))
        turned = zip(*columns, strict=True) if columns else ((),) * 7
        sizes, durations, counts, keys, leads, tails, key_sizes = turned
        return {
            "format": FORMAT,
            "init_size_bytes": self.init_size_bytes,
            "origin_pts": self.origin_pts,
            "tracks": [vars(track) for track in self.tracks],
            "size_bytes": _packed(sizes),
            "duration_pts": _packed(durations),
            "frame_count": _packed(counts),
            "keyframe": "".join(map(str, keys)),
            "lead_pts": _packed(leads),
            "tail_pts": _packed(tails),
            "keyframe_bytes": _packed(key_sizes),
            "offset_at": offsets,
            "start_at": starts,
            "keyframe_at": shown,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The index that ``to_json`` wrote.

        Raises:
            MediaError: It is of another format.
        """
        if data.get("format") not in {FORMAT, BEFORE_KEYFRAMES}:
            found = str(data.get("format"))
            raise media_error("fragments_unreadable", f"stored index: expected {FORMAT}, found {found}")
        sizes, durations = _unpacked(data["size_bytes"]), _unpacked(data["duration_pts"])
        count = len(sizes)
        key_bytes = _unpacked(data["keyframe_bytes"]) if "keyframe_bytes" in data else [0] * count
        shown = [0] * count
        for number, late in data.get("keyframe_at", {}).items():
            shown[int(number)] = late
        # Hours of fragments are opened while somebody waits: whole columns, no loop of our own.
        columns = (
            _running(sizes, data["init_size_bytes"], data["offset_at"]),
            sizes,
            _running(durations, 0, data["start_at"]),
            durations,
            _unpacked(data["frame_count"]),
            [key == "1" for key in data["keyframe"]],
            _unpacked(data["lead_pts"]),
            _unpacked(data["tail_pts"]),
            key_bytes,
            shown,
        )
        fragments = tuple(map(Fragment._make, zip(*columns, strict=True)))
        tracks = tuple(Track(**track) for track in data["tracks"])
        return cls(data["init_size_bytes"], tracks, data["origin_pts"], fragments)

    def dumps(self) -> str:
        return json.dumps(self.to_json(), separators=(",", ":"))

    @classmethod
    def loads(cls, text: str | bytes) -> Self:
        return cls.from_json(json.loads(text))


def _packed(column: Sequence[int]) -> list[int] | dict[str, list[list[int]]]:
    """A column, as [value, how often] where that is shorter."""
    runs = [[value, sum(1 for _ in same)] for value, same in groupby(column)]
    return {"runs": runs} if 2 * len(runs) < len(column) else list(column)


def _unpacked(stored: list[int] | dict[str, list[list[int]]]) -> list[int]:
    if isinstance(stored, list):
        return stored
    return [value for value, count in stored["runs"] for _ in range(count)]


def _running(steps: Sequence[int], origin: int, given: Mapping[str, int]) -> list[int]:
    """Where each fragment begins: where the one before ends, unless it is given."""
    starts: list[int] = []
    marks = sorted((int(number), start) for number, start in given.items())
    for (first, start), (until, _) in pairwise([(0, origin), *marks, (len(steps), 0)]):
        if until > first:
            starts += accumulate(steps[first : until - 1], initial=start)
    return starts
