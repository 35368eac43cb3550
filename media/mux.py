"""Write one clean fragmented MP4 from coded samples, byte by byte.

FFmpeg's own muxer is not used for redacted renditions, for two reasons. Times must come out as they
went in, to the tick and with the last frame's duration, whatever the first timestamp is. And what is
not written here cannot be in the file: there is no user data, no handler name, no encoder tag, no
creation time, and no track but those asked for; `redaction.check` walks the result against a list of
exactly the boxes below.

The file is ``ftyp moov (moof mdat)*``. A fragment starts at each key picture and carries the sound
shown until the next one. A track that starts before zero (the priming of an AAC encoder) gets an edit
list that skips as much. Pictures that start after zero are stored from zero and shown that much later,
as in every file with B-frames, because readers count a fragmented file's duration from zero.

Source: ISO/IEC 14496-12 (boxes), 14496-14 (``esds``), 14496-15 (``avcC``).
"""

from __future__ import annotations

import errno
import os
import struct
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from evidence.errors import InvalidInput, MediaError, Unavailable
from media.errors import media_error

SYNC_SAMPLE = 0x02000000
DEPENDENT_SAMPLE = 0x01010000
DEFAULT_BASE_IS_MOOF = 0x020000
TRUN_FIELDS = 0x000F01
SOUND_FRAGMENT_S = 2
UNDETERMINED_LANGUAGE = 0x55C4
# Clockwise, columns a b u / c d v / x y w with x and y in whole picture sides; ISO/IEC 14496-12, 8.3.2.
_TURNS = {0: (1, 0, 0, 1, 0, 0), 270: (0, 1, -1, 0, 1, 0), 180: (-1, 0, 0, -1, 1, 1), 90: (0, -1, 1, 0, 0, 1)}


class Sample(NamedTuple):
    """One coded picture or packet of sound, shown in the order it is stored."""

    pts: int
    duration: int
    data: bytes
    sync: bool


@dataclass(frozen=True)
class VideoTrack:
    """An H.264 track with length-prefixed units."""

    width_px: int
    height_px: int
    timescale: int
    avcc: bytes
    """AVCDecoderConfigurationRecord."""
    sample_aspect: Fraction = Fraction(1)
    rotation: int = 0
    """Degrees counter-clockwise to turn the picture for showing."""


@dataclass(frozen=True)
class SoundTrack:
    """An AAC track."""

    sample_rate_hz: int
    channels: int
    timescale: int
    config: bytes
    """AudioSpecificConfig."""


@dataclass
class _Lane:
    """Samples of one track that are not in the file yet."""

    track: VideoTrack | SoundTrack
    track_id: int
    waiting: deque[Sample] = field(default_factory=deque)
    skipped: int = 0
    """Ticks stored before zero, skipped by an edit list."""
    delay: int = 0
    """Ticks between storing and showing."""


class FragmentFile:
    """The file being written; `finish` makes it whole and durable, `abandon` lets go of it.

    Args:
        path: Where; an existing file is replaced.
        video: The video track, if any.
        sound: The sound tracks, in order.
    """

    def __init__(self, path: Path, video: VideoTrack | None, sound: Sequence[SoundTrack]) -> None:
        if video is None and not sound:
            raise InvalidInput("rendition: expected at least one track, found none")
        tracks: list[VideoTrack | SoundTrack] = [*([video] if video else []), *sound]
        self._lanes = [_Lane(track, number) for number, track in enumerate(tracks, start=1)]
        self._has_video = video is not None
        self._sequence = 0
        self._path = path
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise unwritable(path, error) from error

    def add_picture(self, sample: Sample) -> None:
        """Take the next coded picture; a key picture ends the fragment before it."""
        lane = self._lanes[0]
        if lane.waiting and sample.sync:
            self._write_fragment(until=Fraction(sample.pts, lane.track.timescale), next_pts=sample.pts)
        lane.waiting.append(sample)

    def add_sound(self, number: int, sample: Sample) -> None:
        """Take the next packet of the sound track ``number``, from 0."""
        lane = self._lanes[number + self._has_video]
        lane.waiting.append(sample)
        if self._has_video or number != 0:
            return
        first = lane.waiting[0]
        if sample.pts - first.pts >= SOUND_FRAGMENT_S * lane.track.timescale:
            self._write_fragment(until=Fraction(sample.pts, lane.track.timescale))

    def finish(self) -> int:
        """Write what is left, sync, close.

        Returns:
            The size of the file in bytes.
        """
        if any(lane.waiting for lane in self._lanes) or self._sequence == 0:
            self._write_fragment(until=None)
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            size = self._file.tell()
            self._file.close()
        except OSError as error:
            raise unwritable(self._path, error) from error
        return size

    def abandon(self) -> None:
        """Close and remove the half-made file."""
        # What is still buffered may have no place on the disk, and is not wanted there any more.
        with suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)

    def _write_fragment(self, until: Fraction | None, next_pts: int | None = None) -> None:
        if self._sequence == 0:
            for lane in self._lanes:
                first_pts = lane.waiting[0].pts if lane.waiting else 0
                lane.skipped = max(0, -first_pts)
                lane.delay = max(0, first_pts) if isinstance(lane.track, VideoTrack) else 0
            self._write(_ftyp() + _moov(self._lanes))
        self._sequence += 1
        parts: list[tuple[_Lane, list[Sample]]] = []
        for lane in self._lanes:
            is_video = isinstance(lane.track, VideoTrack)
            samples = _take(lane, None if is_video else until)
            following = next_pts if is_video else (lane.waiting[0].pts if lane.waiting else None)
            if samples:
                parts.append((lane, _with_exact_durations(samples, following)))
        if not parts:
            return
        self._write(_moof(self._sequence, parts))
        self._write(struct.pack(">I4s", 8 + sum(len(s.data) for _, part in parts for s in part), b"mdat"))
        for _, samples in parts:
            self._write(b"".join(sample.data for sample in samples))

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise unwritable(self._path, error) from error


