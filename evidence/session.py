"""What a session of an interview room *is*: its states, its facts, and what people say while it runs.

The rules:

1. A session is open, ended or sealed, in this order. It is begun once and ends once; what is sealed is not
   opened again. A file that turns up later is noted with it, and said to be noted after the seal.
2. It may begin before somebody said so, by as much as its room keeps recorded beforehand (*pre-record*). Its
   beginning then is the true time, and the note says when it was claimed.
3. Facts are stated before, during or after (R6, R11). One that is missing is listed, never a refusal: a
   room that does not record because a form is not filled in would lose what nobody can record again.
4. A pause is a person's, with a reason out of `GapReason` and words; it ends by resuming or with the session.
   What lies inside one is none of the session's, whatever was recorded meanwhile.
5. Notes are never changed. Who knows better adds another.

What of a session was not recorded, and why, is `evidence.breaks`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol, Self

from evidence.errors import Conflict, InvalidInput
from evidence.kinds import GapReason

LEAST_OFFICERS = 2
"""Who must be there to conduct it (R11)."""
MOST_OFFICERS = 16
TRIGGER_LABEL = "trigger:"
"""How the label of a recorder that calls begins; its key's id follows."""
MAX_LINE_CHARS = 500
MAX_NUMBER_CHARS = 64


class State(StrEnum):
    """Where a session is in its life."""

    OPEN = "open"  # 进行中
    ENDED = "ended"  # 已结束
    SEALED = "sealed"  # 已封存


MOVES: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        State.OPEN: frozenset({State.ENDED}),
        State.ENDED: frozenset({State.SEALED}),
        State.SEALED: frozenset(),
    }
)
STATE_WORDS: Mapping[State, tuple[str, str]] = {
    State.OPEN: ("进行中", "open"),
    State.ENDED: ("已结束", "ended"),
    State.SEALED: ("已封存", "sealed"),
}


class CopyState(StrEnum):
    """What is known of the copy of a file in a second store."""

    OUTSTANDING = "outstanding"  # 待复制
    COPIED = "copied"  # 两份一致
    DIFFERS = "differs"  # 副本不符


COPY_WORDS: Mapping[CopyState, tuple[str, str]] = {
    CopyState.OUTSTANDING: ("第二份待复制", "second copy outstanding"),
    CopyState.COPIED: ("两份一致", "both copies match"),
    CopyState.DIFFERS: ("第二份不符", "second copy differs"),
}


class NoteKind(StrEnum):
    """What is noted of a session while and after it runs."""

    MARKER = "marker"  # 标记
    PAUSE = "pause"  # 暂停
    RESUME = "resume"  # 继续
    FACTS = "facts"  # 事项登记
    REASON = "reason"  # 中断说明
    SHOWN = "shown"  # 已见于录像
    NOT_SHOWN = "not_shown"  # 未见于录像的说明


NOTE_WORDS: Mapping[NoteKind, tuple[str, str]] = {
    NoteKind.MARKER: ("标记", "marker"),
    NoteKind.PAUSE: ("暂停", "paused"),
    NoteKind.RESUME: ("继续", "resumed"),
    NoteKind.FACTS: ("事项登记", "facts stated"),
    NoteKind.REASON: ("中断说明", "reason of a break"),
    NoteKind.SHOWN: ("已录入画面或声音", "shown"),
    NoteKind.NOT_SHOWN: ("未录入的说明", "not shown"),
}


class TriggerAction(StrEnum):
    """What the recorder of a room may ask for by itself."""

    START = "start"
    STOP = "stop"
    PAUSE = "pause"
    RESUME = "resume"
    MARK = "mark"


REASON_WORDS: Mapping[GapReason, tuple[str, str]] = {
    GapReason.SECRET_OR_PRIVACY: ("涉密或隐私", "secret or privacy"),
    GapReason.EMERGENCY: ("紧急情况", "emergency"),
    GapReason.OBJECTIVE_IMPOSSIBILITY: ("客观原因", "objective impossibility"),
    GapReason.DEVICE_FAULT: ("设备故障", "device fault"),
    GapReason.STORAGE_FULL: ("存储已满", "storage full"),
    GapReason.POWER_LOST: ("断电", "power lost"),
    GapReason.OTHER: ("其他", "other"),
}


def move(current: State, target: State) -> State:
    """Go on to the next state, or say why not.

    Raises:
        Conflict: The rules above have no such move (``session_state``).
    """
    if target not in MOVES[current]:
        raise Conflict(
            f"session: expected one that may be {target}, found it {current}; look at its state",
            code="session_state",
            current=str(current),
            target=str(target),
        )
    return target


def begin_at(asked: datetime | None, now: datetime, pre_record_s: int) -> datetime:
    """When a session begins that is started now, or claimed from what is recorded beforehand.

    Raises:
        InvalidInput: In the future, or before what the room keeps (``session_start``).
    """
    if asked is None or asked == now:
        return now
    earliest = now - timedelta(seconds=pre_record_s)
    if not earliest <= asked <= now:
        raise InvalidInput(
            f"started_at: expected from {earliest.isoformat()} until now, found {asked.isoformat()}; "
            "a room can be claimed back by its pre_record_s",
            code="session_start",
        )
    return asked


