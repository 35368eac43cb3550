"""What walking the packets of a stream adds up to, without decoding any.

Presentation times decide the duration; where the clock of the file jumps, the jumps are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from av.packet import Packet

from media.report import StreamReport

JUMP_S = 10


@dataclass
class Count:
    """What walking the packets of one stream adds up to."""

    time_base: Fraction
    packets: int = 0
    hidden: int = 0
    keyframes: int = 0
    first_is_key: bool = True
    missing_pts: int = 0
    jumps: int = 0
    corrupt: int = 0
    last_is_corrupt: bool = False
    start: int | None = None
    end: int | None = None
    elapsed: int = 0
    last_dts: int | None = None
    last_duration: int = 0
    longest_step: int = 0

    def add(self, packet: Packet[Any]) -> None:
        self.last_is_corrupt = packet.is_corrupt
        self.corrupt += packet.is_corrupt
        if packet.is_discard:
            self.hidden += 1
            return
        if not self.packets:
            self.first_is_key = packet.is_keyframe
        self.packets += 1
        self.keyframes += packet.is_keyframe
        duration = packet.duration or 0
        if packet.pts is None:
            self.missing_pts += 1
        else:
            self.start = packet.pts if self.start is None else min(self.start, packet.pts)
            self.end = max(self.end or packet.pts, packet.pts + duration)
        if packet.dts is not None:
            self._advance(packet.dts, duration)

    def _advance(self, dts: int, duration: int) -> None:
        if self.last_dts is not None:
            step = dts - self.last_dts
            self.longest_step = max(self.longest_step, step)
            if step < 0 or step * self.time_base > JUMP_S + self.last_duration * self.time_base:
                self.jumps += 1
                step = self.last_duration
            self.elapsed += step
        self.last_dts, self.last_duration = dts, duration
        self.longest_step = max(self.longest_step, duration)

    def duration(self) -> Fraction | None:
        """Seconds shown: from first to last instant, jumps of the clock left out."""
        if self.start is None or self.end is None:
            return None
        ticks = self.elapsed + self.last_duration if self.jumps else self.end - self.start
        return ticks * self.time_base


def counted(stream: StreamReport, count: Count | None) -> StreamReport:
    if count is None:
        return replace(stream, packet_count=0, keyframe_count=0)
    seconds = count.duration()
    if seconds is None and stream.kind == "video":
        # A bare elementary stream has no clock: its frame rate is all there is.
        seconds = count.packets * stream.frame_duration
    elif seconds is not None and count.packets and not count.last_duration:
        seconds += stream.frame_duration
    rate = stream.avg_frame_rate
    if stream.kind == "video" and seconds:
        rate = ratio((count.packets / seconds).limit_denominator(1001))
    return replace(
        stream,
        time_base=ratio(count.time_base) or stream.time_base,
        start_pts=count.start,
        end_pts=count.end,
        packet_count=count.packets,
        hidden_count=count.hidden,
        keyframe_count=count.keyframes,
        starts_with_keyframe=count.first_is_key,
        corrupt_count=count.corrupt,
        missing_pts_count=count.missing_pts,
        jump_count=count.jumps,
        longest_step=count.longest_step,
        duration_us=int(seconds * 1_000_000) if seconds is not None else stream.declared_duration_us,
        avg_frame_rate=rate,
    )


def ratio(value: Fraction | Any | None) -> str | None:
    if value is None or not value.denominator or not value.numerator:
        return None
    return f"{value.numerator}/{value.denominator}"
