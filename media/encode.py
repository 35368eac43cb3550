"""Encode pictures and sound into one clean fragmented MP4 whose times are exactly those given.

H.264 by libx264 and AAC by FFmpeg's encoder, both through PyAV; `media.mux` writes the file. Pictures are
coded without B-frames, so the order of storing is the order of showing and no time is ever shifted.
Each picture is a fresh one: no side data of a decoded frame (captions, SEI, motion, metadata) can ride along.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.context import CodecContext, Flags
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from numpy.typing import NDArray
from PIL import Image

from evidence.errors import InvalidInput, Unavailable
from media.avc import Configuration, together
from media.decode import AudioPacket, Plane, VideoShape
from media.errors import media_error, translated
from media.mux import FragmentFile, Sample, SoundTrack, VideoTrack, avcc_from

# Coded slices and nothing else: no SEI (6), no parameter sets (7, 8: they are in avcC), no filler (12).
SLICE_UNITS = {1, 5}
PARAMETER_SET_UNITS = {7, 8}
GROUP_MAX_S = 4
AAC_BITS_PER_CHANNEL = 64_000


@dataclass(frozen=True)
class PictureCoding:
    """How pictures are coded."""

    crf: int = 21
    preset: str = "veryfast"
    threads: int = 0
    """0 takes one per core."""
    set_number: int = 0
    """Of its parameter sets, so that they can stand beside others."""


class Canvas:
    """A picture of our own to draw on and encode: planes that belong to nobody else.

    Attributes:
        y: ``(height, width)``, uint8.
        u: ``(height / 2, width / 2)``, uint8.
        v: As ``u``.
    """

    def __init__(self, width_px: int, height_px: int) -> None:
        if width_px % 2 or height_px % 2:
            raise InvalidInput(f"picture: expected even sides, found {width_px}x{height_px}")
        self.frame = VideoFrame(width_px, height_px, "yuv420p")
        self.y, self.u, self.v = (_writable(self.frame, index) for index in range(3))

    def copy(self, planes: tuple[Plane, Plane, Plane]) -> None:
        """Fill it with the pixels of a decoded picture of the same size."""
        self.y[:], self.u[:], self.v[:] = planes


def _writable(frame: VideoFrame, index: int) -> Plane:
    plane = frame.planes[index]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]


class FragmentedMp4Writer:
    """Writes one rendition; leaving its ``with`` block by an exception removes the file.

    Pictures are encoded, or kept as they are coded, by whole groups. Those that are encoded have parameter
    sets under a number that the kept ones do not use; all of them stand in the one ``avcC``.

    Args:
        path: Where.
        video: Shape of the pictures to come, or None for sound alone. Its time base has numerator 1.
        sound: The sound tracks, copied or encoded, in order.
        coding: How pictures are coded.
        kept: Parameter sets of the pictures that will be kept; None where none are.
        encodes: Whether any picture will be encoded.
    """

    def __init__(
        self,
        path: Path,
        *,
        video: VideoShape | None,
        sound: Sequence[SoundTrack] = (),
        coding: PictureCoding | None = None,
        kept: Configuration | None = None,
        encodes: bool = True,
    ) -> None:
        self._video, self._coding = video, coding or PictureCoding()
        track, self._timescale = None, 1
        self._encoder: VideoCodecContext | None = None
        self._extradata = b""
        if video is not None:
            sets = [kept] if kept is not None else []
            if encodes:
                self._encoder = _open_h264(video, self._coding)
                self._extradata = self._encoder.extradata or b""
                sets.append(Configuration.from_bytes(avcc_from(_parameter_sets(self._extradata))))
            track = _track_of(video, together(sets))
            self._timescale = track.timescale
        self._durations: deque[tuple[int, int]] = deque()
        self._group_start: int | None = None
        self._file = FragmentFile(path, track, sound)
        self.size_bytes = 0
        self.frame_count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._file.abandon()
            return
        try:
            self._finish_run()
            self.size_bytes = self._file.finish()
        except BaseException:
            self._file.abandon()
            raise

    def _finish_run(self) -> None:
        """Take out of the encoder what it holds; what comes later has an encoder of its own."""
        if self._group_start is not None and self._encoder is not None:
            self._store(self._encoder, None)
            if self._durations:
                raise media_error("ffmpeg_failed", f"the encoder kept {len(self._durations)} pictures back")
            self._encoder = None
        self._group_start = None

    def write_picture(self, canvas: Canvas, *, pts: int, duration: int, key: bool) -> None:
        """Encode the next picture.

        Args:
            canvas: What to show; it must not be drawn on afterwards.
            pts: When, in the video's time base; more than the one before.
            duration: For how long; decides only for the last picture.
            key: Start a closed group of pictures, and with it a fragment, here.
        """
        encoder = self._encoder or self._next_encoder()
        # A group that never ends would keep a fragment, and whoever seeks in it, waiting.
        start = self._group_start
        key = key or start is None or pts - start >= GROUP_MAX_S * self._timescale
        if key:
            self._group_start = pts
        canvas.frame.pts = pts
        canvas.frame.time_base = Fraction(1, self._timescale)
        canvas.frame.pict_type = PictureType.I if key else PictureType.NONE
        self._durations.append((pts, duration))
        self._store(encoder, canvas.frame)

    def write_kept(self, coded_slice: bytes, *, pts: int, duration: int, key: bool) -> None:
        """Store the next picture as it is coded, under the parameter sets named at the start.

        Args:
            coded_slice: Its one unit.
            pts: As in `write_picture`.
            duration: As there.
            key: Whether a group of pictures begins with it; the first one behind encoded ones must.
        """
        self._finish_run()
        self._file.add_picture(Sample(pts, duration, _length_prefixed(iter([coded_slice])), key))
        self.frame_count += 1

    def write_sound(self, number: int, packet: AudioPacket) -> None:
        """Store the next packet of sound track ``number``, from 0."""
        self._file.add_sound(number, Sample(packet.pts, packet.duration, packet.data, True))

    def _next_encoder(self) -> VideoCodecContext:
        if self._video is None or not self._extradata:
            raise InvalidInput("rendition: expected no picture to encode, found one")
        self._encoder = _open_h264(self._video, self._coding)
        if (self._encoder.extradata or b"") != self._extradata:
            raise media_error("ffmpeg_failed", "the encoder was opened twice, and codes otherwise now")
        return self._encoder

    def _store(self, encoder: VideoCodecContext, frame: VideoFrame | None) -> None:
        with translated("ffmpeg_failed"):
            packets = encoder.encode(frame)
        for packet in packets:
            pts, duration = self._durations.popleft()
            if packet.pts != pts:
                raise media_error("ffmpeg_failed", f"expected the picture at {pts}, found {packet.pts}")
            data = _length_prefixed(unit for unit in _units(bytes(packet)) if unit[0] & 0x1F in SLICE_UNITS)
            self._file.add_picture(Sample(pts, duration, data, packet.is_keyframe))
            self.frame_count += 1


def _open_h264(shape: VideoShape, coding: PictureCoding) -> VideoCodecContext:
    if shape.time_base.numerator != 1:
        raise InvalidInput(f"rendition: expected a time base of 1/n, found {shape.time_base}")
    with translated("ffmpeg_failed"):
        encoder = CodecContext.create("libx264", "w")
        encoder.width, encoder.height = shape.width_px, shape.height_px
        encoder.pix_fmt = "yuv420p"
        encoder.time_base = shape.time_base
        encoder.framerate = shape.rate or Fraction(25)
        encoder.sample_aspect_ratio = shape.sample_aspect
        (
            encoder.color_range,
            encoder.color_primaries,
            encoder.color_trc,
            encoder.colorspace,
        ) = shape.colour
        encoder.thread_count = coding.threads
        encoder.flags |= Flags.global_header | Flags.bitexact | Flags.closed_gop
        encoder.options = {
            "preset": coding.preset,
            "crf": str(coding.crf),
            "bf": "0",
            "forced-idr": "1",
            "sc_threshold": "0",
            "g": str(1 << 20),
            "a53cc": "0",
            "x264-params": f"sps-id={coding.set_number}",
        }
        encoder.open()
    return encoder


def _parameter_sets(extradata: bytes) -> list[bytes]:
    return [unit for unit in _units(extradata) if unit[0] & 0x1F in PARAMETER_SET_UNITS]


def _track_of(shape: VideoShape, configuration: Configuration) -> VideoTrack:
    return VideoTrack(
        width_px=shape.width_px,
        height_px=shape.height_px,
        timescale=shape.time_base.denominator,
        avcc=configuration.to_bytes(),
        sample_aspect=shape.sample_aspect,
        rotation=shape.rotation,
    )


def _units(stream: bytes) -> Iterator[bytes]:
    """The NAL units of an Annex B byte stream.

    A unit ends with a one bit, so zeros before a start code belong to the start code.
    Source: ITU-T H.264, B.1.
    """
    start = stream.find(b"\0\0\1")
    while start >= 0:
        following = stream.find(b"\0\0\1", start + 3)
        unit = stream[start + 3 : following if following >= 0 else None].rstrip(b"\0")
        if unit:
            yield unit
        start = following


def _length_prefixed(units: Iterator[bytes]) -> bytes:
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


class AacEncoder:
    """Turns samples into AAC packets whose times are those of the samples.

    What the encoder puts before the first sample (priming) is left out: it holds no sound, and players
    that are fed by fragments would need an edit list, which they ignore, to skip it.

    Args:
        sample_rate_hz: Of the samples to come, and the unit of every time.
        layout: Channel layout as FFmpeg names it.
        channels: How many channels that is.
    """

    def __init__(self, *, sample_rate_hz: int, layout: str, channels: int) -> None:
        with translated("ffmpeg_failed"):
            encoder: AudioCodecContext = CodecContext.create("aac", "w")
            encoder.sample_rate = sample_rate_hz
            encoder.layout = layout
            encoder.format = "fltp"
            encoder.bit_rate = AAC_BITS_PER_CHANNEL * channels
            encoder.time_base = Fraction(1, sample_rate_hz)
            # Without this the encoder writes its name into the first packet.
            encoder.flags |= Flags.global_header | Flags.bitexact
            encoder.open()
        self._encoder = encoder
        self._layout = layout
        self._rate = sample_rate_hz
        self._start: int | None = None
        self._end = 0
        self.track = SoundTrack(sample_rate_hz, channels, sample_rate_hz, encoder.extradata or b"")

    def encode(self, pts: int, samples: NDArray[np.float32]) -> list[AudioPacket]:
        """Take samples, ``(channels, n)``, that follow those before without a gap."""
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=self._layout)
        frame.sample_rate = self._rate
        frame.pts = pts
        frame.time_base = Fraction(1, self._rate)
        self._start = pts if self._start is None else self._start
        self._end = pts + samples.shape[1]
        with translated("ffmpeg_failed"):
            return self._packets(self._encoder.encode(frame))

    def finish(self) -> list[AudioPacket]:
        """The packets still held back; the last one ends with the last sample."""
        with translated("ffmpeg_failed"):
            packets = self._packets(self._encoder.encode(None))
        if packets:
            last = packets[-1]
            packets[-1] = AudioPacket(last.pts, max(1, min(last.duration, self._end - last.pts)), last.data)
        return packets

    def _packets(self, packets: Sequence[Packet[AudioStream]]) -> list[AudioPacket]:
        coded = []
        for packet in packets:
            if packet.pts is None:
                raise media_error("ffmpeg_failed", "expected a time on every packet, found none")
            if self._start is not None and packet.pts >= self._start:
                coded.append(AudioPacket(packet.pts, packet.duration or 0, bytes(packet)))
        return coded


def write_canvas_photo(path: Path, canvas: Canvas) -> int:
    """Write what stands on a canvas as a JPEG; its size in bytes."""
    with translated():
        rgb = canvas.frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    return write_photo(path, rgb, quality=85)


def write_photo(path: Path, rgb: NDArray[np.uint8], *, quality: int = 90) -> int:
    """Write a JPEG that holds the pixels and nothing else, durably.

    Args:
        path: Where; an existing file is replaced.
        rgb: RGB24, ``(height, width, 3)``, uint8.
        quality: Pillow's, 1 to 95.

    Returns:
        The size of the file in bytes.
    """
    try:
        with path.open("wb") as file:
            Image.fromarray(rgb, "RGB").save(file, "JPEG", quality=quality)
            file.flush()
            os.fsync(file.fileno())
            return file.tell()
    except OSError as error:
        raise Unavailable(
            f"photo {path.name}: expected to write it, found {error.strerror}; free space and try again",
            code="output_unwritable",
        ) from error
