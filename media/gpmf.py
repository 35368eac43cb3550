"""GPMF, the telemetry track of action cameras: positions and their satellite time, nothing else of it.

A packet is a tree of entries: four letters, a type, the size of a sample, how many, and the samples padded to
four bytes. Only the streams with ``GPS5`` (older) and ``GPS9`` (newer cameras) are read, with bounds on depth
and count. An entry that does not fit its parent ends the reading of that packet; what was read before it
stands.

Source: the maker's description, github.com/gopro/gpmf-parser (README and docs).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

MAX_DEPTH = 6
MAX_ENTRIES = 10_000
MAX_SAMPLES = 10_000
HEAD_BYTES = 8
GPS5_BYTES, GPS9_BYTES = 20, 32
GPS9_FORM = b"lllllllSS"
"""``TYPE`` of GPS9: seven signed words of 32 bits, two unsigned ones of 16."""
NEWER_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
FIX_2D = 2
"""``GPSF`` and the last value of GPS9: 0 no position, 2 and 3 a position in that many dimensions."""


@dataclass(frozen=True)
class Sample:
    """A position somewhere in a packet."""

    share: tuple[int, int]
    """Place among the packet's samples: number and count."""
    latitude: float
    longitude: float
    altitude_m: float
    utc: datetime | None
    """By the satellites: of this sample in GPS9, of the packet's first in GPS5."""


def positions(packet: bytes) -> list[Sample]:
    """The positions with a fix in one packet, in order; empty where there are none, or it is no GPMF."""
    found: list[Sample] = []
    if packet[:4] == b"DEVC":
        budget = [MAX_ENTRIES]
        for stream in _streams(memoryview(packet), 0, budget):
            found += _positions_of(stream, budget)
    return found


def _entries(body: memoryview, budget: list[int]) -> Iterator[tuple[bytes, int, int, memoryview]]:
    """Letters, type, bytes of a sample and samples of each entry directly inside."""
    at = 0
    while at + HEAD_BYTES <= len(body) and budget[0] > 0:
        budget[0] -= 1
        letters, kind, size, count = struct.unpack_from(">4sBBH", body, at)
        length = size * count
        at += HEAD_BYTES
        if at + length > len(body):
            return
        yield letters, kind, size, body[at : at + length]
        at += -(-length // 4) * 4


def _streams(body: memoryview, depth: int, budget: list[int]) -> Iterator[memoryview]:
    for letters, kind, _, inner in _entries(body, budget):
        if kind == 0 and letters == b"STRM":
            yield inner
        elif kind == 0 and depth < MAX_DEPTH:
            yield from _streams(inner, depth + 1, budget)


def _positions_of(stream: memoryview, budget: list[int]) -> list[Sample]:
    scales: tuple[int, ...] = ()
    has_fix, utc, form = True, None, b""
    found: list[Sample] = []
    for letters, _, size, body in _entries(stream, budget):
        if letters == b"SCAL" and size == 4:
            scales = struct.unpack(f">{len(body) // 4}i", body[: len(body) // 4 * 4])
        elif letters == b"GPSF" and len(body) >= 4:
            has_fix = int.from_bytes(body[:4], "big") >= FIX_2D
        elif letters == b"GPSU":
            utc = _utc_of(bytes(body))
        elif letters == b"TYPE":
            form = bytes(body).rstrip(b"\0")
        elif letters == b"GPS5" and size == GPS5_BYTES and has_fix and _are_usable(scales, 5):
            found += _gps5(body, scales, utc)
        elif letters == b"GPS9" and size == GPS9_BYTES and form == GPS9_FORM and _are_usable(scales, 9):
            found += _gps9(body, scales)
    return found


def _are_usable(scales: tuple[int, ...], count: int) -> bool:
    return len(scales) >= count and all(scales[:count])


def _gps5(body: memoryview, scales: tuple[int, ...], utc: datetime | None) -> Iterator[Sample]:
    count = min(len(body) // GPS5_BYTES, MAX_SAMPLES)
    for number in range(count):
        latitude, longitude, altitude, _, _ = struct.unpack_from(">5i", body, number * GPS5_BYTES)
        yield Sample(
            (number, count),
            latitude / scales[0],
            longitude / scales[1],
            altitude / scales[2],
            utc if number == 0 else None,
        )


def _gps9(body: memoryview, scales: tuple[int, ...]) -> Iterator[Sample]:
    count = min(len(body) // GPS9_BYTES, MAX_SAMPLES)
    for number in range(count):
        values = struct.unpack_from(">7i2H", body, number * GPS9_BYTES)
        if values[8] / scales[8] < FIX_2D:
            continue
        try:
            utc = NEWER_EPOCH + timedelta(days=values[5] / scales[5], seconds=values[6] / scales[6])
        except OverflowError:
            utc = None
        yield Sample(
            (number, count), values[0] / scales[0], values[1] / scales[1], values[2] / scales[2], utc
        )


def _utc_of(body: bytes) -> datetime | None:
    """``yymmddhhmmss.sss``; None where it is no time."""
    try:
        return datetime.strptime(body.rstrip(b"\0").decode("ascii"), "%y%m%d%H%M%S.%f").replace(tzinfo=UTC)
    except ValueError:
        return None