@dataclass(frozen=True)
class Facts:
    """What is stated of a session (R6, R11); None and empty where nothing was."""

    case_no: str | None = None
    place: str | None = None
    officers: tuple[str, ...] = ()
    """Numbers of the officers who conduct it; the first is its collector."""
    party: str | None = None
    """Who is heard, as stated."""
    object_of_proof: str | None = None

    def missing(self) -> list[str]:
        """Names of the facts that are not there yet; empty means complete."""
        found = [each.name for each in fields(self) if not getattr(self, each.name)]
        if self.officers and len(set(self.officers)) < LEAST_OFFICERS:
            found.append("second_officer")
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "case_no": self.case_no,
            "place": self.place,
            "officers": list(self.officers),
            "party": self.party,
            "object_of_proof": self.object_of_proof,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read facts, each checked to be a line.

        Raises:
            InvalidInput: A text is too long or no line (``session_fact``), or a name is none of a fact.
        """
        unknown = sorted(set(data) - {each.name for each in fields(cls)})
        if unknown:
            raise InvalidInput(f"facts: expected known names, found {unknown[0]!r:.60}", code="session_fact")
        officers = data.get("officers") or ()
        if isinstance(officers, str) or len(officers) > MOST_OFFICERS:
            raise InvalidInput(
                f"officers: expected a list of at most {MOST_OFFICERS} numbers, found another",
                code="session_fact",
            )
        lines = {
            name: None if data.get(name) is None else line(data[name], name)
            for name in ("case_no", "place", "party", "object_of_proof")
        }
        numbers = [line(number, "officers", MAX_NUMBER_CHARS) for number in officers]
        return cls(**lines, officers=tuple(dict.fromkeys(numbers)))

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """These facts with some stated anew; None takes one back."""
        return replace(self, **{**vars(self.from_json({**self.to_json(), **changes}))})


def line(text: object, name: str, most: int = MAX_LINE_CHARS) -> str:
    """A text of one line, without what stands around it.

    Raises:
        InvalidInput: Empty, too long, more than a line, or no text (``session_fact``).
    """
    said = text.strip() if isinstance(text, str) else ""
    if not said or len(said) > most or any(char < " " or char == "\x7f" for char in said):
        raise InvalidInput(
            f"{name}: expected one line of 1 to {most} characters, found another", code="session_fact"
        )
    return said


@dataclass(frozen=True)
class Note:
    """Something said of a session."""

    kind: NoteKind
    at_us: int
    """UTC, server clock."""
    by: str
    """Actor label."""
    text: str = ""
    reason: GapReason | None = None
    """Of a pause or a break; None for the others."""
    stream: str | None = None
    """Whose break a reason is about; None for the others."""
    from_us: int | None = None
    to_us: int | None = None
    """Of that break, UTC."""
    point: str | None = None
    """Code of the point of the checklist it is about; None for the others."""
    shown_us: int | None = None
    """When that point is to be seen or heard, UTC; None where it is not."""


class Said(Protocol):
    """What is asked of a note, as facts or as a row."""

    @property
    def kind(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def by(self) -> str: ...


def case_named_by(notes: Iterable[Said], started_by: str) -> str:
    """Label of whoever said last which case a session is of; of who started it, where nobody said since.

    Args:
        notes: Of the session, oldest first.
    """
    named = [note.by for note in notes if note.kind == NoteKind.FACTS and "case_no" in json.loads(note.text)]
    return named[-1] if named else started_by


@dataclass(frozen=True)
class Paused:
    """A stretch that a person asked not to record."""

    from_us: int
    to_us: int | None
    """None: it lasts."""
    note: Note


def pauses(notes: Sequence[Note], ended_us: int | None = None) -> list[Paused]:
    """The pauses of a session, oldest first; one that nobody ended lasts until the session's end."""
    found: list[Paused] = []
    for note in sorted(notes, key=lambda each: each.at_us):
        open_one = bool(found) and found[-1].to_us is None
        if note.kind is NoteKind.PAUSE and not open_one:
            found.append(Paused(note.at_us, None, note))
        elif note.kind is NoteKind.RESUME and open_one:
            found[-1] = replace(found[-1], to_us=note.at_us)
    if found and found[-1].to_us is None and ended_us is not None:
        found[-1] = replace(found[-1], to_us=max(found[-1].from_us, ended_us))
    return found


def stretches(from_us: int, ended_us: int | None, stops: Sequence[Paused]) -> list[tuple[int, int | None]]:
    """What of time is a session's: not before it, not in a pause, not after it.

    Args:
        from_us: When it began, UTC.
        ended_us: None: it lasts.
        stops: Its pauses, oldest first.

    Returns:
        Stretches of UTC, in order; the end of the last is None where it lasts.
    """
    found: list[tuple[int, int | None]] = []
    for stop in stops:
        if from_us < stop.from_us:
            found.append((from_us, stop.from_us))
        if stop.to_us is None:
            return found
        from_us = max(from_us, stop.to_us)
    if ended_us is None or from_us < ended_us:
        found.append((from_us, ended_us))
    return found
