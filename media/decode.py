"""Read decoded frames, sound and stills: rational times, planes as numpy arrays, nothing passed over.

Meant to run inside a child of `media.sandbox`. A picture that cannot be decoded is still a frame:
it comes out *lost*, at the time its packet names, so that whoever counts frames counts it and whoever
masks frames can mask it. A reader belongs to one thread; PyAV deadlocks when two threads convert
the same frame.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import av.error
import numpy as np
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import ImageOps

from media.errors import media_error, translated
from media.photo import open_photo

# Our own renditions are fragmented MP4. Whoever reads something else says what.
RENDITION_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2"
GREY = 128

Plane = NDArray[np.uint8]


class DecodedFrame:
    """One picture of a video stream.

    Attributes:
        index: Place in order of showing, from 0.
        pts: Presentation time in units of the reader's ``time_base``.
        duration: How long it is shown, in the same units; 0 when the source does not say.
        key: Whether its packet starts a group of pictures.
        lost: The packet is there and gave no picture.
        corrupt: The decoder could not vouch for the picture, or for one since the last key picture that it
            may have been predicted from; true when it is lost.
    """

    def __init__(
        self, *, index: int, pts: int, duration: int, key: bool, corrupt: bool, width_px: int, height_px: int,
        picture: VideoFrame | None,
    ) -> None:  # fmt: skip
        self.index = index
        self.pts = pts
        self.duration = duration
        self.key = key
        self.width_px = width_px
        self.height_px = height_px
        self.lost = picture is None
        self.corrupt = corrupt
        self._picture = picture

    def planes(self) -> tuple[Plane, Plane, Plane]:
        """Y, U and V, uint8: ``(height, width)`` and twice ``(height / 2, width / 2)``.

        Views of the decoder's own picture, which later pictures are predicted from: never write to them.
        """
        if self._picture is None:
            half = (self.height_px // 2, self.width_px // 2)
            return (
                np.full((self.height_px, self.width_px), GREY, np.uint8),
                np.full(half, GREY, np.uint8),
                np.full(half, GREY, np.uint8),
            )
        picture = self._picture
        if picture.format.name not in {"yuv420p", "yuvj420p"}:
            with translated():
                picture = picture.reformat(format="yuv420p")
        y, u, v = (_plane(picture, index) for index in range(3))
        return y, u, v

    def rgb(self, width_px: int, height_px: int) -> NDArray[np.uint8]:
        """The picture scaled: RGB24, ``(height_px, width_px, 3)``, uint8."""
        if self._picture is None:
            return np.full((height_px, width_px, 3), GREY, np.uint8)
        with translated():
            scaled = self._picture.reformat(width=width_px, height=height_px, format="rgb24")
        rows = _rows(scaled, 0)[:, : width_px * 3]
        return np.ascontiguousarray(rows).reshape(height_px, width_px, 3)


def _plane(picture: VideoFrame, index: int) -> Plane:
    return _rows(picture, index)[:, : picture.planes[index].width]


def _rows(picture: VideoFrame, index: int) -> Plane:
    """A plane with the padding at the end of each line: ``(height, line size)``."""
    plane = picture.planes[index]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)


@dataclass(frozen=True)
class VideoShape:
    """What stays the same over a whole video stream."""

    width_px: int
    height_px: int
    time_base: Fraction
    rate: Fraction | None
    """Mean frames per second as the container says; None when it does not. Never a clock."""
    sample_aspect: Fraction
    rotation: int
    """Degrees counter-clockwise to turn the picture for showing: 0, 90, 180 or 270."""
    colour: tuple[int, int, int, int]
    """Range, primaries, transfer and matrix, as ITU-T H.273 numbers them."""
    frame_count: int
    """Frames the container promises; 0 when it does not."""
    duration: int
    """In units of ``time_base``; 0 when the container does not say."""


class _Reader:
    """An open container; closed on the way out of ``with``."""

    def __init__(self, path: Path, format_whitelist: str) -> None:
        options = {"protocol_whitelist": "file,pipe", "format_whitelist": format_whitelist}
        with translated("not_media"):
            # With its protocol named, no file name can be taken for an address.
            self._container: InputContainer = av.open(f"file:{path.absolute()}", "r", options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    def count_streams(self) -> dict[str, int]:
        """How many streams of each type the file has."""
        return dict(Counter(stream.type for stream in self._container.streams))

    def picture_times(self) -> list[tuple[int, int]]:
        """Time and duration of every picture that the packets promise."""
        with translated():
            return sorted(
                (packet.pts, packet.duration or 0)
                for packet in self._container.demux(*self._container.streams.video[:1])
                if packet.pts is not None and not packet.is_discard
            )


class _Decoder:
    """Turns packets of a stream into frames."""

    def __init__(self, stream: VideoStream, threads: int) -> None:
        self._stream = stream
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        # A damaged picture must come out and be covered, not silently disappear.
        stream.codec_context.flags |= Flags.output_corrupt
        self.rotation = 0

    def frames(self, packets: Iterable[Packet[VideoStream]]) -> Iterator[DecodedFrame]:
        """Every frame that a packet promises, once, in order of showing; what came before is forgotten."""
        promised: dict[int, tuple[int, bool]] = {}
        number = itertools.count()
        is_doubtful = False
        size: tuple[int, int] | None = None
        for picture in self._pictures(packets, promised):
            if size is None:
                size = (picture.width, picture.height)
                self.rotation = round(picture.rotation / 90) % 4 * 90
            # Not promised: a second picture of one packet. Another size: it cannot stand in this stream,
            # and its promise stays unkept.
            if picture.pts not in promised or (picture.width, picture.height) != size:
                is_doubtful = True
                continue
            # Pictures come out in order of showing: an earlier packet that gave none never will.
            for pts in sorted(earlier for earlier in promised if earlier < picture.pts):
                is_doubtful = True
                yield self._frame(next(number), pts, promised.pop(pts), None, size, is_doubtful)
            promise = promised.pop(picture.pts)
            # What is wrong in one picture is copied into all that are predicted from it.
            is_doubtful = picture.is_corrupt or (is_doubtful and not promise[1])
            yield self._frame(next(number), picture.pts, promise, picture, size, is_doubtful)
        if size is None:
            # Not one picture came out, so there is not even a size to stand in for the lost ones.
            return
        for pts in sorted(promised):
            yield self._frame(next(number), pts, promised[pts], None, size, True)

    @staticmethod
    def _frame(
        index: int,
        pts: int,
        promise: tuple[int, bool],
        picture: VideoFrame | None,
        size: tuple[int, int],
        corrupt: bool,
    ) -> DecodedFrame:
        width_px, height_px = size
        duration, key = promise
        return DecodedFrame(
            index=index, pts=pts, duration=duration, key=key, corrupt=corrupt, width_px=width_px,
            height_px=height_px, picture=picture,
        )  # fmt: skip

    def _pictures(
        self, packets: Iterable[Packet[VideoStream]], promised: dict[int, tuple[int, bool]]
    ) -> Iterator[VideoFrame]:
        with translated():
            for packet in itertools.chain(packets, [None]):
                if packet is not None and packet.pts is not None and not packet.is_discard:
                    promised[packet.pts] = (packet.duration or 0, packet.is_keyframe)
                try:
                    pictures = self._stream.decode(packet)
                except av.error.InvalidDataError:
                    # Its promise stays unkept, so `frames` gives a lost frame in its place.
                    continue
                yield from pictures
            self._stream.codec_context.flush_buffers()


class _PictureReader(_Reader):
    """A container of which the first video stream is read."""

    def __init__(self, path: Path, format_whitelist: str, threads: int) -> None:
        super().__init__(path, format_whitelist)
        streams = self._container.streams.video
        if not streams:
            self._container.close()
            raise media_error("no_streams", "expected a video stream, found none")
        self._stream: VideoStream = streams[0]
        self._decoder = _Decoder(self._stream, threads)

    def configuration(self) -> bytes:
        """The ``avcC`` of H.264 as it stands in the file; empty for any other coding."""
        context = self._stream.codec_context
        return context.extradata or b"" if context.name == "h264" else b""

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        # The demuxer's last packet is an empty one, which tells the decoder to end: `_Decoder` does.
        return (packet for packet in self._container.demux(self._stream) if packet.size)


class VideoReader(_PictureReader):
    """Every picture of a file's first video stream, in order of showing."""

    def __init__(self, path: Path, *, format_whitelist: str = RENDITION_FORMATS, threads: int = 0) -> None:
        super().__init__(path, format_whitelist, threads)
        self._first: list[DecodedFrame] = []
        self._frames = self._decoder.frames(self._packets())
        first = next(self._frames, None)
        if first is None:
            self._container.close()
            raise media_error("nothing_decodes", "expected at least one frame, found none")
        self._first.append(first)
        self.shape = self._shape()

    def __iter__(self) -> Iterator[DecodedFrame]:
        """The frames, once."""
        while self._first:
            yield self._first.pop()
        yield from self._frames

    def _shape(self) -> VideoShape:
        stream, context = self._stream, self._stream.codec_context
        rate = stream.average_rate
        aspect = stream.sample_aspect_ratio
        return VideoShape(
            width_px=self._first[0].width_px,
            height_px=self._first[0].height_px,
            time_base=_time_base(stream),
            rate=Fraction(rate.numerator, rate.denominator) if rate else None,
            sample_aspect=Fraction(aspect.numerator, aspect.denominator) if aspect else Fraction(1),
            rotation=self._decoder.rotation,
            colour=(context.color_range, context.color_primaries, context.color_trc, context.colorspace),
            frame_count=stream.frames,
            duration=stream.duration or 0,
        )


