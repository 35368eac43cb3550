"""`liuhen session checklist|tick|untold`: what must be said and seen in the recording of a session (R11)."""

from __future__ import annotations

import argparse
from uuid import UUID

from sqlalchemy.orm import Session

from cli.options import Branch, read_instant
from cli.session_of import add_session, id_of
from cli.shell import Desk, add_json, at_desk, operator, print_json, print_table
from evidence.clock import rfc3339
from ingest.recorder import conduct
from ingest.recorder.conduct import Checked
from storage.db import sessions


def add_to(branch: Branch) -> None:
    """The commands of the checklist, among those of sessions."""
    listing = branch.add("checklist", "应当录入的事项 / what must be said and seen on record", _checklist)
    add_session(listing)
    add_json(listing)
    ticking = branch.add("tick", "勾选:已录入画面或声音 / tick a point: it is seen or heard", _tick)
    add_session(ticking)
    ticking.add_argument("point", metavar="POINT", help="事项代码 / code, as `checklist` prints it")
    ticking.add_argument(
        "--at", metavar="TIME", help="录像中的时刻,缺省为此刻 / when in the recording; default now"
    )
    ticking.add_argument("--text", metavar="TEXT", help="补充 / in words")
    untold = branch.add("untold", "说明未录入的理由 / say why a point is not on record", _untold)
    add_session(untold)
    untold.add_argument("point", metavar="POINT", help="事项代码 / code")
    untold.add_argument("text", metavar="TEXT", help="理由 / in words")


def _checklist(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        found = _points(session, desk, id_of(session, desk.agency, options.session))
    if options.json:
        print_json([_as_json(each) for each in found])
        return 0
    print_table(
        ("代码 point", "事项 what", "已录入 shown", "时刻 at", "位置 where", "说明 text"),
        [
            (
                each.noted.point.code,
                each.noted.point.zh,
                "是 yes" if each.noted.is_shown else "否 no",
                desk.local(each.at),
                "; ".join(f"{at.stream} {at.sequence_no} +{at.offset_ms / 1000:.1f} s" for at in each.places),
                each.noted.note.text if each.noted.note is not None else "",
            )
            for each in found
        ],
    )
    return 0


def _tick(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        conduct.note_shown(
            session,
            agency,
            id_of(session, agency, options.session),
            options.point,
            at=read_instant(options.at, "--at", agency.time_zone) if options.at else None,
            text=options.text,
            actor=operator(),
            now=desk.now(),
        )
    print(f"已勾选 / ticked: {options.point}")
    return 0


def _untold(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        session_id = id_of(session, agency, options.session)
        conduct.note_not_shown(
            session, agency, session_id, options.point, options.text, actor=operator(), now=desk.now()
        )
    print(f"已说明 / reason given: {options.point}")
    return 0


def _points(session: Session, desk: Desk, session_id: UUID) -> list[Checked]:
    agency_id = desk.agency.id
    row = sessions.session_by_id(session, agency_id, session_id)
    notes = sessions.notes_of(session, agency_id, session_id)
    return conduct.checklist(row, notes, sessions.parts_of(session, agency_id, session_id))


def _as_json(each: Checked) -> dict[str, object]:
    note = each.noted.note
    return {
        **each.noted.point.to_json(),
        "is_shown": each.noted.is_shown,
        "at": rfc3339(each.at) if each.at is not None else None,
        "offset_ms": each.offset_ms,
        "places": [place.to_json() for place in each.places],
        "text": note.text if note is not None else "",
        "by": note.by if note is not None else None,
    }
