"""The fragment index of a rendition: where each fragment lies and what it shows.

A rendition is one file: ``ftyp moov (moof mdat)*``. Every byte that is served comes from it by range,
so the index is made from the file itself by this parser and not from what an encoder said. A file that
still grows is read up to its last whole fragment and taken up again from there.

Media time here counts from the first frame shown: 0 is where the recording starts to be seen, whatever
the file's own clock says there (`FragmentIndex.origin`).

Source: ISO/IEC 14496-12, clause 8.8 (movie fragments); RFC 6381 for codec names.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

from media import boxes
from media.errors import media_error

FORMAT = "liuhen-fragments-1"
MOOF_LIMIT_BYTES = 64 << 20
SAMPLE_LIMIT = 10_000_000
MAX_TICKS = 1 << 62

TFHD_BASE_OFFSET, TFHD_DESCRIPTION = 0x01, 0x02
TFHD_DURATION, TFHD_SIZE, TFHD_FLAGS = 0x08, 0x10, 0x20
TRUN_DATA_OFFSET, TRUN_FIRST_FLAGS = 0x001, 0x004
TRUN_DURATION, TRUN_SIZE, TRUN_FLAGS, TRUN_SHIFT = 0x100, 0x200, 0x400, 0x800
SAMPLE_IS_NOT_SYNC = 0x10000


class Fragment(NamedTuple):
    """One ``moof`` and its ``mdat``; times in the timescale of the main track."""

    offset_bytes: int
    size_bytes: int
    start_pts: int
    """First instant shown, counted from the first frame of the rendition."""
    duration_pts: int
    frame_count: int
    starts_with_keyframe: bool

    @property
    def end_bytes(self) -> int:
        return self.offset_bytes + self.size_bytes

    @property
    def end_pts(self) -> int:
        return self.start_pts + self.duration_pts


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
        columns: list[tuple[int, int, int, int]] = []
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
            columns.append((fragment.size_bytes, fragment.duration_pts, fragment.frame_count, key))
        sizes, durations, frames, keys = zip(*columns, strict=True) if columns else ((), (), (), ())
        return {
            "format": FORMAT,
            "init_size_bytes": self.init_size_bytes,
            "origin_pts": self.origin_pts,
            "tracks": [vars(track) for track in self.tracks],
            "size_bytes": list(sizes),
            "duration_pts": list(durations),
            "frame_count": list(frames),
            "keyframe": "".join(map(str, keys)),
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
        rows = zip(
            data["size_bytes"], data["duration_pts"], data["frame_count"], data["keyframe"], strict=True
        )
        for number, (size, duration, frames, key) in enumerate(rows):
            if offsets:
                offset = offsets.get(str(number), offset)
            if starts:
                start = starts.get(str(number), start)
            fragments.append(Fragment(offset, size, start, duration, frames, key == "1"))
            offset += size
            start += duration
        tracks = tuple(Track(**track) for track in data["tracks"])
        return cls(data["init_size_bytes"], tracks, data["origin_pts"], tuple(fragments))

    def dumps(self) -> str:
        return json.dumps(self.to_json(), separators=(",", ":"))

    @classmethod
    def loads(cls, text: str | bytes) -> Self:
        return cls.from_json(json.loads(text))


def index_fragments(
    path: Path, known: FragmentIndex | None = None, *, limit_bytes: int | None = None
) -> FragmentIndex | None:
    """Index a rendition, whole or still growing.

    Args:
        path: The file.
        known: What an earlier call found in the same file; only what came after is read.
        limit_bytes: Look at no more than this much of the file.

    Returns:
        The index up to the last whole fragment; None while the ``moov`` is not there yet.

    Raises:
        MediaError: ``fragments_unreadable``: it is not a fragmented MP4 as renditions are.
    """
    size = path.stat().st_size if limit_bytes is None else limit_bytes
    with path.open("rb") as file:
        if known is None:
            known = _read_init(file, size)
        if known is None:
            return None
        found = list(_fragments(file, size, known))
    return _joined(known, found)


def _joined(known: FragmentIndex, found: Sequence[Fragment]) -> FragmentIndex:
    if not found:
        return known
    origin = known.origin_pts
    if not known.fragments:
        # Media time 0 is the first frame shown.
        origin = min(fragment.start_pts for fragment in found[:2])
        found = [fragment._replace(start_pts=fragment.start_pts - origin) for fragment in found]
    return FragmentIndex(known.init_size_bytes, known.tracks, origin, (*known.fragments, *found))


def _read_init(file: BinaryIO, size: int) -> FragmentIndex | None:
    for number, box in enumerate(boxes.top_level(file, size)):
        if number == 0 and box.kind not in {"ftyp", "styp"}:
            raise media_error("fragments_unreadable", f"expected ftyp first, found {box.kind}")
        if box.kind in {"moof", "mdat"}:
            raise media_error("fragments_unreadable", f"expected moov before {box.kind}")
        if box.kind == "moov":
            if not box.is_whole:
                return None
            return FragmentIndex(box.end, _tracks(boxes.held(file, box)), 0, ())
    return None


def _tracks(moov: bytes) -> tuple[Track, ...]:
    defaults: dict[int, tuple[int, int]] = {}
    for kind, trex in boxes.children(boxes.find(moov, "mvex") or b""):
        if kind == "trex":
            _, track_id, _, duration, _, flags = boxes.unpack(">IIIIII", trex)
            defaults[track_id] = (duration, flags)
    if not defaults:
        raise media_error("fragments_unreadable", "expected a fragmented MP4, found no mvex")
    tracks = []
    for entry in boxes.sample_entries(moov):
        kind = {"vide": "video", "soun": "audio"}.get(entry.handler, "")
        if not kind or entry.timescale == 0:
            continue
        duration, flags = defaults.get(entry.track_id, (0, 0))
        tracks.append(
            Track(
                track_id=entry.track_id,
                kind=kind,
                timescale=entry.timescale,
                codec=codec_name(entry),
                width_px=entry.width_px,
                height_px=entry.height_px,
                default_duration=duration,
                default_flags=flags,
            )
        )
    if not tracks:
        raise media_error("fragments_unreadable", "expected a video or audio track, found none")
    return tuple(tracks)


def codec_name(entry: boxes.SampleEntry) -> str:
    """A sample entry's codec as RFC 6381 writes it; the bare format where this cannot say more."""
    if entry.format in {"avc1", "avc3"}:
        avc = boxes.find(entry.body, "avcC")
        if avc is not None and len(avc) >= 4:
            return f"{entry.format}.{bytes(avc[1:4]).hex().upper()}"
    if entry.format == "mp4a":
        esds = boxes.find(entry.body, "esds")
        audio_type = _audio_object_type(bytes(esds[4:])) if esds is not None else None
        if audio_type is not None:
            return f"mp4a.40.{audio_type}"
    return entry.format


