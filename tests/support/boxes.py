"""Fragmented MP4 by hand, box by box, for what no encoder would write."""

from __future__ import annotations

import struct

VIDEO, AUDIO = 1, 2
KEY, NOT_KEY = 0x02000000, 0x01010000


def box(kind: str, *bodies: bytes) -> bytes:
    """A box with its header."""
    body = b"".join(bodies)
    return struct.pack(">I4s", len(body) + 8, kind.encode("latin-1")) + body


def full_box(kind: str, *bodies: bytes, version: int = 0, flags: int = 0) -> bytes:
    """A box with version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *bodies)


def init(
    *,
    video_timescale: int = 0,
    audio_timescale: int = 0,
    video_edits: list[tuple[int, int]] | None = None,
    audio_edits: list[tuple[int, int]] | None = None,
    movie_timescale: int = 1000,
) -> bytes:
    """``ftyp`` and ``moov``; a timescale of 0 leaves the track out. Edits are (duration, media time)."""
    traks, trexes = [], []
    if video_timescale:
        avcc = box("avcC", bytes([1, 0x64, 0, 0x1F]))
        entry = box("avc1", struct.pack(">6xH16xHH50x", 1, 640, 360), avcc)
        traks.append(_trak(VIDEO, b"vide", video_timescale, entry, video_edits))
        trexes.append(full_box("trex", struct.pack(">5I", VIDEO, 1, 0, 0, 0)))
    if audio_timescale:
        config = bytes([5, 2, 0x11, 0x90])
        decoder = bytes([4, 13 + len(config), 0x40]) + bytes(12) + config
        esds = full_box("esds", bytes([3, 3 + len(decoder), 0, 1, 0]) + decoder)
        entry = box("mp4a", struct.pack(">6xH20x", 1), esds)
        traks.append(_trak(AUDIO, b"soun", audio_timescale, entry, audio_edits))
        trexes.append(full_box("trex", struct.pack(">5I", AUDIO, 1, 0, 0, 0)))
    mvhd = full_box("mvhd", struct.pack(">8xII80x", movie_timescale, 0))
    return box("ftyp", b"isom\0\0\2\0") + box("moov", mvhd, *traks, box("mvex", *trexes))


def _trak(
    track_id: int, handler: bytes, timescale: int, entry: bytes, edits: list[tuple[int, int]] | None
) -> bytes:
    tkhd = full_box("tkhd", struct.pack(">8xI72x", track_id))
    edit_boxes = []
    if edits:
        rows = b"".join(struct.pack(">IiHH", duration, media, 1, 0) for duration, media in edits)
        edit_boxes = [box("edts", full_box("elst", struct.pack(">I", len(edits)), rows))]
    mdhd = full_box("mdhd", struct.pack(">8xII4x", timescale, 0))
    hdlr = full_box("hdlr", struct.pack(">4x4s12x", handler), b"\0")
    stsd = full_box("stsd", struct.pack(">I", 1), entry)
    return box("trak", tkhd, *edit_boxes, box("mdia", mdhd, hdlr, box("minf", box("stbl", stsd))))


def moof(
    *,
    video: tuple[int, list[int]] | None = None,
    audio: tuple[int, list[int]] | None = None,
    shifts: list[int] | None = None,
    key: bool = True,
    sample_count: int | None = None,
) -> bytes:
    """A fragment: for each track its decoding time and the duration of each sample."""
    trafs = []
    for track_id, track in ((VIDEO, video), (AUDIO, audio)):
        if track is None:
            continue
        start, durations = track
        tfhd = full_box("tfhd", struct.pack(">I", track_id), flags=0x020000)
        tfdt = full_box("tfdt", struct.pack(">Q", start), version=1)
        shifted = shifts is not None and track_id == VIDEO
        count = len(durations) if sample_count is None else sample_count
        rows = [struct.pack(">I", duration) for duration in durations]
        if shifted and shifts is not None:
            rows = [row + struct.pack(">i", shift) for row, shift in zip(rows, shifts, strict=True)]
        first_flags = KEY if key or track_id == AUDIO else NOT_KEY
        head = struct.pack(">IiI", count, 0, first_flags)
        trun = full_box("trun", head, *rows, version=1, flags=0x105 | (0x800 if shifted else 0))
        trafs.append(box("traf", tfhd, tfdt, trun))
    return box("moof", full_box("mfhd", struct.pack(">I", 1)), *trafs)
