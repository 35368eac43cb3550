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
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
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
    def gathers(self) -> bool:
        """Whether what comes may lie in sockets for a moment: of datagrams a burst would be lost."""
        return self.scheme != "udp" and not (self.scheme in {"rtsp", "rtsps"} and self.transport == "udp")

    @property
    def shown(self) -> str:
        """The address without what is secret in it."""
        return scrubbed(self.url)


class Source(Protocol):
    """As much of an input container as recording needs."""

    @property
    def streams(self) -> Any:
        """The source's streams."""
        ...

    def demux(self, *streams: Stream) -> Iterator[Packet[Any]]:
        """Its packets, as they come."""
        ...


def opened(address: Address, ffmpeg: str, tell: Callable[[str], None]) -> Source:
    """Connect or wait to be called, and look at the first seconds for what streams there are.

    Args:
        ffmpeg: The FFmpeg binary, for what PyAV does not speak.
        tell: Hears of publishers that were refused.

    Raises:
        av.FFmpegError: No connection, no right, no streams.
    """
    if address.scheme == PLAYED:
        return _Paced(av.open(urlsplit(address.url).path))
    if address.scheme == LISTENED:
        return _read_from(RtmpSource.of(address.url, tell), "flv")
    if address.scheme == SUBSCRIBED:
        return _read_from(ZmqSource(address.url), "mpegts")
    if address.scheme == PUSHED:
        # What it stands on is loaded for nobody else.
        from media.live.pushing import Pulled

        return _read_from(Pulled.of(address.url, tell), "mpegts")
    if address.scheme in CARRIED:
        return _read_from(_carried(address, ffmpeg), "mpegts")
    direct: Source = av.open(address.url, options={**_probing(), **_asked(address), **address.options})
    return direct


def scrubbed(text: str) -> str:
    """A text without the credentials of any address in it."""
    without_users = re.sub(r"(\w+://)[^/@\s]*@", r"\1…@", text)
    return re.sub(r"(?i)((?:pass\w*|token|key|secret|pwd|auth)=)[^&\s]*", r"\1…", without_users)


def _read_from(file: Any, form: str) -> Source:
    source: Source = av.open(file, format=form, options=_probing(), buffer_size=188 * 64)
    return source


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


class _Paced:
    """A file, played as fast as it lasts."""

    def __init__(self, container: InputContainer) -> None:
        self._container = container

    @property
    def streams(self) -> Any:
        return self._container.streams

    def demux(self, *streams: Stream) -> Iterator[Packet[Any]]:
        began_s = first_s = None
        for packet in self._container.demux(*streams):
            if packet.dts is not None and packet.time_base is not None:
                at_s = float(packet.dts * packet.time_base)
                if began_s is None or first_s is None:
                    began_s, first_s = time.monotonic(), at_s
                time.sleep(max(0.0, at_s - first_s - (time.monotonic() - began_s)))
            yield packet