class CodedPicture:
    """One picture as it is coded.

    Attributes:
        pts: When it is shown, in units of the reader's ``time_base``.
        dts: When it is decoded; None where nothing says so.
        duration: For how long, in the same units; 0 when the source does not say.
        key: Whether the container says that decoding can begin with it.
    """

    def __init__(self, packet: Packet[VideoStream], pts: int) -> None:
        self.pts = pts
        self.dts = packet.dts
        self.duration = packet.duration or 0
        self.key = packet.is_keyframe
        self.packet = packet

    @property
    def data(self) -> bytes:
        """The sample: units behind their lengths."""
        return bytes(self.packet)


class CodedReader(_PictureReader):
    """Every picture of a file's first video stream as it is coded; and runs of them decoded."""

    def __init__(self, path: Path, *, format_whitelist: str = RENDITION_FORMATS, threads: int = 0) -> None:
        super().__init__(path, format_whitelist, threads)
        self.time_base = _time_base(self._stream)

    def pictures(self) -> Iterator[CodedPicture]:
        """The pictures in order of decoding, once.

        Raises:
            MediaError: ``media_unreadable``: the file cannot be read, or a picture has no time.
        """
        with translated():
            for packet in self._packets():
                if packet.pts is None or packet.is_discard:
                    raise media_error("media_unreadable", "expected a time on every picture, found none")
                yield CodedPicture(packet, packet.pts)

    def decode(self, pictures: Iterable[CodedPicture]) -> Iterator[DecodedFrame]:
        """The frames of a run that begins with a key picture, in order of showing."""
        return self._decoder.frames(picture.packet for picture in pictures)


