"""Docks and upload tokens, duty, and policies."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, TypeVar
from uuid import UUID

from fastapi import Query, Response

from api.auth.gate import Gate
from api.auth.seat import DeskOf
from api.schemas.administration import TokenIssued, TokenRequest, TokenShown
from api.schemas.common import (
    PAGE_DEFAULT,
    Instant,
    Limit,
    Number,
    Page,
    read_id_cursor,
    read_place_cursor,
    read_text_cursor,
    read_time_cursor,
    write_cursor,
)
from api.schemas.ledger import (
    DockChange,
    DockRegistration,
    DockShown,
    DutyEntry,
    DutyShown,
    PolicySetting,
    PolicyShown,
    PresetShown,
    TableTaken,
    TokenRotation,
)
from api.table_body import TableBody, table_of, take_table
from evidence.access import Act
from ingest import docks, duty, policy, roster
from ingest.ledger_sheets import EXAMPLES, Kind
from storage.db import accounts, ledger, ledger_duty
from storage.db.ledger_tables import Dock, DutyPeriod, PolicyRow
from storage.db.tables import UploadToken

gate = Gate("采集站、执勤与规则 Docks, duty and policies")
Cursor = Annotated[str | None, Query(max_length=200)]
PolicyName = Annotated[str, Query(max_length=64)]

# --- docks and tokens -------------------------------------------------------------------------


@gate.get("/docks", Act.MANAGE_DEVICES, summary="采集站 Docks")
def list_docks(desk: DeskOf, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT) -> Page[DockShown]:
    """按编号排列,含停用者。By number, also those out of use."""
    after = read_text_cursor(cursor)
    with desk.reading() as work:
        rows = ledger.page_of_docks(work.session, work.agency_id, after=after, limit=limit + 1)
        shown = rows[:limit]
        return Page(
            items=[_dock(row, last) for row, last in shown],
            next_cursor=write_cursor(shown[-1][0].dock_no) if len(rows) > limit else None,
        )


@gate.post(
    "/docks", Act.MANAGE_DEVICES, status_code=201, problems=(409,), summary="登记采集站 Register a dock"
)
def register_dock(body: DockRegistration, desk: DeskOf) -> DockShown:
    """编号不可重复。The number is free."""
    with desk.writing() as work:
        row = docks.register_dock(
            work.session, work.agency, body.dock_no, place=body.place, actor=work.actor.label, now=work.now
        )
        return _dock(row, None)


@gate.patch("/docks/{dock_id}", Act.MANAGE_DEVICES, problems=(404, 409), summary="变更采集站位置 Move a dock")
def set_dock(dock_id: UUID, body: DockChange, desk: DeskOf) -> DockShown:
    """停用者不可变更。Not one out of use."""
    with desk.writing() as work:
        row = ledger.dock_by_id(work.session, work.agency_id, dock_id)
        docks.set_dock(
            work.session, work.agency, row.dock_no, place=body.place, actor=work.actor.label, now=work.now
        )
        return _dock(row, ledger.last_read_at(work.session, work.agency_id, row))


@gate.post(
    "/docks/{dock_id}/retire", Act.MANAGE_DEVICES, problems=(404, 409), summary="停用采集站 Retire a dock"
)
def retire_dock(dock_id: UUID, desk: DeskOf) -> DockShown:
    """其令牌立即失效。Its tokens end at once."""
    with desk.writing() as work:
        row = ledger.dock_by_id(work.session, work.agency_id, dock_id)
        docks.retire_dock(work.session, work.agency, row.dock_no, actor=work.actor.label, now=work.now)
        return _dock(row, ledger.last_read_at(work.session, work.agency_id, row))


@gate.get("/upload-tokens", Act.MANAGE_DEVICES, summary="上传令牌 Upload tokens")
def list_tokens(desk: DeskOf, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT) -> Page[TokenShown]:
    """新者在前,不含令牌本身。Newest first; never the token itself."""
    after = read_id_cursor(cursor)
    with desk.reading() as work:
        rows = accounts.page_of_upload_tokens(work.session, work.agency_id, after=after, limit=limit + 1)
        shown = rows[:limit]
        return Page(
            items=[_token(row, TokenShown) for row in shown],
            next_cursor=write_cursor(shown[-1].id) if len(rows) > limit else None,
        )


@gate.post(
    "/upload-tokens",
    Act.MANAGE_DEVICES,
    status_code=201,
    problems=(404, 409),
    summary="发放令牌 Issue a token",
)
def issue_token(body: TokenRequest, desk: DeskOf) -> TokenIssued:
    """令牌仅显示一次;未登记的采集站随之登记。Shown once; a dock nobody registered is registered by it."""
    with desk.writing() as work:
        token, row = docks.issue_token(
            work.session,
            work.agency,
            dock_no=body.dock_no,
            device_no=body.device_no,
            life=None if body.life_s is None else timedelta(seconds=body.life_s),
            actor=work.actor.label,
            now=work.now,
        )
        return _token(row, TokenIssued, token=token)


@gate.post(
    "/upload-tokens/{token_id}/rotate",
    Act.MANAGE_DEVICES,
    status_code=201,
    problems=(404, 409),
    summary="轮换令牌 Rotate a token",
)
def rotate_token(token_id: UUID, body: TokenRotation, desk: DeskOf) -> TokenIssued:
    """同一绑定的新令牌;旧令牌在重叠期后失效。A new token for the binding; the old one ends later."""
    with desk.writing() as work:
        token, row = docks.rotate_token(
            work.session,
            work.agency,
            token_id,
            overlap=timedelta(seconds=body.overlap_s),
            life=None if body.life_s is None else timedelta(seconds=body.life_s),
            actor=work.actor.label,
            now=work.now,
        )
        return _token(row, TokenIssued, token=token)


@gate.delete(
    "/upload-tokens/{token_id}",
    Act.MANAGE_DEVICES,
    status_code=204,
    problems=(404,),
    summary="撤销令牌 Revoke a token",
)
def revoke_token(token_id: UUID, desk: DeskOf) -> Response:
    """立即生效。At once."""
    with desk.writing() as work:
        docks.revoke_token(work.session, work.agency, token_id, actor=work.actor.label, now=work.now)
    return Response(status_code=204)


def _dock(row: Dock, last_reading_at: Instant | None) -> DockShown:
    return DockShown(
        id=row.id,
        dock_no=row.dock_no,
        place=row.place,
        created_at=row.created_at,
        retired_at=row.retired_at,
        last_reading_at=last_reading_at,
    )


S = TypeVar("S", bound=TokenShown)


def _token(row: UploadToken, schema: type[S], **more: str) -> S:
    return schema(
        id=row.id,
        dock_no=row.dock_no,
        device_id=row.device_id,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        **more,
    )


# --- duty -------------------------------------------------------------------------------------


@gate.get("/duty", Act.MANAGE_DUTY, problems=(404,), summary="执勤 Duty")
def list_duty(
    desk: DeskOf,
    officer_no: Annotated[Number | None, Query(description="人员编号 / Officer number")] = None,
    since: Annotated[Instant | None, Query(description="结束不早于 / Ending at or after")] = None,
    until: Annotated[Instant | None, Query(description="开始早于 / Beginning before")] = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> Page[DutyShown]:
    """新者在前,含已撤回者。Latest first; those withdrawn too."""
    after = read_time_cursor(cursor)
    with desk.reading() as work:
        person = roster.officer(work.session, work.agency, officer_no) if officer_no else None
        rows = ledger_duty.page_of_duties(
            work.session,
            work.agency_id,
            officer_id=person.id if person else None,
            since=since,
            until=until,
            after=after,
            limit=limit + 1,
        )
        shown = rows[:limit]
        last = shown[-1][0] if shown else None
        return Page(
            items=[_duty(row, number) for row, number in shown],
            next_cursor=write_cursor(last.duty_from, last.id) if last and len(rows) > limit else None,
        )


@gate.post("/duty", Act.MANAGE_DUTY, status_code=201, problems=(404, 409), summary="登记执勤 Enter a duty")
def enter_duty(body: DutyEntry, desk: DeskOf) -> DutyShown:
    """同一人的执勤不可重叠。Duties of one officer share no time."""
    with desk.writing() as work:
        row = duty.enter_duty(
            work.session,
            work.agency,
            body.officer_no,
            body.duty_from,
            body.duty_to,
            actor=work.actor.label,
            now=work.now,
        )
        return _duty(row, body.officer_no)


@gate.post(
    "/duty/import",
    Act.MANAGE_DUTY,
    summary="批量登记执勤 Import duty",
    openapi_extra=table_of(EXAMPLES[Kind.DUTY]),
)
def import_duty(body: TableBody, desk: DeskOf) -> TableTaken:
    """CSV 或 XLSX,排班表。CSV or XLSX: a roster."""
    return take_table(desk, Kind.DUTY, body)


@gate.post("/duty/{duty_id}/withdraw", Act.MANAGE_DUTY, problems=(404, 409), summary="撤回执勤 Withdraw")
def withdraw_duty(duty_id: UUID, desk: DeskOf) -> DutyShown:
    """登记有误时撤回,记录保留。Entered in error; it stays on record."""
    with desk.writing() as work:
        row = duty.withdraw_duty(work.session, work.agency, duty_id, actor=work.actor.label, now=work.now)
        number = ledger.officer_number(work.session, work.agency_id, row.officer_id)
        return _duty(row, number)


def _duty(row: DutyPeriod, officer_no: str) -> DutyShown:
    return DutyShown(
        id=row.id,
        officer_no=officer_no,
        duty_from=row.duty_from,
        duty_to=row.duty_to,
        author=row.author,
        made_at=row.made_at,
        withdrawn_at=row.withdrawn_at,
    )


# --- policies ---------------------------------------------------------------------------------


@gate.get("/policies", Act.READ_POLICY, summary="现行规则 Policies in force")
def list_policies(desk: DeskOf, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT) -> Page[PolicyShown]:
    """按名称排列的现行版本;未设者为预设。In force now, by name; where nothing was set, the preset."""
    after = read_text_cursor(cursor) or ""
    names = [name for name in sorted(policy.SHAPES) if name > after]
    with desk.reading() as work:
        return Page(
            items=[
                _rule(policy.in_force(work.session, work.agency, name, work.now)) for name in names[:limit]
            ],
            next_cursor=write_cursor(names[limit - 1]) if len(names) > limit else None,
        )


@gate.get("/policies/presets", Act.READ_POLICY, summary="预设 Presets")
def list_presets() -> list[PresetShown]:
    """随产品提供的规则,含依据与可信程度。What ships with the product, with source and mark."""
    return [
        PresetShown(
            name=one.name,
            policy=one.policy,
            title=one.title,
            source=one.source,
            mark=one.mark,
            is_default=one.is_default,
            body=dict(one.body),
        )
        for one in policy.all_presets()
    ]


@gate.get("/policies/{name}", Act.READ_POLICY, problems=(404,), summary="规则的版本 Versions of a policy")
def policy_history(
    name: str, desk: DeskOf, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> Page[PolicyShown]:
    """全部版本,旧者在前。Every version, oldest first."""
    after = read_place_cursor(cursor)
    with desk.reading() as work:
        policy.check_name(name)
        rows = ledger_duty.policy_versions(work.session, work.agency_id, name, after=after, limit=limit + 1)
        shown = rows[:limit]
        return Page(
            items=[_version(row) for row in shown],
            next_cursor=write_cursor(shown[-1].version) if len(rows) > limit else None,
        )


@gate.post(
    "/policies/{name}",
    Act.SET_POLICY,
    status_code=201,
    problems=(404,),
    summary="制定新版本 Set the next version",
)
def set_policy(name: str, body: PolicySetting, desk: DeskOf) -> PolicyShown:
    """写明依据与起用时间;已作的判断不变。With source and first day; what was judged stays judged."""
    with desk.writing() as work:
        row = policy.set_policy(
            work.session,
            work.agency,
            name,
            body.body,
            source=body.source,
            applies_from=body.applies_from,
            actor=work.actor.label,
            now=work.now,
        )
        return _version(row)


def _rule(rule: policy.Rule) -> PolicyShown:
    return PolicyShown(
        name=rule.name,
        version=rule.version,
        applies_from=rule.applies_from,
        source=rule.source,
        mark=rule.mark,
        body=dict(rule.body),
    )


def _version(row: PolicyRow) -> PolicyShown:
    return PolicyShown(
        name=row.name,
        version=row.version,
        applies_from=row.applies_from,
        source=row.source,
        mark=None,
        body=row.body,
        author=row.author,
        made_at=row.made_at,
    )
