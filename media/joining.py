"""Join fragmented MP4s of one coding by moving their fragments: no picture is decoded or encoded.

Each part has one picture track, made with the same parameters, whose clock begins with the part. A fragment
is copied byte for byte but for two fields: its number (``mfhd``) and its decoding time (``tfdt``).

Source: ISO/IEC 14496-12, clauses 8.8.5 (``mfhd``) and 8.8.12 (``tfdt``).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from media import boxes
from media.errors import media_error
from media.fragments import FragmentIndex

COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Part:
    """One file of those that are joined."""

    path: Path
    index: FragmentIndex
    shift_ticks: int
    """What is added to its clock, in the timescale of its picture."""


def coding_of(path: Path, index: FragmentIndex) -> list[tuple[str, int, int, int, bytes]]:
    """How the tracks of a part are coded, parameter sets included; equal for parts that can be joined."""
    with path.open("rb") as file:
        moov = next(box for box in boxes.top_level(file, index.init_size_bytes) if box.kind == "moov")
        entries = boxes.sample_entries(boxes.held(file, moov))
    return [(entry.format, entry.width_px, entry.height_px, entry.timescale, entry.body) for entry in entries]


def join_parts(parts: Sequence[Part], destination: Path) -> None:
    """Write the fragments of all parts one behind the other, durably.

    Raises:
        MediaError: ``fragments_unreadable``: a part is not what its index says, or a clock does not fit.
    """
    number = 0
    with destination.open("wb") as target:
        with parts[0].path.open("rb") as first:
            _copy(first, target, parts[0].index.init_size_bytes)
        for part in parts:
            with part.path.open("rb") as source:
                for fragment in part.index.fragments:
                    number += 1
                    source.seek(fragment.offset_bytes)
                    moof = _moof(source, fragment.size_bytes)
                    _renumber(moof, number, part.shift_ticks)
                    target.write(moof)
                    _copy(source, target, fragment.size_bytes - len(moof))
        target.flush()
        os.fsync(target.fileno())


def _moof(source: BinaryIO, limit_bytes: int) -> bytearray:
    head = source.read(8)
    if len(head) < 8:
        raise media_error("fragments_unreadable", "a part ends before its fragments do")
    size, kind = struct.unpack(">I4s", head)
    if kind != b"moof" or not 8 < size < limit_bytes:
        raise media_error("fragments_unreadable", f"expected moof, found {kind!r} of {size} bytes")
    return bytearray(head + source.read(size - 8))


def _renumber(moof: bytearray, number: int, shift_ticks: int) -> None:
    body = memoryview(moof)[8:]
    mfhd = boxes.find(body, "mfhd")
    tfdt = boxes.find(body, "traf", "tfdt")
    if mfhd is None or tfdt is None:
        raise media_error("fragments_unreadable", "expected mfhd and tfdt in moof, found one missing")
    struct.pack_into(">I", mfhd, 4, number)
    form = ">Q" if tfdt[0] == 1 else ">I"
    (clock,) = boxes.unpack(form, tfdt, 4)
    try:
        struct.pack_into(form, tfdt, 4, clock + shift_ticks)
    except struct.error as error:
        raise media_error("fragments_unreadable", "a fragment's clock does not fit its field") from error


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    while size:
        data = source.read(min(size, COPY_BYTES))
        if not data:
            raise media_error("fragments_unreadable", "a part ends before its fragments do")
        target.write(data)
        size -= len(data)
