"""MPEG-TS pushed by ZeroMQ with our own sender: numbered messages, CURVE at both ends, no loss in silence.

A message has two frames: a head (`MAGIC`, the sender's run, the number of the message, when it was read, by
the sender's clock) and whole packets of MPEG-TS; one without packets ends the run in order. PUSH and PULL
hold a sender back where the network is slow. What a broken line still took with it shows in the numbers, and
is told; what comes twice is passed over.

What was made while nobody recorded is never recorded later: a sender without a recorder goes on reading and
counting, and keeps nothing. What waited on its way is recorded for the time it was sent at: how much longer
it took than the least delayed of its run is known from the two clocks (`Pulled.sent_us`). One that took
longer than `LATE_MOST_US` ends the recording, and what waits with it; the next begins with what is sent then.

Who may send is who has the private half of a key that is listed; each end knows the other by its key. Keys
are files of one line, as `new_key` makes them: Z85, as ZeroMQ writes CURVE keys.

Source: ZMTP 3.1, RFC 30/ZMTP-PIPELINE, 26/CurveZMQ, 27/ZAP, 32/Z85.
"""

from __future__ import annotations

import math
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils.monitor import recv_monitor_message

from evidence.errors import InvalidInput, NotPermitted
from evidence.live_clock import SECOND_US, Rules, RunClock
from media.live.refusals import Refusals

MAGIC = b"LHTS"
HEAD = struct.Struct(">4s8sQQ")
PACKET_BYTES = 188
MESSAGE_BYTES = 348 * PACKET_BYTES
MOST_WAITING = 1000
"""Messages at each end; a sender that is ahead of the line by more is held back."""
SILENT_S = 2.0
TRIES = 3
"""Greetings that break off; whoever has another key than ours does not say so."""
HEARTBEAT_MS, DEAD_MS = 1_000, 5_000
LATE_MOST_US = 60 * SECOND_US
REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
NEWS = zmq.EVENT_HANDSHAKE_SUCCEEDED | REFUSED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_DISCONNECTED
"""What is heard of a line; each try of a recorder that is away would be more than anybody reads."""
MEET_S = 1.0
"""How long a live source may wait for the greetings with a recorder that is there."""
LOOK_MS = 100
"""How soon a sender that is held back looks whether the recorder is there at all."""
CLOCKS = Rules(slew_ppm=200, pause_us=2 * LATE_MOST_US)
"""How two clocks of the kind that stand for nothing may part; what comes later waited."""


def new_key(path: Path) -> Path:
    """Make a key pair: the private half in ``path``, for its owner alone, the public one in ``path``.pub.

    Raises:
        FileExistsError: One of them is there.
    """
    public, private = zmq.curve_keypair()
    told = path.with_name(path.name + ".pub")
    for file, half, mode in ((path, private, 0o600), (told, public, 0o644)):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as into:
            into.write(half + b"\n")
    return told


def read_key(path: Path) -> bytes:
    """One half of a pair.

    Raises:
        InvalidInput: ``stream_key``: it is no key.
        OSError: It cannot be read.
    """
    key = path.read_bytes().strip()
    try:
        zmq.curve_public(key)
    except (ValueError, zmq.ZMQError) as error:
        raise InvalidInput(
            f"{path}: expected a key of 40 characters, found {len(key)}; make one with liuhen room make-key",
            code="stream_key",
        ) from error
    return key


