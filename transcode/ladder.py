"""Which renditions a recording gets: data in, data out.

1. What browsers play is copied: H.264, 8 bit, 4:2:0, progressive, upright, undamaged, with AAC-LC
   or no sound. One rendition, ``copy``.
2. When only the sound is foreign, the picture is copied and the sound encoded: ``copy`` all the same.
3. Everything else is encoded: ``360p`` first, because it is playable soonest, then ``full``, which has
   the size of the source and at most 1920x1080. A source no larger than 360p gets one rung.
4. Sound alone becomes ``audio``.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from media import formats
from media.report import ProbeReport, StreamReport

SMALL_RUNG_PX = 360
LONG_SIDE_PX, SHORT_SIDE_PX = 1920, 1080
PRIMING_PACKETS = 4
"""What AAC encoders put before the first sound; more than that was trimmed away by somebody."""
BROWSER_AUDIO = ("aac", ("LC",))


@dataclass(frozen=True)
class Rung:
    """One rendition to be made."""

    name: str
    """``copy``, ``360p``, ``full``, ``audio``."""
    copies_video: bool = False
    copies_audio: bool = False
    width_px: int = 0
    height_px: int = 0
    """Of the picture that is encoded; 0 when it is copied or there is none."""


def ladder(report: ProbeReport, *, may_copy: bool = True) -> tuple[Rung, ...]:
    """The rungs of a recording in the order in which they should be made; none when nothing decodes.

    Args:
        report: What probing found.
        may_copy: False after a copy turned out to differ from its source.
    """
    video, audio = report.video, report.audio
    copies_audio = may_copy and audio is not None and can_copy_audio(audio)
    if video is None:
        return (Rung("audio", copies_audio=copies_audio),) if audio is not None else ()
    if may_copy and can_copy_video(video):
        return (Rung("copy", copies_video=True, copies_audio=copies_audio),)
    full = fitted(video, LONG_SIDE_PX, SHORT_SIDE_PX)
    small = fitted(video, LONG_SIDE_PX, SMALL_RUNG_PX)
    rungs = [Rung("360p", False, copies_audio, *small)]
    if full != small:
        rungs.append(Rung("full", False, copies_audio, *full))
    return tuple(rungs)


def can_copy_video(video: StreamReport) -> bool:
    """Whether browsers play this picture as it is."""
    return (
        video.codec == "h264"
        and video.profile in formats.BROWSER_VIDEO_PROFILES
        and video.pix_fmt in formats.BROWSER_PIXEL_FORMATS
        and not video.is_interlaced
        and video.rotation_deg == 0
        and video.starts_with_keyframe
        # A copy would show what an edit list hides.
        and video.hidden_count == 0
        and video.missing_pts_count == 0
        and video.start_pts is not None
        and video.jump_count == 0
        # A browser gives up where FFmpeg conceals.
        and video.decode_errors == 0
        and video.width_px % 2 == 0
        and video.height_px % 2 == 0
    )


def can_copy_audio(audio: StreamReport) -> bool:
    """Whether browsers play this sound as it is."""
    codec, profiles = BROWSER_AUDIO
    return (
        audio.codec == codec
        and audio.profile in profiles
        and audio.channels in {1, 2}
        and audio.hidden_count <= PRIMING_PACKETS
        and audio.missing_pts_count == 0
        and audio.jump_count == 0
        and audio.decode_errors == 0
    )


def fitted(video: StreamReport, long_px: int, short_px: int) -> tuple[int, int]:
    """Width and height of the upright picture with square pixels inside a box, even, never enlarged.

    The box is turned with the picture: a portrait recording gets ``short_px`` wide.
    """
    width = Fraction(video.width_px) * Fraction(video.sample_aspect)
    height = Fraction(video.height_px)
    if video.rotation_deg % 180 == 90:
        width, height = height, width
    scale = min(Fraction(1), Fraction(long_px) / max(width, height), Fraction(short_px) / min(width, height))
    return _even(width * scale), _even(height * scale)


def _even(side: Fraction) -> int:
    return max(2, 2 * round(side / 2))
