"""MPEG-TS pushed by ZeroMQ with our own sender: numbered messages, CURVE at both ends, no loss in silence.

A message has two frames: a head (`MAGIC`, the sender's run, the number of the message) and whole packets of
MPEG-TS; one without packets ends the run in order. PUSH and PULL hold a sender back where the network is
slow. What a broken line still took with it shows in the numbers, and is told; what comes twice is passed
over.

Who may send is who has the private half of a key that is listed; each end knows the other by its key. Keys
are files of one line, as `new_key` makes them: Z85, as ZeroMQ writes CURVE keys.

Source: ZMTP 3.1, RFC 30/ZMTP-PIPELINE, 26/CurveZMQ, 27/ZAP, 32/Z85.
"""

from __future__ import annotations

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
from media.live.refusals import Refusals

MAGIC = b"LHTS"
HEAD = struct.Struct(">4s8sQ")
PACKET_BYTES = 188
MESSAGE_BYTES = 348 * PACKET_BYTES
MOST_WAITING = 1000
"""Messages at each end; a sender that is ahead of the line by more is held back."""
SILENT_S = 2.0
TRIES = 3
"""Greetings that break off; whoever has another key than ours does not say so."""
HEARTBEAT_MS, DEAD_MS = 1_000, 5_000


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
        magic, run, number = HEAD.unpack(head)
        if magic != MAGIC or not self._is_heard(run, sender, number):
            return b""
        if self._number is None:
            if number:
                # An earlier recording has them, or its end took with it what it had not read.
                self._tell(f"joined at message {number}: those before were not heard here")
        elif number < self._number:
            return b""
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


@dataclass(frozen=True)
class Pushed:
    """What a sender did."""

    messages: int
    size_bytes: int
    is_through: bool
    """Everything was handed to the network before patience ended."""


def push(
    packets: Iterator[bytes], address: str, key: bytes, server_key: bytes, patience_s: float = 10.0
) -> Pushed:
    """Send whole packets of MPEG-TS to a recorder until they end; waits where the line is slower.

    Args:
        address: ``tcp://host:port``.
        key: The private half of ours.
        server_key: The public half of the recorder's.
        patience_s: How long what is left at the end may take.

    Raises:
        NotPermitted: ``stream_refused``: one of the two keys is not the one the other end knows.
    """
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.curve_secretkey, socket.curve_publickey = key, zmq.curve_public(key)
    socket.curve_serverkey = server_key
    _guarded(socket)
    socket.sndhwm = MOST_WAITING
    run, number, size_bytes = os.urandom(8), 0, 0
    try:
        _meet(socket, address)
        for part in packets:
            socket.send_multipart([HEAD.pack(MAGIC, run, number), part])
            number, size_bytes = number + 1, size_bytes + len(part)
        socket.sndtimeo = int(patience_s * 1000)
        socket.send_multipart([HEAD.pack(MAGIC, run, number), b""])
        is_through = True
    except zmq.Again:
        is_through = False
    except NotPermitted:
        socket.linger = 0
        raise
    finally:
        begun_s = time.monotonic()
        socket.close(0 if socket.linger == 0 else int(patience_s * 1000))
        context.term()
    return Pushed(number, size_bytes, is_through and time.monotonic() - begun_s < patience_s)


def _meet(socket: zmq.Socket[bytes], address: str) -> None:
    """Wait until the recorder is there and each end proved its key; a room may listen for sessions alone."""
    news = socket.get_monitor_socket()
    try:
        socket.connect(address)
        failed = 0
        while failed < TRIES:
            event = recv_monitor_message(news)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                return
            if event in {zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL}:
                break
            failed += event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    finally:
        socket.disable_monitor()
        news.close(0)
    raise NotPermitted(
        f"{address}: expected each end to know the other's key, found one that does not; look at both files",
        code="stream_refused",
    )


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