class Pulled:
    """What one sender at a time pushes to us: a file to a demuxer.

    Args:
        host, port: Where to listen.
        key: Ours, the private half.
        allowed: Public halves of those who may send.
        tell: Hears of what was refused or lost.
    """

    def __init__(
        self, host: str, port: int, key: bytes, allowed: Iterable[bytes], tell: Callable[[str], None]
    ) -> None:
        self._allowed, self._tell = frozenset(allowed), tell
        self._refusals = Refusals(tell)
        self._context = zmq.Context()
        self._guard = ThreadAuthenticator(self._context)
        self._guard.start()
        self._guard.configure_curve_callback("*", credentials_provider=self)
        self._socket = self._context.socket(zmq.PULL)
        self._socket.curve_secretkey, self._socket.curve_publickey = key, zmq.curve_public(key)
        self._socket.curve_server = True
        _guarded(self._socket)
        self._socket.rcvhwm = MOST_WAITING
        try:
            self._socket.bind(f"tcp://{host}:{port}")
        except zmq.ZMQError as error:
            raise OSError(error.errno, f"{host}:{port}: {error.strerror}") from error
        self._run: tuple[bytes, str] | None = None
        self._number: int | None = None
        self._clocks = RunClock(CLOCKS)
        self._sent_us = 0
        self._heard_at_s = 0.0
        self._rest = b""
        self._has_ended = False

    @classmethod
    def of(cls, url: str, tell: Callable[[str], None]) -> Pulled:
        """From ``zmq-listen://host:port?key_file=…&allow_file=…``, the last as often as there are senders.

        Raises:
            InvalidInput: ``stream_key``: a file is missing in it, or holds no key.
        """
        parts = urlsplit(url)
        named = parse_qs(parts.query)
        files, senders = named.get("key_file", []), named.get("allow_file", [])
        if len(files) != 1 or not senders or parts.port is None:
            raise InvalidInput(
                "stream address: expected zmq-listen://HOST:PORT?key_file=OURS&allow_file=THEIRS.pub, found "
                f"{len(files)} key_file and {len(senders)} allow_file",
                code="stream_key",
            )
        allowed = [read_key(Path(file)) for file in senders]
        return cls(parts.hostname or "", parts.port, read_key(Path(files[0])), allowed, tell)

    def callback(self, _domain: str, key: bytes) -> bool:
        """Whether whoever has this key may send; ZeroMQ proved that they have it."""
        if key in self._allowed:
            return True
        self._refusals.add("sender refused: expected a key that is listed, found another")
        return False

    def read(self, size: int) -> bytes:
        """What has come, at most ``size`` bytes of it; waits for the first. Empty: the sender ended."""
        while not self._rest and not self._has_ended:
            head, *frames = self._socket.recv_multipart(copy=False)
            parts = [each.bytes for each in frames]
            self._rest = self._taken(head.bytes, parts, str(head.get("User-Id")))
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def sent_us(self) -> int:
        """When the message that was read last was sent, by our monotonic clock: when it would have come had
        it taken no longer than the least delayed."""
        return self._sent_us

    def left(self) -> str | None:
        """Where reading ended, for whoever wants to know what no recording has."""
        if self._run is None or self._number is None or self._has_ended:
            return None
        return f"left at message {self._number}: from there on it was not heard here"

    def close(self) -> None:
        """Let go of the port."""
        self._socket.close(0)
        self._guard.stop()
        self._context.term()

    def _taken(self, head: bytes, frames: list[bytes], sender: str) -> bytes:
        """What of a message is footage, next in line."""
        if len(head) != HEAD.size or len(frames) != 1 or len(frames[0]) % PACKET_BYTES:
            self._refusals.add("message refused: expected a head and packets of MPEG-TS, found others")
            return b""
        self._refusals.tell_due()
        magic, run, number, read_us = HEAD.unpack(head)
        if magic != MAGIC or not self._is_heard(run, sender, number):
            return b""
        is_repeat = self._number is not None and number < self._number
        if is_repeat or not self._is_in_time(read_us, number):
            return b""
        if self._number is None:
            if number:
                # An earlier recording has them, or its end took with it what it had not read.
                self._tell(f"joined at message {number}: those before were not heard here")
        elif number > self._number:
            self._tell(f"expected message {self._number}, found {number}: {number - self._number} were lost")
        self._number, self._heard_at_s = number + 1, time.monotonic()
        self._has_ended = not frames[0]
        return frames[0]

    def _is_heard(self, run: bytes, sender: str, number: int) -> bool:
        if self._run is None:
            self._run = (run, sender)
        if run == self._run[0]:
            return True
        if sender == self._run[1] or time.monotonic() - self._heard_at_s > SILENT_S:
            # Begun anew, with a clock of its own: the recording ends here, and the next begins with it.
            self._tell(f"sender_replaced: message {number} of the new one was not recorded")
            self._has_ended = True
        else:
            self._refusals.add("sender refused: expected one sender, found a second")
        return False

    def _is_in_time(self, read_us: int, number: int) -> bool:
        came_us = time.monotonic_ns() // 1000
        self._clocks.observe(read_us, came_us)
        late_us = max(0, -self._clocks.leads_by_us(read_us, came_us))
        self._sent_us = came_us - late_us
        if late_us <= LATE_MOST_US:
            return True
        self._tell(f"late: message {number} took {late_us // SECOND_US} s longer than others; not recorded")
        self._has_ended = True
        return False


@dataclass(frozen=True)
class Pushed:
    """What a sender did."""

    messages: int
    size_bytes: int
    unheard: int
    """How many of the messages no recorder was there for."""
    is_through: bool
    """Everything else was handed to the network before patience ended."""


