"""What walking the packets of a stream adds up to, without decoding any.

Presentation times decide the duration; where the clock of the file jumps, the jumps are left out. A packet
shown further from where it is decoded than any reordering takes it is a jump too, and says nothing of length.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import floor
from typing import Any

from av.packet import Packet

from media.report import StreamReport

JUMP_S = 10
MOST_REORDERED = 16
"""Pictures that may be decoded between when one is decoded and when it is shown."""


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
    usual_lead: int | None = None
    """From when the first packet is decoded to when it is shown."""
    lead: int = 0
    last_duration: int = 0
    trailing: int = 0
    """What the packets last that came after the last one with a time."""
    longest_step: int = 0
    longest_group: int = 0
    _group: int = 0
    _jump: int = field(init=False)
    """`JUMP_S` in units of the time base: whole numbers, since a day of footage has millions of packets."""

    def __post_init__(self) -> None:
        self._jump = floor(JUMP_S / self.time_base)

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
        elif packet.dts is None or self._is_near(packet.pts - packet.dts, duration):
            self.start = packet.pts if self.start is None else min(self.start, packet.pts)
            self.end = packet.pts + duration if self.end is None else max(self.end, packet.pts + duration)
        if packet.dts is None:
            self.trailing += duration
        else:
            self._advance(packet.dts, duration)
            self.longest_group = max(self.longest_group, self._group)
            self._group = 0 if packet.is_keyframe else self._group

    def _is_near(self, lead: int, duration: int) -> bool:
        """Whether a packet is shown about as long after it is decoded as the others are."""
        if self.usual_lead is None:
            self.usual_lead = self.lead = lead
        most = self._jump + MOST_REORDERED * duration
        if abs(lead - self.lead) > most:
            # One that leaps back to the others is no second jump.
            self.jumps += abs(lead - self.usual_lead) > most
        self.lead = lead
        return abs(lead - self.usual_lead) <= most

    def _advance(self, dts: int, duration: int) -> None:
        if self.last_dts is not None:
            step = dts - self.last_dts
            self.longest_step = max(self.longest_step, step)
            if step < 0 or step > self._jump + self.last_duration:
                self.jumps += 1
                step = self.last_duration
            self.elapsed += step
            self._group += step
        self.last_dts, self.last_duration, self.trailing = dts, duration, 0
        self.longest_step = max(self.longest_step, duration)

    def duration(self) -> Fraction | None:
        """Seconds shown: from first to last instant, less jumps of the clock; None where nothing tells."""
        decoded = self.elapsed + self.last_duration + self.trailing
        if self.start is None or self.end is None:
            return decoded * self.time_base if decoded else None
        shown = self.end - self.start
        if self.missing_pts:
            # Program streams time the first picture of a pack alone; the last ones may have no time.
            shown = max(shown, decoded)
        return (decoded if self.jumps else shown) * self.time_base


def counted(stream: StreamReport, count: Count | None) -> StreamReport:
    if count is None:
        return replace(stream, packet_count=0, keyframe_count=0)
    seconds = count.duration()
    if seconds is None and stream.kind == "video":
        # Neither clock nor lengths: the frame rate is all there is.
        seconds = count.packets * stream.frame_duration
    elif seconds is not None and count.packets and not count.last_duration + count.trailing:
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
        longest_group=count.longest_group,
        duration_us=int(seconds * 1_000_000) if seconds is not None else stream.declared_duration_us,
        avg_frame_rate=rate,
    )


def ratio(value: Fraction | Any | None) -> str | None:
    if value is None or not value.denominator or not value.numerator:
        return None
    return f"{value.numerator}/{value.denominator}"