@dataclass(frozen=True)
class AudioPacket:
    """One coded packet, as it stands in the file."""

    pts: int
    duration: int
    data: bytes


@dataclass(frozen=True)
class AudioBlock:
    """Decoded sound."""

    pts: int
    """Time of the first sample, in units of the reader's ``time_base``."""
    samples: NDArray[np.float32]
    """``(channels, samples)``, float32, full scale 1."""


class AudioReader(_Reader):
    """Packets or samples of one audio stream.

    Args:
        path: The file.
        number: Which of the file's audio streams, from 0.
        format_whitelist: Demuxers that may open the file.
    """

    def __init__(self, path: Path, number: int = 0, *, format_whitelist: str = RENDITION_FORMATS) -> None:
        super().__init__(path, format_whitelist)
        streams = self._container.streams.audio
        if number >= len(streams):
            self._container.close()
            raise media_error("no_streams", f"expected audio stream {number}, found {len(streams)} streams")
        self._stream: AudioStream = streams[number]
        context = self._stream.codec_context
        self.codec = context.name
        self.config = context.extradata or b""
        self.sample_rate_hz = context.sample_rate
        self.layout = context.layout.name
        self.channels = context.layout.nb_channels
        self.time_base = _time_base(self._stream)

    def packets(self) -> Iterator[AudioPacket]:
        """The coded packets in order, once."""
        with translated():
            for packet in self._container.demux(self._stream):
                if packet.pts is not None and packet.size:
                    yield AudioPacket(packet.pts, packet.duration or 0, bytes(packet))

    def blocks(self) -> Iterator[AudioBlock]:
        """The decoded sound in order, once; packets that do not decode leave a gap in time."""
        block: AudioBlock | None = None
        length = 0
        for block_after, length_after in self._blocks():
            if block is not None:
                yield block
            block, length = block_after, length_after
        if block is not None:
            # A coder fills its last packet up; how much of it is sound, the packet's duration says.
            yield AudioBlock(block.pts, block.samples[:, : length or None])

    def _blocks(self) -> Iterator[tuple[AudioBlock, int]]:
        """Blocks, and how many samples the packet of each says it holds; 0 when it does not say."""
        planar = AudioResampler(format="fltp")
        per_tick = plain(self.time_base * self.sample_rate_hz)
        with translated():
            for packet in self._container.demux(self._stream):
                length = round((packet.duration or 0) * per_tick)
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    continue
                for frame in frames:
                    pts = frame.pts
                    if pts is None:
                        continue
                    for part in [frame] if frame.format.name == "fltp" else planar.resample(frame):
                        samples = part.to_ndarray().astype(np.float32, copy=False)
                        yield AudioBlock(pts, samples), length


