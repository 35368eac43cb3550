"""The fragment index of a rendition: where each fragment lies and what it shows.

A rendition is one file: ``ftyp moov (moof mdat)*``. Every byte that is served comes from it by range,
so the index is made from the file itself by this parser and not from what an encoder said. A file that
still grows is read up to its last whole fragment and taken up again from there.

Source: ISO/IEC 14496-12, clause 8.8 (movie fragments); RFC 6381 for codec names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from media import boxes
from media.errors import media_error
from media.fragments import Fragment, FragmentIndex, Track

__all__ = ["Fragment", "FragmentIndex", "Track", "codec_name", "index_fragments"]

MOOF_LIMIT_BYTES = 64 << 20
SAMPLE_LIMIT = 10_000_000
MAX_TICKS = 1 << 62

TFHD_BASE_OFFSET, TFHD_DESCRIPTION = 0x000001, 0x000002
TFHD_DURATION, TFHD_SIZE, TFHD_FLAGS = 0x08, 0x10, 0x20
TRUN_DATA_OFFSET, TRUN_FIRST_FLAGS = 0x001, 0x004
TRUN_DURATION, TRUN_SIZE, TRUN_FLAGS, TRUN_SHIFT = 0x100, 0x200, 0x400, 0x800
SAMPLE_IS_NOT_SYNC = 0x10000


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
    # How long the last known one is shown was a guess until its successor came.
    whole = [*known.fragments[-1:], *found]
    settled = [_until(one, two) for one, two in pairwise(whole)]
    fragments = (*known.fragments[:-1], *settled, whole[-1])
    return FragmentIndex(known.init_size_bytes, known.tracks, origin, fragments)


def _until(fragment: Fragment, following: Fragment) -> Fragment:
    """A fragment is shown until the next one starts, whatever its last sample says."""
    length = following.start_pts - fragment.start_pts
    if length <= 0 or not fragment.frame_count or not following.frame_count:
        return fragment
    return fragment._replace(duration_pts=length, tail_pts=fragment.tail_pts + fragment.duration_pts - length)


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
    defaults: dict[int, tuple[int, int, int]] = {}
    for kind, trex in boxes.children(boxes.find(moov, "mvex") or b""):
        if kind == "trex":
            _, track_id, _, duration, size, flags = boxes.unpack(">IIIIII", trex)
            defaults[track_id] = (duration, size, flags)
    if not defaults:
        raise media_error("fragments_unreadable", "expected a fragmented MP4, found no mvex")
    tracks = []
    for entry in boxes.sample_entries(moov):
        kind = {"vide": "video", "soun": "audio"}.get(entry.handler, "")
        if not kind or entry.timescale == 0:
            continue
        duration, size, flags = defaults.get(entry.track_id, (0, 0, 0))
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
                default_size=size,
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
    moof: boxes.Box | None = None
    shown: dict[int, _Shown] = {}
    for box in boxes.top_level(file, size, known.size_bytes):
        if not box.is_whole:
            return
        if box.kind == "moof":
            if box.size > MOOF_LIMIT_BYTES:
                raise media_error("fragments_unreadable", f"a moof of {box.size} bytes")
            moof, shown = box, _read_moof(boxes.held(file, box), known.tracks, box.offset)
        elif box.kind == "mdat" and moof is not None:
            if shown:
                yield _fragment(moof.offset, box.end, known, shown)
            moof = None


def _fragment(offset: int, end: int, known: FragmentIndex, shown: dict[int, _Shown]) -> Fragment:
    main = known.main
    firsts, lasts = [], []
    for track in known.tracks:
        if track.track_id in shown:
            run = shown[track.track_id]
            firsts.append(run.first * main.timescale // track.timescale)
            lasts.append(-(-run.last * main.timescale // track.timescale))
    # A fragment of sound alone takes no time of the picture.
    own = shown.get(main.track_id) or _Shown(min(firsts), min(firsts), 0, False, 0, 0)
    lead, tail = own.first - min(firsts), max(lasts) - own.last
    # Media time 0 is known once there is a fragment; until then times are the file's own.
    start = own.first - (known.origin_pts if known.fragments else 0)
    # Where the sizes lie outside the fragment nothing is said of its keyframe.
    key_bytes = own.key_end - offset if own.is_key and main.kind == "video" else 0
    key_bytes = key_bytes if 0 < key_bytes <= end - offset else 0
    late = own.key_shown - own.first if key_bytes else 0
    return Fragment(
        offset, end - offset, start, own.last - own.first, own.frames, own.is_key, lead, tail, key_bytes, late
    )


class _Shown(NamedTuple):
    """What one track shows in a fragment, on the file's own clock."""

    first: int
    last: int
    frames: int
    is_key: bool
    key_end: int
    """Where in the file its first sample ends; 0 where nothing says so."""
    key_shown: int
    """When that sample is shown."""


