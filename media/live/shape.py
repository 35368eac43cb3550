"""The parameter sets of a keyframe: where they change, the picture has another shape.

Source: ITU-T H.264 clause 7.3.1, H.265 clause 7.3.1.2; Annex B of both; ISO/IEC 14496-15 for length prefixes.
"""

from __future__ import annotations

from collections.abc import Iterator

LOOK_BYTES = 4096
"""Parameter sets stand in front of the picture."""
SEQUENCE_SETS = {"h264": {7}, "hevc": {33}}


def shape_of(data: bytes, codec: str) -> bytes:
    """The sequence parameter sets in front of a keyframe; empty where there are none, or none are known."""
    wanted = SEQUENCE_SETS.get(codec)
    if wanted is None:
        return b""
    return b"".join(unit for unit in _units(data) if _kind(unit, codec) in wanted)


def _kind(unit: bytes, codec: str) -> int:
    return unit[0] & 0x1F if codec == "h264" else (unit[0] >> 1) & 0x3F


def _units(data: bytes) -> Iterator[bytes]:
    return _start_coded(data) if data[:3] == b"\0\0\1" or data[:4] == b"\0\0\0\1" else _length_prefixed(data)


def _start_coded(data: bytes) -> Iterator[bytes]:
    at = data.find(b"\0\0\1") + 3
    while 3 <= at < LOOK_BYTES:
        following = data.find(b"\0\0\1", at)
        unit = data[at : following if following >= 0 else len(data)].rstrip(b"\0")
        if unit:
            yield unit
        if following < 0:
            return
        at = following + 3


def _length_prefixed(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + 4 < min(len(data), LOOK_BYTES):
        size = int.from_bytes(data[at : at + 4], "big")
        if not 0 < size <= len(data) - at - 4:
            return
        yield data[at + 4 : at + 4 + size]
        at += 4 + size