def unwritable(path: Path, error: OSError) -> Unavailable | MediaError:
    if error.errno == errno.EFBIG:
        return media_error("output_too_large", path.name)
    return Unavailable(
        f"rendition {path.name}: expected to write it, found {error.strerror}; free space and try again",
        code="output_unwritable",
    )


def _take(lane: _Lane, until: Fraction | None) -> list[Sample]:
    taken = []
    while lane.waiting and (until is None or Fraction(lane.waiting[0].pts, lane.track.timescale) < until):
        taken.append(lane.waiting.popleft())
    return taken


def _with_exact_durations(samples: list[Sample], following: int | None) -> list[Sample]:
    """Each sample lasting until the next begins: in a fragment only durations say when samples are."""
    starts = [sample.pts for sample in samples[1:]] + ([following] if following is not None else [])
    timed = []
    for number, sample in enumerate(samples):
        duration = starts[number] - sample.pts if number < len(starts) else sample.duration
        if duration < 0 or (duration == 0 and number < len(samples) - 1):
            raise InvalidInput(
                f"rendition: expected samples in ascending order, found {starts[number]} after {sample.pts}"
            )
        timed.append(sample._replace(duration=duration))
    return timed


def avcc_from(parameter_sets: Sequence[bytes]) -> bytes:
    """AVCDecoderConfigurationRecord for 8-bit 4:2:0 from sequence and picture parameter sets.

    Source: ISO/IEC 14496-15, 5.3.3.1.
    """
    sequence = [unit for unit in parameter_sets if unit[0] & 0x1F == 7]
    picture = [unit for unit in parameter_sets if unit[0] & 0x1F == 8]
    profile = sequence[0][1]
    record = bytes([1]) + sequence[0][1:4] + bytes([0xFF, 0xE0 | len(sequence)])
    record += b"".join(struct.pack(">H", len(unit)) + unit for unit in sequence)
    record += bytes([len(picture)])
    record += b"".join(struct.pack(">H", len(unit)) + unit for unit in picture)
    # High and above: chroma 4:2:0, eight bits of luma and chroma, no extensions.
    return record + (bytes([0xFD, 0xF8, 0xF8, 0]) if profile in {100, 110, 122, 144, 244} else b"")


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def _ftyp() -> bytes:
    return box(b"ftyp", b"iso6", struct.pack(">I", 0), b"iso6", b"iso5", b"mp41")


def _moov(lanes: Sequence[_Lane]) -> bytes:
    # Times of making are zero: when a copy was made belongs in custody, not in the copy.
    mvhd = full_box(
        b"mvhd", 0, 0, struct.pack(">IIII", 0, 0, 1000, 0), struct.pack(">IH10x", 0x00010000, 0x0100),
        _matrix(0, 0, 0), bytes(24), struct.pack(">I", len(lanes) + 1),
    )  # fmt: skip
    trex = [full_box(b"trex", 0, 0, struct.pack(">IIIII", lane.track_id, 1, 0, 0, 0)) for lane in lanes]
    return box(b"moov", mvhd, *(_trak(lane) for lane in lanes), box(b"mvex", *trex))


