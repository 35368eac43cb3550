"""Write one MP4 whose index comes first, out of samples that lie in other files, byte for byte.

What FFmpeg's muxer cannot do: take coded pictures of two encoders into one track, each with the decoding time
it is given, and say to the tick what of it is shown. Nothing is in the file but the boxes below.

A track begins where its edit list says: an empty edit holds it back, then its media is shown from the first
sample that counts on, for exactly as long as was asked.

Source: ISO/IEC 14496-12, clauses 8.2 to 8.7.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, NamedTuple

from media import boxes
from media.errors import media_error
from media.fragments import Track
from media.growing import shown_at_zero
from media.mux import UNDETERMINED_LANGUAGE, box, full_box, unwritable
from media.supervise import raise_if_cancelled

CHUNK_S = 1
COPY_BYTES = 1 << 20
IDENTITY = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)


class Placed(NamedTuple):
    """A sample, and the file it lies in."""

    path: Path
    offset_bytes: int
    size_bytes: int
    dts: int
    """In the track's timescale; the first of a track is 0."""
    pts: int
    """Not before ``dts``."""
    is_sync: bool


@dataclass(frozen=True)
class Looks:
    """How a track's pictures are shown: the matrix and the size of its header, as they are stored."""

    matrix: bytes = IDENTITY
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class StoredTrack:
    """One track to be written."""

    handler: bytes
    """``vide`` or ``soun``."""
    timescale: int
    entry: bytes
    """Its one sample entry, a whole box."""
    samples: Sequence[Placed]
    """In order of decoding."""
    last_duration: int
    starts: int
    """When it is first seen or heard, in its timescale from the file's time 0."""
    skipped: int
    """What is decoded and not shown at its beginning: the edit's place in the media."""
    shown: int
    """For how long it is seen or heard."""
    looks: Looks = Looks()


def entry_of(path: Path, track_id: int, init_size_bytes: int) -> tuple[bytes, Looks]:
    """The one sample entry of a track in a file, as a box, and how it is shown.

    Raises:
        MediaError: ``fragments_unreadable``: there is none, or more than one.
    """
    trak = _trak_of(read_moov(path, init_size_bytes), track_id)
    tkhd = boxes.find(trak, "tkhd") or memoryview(b"")
    return _entry(trak), _looks(tkhd, 52 if tkhd[0] == 1 else 40)


def start_of(path: Path, track: Track, init_size_bytes: int) -> Fraction:
    """Seconds at which decoding time 0 of a track is shown, by its edit list.

    Raises:
        MediaError: ``fragments_unreadable``.
    """
    moov = read_moov(path, init_size_bytes)
    elst = boxes.find(_trak_of(moov, track.track_id), "edts", "elst")
    mvhd = boxes.find(moov, "mvhd")
    if elst is None or mvhd is None:
        return Fraction(0)
    (movie,) = boxes.unpack(">I", mvhd, 20 if mvhd[0] == 1 else 12)
    if movie == 0:
        raise media_error("fragments_unreadable", "a movie without a clock")
    return shown_at_zero(elst, movie, track.timescale)


def read_moov(path: Path, init_size_bytes: int) -> bytes:
    """The body of a file's ``moov``, which lies in its first so many bytes.

    Raises:
        MediaError: ``fragments_unreadable``.
    """
    with path.open("rb") as file:
        for found in boxes.top_level(file, init_size_bytes):
            if found.kind == "moov":
                return boxes.held(file, found)
    raise media_error("fragments_unreadable", "expected a moov, found none")


def _trak_of(moov: bytes, track_id: int) -> memoryview:
    for kind, trak in boxes.children(moov):
        tkhd = boxes.find(trak, "tkhd") if kind == "trak" else None
        if tkhd is not None and boxes.unpack(">I", tkhd, 20 if tkhd[0] == 1 else 12)[0] == track_id:
            return trak
    raise media_error("fragments_unreadable", f"expected track {track_id}, found none")


