"""The model of a rendition's fragments: where each lies in the file and what it shows.

Media time counts from the first frame shown: 0 is where the recording starts to be seen, whatever the
file's own clock says there (`FragmentIndex.origin`). `media.fmp4` makes an index from a file.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, Self

from media.errors import media_error

FORMAT = "liuhen-fragments-1"
COLUMNS = ("size_bytes", "duration_pts", "frame_count", "keyframe", "lead_pts", "tail_pts")


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


@dataclass(frozen=True)
class FragmentIndex:
    """Everything needed to serve any span of a rendition by byte ranges."""

    init_size_bytes: int
    """``ftyp`` and ``moov`` lie in the first so many bytes."""
    tracks: tuple[Track, ...]
    origin_pts: int
    """What the file's own clock says at media time 0, in the main track's timescale."""
    fragments: tuple[Fragment, ...]

    @property
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

    @property
    def frame_count(self) -> int:
        return sum(fragment.frame_count for fragment in self.fragments)

    @property
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

    @property
    def bitrate_bps(self) -> int:
        """Mean bits per second, 0 while nothing is there."""
        return int((self.size_bytes - self.init_size_bytes) * 8 / self.duration) if self.duration else 0

    @property
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
        columns: list[tuple[int, int, int, int, int, int]] = []
        offsets: dict[str, int] = {}
        starts: dict[str, int] = {}
        next_offset, next_start = self.init_size_bytes, 0
        for number, fragment in enumerate(self.fragments):
            if fragment.offset_bytes != next_offset:
                offsets[str(number)] = fragment.offset_bytes
            if fragment.start_pts != next_start:
                starts[str(number)] = fragment.start_pts
            next_offset, next_start = fragment.end_bytes, fragment.end_pts
            key = int(fragment.starts_with_keyframe)
            size, _, duration, frames, _, lead, tail = fragment[1:]
            columns.append((size, duration, frames, key, lead, tail))
        sizes, durations, counts, keys, leads, tails = zip(*columns, strict=True) if columns else ((),) * 6
        return {
            "format": FORMAT,
            "init_size_bytes": self.init_size_bytes,
            "origin_pts": self.origin_pts,
            "tracks": [vars(track) for track in self.tracks],
            "size_bytes": list(sizes),
            "duration_pts": list(durations),
            "frame_count": list(counts),
            "keyframe": "".join(map(str, keys)),
            "lead_pts": list(leads),
            "tail_pts": list(tails),
            "offset_at": offsets,
            "start_at": starts,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The index that ``to_json`` wrote.

        Raises:
            MediaError: It is of another format.
        """
        if data.get("format") != FORMAT:
            found = str(data.get("format"))
            raise media_error("fragments_unreadable", f"stored index: expected {FORMAT}, found {found}")
        offsets, starts = data["offset_at"], data["start_at"]
        fragments: list[Fragment] = []
        offset, start = data["init_size_bytes"], 0
        columns = zip(*(data[name] for name in COLUMNS), strict=True)
        for number, (size, duration, frames, key, lead, tail) in enumerate(columns):
            if offsets:
                offset = offsets.get(str(number), offset)
            if starts:
                start = starts.get(str(number), start)
            fragments.append(Fragment(offset, size, start, duration, frames, key == "1", lead, tail))
            offset += size
            start += duration
        tracks = tuple(Track(**track) for track in data["tracks"])
        return cls(data["init_size_bytes"], tracks, data["origin_pts"], tuple(fragments))

    def dumps(self) -> str:
        return json.dumps(self.to_json(), separators=(",", ":"))

    @classmethod
    def loads(cls, text: str | bytes) -> Self:
        return cls.from_json(json.loads(text))
