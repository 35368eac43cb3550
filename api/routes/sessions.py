"""Signing in and out, and who one is."""

from __future__ import annotations

import threading
from datetime import timedelta

import structlog
from fastapi import Response
from sqlalchemy.orm import Session

from api.auth.bearer import ActorOf, TokenOf
from api.auth.gate import Gate, Open
from api.auth.seat import DeskOf
from api.desk import InstallationOf
from api.schemas.sessions import Me, SignedIn, SignIn
from evidence.access import Act, may
from evidence.custody import Action
from evidence.errors import NotAuthenticated, Unavailable
from storage.db import accounts, agencies, credentials, custody
from storage.db.custody import Happening
from storage.db.tables import Account, Agency

gate = Gate("登录 Sessions")
log = structlog.get_logger()

# Argon2 takes 64 MiB and a core for a moment; a rush of guesses must not take the machine.
_AT_ONCE = 2
_WAIT_S = 10.0
_checking = threading.BoundedSemaphore(_AT_ONCE)


@gate.post("/sessions", Open.ANYONE, status_code=201, problems=(401,), summary="登录 Sign in")
def sign_in(body: SignIn, installation: InstallationOf) -> SignedIn:
    """用户名与口令换取会话令牌。连续输错将暂时锁定。

    Exchange user name and password for a bearer token. Wrong passwords lock the account for a while.
    """
    if not _checking.acquire(timeout=_WAIT_S):
        raise Unavailable("sign-in: expected a turn, found too many at once; try again", code="sign_in_busy")
    try:
        answer = _try(body, installation)
    finally:
        _checking.release()
    if answer is None:
        raise NotAuthenticated(
            "sign-in: expected name and password that belong together, found others; wait a while after "
            "many attempts",
            code="sign_in_refused",
        )
    return answer


def _try(body: SignIn, installation: InstallationOf) -> SignedIn | None:
    """The session, or None; both are committed with their custody leaf."""
    storage, settings = installation.storage, installation.settings.api
    now = storage.clock.now()
    with storage.database.transaction() as session:
        account = credentials.check_password(
            session, body.agency, body.username, body.password, now, settings.login_attempts
        )
        agency = _agency(session, body.agency, account)
        if account is None or agency is None:
            if agency is None:
                log.warning("sign_in_refused", agency="unknown")
            else:
                happening = Happening(
                    Action.SESSION_REFUSED,
                    "agency",
                    str(agency.id),
                    "system",
                    {},
                    {"username": body.username},
                )
                custody.record(session, agency, happening, now)
            return None
        token, row = credentials.open_session(session, account, now, timedelta(seconds=settings.session_s))
        actor = f"account:{account.id}"
        facts = {"session": str(row.id)}
        custody.record(
            session, agency, Happening(Action.SESSION_OPENED, "account", str(account.id), actor, facts), now
        )
        return SignedIn(token=token, expires_at=row.expires_at, roles=sorted(account.roles))


def _agency(session: Session, code: str | None, account: Account | None) -> Agency | None:
    """Whose log the attempt stands in; None when the name belongs to no agency known."""
    if account is not None:
        return agencies.agency_by_id(session, account.agency_id)
    known = agencies.agencies(session)
    if code is None:
        return known[0] if len(known) == 1 else None
    return next((agency for agency in known if agency.code == code), None)


@gate.delete("/sessions/current", Open.SIGNED_IN, status_code=204, summary="退出 Sign out")
def sign_out(token: TokenOf, installation: InstallationOf) -> Response:
    """令牌立即失效。The token ends at once."""
    with installation.storage.database.transaction() as session:
        credentials.end_session(session, token, installation.storage.clock.now())
    return Response(status_code=204)


@gate.get("/me", Open.SIGNED_IN, summary="当前用户 Who am I")
def me(desk: DeskOf, actor: ActorOf) -> Me:
    """当前会话的用户、角色与许可。The session's account, roles and what they carry."""
    with desk.reading() as work:
        account = accounts.account_by_id(work.session, work.agency_id, actor.account_id)
        return Me(
            account_id=account.id,
            agency=actor.agency_code,
            time_zone=work.agency.time_zone,
            username=actor.username,
            display_name=account.display_name,
            roles=sorted(actor.roles),
            acts=sorted(act for act in Act if may(actor, act)),
        )
