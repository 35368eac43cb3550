"""Sound that goes on after the last picture: the picture stands until it ends.

Players that are fed by fragments can be sent nowhere where one of the tracks has nothing; Chromium's own
waits there for ever. So the last picture stored of such a fragment lasts until its sound ends. No picture and
no sound moves. Where all pictures last alike no place is kept for how long one does: the fragment is written
anew.

Source: ISO/IEC 14496-12, clauses 8.8.4 (``moof``) and 8.8.8 (``trun``).
"""

from __future__ import annotations

import struct

import numpy as np

from media import boxes
from media.errors import media_error
from media.fmp4 import (
    TRUN_DATA_OFFSET,
    TRUN_DURATION,
    TRUN_FIRST_FLAGS,
    TRUN_FLAGS,
    TRUN_SHIFT,
    TRUN_SIZE,
    traf_defaults,
)
from media.fragments import FragmentIndex, Track
from media.mux import box

PACKET_S = 0.15
"""No packet of sound is longer: by less the sound of any fragment may reach into the next."""
FIELDS = (TRUN_DURATION, TRUN_SIZE, TRUN_FLAGS, TRUN_SHIFT)


def sounding_on(index: FragmentIndex) -> int | None:
    """Number of the last fragment with pictures, where its sound goes on as that of no other does."""
    fragments = index.fragments
    last = next((n for n in range(len(fragments) - 1, -1, -1) if fragments[n].frame_count), None)
    if last is None or fragments[last].tail_pts <= PACKET_S * index.timescale:
        return None
    return last


def standing(moof: bytes, track: Track, ticks: int) -> bytes:
    """A ``moof`` in which the last picture stored lasts longer; its data are counted from its beginning.

    Args:
        moof: The body of the one that is there.
        track: That of the pictures.
        ticks: How much longer its pictures are seen.

    Raises:
        MediaError: ``fragments_unreadable``: it has no such picture, or more than one run of them.
    """
    parts = list(boxes.children(moof))
    longer = [_longer(traf, track, ticks) if kind == "traf" else None for kind, traf in parts]
    if sum(each is not None for each in longer) != 1:
        raise media_error("fragments_unreadable", "expected one run of pictures in the fragment")
    bodies = [bytes(body) if each is None else each for (_, body), each in zip(parts, longer, strict=True)]
    grown = sum(map(len, bodies)) - sum(len(body) for _, body in parts)
    moved = [
        box(kind.encode("latin-1"), _moved(body, grown) if kind == "traf" else body)
        for (kind, _), body in zip(parts, bodies, strict=True)
    ]
    return box(b"moof", *moved)


def _longer(traf: memoryview, track: Track, ticks: int) -> bytes | None:
    """A ``traf`` with room for how long each picture lasts; None where it is of another track."""
    tfhd = boxes.find(traf, "tfhd")
    if tfhd is None or boxes.unpack(">I", tfhd, 4) != (track.track_id,):
        return None
    usual = traf_defaults(tfhd, track, 0).duration
    kinds = [kind for kind, _ in boxes.children(traf)]
    if kinds.count("trun") != 1:
        return None
    return b"".join(
        box(kind.encode("latin-1"), _run(body, usual, ticks) if kind == "trun" else bytes(body))
        for kind, body in boxes.children(traf)
    )


def _run(trun: memoryview, usual: int, ticks: int) -> bytes:
    full, count = boxes.unpack(">II", trun)
    at = 8 + 4 * bool(full & TRUN_DATA_OFFSET) + 4 * bool(full & TRUN_FIRST_FLAGS)
    present = [bit for bit in FIELDS if full & bit]
    if not count or at + 4 * count * len(present) > len(trun):
        raise media_error("fragments_unreadable", f"a run of {count} samples in {len(trun)} bytes")
    table = np.frombuffer(trun, ">u4", count * len(present), at).reshape(count, len(present)).astype(np.int64)
    columns = {bit: table[:, number] for number, bit in enumerate(present)}
    steps = columns.setdefault(TRUN_DURATION, np.full(count, usual, np.int64))
    shifts = columns.get(TRUN_SHIFT, np.zeros(count, np.int64)).astype(np.uint32).view(np.int32)
    seen_until = np.cumsum(steps) + shifts
    steps[-1] += int(seen_until.max() - seen_until[-1]) + ticks
    if steps[-1] >= 1 << 32:
        raise media_error("fragments_unreadable", "a picture's time does not fit its field")
    rows = np.stack([columns[bit] for bit in FIELDS if bit in columns], axis=1).astype(">u4")
    return struct.pack(">I", full | TRUN_DURATION) + bytes(trun[4:at]) + rows.tobytes()


def _moved(traf: bytes, by: int) -> bytes:
    """A ``traf`` whose data lie so much later."""
    moved = bytearray(traf)
    for kind, trun in boxes.children(moved):
        if kind == "trun" and boxes.unpack(">I", trun)[0] & TRUN_DATA_OFFSET:
            (offset,) = boxes.unpack(">i", trun, 8)
            struct.pack_into(">i", trun, 8, offset + by)
    return bytes(moved)
