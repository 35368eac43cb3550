"""Alarms: what a person must look at by name, and clearing one with a reason."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Query

from api.auth.gate import Gate
from api.auth.seat import DeskOf
from api.desk import Work
from api.schemas.common import PAGE_DEFAULT, Limit, Page, read_time_cursor, write_cursor
from api.schemas.receipts import AlarmClearing, AlarmShown
from evidence.access import Act, may
from evidence.alarm_words import line_of
from evidence.errors import NotFound
from storage.db import alarms, items
from storage.db.ledger_tables import Alarm

gate = Gate("告警 Alarms")


@gate.get("/alarms", Act.MANAGE_ALARMS, summary="告警 Alarms")
def list_alarms(
    desk: DeskOf,
    cleared: Annotated[bool, Query(description="含已解除的 / Cleared ones too")] = False,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = PAGE_DEFAULT,
) -> Page[AlarmShown]:
    """未解除的,最早在先;含已解除的,最新在先。

    Those that stand, oldest first; or, cleared ones too, newest first.
    """
    after = read_time_cursor(cursor)
    with desk.reading() as work:
        rows = alarms.page_of_alarms(
            work.session, work.agency_id, cleared=cleared, after=after, limit=limit + 1
        )
        shown = rows[:limit]
        return Page(
            items=[_shown(work, row) for row in shown],
            next_cursor=write_cursor(shown[-1].raised_at, shown[-1].id) if len(rows) > limit else None,
        )


@gate.post("/alarms/{alarm_id}/clear", Act.MANAGE_ALARMS, problems=(404, 409), summary="解除 Clear")
def clear_alarm(alarm_id: UUID, body: AlarmClearing, desk: DeskOf) -> AlarmShown:
    """须说明理由;受损原件回读一致后自动解除。

    With a reason. An alarm of damaged bytes ends by itself once sound ones were read back.
    """
    with desk.writing() as work:
        row = alarms.alarm_by_id(work.session, work.agency_id, alarm_id, lock=True)
        alarms.clear(work.session, work.agency, row, actor=work.actor.label, reason=body.reason, now=work.now)
        return _shown(work, row)


def _shown(work: Work, row: Alarm) -> AlarmShown:
    return AlarmShown(
        id=row.id,
        code=row.code,
        subject=row.subject,
        subject_id=row.subject_id,
        original_name=_name(work, row),
        message=row.message,
        message_zh=line_of(row.code, row.subject_id, row.facts),
        facts=row.facts,
        raised_at=row.raised_at,
        cleared_at=row.cleared_at,
        cleared_by=row.cleared_by,
        cleared_reason=row.cleared_reason,
    )


def _name(work: Work, row: Alarm) -> str | None:
    """The file's name: what somebody looks for on a card. It is of the footage, so by that right."""
    if row.subject != "item" or not may(work.actor, Act.LIST_ITEMS):
        return None
    try:
        return items.item_by_id(work.session, work.agency_id, UUID(row.subject_id)).original_name
    except NotFound:
        return None
