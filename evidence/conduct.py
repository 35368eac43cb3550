"""What must be said and seen in the recording of a session (R11, L2): its checklist.

The rules:

1. A session has the points that its room had when it began. They depend on what kind of session it is, unless
   the agency set its own.
2. A person notes a point as shown, with the moment at which it is seen or heard; or says why it is not. Notes
   are not changed: who knows better adds another, and the newest of a point counts.
3. A point nobody noted is told, and refuses nothing: what was not said can still be said before the end.
4. Where in the recording a moment is follows from the files, as they come in: never from the note.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from evidence.clock import from_micros
from evidence.errors import InvalidInput
from evidence.session import Note, NoteKind


class SessionKind(StrEnum):
    """What a room is for."""

    INTERVIEW = "interview"  # 询问
    HEARING = "hearing"  # 听证


@dataclass(frozen=True)
class Point:
    """Something that must be said or seen."""

    code: str
    zh: str
    en: str

    def to_json(self) -> dict[str, str]:
        return {"code": self.code, "zh": self.zh, "en": self.en}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["code"], data["zh"], data["en"])


_BOTH = (
    Point("two_officers", "两名以上执法人员在场", "two officers at least are there"),
    Point("certificates_shown", "出示执法证件", "certificates are shown"),
    Point("recording_told", "告知全程录音录像", "told that all of it is recorded"),
    Point("party_identified", "核对当事人身份", "who is heard is identified"),
    Point(
        "recusal_asked", "告知申请回避的权利并询问是否申请", "told of recusal, and asked whether it is wanted"
    ),
    Point("grounds_told", "告知事由", "told the grounds"),
    Point("legal_basis_told", "告知法律依据", "told the legal basis"),
    Point("rights_told", "告知陈述、申辩等权利和义务", "told of rights, to state and to defend, and duties"),
)
_RECORD = Point("record_signed", "笔录交当事人核对并签名", "the written record is read and signed")
DEFAULTS: Mapping[SessionKind, tuple[Point, ...]] = {
    SessionKind.INTERVIEW: (
        *_BOTH,
        Point("remedies_told", "告知救济途径", "told of remedies"),
        _RECORD,
    ),
    SessionKind.HEARING: (
        *_BOTH,
        Point("parties_heard", "当事人陈述、申辩和质证", "the party stated, defended and questioned"),
        _RECORD,
    ),
}


def points_of(kind: str, own: Sequence[Point]) -> tuple[Point, ...]:
    """The checklist of a room: its own, or that of what it is for."""
    return tuple(own) or DEFAULTS[SessionKind(kind)]


def shown_at(
    asked: datetime | None, now: datetime, started_at: datetime, ended_at: datetime | None
) -> datetime:
    """When a point was shown that is noted now: this moment, or another of the session.

    Raises:
        InvalidInput: Not within the session, or in the future (``point_time``).
    """
    last = now if ended_at is None else ended_at
    if asked is None and ended_at is None:
        # A clock that was set back shows nothing before the beginning.
        return max(now, started_at)
    if asked is None or not started_at <= asked <= last:
        raise InvalidInput(
            f"point: expected a moment from {started_at.isoformat()} to {last.isoformat()}, found "
            f"{asked.isoformat() if asked else 'none, after the end'}; say when it is shown",
            code="point_time",
        )
    return asked


@dataclass(frozen=True)
class Noted:
    """A point and what was said of it last; without a note, nobody said anything."""

    point: Point
    note: Note | None

    @property
    def is_shown(self) -> bool:
        return self.note is not None and self.note.kind is NoteKind.SHOWN


def noted(points: Iterable[Point], notes: Sequence[Note]) -> list[Noted]:
    """Each point in the order of the list, with the newest note about it."""
    about = {note.point: note for note in notes if note.kind in {NoteKind.SHOWN, NoteKind.NOT_SHOWN}}
    return [Noted(point, about.get(point.code)) for point in points]


@dataclass(frozen=True)
class Place:
    """Where in a session's files a moment is."""

    stream: str
    sequence_no: int
    item_id: str
    offset_ms: int
    """After the beginning of the file, by the server's clock."""

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Lies:
    """A file of a session and when it was recorded."""

    stream: str
    sequence_no: int
    item_id: str
    from_us: int
    to_us: int


def places(at_us: int, files: Iterable[Lies]) -> list[Place]:
    """Where a moment is in each stream that was recorded then; the last moment of a file is in it."""
    found: dict[str, Place] = {}
    for file in files:
        if file.from_us <= at_us <= file.to_us:
            found[file.stream] = Place(
                file.stream, file.sequence_no, file.item_id, (at_us - file.from_us) // 1000
            )
    return [found[stream] for stream in sorted(found)]


def moment(note: Note) -> datetime | None:
    """When a point is shown; None for one that is not."""
    return None if note.shown_us is None else from_micros(note.shown_us)
