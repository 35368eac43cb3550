"""The publishing half of RTMP, without I/O: bytes in, bytes out, FLV tags out.

A recorder connects, names an application and a stream, and publishes. Only one name and one key are let in;
the key is compared in constant time and stands in no message. Sound, picture and their headers become FLV
tags as they came, for a demuxer to read; nothing of their content is looked at here.

Source: Adobe, Real-Time Messaging Protocol 1.0 (2012); Adobe, Flash Video File Format 10.1; AMF 0.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

HANDSHAKE_BYTES = 1536
CHUNK_BYTES = 128
MOST_CHUNK_BYTES = 1 << 20
MOST_MESSAGE_BYTES = 16 << 20
MOST_CHUNK_STREAMS = 64
MOST_NAME_CHARS = 512
WINDOW_BYTES = 2_500_000
FLV_HEADER = b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00"
SET_CHUNK_SIZE, ABORT, ACKNOWLEDGEMENT, CONTROL, WINDOW, BANDWIDTH = 1, 2, 3, 4, 5, 6
SOUND, PICTURE, DATA, COMMAND = 8, 9, 18, 20

Value = str | float | bool | None | dict[str, "Value"]


class Refused(Exception):
    """The peer does not speak as it should, or may not publish; the connection ends."""


@dataclass
class _ChunkStream:
    """What chunks of one id leave out because the one before said it."""

    timestamp: int = 0
    delta: int = 0
    length: int = 0
    kind: int = 0
    stream_id: int = 0
    is_extended: bool = False
    body: bytearray = field(default_factory=bytearray)


@dataclass(frozen=True)
class _Message:
    kind: int
    timestamp: int
    stream_id: int
    body: bytes


class Publication:
    """One connection of a publisher.

    Args:
        app: The application it must name.
        key: The stream it must name: its secret.
    """

    def __init__(self, app: str, key: str) -> None:
        self._app, self._key = app, key
        self._buffer = bytearray()
        self._streams: dict[int, _ChunkStream] = {}
        self._chunk_bytes = CHUNK_BYTES
        self._handshake = 0
        self._received = self._acknowledged = 0
        self._out = bytearray()
        self.is_publishing = False
        self.has_ended = False

    def feed(self, data: bytes) -> tuple[bytes, list[bytes]]:
        """Take what came; returns what to answer, and the FLV tags that are whole.

        Raises:
            Refused: The connection is to be closed.
        """
        self._buffer += data
        self._received += len(data)
        tags = []
        if self._shake_hands():
            for message in self._messages():
                if message.kind in {SOUND, PICTURE}:
                    if not self.is_publishing:
                        raise Refused("expected publish before footage, found none")
                    if message.body:
                        tags.append(_tag(message))
                else:
                    self._obey(message)
        if self._received - self._acknowledged >= WINDOW_BYTES:
            self._acknowledged = self._received
            self._say(2, ACKNOWLEDGEMENT, 0, struct.pack(">I", self._received & 0xFFFFFFFF))
        out, self._out = bytes(self._out), bytearray()
        return out, tags

    def _shake_hands(self) -> bool:
        if self._handshake == 0 and len(self._buffer) > HANDSHAKE_BYTES:
            if self._buffer[0] != 3:
                raise Refused(f"expected RTMP version 3, found {self._buffer[0]}")
            theirs = bytes(self._buffer[1 : HANDSHAKE_BYTES + 1])
            del self._buffer[: HANDSHAKE_BYTES + 1]
            ours = bytes(8) + os.urandom(HANDSHAKE_BYTES - 8)
            self._out += b"\x03" + ours + theirs
            self._handshake = 1
        if self._handshake == 1 and len(self._buffer) >= HANDSHAKE_BYTES:
            # What it echoes proves nothing here; publishers differ in it.
            del self._buffer[:HANDSHAKE_BYTES]
            self._handshake = 2
        return self._handshake == 2

    def _messages(self) -> Iterator[_Message]:
        while True:
            found = self._chunk()
            if found is None:
                return
            if isinstance(found, _Message):
                yield found

    def _chunk(self) -> _Message | bool | None:
        """One chunk off the buffer: the message it ends, True where that goes on, None for too little."""
        head = self._chunk_head()
        if head is None:
            return None
        at, form, number = head
        known = self._streams.get(number) or _ChunkStream()
        size = (11, 7, 3, 0)[form]
        fields = bytes(self._buffer[at : at + size])
        at += size
        told = int.from_bytes(fields[:3], "big") if form < 3 else 0
        is_extended = told == 0xFFFFFF if form < 3 else known.is_extended
        if is_extended:
            told = int.from_bytes(self._buffer[at : at + 4], "big")
            at += 4
        length = int.from_bytes(fields[3:6], "big") if form < 2 else known.length
        if length > MOST_MESSAGE_BYTES:
            raise Refused(f"expected a message of at most {MOST_MESSAGE_BYTES} bytes, found {length}")
        take = max(0, min(self._chunk_bytes, length - len(known.body)))
        if len(self._buffer) < at + take:
            return None
        if len(self._streams.setdefault(number, known).body) == 0:
            known.delta = told if form in {1, 2} else (0 if form == 0 else known.delta)
            known.timestamp = told if form == 0 else (known.timestamp + known.delta) & 0xFFFFFFFF
        if len(self._streams) > MOST_CHUNK_STREAMS:
            raise Refused(f"expected at most {MOST_CHUNK_STREAMS} chunk streams, found more")
        known.is_extended = is_extended
        if form < 2:
            known.length, known.kind = length, fields[6]
        if form == 0:
            known.stream_id = int.from_bytes(fields[7:11], "little")
        known.body += self._buffer[at : at + take]
        del self._buffer[: at + take]
        if len(known.body) < known.length:
            return True
        body, known.body = bytes(known.body), bytearray()
        return _Message(known.kind, known.timestamp, known.stream_id, body)

    def _chunk_head(self) -> tuple[int, int, int] | None:
        """Where the message header begins, its form, and the chunk stream."""
        if not self._buffer:
            return None
        form, number = self._buffer[0] >> 6, self._buffer[0] & 0x3F
        if number > 1:
            return 1, form, number
        if len(self._buffer) < 2 + number:
            return None
        if number == 0:
            return 2, form, 64 + self._buffer[1]
        return 3, form, 64 + self._buffer[1] + 256 * self._buffer[2]

    def _obey(self, message: _Message) -> None:
        if message.kind == SET_CHUNK_SIZE and len(message.body) >= 4:
            size = int.from_bytes(message.body[:4], "big")
            if not 1 <= size <= MOST_CHUNK_BYTES:
                raise Refused(f"expected a chunk size up to {MOST_CHUNK_BYTES}, found {size}")
            self._chunk_bytes = size
        elif message.kind == ABORT and len(message.body) >= 4:
            known = self._streams.get(int.from_bytes(message.body[:4], "big"))
            if known is not None:
                known.body.clear()
        elif message.kind == CONTROL and message.body[:2] == b"\x00\x06":
            self._say(2, CONTROL, 0, b"\x00\x07" + message.body[2:6])
        elif message.kind == COMMAND:
            self._command(message)

    def _command(self, message: _Message) -> None:
        values = _decode(message.body)
        name, number = values[0], values[1] if len(values) > 1 else 0.0
        if name == "connect":
            about = values[2] if len(values) > 2 else None
            app = about.get("app") if isinstance(about, dict) else None
            if not isinstance(app, str) or app.split("?")[0].strip("/") != self._app:
                raise Refused("expected the application of this room, found another")
            self._say(2, WINDOW, 0, struct.pack(">I", WINDOW_BYTES))
            self._say(2, BANDWIDTH, 0, struct.pack(">IB", WINDOW_BYTES, 2))
            level: Value = {"level": "status", "code": "NetConnection.Connect.Success"}
            self._reply(3, 0, "_result", number, {"fmsVer": "FMS/3,0,1,123", "capabilities": 31.0}, level)
        elif name == "createStream":
            self._reply(3, 0, "_result", number, None, 1.0)
        elif name == "publish":
            key = values[3] if len(values) > 3 else None
            if not isinstance(key, str) or not hmac.compare_digest(key.encode(), self._key.encode()):
                raise Refused("expected the key of this room, found another")
            self.is_publishing = True
            status: Value = {"level": "status", "code": "NetStream.Publish.Start"}
            self._reply(5, message.stream_id, "onStatus", 0.0, None, status)
        elif name in {"play", "play2"}:
            raise Refused("expected a publisher, found a player")
        elif name in {"FCUnpublish", "deleteStream", "closeStream"}:
            self.has_ended = True

    def _reply(self, chunk_stream: int, stream_id: int, *values: Value) -> None:
        self._say(chunk_stream, COMMAND, stream_id, b"".join(_encode(value) for value in values))

    def _say(self, chunk_stream: int, kind: int, stream_id: int, body: bytes) -> None:
        head = struct.pack(">B", chunk_stream) + bytes(3) + len(body).to_bytes(3, "big") + bytes([kind])
        head += stream_id.to_bytes(4, "little")
        parts = [body[at : at + CHUNK_BYTES] for at in range(0, len(body), CHUNK_BYTES)]
        self._out += head + bytes([0xC0 | chunk_stream]).join(parts)


def _tag(message: _Message) -> bytes:
    time = message.timestamp
    head = bytes([message.kind]) + len(message.body).to_bytes(3, "big")
    head += (time & 0xFFFFFF).to_bytes(3, "big") + bytes([time >> 24 & 0xFF]) + bytes(3)
    return head + message.body + struct.pack(">I", len(head) + len(message.body))


def _encode(value: Value) -> bytes:
    if value is None:
        return b"\x05"
    if isinstance(value, bool):
        return b"\x01" + bytes([value])
    if isinstance(value, float):
        return b"\x00" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"\x02" + _text(value)
    return b"\x03" + b"".join(_text(name) + _encode(each) for name, each in value.items()) + b"\x00\x00\x09"


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def _decode(body: bytes) -> list[Value]:
    """The values of a command. What is no AMF 0, or nested deeper than commands are, is refused."""
    values: list[Value] = []
    at = 0
    while at < len(body) and len(values) < 16:
        value, at = _value(body, at, 0)
        values.append(value)
    if not values or not isinstance(values[0], str):
        raise Refused("expected a command, found other bytes")
    return values


def _value(body: bytes, at: int, depth: int) -> tuple[Value, int]:
    try:
        kind = body[at]
        if kind == 0:
            return struct.unpack_from(">d", body, at + 1)[0], at + 9
        if kind == 1:
            return bool(body[at + 1]), at + 2
        if kind == 2:
            return _string(body, at + 1)
        if kind in {5, 6}:
            return None, at + 1
        if kind in {3, 8} and depth < 4:
            return _object(body, at + (5 if kind == 8 else 1), depth)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise Refused("expected a whole command, found a part of one") from error
    raise Refused(f"expected AMF 0, found marker {kind}")


def _string(body: bytes, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from(">H", body, at)
    if size > MOST_NAME_CHARS or at + 2 + size > len(body):
        raise Refused("expected a short name, found a long one")
    return body[at + 2 : at + 2 + size].decode(), at + 2 + size


def _object(body: bytes, at: int, depth: int) -> tuple[Value, int]:
    found: dict[str, Value] = {}
    while body[at : at + 3] != b"\x00\x00\x09":
        if len(found) >= 64:
            raise Refused("expected a small object, found a large one")
        name, at = _string(body, at)
        found[name], at = _value(body, at, depth + 1)
    return found, at + 3
