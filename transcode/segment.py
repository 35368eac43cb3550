"""Make the renditions of a recording: one fragmented MP4 per rung, checked before anyone may see it.

All rungs come out of one FFmpeg command that decodes once. Each is written to a file of the caller's, synced
and indexed; putting it into the object store and telling the database are the worker's part. It plays while
it grows: each fragment is reported as soon as its clock is settled.

Where several rungs are made, the larger ones hold the smallest back: they share processors and decoder. So a
head of some seconds of the smallest is made before, alone. It is shown until the rung itself has come as far
with the very same bytes, and then makes way for it.

A rendition has the frames and the duration of its source. Where it does not, and the source is known
to be sound, it is refused (``rendition_differs``), upon which the worker has a copy made again as an
encoding; where the source is damaged, the difference is said in the result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from evidence.errors import Conflict, MediaError
from media.errors import media_error
from media.fmp4 import FragmentIndex
from media.growing import GrowingRendition
from media.report import ProbeReport
from media.run import run_ffmpeg
from media.sandbox import Limits
from transcode.ladder import Rung
from transcode.plan import KEYFRAME_EVERY_S, RenditionPlan, command

DAMAGE_FLAGS = ("truncated", "corrupt", "timestamps_jump")
# What FFmpeg says about a source that it could not read or decode in full.
DAMAGE_WORDS = ("error while decoding", "Error submitting packet to decoder", "Invalid data found", "corrupt",
                "Invalid NAL", "concealing", "Packet mismatch", "partial file")  # fmt: skip
# Failures of a copy that an encoding may not have.
TRIED_AGAIN = {"rendition_differs", "ffmpeg_failed", "fragments_unreadable"}
HEAD_FROM = Fraction(20)
"""A recording shorter than this is encoded before a head is worth its price."""
# A group of pictures depends on those after it as far as x264 looks ahead, and on what its threads hold.
LOOKAHEAD_FRAMES = {"faster": 20, "fast": 30, "medium": 40}
LEAST_LOOKAHEAD_FRAMES, HELD_FRAMES = 10, 10

LIMIT = "segment_limit_s"
"""Beside an index: no segment of the rendition is longer (`RenditionPlan.segment_limit_s`)."""
Growth = Callable[[str, FragmentIndex], None]
"""Hears the name of a rung, and its index, whose bytes do not change any more."""


def growing_file(rung: str) -> str:
    """Name, in the scratch folder of its job, of a rendition that is being made."""
    return f"rendition-{rung}.mp4"


def growing_index(rung: str) -> str:
    """Name of the file beside it that says what of it is settled."""
    return f"growing-{rung}.json"


@dataclass(frozen=True)
class RunOptions:
    """How FFmpeg is run."""

    scratch: Path
    """An existing folder of this job alone."""
    limits: Limits = field(default_factory=Limits)
    ffmpeg: str | None = None
    """Another binary than the packaged one."""


@dataclass(frozen=True)
class RenditionResult:
    """A finished rendition."""

    rung: Rung
    path: Path
    index: FragmentIndex
    size_bytes: int
    findings: tuple[str, ...] = ()
    """How it differs from its source, and that the source is to blame; empty as a rule."""

    @property
    def info(self) -> dict[str, Any]:
        """Facts for the row of the derivative."""
        main = self.index.main
        return {
            "rung": self.rung.name,
            "frame_count": self.index.frame_count,
            "duration_us": int(self.index.duration * 1_000_000),
            "width_px": main.width_px,
            "height_px": main.height_px,
            "codecs": self.index.codecs,
            "bitrate_bps": self.index.bitrate_bps,
            "peak_bitrate_bps": self.index.peak_bitrate_bps,
            "findings": list(self.findings),
        }


@dataclass(frozen=True)
class Encoded:
    """What one run of FFmpeg made."""

    results: tuple[RenditionResult, ...]
    refused: tuple[str, ...] = ()
    """Why a rung is not among the results, one line each; empty as a rule."""


def make_renditions(
    source: Path,
    report: ProbeReport,
    plans: Sequence[RenditionPlan],
    folder: Path,
    *,
    run: RunOptions,
    on_progress: Callable[[float], None] | None = None,
    on_growth: Growth | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Encoded:
    """Make renditions of one source in one go; each is on disk when this returns.

    Args:
        source: The original.
        report: What probing found in it.
        plans: Of `plan_renditions`; a copy is made alone.
        folder: Where they are written, under `growing_file`; nothing of them stays after a failure.
        run: How FFmpeg is run.
        on_progress: Hears 0 to 1.
        on_growth: Hears of each rung whenever it grew.
        cancelled: Asked several times a second.

    Raises:
        MediaError: ``ffmpeg_failed``, ``rendition_differs`` (each rung), ``fragments_unreadable``, a limit.
        Unavailable: ``disk_full``.
        Conflict: ``cancelled``.
    """
    told = on_growth or (lambda _name, _index: None)
    lanes = [_Lane(plan, folder / growing_file(plan.rung.name), told) for plan in plans]
    for lane in lanes:
        lane.clear()

    def look() -> None:
        for lane in lanes:
            lane.look()

    def execute(arguments: list[str], cancelled: Callable[[], bool] | None, **more: Any) -> str:
        return run_ffmpeg(
            arguments,
            scratch=run.scratch,
            limits=run.limits,
            binary=run.ffmpeg,
            cancelled=cancelled,
            **more,
        )

    def execute_head(destination: Path, is_there: Callable[[], bool]) -> None:
        arguments = command(plans[:1], whole, [str(destination.resolve())], only_s=_head_s(plans[0]))
        execute(arguments, lambda: is_there() or _asked(cancelled), on_tick=lanes[0].look_at_head)

    whole = str(source.resolve())
    try:
        if _wants_head(plans):
            lanes[0].make_head(execute_head)
        targets = [str(lane.growing.path.resolve()) for lane in lanes]
        words = execute(
            command(plans, whole, targets),
            cancelled,
            on_tick=look,
            duration=plans[0].expected_duration,
            on_progress=on_progress,
        )
        return _judged(report, lanes, words)
    except BaseException:
        for lane in lanes:
            lane.clear()
        raise


def _wants_head(plans: Sequence[RenditionPlan]) -> bool:
    first = plans[0]
    is_long = first.expected_duration is not None and first.expected_duration >= HEAD_FROM
    return (
        len(plans) > 1
        and is_long
        and first.cut is None
        and first.picture is not None
        and not first.rung.copies_video
    )


def _head_s(plan: RenditionPlan) -> float:
    """Seconds of footage without which the first group of pictures would come out with other bytes."""
    frames = LOOKAHEAD_FRAMES.get(plan.rung.preset, LEAST_LOOKAHEAD_FRAMES) + HELD_FRAMES
    return KEYFRAME_EVERY_S + max(1.0, float(frames * plan.tolerance))


def _asked(cancelled: Callable[[], bool] | None) -> bool:
    return cancelled is not None and cancelled()


def _judged(report: ProbeReport, lanes: Sequence[_Lane], words: str) -> Encoded:
    """Each rung that is its source's equal, or whose source is to blame for the difference."""
    results, refused = [], []
    for lane in lanes:
        index = lane.finish()
        findings = tuple(differences(lane.plan, index))
        if findings and not is_damaged(report, words):
            refused += [f"{lane.plan.rung.name}: {finding}" for finding in findings]
            lane.clear()
            continue
        _sync(lane.path)
        size = lane.path.stat().st_size
        results.append(RenditionResult(lane.plan.rung, lane.path, index, size, findings))
    if not results:
        rungs = [lane.plan.rung.name for lane in lanes]
        raise media_error("rendition_differs", "; ".join(refused), rung=",".join(rungs))
    return Encoded(tuple(results), tuple(refused))


