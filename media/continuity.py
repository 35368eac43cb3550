"""One pass over a recording: when its clock, picture and sound break off, and where its scenes change.

Runs in a child. Each packet is read once, in the file's order: its times go to a clock of its stream, which
leaves jumps out, and what it holds is decoded with those times. Spans and scenes count from media time 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av.error
import numpy as np
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.stream import VideoStream

from evidence.continuity import MAX_SPANS, Fault, Span
from media import formats
from media.counting import JUMP_S, ratio
from media.errors import is_out_of_memory, media_error, translated
from media.measures import Finding, PictureWatch, Scene, SoundWatch
from media.timing import TOGETHER_S, StreamClock
from media.trial import open_container

Progress = Callable[[float], None]
MAX_SCENES = 20_000
MICROSECONDS = 1_000_000
LONGEST_US = 10**15
# The setting a fault is judged by, and the unit of what is measured.
JUDGED_BY: dict[Fault, tuple[str, str]] = {
    Fault.PICTURE_GAP: ("gap_ms", "ms"),
    Fault.SOUND_GAP: ("gap_ms", "ms"),
    Fault.DROPPED_FRAMES: ("", "frames"),
    Fault.CLOCK_JUMP: ("", "ms"),
    Fault.CLOCK_RESTART: ("", "ms"),
    Fault.FROZEN: ("frozen_difference", "luma"),
    Fault.BLACK: ("black_share_percent", "percent"),
    Fault.COVERED: ("covered_contrast", "luma"),
    Fault.SILENCE: ("silence_dbfs", "dbfs"),
    Fault.DEAD_MICROPHONE: ("dead_dbfs", "dbfs"),
}
FIXED = {Fault.DROPPED_FRAMES: 1, Fault.CLOCK_JUMP: JUMP_S * 1000, Fault.CLOCK_RESTART: 0}


def continuity_entry(request: dict[str, object], progress: Progress) -> dict[str, object]:
    """Read a recording through.

    Args:
        request: ``path``; ``thresholds`` by the names of the settings; ``streams``: indices of picture and
            sound, either of them None. Without it, the first of each is taken. ``lead_us``: of its report.
        progress: Hears 0 to 1.

    Returns:
        ``spans`` (`Span` as JSON), ``counts`` by kind, before the list was cut; ``scenes`` as ``pts``,
        ``ms``, ``percent``, ``scene_count``, ``time_base`` of the scenes, ``duration_us``,
        ``frame_count``, ``undecodable_count``, ``has_picture``, ``has_sound``, ``is_whole``.

    Raises:
        MediaError: ``not_media`` or ``no_streams``.
    """
    path = Path(str(request["path"]))
    limits: dict[str, float] = request["thresholds"]  # type: ignore[assignment]
    with translated("not_media"), open_container(path) as container:
        wanted = request.get("streams")
        if wanted is None:
            pictures = [one for one in container.streams.video if not is_cover(one)]
            chosen: list[Any] = [next(iter(some), None) for some in (pictures, container.streams.audio)]
        else:
            chosen = [None if index is None else container.streams[index] for index in wanted]  # type: ignore[attr-defined]
        reading = _Reading(limits, chosen[0], chosen[1], int(str(request.get("lead_us", 0))))
        size = max(1, path.stat().st_size)
        reading.run(container, lambda place: progress(place / size))
        # Streams of a closed container name nothing.
        return reading.result()


def is_cover(stream: VideoStream) -> bool:
    """Whether a picture stream is an attached picture, never the recording."""
    return bool(stream.disposition & stream.disposition.attached_pic)


@dataclass
class _Reading:
    """What one pass finds."""

    limits: dict[str, float]
    picture: VideoStream | None
    sound: AudioStream | None
    lead_us: int = 0
    clocks: dict[int, StreamClock] = field(default_factory=dict)
    undecodable: int = 0
    is_whole: bool = True

    def __post_init__(self) -> None:
        streams = [one for one in (self.picture, self.sound) if one is not None]
        if not streams:
            raise media_error("no_streams")
        for stream in streams:
            self.clocks[stream.index] = StreamClock(Fraction(ratio(stream.time_base) or "1/1000000"))
        self.sees = None
        if self.picture is not None:
            context = self.picture.codec_context
            if formats.is_huge(context.width, context.height):
                raise media_error("huge_dimensions")
            context.thread_type = "AUTO"
            self.sees = PictureWatch(self.limits, self.clocks[self.picture.index].time_base)
        self.hears = SoundWatch(self.limits) if self.sound is not None else None
        self._planar: tuple[object, AudioResampler] | None = None

    def run(self, container: Any, at_byte: Callable[[int], None]) -> None:
        streams = [one for one in (self.picture, self.sound) if one is not None]
        place = 0
        try:
            for packet in container.demux(*streams):
                if packet.size:
                    self.clocks[packet.stream_index].take(packet)
                # Some demuxers tell no place; that it goes on is told all the same.
                place = packet.pos or place
                at_byte(place)
                self._decode(packet)
        except av.error.FFmpegError as error:
            if is_out_of_memory(error):
                raise
            # What could be read up to here is as true as before.
            self.is_whole = False

    def _decode(self, packet: Packet[Any]) -> None:
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            if is_out_of_memory(error):
                raise
            self.undecodable += not isinstance(error, EOFError)
            return
        for frame in frames:
            if self.picture is not None and packet.stream_index == self.picture.index:
                assert self.sees is not None  # noqa: S101 - made with the picture
                self.sees.see(frame)
            else:
                self._hear(frame)

    def _hear(self, frame: Any) -> None:
        assert self.hears is not None  # noqa: S101 - made with the sound
        assert self.sound is not None  # noqa: S101
        if frame.pts is None:
            return
        at = frame.pts * self.clocks[self.sound.index].time_base
        for part in [frame] if frame.format.name == "fltp" else self._as_planar(frame):
            self.hears.hear(at, part.to_ndarray().astype(np.float32, copy=False))

    def _as_planar(self, frame: Any) -> list[Any]:
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._planar is None or self._planar[0] != shape:
            # A converter is for one shape of sound; a recorder may change it in the middle.
            self._planar = (shape, AudioResampler(format="fltp"))
        return list(self._planar[1].resample(frame))

    def result(self) -> dict[str, object]:
        clocks = list(self.clocks.values())
        main = clocks[0]
        lead = Fraction(self.lead_us, MICROSECONDS)
        origin = (main.first or 0) - round(lead / main.time_base)
        findings = self._of_clocks()
        scenes: list[Scene] = []
        if self.picture is not None and self.sees is not None:
            findings += self.sees.end(self.clocks[self.picture.index].end)
            scenes = self.sees.scenes
        if self.sound is not None and self.hears is not None:
            findings += self.hears.end(self.clocks[self.sound.index].end)
        spans = sorted(
            (self._span(one, main.begin - lead) for one in findings), key=lambda one: (one.from_us, one.fault)
        )
        counts = {str(fault): sum(one.fault == fault for one in spans) for fault in Fault}
        return {
            "spans": [one.to_json() for fault in Fault for one in _first(spans, fault)],
            "counts": {fault: count for fault, count in counts.items() if count},
            "scenes": [
                {
                    "pts": one.pts - origin,
                    "ms": int((one.pts - origin) * main.time_base * 1000),
                    "percent": one.percent,
                }
                for one in scenes[:MAX_SCENES]
            ],
            "scene_count": len(scenes),
            "time_base": ratio(main.time_base),
            "duration_us": _micros(main.end - main.begin + lead),
            "frame_count": main.count if self.picture is not None else None,
            "undecodable_count": self.undecodable,
            "has_picture": self.picture is not None,
            "has_sound": self.sound is not None,
            "is_whole": self.is_whole,
        }

    def _of_clocks(self) -> list[Finding]:
        """Jumps, gaps and dropped frames, by the packets alone."""
        found: list[Finding] = []
        gap = Fraction(int(self.limits["gap_ms"]), 1000)
        # A last packet may claim to last long; that is no proof that the other stream lacks anything.
        running = [one for one in self.clocks.values() if one.count]
        begin = min((one.begin for one in running), default=Fraction(0))
        last = max((one.last_begin for one in running), default=Fraction(0))
        for stream in (self.picture, self.sound):
            if stream is None:
                continue
            clock = self.clocks[stream.index]
            is_picture = stream is self.picture
            told = [] if is_picture or self.picture is None else self.clocks[self.picture.index].jumps
            for at, by in clock.jumps:
                kind = Fault.CLOCK_JUMP if by > 0 else Fault.CLOCK_RESTART
                # Both streams of a file jump together as a rule; it is told once.
                if not any(abs(one.at - at) <= TOGETHER_S for one in told):
                    found.append(Finding(kind, at, at, _ms(by)))
            gaps, drops = clock.missing(
                gap=gap, step_percent=int(self.limits["dropped_step_percent"]), by_length=not is_picture
            )
            kind = Fault.PICTURE_GAP if is_picture else Fault.SOUND_GAP
            # A stream that is promised and never comes has no clock: it is missing from first to last.
            edges = [(begin, clock.begin), (clock.end, last)] if clock.count else [(begin, last)]
            found += [Finding(kind, one.begin, one.end, _ms(one.end - one.begin)) for one in gaps]
            found += [Finding(kind, a, b, _ms(b - a)) for a, b in edges if b - a >= gap]
            if is_picture:
                found += [Finding(Fault.DROPPED_FRAMES, one.begin, one.end, one.missing) for one in drops]
        return found

    def _span(self, finding: Finding, origin: Fraction) -> Span:
        name, unit = JUDGED_BY[finding.fault]
        threshold = self.limits[name] if name else FIXED[finding.fault]
        begin = _micros(finding.begin - origin)
        end = max(begin, _micros(finding.end - origin))
        return Span(finding.fault, begin, end, finding.measured, threshold, unit)


def _first(spans: list[Span], fault: Fault) -> list[Span]:
    return [one for one in spans if one.fault == fault][:MAX_SPANS]


def _micros(seconds: Fraction) -> int:
    """Microseconds, held to what a wall time can be moved by: a file may claim any."""
    return min(max(0, int(seconds * MICROSECONDS)), LONGEST_US)


def _ms(seconds: Fraction) -> int:
    return int(seconds * 1000)
