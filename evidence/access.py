"""Who may do what: one pure function, deny unless allowed.

The roles *system administrator*, *security officer* and *auditor* are never held two at a time and
see no footage at all (A7). Everybody else sees redacted renditions of what is within their duty; the
original, and anything made from it that is not masked, needs a right of its own plus a purpose and a
reason (R24, invariant 7).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from evidence.errors import InvalidInput, NotPermitted
from evidence.kinds import SEPARATED_ROLES, Role


class Act(StrEnum):
    """What somebody wants to do."""

    LIST_CASES = "list_cases"
    OPEN_CASE = "open_case"
    LIST_ITEMS = "list_items"
    SEE_REDACTED = "see_redacted"
    SEE_ORIGINAL = "see_original"
    TAKE_UNMARKED = "take_unmarked"
    BIND = "bind"
    SET_FACTS = "set_facts"
    AMEND_REDACTION = "amend_redaction"
    APPROVE_REDACTION = "approve_redaction"
    REVIEW_REDACTION = "review_redaction"
    OVERRIDE_CHECK = "override_check"
    ASK_RELEASE = "ask_release"
    APPROVE_RELEASE = "approve_release"
    REVOKE_RELEASE = "revoke_release"
    READ_CUSTODY = "read_custody"
    MANAGE_DEVICES = "manage_devices"
    MANAGE_ACCOUNTS = "manage_accounts"
    MANAGE_JOBS = "manage_jobs"
    MANAGE_ALARMS = "manage_alarms"
    MANAGE_DUTY = "manage_duty"
    READ_POLICY = "read_policy"
    SET_POLICY = "set_policy"
    GIVE_REASON = "give_reason"
    REPORT_ON_EQUIPMENT = "report_on_equipment"
    REPORT_ON_CONDUCT = "report_on_conduct"
    WATCH_EVENTS = "watch_events"
    SEE_ROOMS = "see_rooms"
    READ_SESSIONS = "read_sessions"
    RUN_SESSIONS = "run_sessions"
    WATCH_LIVE = "watch_live"


@dataclass(frozen=True)
class Actor:
    """Somebody who has proved who they are."""

    account_id: UUID
    agency_id: UUID
    agency_code: str
    username: str
    roles: frozenset[Role]
    officer_id: UUID | None = None

    @property
    def label(self) -> str:
        """How custody names them: an id, never a person's name."""
        return f"account:{self.account_id}"


@dataclass(frozen=True)
class Subject:
    """What the act is about, as far as the decision needs it.

    Attributes:
        handler_ids: Accounts that handle a case the item is bound to.
        collector_officer_ids: Officers who recorded it.
    """

    handler_ids: frozenset[UUID] = field(default_factory=frozenset)
    collector_officer_ids: frozenset[UUID] = field(default_factory=frozenset)


_FOOTAGE_ROLES = frozenset({Role.OFFICER, Role.HANDLER, Role.REVIEWER, Role.LEGAL_REVIEWER, Role.ARCHIVIST})

_RELEASE_ROLES = frozenset({Role.HANDLER, Role.REVIEWER, Role.LEGAL_REVIEWER, Role.ARCHIVIST})

_SESSION_ROLES = frozenset({Role.OFFICER, Role.HANDLER, Role.LEGAL_REVIEWER, Role.ARCHIVIST})

