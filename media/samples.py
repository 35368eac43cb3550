"""Every sample of some fragments: where its bytes lie, when it is decoded and when shown.

`media.fmp4` says of a fragment as much as serving needs. Whoever takes single pictures, or copies some and
leaves others, needs each sample's own place and time; they are read from the ``moof`` again, for the few
fragments that matter.

Source: ISO/IEC 14496-12, clause 8.8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from media import boxes
from media.errors import media_error
from media.fmp4 import (
    MAX_TICKS,
    MOOF_LIMIT_BYTES,
    SAMPLE_IS_NOT_SYNC,
    SAMPLE_LIMIT,
    TRUN_DATA_OFFSET,
    TRUN_DURATION,
    TRUN_FIRST_FLAGS,
    TRUN_FLAGS,
    TRUN_SHIFT,
    TRUN_SIZE,
    Defaults,
    traf_defaults,
)
from media.fragments import Fragment, Track


class StoredSample(NamedTuple):
    """One sample in a file; times in its track's timescale, on the file's own clock."""

    dts: int
    pts: int
    duration: int
    offset_bytes: int
    size_bytes: int
    is_sync: bool


def read_samples(path: Path, track: Track, fragments: Iterable[Fragment]) -> list[StoredSample]:
    """The samples of a track in some fragments, in order of decoding.

    Raises:
        MediaError: ``fragments_unreadable``: the file is not as its index says.
    """
    with path.open("rb") as file:
        return [sample for part in fragments for sample in _of_fragment(file, track, part)]


def _of_fragment(file: BinaryIO, track: Track, part: Fragment) -> Iterator[StoredSample]:
    found = next(boxes.top_level(file, part.end_bytes, part.offset_bytes), None)
    if found is None or found.kind != "moof" or not found.is_whole or found.size > MOOF_LIMIT_BYTES:
        raise media_error("fragments_unreadable", f"expected a moof at byte {part.offset_bytes}, found none")
    for kind, traf in boxes.children(boxes.held(file, found)):
        tfhd = boxes.find(traf, "tfhd") if kind == "traf" else None
        if tfhd is None or boxes.unpack(">I", tfhd, 4)[0] != track.track_id:
            continue
        for sample in _of_traf(traf, traf_defaults(tfhd, track, found.offset)):
            if not part.offset_bytes <= sample.offset_bytes <= part.end_bytes - sample.size_bytes:
                raise media_error("fragments_unreadable", "a sample lies outside its fragment")
            yield sample


def _of_traf(traf: memoryview, defaults: Defaults) -> Iterator[StoredSample]:
    tfdt = boxes.find(traf, "tfdt")
    if tfdt is None:
        raise media_error("fragments_unreadable", "expected tfdt in traf, found none")
    (clock,) = boxes.unpack(">Q" if tfdt[0] == 1 else ">I", tfdt, 4)
    place = defaults.base
    for kind, trun in boxes.children(traf):
        if kind == "trun":
            for sample in _of_trun(trun, defaults, clock, place):
                clock, place = sample.dts + sample.duration, sample.offset_bytes + sample.size_bytes
                yield sample


def _of_trun(trun: memoryview, defaults: Defaults, clock: int, place: int) -> Iterator[StoredSample]:
    full, count = boxes.unpack(">II", trun)
    has, at, first_flags = full & 0xFFFFFF, 8, None
    if has & TRUN_DATA_OFFSET:
        (data_offset,) = boxes.unpack(">i", trun, at)
        place, at = defaults.base + data_offset, at + 4
    if has & TRUN_FIRST_FLAGS:
        (first_flags,) = boxes.unpack(">I", trun, at)
        at += 4
    present = [bit for bit in (TRUN_DURATION, TRUN_SIZE, TRUN_FLAGS, TRUN_SHIFT) if has & bit]
    if count > SAMPLE_LIMIT or clock > MAX_TICKS or at + count * 4 * len(present) > len(trun):
        raise media_error("fragments_unreadable", f"a run of {count} samples in {len(trun)} bytes")
    table = np.frombuffer(trun, ">u4", count * len(present), at).reshape(count, len(present)).tolist()
    for number, row in enumerate(table):
        said = dict(zip(present, row, strict=True))
        duration = said.get(TRUN_DURATION, defaults.duration)
        size = said.get(TRUN_SIZE, defaults.size)
        flags = said.get(TRUN_FLAGS, defaults.flags)
        if number == 0 and first_flags is not None:
            flags = first_flags
        shift = said.get(TRUN_SHIFT, 0)
        # As `media.fmp4` reads it: signed, whatever the version says.
        shift -= (shift >> 31) << 32
        yield StoredSample(clock, clock + shift, duration, place, size, not flags & SAMPLE_IS_NOT_SYNC)
        clock, place = clock + duration, place + size
