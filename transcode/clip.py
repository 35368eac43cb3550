"""A clip to take away: a file of its own, cut to the frame, as a rule with the viewer's mark in the picture.

The clip holds the pictures whose time t lies in from <= t < to and the sound samples of the same
span, and nothing else: only the fragments that touch the span are given to the decoder. All of it is
encoded again, but for what `transcode.splice` copies where nothing is drawn. The same
request over the same rendition with the same font gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import ffmpeg

from evidence.errors import InvalidInput, MediaError
from media import formats, sandbox
from media.errors import media_error
from media.fmp4 import FragmentIndex
from media.fonts import find_font, font_digest, require_font
from media.report import ProbeReport
from media.run import run_ffmpeg
from media.still import sync
from transcode.encoders import ENCODER_THREADS
from transcode.excerpt import write_excerpt
from transcode.mark import MarkLine, clock_options, draw_mark
from transcode.plan import AUDIO_KBPS_PER_CHANNEL, KEYFRAME_EVERY_S
from transcode.segment import RunOptions
from transcode.splice import Spliced, Unsuited, splice

CRF = 20
NOTHING_CUT = "received no packets"
OUTPUT: Mapping[str, Any] = {
    "f": "mp4",
    "movflags": "+faststart",
    "map_metadata": -1,
    "map_chapters": -1,
    "fflags": "+bitexact",
    "flags:v": "+bitexact",
    "flags:a": "+bitexact",
}
"""How what is taken away is written: nothing of its maker in it."""
VIDEO: Mapping[str, Any] = {
    "c:v": "libx264",
    "preset": "veryfast",
    "crf": CRF,
    "profile:v": "high",
    "threads:v": ENCODER_THREADS,
    "fps_mode:v": "passthrough",
    "force_key_frames": f"expr:gte(t,n_forced*{KEYFRAME_EVERY_S})",
}


@dataclass(frozen=True)
class ClipResult:
    """A clip that is on disk."""

    path: Path
    size_bytes: int
    frame_count: int
    duration_us: int
    params: dict[str, Any]
    """What its bytes depend on beside the rendition."""

    @property
    def info(self) -> dict[str, Any]:
        """Facts for the row of the derivative."""
        copied = self.params.get("copied_frames", 0)
        return {
            "duration_us": self.duration_us,
            "frame_count": self.frame_count,
            "copied_frame_count": copied,
        }


def cut_clip(
    rendition: Path,
    index: FragmentIndex,
    from_us: int,
    to_us: int,
    destination: Path,
    *,
    mark: Sequence[MarkLine] = (),
    font: Path | None = None,
    clock_us: int | None = None,
    run: RunOptions,
    on_progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ClipResult:
    """Cut ``[from_us, to_us)`` of media time out of a rendition, as MP4 that plays from its first bytes.

    Args:
        rendition: The rendition the viewer has a right to.
        index: Its fragments.
        destination: A temporary file; taken away on failure.
        mark: Lines to burn in; none are drawn in a clip of sound alone.
        font: A font with Chinese; a system font when omitted.
        clock_us: What a clock on the wall showed at media time 0, as microseconds since 1970 in that clock's
            own reckoning; drawn into every picture. None draws none.

    Raises:
        InvalidInput: ``span_empty``: nothing of the recording lies in the span.
        MediaError: ``ffmpeg_failed`` or a limit.
        Unavailable: ``disk_full``, or ``font_missing``: a clock is wanted and nothing can draw it.
        Conflict: ``cancelled``.
    """
    begin, end = _span(index, from_us, to_us)
    used_font = find_font(font)
    is_video = index.main.kind == "video"
    mark = mark if is_video else ()
    clock = None
    if clock_us is not None and is_video:
        shown_us = clock_us + int((begin - index.origin) * 1_000_000)
        clock = clock_options(shown_us, require_font(used_font), index.main.height_px)
    made_by: dict[str, Any] = {}
    spliced: Spliced | None = None
    try:
        if is_video and not mark and clock is None:
            # Nothing is drawn into the pictures: what lies wholly inside need not be encoded again.
            try:
                spliced = splice(
                    rendition, index, begin, end, destination, crf=CRF, run=run, cancelled=cancelled
                )
                made_by = {"copied_frames": spliced.copied_count}
            except Unsuited as why:
                made_by = {"encoded_whole": str(why)}
        if spliced is None:
            _encode(
                rendition,
                index,
                (begin, end),
                destination,
                mark,
                used_font,
                clock,
                run,
                on_progress,
                cancelled,
            )
        found = _look(destination, run)
        stream = found.video if is_video else found.audio
        if stream is None:
            raise _empty(index, from_us, to_us)
        frames = stream.packet_count or 0
        if spliced is not None and frames != spliced.copied_count + spliced.encoded_count:
            wanted = spliced.copied_count + spliced.encoded_count
            raise media_error("ffmpeg_failed", f"expected {wanted} pictures in the clip, found {frames}")
        sync(destination)
    except MediaError as error:
        destination.unlink(missing_ok=True)
        if NOTHING_CUT in str(error.facts.get("stderr_tail")):
            # Shorter than a frame of its sound, or between two pictures far apart.
            raise _empty(index, from_us, to_us) from error
        raise
    except BaseException:
        destination.unlink(missing_ok=True)
        raise
    params = {
        "from_us": from_us,
        "to_us": to_us,
        "mark": [line.text for line in mark],
        "font_sha256": font_digest(used_font) if mark or clock else None,
        "crf": CRF,
        **made_by,
    }
    if clock is not None:
        params["clock_us"] = clock_us
    return ClipResult(destination, destination.stat().st_size, frames, found.duration_us or 0, params)


def _encode(
    rendition: Path,
    index: FragmentIndex,
    span: tuple[Fraction, Fraction],
    destination: Path,
    mark: Sequence[MarkLine],
    font: Path | None,
    clock: Mapping[str, Any] | None,
    run: RunOptions,
    on_progress: Callable[[float], None] | None,
    cancelled: Callable[[], bool] | None,
) -> None:
    """Encode all of a span again, with what is drawn into it."""
    (begin, end), main = span, index.main
    excerpt, overlay = run.scratch / "excerpt.mp4", run.scratch / "mark.png"
    try:
        times = begin - index.origin, end - index.origin
        write_excerpt(rendition, index, *times, excerpt, cancelled=cancelled)
        if mark:
            draw_mark(mark, overlay, width_px=main.width_px, height_px=main.height_px, font=font)
        over = overlay if mark else None
        run_ffmpeg(
            clip_arguments(index, begin, end, excerpt, destination.resolve(), over, clock),
            scratch=run.scratch,
            limits=run.limits,
            binary=run.ffmpeg,
            duration=end - begin,
            on_progress=on_progress,
            cancelled=cancelled,
        )
    finally:
        excerpt.unlink(missing_ok=True)
        overlay.unlink(missing_ok=True)


def clip_arguments(
    index: FragmentIndex,
    begin: Fraction,
    end: Fraction,
    excerpt: Path,
    destination: Path,
    overlay: Path | None,
    clock: Mapping[str, Any] | None = None,
) -> list[str]:
    """The command line that cuts; times in seconds on the rendition's own clock."""
    source = ffmpeg.input(f"file:{excerpt}", copyts=None, **formats.whitelist_options())
    outputs = []
    options: dict[str, Any] = {**OUTPUT}
    for track in index.tracks:
        first, last = ceil(begin * track.timescale), ceil(end * track.timescale)
        if track.kind == "video":
            picture = source.video.filter("trim", start_pts=first, end_pts=last)
            picture = picture.filter("setpts", f"PTS-{first}")
            if overlay is not None:
                over = ffmpeg.input(f"file:{overlay}", f="png_pipe", protocol_whitelist="file")
                picture = ffmpeg.overlay(picture, over, eof_action="repeat")
            if clock is not None:
                picture = picture.filter("drawtext", **clock)
            outputs.append(picture.filter("format", "yuv420p"))
            options |= {**VIDEO, "enc_time_base:v": f"1:{track.timescale}"}
        else:
            sound = source.audio.filter("atrim", start_pts=first, end_pts=last)
            outputs.append(sound.filter("asetpts", f"PTS-{first}"))
            options |= {"c:a": "aac", "b:a": f"{2 * AUDIO_KBPS_PER_CHANNEL}k"}
    arguments: list[str] = (
        ffmpeg.output(*outputs, f"file:{destination}", **options).overwrite_output().get_args()
    )
    return arguments


def _span(index: FragmentIndex, from_us: int, to_us: int) -> tuple[Fraction, Fraction]:
    """Begin and end in seconds on the rendition's own clock."""
    begin = Fraction(max(0, from_us), 1_000_000)
    end = min(Fraction(to_us, 1_000_000), index.duration)
    if begin >= end:
        raise _empty(index, from_us, to_us)
    return begin + index.origin, end + index.origin


def _empty(index: FragmentIndex, from_us: int, to_us: int) -> InvalidInput:
    length = int(index.duration * 1_000_000)
    return InvalidInput(
        f"clip: expected a span with pictures inside 0 to {length} us, found {from_us} to {to_us}",
        code="span_empty",
    )


def _look(clip: Path, run: RunOptions) -> ProbeReport:
    request: dict[str, object] = {"path": str(clip.resolve()), "depth": "packets"}
    found = sandbox.call("media.probe:probe_entry", request, limits=run.limits, scratch=run.scratch)
    return ProbeReport.from_json(found)
