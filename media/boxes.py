"""ISO base media boxes: walking them in a file nobody vouches for.

Only structure is read here, with bounds on everything: a box lies inside its parent, nesting is
limited, and a header box that has to be held in memory has a largest size. What the fields of a
rendition's fragments mean is the matter of `media.fmp4`; what a recorder wrote, of `media.probe`.

Source: ISO/IEC 14496-12, clauses 4.2 and 8.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from media.errors import media_error

# The moov of a ten-hour recording is some 20 MB; a box claiming more than this is not held in memory.
HELD_BOX_LIMIT_BYTES = 256 << 20
TOP_LEVEL_LIMIT = 10_000_000
CHILDREN_LIMIT = 4096
SAMPLE_ENTRY_LIMIT = 64
VISUAL_ENTRY_BYTES = 78
SOUND_ENTRY_BYTES = 28
ENCRYPTED_ENTRIES = {"encv", "enca", "enct", "encs"}

Bytes = bytes | bytearray | memoryview


class Box(NamedTuple):
    """Where a box lies in a file."""

    kind: str
    offset: int
    header_bytes: int
    size: int
    is_whole: bool
    """False when the file ends before the box does."""

    @property
    def end(self) -> int:
        return self.offset + self.size

    @property
    def body_offset(self) -> int:
        return self.offset + self.header_bytes


def top_level(file: BinaryIO, file_size: int, start: int = 0) -> Iterator[Box]:
    """The boxes of a file from ``start`` on, ending quietly where no further header fits.

    Raises:
        MediaError: ``fragments_unreadable`` when a header cannot be one.
    """
    offset = start
    for _ in range(TOP_LEVEL_LIMIT):
        if offset + 8 > file_size:
            return
        file.seek(offset)
        head = file.read(16)
        if len(head) < 8:
            return
        kind, header_bytes, size = _header(head, file_size - offset)
        if size == -1:
            return
        box = Box(kind, offset, header_bytes, size, offset + size <= file_size)
        yield box
        if not box.is_whole:
            return
        offset = box.end


def _header(head: bytes, left: int) -> tuple[str, int, int]:
    size, kind = struct.unpack_from(">I4s", head)
    header_bytes = 8
    if size == 1:
        if len(head) < 16:
            return "", 0, -1
        (size,) = struct.unpack_from(">Q", head, 8)
        header_bytes = 16
    elif size == 0:
        size = left
    if size < header_bytes:
        raise media_error("fragments_unreadable", f"a box of {size} bytes, less than its own header")
    if not all(32 <= byte < 127 or byte == 0xA9 for byte in kind):
        raise media_error("fragments_unreadable", f"a box kind of bytes {kind.hex()}")
    return kind.decode("latin-1"), header_bytes, size


def held(file: BinaryIO, box: Box) -> bytes:
    """The body of a box, read into memory.

    Raises:
        MediaError: It is larger than any header box may be, or cut off.
    """
    size = box.size - box.header_bytes
    if size > HELD_BOX_LIMIT_BYTES:
        limit = HELD_BOX_LIMIT_BYTES
        raise media_error(
            "fragments_unreadable", f"box {box.kind}: expected at most {limit} bytes, found {size}"
        )
    file.seek(box.body_offset)
    body = file.read(size)
    if len(body) != size:
        raise media_error("fragments_unreadable", f"box {box.kind}: expected {size} bytes, found {len(body)}")
    return body


def children(body: Bytes) -> Iterator[tuple[str, memoryview]]:
    """Kind and body of each box directly inside ``body``."""
    view = memoryview(body)
    offset = 0
    for _ in range(CHILDREN_LIMIT):
        if offset + 8 > len(view):
            return
        kind, header_bytes, size = _header(bytes(view[offset : offset + 16]), len(view) - offset)
        if size == -1 or offset + size > len(view):
            raise media_error("fragments_unreadable", f"box {kind} is longer than the box that holds it")
        yield kind, view[offset + header_bytes : offset + size]
        offset += size
    raise media_error("fragments_unreadable", f"more than {CHILDREN_LIMIT} boxes in one")


def find(body: Bytes, *path: str) -> memoryview | None:
    """The first box at a path such as ``mdia, minf, stbl``; None when there is none."""
    here = memoryview(body)
    for wanted in path:
        for kind, inner in children(here):
            if kind == wanted:
                here = inner
                break
        else:
            return None
    return here


def unpack(form: str, body: Bytes, offset: int = 0) -> tuple[int, ...]:
    """`struct.unpack_from`, where too few bytes are a fault of the file."""
    try:
        fields: tuple[int, ...] = struct.unpack_from(form, body, offset)
    except struct.error as error:
        raise media_error("fragments_unreadable", "a box ends before its fields do") from error
    return fields


@dataclass(frozen=True)
class SampleEntry:
    """How one track says its samples are coded."""

    track_id: int
    handler: str
    """``vide``, ``soun``, ``meta`` …"""
    timescale: int
    format: str
    width_px: int
    height_px: int
    body: bytes
    """The boxes behind the fixed fields: ``avcC``, ``esds``, ``sinf`` …"""

    @property
    def is_encrypted(self) -> bool:
        return self.format in ENCRYPTED_ENTRIES


def sample_entries(moov: Bytes) -> list[SampleEntry]:
    """Every sample description of every track of a ``moov``."""
    found: list[SampleEntry] = []
    for kind, trak in children(moov):
        if kind == "trak":
            found.extend(_entries_of_track(trak))
    return found[:SAMPLE_ENTRY_LIMIT]


def _entries_of_track(trak: memoryview) -> Iterator[SampleEntry]:
    tkhd, mdhd = find(trak, "tkhd"), find(trak, "mdia", "mdhd")
    hdlr, stsd = find(trak, "mdia", "hdlr"), find(trak, "mdia", "minf", "stbl", "stsd")
    if tkhd is None or mdhd is None or hdlr is None or stsd is None:
        return
    (track_id,) = unpack(">I", tkhd, 20 if tkhd[0] == 1 else 12)
    (timescale,) = unpack(">I", mdhd, 20 if mdhd[0] == 1 else 12)
    handler = bytes(hdlr[8:12]).decode("latin-1")
    for entry_format, entry in children(stsd[8:]):
        width = height = 0
        fixed = {"vide": VISUAL_ENTRY_BYTES, "soun": SOUND_ENTRY_BYTES}.get(handler, 8)
        if handler == "vide":
            width, height = unpack(">HH", entry, 24)
        yield SampleEntry(track_id, handler, timescale, entry_format, width, height, bytes(entry[fixed:]))