def _read_moof(moof: bytes, tracks: Sequence[Track], offset: int) -> dict[int, _Shown]:
    by_id = {track.track_id: track for track in tracks}
    shown: dict[int, _Shown] = {}
    for kind, traf in boxes.children(moof):
        tfhd = boxes.find(traf, "tfhd") if kind == "traf" else None
        if tfhd is None:
            continue
        (track_id,) = boxes.unpack(">I", tfhd, 4)
        track = by_id.get(track_id)
        run = _read_traf(traf, tfhd, track, offset) if track is not None else None
        if run is not None:
            before = shown.get(track_id)
            shown[track_id] = run if before is None else _together(before, run)
    return shown


def _together(one: _Shown, two: _Shown) -> _Shown:
    first, last = min(one.first, two.first), max(one.last, two.last)
    return one._replace(first=first, last=last, frames=one.frames + two.frames)


class Defaults(NamedTuple):
    """What holds for samples of which a run says nothing, and where its data are counted from."""

    base: int
    duration: int
    size: int
    flags: int


def _read_traf(traf: memoryview, tfhd: memoryview, track: Track, moof_offset: int) -> _Shown | None:
    defaults = traf_defaults(tfhd, track, moof_offset)
    tfdt = boxes.find(traf, "tfdt")
    if tfdt is None:
        raise media_error("fragments_unreadable", "expected tfdt in traf, found none")
    (clock,) = boxes.unpack(">Q" if tfdt[0] == 1 else ">I", tfdt, 4)
    shown: _Shown | None = None
    for kind, trun in boxes.children(traf):
        if kind == "trun":
            clock, run = _read_trun(trun, defaults, clock)
            if run is not None:
                shown = run if shown is None else _together(shown, run)
    if clock > MAX_TICKS or (shown is not None and shown.frames > SAMPLE_LIMIT):
        raise media_error("fragments_unreadable", "a fragment's clock is out of all bounds")
    return shown


def traf_defaults(tfhd: memoryview, track: Track, moof_offset: int) -> Defaults:
    (full,) = boxes.unpack(">I", tfhd)
    has, at, base = full & 0xFFFFFF, 8, moof_offset
    duration, size, flags = track.default_duration, track.default_size, track.default_flags
    if has & TFHD_BASE_OFFSET:
        (base,) = boxes.unpack(">Q", tfhd, at)
        at += 8
    at += 4 if has & TFHD_DESCRIPTION else 0
    if has & TFHD_DURATION:
        (duration,) = boxes.unpack(">I", tfhd, at)
        at += 4
    if has & TFHD_SIZE:
        (size,) = boxes.unpack(">I", tfhd, at)
        at += 4
    if has & TFHD_FLAGS:
        (flags,) = boxes.unpack(">I", tfhd, at)
    return Defaults(base, duration, size, flags)


def _read_trun(trun: memoryview, defaults: Defaults, clock: int) -> tuple[int, _Shown | None]:
    """The decoding time after a run, and what the run shows."""
    full, count = boxes.unpack(">II", trun)
    has, at, flags, data_offset = full & 0xFFFFFF, 8, defaults.flags, 0
    if has & TRUN_DATA_OFFSET:
        (data_offset,) = boxes.unpack(">i", trun, at)
        at += 4
    if has & TRUN_FIRST_FLAGS:
        (flags,) = boxes.unpack(">I", trun, at)
        at += 4
    present = [bit for bit in (TRUN_DURATION, TRUN_SIZE, TRUN_FLAGS, TRUN_SHIFT) if has & bit]
    if count > SAMPLE_LIMIT or at + count * 4 * len(present) > len(trun):
        raise media_error("fragments_unreadable", f"a run of {count} samples in {len(trun)} bytes")
    if count == 0:
        return clock, None
    table = np.frombuffer(trun, ">u4", count * len(present), at).reshape(count, len(present))
    columns = {bit: table[:, number] for number, bit in enumerate(present)}
    steps = columns.get(TRUN_DURATION, np.full(count, defaults.duration, ">u4")).astype(np.int64)
    # Version 0 says unsigned; nothing real shifts by 2^31, and some writers put negative shifts there.
    shifts = columns.get(TRUN_SHIFT, np.zeros(count, ">u4")).astype(np.uint32).view(np.int32)
    if TRUN_FLAGS in columns and not has & TRUN_FIRST_FLAGS:
        flags = int(columns[TRUN_FLAGS][0])
    ends = np.cumsum(steps)
    shown_at = ends - steps + shifts
    first, last = int(shown_at.min()), int((shown_at + steps).max())
    size = int(columns[TRUN_SIZE][0]) if TRUN_SIZE in columns else defaults.size
    key_end = defaults.base + data_offset + size if has & TRUN_DATA_OFFSET and size else 0
    run = _Shown(
        clock + first, clock + last, count, not flags & SAMPLE_IS_NOT_SYNC, key_end, clock + int(shown_at[0])
    )
    return clock + int(ends[-1]), run
