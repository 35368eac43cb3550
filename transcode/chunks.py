"""Long footage in chunks that any worker can encode, and their joining into one rendition.

1. Chunks are spans of the source's own clock, half open, so each picture lies in exactly one, whatever its
   frame rate and wherever its keyframes are. Decoding starts at a keyframe well before, and is trimmed.
2. A chunk holds picture alone, in closed groups without B-frames: in it the order of storing is that of
   showing, so no clock has to give way at a seam. Sound is made as one whole: it has no seams.
3. Joining moves fragments. Before, the chunks are held against their manifest: each there once, in order, of
   one coding, with all the frames of the source between them. What does not fit is not joined.

Footage is cut only where a seek lands before a keyframe that is before the chunk, and its report vouches
for every packet: known frames, each with its time, no damage, no jump of its clock; where keyframes are near
enough that little is decoded twice; and where no picture stands so long that a chunk would have none.
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
from transcode.plan import Cut, RenditionPlan, clock_start_s, join_command
from transcode.segment import DAMAGE_FLAGS, RenditionResult, RunOptions, differences

INDEXED = frozenset({"mov", "matroska", "avi"})
"""Containers that know where their keyframes are."""
CLOCKED = frozenset({"mpegts", "mpeg"})
"""Containers in which any packet may be sought by its time; decoding begins at the next keyframe."""
SEEK_BEFORE_S = 5
"""Pictures shown before a keyframe but stored after it need the group before; it is begun earlier by this."""
SEEK_BEFORE_KEYFRAMES = 2
"""And by so many of the longest groups: behind a keyframe of an intra refresh pictures come bit by bit."""
KEYFRAMES_APART_S = 30
"""Where they are farther apart on average, each chunk would decode too much of what lies before it; where any
packet may be sought, that holds for any two of them."""


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
    return 0 if why_whole(report, plans, policy) else _count(_length_s(report.video), policy)


def why_whole(report: ProbeReport, plans: Sequence[RenditionPlan], policy: EncodingSettings) -> str | None:
    """Why a recording is encoded whole, in words; None where it is encoded in chunks."""
    video = report.video
    if video is None or any(plan.rung.copies_video for plan in plans):
        return "no picture is encoded"
    length_s = _length_s(video)
    if length_s <= Fraction(policy.chunk_above_s):
        return "it is short"
    base = video.time_base_fraction
    container = report.container.split(",")[0]
    damage = [code for code in DAMAGE_FLAGS if report.has_flag(code)]
    if damage or video.corrupt_count or video.decode_errors or video.jump_count:
        return f"it is damaged: {', '.join(damage) or 'it does not decode in full'}"
    if container not in INDEXED | CLOCKED:
        return f"nothing can be sought in {container}"
    if video.start_pts is None or video.missing_pts_count:
        return "not every picture says when it is shown"
    if container == "avi" and video.start_pts:
        return "its pictures are reordered, and AVI does not say when each is shown"
    if any(plan.expected_frames is None for plan in plans):
        return "its pictures cannot be counted without decoding"
    apart_s = _keyframes_apart_s(video)
    if container in CLOCKED:
        apart_s = max(apart_s, video.longest_group * base or length_s)
    if apart_s > KEYFRAMES_APART_S:
        return f"its keyframes are {float(apart_s):.0f} s apart"
    # A chunk may begin just after a picture that stands until the next one.
    if 2 * video.longest_step * base >= length_s / _count(length_s, policy):
        return f"a picture stands for {float(video.longest_step * base):.0f} s"
    return None


def _length_s(video: StreamReport | None) -> Fraction:
    if video is None:
        return Fraction(0)
    if video.start_pts is None or video.end_pts is None:
        return Fraction(video.duration_us or 0, 1_000_000)
    return (video.end_pts - video.start_pts) * video.time_base_fraction


def _count(length_s: Fraction, policy: EncodingSettings) -> int:
    return max(2, ceil(length_s / Fraction(policy.chunk_s)))


def cuts(video: StreamReport, count: int) -> tuple[Cut, ...]:
    """The spans of so many chunks, of equal length but for a tick."""
    start, end, base = video.start_pts or 0, video.end_pts or 0, video.time_base_fraction
    edges = [start + (end - start) * number // count for number in range(count)]
    # The last one has no end: a picture's time may lie behind what the report calls the end.
    edges.append(end + ceil(1 / base))
    # Behind any packet that is sought, the next keyframe may be a whole group away.
    longest_s = min(video.longest_group * base, Fraction(KEYFRAMES_APART_S))
    apart_s = max(_keyframes_apart_s(video), longest_s)
    before_s = max(Fraction(SEEK_BEFORE_S), SEEK_BEFORE_KEYFRAMES * apart_s)
    return tuple(Cut(one, two, _seek(one, start, base, before_s)) for one, two in pairwise(edges))


def _keyframes_apart_s(video: StreamReport) -> Fraction:
    """On average; all of its length where there is one, or none is known."""
    return _length_s(video) / max(1, video.keyframe_count or 0)


def _seek(edge: int, start: int, base: Fraction, before_s: Fraction) -> float | None:
    at = edge * base - before_s
    return float(at) if at > start * base else None


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
    begins = planned[0].from_pts * base if sound is None else Fraction(-clock_start_s(report))
    parts = [
        Part(chunk.path, chunk.index, round((chunk.span[0] * base - begins) * scale)) for chunk in chunks
    ]
    joined, path = folder / f"joined-{plan.rung.name}.mp4", folder / f"rendition-{plan.rung.name}.mp4"
    join_parts(parts, joined)
    index = index_fragments(joined)
    assert index is not None  # noqa: S101 - just written, with its moov
    stood = Fraction(0)
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
        index, stood = growing.finish(), growing.stood
        joined.unlink()
    else:
        joined.replace(path)
    findings = differences(plan, index, stood)
    if findings:
        raise media_error("rendition_differs", "; ".join(findings), rung=plan.rung.name)
    return RenditionResult(plan.rung, path, index, path.stat().st_size, codec=plan.codec)
