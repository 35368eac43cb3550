"""The break log of a session: what of it was not recorded, to the millisecond, and why (R2, L15).

Made from facts alone, the same each time: when the session began and ended, the files of each stream with
their wall times, what happened to the stream meanwhile, and what people noted. The rules:

1. What lies between the session's bounds and in no file of a stream is a gap of that stream. Edges that miss
   each other by no more than `JOINT_US` are a joint: two readings of one clock, and no gap.
2. Inside a file, packets that were lost, a source that stood still and a disk that was too slow are gaps of
   their own, where they lie.
3. What lies in a pause is none of the session's, also where a file covers it: a gap that was asked for, and
   has the pause's reason. The rest of a gap around it has another cause.
4. A cause is what is on record. Where nothing is, the log says so; it never guesses.
5. A leap of a clock is told, and is no duration. So are files that overlap by more than a joint.
6. A reason somebody gave stands beside every break of that stream that it touches and that was known, as it
   is, when the reason was given: it answers for nothing that was found afterwards, and a reason from before a
   session's end does not say why its files are not waited for.
7. While files of a session that ended may still come, a gap that nobody asked for is outstanding: what is on
   record of it so far may be the cause of something else. A stream without such a gap says so at its end.

All times are microseconds of UTC since 1970, by the server's clock.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from evidence.live_clock import Turn
from evidence.session import Note, NoteKind, Paused, pauses, stretches

JOINT_US = 100_000
MORE = "more"
"""A line that counts what was not listed."""
OVERRUN = "overrun"
ENDED = "ended"


class Cause(StrEnum):
    """Why something of a stream is missing, or is told."""

    NOT_YET_RECORDING = "not_yet_recording"  # 开始后尚未录到
    NOTHING_RECORDED = "nothing_recorded"  # 全程无录制文件
    PAUSED = "paused"  # 人工暂停
    SOURCE_LOST = "source_lost"  # 信号中断
    SOURCE_PAUSED = "source_paused"  # 源端停顿
    LINE_LOSS = "line_loss"  # 传输丢失
    PROCESS_DIED = "process_died"  # 录制进程或主机中断
    DISK = "disk"  # 磁盘写入过慢、已满或故障
    STOPPED = "stopped"  # 录制被停止
    SHAPE_CHANGED = "shape_changed"  # 画面规格变化后重新开始
    CLOCK_JUMP = "clock_jump"  # 源端时间戳跳变
    HOST_STEP = "host_step"  # 服务器时钟跳变
    OVERLAP = "overlap"  # 文件时间重叠
    OUTSTANDING = "outstanding"  # 后续文件尚未入库
    NOT_LISTED = "not_listed"  # 另有未逐条列出的情况
    NOT_ON_RECORD = "not_on_record"  # 原因未记录


CAUSE_WORDS: Mapping[Cause, tuple[str, str]] = {
    Cause.NOT_YET_RECORDING: ("开始后尚未录到", "begun, and not yet recorded"),
    Cause.NOTHING_RECORDED: ("全程无录制文件", "nothing of it was recorded"),
    Cause.PAUSED: ("人工暂停", "paused by a person"),
    Cause.SOURCE_LOST: ("信号中断", "the source was lost"),
    Cause.SOURCE_PAUSED: ("源端停顿", "the source stood still"),
    Cause.LINE_LOSS: ("传输丢失", "lost on the line"),
    Cause.PROCESS_DIED: ("录制进程或主机中断", "the recording process or its host died"),
    Cause.DISK: ("磁盘写入过慢、已满或故障", "the disk was slow, full or failed"),
    Cause.STOPPED: ("录制被停止", "the recording was stopped"),
    Cause.SHAPE_CHANGED: ("画面规格变化,录制重新开始", "the picture changed its shape; begun again"),
    Cause.CLOCK_JUMP: ("源端时间戳跳变", "the source's clock leapt"),
    Cause.HOST_STEP: ("服务器时钟跳变", "the server's clock was set"),
    Cause.OVERLAP: ("文件时间重叠", "files overlap"),
    Cause.OUTSTANDING: ("后续文件尚未入库", "the next file is not in yet"),
    Cause.NOT_LISTED: ("另有未逐条列出的情况", "more happened than is listed"),
    Cause.NOT_ON_RECORD: ("原因未记录", "why is not on record"),
}
_OF_TURNS: Mapping[str, tuple[Cause, bool]] = {
    Turn.LOSS: (Cause.LINE_LOSS, True),
    Turn.PAUSE: (Cause.SOURCE_PAUSED, True),
    OVERRUN: (Cause.DISK, True),
    Turn.JUMP_AHEAD: (Cause.CLOCK_JUMP, False),
    Turn.JUMP_BACK: (Cause.CLOCK_JUMP, False),
    Turn.HOST_STEP: (Cause.HOST_STEP, False),
    MORE: (Cause.NOT_LISTED, False),
}
"""What is told of what happened, and whether something is missing for it. The rest is the clock's affair."""