_ROLE_RIGHTS: dict[Act, frozenset[Role]] = {
    Act.LIST_CASES: _FOOTAGE_ROLES,
    Act.OPEN_CASE: frozenset({Role.HANDLER, Role.LEGAL_REVIEWER, Role.ARCHIVIST}),
    Act.LIST_ITEMS: _FOOTAGE_ROLES,
    Act.SEE_REDACTED: _FOOTAGE_ROLES,
    # Original: handlers and officers only for what is theirs (see `may`), legal review and archive by duty.
    Act.SEE_ORIGINAL: frozenset({Role.LEGAL_REVIEWER, Role.ARCHIVIST}),
    # And only where the installation allows it at all (`media.unmarked_clips`).
    Act.TAKE_UNMARKED: frozenset({Role.LEGAL_REVIEWER, Role.ARCHIVIST}),
    Act.BIND: frozenset({Role.HANDLER, Role.LEGAL_REVIEWER, Role.ARCHIVIST}),
    Act.SET_FACTS: frozenset({Role.OFFICER, Role.HANDLER, Role.ARCHIVIST}),
    Act.AMEND_REDACTION: frozenset({Role.HANDLER, Role.LEGAL_REVIEWER}),
    Act.APPROVE_REDACTION: frozenset({Role.LEGAL_REVIEWER}),
    Act.REVIEW_REDACTION: _RELEASE_ROLES,
    Act.OVERRIDE_CHECK: frozenset({Role.LEGAL_REVIEWER}),
    Act.ASK_RELEASE: frozenset({Role.HANDLER, Role.LEGAL_REVIEWER, Role.ARCHIVIST}),
    # Which of them a step is for, the policy says (`redaction.release.approvals`).
    Act.APPROVE_RELEASE: _RELEASE_ROLES,
    # To take back is the safe way: a handler what that handler asked for, the others any.
    Act.REVOKE_RELEASE: frozenset({Role.HANDLER, Role.LEGAL_REVIEWER, Role.ARCHIVIST}),
    Act.READ_CUSTODY: _FOOTAGE_ROLES | {Role.AUDITOR},
    Act.MANAGE_DEVICES: frozenset({Role.SYSTEM_ADMIN}),
    Act.MANAGE_ACCOUNTS: frozenset({Role.SECURITY_OFFICER}),
    Act.MANAGE_JOBS: frozenset({Role.SYSTEM_ADMIN}),
    Act.MANAGE_ALARMS: frozenset({Role.SYSTEM_ADMIN, Role.ARCHIVIST}),
    Act.MANAGE_DUTY: frozenset({Role.SYSTEM_ADMIN, Role.ARCHIVIST}),
    Act.READ_POLICY: frozenset(Role),
    # By what people are judged is not for whoever runs the machine to say.
    Act.SET_POLICY: frozenset({Role.LEGAL_REVIEWER}),
    Act.GIVE_REASON: frozenset({Role.OFFICER, Role.HANDLER, Role.ARCHIVIST}),
    Act.REPORT_ON_EQUIPMENT: frozenset(
        {Role.SYSTEM_ADMIN, Role.ARCHIVIST, Role.LEGAL_REVIEWER, Role.AUDITOR}
    ),
    # Names officers and what they recorded when: supervision's, not the machine room's (R14, A7).
    Act.REPORT_ON_CONDUCT: frozenset({Role.ARCHIVIST, Role.LEGAL_REVIEWER, Role.AUDITOR}),
    Act.WATCH_EVENTS: _FOOTAGE_ROLES | {Role.SYSTEM_ADMIN},
    # That a room is in use, and since when: whoever keeps the machine running asks before stopping it.
    Act.SEE_ROOMS: _SESSION_ROLES | {Role.SYSTEM_ADMIN},
    # Officers and handlers only what is theirs (`may_with_session`).
    Act.READ_SESSIONS: _SESSION_ROLES,
    Act.RUN_SESSIONS: frozenset({Role.OFFICER, Role.HANDLER}),
    # What a live mask leaves, of what is theirs to read or of a case; all of it by the right to the original.
    Act.WATCH_LIVE: _FOOTAGE_ROLES,
}


_READ_ALL_SESSIONS = frozenset({Role.LEGAL_REVIEWER, Role.ARCHIVIST})


def check_roles(roles: frozenset[Role]) -> frozenset[Role]:
    """The roles, if one person may hold them together (A7).

    Raises:
        InvalidInput: None at all, two of the three separated roles, or one of them with a footage role.
    """
    if not roles:
        raise InvalidInput("roles: expected at least one, found none", code="roles_empty")
    separated = roles & SEPARATED_ROLES
    if len(separated) > 1 or (separated and roles - SEPARATED_ROLES):
        raise InvalidInput(
            "roles: expected system_admin, security_officer and auditor each held alone, "
            f"found {', '.join(sorted(roles))}; give the roles to different accounts",
            code="roles_not_separate",
        )
    return roles


def may(actor: Actor, act: Act, subject: Subject | None = None) -> bool:
    """Whether the actor may do the act on the subject. Unknown acts and empty roles are refused."""
    if actor.roles & _ROLE_RIGHTS.get(act, frozenset()):
        return True
    if act is Act.SEE_ORIGINAL and subject is not None:
        handles = Role.HANDLER in actor.roles and actor.account_id in subject.handler_ids
        collected = Role.OFFICER in actor.roles and actor.officer_id in subject.collector_officer_ids
        return handles or (collected and actor.officer_id is not None)
    return False


def may_with_session(
    actor: Actor, act: Act, subject: Subject, started_by: str, *, is_nobodys: bool = False
) -> bool:
    """Whether the actor may read or run one session of a room.

    Legal review and the archive read every one. An officer or handler reads and runs what is theirs: started
    by them, conducted by them as an officer it names, or of a case they handle.

    Args:
        started_by: Label of who started it.
        is_nobodys: The room's recorder began it, and nobody said yet who conducts it and of which case it is:
            whoever is there and may run sessions says so. By itself that gives no right to what was recorded.
    """
    if not may(actor, act):
        return False
    if act is Act.READ_SESSIONS and actor.roles & _READ_ALL_SESSIONS:
        return True
    conducts = actor.officer_id is not None and actor.officer_id in subject.collector_officer_ids
    handles = Role.HANDLER in actor.roles and actor.account_id in subject.handler_ids
    return started_by == actor.label or handles or conducts or is_nobodys


def require(actor: Actor, act: Act, subject: Subject | None = None) -> None:
    """Raise unless allowed.

    Raises:
        NotPermitted: The actor's roles do not carry the right.
    """
    if not may(actor, act, subject):
        held = ", ".join(sorted(actor.roles)) or "none"
        raise NotPermitted(
            f"{act}: expected a role with this right, found {held}; sign in with an account that has it",
            code="not_permitted",
            act=str(act),
        )
