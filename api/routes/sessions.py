"""Signing in and out, who one is, and one's password."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import structlog
from fastapi import Depends, Request, Response
from sqlalchemy.orm import Session

from api.auth.bearer import AnyActorOf, TokenOf
from api.auth.gate import Gate, Open
from api.auth.throttle import Throttle, peer_of
from api.desk import Desk, Installation, InstallationOf
from api.schemas.sessions import Me, PasswordChange, SignedIn, SignIn
from evidence.access import Act, may
from evidence.custody import Action
from evidence.errors import InvalidInput, NotAuthenticated, NotPermitted
from ingest import roster
from storage.db import accounts, agencies, credentials, custody, passwords
from storage.db.custody import Happening
from storage.db.passwords import Candidate, Settled

gate = Gate("登录 Sessions")
log = structlog.get_logger()


async def _throttle(request: Request) -> Throttle:
    held: Throttle = request.app.state.throttle
    return held


async def _peer(request: Request, installation: InstallationOf) -> str:
    return peer_of(request, behind_proxy=installation.settings.api.behind_proxy)


ThrottleOf = Annotated[Throttle, Depends(_throttle)]
PeerOf = Annotated[str, Depends(_peer)]


@gate.post("/sessions", Open.ANYONE, status_code=201, problems=(401, 429), summary="登录 Sign in")
def sign_in(body: SignIn, installation: InstallationOf, throttle: ThrottleOf, peer: PeerOf) -> SignedIn:
    """用户名与口令换取会话令牌。连续输错将暂时锁定。

    Exchange user name and password for a bearer token. Wrong passwords lock the account for a while.
    """
    storage, settings = installation.storage, installation.settings.api
    with throttle.turn(peer):
        with storage.database.read() as session:
            meant = passwords.candidate(session, body.agency, body.username)
        is_match = passwords.matches(meant, body.password)
    if not is_match:
        throttle.note_wrong(peer)
    now = storage.clock.now()
    answer = None
    if meant.account_id is None:
        log.warning("sign_in_refused", account="unknown")
    else:
        with storage.database.transaction() as session:
            settled = _settle(session, installation, meant, is_match, now)
            if settled.is_proved:
                answer = _opened(session, settled, now, timedelta(seconds=settings.session_s))
    if answer is None:
        raise NotAuthenticated(
            "sign-in: expected name and password that belong together, found others; wait a while after "
            "many attempts",
            code="sign_in_refused",
        )
    return answer


def _settle(
    session: Session, installation: Installation, meant: Candidate, is_match: bool, now: datetime
) -> Settled:
    """Count an attempt. Custody hears of the first wrong one of a lock-out window, and of no typed word."""
    settled = passwords.settle(session, meant, is_match, now, installation.settings.api.login_attempts)
    if settled.account is not None and settled.is_first_miss:
        agency = agencies.agency_by_id(session, settled.account.agency_id)
        refused = Happening(Action.SESSION_REFUSED, "account", str(settled.account.id), "system", {})
        custody.record(session, agency, refused, now)
    return settled


def _opened(session: Session, settled: Settled, now: datetime, life: timedelta) -> SignedIn | None:
    account = settled.account
    if account is None:
        return None
    token, row = credentials.open_session(session, account, now, life)
    facts = {"session": str(row.id)}
    opened = Happening(Action.SESSION_OPENED, "account", str(account.id), f"account:{account.id}", facts)
    custody.record(session, agencies.agency_by_id(session, account.agency_id), opened, now)
    return SignedIn(
        token=token,
        expires_at=row.expires_at,
        roles=sorted(account.roles),
        must_change_password=account.password_changed_at is None,
    )


@gate.delete("/sessions/current", Open.SIGNED_IN, status_code=204, summary="退出 Sign out")
def sign_out(token: TokenOf, installation: InstallationOf) -> Response:
    """令牌立即失效。The token ends at once."""
    with installation.storage.database.transaction() as session:
        credentials.end_session(session, token, installation.storage.clock.now())
    return Response(status_code=204)


@gate.get("/me", Open.SIGNED_IN, summary="当前用户 Who am I")
def me(installation: InstallationOf, actor: AnyActorOf) -> Me:
    """当前会话的用户、角色与许可。The session's account, roles and what they carry."""
    with Desk(installation, actor).reading() as work:
        account = accounts.account_by_id(work.session, work.agency_id, actor.account_id)
        return Me(
            account_id=account.id,
            agency=actor.agency_code,
            time_zone=work.agency.time_zone,
            username=actor.username,
            display_name=account.display_name,
            roles=sorted(actor.roles),
            acts=sorted(act for act in Act if may(actor, act)),
            must_change_password=account.password_changed_at is None,
        )


@gate.put(
    "/me/password",
    Open.SIGNED_IN,
    status_code=204,
    problems=(403, 429),
    summary="修改口令 Change the password",
)
def change_password(
    body: PasswordChange,
    installation: InstallationOf,
    actor: AnyActorOf,
    token: TokenOf,
    throttle: ThrottleOf,
    peer: PeerOf,
) -> Response:
    """需原口令;其他会话随即失效。由他人开通的账号首次登录必须先改。

    Asks for the old one; every other session ends. Whoever was given a password changes it before anything
    else.
    """
    storage = installation.storage
    passwords.check_strength(body.new)
    if body.new == body.old:
        raise InvalidInput("password: expected another one, found the same", code="password_unchanged")
    with throttle.turn(peer):
        with storage.database.read() as session:
            meant = passwords.candidate_by_id(session, actor.agency_id, actor.account_id)
        is_match = passwords.matches(meant, body.old)
        new_hash = passwords.hashed(body.new)
    if not is_match:
        throttle.note_wrong(peer)
    now = storage.clock.now()
    with storage.database.transaction() as session:
        settled = _settle(session, installation, meant, is_match, now)
        if settled.account is not None and settled.is_proved:
            agency = agencies.agency_by_id(session, actor.agency_id)
            roster.change_password(
                session, agency, settled.account, new_hash, actor=actor.label, now=now, keep=token
            )
    if not settled.is_proved:
        raise NotPermitted(
            "password: expected the present one, found another; wait a while after many attempts",
            code="password_wrong",
        )
    return Response(status_code=204)
