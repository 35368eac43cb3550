"""A session in words for people: who did something, what was stated, what is hidden, what lies around it."""

from __future__ import annotations

import json
import pwd
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.clock import from_micros, rfc3339, to_micros
from evidence.masks import Hides, Reason
from evidence.session import TRIGGER_LABEL, NoteKind
from ingest.recorder.schedule import PLAN_LABEL
from ingest.recorder.sessions import Told
from storage.db import accounts, triggers
from storage.db.room_tables import RoomSession, SessionNote, SessionPart
from storage.db.session_masks import ends_at, masks_of, pauses_of
from storage.db.tables import Agency

FACT_WORDS = {
    "case_no": "案件编号 Case",
    "place": "地点 Place",
    "officers": "办案人员 Officers",
    "party": "被询问人 Party",
    "object_of_proof": "证明对象 Object of proof",
    "second_officer": "第二名办案人员 Second officer",
}
NONE = "—"
OPERATOR_LABEL = "operator:"
"""How the label of whoever gave a command on the host begins; the number of its account there follows."""


def who(session: Session, agency: Agency, label: str) -> str:
    """Somebody as people know them; a label of nobody here stays what it is."""
    kind, _, name = label.partition(":")
    if f"{kind}:" == PLAN_LABEL:
        return "按预定 by plan"
    if f"{kind}:" == TRIGGER_LABEL:
        return f"录像机 recorder {triggers.key_by_id(session, agency.id, UUID(name)).name}"
    if f"{kind}:" == OPERATOR_LABEL:
        return _operator(label, name)
    if kind != "account":
        return label
    row = accounts.account_by_id(session, agency.id, UUID(name))
    return f"{row.display_name} ({row.username})"


def _operator(label: str, number: str) -> str:
    """The name of an account of this host; one that it does not have any more stays its number."""
    try:
        return f"{pwd.getpwuid(int(number)).pw_name} (系统用户 system user {number})"
    except (KeyError, ValueError):
        return label


def note_in_words(kind: str, text: str, point: str | None, points: Mapping[str, str]) -> str:
    """What a note says, on a line.

    Args:
        point: Code of the point of the checklist it is about; None: about none.
        points: Words of the points, by code.
    """
    said = stated(text) if kind == NoteKind.FACTS else text
    about = points.get(point, point) if point else ""
    return " · ".join(each for each in (about, said) if each) or NONE


def stated(text: str) -> str:
    """Facts that were stated at once, as a line."""
    said = {
        FACT_WORDS[name]: ", ".join(value) if isinstance(value, list) else value or NONE
        for name, value in json.loads(text).items()
    }
    return "; ".join(f"{name}: {value}" for name, value in said.items())


def hidden(session: Session, told: Told) -> list[dict[str, Any]]:
    """What of a session is hidden in all that is made of it, by when it begins: masks of people, and pauses.

    ``by`` and ``ended_by`` are labels; ``to_at`` is null while it lasts.
    """
    row = told.row
    masked: list[dict[str, Any]] = []
    for each in masks_of(session, row.agency_id, [row.id]):
        ends = ends_at(each, row)
        masked.append(
            {
                "mask": str(each.id),
                "from_at": rfc3339(each.from_at),
                "to_at": rfc3339(ends) if ends is not None else None,
                "hides": each.hides,
                "reason": each.reason,
                "statement": each.text,
                "by": each.by,
                "ended_by": each.ended_by,
                "made_at": rfc3339(each.made_at),
            }
        )
    return sorted([*masked, *_pauses(row, told.notes)], key=lambda each: str(each["from_at"]))


def _pauses(row: RoomSession, notes: Sequence[SessionNote]) -> list[dict[str, Any]]:
    ended_us = None if row.ended_at is None else to_micros(row.ended_at)
    return [
        {
            "mask": None,
            "from_at": rfc3339(from_micros(stop.from_us)),
            "to_at": None if stop.to_us is None else rfc3339(from_micros(stop.to_us)),
            "hides": str(Hides.BOTH),
            "reason": str(Reason.PAUSED),
            "statement": stop.note.text,
            "by": stop.note.by,
            "ended_by": None,
            "made_at": rfc3339(from_micros(stop.note.at_us)),
        }
        for stop in pauses_of(notes, ended_us)
    ]


def around(row: RoomSession, part: SessionPart) -> dict[str, int]:
    """How much of a file lies before its session began and after it ended, in milliseconds."""
    before = (row.started_at - part.from_at).total_seconds()
    after = 0.0 if row.ended_at is None else (part.to_at - row.ended_at).total_seconds()
    return {"before_ms": max(0, round(before * 1000)), "after_ms": max(0, round(after * 1000))}


def with_around(told: Told, files: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The files of a session, each with how much of it lies around the session."""
    parts = {(part.stream, part.sequence_no): part for part in told.parts}
    return [{**each, **around(told.row, parts[each["stream"], each["sequence_no"]])} for each in files]
