"""Which renditions a recording gets: data in, data out.

1. What browsers play is copied: H.264, 8 bit, 4:2:0, progressive, upright, undamaged, with AAC-LC
   or no sound. One rendition, ``copy``. But not a few pictures that may be stored in another order.
2. When only the sound is foreign, the picture is copied and the sound encoded: ``copy`` all the same.
3. Everything else is encoded into the rungs of `config.settings.EncodingSettings`: ``360p`` first, because
   it is playable soonest, then ``720p``, then ``1080p``. Nothing is enlarged: the first rung that the source
   does not exceed ends the ladder, with the source's own size. Names tell the place in it, not pixels.
4. Sound alone becomes ``audio``.
5. Where the settings ask for it, a copy of many bits gets the smallest rung beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from config.settings import EncodingSettings, RungSettings
from media import formats
from media.counting import MOST_REORDERED
from media.report import ProbeReport, StreamReport

SHIPPED = EncodingSettings()
LONG_SIDE_PX = 1920
"""No rung of up to 1080 lines is wider."""
PRIMING_PACKETS = 4
"""What AAC encoders put before the first sound; more than that was trimmed away by somebody."""
BROWSER_AUDIO = ("aac", ("LC",))


@dataclass(frozen=True)
class Rung:
    """One rendition to be made."""

    name: str
    """``copy``, ``audio``, or the place in the ladder: ``360p``."""
    copies_video: bool = False
    copies_audio: bool = False
    width_px: int = 0
    height_px: int = 0
    """Of the picture that is encoded; 0 when it is copied or there is none."""
    crf: int = 0
    max_kbps: int | None = None
    preset: str = ""

    @property
    def is_copy(self) -> bool:
        """Whether its picture, or sound without one, is taken over as it is: work of moments."""
        return self.copies_video or self.name == "audio"


def ladder(
    report: ProbeReport, policy: EncodingSettings = SHIPPED, *, may_copy: bool = True
) -> tuple[Rung, ...]:
    """The rungs of a recording in the order in which they should be made; none when nothing decodes.

    Args:
        report: What probing found.
        policy: Which rungs there are.
        may_copy: False after a copy turned out to differ from its source.
    """
    video, audio = report.video, report.audio
    copies_audio = may_copy and audio is not None and can_copy_audio(audio)
    if video is None:
        return (Rung("audio", copies_audio=copies_audio),) if audio is not None else ()
    encoded = _encoded(video, policy, copies_audio)
    if may_copy and can_copy_video(video):
        beside = encoded[:1] if len(encoded) > 1 and _is_heavy(report, policy) else ()
        return (Rung("copy", copies_video=True, copies_audio=copies_audio), *beside)
    return encoded


def _encoded(video: StreamReport, policy: EncodingSettings, copies_audio: bool) -> tuple[Rung, ...]:
    own = fitted(video, None)
    rungs = []
    for rung in policy.rungs:
        size = fitted(video, rung)
        rungs.append(
            Rung(
                name=f"{rung.height_px}p",
                copies_audio=copies_audio,
                width_px=size[0],
                height_px=size[1],
                crf=rung.crf,
                max_kbps=rung.max_kbps,
                preset=policy.preset,
            )
        )
        if size == own:
            break
    return tuple(rungs)


def _is_heavy(report: ProbeReport, policy: EncodingSettings) -> bool:
    limit = policy.small_beside_copy_above_kbps
    if limit is None or not report.duration_us:
        return False
    return report.size_bytes * 8_000 > limit * report.duration_us


def can_copy_video(video: StreamReport) -> bool:
    """Whether browsers play this picture as it is."""
    return (
        video.codec == "h264"
        and video.profile in formats.BROWSER_VIDEO_PROFILES
        and video.pix_fmt in formats.BROWSER_PIXEL_FORMATS
        and not video.is_interlaced
        and video.rotation_deg == 0
        and not _is_held_back(video)
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


def _is_held_back(video: StreamReport) -> bool:
    """Whether a decoder may hold back all of its pictures until their stream ends, not knowing their order.

    Behind a few seconds of sound in the same file GStreamer never comes that far.
    """
    pictures = video.packet_count or video.declared_frame_count
    return video.is_reordered and pictures is not None and pictures <= MOST_REORDERED


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


def fitted(video: StreamReport, rung: RungSettings | None) -> tuple[int, int]:
    """Width and height of the upright picture with square pixels in a rung, even, never enlarged.

    The box is turned with the picture: a portrait recording gets the rung's lines as its width. None is the
    picture's own size.
    """
    width = Fraction(video.width_px) * Fraction(video.sample_aspect)
    height = Fraction(video.height_px)
    if video.rotation_deg % 180 == 90:
        width, height = height, width
    scale = Fraction(1)
    if rung is not None:
        short_px, long_px = rung.height_px, max(LONG_SIDE_PX, rung.height_px * 16 // 9)
        scale = min(scale, long_px / max(width, height), short_px / min(width, height))
    return _even(width * scale), _even(height * scale)


def _even(side: Fraction) -> int:
    return max(2, 2 * round(side / 2))