def _audio_object_type(descriptors: bytes) -> int | None:
    """The AudioObjectType in an ES descriptor (ISO/IEC 14496-1 clause 7.2.6, 14496-3 clause 1.6.2)."""
    at = 0
    for _ in range(8):
        if at + 2 > len(descriptors):
            return None
        tag = descriptors[at]
        at += 1
        while at < len(descriptors) and descriptors[at] & 0x80:
            at += 1
        at += 1
        if tag == 0x05:
            return descriptors[at] >> 3 if at < len(descriptors) else None
        at += {0x03: 3, 0x04: 13}.get(tag, len(descriptors))
    return None


def _fragments(file: BinaryIO, size: int, known: FragmentIndex) -> Iterator[Fragment]:
    main = known.main
    start = known.size_bytes
    moof: boxes.Box | None = None
    shown: _Shown | None = None
    clock = known.fragments[-1].end_pts + known.origin_pts if known.fragments else 0
    for box in boxes.top_level(file, size, start):
        if not box.is_whole:
            return
        if box.kind == "moof":
            if box.size > MOOF_LIMIT_BYTES:
                raise media_error("fragments_unreadable", f"a moof of {box.size} bytes")
            moof, shown = box, _read_moof(boxes.held(file, box), main, clock)
        elif box.kind == "mdat" and moof is not None and shown is not None:
            start_pts = shown.start - (known.origin_pts if known.fragments else 0)
            yield Fragment(
                moof.offset, box.end - moof.offset, start_pts, shown.duration, shown.frames, shown.is_key
            )
            clock = shown.clock
            moof = None


