"""What probing found out about a file: plain data, safe to store and to plan from.

Everything here came out of a child that read hostile bytes, so texts are bounded and numbers are plain.
Times are rational: `pts` counts of a `time_base`, microseconds only where a whole is stated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import Any, Self

from evidence.kinds import MediaKind


@dataclass(frozen=True)
class StreamReport:
    """One stream of the container."""

    index: int
    kind: str
    """``video``, ``audio``, ``subtitle``, ``data``, ``attachment``."""
    codec: str
    """FFmpeg's name, ``unknown`` when there is none."""
    profile: str | None = None
    is_cover: bool = False
    """An attached picture, never the recording."""
    is_encrypted: bool = False
    can_decode: bool = False
    """At least one frame came out of a decoder."""
    time_base: str = "1/1000000"
    start_pts: int | None = None
    """Smallest presentation time shown, in ``time_base``."""
    end_pts: int | None = None
    """Largest presentation time plus its duration, in ``time_base``."""
    packet_count: int | None = None
    """Packets that are shown (edit lists applied); None when the file was not read through."""
    hidden_count: int = 0
    """Packets that an edit list hides: priming of a sound, or a recording trimmed without encoding."""
    keyframe_count: int | None = None
    starts_with_keyframe: bool = True
    corrupt_count: int = 0
    """Packets that the demuxer itself calls damaged or cut."""
    missing_pts_count: int = 0
    jump_count: int = 0
    """Times the decoding clock went back, or ahead by more than ten seconds."""
    longest_step: int = 0
    """The longest that one picture stands, or one packet of sound lasts, in ``time_base``."""
    longest_group: int = 0
    """The longest way from one keyframe to the next, by decoding times, in ``time_base``; 0: not known."""
    duration_us: int | None = None
    declared_duration_us: int | None = None
    declared_frame_count: int | None = None
    width_px: int = 0
    height_px: int = 0
    declared_width_px: int = 0
    declared_height_px: int = 0
    sample_aspect: str = "1/1"
    pix_fmt: str | None = None
    rotation_deg: int = 0
    is_interlaced: bool = False
    is_reordered: bool = False
    """Its pictures may be stored in another order than that in which they are shown (B-frames)."""
    avg_frame_rate: str | None = None
    sample_rate_hz: int = 0
    channels: int = 0
    decoded_frames: int = 0
    decode_errors: int = 0
    decode_coverage: str = "none"
    """How much was decoded to say so: ``none``, ``start``, ``sample``, ``full``."""
    language: str | None = None

    @property
    def time_base_fraction(self) -> Fraction:
        return Fraction(self.time_base)

    @property
    def start_time(self) -> Fraction:
        """Seconds on the file's own clock at which it starts to be shown."""
        return (self.start_pts or 0) * self.time_base_fraction

    @property
    def frame_duration(self) -> Fraction:
        """Seconds of one frame on average, a 25th when nothing is known."""
        rate = Fraction(self.avg_frame_rate) if self.avg_frame_rate else Fraction(0)
        return 1 / rate if rate > 0 else Fraction(1, 25)


@dataclass(frozen=True)
class ProbeReport:
    """All that probing says about one file."""

    media_kind: MediaKind
    container: str
    size_bytes: int
    decodable: bool
    reason: dict[str, str] | None
    """Why it cannot be played, in one line: ``code``, ``zh``, ``en``, ``message``; None when it can."""
    depth: str = "packets"
    """How far it was read: ``header``, ``packets``, ``full``."""
    duration_us: int | None = None
    """From media time 0 on."""
    lead_us: int = 0
    """How much earlier its first picture is shown than it says: sound begins then (`media.leading`)."""
    streams: tuple[StreamReport, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    claims: tuple[Mapping[str, str], ...] = ()
    """``field``, ``value``, ``clock``: what the container says about time, device and place."""
    flags: tuple[Mapping[str, str], ...] = ()
    """What is wrong or odd, one line each, in the form of ``reason``."""
    width_px: int = 0
    height_px: int = 0
    """Of a photo, upright."""

    @property
    def video(self) -> StreamReport | None:
        """The recording's picture: the first that decodes, covers left out."""
        return next((s for s in self.streams if s.kind == "video" and s.can_decode and not s.is_cover), None)

    @property
    def audio(self) -> StreamReport | None:
        """The first sound that decodes."""
        return next((s for s in self.streams if s.kind == "audio" and s.can_decode), None)

    @property
    def main(self) -> StreamReport | None:
        """The stream whose clock is the recording's: the picture, else the sound."""
        return self.video or self.audio

    @property
    def lead(self) -> Fraction:
        """The same in seconds."""
        return Fraction(self.lead_us, 1_000_000)

    def led_by(self, lead_us: int) -> Self:
        """The same with another lead."""
        length = None if self.duration_us is None else self.duration_us - self.lead_us + lead_us
        return replace(self, lead_us=lead_us, duration_us=length)

    @property
    def origin(self) -> Fraction:
        """Seconds on the file's own clock at media time 0."""
        return self.main.start_time - self.lead if self.main is not None else Fraction(0)

    def has_flag(self, code: str) -> bool:
        return any(flag["code"] == code for flag in self.flags)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, ``from_json`` gives back an equal report."""
        return {**asdict(self), "media_kind": str(self.media_kind)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            **{
                **data,
                "media_kind": MediaKind(data["media_kind"]),
                "streams": tuple(StreamReport(**stream) for stream in data["streams"]),
                "claims": tuple(data["claims"]),
                "flags": tuple(data["flags"]),
            }
        )
