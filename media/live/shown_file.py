"""A file of the recorder while it is shown live: caught up with, decoded, and made into pieces.

Whoever joins begins `LEAD_IN_US` before what is newest: packets are held from the keyframe before that, until
all that is there was read. What is too late to be shown in time is left out the same way.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import av
from av.codec.context import Flags
from av.packet import Packet

from media.live.container import BROWSER_PICTURES, BROWSER_SOUNDS, SUFFIXES
from media.live.fields import FieldJoiner
from media.live.following import WAIT_S, GrowingBytes, Named, StreamFiles
from media.live.journal import Journal
from media.live.pace import Pace, Verdict
from media.live.piece import LEAD_US, MOST_KBPS, Piece

if TYPE_CHECKING:
    from media.live.covering import Covering

LEAD_IN_US = 2_200_000
HELD_BYTES = 64 << 20
"""What may be held of a stream without keyframes while it is caught up with."""
FIRST_US = 500_000
"""All streams of a file begin within so much of it."""
STATE_EVERY_S = 1.0
UNDATED_S = 5.0
"""A recorder dates a file within a second. What nobody dates is never shown where masks go by its time."""
RUNGS = tuple(MOST_KBPS)
_FORMATS = {f".{suffix}": {"mp4": "mp4", "mov": "mp4"}.get(name, name) for name, suffix in SUFFIXES.items()}
_OPTIONS = {"analyzeduration": "500000", "probesize": str(1 << 20), "fpsprobesize": "0"}
_COPIED_FROM = {".mp4", ".mov"}
"""Containers that say of a codec what an MP4 has to say."""


class Encode(Protocol):
    """As much of a shared encode as a file of it needs."""

    files: StreamFiles
    journal: Journal
    pace: Pace
    folder: Path
    covering: Covering | None
    """What is drawn over, and what waits until that is known; None: nothing is."""

    def is_over(self) -> bool:
        """Whether it has to end; asked often."""
        ...

    def next_piece(self) -> int:
        """The number of another piece."""
        ...

    def say(self, state: dict[str, Any]) -> None:
        """Write down how it stands."""
        ...


class ShownFile:
    """A file of the recorder, and the piece that is made of it at the moment.

    Args:
        encode: That it is part of.
        file: Which.
        reader: Its bytes.
        after_us: UTC up to where something was told before; 0: nothing was.
        joins: It was recorded for a while already; only what is newest is shown.

    Raises:
        av.FFmpegError: It is damaged from its beginning.
    """

    def __init__(
        self, encode: Encode, file: Named, reader: GrowingBytes, after_us: int, *, joins: bool
    ) -> None:
        self.encode_of, self.file, self.reader, self._not_before_us = encode, file, reader, after_us
        suffix = Path(file.name).suffix
        self._source: Any = av.open(reader, format=_FORMATS[suffix], options=_OPTIONS)
        pictures, sounds = self._source.streams.video, self._source.streams.audio
        self._picture: Any = pictures[0] if pictures else None
        self._sound: Any = sounds[0] if sounds else None
        self._covering = encode.covering
        may_copy = suffix in _COPIED_FROM and self._covering is None
        self._copies_picture = may_copy and _codec(self._picture) in BROWSER_PICTURES
        self._copies_sound = may_copy and _codec(self._sound) in BROWSER_SOUNDS
        for each in (self._picture, self._sound):
            if each is not None:
                each.codec_context.thread_count = 2
                each.codec_context.thread_type = "AUTO"
        if self._covering is not None:
            self._covering.forget()
            if self._picture is not None:
                # A damaged picture must come out and be covered, and so must what is predicted from it.
                self._picture.codec_context.flags |= Flags.output_corrupt
        self._fields = FieldJoiner(None if self._picture is None else self._picture.time_base)
        self._is_joining, self._goes_on = joins, not joins
        self._held: deque[Packet[Any]] = deque()
        self._held_bytes = 0
        self._keys: deque[int] = deque()
        self._first_us: int | None = None
        self._zero_least_us: int | None = None
        """UTC before which nothing of the file was recorded, on its own clock; None: nobody knows."""
        self._newest_us = 0
        self._begin_us = 0
        self._piece: Piece | None = None
        self._number = -1
        self._told_number = -1
        self._said_at = 0.0

    def encode(self) -> None:
        """Until it ends or the encode is over.

        Raises:
            av.FFmpegError: It is damaged, or the disk is.
        """
        wanted = [each for each in (self._picture, self._sound) if each is not None]
        try:
            for packet in self._source.demux(*wanted):
                if packet.size and packet.dts is not None:
                    self._arrived(packet)
                self._make_ready()
                if self.encode_of.is_over():
                    break
            self._join()
            self._make_rest()
            self._drain()
        finally:
            self._end_piece()
            self._source.close()

    # -- what is newest --------------------------------------------------------------------

    def _arrived(self, packet: Packet[Any]) -> None:
        at_us = _micros(packet.dts, packet)
        if self._first_us is None or (at_us < self._first_us and self._newest_us - at_us < FIRST_US):
            self._first_us = at_us
        self._newest_us = max(self._newest_us, at_us)
        self._pass_on(packet)

    def _pass_on(self, packet: Packet[Any]) -> None:
        if not self._is_joining:
            self._take(packet)
            return
        self._hold(packet, _micros(packet.dts, packet))
        if self.reader.is_caught_up:
            self._join()

    def _hold(self, packet: Packet[Any], at_us: int) -> None:
        """Keep what is needed to begin with the newest: from the keyframe before on."""
        self._held.append(packet)
        self._held_bytes += packet.size
        if packet.is_keyframe and packet.stream is (self._picture or self._sound):
            self._keys.append(at_us)
        main = self._picture or self._sound
        while len(self._keys) > 1 and self._keys[1] <= self._newest_us - LEAD_IN_US:
            self._keys.popleft()
            while not (
                self._held[0].is_keyframe
                and self._held[0].stream is main
                and _micros(self._held[0].dts, self._held[0]) >= self._keys[0]
            ):
                self._held_bytes -= self._held.popleft().size
        while self._held_bytes > HELD_BYTES:
            self._held_bytes -= self._held.popleft().size

    def _join(self) -> None:
        if not self._is_joining:
            return
        self._is_joining = False
        self._begin_us = max(self._begin_us, self._newest_us - LEAD_IN_US, self._after_us())
        if self._copies_picture and self._keys:
            self._begin_us = max(min(self._keys[0], self._begin_us), self._after_us())
        self.encode_of.pace.begin(time.monotonic_ns() // 1000, self._newest_us)
        self.reader.is_caught_up = False
        held, self._held, self._held_bytes = self._held, deque(), 0
        self._keys.clear()
        if self._covering is not None:
            self._covering.doubt()
        for each in (self._picture, self._sound):
            if each is not None and each.codec_context.is_open:
                each.codec_context.flush_buffers()
        for packet in held:
            self._pass_on(packet)
            if self.encode_of.is_over():
                return

    def _after_us(self) -> int:
        """Where an encode before this one ended, on the file's clock."""
        begins_us, after_us = self.encode_of.files.begins_us(), self._not_before_us
        if begins_us is None or self._first_us is None or not after_us:
            return 0
        return after_us - begins_us + self._first_us

    # -- from packets to the piece ---------------------------------------------------------

    def _take(self, packet: Packet[Any]) -> None:
        if self._covering is None:
            self._make(packet)
        elif not self._covering.put(packet):
            # Nobody reads the rules any more; what is newest is shown once somebody does.
            self._end_piece()
            self._is_joining, self._begin_us = True, self._newest_us

    def _make_ready(self) -> None:
        """What waited, as far as it is known how it is covered."""
        if self._covering is None:
            return
        self._zero_least_us = self.encode_of.files.least_us()
        if self._zero_least_us is not None:
            for packet in self._covering.ready():
                self._make(packet)

    def _make_rest(self) -> None:
        """What still waits at the end of the file."""
        covering, began = self._covering, time.monotonic()
        while covering is not None and covering.has_waiting:
            self._make_ready()
            is_undated = self._zero_least_us is None and time.monotonic() - began > UNDATED_S
            if is_undated or self.encode_of.is_over():
                covering.forget()
            elif covering.has_waiting:
                time.sleep(WAIT_S)

    def _make(self, packet: Packet[Any]) -> None:
        if packet.stream is self._picture:
            if self._copies_picture:
                self._copy(packet, opens=packet.is_keyframe)
            else:
                for frame in self._decoded(packet):
                    self._show_whole(frame)
        elif self._copies_sound:
            self._copy(packet, opens=self._picture is None)
        else:
            for frame in self._decoded(packet):
                self._hear(frame)

    def _decoded(self, packet: Packet[Any]) -> Iterator[Any]:
        """What a packet holds; one that is damaged holds nothing."""
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            if self._covering is not None and packet.stream is self._picture:
                self._covering.doubt()

    def _drain(self) -> None:
        """What decoders hold at the end of the file."""
        if self._picture is not None and not self._copies_picture:
            for frame in self._picture.codec_context.decode(None):
                self._show_whole(frame)
            for frame in self._fields.drain():
                self._show(frame)

    def _show_whole(self, frame: Any) -> None:
        if self._covering is not None:
            self._covering.vouch(frame)
        for whole in self._fields.join(frame):
            self._show(whole)

    def _show(self, frame: Any) -> None:
        at_us = _shown_us(frame, self._picture)
        if self._is_joining or at_us is None or at_us < self._begin_us or not self._judge(at_us, frame):
            return
        if self._piece is None:
            self._begin_piece(at_us, _fitting(frame.width, frame.height, RUNGS[self.encode_of.pace.rung]))
        if self._piece is not None and self._covering is not None and self._piece.size is not None:
            frame = self._covering.painted(frame, self._piece.size, self._least_us(at_us))
        if self._piece is not None:
            self._piece.show(frame, at_us)

    def _least_us(self, at_us: int) -> int | None:
        """UTC before which a moment of the file's clock cannot have been; None: nobody knows."""
        if self._zero_least_us is None or self._first_us is None:
            return None
        return self._zero_least_us + at_us - self._first_us

    def _hear(self, frame: Any) -> None:
        at_us = _shown_us(frame, self._sound)
        if at_us is None:
            return
        if self._piece is None and self._picture is None and at_us >= self._begin_us:
            self._begin_piece(at_us, None)
        if self._piece is not None and self._covering is not None:
            frame = self._covering.muted(frame, self._least_us(at_us))
        if self._piece is not None:
            self._piece.hear(frame, at_us)

    def _copy(self, packet: Packet[Any], *, opens: bool) -> None:
        at_us = _micros(packet.dts, packet)
        if self._piece is None and opens and at_us >= self._begin_us:
            shown = packet.pts if packet.pts is not None else packet.dts
            self._begin_piece(_micros(shown, packet), None)
        if self._piece is not None and (packet.stream is self._picture or at_us >= self._piece.begin_us):
            self._piece.copy(packet, packet.time_base or Fraction(1, 1_000_000), at_us)

    def _judge(self, at_us: int, frame: Any) -> bool:
        """Whether this picture is encoded; where the encode is too slow, the piece ends before it."""
        now_us = time.monotonic_ns() // 1000
        pace = self.encode_of.pace
        if self._goes_on:
            self._goes_on = False
            pace.follow(at_us)
        smaller, larger = rungs_beside(frame.height, pace.rung)
        is_caught_up, self.reader.is_caught_up = self.reader.is_caught_up, False
        behind_us = pace.behind_us(now_us, at_us)
        verdict = pace.judge(now_us, at_us, smaller, larger, is_caught_up=is_caught_up)
        if verdict is Verdict.KEEP:
            return True
        self._end_piece()
        self.encode_of.journal.write("pace", verdict=str(verdict), behind_us=behind_us)
        if verdict is Verdict.SKIP:
            self._is_joining, self._begin_us = True, at_us
            return False
        return True

    # -- pieces ----------------------------------------------------------------------------

    def _begin_piece(self, begin_us: int, size: tuple[int, int] | None) -> None:
        self._number = self.encode_of.next_piece()
        path = self.encode_of.folder / f"{self._number:06d}.mp4"
        self._piece = Piece(
            path, begin_us, self._picture, self._sound, size=size, is_sound_copied=self._copies_sound
        )
        self.tell()

    def _end_piece(self) -> None:
        piece, number = self._piece, self._number
        if piece is None:
            return
        piece.close()
        self.tell()
        self._piece = None
        zero_us = self._wall_of(piece)
        if zero_us is not None:
            ends_us = zero_us + LEAD_US + piece.end_us - piece.begin_us
            self.encode_of.journal.write("closed", piece=number, to_utc_us=ends_us)

    def _wall_of(self, piece: Piece) -> int | None:
        """UTC at the zero of a piece's clock."""
        begins_us = self.encode_of.files.begins_us()
        if begins_us is None or self._first_us is None:
            return None
        return begins_us + piece.begin_us - self._first_us - LEAD_US

    def tell(self) -> None:
        """Write down when the piece begins, once that is known, and how the encode stands."""
        piece = self._piece
        zero_us = self._wall_of(piece) if piece is not None else None
        if piece is None or zero_us is None:
            return
        lines = piece.size[1] if piece.size else None
        if self._told_number != self._number:
            self._told_number = self._number
            self.encode_of.journal.write(
                "piece", piece=self._number, run=self.file.run, file=self.file.number, zero_utc_us=zero_us,
                from_utc_us=zero_us + LEAD_US, file_utc_us=self.encode_of.files.begins_us(), height_px=lines,
            )  # fmt: skip
        now = time.monotonic()
        if now - self._said_at >= STATE_EVERY_S:
            self._said_at = now
            behind_us = self.encode_of.pace.behind_us(time.monotonic_ns() // 1000, piece.end_us)
            state = {
                "piece": self._number,
                "to_utc_us": zero_us + LEAD_US + piece.end_us - piece.begin_us,
                "height_px": lines,
                "is_reduced": self.encode_of.pace.rung > 0,
                "behind_ms": behind_us // 1000,
            }
            self.encode_of.say(state)


def _micros(ticks: int | None, packet: Packet[Any]) -> int:
    return int((ticks or 0) * (packet.time_base or 0) * 1_000_000)


def _codec(stream: Any) -> str | None:
    return None if stream is None else stream.codec_context.name


def _shown_us(frame: Any, stream: Any) -> int | None:
    """When a decoded frame is shown, on the file's clock; None: nothing says so."""
    # One that comes out of a decoder at the end has no base of its own.
    base = frame.time_base or stream.time_base
    return None if frame.pts is None or base is None else round(frame.pts * base * 1_000_000)


def rungs_beside(height_px: int, rung: int) -> tuple[list[int], int | None]:
    """The rungs on which a picture is smaller, the largest first, and the next on which it is larger.

    Args:
        height_px: Of the source, which is never enlarged.
        rung: The one it is on.
    """
    lines = [min(each, height_px) for each in RUNGS]
    larger = [each for each in lines if each > lines[rung]]
    smaller = [number for number, each in enumerate(lines) if each < lines[rung]]
    return smaller, lines.index(min(larger)) if larger else None


def _fitting(width_px: int, height_px: int, lines: int) -> tuple[int, int]:
    """Even sides of a picture of so many lines at most; never larger than the source."""
    height = min(lines, height_px) // 2 * 2
    return max(2, width_px * height // height_px // 2 * 2), max(2, height)