@dataclass(frozen=True)
class Happened:
    """Something that happened to a stream while a file of it was written, in wall time."""

    what: str
    """A `Turn`, or ``overrun``, ``ended``, ``more``."""
    from_us: int
    to_us: int
    """The same as ``from_us`` where it takes no time."""
    by_us: int = 0
    """How far a clock leapt."""
    track: int | None = None
    """Which picture or sound stream of the source; None: all of it."""
    why: str | None = None
    """Of an end."""
    count: int = 1

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**data)


@dataclass(frozen=True)
class Part:
    """A file of a session's stream."""

    stream: str
    run: str
    """Which connection to the source it is of."""
    number: int
    """Its place in the run, from 0."""
    from_us: int
    to_us: int
    why: str
    """Why it ended: ``length``, ``run``, ``ended``, ``salvaged``."""
    happened: tuple[Happened, ...] = ()
    noted_us: int = 0
    """When the session was told of it."""


@dataclass(frozen=True)
class Break:
    """Something missing of a stream, or told of it, ``from_us <= t < to_us``."""

    stream: str
    cause: Cause
    from_us: int
    to_us: int
    is_missing: bool
    by_us: int = 0
    track: int | None = None
    count: int = 1
    known_us: int = 0
    """Since when it is known as it stands here."""
    reasons: tuple[Note, ...] = field(default=())
    """Oldest first."""

    @property
    def length_ms(self) -> int:
        """What is missing, to the nearest millisecond."""
        return (self.to_us - self.from_us + 500) // 1000 if self.is_missing else 0

    @property
    def is_explained(self) -> bool:
        """Whether a person said why; what misses nothing needs nobody."""
        return not self.is_missing or bool(self.reasons)


def stepped_us(happened: Iterable[Happened]) -> int:
    """How far a host's clock was set at most, by all that was told of one stream."""
    return sum(abs(each.by_us) for each in happened if each.what == Turn.HOST_STEP)