class _Lane:
    """One rung on its way: what is shown of it, and what is written."""

    def __init__(self, plan: RenditionPlan, path: Path, told: Growth) -> None:
        self.plan = plan
        self.path = path
        self.growing = GrowingRendition(path)
        self._told = told
        self._head: FragmentIndex | None = None

    def clear(self) -> None:
        for path in {self.path, self.growing.path}:
            path.unlink(missing_ok=True)

    def make_head(self, execute: Callable[[Path, Callable[[], bool]], None]) -> None:
        """Show the first fragment, made by ``execute``, until the rung itself has come as far."""
        try:
            execute(self.path, lambda: self._head is not None)
        except MediaError:
            # Whether the footage can be encoded is found out by the rung itself.
            self._head = None
        except Conflict:
            if self._head is None:
                raise
        else:
            self.look_at_head(is_over=True)
        if self._head is None:
            self.path.unlink(missing_ok=True)
            self.growing = GrowingRendition(self.path)
        else:
            self.growing = GrowingRendition(self.path.with_suffix(".part"))

    def look_at_head(self, *, is_over: bool = False) -> None:
        """Tell of the first fragment; one that ended because the head did is not the rung's own."""
        self.growing.advance()
        index = self.growing.index
        if self._head is None and index is not None and len(index.fragments) > is_over:
            self._head = replace(index, fragments=index.fragments[:1])
            self._told(self.plan.rung.name, self._head)

    def look(self) -> None:
        """Tell of what has grown."""
        if not self.growing.advance() or self.growing.index is None:
            return
        if self._head is not None:
            if not self._reaches(self._head):
                return
            self._take_over()
        self._told(self.plan.rung.name, self.growing.index)

    def finish(self) -> FragmentIndex:
        index = self.growing.finish()
        self._take_over()
        self._told(self.plan.rung.name, index)
        return index

    def _reaches(self, head: FragmentIndex) -> bool:
        """Whether the rung begins with the bytes that were shown, so that nobody's addresses move."""
        with self.path.open("rb") as shown, self.growing.path.open("rb") as made:
            return shown.read(head.size_bytes) == made.read(head.size_bytes)

    def _take_over(self) -> None:
        """Put the rung in the place of its head; FFmpeg goes on writing into the same file."""
        if self.growing.path != self.path:
            self.growing.path.replace(self.path)
            self.growing.path = self.path
        self._head = None


def differences(plan: RenditionPlan, index: FragmentIndex) -> list[str]:
    """Each way in which a rendition is not what its source promised."""
    found: list[str] = []
    if plan.is_piece:
        return found
    if plan.expected_frames is not None and index.frame_count != plan.expected_frames:
        found.append(f"frames: expected {plan.expected_frames}, found {index.frame_count}")
    if plan.expected_duration is not None and abs(index.duration - plan.expected_duration) > plan.tolerance:
        expected, actual = float(plan.expected_duration), float(index.duration)
        found.append(f"duration_s: expected {expected:.3f}, found {actual:.3f}")
    return found


def is_damaged(report: ProbeReport, words: str = "") -> bool:
    """Whether the source, or FFmpeg's last words about it, admit to damage."""
    return any(report.has_flag(code) for code in DAMAGE_FLAGS) or any(word in words for word in DAMAGE_WORDS)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
