"""Accounts: the security officer's work."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Query

from api.auth.gate import Gate
from api.auth.seat import DeskOf
from api.schemas.administration import AccountRegistration, AccountShown
from api.schemas.common import PAGE_DEFAULT, Limit, Page, read_text_cursor, write_cursor
from evidence.access import Act
from evidence.errors import Conflict
from ingest import roster
from storage.db import accounts
from storage.db.tables import Account

gate = Gate("账号 Accounts")


@gate.get("/accounts", Act.MANAGE_ACCOUNTS, summary="账号 Accounts")
def list_accounts(
    desk: DeskOf, cursor: Annotated[str | None, Query(max_length=200)] = None, limit: Limit = PAGE_DEFAULT
) -> Page[AccountShown]:
    """按用户名排列,含已停用者。By name; disabled ones too."""
    after = read_text_cursor(cursor)
    with desk.reading() as work:
        rows = accounts.page_of_accounts(work.session, work.agency_id, after=after, limit=limit + 1)
        shown = rows[:limit]
        return Page(
            items=[_shown(row) for row in shown],
            next_cursor=write_cursor(shown[-1].username) if len(rows) > limit else None,
        )


@gate.post(
    "/accounts", Act.MANAGE_ACCOUNTS, status_code=201, problems=(404, 409), summary="开通账号 Open an account"
)
def open_account(body: AccountRegistration, desk: DeskOf) -> AccountShown:
    """三员角色不得由同一人兼任,也不得兼任接触影像的角色。

    The three separated roles are each held alone (A7).
    """
    with desk.writing() as work:
        row = roster.add_account(
            work.session,
            work.agency,
            username=body.username,
            display_name=body.display_name,
            password=body.password,
            roles=frozenset(body.roles),
            officer_no=body.officer_no,
            actor=work.actor.label,
            now=work.now,
        )
        return _shown(row)


@gate.post(
    "/accounts/{account_id}/disable",
    Act.MANAGE_ACCOUNTS,
    problems=(404, 409),
    summary="停用账号 Disable an account",
)
def disable(account_id: UUID, desk: DeskOf) -> AccountShown:
    """会话与调阅地址立即失效;不可停用自己。Its sessions and grants end at once; never one's own."""
    with desk.writing() as work:
        row = accounts.account_by_id(work.session, work.agency_id, account_id)
        if row.id == work.actor.account_id:
            raise Conflict("account: expected another's, found your own", code="account_own")
        roster.disable_account(work.session, work.agency, row.username, actor=work.actor.label, now=work.now)
        return _shown(row)


def _shown(row: Account) -> AccountShown:
    return AccountShown(
        id=row.id,
        username=row.username,
        display_name=row.display_name,
        roles=sorted(row.roles),
        officer_id=row.officer_id,
        created_at=row.created_at,
        disabled_at=row.disabled_at,
    )