def _trak(lane: _Lane) -> bytes:
    track = lane.track
    if isinstance(track, VideoTrack):
        width, height, rotation = track.width_px, track.height_px, track.rotation
        shown = round(width * track.sample_aspect)
        volume, handler = 0, b"vide"
        media_header = full_box(b"vmhd", 0, 1, bytes(8))
        entry = _avc1(track)
    else:
        width = height = shown = rotation = 0
        volume, handler = 0x0100, b"soun"
        media_header = full_box(b"smhd", 0, 0, bytes(4))
        entry = _mp4a(track)
    tkhd = full_box(
        b"tkhd", 0, 3, struct.pack(">IIIII8x", 0, 0, lane.track_id, 0, 0),
        struct.pack(">HHHH", 0, 0 if volume == 0 else 1, volume, 0),
        _matrix(rotation, shown, height), struct.pack(">II", shown << 16, height << 16),
    )  # fmt: skip
    edits = b""
    if lane.skipped:
        # Duration 0 in a fragmented file: to the end.
        edits = box(b"edts", full_box(b"elst", 0, 0, struct.pack(">IIiI", 1, 0, lane.skipped, 0x00010000)))
    mdhd = full_box(
        b"mdhd",
        0,
        0,
        struct.pack(">IIII", 0, 0, track.timescale, 0),
        struct.pack(">HH", UNDETERMINED_LANGUAGE, 0),
    )
    hdlr = full_box(b"hdlr", 0, 0, bytes(4), handler, bytes(12), b"\0")
    dinf = box(b"dinf", full_box(b"dref", 0, 0, struct.pack(">I", 1), full_box(b"url ", 0, 1)))
    stbl = box(
        b"stbl", full_box(b"stsd", 0, 0, struct.pack(">I", 1), entry), full_box(b"stts", 0, 0, bytes(4)),
        full_box(b"stsc", 0, 0, bytes(4)), full_box(b"stsz", 0, 0, bytes(8)),
        full_box(b"stco", 0, 0, bytes(4)),
    )  # fmt: skip
    return box(b"trak", tkhd, edits, box(b"mdia", mdhd, hdlr, box(b"minf", media_header, dinf, stbl)))


def _matrix(rotation: int, width: int, height: int) -> bytes:
    a, b, c, d, across, down = _TURNS[rotation]
    turned = rotation % 180 != 0
    x = across * (height if turned else width)
    y = down * (width if turned else height)
    return struct.pack(">iiiiiiiii", a << 16, b << 16, 0, c << 16, d << 16, 0, x << 16, y << 16, 1 << 30)


def _avc1(track: VideoTrack) -> bytes:
    aspect = b""
    if track.sample_aspect != 1:
        ratio = track.sample_aspect
        aspect = box(b"pasp", struct.pack(">II", ratio.numerator, ratio.denominator))
    return box(
        b"avc1", bytes(6), struct.pack(">H", 1), bytes(16),
        struct.pack(">HH", track.width_px, track.height_px), struct.pack(">III", 0x00480000, 0x00480000, 0),
        struct.pack(">H", 1), bytes(32),
        struct.pack(">Hh", 0x0018, -1), box(b"avcC", track.avcc), aspect,
    )  # fmt: skip


def _mp4a(track: SoundTrack) -> bytes:
    specific = _descriptor(0x05, track.config)
    decoder = _descriptor(0x04, bytes([0x40, 0x15]) + bytes(11) + specific)
    esds = full_box(b"esds", 0, 0, _descriptor(0x03, bytes(3) + decoder + _descriptor(0x06, b"\x02")))
    # The 16.16 field ends at 65,535 Hz; the truth is in the AudioSpecificConfig.
    rate = min(track.sample_rate_hz, 0xFFFF) << 16
    return box(
        b"mp4a", bytes(6), struct.pack(">H", 1), bytes(8), struct.pack(">HHI", track.channels, 16, 0),
        struct.pack(">I", rate), esds,
    )  # fmt: skip


def _descriptor(tag: int, body: bytes) -> bytes:
    size = len(body)
    return (
        bytes([tag, 0x80 | size >> 21 & 0x7F, 0x80 | size >> 14 & 0x7F, 0x80 | size >> 7 & 0x7F, size & 0x7F])
        + body
    )


def _moof(sequence: int, parts: Sequence[tuple[_Lane, list[Sample]]]) -> bytes:
    sizes = [_traf_size(len(samples)) for _, samples in parts]
    # moof header, mfhd, all trafs, then the mdat header: there the first track's samples begin.
    offset = 8 + 16 + sum(sizes) + 8
    trafs = []
    for lane, samples in parts:
        trafs.append(_traf(lane, samples, offset))
        offset += sum(len(sample.data) for sample in samples)
    return box(b"moof", full_box(b"mfhd", 0, 0, struct.pack(">I", sequence)), *trafs)


def _traf_size(sample_count: int) -> int:
    return 8 + 16 + 20 + 20 + 16 * sample_count


def _traf(lane: _Lane, samples: list[Sample], data_offset: int) -> bytes:
    tfhd = full_box(b"tfhd", 0, DEFAULT_BASE_IS_MOOF, struct.pack(">I", lane.track_id))
    tfdt = full_box(b"tfdt", 1, 0, struct.pack(">Q", samples[0].pts + lane.skipped - lane.delay))
    rows = b"".join(
        struct.pack(">IIII", s.duration, len(s.data), SYNC_SAMPLE if s.sync else DEPENDENT_SAMPLE, lane.delay)
        for s in samples
    )
    trun = full_box(b"trun", 0, TRUN_FIELDS, struct.pack(">Ii", len(samples), data_offset), rows)
    return box(b"traf", tfhd, tfdt, trun)
