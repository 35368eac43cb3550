"""Tying items to cases by hand: bind, end, split by span."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Body

from api.auth.gate import Gate
from api.auth.rights import require_case, require_may_bind
from api.auth.seat import DeskOf
from api.desk import Work
from api.presenting import binding_shown
from api.schemas.items import BindingRequest, BindingShown, Ending, Split
from evidence.access import Act
from evidence.case import normalise_case_no
from evidence.errors import NotFound
from ingest import binding
from storage.db import cases, items
from storage.db.tables import Case, CaseBinding

gate = Gate("关联 Bindings")


@gate.get("/items/{item_id}/bindings", Act.LIST_ITEMS, problems=(404,), summary="关联 Bindings of an item")
def bindings(item_id: UUID, desk: DeskOf) -> list[BindingShown]:
    """含已结束者及其理由。Ended ones too, with the reason."""
    with desk.reading() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id)
        rows = cases.bindings_of(work.session, work.agency_id, item.id, in_force=False)
        known = cases.cases_by_id(work.session, work.agency_id, list({row.case_id for row in rows}))
        return [binding_shown(row, known[row.case_id]) for row in rows]


@gate.post(
    "/items/{item_id}/bindings", Act.BIND, status_code=201, problems=(404, 409), summary="关联案件 Bind"
)
def bind(item_id: UUID, body: BindingRequest, desk: DeskOf) -> BindingShown:
    """关联整件或一个时段,须说明理由;首次归入案件时编号(R5)。已关联他案者,须由该案承办人、法制审核或档案人员办理。

    All of it or a span, with a reason; the AV record number is drawn when it is first filed. What is bound
    to another case is bound to one more by that case's handler, legal review or the archive.
    """
    with desk.writing() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id, lock=True)
        require_may_bind(work, item)
        case = _case(work, body.case_id, body.case_no)
        row = binding.bind(
            work.session,
            work.agency,
            item,
            case,
            author=work.actor.label,
            reason=body.reason,
            now=work.now,
            span_us=(body.span.from_us, body.span.to_us) if body.span else None,
        )
        return binding_shown(row, case)


@gate.delete("/bindings/{binding_id}", Act.BIND, problems=(404, 409), summary="解除关联 End a binding")
def unbind(binding_id: UUID, body: Annotated[Ending, Body()], desk: DeskOf) -> BindingShown:
    """须说明理由;据此取得的调阅授权立即失效。限本案承办人、法制审核、档案人员。

    With a reason; grants that hang on it end at once. For the case's handler, legal review and the archive.
    """
    with desk.writing() as work:
        row = _own(work, binding_id)
        binding.unbind(
            work.session, work.agency, row, author=work.actor.label, reason=body.reason, now=work.now
        )
        return binding_shown(row, cases.case_by_id(work.session, work.agency_id, row.case_id))


@gate.post(
    "/bindings/{binding_id}/split", Act.BIND, status_code=201, problems=(404, 409), summary="按时段拆分 Split"
)
def split(binding_id: UUID, body: Split, desk: DeskOf) -> list[BindingShown]:
    """一件涉及两案即为两个时段。Two cases in one recording are two spans."""
    with desk.writing() as work:
        row = _own(work, binding_id)
        made = binding.split(
            work.session,
            work.agency,
            row,
            [(part.case_id, part.span.from_us, part.span.to_us) for part in body.parts],
            author=work.actor.label,
            reason=body.reason,
            now=work.now,
        )
        known = cases.cases_by_id(work.session, work.agency_id, [new.case_id for new in made])
        return [binding_shown(new, known[new.case_id]) for new in made]


def _own(work: Work, binding_id: UUID) -> CaseBinding:
    """A binding of a case that is the actor's to change. The use case locks it, after its item."""
    row = cases.binding_by_id(work.session, work.agency_id, binding_id)
    require_case(work.actor, cases.case_by_id(work.session, work.agency_id, row.case_id))
    return row


def _case(work: Work, case_id: UUID | None, case_no: str | None) -> Case:
    if case_id is not None:
        return cases.case_by_id(work.session, work.agency_id, case_id)
    found = cases.case_by_key(work.session, work.agency_id, normalise_case_no(case_no or ""))
    if found is None:
        raise NotFound("case: expected one of the register, found none of that number", code="case_not_found")
    return found
