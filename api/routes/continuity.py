"""Continuity of a recording: the report, and why it was interrupted."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from api.auth.gate import Gate
from api.auth.rights import require_may_explain
from api.auth.seat import DeskOf
from api.schemas.continuity import ContinuityShown, InterruptionReason, ReasonShown, SpanShown
from evidence.access import Act
from evidence.continuity import WORDS, Fault, Span
from evidence.kinds import GapReason
from ingest.interruption import Explained, give_reason, read_report
from ingest.placement import placements_of
from storage.db import items
from storage.db.tables import ContinuityReason, Item

gate = Gate("连续性 Continuity")


@gate.get(
    "/items/{item_id}/continuity", Act.LIST_ITEMS, problems=(404,), summary="连续性报告 Continuity report"
)
def continuity(item_id: UUID, desk: DeskOf) -> ContinuityShown:
    """中断、黑屏、遮挡、静止、静音、丢帧与时间戳异常,附实测值与已说明的原因;不含任何画面与声音。

    Gaps, black, covered and frozen picture, silence, dropped frames and jumps of the clock, with what was
    measured and the reasons given; no picture and no sound.
    """
    with desk.reading() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id)
        report = read_report(work.session, work.storage.objects, work.agency_id, item.id)
        placed = placements_of(work.session, work.agency_id, [item], work.now).get(item.id)
        return _shown(item, report, placed.starts_at if placed is not None else None)


@gate.post(
    "/items/{item_id}/continuity/reasons",
    Act.GIVE_REASON,
    status_code=201,
    problems=(404,),
    summary="说明中断原因 State the reason of an interruption",
)
def explain(item_id: UUID, body: InterruptionReason, desk: DeskOf) -> ReasonShown:
    """只增不改,留账号与时间;执法人员限本人所录。Added, never changed; an officer for the officer's own."""
    with desk.writing() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id, lock=True)
        require_may_explain(work, item)
        report = read_report(work.session, work.storage.objects, work.agency_id, item.id)
        row = give_reason(
            work.session,
            work.agency,
            report,
            (body.kind, body.from_us, body.to_us),
            body.reason,
            body.statement,
            actor=work.actor.label,
            now=work.now,
        )
        return _reason(row)


def _shown(item: Item, report: Explained, starts_at: datetime | None) -> ContinuityShown:
    facts = report.facts
    return ContinuityShown(
        item_id=item.id,
        schema_version=facts["schema"],
        method=facts["method"],
        sha256=report.row.sha256.hex(),
        made_at=report.row.made_at,
        captured_from=item.captured_from,
        duration_us=facts["duration_us"],
        frame_count=facts["frame_count"],
        has_picture=facts["has_picture"],
        has_sound=facts["has_sound"],
        is_whole=facts["is_whole"],
        undecodable_count=facts["undecodable_count"],
        thresholds=facts["thresholds"],
        counts=facts["counts"],
        spans=[_span(starts_at, span, report.reasons[span.key]) for span in report.spans],
        other_reasons=[_reason(row) for row in report.others],
    )


def _span(starts_at: datetime | None, span: Span, reasons: list[ContinuityReason]) -> SpanShown:
    zh, en = WORDS[span.fault]
    return SpanShown(
        kind=span.fault,
        zh=zh,
        en=en,
        from_us=span.from_us,
        to_us=span.to_us,
        from_at=_wall(starts_at, span.from_us),
        to_at=_wall(starts_at, span.to_us),
        measured=span.measured,
        threshold=span.threshold,
        unit=span.unit,
        reasons=[_reason(row) for row in reasons],
    )


def _wall(starts_at: datetime | None, media_us: int) -> datetime | None:
    return None if starts_at is None else starts_at + timedelta(microseconds=media_us)


def _reason(row: ContinuityReason) -> ReasonShown:
    return ReasonShown(
        id=row.id,
        kind=Fault(row.fault),
        from_us=row.from_us,
        to_us=row.to_us,
        reason=GapReason(row.reason),
        statement=row.statement,
        author=row.author,
        made_at=row.made_at,
    )
