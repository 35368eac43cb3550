"""Probe reports by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from evidence.kinds import MediaKind
from media.report import ProbeReport, StreamReport

VIDEO = StreamReport(
    index=0,
    kind="video",
    codec="h264",
    profile="High",
    can_decode=True,
    time_base="1/12800",
    start_pts=0,
    end_pts=128_000,
    packet_count=250,
    keyframe_count=5,
    duration_us=10_000_000,
    width_px=1920,
    height_px=1080,
    pix_fmt="yuv420p",
    avg_frame_rate="25/1",
    decode_coverage="sample",
)
AUDIO = StreamReport(
    index=1,
    kind="audio",
    codec="aac",
    profile="LC",
    can_decode=True,
    packet_count=469,
    duration_us=10_000_000,
    sample_rate_hz=48_000,
    channels=2,
)


def report(video: dict[str, Any] | None = None, audio: dict[str, Any] | None = None) -> ProbeReport:
    """A report of 10 s of 1080p25 with sound; None leaves a stream out, a dict changes it."""
    streams = []
    if video is not None:
        streams.append(replace(VIDEO, **video))
    if audio is not None:
        streams.append(replace(AUDIO, **audio))
    kind = MediaKind.VIDEO if video is not None else MediaKind.AUDIO
    return ProbeReport(kind, "mov", 1000, bool(streams), None, duration_us=10_000_000, streams=tuple(streams))