def _entry(trak: memoryview) -> bytes:
    stsd = boxes.find(trak, "mdia", "minf", "stbl", "stsd")
    entries = list(boxes.children(stsd[8:])) if stsd is not None else []
    if len(entries) != 1:
        raise media_error("fragments_unreadable", f"expected one sample entry, found {len(entries)}")
    kind, body = entries[0]
    return box(kind.encode("latin-1"), bytes(body))


def _looks(tkhd: memoryview, at: int) -> Looks:
    width, height = boxes.unpack(">II", tkhd, at + 36)
    return Looks(bytes(tkhd[at : at + 36]), width, height)


def write_progressive(
    path: Path, tracks: Sequence[StoredTrack], *, cancelled: Callable[[], bool] | None = None
) -> None:
    """Write the file, durably; nothing of it stays after a failure.

    Raises:
        Unavailable: ``output_unwritable``.
        MediaError: ``output_too_large``; ``fragments_unreadable``: a sample is not where it was said to lie.
        Conflict: ``cancelled``.
    """
    chunks = _chunks(tracks)
    size = sum(sample.size_bytes for _, run in chunks for sample in run)
    head = box(b"ftyp", b"isom", struct.pack(">I", 512), b"isom", b"iso2", b"avc1", b"mp41")
    # The index is as long whatever it says of places, so it is made once to know where they begin.
    begin = len(head) + len(_moov(tracks, chunks, 0)) + 16
    try:
        with path.open("wb") as target, ExitStack() as stack:
            target.write(head + _moov(tracks, chunks, begin))
            target.write(struct.pack(">I4sQ", 1, b"mdat", size + 16))
            files: dict[Path, BinaryIO] = {}
            for _, run in chunks:
                raise_if_cancelled(cancelled)
                for sample in run:
                    if sample.path not in files:
                        files[sample.path] = stack.enter_context(sample.path.open("rb"))
                    target.write(_bytes_of(files[sample.path], sample))
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise unwritable(path, error) from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _bytes_of(file: BinaryIO, sample: Placed) -> bytes:
    file.seek(sample.offset_bytes)
    data = file.read(sample.size_bytes)
    if len(data) != sample.size_bytes:
        raise media_error("fragments_unreadable", f"a file ends before byte {sample.offset_bytes}")
    return data


Chunk = tuple[int, list[Placed]]


def _chunks(tracks: Sequence[StoredTrack]) -> list[Chunk]:
    """A second of each track after the other, so that a player on a line has what it needs together."""
    found = [
        (second, number, list(run))
        for number, track in enumerate(tracks)
        for second, run in groupby(track.samples, partial(_chunk_of, track.timescale))
    ]
    return [(number, run) for _, number, run in sorted(found, key=lambda each: each[:2])]


def _chunk_of(timescale: int, sample: Placed) -> int:
    return sample.dts // (CHUNK_S * timescale)


def _moov(tracks: Sequence[StoredTrack], chunks: Sequence[Chunk], begin: int) -> bytes:
    places: list[list[int]] = [[] for _ in tracks]
    counts: list[list[int]] = [[] for _ in tracks]
    for number, run in chunks:
        places[number].append(begin)
        counts[number].append(len(run))
        begin += sum(sample.size_bytes for sample in run)
    # The tracks' own ticks may be finer than this; what is said in it is rounded to 1/90000 s.
    movie, duration = 90_000, 0
    traks = []
    for number, track in enumerate(tracks):
        lasts = _scaled(track.starts, track, movie) + _scaled(track.shown, track, movie)
        duration = max(duration, lasts)
        traks.append(_trak(number + 1, track, movie, lasts, places[number], counts[number]))
    mvhd = full_box(
        b"mvhd", 1, 0, struct.pack(">QQIQ", 0, 0, movie, duration), struct.pack(">IH10x", 0x00010000, 0x0100),
        IDENTITY, bytes(24), struct.pack(">I", len(tracks) + 1),
    )  # fmt: skip
    return box(b"moov", mvhd, *traks)


