"""Sources that come to us: an RTMP publisher with a key, and what a ZeroMQ publisher sends.

Each is a file to a demuxer: `read` waits for what comes, and an empty answer is the end. One publisher is
heard at a time. Another with the right key takes its place once it has been silent for `SILENT_S`: a recorder
that lost its line comes back before we notice. Whoever has not begun to publish after `HELLO_S`, or names
another key, is let go.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from media.live.refusals import Refusals
from media.live.rtmp import FLV_HEADER, Publication, Refused

HELLO_S = 10.0
SILENT_S = 2.0
MOST_CALLERS = 8
READ_BYTES = 256 << 10
REFUSED_PAUSE_S = 1.0
"""What a wrong key costs whoever tries keys."""


@dataclass
class _Caller:
    socket: socket.socket
    publication: Publication
    heard_at_s: float
    early: list[bytes] = field(default_factory=list)
    is_refused: bool = False


class RtmpSource:
    """Waits for a publisher of one application and key.

    Args:
        host, port: Where to listen.
        tell: Hears of what was refused, without any key.
    """

    def __init__(self, host: str, port: int, app: str, key: str, tell: Callable[[str], None]) -> None:
        self._app, self._key, self._tell = app, key, tell
        self._refusals = Refusals(tell)
        self._door = socket.create_server((host, port), backlog=MOST_CALLERS)
        self._door.setblocking(False)
        self._select = selectors.DefaultSelector()
        self._select.register(self._door, selectors.EVENT_READ)
        self._callers: dict[int, _Caller] = {}
        self._heard: _Caller | None = None
        self._ready: deque[bytes] = deque([FLV_HEADER])
        self._has_ended = False

    @classmethod
    def of(cls, url: str, tell: Callable[[str], None]) -> RtmpSource:
        """From ``rtmp-listen://host:port/app/key``."""
        parts = urlsplit(url)
        app, _, key = parts.path.strip("/").rpartition("/")
        return cls(parts.hostname or "", parts.port or 1935, app, key, tell)

    def read(self, size: int) -> bytes:
        """What has come, at most ``size`` bytes of it; waits for the first. Empty: the publisher left."""
        while not self._ready and not self._has_ended:
            self._turn()
        if not self._ready:
            return b""
        piece = self._ready.popleft()
        if len(piece) > size:
            self._ready.appendleft(piece[size:])
        return piece[:size]

    def _turn(self) -> None:
        for key, _ in self._select.select(0.5):
            if key.fileobj is self._door:
                self._accept()
            else:
                self._hear(self._callers[key.fd])
        self._refusals.tell_due()
        at_s = time.monotonic()
        for caller in list(self._callers.values()):
            patience_s = REFUSED_PAUSE_S if caller.is_refused else HELLO_S
            if caller is not self._heard and at_s - caller.heard_at_s > patience_s:
                self._let_go(caller)

    def _accept(self) -> None:
        try:
            line, _ = self._door.accept()
        except OSError:
            # Gone before it was let in.
            return
        if len(self._callers) >= MOST_CALLERS:
            line.close()
            return
        line.setblocking(False)
        caller = _Caller(line, Publication(self._app, self._key), time.monotonic())
        self._callers[line.fileno()] = caller
        self._select.register(line, selectors.EVENT_READ)

    def _hear(self, caller: _Caller) -> None:
        try:
            data = caller.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._let_go(caller)
            return
        try:
            out, tags = caller.publication.feed(data)
            if out:
                # Answers are short, and a publisher that does not read them is not heard.
                caller.socket.sendall(out)
        except (Refused, OSError) as error:
            self._refuse(caller, str(error))
            return
        if caller.publication.is_publishing and caller is not self._heard:
            self._choose(caller)
        if caller is self._heard:
            caller.heard_at_s = time.monotonic()
            self._ready.extend(tags)
            if caller.publication.has_ended:
                self._let_go(caller)

    def _choose(self, caller: _Caller) -> None:
        if self._heard is None:
            self._heard = caller
        elif time.monotonic() - self._heard.heard_at_s > SILENT_S:
            # Its clock and codecs are its own: the recording ends here, and the next begins with it.
            self._tell("publisher_replaced")
            self._has_ended = True
        else:
            self._refuse(caller, "expected one publisher, found a second")

    def _refuse(self, caller: _Caller, why: str) -> None:
        self._refusals.add(f"publisher refused: {why}")
        if caller is self._heard:
            self._let_go(caller)
            return
        # Kept silent for a moment, and read no more.
        caller.is_refused, caller.heard_at_s = True, time.monotonic()
        self._select.unregister(caller.socket)

    def _let_go(self, caller: _Caller) -> None:
        del self._callers[caller.socket.fileno()]
        if not caller.is_refused:
            self._select.unregister(caller.socket)
        caller.socket.close()
        if caller is self._heard:
            self._has_ended = True


class ZmqSource:
    """MPEG-TS as FFmpeg's ``zmq:`` publishes it: each message some packets of 188 bytes.

    PUB and SUB drop what a slow reader does not take, and say nothing: the high-water mark is wide, and the
    continuity counters of MPEG-TS show what is missing.
    """

    def __init__(self, url: str) -> None:
        import zmq

        parts = urlsplit(url)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, 100_000)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SUBSCRIBE, parse_qs(parts.query).get("topic", [""])[0].encode())
        self._socket.connect(f"tcp://{parts.netloc}")
        self._rest = b""

    def read(self, size: int) -> bytes:
        """What has come; waits for it."""
        data = self._rest or self._socket.recv()
        self._rest = data[size:]
        return bytes(data[:size])