def place(
    lines: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
    *,
    from_us: int,
    to_us: int,
    duration_us: int,
) -> list[Happened]:
    """What a recorder's journal tells of a file, put into wall time.

    Args:
        lines: Of the journal, in order: turns and overruns while the file was written.
        about: The journal's line of when it was begun; without it what happened is only known to be in it.
        from_us: Wall time of the file's beginning.
        to_us: Wall time of its end; later than its duration says where the source stood still.
        duration_us: By its own clock.
    """
    turns = [line for line in lines if "media_us" in line and line.get("run") == about.get("run")]
    stood = sorted(
        (int(line["media_us"]), int(line["by_us"])) for line in turns if line["turn"] == Turn.PAUSE
    )
    zero_us = int(about.get("zero_us", 0))
    base_us = int(about["arrived_utc_us"]) - int(about["monotonic_us"]) if "arrived_utc_us" in about else None
    within = sum(by_us for at_us, by_us in stood if at_us > zero_us)
    # What is left is the drift of two clocks, spread evenly.
    drift_us = to_us - from_us - duration_us - within

    def wall_us(media_us: int, *, before_pause: bool) -> int:
        into_us = media_us - zero_us
        waited = sum(
            by_us
            for at_us, by_us in stood
            if at_us > zero_us and (at_us < media_us or (at_us == media_us and not before_pause))
        )
        return from_us + into_us + waited + (drift_us * into_us // duration_us if duration_us > 0 else 0)

    found = []
    for line in lines:
        what = OVERRUN if line["kind"] == OVERRUN else str(line.get("turn"))
        by_us, track = int(line.get("by_us", 0)), line.get("stream")
        if what == OVERRUN and base_us is not None:
            span = (int(line["from_us"]) + base_us, int(line["to_us"]) + base_us)
        elif line in turns and what == Turn.PAUSE:
            ends = wall_us(int(line["media_us"]), before_pause=False)
            span = (ends - by_us, ends)
        elif line in turns:
            begins = wall_us(int(line["media_us"]), before_pause=True)
            span = (begins, begins + by_us if what == Turn.LOSS else begins)
        elif "monotonic_us" in line and base_us is not None:
            # It was told as soon as it was over.
            ends = int(line["monotonic_us"]) + base_us
            span = (ends - by_us, ends) if what in {Turn.LOSS, Turn.PAUSE} else (ends, ends)
        else:
            span = (from_us, to_us)
        found.append(Happened(what, *span, by_us=by_us, track=track, count=int(line.get("count", 1))))
    return found


def break_log(
    from_us: int,
    to_us: int | None,
    parts: Sequence[Part],
    notes: Sequence[Note] = (),
    *,
    streams: Sequence[str] = (),
    is_complete: bool = True,
) -> list[Break]:
    """Every break of every stream, by time.

    Args:
        from_us: When the session began.
        to_us: When it ended; None: it lasts, and is judged until the last file's end.
        parts: Its files, in any order.
        notes: What people noted; pauses and reasons are taken from them.
        streams: Names of those that were to be recorded: one without any file misses all of it.
        is_complete: No file of it is on its way any more.
    """
    found: list[Break] = []
    stops = pauses(notes, to_us)
    for stream in sorted({*streams, *(part.stream for part in parts)}):
        mine = [part for part in parts if part.stream == stream]
        its_own = sorted(_outside(mine, stops), key=lambda part: (part.from_us, part.to_us))
        until_us = max((part.to_us for part in its_own), default=from_us) if to_us is None else to_us
        gaps = list(_gaps(stream, from_us, until_us, its_own, stops))
        found += gaps if is_complete or to_us is None else _outstanding(stream, gaps, to_us)
        found += _inside(stream, from_us, until_us, mine, gaps)
    said = [note for note in notes if note.kind is NoteKind.REASON]
    with_reasons = [
        replace(each, reasons=(*each.reasons, *(note for note in said if _is_about(note, each))))
        for each in found
    ]
    return sorted(with_reasons, key=lambda each: (each.from_us, each.to_us, each.stream, each.cause))


def missing_us(breaks: Sequence[Break]) -> dict[str, int]:
    """How much of each stream is missing, counting no instant twice."""
    found: dict[str, int] = {}
    reached: dict[str, int] = {}
    for each in sorted(breaks, key=lambda one: one.from_us):
        if each.is_missing:
            begins = max(each.from_us, reached.get(each.stream, each.from_us))
            found[each.stream] = found.get(each.stream, 0) + max(0, each.to_us - begins)
            reached[each.stream] = max(each.to_us, begins)
    return found


def _outside(parts: Sequence[Part], stops: Sequence[Paused]) -> Iterator[Part]:
    """What of files lies in no pause; one that reaches over a pause is two."""
    for part in parts:
        for begins, ends in stretches(part.from_us, part.to_us, stops):
            if begins < part.to_us and ends is not None:
                yield replace(part, from_us=begins, to_us=min(ends, part.to_us))


def _gaps(
    stream: str, from_us: int, until_us: int, parts: Sequence[Part], stops: Sequence[Paused]
) -> Iterator[Break]:
    """What no file covers, and files that overlap."""
    reached, before = from_us, None
    for part in parts:
        if part.to_us <= from_us:
            before = part
            continue
        if part.from_us >= until_us:
            break
        known_us = max(part.noted_us, before.noted_us if before is not None else 0)
        if part.from_us - reached > JOINT_US:
            gap = Break(
                stream, Cause.NOT_ON_RECORD, reached, part.from_us, is_missing=True, known_us=known_us
            )
            yield from _cut(gap, before, part, stops)
        elif before is not None and reached > from_us and reached - part.from_us > JOINT_US:
            yield Break(stream, Cause.OVERLAP, part.from_us, reached, is_missing=False, known_us=known_us)
        if part.to_us > reached:
            reached, before = part.to_us, part
    if until_us - reached > JOINT_US:
        # There is one only once the session ended.
        known_us = max(until_us, before.noted_us if before is not None else 0)
        gap = Break(stream, Cause.NOT_ON_RECORD, reached, until_us, is_missing=True, known_us=known_us)
        yield from _cut(gap, before, None, stops)


def _outstanding(stream: str, gaps: Sequence[Break], ended_us: int) -> Iterator[Break]:
    """The gaps of a session that ended while files of it may still come."""
    is_told = False
    for gap in gaps:
        may_come = gap.is_missing and gap.cause is not Cause.PAUSED
        is_told = is_told or may_come
        known_us = max(gap.known_us, ended_us)
        yield replace(gap, cause=Cause.OUTSTANDING, known_us=known_us) if may_come else gap
    if not is_told:
        yield Break(stream, Cause.OUTSTANDING, ended_us, ended_us, is_missing=True, known_us=ended_us)


def _cut(gap: Break, before: Part | None, after: Part | None, stops: Sequence[Paused]) -> Iterator[Break]:
    """One gap in pieces: what was asked for, and what was not."""
    begins, to_us, is_after_pause = gap.from_us, gap.to_us, False
    for stop in stops:
        pause_from = max(stop.from_us, begins)
        pause_to = to_us if stop.to_us is None else min(stop.to_us, to_us)
        if pause_to - pause_from <= 0:
            continue
        if pause_from - begins > JOINT_US:
            cause = _cause(begins, pause_from, before, after, is_after_pause=is_after_pause)
            yield replace(gap, cause=cause, from_us=begins, to_us=pause_from)
        else:
            # The file ended a moment before the pause was noted, at its last packet.
            pause_from = begins
        # And the next begins a moment after it: a keyframe is waited for.
        pause_to = to_us if to_us - pause_to <= JOINT_US else pause_to
        yield replace(gap, cause=Cause.PAUSED, from_us=pause_from, to_us=pause_to, reasons=(stop.note,))
        begins, is_after_pause = pause_to, True
    if to_us - begins > JOINT_US or not is_after_pause:
        cause = _cause(begins, to_us, before, after, is_after_pause=is_after_pause)
        yield replace(gap, cause=cause, from_us=begins)


def _cause(
    from_us: int, to_us: int, before: Part | None, after: Part | None, *, is_after_pause: bool
) -> Cause:
    """Why there is nothing between two files, as far as it is on record."""
    if before is None or is_after_pause:
        return Cause.NOTHING_RECORDED if before is after is None else Cause.NOT_YET_RECORDING
    told = [*before.happened, *(after.happened if after is not None else ())]
    for one in told:
        cause, is_missing = _OF_TURNS.get(one.what, (None, False))
        if cause and is_missing and one.from_us < to_us and from_us < one.to_us:
            return cause
    if before.why == "salvaged":
        return Cause.PROCESS_DIED
    if before.why == "run":
        return Cause.OUTSTANDING if after is None else Cause.CLOCK_JUMP
    if before.why == "length" and after is None:
        return Cause.OUTSTANDING
    if before.why == "length" and any(one.what == Turn.HOST_STEP for one in before.happened):
        return Cause.HOST_STEP
    ends = [one.why for one in before.happened if one.what == ENDED and one.why]
    return _of_end(ends[-1]) if ends else Cause.NOT_ON_RECORD


def _of_end(why: str) -> Cause:
    """What a recorder says of its end, as a cause."""
    if why.startswith("disk"):
        return Cause.DISK
    if why == "reader_crashed":
        return Cause.PROCESS_DIED
    return {"stopped": Cause.STOPPED, "shape_changed": Cause.SHAPE_CHANGED}.get(why, Cause.SOURCE_LOST)


def _inside(
    stream: str, from_us: int, until_us: int, parts: Sequence[Part], gaps: Sequence[Break]
) -> Iterator[Break]:
    """What happened within files and is not the gap between two."""
    holes = _joined(gaps)
    begins_of = [begins for begins, _ in holes]
    for one, known_us in [(happened, part.noted_us) for part in parts for happened in part.happened]:
        cause, is_missing = _OF_TURNS.get(one.what, (None, False))
        begins, ends = max(one.from_us, from_us), min(one.to_us, until_us)
        if cause is None or ends < begins or (is_missing and ends == begins):
            continue
        at = bisect_right(begins_of, begins + JOINT_US) - 1
        if is_missing and at >= 0 and ends <= holes[at][1] + JOINT_US:
            continue
        yield Break(
            stream, cause, begins, ends, is_missing, one.by_us, one.track, one.count, known_us=known_us
        )


def _joined(gaps: Sequence[Break]) -> list[tuple[int, int]]:
    """Where no file is, the pieces of one gap put together."""
    found: list[tuple[int, int]] = []
    for gap in gaps:
        if not gap.is_missing:
            continue
        if found and gap.from_us <= found[-1][1]:
            found[-1] = (found[-1][0], gap.to_us)
        else:
            found.append((gap.from_us, gap.to_us))
    return found


def _is_about(note: Note, each: Break) -> bool:
    if not each.is_missing or note.from_us is None or note.to_us is None or note.at_us < each.known_us:
        return False
    return note.stream == each.stream and touches(each, note.from_us, note.to_us)


def touches(each: Break, from_us: int, to_us: int) -> bool:
    """Whether a break and a stretch share a moment; a break of no length is one."""
    return from_us < max(each.to_us, each.from_us + 1) and each.from_us < to_us