def _scaled(ticks: int, track: StoredTrack, movie: int) -> int:
    return round(ticks * movie / track.timescale)


def _trak(
    track_id: int, track: StoredTrack, movie: int, lasts: int, places: list[int], counts: list[int]
) -> bytes:
    is_video = track.handler == b"vide"
    tkhd = full_box(
        b"tkhd", 1, 3, struct.pack(">QQIIQ8x", 0, 0, track_id, 0, lasts),
        struct.pack(">HHHH", 0, 0 if is_video else 1, 0 if is_video else 0x0100, 0), track.looks.matrix,
        struct.pack(">II", track.looks.width, track.looks.height),
    )  # fmt: skip
    edits = [(_scaled(track.starts, track, movie), -1)] if track.starts else []
    edits.append((_scaled(track.shown, track, movie), track.skipped))
    rows = b"".join(struct.pack(">QqHH", length, place, 1, 0) for length, place in edits)
    edts = box(b"edts", full_box(b"elst", 1, 0, struct.pack(">I", len(edits)), rows))
    length = track.samples[-1].dts + track.last_duration
    mdhd = full_box(
        b"mdhd", 1, 0, struct.pack(">QQIQ", 0, 0, track.timescale, length),
        struct.pack(">HH", UNDETERMINED_LANGUAGE, 0),
    )  # fmt: skip
    hdlr = full_box(b"hdlr", 0, 0, bytes(4), track.handler, bytes(12), b"\0")
    header = full_box(b"vmhd", 0, 1, bytes(8)) if is_video else full_box(b"smhd", 0, 0, bytes(4))
    dinf = box(b"dinf", full_box(b"dref", 0, 0, struct.pack(">I", 1), full_box(b"url ", 0, 1)))
    stbl = box(b"stbl", *_sample_tables(track, places, counts))
    return box(b"trak", tkhd, edts, box(b"mdia", mdhd, hdlr, box(b"minf", header, dinf, stbl)))


def _sample_tables(track: StoredTrack, places: list[int], counts: list[int]) -> list[bytes]:
    samples = track.samples
    ends = [sample.dts for sample in samples[1:]] + [samples[-1].dts + track.last_duration]
    steps = [end - sample.dts for sample, end in zip(samples, ends, strict=True)]
    shifts = [sample.pts - sample.dts for sample in samples]
    if min(steps) < 0 or min(shifts) < 0 or samples[0].dts != 0:
        raise media_error("fragments_unreadable", "samples are not in order of decoding")
    runs = [(count, number) for number, count in enumerate(counts, 1)]
    stsc = [(first, count, 1) for count, first in _changes(runs)]
    tables = [
        full_box(b"stsd", 0, 0, struct.pack(">I", 1), track.entry),
        _table(b"stts", 0, _runs(steps)),
        _table(b"stsc", 0, stsc),
        full_box(b"stsz", 0, 0, struct.pack(">II", 0, len(samples)), _column(s.size_bytes for s in samples)),
        full_box(b"co64", 0, 0, struct.pack(f">I{len(places)}Q", len(places), *places)),
    ]
    if any(shifts):
        tables.append(_table(b"ctts", 0, _runs(shifts)))
    if not all(sample.is_sync for sample in samples):
        tables.append(_table(b"stss", 0, [(n,) for n, sample in enumerate(samples, 1) if sample.is_sync]))
    return tables


def _changes(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Count and first chunk, where the count of samples a chunk changes."""
    return [next(same) for _, same in groupby(runs, key=lambda run: run[0])]


def _runs(values: Iterable[int]) -> list[tuple[int, int]]:
    return [(sum(1 for _ in same), value) for value, same in groupby(values)]


def _table(kind: bytes, version: int, rows: Sequence[tuple[int, ...]]) -> bytes:
    return full_box(kind, version, 0, struct.pack(">I", len(rows)), _column(n for row in rows for n in row))


def _column(values: Iterable[int]) -> bytes:
    listed = list(values)
    return struct.pack(f">{len(listed)}I", *listed)
