"""One original of a live stream, written while it happens: packets unaltered, readable after any cut.

Fragments (MP4, QuickTime) and clusters (Matroska) last at most `FRAGMENT_MS`, and nothing that was written is
ever written over: whatever is cut off, all whole ones before it are footage. Decoding times are absolute
within the file (``tfdt`` counts from the file's zero for every track), so a fragment can be served as it is.

The container is the first of `CONTAINERS` that holds all codecs; MPEG-TS takes what the others cannot
describe yet, such as a picture whose size no keyframe has told.

Source: ISO/IEC 14496-12, clause 8.8; RFC 9559 (Matroska).
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from media.errors import media_error

FRAGMENT_MS = 250
DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
MUX_PATIENCE_US = 200_000
"""How long a packet waits in the muxer for one of the other streams; a microphone may have died."""
PICTURES_IN_MP4 = frozenset({"h264", "hevc", "mpeg4", "mjpeg", "av1", "vp9"})
SOUNDS_IN_MP4 = frozenset({"aac", "mp3", "mp2", "opus", "ac3", "eac3", "flac"})
SOUNDS_IN_MOV = frozenset({"pcm_alaw", "pcm_mulaw", "pcm_s16le", "pcm_s16be", "adpcm_ima_qt"})
"""Telephone sound and plain samples, which QuickTime names and MP4 does not."""
BROWSER_PICTURES = frozenset({"h264", "av1", "vp9"})
BROWSER_SOUNDS = frozenset({"aac", "mp3", "opus", "flac"})
"""What browsers play of all these; not H.265, Motion JPEG and telephone sound."""
SUFFIXES: Mapping[str, str] = {"mp4": "mp4", "mov": "mov", "matroska": "mkv", "mpegts": "ts"}
FRAGMENTS = {
    # One begins at each keyframe as well, so that whoever joins can begin there.
    "movflags": "empty_moov+default_base_moof+frag_discont+frag_keyframe",
    "frag_duration": str(FRAGMENT_MS * 1000),
    "use_editlist": "0",
}
_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "mp4": FRAGMENTS,
    "mov": FRAGMENTS,
    "matroska": {
        "live": "1",
        "cluster_time_limit": str(FRAGMENT_MS),
        "cluster_size_limit": str(64 << 20),
    },
    "mpegts": {},
}


@dataclass(frozen=True)
class Closed:
    """A finished original."""

    size_bytes: int
    sha256: bytes


def containers_for(streams: Sequence[Stream]) -> list[str]:
    """Containers that hold every stream unaltered, the best first; one may still refuse to begin."""
    names = {stream.codec_context.name for stream in streams}
    found = ["matroska", "mpegts"]
    if names <= PICTURES_IN_MP4 | SOUNDS_IN_MP4 | SOUNDS_IN_MOV:
        found.insert(0, "mov")
    if names <= PICTURES_IN_MP4 | SOUNDS_IN_MP4:
        found.insert(0, "mp4")
    return found


def _is_bare_aac(stream: Stream) -> bool:
    context: Any = stream.codec_context
    return bool(stream.type == "audio" and context.name == "aac" and not context.extradata)


def audio_specific_config(stream: Stream) -> bytes:
    """What a container says of AAC that came with a header on each packet (ISO/IEC 14496-3, 1.6.2.1)."""
    context: Any = stream.codec_context
    rates = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
    if context.sample_rate not in rates:
        raise ValueError(f"aac: expected a sample rate of the standard, found {context.sample_rate}")
    # Channel configuration 7 is eight channels.
    channels = {8: 7}.get(context.channels, context.channels)
    config = 2 << 11 | rates.index(context.sample_rate) << 7 | channels << 3
    return int(config).to_bytes(2, "big")


class _Sink:
    """What the muxer writes to: a file that is only appended to, its digest made on the way."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self.size_bytes = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        done = 0
        while done < len(view):
            done += os.write(self.descriptor, view[done:])
        self.digest.update(view)
        self.size_bytes += len(view)
        return len(view)


class LiveFile:
    """An original that is being written.

    Args:
        path: A file that is not there yet.
        templates: The source's streams, by their index there.
        container: One of `containers_for`.

    Raises:
        MediaError: ``unknown_codec``: this container does not hold what the source says of its streams.
    """

    def __init__(self, path: Path, templates: Mapping[int, Stream], container: str) -> None:
        self.path = path
        self._sink = _Sink(path)
        self.synced_bytes = 0
        try:
            self._out: OutputContainer = av.open(
                self._sink,
                "w",
                format=container,
                options={
                    **_OPTIONS[container],
                    "avoid_negative_ts": "disabled",
                    "max_interleave_delta": str(MUX_PATIENCE_US),
                    "flush_packets": "1",
                },
                buffer_size=256 << 10,
            )
            self._streams: dict[int, Any] = {
                index: self._out.add_stream_from_template(template) for index, template in templates.items()
            }
            self._filters: dict[int, BitStreamFilterContext] = {}
            for index, template in templates.items():
                if _is_bare_aac(template) and container != "mpegts":
                    self._streams[index].codec_context.extradata = audio_specific_config(template)
                    self._filters[index] = BitStreamFilterContext("aac_adtstoasc", template)
            self._out.start_encoding()
            self._bases = {
                index: template.time_base or Fraction(1, 1_000_000) for index, template in templates.items()
            }
        except (av.FFmpegError, ValueError) as error:
            os.close(self._sink.descriptor)
            path.unlink(missing_ok=True)
            raise media_error("unknown_codec", f"{container}: {error}") from error

    @property
    def size_bytes(self) -> int:
        """What has been written."""
        return self._sink.size_bytes

    def write(self, packet: Packet[Any], index: int, dts: int, pts: int) -> None:
        """Take a packet over, with its times in the source's time base counted from the file's zero.

        Raises:
            MediaError: ``corrupt``: no reader could make anything of it, and the muxer refuses it.
            OSError: The disk is full or failing.
        """
        packet.dts, packet.pts = dts, pts
        try:
            if index not in self._filters:
                packet.stream = self._streams[index]
                self._out.mux_one(packet)
                return
            packet.time_base = self._bases[index]
            for each in self._filters[index].filter(packet):
                each.stream = self._streams[index]
                self._out.mux_one(each)
        except av.FFmpegError as error:
            if isinstance(error, OSError) and error.errno in DISK:
                raise
            raise media_error("corrupt", str(error)) from error

    def sync(self) -> int:
        """Have what was written so far on the disk; returns how many bytes that is."""
        size_bytes = self._sink.size_bytes
        if size_bytes > self.synced_bytes:
            os.fdatasync(self._sink.descriptor)
            self.synced_bytes = size_bytes
        return size_bytes

    def close(self) -> Closed:
        """End the file: what the muxer holds, then fsync. The name is the caller's to make final."""
        try:
            self._out.close()
            os.fsync(self._sink.descriptor)
        finally:
            os.close(self._sink.descriptor)
        self.synced_bytes = self._sink.size_bytes
        return Closed(self._sink.size_bytes, self._sink.digest.digest())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            os.close(self._sink.descriptor)
