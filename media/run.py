"""Run one FFmpeg command: limits, a watchdog, progress, cancellation, and the end of its words kept.

Command lines come as data from whoever knows what is wanted (`transcode.plan`); nothing here decides
about codecs. A command runs under `media.child` in ``exec`` mode, so it carries the same limits as any
other decoder and dies with whoever started it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import imageio_ffmpeg

from evidence.errors import Unavailable
from media.errors import media_error
from media.sandbox import CHILD
from media.supervise import Ended, Limits, death_of, raise_if_stopped, supervise

# Before the inputs of every command: no questions, no banner, progress as key=value lines.
ALWAYS = ("-hide_banner", "-nostdin", "-loglevel", "warning", "-progress", "pipe:1", "-stats_period", "0.05")
MOVING = {b"frame", b"total_size", b"out_time_us"}
OUT_OF_SPACE = "No space left on device"


@cache
def packaged_ffmpeg() -> str:
    """The static binary that comes with ``imageio-ffmpeg``."""
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def run_ffmpeg(
    arguments: Sequence[str],
    *,
    scratch: Path,
    limits: Limits | None = None,
    binary: str | None = None,
    duration: Fraction | None = None,
    on_progress: Callable[[float], None] | None = None,
    on_tick: Callable[[], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> str:
    """Run ``ffmpeg`` with ``arguments`` and wait for its end.

    Args:
        arguments: Everything after the program's name, as `transcode.plan` builds it.
        scratch: An existing folder; relative paths in ``arguments`` start there.
        limits: What it may use; `Limits()` when omitted.
        binary: Another FFmpeg than the packaged one, by absolute path.
        duration: Seconds of output expected, to tell progress as a fraction.
        on_progress: Hears 0 to 1.
        on_tick: Called some times a second while it runs, to look at what it has written.
        cancelled: Asked several times a second.

    Returns:
        The end of what it wrote on standard error.

    Raises:
        MediaError: ``ffmpeg_failed``, or the limit that it ran into.
        Unavailable: ``disk_full``, or the binary is not there.
        Conflict: ``cancelled``.
    """
    meter = _Meter(duration, on_progress, on_tick)
    command = [binary or packaged_ffmpeg(), *ALWAYS, *arguments]
    return run_command(
        command, scratch=scratch, limits=limits, on_line=meter.hear, cancelled=cancelled
    ).stderr_tail


def run_command(
    command: list[str],
    *,
    scratch: Path,
    limits: Limits | None = None,
    on_line: Callable[[bytes], bool] = bool,
    cancelled: Callable[[], bool] | None = None,
) -> Ended:
    """Run any command with the limits of a child; it must end with 0.

    Raises:
        MediaError: It failed; ``stderr_tail`` has its last words.
    """
    limits = limits or Limits()
    if not Path(command[0]).is_file():
        raise Unavailable(f"program {command[0]}: expected a file, found none", code="ffmpeg_missing")
    argv = [sys.executable, "-I", str(CHILD), "exec", str(os.getpid()), limits.for_child(), "--", *command]
    ended = supervise(
        argv, stdin=subprocess.DEVNULL, scratch=scratch, limits=limits, on_line=on_line, cancelled=cancelled
    )
    raise_if_stopped(ended)
    if OUT_OF_SPACE in ended.stderr_tail:
        raise Unavailable("derived files: the disk is full; free some space", code="disk_full")
    if ended.returncode > 0 and "Cannot allocate memory" not in ended.stderr_tail:
        words = ended.stderr_tail.splitlines()[-1:] or ["it said nothing"]
        raise media_error(
            "ffmpeg_failed", words[0][:300], returncode=ended.returncode, stderr_tail=ended.stderr_tail
        )
    if ended.returncode != 0:
        raise death_of(ended)
    return ended


class _Meter:
    """Reads ``-progress`` lines. FFmpeg repeats them while it is stuck, so only a new value is progress."""

    def __init__(
        self,
        duration: Fraction | None,
        on_progress: Callable[[float], None] | None,
        on_tick: Callable[[], None] | None,
    ) -> None:
        self._duration = duration
        self._on_progress = on_progress
        self._on_tick = on_tick
        self._latest: dict[bytes, bytes] = {}

    def hear(self, line: bytes) -> bool:
        name, _, value = line.partition(b"=")
        if name == b"progress" and self._on_tick:
            self._on_tick()
        if name not in MOVING or self._latest.get(name) == value:
            return False
        self._latest[name] = value
        if name == b"out_time_us" and self._on_progress and self._duration:
            # It is N/A until the first packet is out.
            done = Fraction(int(value), 1_000_000) / self._duration if value.strip().isdigit() else 0
            self._on_progress(min(1.0, float(done)))
        return True
