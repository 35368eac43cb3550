"""What somebody may do with sessions of rooms, asked by a request or about whoever planned one."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.access import Act, Actor, Subject, may_with_session
from evidence.kinds import Role
from evidence.session import TRIGGER_LABEL
from storage.db import accounts, agencies, cases, ledger
from storage.db.room_tables import PlannedSession, RoomSession
from storage.db.tables import Account


class SessionRights:
    """What an actor may do with sessions of rooms; what several of them need is read once."""

    def __init__(
        self,
        session: Session,
        agency_id: UUID,
        actor: Actor,
        rows: Sequence[RoomSession | PlannedSession],
    ) -> None:
        self._actor = actor
        case_ids = {row.case_id for row in rows if row.case_id is not None}
        is_handler = Role.HANDLER in actor.roles
        found = cases.cases_by_id(session, agency_id, list(case_ids)) if is_handler else {}
        self._handlers = {case.id: case.handler_id for case in found.values()}
        self._number = (
            ledger.officer_number(session, agency_id, actor.officer_id)
            if actor.officer_id is not None
            else None
        )

    def has(self, row: RoomSession | PlannedSession, act: Act) -> bool:
        """Whether the actor may read or run the session, or one planned: by duty, or because it is theirs."""
        handler_id = self._handlers.get(row.case_id) if row.case_id is not None else None
        conducts = self._number is not None and self._number in row.facts["officers"]
        officer_id = self._actor.officer_id if conducts else None
        subject = Subject(
            frozenset() if handler_id is None else frozenset({handler_id}),
            frozenset() if officer_id is None else frozenset({officer_id}),
        )
        return may_with_session(self._actor, act, subject, row.started_by, is_nobodys=_is_nobodys(row))


def actor_of(session: Session, agency_id: UUID, account: Account) -> Actor:
    """The holder of an account, with the roles it has now."""
    agency = agencies.agency_by_id(session, agency_id)
    roles = frozenset(Role(role) for role in account.roles)
    return Actor(account.id, agency.id, agency.code, account.username, roles, account.officer_id)


def may_run(session: Session, agency_id: UUID, label: str, row: RoomSession) -> bool:
    """Whether whoever a label names may run a session now, though nobody is signed in.

    An account that is disabled runs nothing. Who plans at the machine itself has no duty that says what is
    theirs: only what the same operator began, and what is nobody's.
    """
    kind, _, account_id = label.partition(":")
    if kind != "account":
        return row.started_by == label or _is_nobodys(row)
    account = accounts.in_force(session, agency_id, UUID(account_id))
    if account is None:
        return False
    actor = actor_of(session, agency_id, account)
    return SessionRights(session, agency_id, actor, [row]).has(row, Act.RUN_SESSIONS)


def _is_nobodys(row: RoomSession | PlannedSession) -> bool:
    return row.started_by.startswith(TRIGGER_LABEL) and not row.facts["officers"] and row.case_id is None
