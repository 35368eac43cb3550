"""FFmpeg command lines as data: what to run for a rung, a poster's frame or a clip to take away.

Nothing runs here. `media.run` executes the arguments; paths stand in them as they are handed in.

Every rendition is a fragmented MP4: a fragment per group of pictures, none shorter than a second,
none longer than 15, so that a stream without keyframes does not pile up in memory. Nothing of the
source follows but picture and sound: no tags, chapters, data streams, covers or subtitles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import ffmpeg

from media import formats
from media.report import ProbeReport, StreamReport
from transcode.ladder import Rung, ladder

KEYFRAME_EVERY_S = 2
MIN_FRAGMENT_US = 1_000_000
MAX_FRAGMENT_US = 15_000_000
AUDIO_FRAGMENT_US = 2_000_000
AUDIO_RATE_HZ = 48_000
AUDIO_KBPS_PER_CHANNEL = 64
CRF = {"360p": 26, "full": 23}
# Frame threads shape what x264 writes; a fixed number keeps its bytes the same on every machine.
ENCODER_THREADS = 4
# delay_moov: the edit lists are complete when they are resolved (media.growing).
MOVFLAGS = "+frag_keyframe+empty_moov+delay_moov+default_base_moof+skip_trailer"
# Codecs in which a packet of the demuxer is one picture, no more and no less.
FRAME_PER_PACKET = {"h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "h263", "msmpeg4v3", "dvvideo"}
SOURCE, DESTINATION = "{source}", "{destination}"


@dataclass(frozen=True)
class RenditionPlan:
    """One rendition: the command and what must come out of it."""

    rung: Rung
    arguments: tuple[str, ...]
    """For ``ffmpeg``, with ``{source}`` and ``{destination}`` where the paths go."""
    expected_frames: int | None
    """Pictures of the rendition, packets where there is sound only; None when it cannot be told."""
    expected_duration: Fraction | None
    tolerance: Fraction
    """How much the duration may differ: one frame, and a tick for rounding."""

    def command(self, source: str, destination: str) -> list[str]:
        """The arguments with the paths in place."""
        places = {SOURCE: f"file:{source}", DESTINATION: f"file:{destination}"}
        return [places.get(argument, argument) for argument in self.arguments]

    def params(self) -> dict[str, Any]:
        """What the result depends on beside the source, for its parameters digest."""
        return {"rung": asdict(self.rung), "arguments": list(self.arguments)}


def plan_renditions(report: ProbeReport, *, may_copy: bool = True) -> tuple[RenditionPlan, ...]:
    """The renditions of a recording, in the order in which they should be made.

    Args:
        report: What probing found; a report of depth ``header`` will do for a copy.
        may_copy: False after a copy turned out to differ from its source.

    Returns:
        Empty when nothing of it decodes, and for photos (`transcode.stills`).
    """
    return tuple(_plan(report, rung) for rung in ladder(report, may_copy=may_copy))


def _plan(report: ProbeReport, rung: Rung) -> RenditionPlan:
    video, audio = report.video, report.audio
    main = video or audio
    assert main is not None  # noqa: S101 - a rung is only there when something decodes
    options: dict[str, Any] = {**_container(video), **_bare()}
    if video is not None:
        options |= _copied_video() if rung.copies_video else _encoded_video(video, rung)
    if audio is not None:
        options |= _copied_audio() if rung.copies_audio else _encoded_audio(audio.channels)
    streams = [stream for stream in (video, audio) if stream is not None]
    frame = main.frame_duration if video is not None else _audio_frame(main)
    return RenditionPlan(
        rung=rung,
        arguments=tuple(_compiled(streams, options)),
        expected_frames=_expected_frames(main, rung) if video is not None else None,
        expected_duration=Fraction(main.duration_us, 1_000_000) if main.duration_us else None,
        tolerance=frame + Fraction(1, 1000),
    )


def _compiled(streams: Sequence[StreamReport], options: dict[str, Any]) -> list[str]:
    source = ffmpeg.input(SOURCE, **input_options(is_copy=options.get("c:v") == "copy"))
    chosen = [source[str(stream.index)] for stream in streams]
    arguments: list[str] = ffmpeg.output(*chosen, DESTINATION, **options).overwrite_output().get_args()
    return arguments


def input_options(*, is_copy: bool = False) -> dict[str, Any]:
    """Options before every ``-i``: whitelists, and a limit on pictures that headers do not show.

    A packet that was cut off is not copied: a browser stops at it, while a decoder here conceals it.
    """
    flags = "+genpts+discardcorrupt" if is_copy else "+genpts"
    return {**formats.whitelist_options(), "max_pixels": formats.MAX_PICTURE_PX, "fflags": flags}


def _container(video: StreamReport | None) -> dict[str, Any]:
    longest = AUDIO_FRAGMENT_US if video is None else MAX_FRAGMENT_US
    return {
        "f": "mp4",
        "movflags": MOVFLAGS,
        "min_frag_duration": MIN_FRAGMENT_US,
        "frag_duration": longest,
        "flush_packets": 1,
        "max_muxing_queue_size": 4096,
    }


def _bare() -> dict[str, Any]:
    """Nothing but picture and sound, and nothing of the encoder's name or the hour."""
    return {
        "map_metadata": -1,
        "map_chapters": -1,
        "dn": None,
        "sn": None,
        "fflags": "+bitexact",
        "flags:v": "+bitexact",
        "flags:a": "+bitexact",
    }