def push(
    packets: Iterator[bytes],
    address: str,
    key: bytes,
    server_key: bytes,
    patience_s: float = 10.0,
    *,
    is_live: bool = True,
) -> Pushed:
    """Send whole packets of MPEG-TS to a recorder until they end; waits where the line is slower.

    Args:
        address: ``tcp://host:port``.
        key: The private half of ours.
        server_key: The public half of the recorder's.
        patience_s: How long what is left at the end may take.
        is_live: What comes is made now: without a recorder it goes by. Else it waits for one, and a room may
            listen for sessions alone.

    Raises:
        NotPermitted: ``stream_refused``: one of the two keys is not the one the other end knows.
    """
    run, number, size_bytes, unheard = os.urandom(8), 0, 0, 0
    line = _Line(address, key, server_key)
    is_through = False
    try:
        line.meet(MEET_S if is_live else math.inf)
        for part in packets:
            head = HEAD.pack(MAGIC, run, number, _clock_us())
            unheard += not line.send([head, part], waits=not is_live)
            number, size_bytes = number + 1, size_bytes + len(part)
        end = [HEAD.pack(MAGIC, run, number, _clock_us()), b""]
        is_through = line.send(end, waits=not (is_live and line.has_met), patience_s=patience_s)
    finally:
        is_through = line.close(patience_s) and is_through
    return Pushed(number, size_bytes, unheard, is_through)


def _clock_us() -> int:
    """Of the host, never set; it goes on while the host sleeps, so that sleep is no delay."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


class _Line:
    """The way to a recorder, which keeps nothing for one that is not there."""

    def __init__(self, address: str, key: bytes, server_key: bytes) -> None:
        self._address = address
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.curve_secretkey, self._socket.curve_publickey = key, zmq.curve_public(key)
        self._socket.curve_serverkey = server_key
        _guarded(self._socket)
        self._socket.sndhwm = MOST_WAITING
        # Else what was made in a pause would wait for whoever records after it.
        self._socket.immediate = 1
        self._news = self._socket.get_monitor_socket(NEWS)
        self._is_there = self.has_met = False
        self._failed = 0

    def meet(self, patience_s: float) -> None:
        """Wait until the recorder is there and each end proved its key, or patience ended.

        Raises:
            NotPermitted: ``stream_refused``.
        """
        self._socket.connect(self._address)
        until_s = time.monotonic() + patience_s
        while not self.is_there and time.monotonic() < until_s:
            self._news.poll(LOOK_MS)

    def send(self, frames: list[bytes], *, waits: bool, patience_s: float = math.inf) -> bool:
        """Hand a message over, after those before it where the line is slow; says whether it was.

        Args:
            waits: For a recorder that is away, too.
        """
        until_s = time.monotonic() + patience_s
        while True:
            try:
                self._socket.send_multipart(frames, zmq.DONTWAIT)
            except zmq.Again:
                if (not waits and not self.is_there) or time.monotonic() >= until_s:
                    return False
                self._socket.poll(LOOK_MS, zmq.POLLOUT)
            else:
                return True

    @property
    def is_there(self) -> bool:
        """Whether somebody takes what is sent, as far as is known.

        Raises:
            NotPermitted: ``stream_refused``: nobody did yet, and who is there is another.
        """
        while self._news.poll(0):
            event = recv_monitor_message(self._news)["event"]
            self._is_there = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            self.has_met |= self._is_there
            self._failed += TRIES if event & REFUSED else event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        if self._failed >= TRIES and not self.has_met:
            raise NotPermitted(
                f"{self._address}: expected each end to know the other's key, found one that does not; look "
                "at both files",
                code="stream_refused",
            )
        return self._is_there

    def close(self, patience_s: float) -> bool:
        """Let go of the line once what waits was handed to it, the recorder left, or patience ended; says
        whether it had not."""
        begun_s = time.monotonic()
        self._socket.disable_monitor()
        self._news.close(0)
        self._socket.close(int(patience_s * 1000))
        self._context.term()
        return time.monotonic() - begun_s < patience_s


def whole_packets(descriptor: int) -> Iterator[bytes]:
    """What can be read, as it comes, in whole packets.

    Raises:
        InvalidInput: ``not_mpegts``: it does not begin as MPEG-TS does.
    """
    rest = b""
    while data := os.read(descriptor, MESSAGE_BYTES):
        rest += data
        if rest[:1] != b"\x47":
            raise InvalidInput(
                "input: expected MPEG-TS, found other bytes; use ffmpeg -f mpegts", code="not_mpegts"
            )
        size = len(rest) // PACKET_BYTES * PACKET_BYTES
        if size:
            yield rest[:size]
            rest = rest[size:]


def _guarded(socket: zmq.Socket[bytes]) -> None:
    """A dead line is noticed, and no message is larger than ours are."""
    socket.heartbeat_ivl, socket.heartbeat_timeout = HEARTBEAT_MS, DEAD_MS
    # CURVE adds some bytes to each frame.
    socket.maxmsgsize = 2 * MESSAGE_BYTES