class _Shown(NamedTuple):
    """What the main track's runs of one fragment add up to; times on the file's own clock."""

    start: int
    duration: int
    frames: int
    is_key: bool
    clock: int
    """Decoding time at its end."""


def _read_moof(moof: bytes, main: Track, clock: int) -> _Shown:
    shown: list[_Shown] = []
    for kind, traf in boxes.children(moof):
        if kind == "traf":
            tfhd = boxes.find(traf, "tfhd")
            if tfhd is not None and boxes.unpack(">I", tfhd, 4)[0] == main.track_id:
                shown.append(_read_traf(traf, tfhd, main, shown[-1].clock if shown else clock))
    if not shown:
        # A fragment of sound alone takes no time of the picture.
        return _Shown(clock, 0, 0, False, clock)
    start = min(run.start for run in shown)
    return _Shown(
        start,
        sum(run.duration for run in shown),
        sum(run.frames for run in shown),
        shown[0].is_key,
        shown[-1].clock,
    )


def _read_traf(traf: memoryview, tfhd: memoryview, main: Track, clock: int) -> _Shown:
    duration, flags = _traf_defaults(tfhd, main)
    tfdt = boxes.find(traf, "tfdt")
    if tfdt is not None:
        (clock,) = boxes.unpack(">Q" if tfdt[0] == 1 else ">I", tfdt, 4)
    begin, frames, is_key = clock, 0, False
    earliest: int | None = None
    for kind, trun in boxes.children(traf):
        if kind != "trun":
            continue
        for step, shift, sample_flags in _samples(trun, duration, flags):
            if frames == 0:
                is_key = not sample_flags & SAMPLE_IS_NOT_SYNC
            shown_at = clock + shift
            earliest = shown_at if earliest is None else min(earliest, shown_at)
            clock += step
            frames += 1
    if clock > MAX_TICKS or frames > SAMPLE_LIMIT:
        raise media_error("fragments_unreadable", "a fragment's clock is out of all bounds")
    return _Shown(begin if earliest is None else earliest, clock - begin, frames, is_key, clock)


def _traf_defaults(tfhd: memoryview, main: Track) -> tuple[int, int]:
    (full,) = boxes.unpack(">I", tfhd)
    has = full & 0xFFFFFF
    at = 8 + (8 if has & TFHD_BASE_OFFSET else 0) + (4 if has & TFHD_DESCRIPTION else 0)
    duration, flags = main.default_duration, main.default_flags
    if has & TFHD_DURATION:
        (duration,) = boxes.unpack(">I", tfhd, at)
        at += 4
    if has & TFHD_SIZE:
        at += 4
    if has & TFHD_FLAGS:
        (flags,) = boxes.unpack(">I", tfhd, at)
    return duration, flags


def _samples(trun: memoryview, duration: int, flags: int) -> Iterator[tuple[int, int, int]]:
    """Duration, composition shift and flags of each sample of a run."""
    full, count = boxes.unpack(">II", trun)
    has = full & 0xFFFFFF
    at = 8 + (4 if has & TRUN_DATA_OFFSET else 0)
    first_flags = flags
    if has & TRUN_FIRST_FLAGS:
        (first_flags,) = boxes.unpack(">I", trun, at)
        at += 4
    present = [bit for bit in (TRUN_DURATION, TRUN_SIZE, TRUN_FLAGS, TRUN_SHIFT) if has & bit]
    if count > SAMPLE_LIMIT or (present and at + count * 4 * len(present) > len(trun)):
        raise media_error("fragments_unreadable", f"a run of {count} samples in {len(trun)} bytes")
    form = ">" + "".join("i" if bit == TRUN_SHIFT else "I" for bit in present)
    for number in range(count):
        fields = dict(zip(present, boxes.unpack(form, trun, at), strict=True))
        at += 4 * len(present)
        fallback = first_flags if number == 0 else flags
        yield fields.get(TRUN_DURATION, duration), fields.get(TRUN_SHIFT, 0), fields.get(TRUN_FLAGS, fallback)