def _copied_video() -> dict[str, Any]:
    # Frames before the first keyframe count too; ladder.can_copy_video refuses sources that start so.
    return {"c:v": "copy", "copyinkf:v": None}


def _encoded_video(video: StreamReport, rung: Rung) -> dict[str, Any]:
    filters = ["yadif=mode=send_frame:deint=interlaced"] if video.is_interlaced else []
    filters.append(f"scale={rung.width_px}:{rung.height_px}:flags=bicubic:out_range=tv")
    filters += ["setsar=1", "format=yuv420p"]
    return {
        "c:v": "libx264",
        "preset": "veryfast",
        "crf": CRF[rung.name],
        "profile:v": "high",
        "threads:v": ENCODER_THREADS,
        "filter:v": ",".join(filters),
        # The source's own clock, frame by frame: nothing is dropped or doubled to please a rate.
        "fps_mode:v": "passthrough",
        "enc_time_base:v": "demux",
        "force_key_frames": f"expr:gte(t,n_forced*{KEYFRAME_EVERY_S})",
        "x264-params": "open-gop=0:scenecut=0",
        "g": 100_000,
    }


def _copied_audio() -> dict[str, Any]:
    return {"c:a": "copy", "bsf:a": "aac_adtstoasc"}


def _encoded_audio(channels: int) -> dict[str, Any]:
    kept = min(max(channels, 1), 2)
    return {
        "c:a": "aac",
        "b:a": f"{AUDIO_KBPS_PER_CHANNEL * kept}k",
        "ar": AUDIO_RATE_HZ,
        "ac": kept,
        # A gap in the sound stays a gap: silence is put in, nothing is pulled together.
        "filter:a": "aresample=async=1",
    }


def _expected_frames(main: StreamReport, rung: Rung) -> int | None:
    if main.packet_count is None:
        return main.declared_frame_count
    if rung.copies_video:
        return main.packet_count - main.corrupt_count
    if main.decode_coverage == "full":
        return main.decoded_frames
    return main.packet_count if main.codec in FRAME_PER_PACKET else None


def _audio_frame(audio: StreamReport) -> Fraction:
    # Priming and the last, partly filled frame of 1024 samples, at either rate.
    rate = min(AUDIO_RATE_HZ, audio.sample_rate_hz or AUDIO_RATE_HZ)
    return Fraction(3 * 1024, rate)