def open_video(path: Path, *, format_whitelist: str = RENDITION_FORMATS, threads: int = 0) -> VideoReader:
    """A reader of a file's first video stream; use it in a ``with`` statement.

    Args:
        path: The file.
        format_whitelist: Demuxers that may open it, as FFmpeg names them.
        threads: Decoder threads; 0 takes one per core.

    Raises:
        MediaError: ``not_media``, ``no_streams``, ``nothing_decodes``.
    """
    return VideoReader(path, format_whitelist=format_whitelist, threads=threads)


def count_streams(path: Path, *, format_whitelist: str = RENDITION_FORMATS) -> dict[str, int]:
    """How many streams of each type a file has, such as ``{"video": 1, "audio": 2}``."""
    with _Reader(path, format_whitelist) as reader:
        return reader.count_streams()


def picture_times(path: Path, *, format_whitelist: str = RENDITION_FORMATS) -> list[tuple[int, int]]:
    """When each picture of a file's first video stream is shown and for how long, without decoding any.

    Returns:
        ``(pts, duration)`` in units of the stream's time base, ascending.
    """
    with _Reader(path, format_whitelist) as reader:
        return reader.picture_times()


def read_photo(path: Path) -> NDArray[np.uint8]:
    """A still as people see it, upright: RGB24, ``(height, width, 3)``, uint8.

    Raises:
        MediaError: ``huge_dimensions``, ``unknown_codec`` or ``nothing_decodes``.
    """
    with open_photo(path) as picture:
        return np.array(ImageOps.exif_transpose(picture).convert("RGB"))


def plain(value: Fraction) -> Fraction | int:
    """The same number, as an int where it is whole: counting each packet of hours by it is cheap then."""
    return value if value.denominator > 1 else value.numerator


def _time_base(stream: VideoStream | AudioStream) -> Fraction:
    # PyAV 18 gives a Fraction, 19 a rational type of its own.
    base = stream.time_base
    if base is None:
        raise media_error("media_unreadable", "expected a time base, found none")
    return Fraction(base.numerator, base.denominator)
