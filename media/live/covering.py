"""What of a stream's pictures and sound is drawn over before anything of them is encoded, and what waits.

The rules are a file that whoever asks for a list writes anew from the rows of record, each time with the
moment before it read them (`evidence.live_masks`). A packet waits until the rules were read after it was: so
it is made by all that was decided while it was recorded, and where nobody reads the rows the view stands
still. Rules of another boot, or of a moment that has not come, are none.

What is covered is painted on a picture of our own, in its final size, with a border for what scaling drew
in from beside it. What is not heard is zeros. Where a decoder cannot vouch for a picture, all of it is
covered up to the next keyframe: what it made up may come from anywhere.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.packet import Packet
from av.video.frame import VideoFrame

from evidence.live_masks import Area, LiveRules, areas_of
from media.decode import Plane
from media.encode import Canvas
from media.live.boots import boot_id
from media.painting import paint_rectangle

BORDER_PX = 8
"""How far a scaler reaches beyond a pixel of the picture it makes: two of its own, four of the colour's."""
MUCH_BYTES = 64 << 20
"""What may wait; more is let go, and never shown."""


class Covering:
    """The rules of one stream, as they were read last.

    Args:
        path: Where whoever looks writes them.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._boot = path, boot_id()
        self._seen: tuple[int, int] | None = None
        self._rules: LiveRules | None = None
        self._is_doubtful = self._was_doubtful = False
        self._waiting: deque[tuple[Packet[Any], int]] = deque()
        self._waiting_bytes = 0

    # -- what is known ---------------------------------------------------------------------

    def look(self) -> int:
        """Read the rules, if they are new; up to when what was read may be made by them (monotonic, ns)."""
        try:
            found = self._path.stat()
            mark = (found.st_ino, found.st_mtime_ns)
            if mark != self._seen:
                self._take(LiveRules.from_json(json.loads(self._path.read_text(encoding="utf-8"))))
                self._seen = mark
        except FileNotFoundError:
            pass
        return -1 if self._rules is None else self._rules.read_ns

    def _take(self, rules: LiveRules) -> None:
        known_ns = -1 if self._rules is None else self._rules.read_ns
        if rules.boot == self._boot and known_ns < rules.read_ns <= time.monotonic_ns():
            self._rules = rules

    # -- what waits ------------------------------------------------------------------------

    def put(self, packet: Packet[Any]) -> bool:
        """Keep a packet that was read now; False: too much waits, and all of that was let go."""
        self._waiting.append((packet, time.monotonic_ns()))
        self._waiting_bytes += packet.size
        if self._waiting_bytes <= MUCH_BYTES:
            return True
        self.forget()
        return False

    def ready(self) -> Iterator[Packet[Any]]:
        """The packets that may be made by the rules as they are known now."""
        known_ns = self.look()
        while self._waiting and self._waiting[0][1] <= known_ns:
            packet = self._waiting.popleft()[0]
            self._waiting_bytes -= packet.size
            yield packet

    @property
    def has_waiting(self) -> bool:
        return bool(self._waiting)

    def forget(self) -> None:
        """Let go of what waits; what is predicted from it is not vouched for."""
        self._waiting.clear()
        self._waiting_bytes = 0
        self.doubt()

    # -- what is drawn over ----------------------------------------------------------------

    def doubt(self) -> None:
        """Something of the picture was lost or damaged."""
        self._is_doubtful = True

    def vouch(self, frame: VideoFrame) -> None:
        """A picture came out of the decoder; what is wrong in one is copied into those predicted from it."""
        self._was_doubtful = self._is_doubtful
        self._is_doubtful = bool(frame.is_corrupt) or (self._is_doubtful and not frame.key_frame)

    def painted(self, frame: VideoFrame, size: tuple[int, int], least_us: int | None) -> VideoFrame:
        """The picture as it may be shown, in another size; nothing of the source but pixels is in it.

        Args:
            size: Width and height, even, no larger than the picture.
            least_us: UTC before which it cannot have been recorded; None: nobody knows.
        """
        canvas = Canvas(*size)
        areas = self._areas(frame, size, least_us)
        if areas is None:
            paint_rectangle(canvas, 0, 0, *size)
            return canvas.frame
        scaled = frame.reformat(*size, format="yuv420p")
        canvas.copy((_plane(scaled, 0), _plane(scaled, 1), _plane(scaled, 2)))
        for left, top, right, bottom in areas:
            paint_rectangle(
                canvas,
                max(0, left - BORDER_PX) & ~1,
                max(0, top - BORDER_PX) & ~1,
                min(size[0], (right + BORDER_PX + 1) & ~1),
                min(size[1], (bottom + BORDER_PX + 1) & ~1),
            )
        return canvas.frame

    def _areas(self, frame: VideoFrame, size: tuple[int, int], least_us: int | None) -> list[Area] | None:
        """What is covered, in the picture's final size; None: all of it."""
        # One that says it is to be turned may have been seen otherwise by whoever set the areas.
        is_certain = not (self._is_doubtful or self._was_doubtful or frame.rotation)
        if self._rules is None or least_us is None or not is_certain:
            return None
        # Of the picture as it is: its sides are rounded when it is made smaller.
        areas = areas_of(self._rules.at(least_us), frame.width, frame.height)
        if areas is None:
            return None
        scale = Fraction(size[0], frame.width), Fraction(size[1], frame.height)
        return [_scaled(each, scale) for each in areas]

    def muted(self, frame: AudioFrame, least_us: int | None) -> AudioFrame:
        """The sound as it may be heard."""
        covers = () if self._rules is None or least_us is None else self._rules.at(least_us)
        if covers and all(each.is_heard for each in covers):
            return frame
        silent = AudioFrame(format=frame.format.name, layout=frame.layout.name, samples=frame.samples)
        nothing = 0x80 if frame.format.name.startswith("u8") else 0
        for plane in silent.planes:
            plane.update(bytes([nothing]) * plane.buffer_size)
        silent.sample_rate = frame.sample_rate
        return silent


def _scaled(area: Area, scale: tuple[Fraction, Fraction]) -> Area:
    left, top, right, bottom = area
    across, down = scale
    return floor(left * across), floor(top * down), ceil(right * across), ceil(bottom * down)


def _plane(frame: VideoFrame, index: int) -> Plane:
    plane = frame.planes[index]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]
