"""Open a live source by its address.

PyAV's FFmpeg speaks RTSP, RTMP, HLS, TCP and UDP. What it lacks (SRT) is fetched by the FFmpeg binary as
plain bytes through a pipe: it carries, and parses nothing. What comes to us by RTMP or ZeroMQ is read by
`media.live.listening` and `media.live.pushing`. A file is played at its own pace, for trials.

An address may hold credentials. It comes through standard input and stands in no journal and no message:
`scrubbed` takes them out of what FFmpeg says. SRT alone wants its passphrase on FFmpeg's command line, which
other accounts of the host can read unless ``/proc`` is mounted with ``hidepid``.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from evidence.errors import InvalidInput
from media.live.listening import RtmpSource, ZmqSource
from media.sandbox import CHILD
from media.supervise import Limits

DIRECT = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "tcp", "udp"})
CARRIED = frozenset({"srt"})
LISTENED = "rtmp-listen"
SUBSCRIBED = "zmq"
PUSHED = "zmq-listen"
PLAYED = "file"
KNOWN = DIRECT | CARRIED | {LISTENED, SUBSCRIBED, PUSHED, PLAYED}
SOCKET_PATIENCE_US = 10_000_000
PROBE_US = 3_000_000
PROBE_BYTES = 4 << 20


@dataclass(frozen=True)
class Address:
    """Where a stream is, and how it is asked for."""

    url: str
    """With its credentials."""
    transport: str = "tcp"
    """``tcp`` or ``udp``, of RTSP."""
    options: Mapping[str, str] = field(default_factory=dict)
    """More for FFmpeg's demuxer, by the operator."""

    def __post_init__(self) -> None:
        if self.scheme not in KNOWN:
            raise InvalidInput(
                f"stream address: expected one of {', '.join(sorted(KNOWN))}, found {self.scheme[:20]!r}; "
                "write it as rtsp://…",
                code="stream_address",
            )

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme.lower()

    @property
    def waits(self) -> bool:
        """Whether it is the source that comes to us, whenever it likes."""
        return self.scheme in {LISTENED, PUSHED} or "mode=listener" in urlsplit(self.url).query

    @property
    def shown(self) -> str:
        """The address without what is secret in it."""
        return scrubbed(self.url)


@dataclass(frozen=True)
class Source:
    """As much of an input container as recording needs."""

    streams: Iterable[Stream]
    demux: Callable[..., Iterator[Packet[Any]]]
    """Packets of the streams it is given, as they come."""
    sent_us: Callable[[], int] | None = None
    """When what was read last would have come had it not waited on its way, monotonic; None: nobody said."""
    left: Callable[[], str | None] | None = None
    """What is to be told of what is not read any more."""

    @classmethod
    def of(cls, container: InputContainer) -> Source:
        return cls(container.streams, container.demux)


def opened(address: Address, ffmpeg: str, tell: Callable[[str], None]) -> Source:
    """Connect or wait to be called, and look at the first seconds for what streams there are.

    Args:
        ffmpeg: The FFmpeg binary, for what PyAV does not speak.
        tell: Hears of publishers that were refused.

    Raises:
        av.FFmpegError: No connection, no right, no streams.
    """
    if address.scheme == PLAYED:
        return _paced(av.open(urlsplit(address.url).path))
    if address.scheme == LISTENED:
        return _read_from(RtmpSource.of(address.url, tell), "flv")
    if address.scheme == SUBSCRIBED:
        return _read_from(ZmqSource(address.url), "mpegts")
    if address.scheme == PUSHED:
        # What it stands on is loaded for nobody else.
        from media.live.pushing import Pulled

        pulled = Pulled.of(address.url, tell)
        return replace(_read_from(pulled, "mpegts"), sent_us=pulled.sent_us, left=pulled.left)
    if address.scheme in CARRIED:
        return _read_from(_carried(address, ffmpeg), "mpegts")
    return Source.of(av.open(address.url, options={**_probing(), **_asked(address), **address.options}))


def has_datagrams() -> bool:
    """Whether this process listens to datagrams: what FFmpeg settled on, whatever address and options say."""
    return any(_is_datagram(int(each.name)) for each in Path("/proc/self/fd").iterdir())


def _is_datagram(descriptor: int) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        with socket.socket(fileno=os.dup(descriptor)) as copy:
            return copy.type == socket.SOCK_DGRAM and copy.family in {socket.AF_INET, socket.AF_INET6}
    except OSError:
        # Closed since it was listed.
        return False


def scrubbed(text: str) -> str:
    """A text without the credentials of any address in it."""
    without_users = re.sub(r"(\w+://)[^/@\s]*@", r"\1…@", text)
    return re.sub(r"(?i)((?:pass\w*|token|key|secret|pwd|auth)=)[^&\s]*", r"\1…", without_users)


def _read_from(file: Any, form: str) -> Source:
    return Source.of(av.open(file, format=form, options=_probing(), buffer_size=188 * 64))


def _probing() -> dict[str, str]:
    return {"analyzeduration": str(PROBE_US), "probesize": str(PROBE_BYTES)}


def _asked(address: Address) -> dict[str, str]:
    if address.scheme in {"rtsp", "rtsps"}:
        return {"rtsp_transport": address.transport, "timeout": str(SOCKET_PATIENCE_US)}
    if address.scheme == "udp":
        # A picture of a camera comes as a burst that a default socket buffer does not hold.
        return {"timeout": str(SOCKET_PATIENCE_US), "buffer_size": str(4 << 20), "fifo_size": "0"}
    return {"rw_timeout": str(SOCKET_PATIENCE_US)}


def _carried(address: Address, ffmpeg: str) -> Any:
    limits = Limits(cpu_s=1 << 30, memory_bytes=1 << 30, niceness=0)
    argv = [sys.executable, "-I", str(CHILD), "exec", str(os.getpid()), limits.for_child(), "--", ffmpeg]
    argv += ["-v", "error", "-nostdin", "-f", "data", "-i", address.url]
    argv += ["-map", "0", "-c", "copy", "-f", "data", "pipe:1"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, bufsize=0)
    return process.stdout


def _paced(container: InputContainer) -> Source:
    """A file, played as fast as it lasts."""

    def demux(*streams: Stream) -> Iterator[Packet[Any]]:
        began_s = first_s = None
        for packet in container.demux(*streams):
            if packet.dts is not None and packet.time_base is not None:
                at_s = float(packet.dts * packet.time_base)
                if began_s is None or first_s is None:
                    began_s, first_s = time.monotonic(), at_s
                time.sleep(max(0.0, at_s - first_s - (time.monotonic() - began_s)))
            yield packet

    return Source(container.streams, demux)
