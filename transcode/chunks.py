"""Long footage in chunks that any worker can encode, and their joining into one rendition.

1. Chunks are spans of the source's own clock, half open, so each picture lies in exactly one, whatever its
   frame rate and wherever its keyframes are. Decoding starts at a keyframe well before, and is trimmed.
2. A chunk holds picture alone, in closed groups without B-frames: in it the order of storing is that of
   showing, so no clock has to give way at a seam. Sound is made as one whole: it has no seams.
3. Joining moves fragments. Before, the chunks are held against their manifest: each there once, in order, of
   one coding, with all the frames of the source between them. What does not fit is not joined.

Footage is cut only where its container has an index and its report vouches for every packet: known frames, no
damage, no jump of its clock; where keyframes are near enough that little is decoded twice; and where no
picture stands so long that a chunk would have none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil
from pathlib import Path

from config.settings import EncodingSettings
from media.errors import media_error
from media.fmp4 import FragmentIndex, index_fragments
from media.growing import GrowingRendition
from media.joining import Part, coding_of, join_parts
from media.report import ProbeReport, StreamReport
from media.run import run_ffmpeg
from transcode.plan import CLOCK_START_S, Cut, RenditionPlan, join_command
from transcode.segment import DAMAGE_FLAGS, RenditionResult, RunOptions, differences

INDEXED = frozenset({"mov", "matroska", "avi"})
"""Containers that know where their keyframes are. In others nothing is sought: they are encoded whole."""
SEEK_BEFORE_S = 5
"""Pictures shown before a keyframe but stored after it need the group before; it is begun earlier by this."""
SEEK_BEFORE_KEYFRAMES = 2
"""And by as many keyframes, on average: from one of an intra refresh pictures come back little by little."""
KEYFRAMES_APART_S = 30
"""Where they are farther apart on average, each chunk would decode too much of what lies before it."""


@dataclass(frozen=True)
class ChunkFile:
    """A finished chunk of one rung."""

    number: int
    span: tuple[int, int]
    """From which time to which, in the time base of the source."""
    path: Path
    index: FragmentIndex


def may_be_long(report: ProbeReport, policy: EncodingSettings) -> bool:
    """Whether a recording may turn out to be encoded in chunks, by what its header says."""
    return report.duration_us is None or report.duration_us > policy.chunk_above_s * 1_000_000


def chunk_count(report: ProbeReport, plans: Sequence[RenditionPlan], policy: EncodingSettings) -> int:
    """In how many chunks a recording is encoded; 0 where it is encoded whole."""
    video = report.video
    if video is None or not _is_vouched_for(report, video):
        return 0
    if any(plan.rung.copies_video or plan.expected_frames is None for plan in plans):
        return 0
    length_s = ((video.end_pts or 0) - (video.start_pts or 0)) * video.time_base_fraction
    if length_s <= Fraction(policy.chunk_above_s) or _keyframes_apart_s(video) > KEYFRAMES_APART_S:
        return 0
    count = max(2, ceil(length_s / Fraction(policy.chunk_s)))
    # A chunk may begin just after a picture that stands until the next one.
    return count if 2 * video.longest_step * video.time_base_fraction < length_s / count else 0


def cuts(video: StreamReport, count: int) -> tuple[Cut, ...]:
    """The spans of so many chunks, of equal length but for a tick."""
    start, end, base = video.start_pts or 0, video.end_pts or 0, video.time_base_fraction
    edges = [start + (end - start) * number // count for number in range(count)]
    # The last one has no end: a picture's time may lie behind what the report calls the end.
    edges.append(end + ceil(1 / base))
    before_s = max(Fraction(SEEK_BEFORE_S), SEEK_BEFORE_KEYFRAMES * _keyframes_apart_s(video))
    return tuple(Cut(one, two, _seek(one, start, base, before_s)) for one, two in pairwise(edges))


def _keyframes_apart_s(video: StreamReport) -> Fraction:
    """On average; all of its length where there is one, or none is known."""
    length = (video.end_pts or 0) - (video.start_pts or 0)
    return length * video.time_base_fraction / max(1, video.keyframe_count or 0)


def _seek(edge: int, start: int, base: Fraction, before_s: Fraction) -> float | None:
    at = edge * base - before_s
    return float(at) if at > start * base else None


def _is_vouched_for(report: ProbeReport, video: StreamReport) -> bool:
    return (
        video.start_pts is not None
        and video.end_pts is not None
        and video.missing_pts_count == 0
        and video.jump_count == 0
        and video.corrupt_count == 0
        and video.decode_errors == 0
        and video.hidden_count == 0
        and report.container.split(",")[0] in INDEXED
        and not any(report.has_flag(code) for code in DAMAGE_FLAGS)
    )


def manifest_findings(chunks: Sequence[ChunkFile], planned: Sequence[Cut], time_base: Fraction) -> list[str]:
    """Everything that keeps chunks from being joined, by their numbers from 0."""
    numbers = [chunk.number for chunk in chunks]
    if numbers != list(range(len(planned))):
        return [f"chunks: expected 0 to {len(planned) - 1} once each, in order, found {numbers}"]
    found = [
        f"chunk {chunk.number}: expected pts {cut.span}, found {chunk.span}"
        for chunk, cut in zip(chunks, planned, strict=True)
        if chunk.span != cut.span
    ]
    first = coding_of(chunks[0].path, chunks[0].index)
    found += [
        f"chunk {chunk.number}: expected the coding of chunk 0, found another"
        for chunk in chunks[1:]
        if coding_of(chunk.path, chunk.index) != first
    ]
    for chunk in chunks:
        if not chunk.index.fragments or not all(part.starts_with_keyframe for part in chunk.index.fragments):
            found.append(f"chunk {chunk.number}: expected a keyframe first in each fragment, found none")
        length = (chunk.span[1] - chunk.span[0]) * time_base
        if not 0 <= chunk.index.origin < length:
            found.append(f"chunk {chunk.number}: its first picture is not in its span")
    return found


def join(
    plan: RenditionPlan,
    report: ProbeReport,
    chunks: Sequence[ChunkFile],
    planned: Sequence[Cut],
    sound: Path | None,
    folder: Path,
    *,
    run: RunOptions,
    on_progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> RenditionResult:
    """Make one rendition of its chunks.

    Args:
        plan: Of the rung, for all of the source.
        chunks: Its chunks.
        planned: The chunks there must be.
        sound: The sound of the source; None where it has none.
        folder: Where it is written.

    Raises:
        MediaError: ``chunks_do_not_join`` with every reason, ``rendition_differs``, or of FFmpeg.
    """
    video = report.video
    assert video is not None  # noqa: S101 - only pictures are cut
    base = video.time_base_fraction
    found = manifest_findings(chunks, planned, base)
    if found:
        raise media_error("chunks_do_not_join", "; ".join(found), rung=plan.rung.name)
    scale = chunks[0].index.timescale
    # Without sound the clock begins with the picture; with it both keep the source's, a little later.
    begins = planned[0].from_pts * base if sound is None else Fraction(-CLOCK_START_S)
    parts = [
        Part(chunk.path, chunk.index, round((chunk.span[0] * base - begins) * scale)) for chunk in chunks
    ]
    joined, path = folder / f"joined-{plan.rung.name}.mp4", folder / f"rendition-{plan.rung.name}.mp4"
    join_parts(parts, joined)
    index = index_fragments(joined)
    assert index is not None  # noqa: S101 - just written, with its moov
    if sound is not None:
        growing = GrowingRendition(path)
        run_ffmpeg(
            join_command(plan, str(joined), str(sound), str(path), start=index.origin),
            scratch=run.scratch,
            limits=run.limits,
            binary=run.ffmpeg,
            duration=index.duration,
            on_progress=on_progress,
            cancelled=cancelled,
        )
        index = growing.finish()
        joined.unlink()
    else:
        joined.replace(path)
    findings = differences(plan, index)
    if findings:
        raise media_error("rendition_differs", "; ".join(findings), rung=plan.rung.name)
    return RenditionResult(plan.rung, path, index, path.stat().st_size)
