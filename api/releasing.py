"""Releases: asked for, approved step by step by others, taken back at once.

The rules are `evidence.release`; here what they need is read from rows, and each step is written with its
leaf. Whoever sees something because of a release holds grants and clips that name it (`release_id`); it is
looked at again at each request (`api.resolving`), so what ends a release ends them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from api.auth.rights import DUTY, require_showable
from api.desk import Work
from api.issuing import revoke_grant
from api.reviewing import authors_up_to, length_of, plan_of, require_version, served, spans_of
from evidence.clock import rfc3339
from evidence.custody import Action
from evidence.doubts import open_doubts
from evidence.errors import Conflict, InvalidInput, NotPermitted
from evidence.item import Redaction, move
from evidence.kinds import RetrievalPurpose, Role
from evidence.release import (
    Lack,
    Policy,
    Recipient,
    ReleaseState,
    Standing,
    lacks,
    merged,
    missing,
    next_step,
)
from storage.db import accounts, items, releases
from storage.db.release_tables import Release
from storage.db.tables import Case, Derivative, Item

MOST_SPANS = 200


@dataclass(frozen=True)
class Asked:
    """To whom something is to be released, and why."""

    kind: Recipient
    role: Role | None
    account_id: UUID | None
    party: str | None
    case: Case | None
    purpose: RetrievalPurpose
    reason: str
    expires_at: datetime | None


def policy_of(work: Work, kind: Recipient) -> Policy:
    """What this installation asks of a release to somebody of that kind."""
    said = work.settings.redaction.release
    return Policy(
        reviewers=said.reviewers,
        watched_percent=said.watched_percent,
        coverage=frozenset(said.coverage),
        with_doubts=said.with_doubts,
        approvals=tuple(said.party_approvals if kind is Recipient.PARTY else said.approvals),
    )


def standing_of(work: Work, item: Item) -> Standing:
    """What is known of the version that is served, or of the newest while none is."""
    rendition = served(work, item)
    if rendition is None:
        newest = items.newest_plan(work.session, work.agency_id, item.id)
        number = newest.number if newest is not None else 0
        failure = releases.check_failure(work.session, work.agency_id, item.id, number)
        is_blocked = failure is not None and failure.overridden_at is None
        return Standing(False, tuple(failure.codes) if failure is not None and is_blocked else ())
    plan = items.plan_by_number(work.session, work.agency_id, item.id, plan_of(rendition))
    signed = [row for row in releases.reviews_of(work.session, rendition) if row.signed_at is not None]
    return Standing(
        is_checked=True,
        coverage=rendition.info.get("coverage") or {},
        open_doubts=len(open_doubts(plan.plan)),
        reviewers=len(signed),
        watched=merged(span for row in signed for span in spans_of(row)),
        length_us=length_of(rendition),
    )


def lacks_of(work: Work, item: Item, kind: Recipient) -> dict[Lack, str]:
    """Everything that keeps the version that is served from being released; nothing: it may be asked for."""
    return lacks(standing_of(work, item), policy_of(work, kind))


def ask(work: Work, item: Item, number: int, asked: Asked) -> Release:
    """Ask that a version be released; the caller holds the item's lock.

    Raises:
        Conflict: Something is missing (``release_not_ready``: `lacks` says all of it), another version is
            served (``plan_not_served``), the same waits already (``release_waiting``), or the item is not
            verified.
        InvalidInput: The recipient cannot be one (``release_recipient``), or the end is no end.
    """
    require_showable(item)
    _require_recipient(work, asked)
    _require_ready(work, item, asked.kind)
    rendition = require_version(work, item, number)
    _require_first(work, item, rendition, asked)
    policy = policy_of(work, asked.kind)
    row = Release(
        agency_id=work.agency_id,
        item_id=item.id,
        case_id=asked.case.id if asked.case is not None else None,
        plan_number=number,
        derivative_id=rendition.id,
        rendition_sha256=rendition.sha256,
        to_kind=str(asked.kind),
        to_role=str(asked.role) if asked.role is not None else None,
        to_account_id=asked.account_id,
        to_party=asked.party,
        purpose=str(asked.purpose),
        reason=asked.reason,
        chain=list(policy.approvals),
        terms=_terms(work, item, rendition, policy),
        asked_by=work.actor.account_id,
        asked_at=work.now,
        approvals=[],
        expires_at=_end_of(work, asked),
    )
    work.session.add(row)
    work.session.flush()
    facts = {
        **_facts(row),
        "purpose": row.purpose,
        "chain": row.chain,
        "terms": row.terms,
        "expires_at": rfc3339(row.expires_at) if row.expires_at is not None else None,
    }
    private = {"reason": row.reason, **({"party": row.to_party} if row.to_party else {})}
    work.record(Action.RELEASE_ASKED, "item", item.id, facts, private)
    return row


def _require_ready(work: Work, item: Item, kind: Recipient) -> None:
    found = lacks_of(work, item, kind)
    if found:
        raise Conflict(
            f"item {item.id}: expected {'; expected '.join(found.values())}",
            code="release_not_ready",
            lacks=[str(lack) for lack in found],
        )


def _require_first(work: Work, item: Item, rendition: Derivative, asked: Asked) -> None:
    """Refuse what is asked for twice, as after an answer that was lost."""
    wanted = (str(asked.kind), asked.role, asked.account_id, asked.party, asked.case and asked.case.id)
    for row in releases.releases_of(work.session, work.agency_id, item.id):
        same = (row.to_kind, row.to_role, row.to_account_id, row.to_party, row.case_id) == wanted
        is_of_it = row.derivative_id == rendition.id
        if same and is_of_it and releases.state_of(work.session, row, work.now) is ReleaseState.WAITING:
            raise Conflict(
                f"item {item.id}: expected a release not asked for yet, found {row.id} waiting; look at it",
                code="release_waiting",
                release=str(row.id),
            )


def _require_recipient(work: Work, asked: Asked) -> None:
    given = {Recipient.ROLE: asked.role, Recipient.PERSON: asked.account_id, Recipient.PARTY: asked.party}
    named = {kind for kind, value in given.items() if value is not None}
    if named != {asked.kind} or (asked.kind is Recipient.PARTY and asked.case is None):
        raise InvalidInput(
            "release: expected a role, a person, or a party with the case it is of, found another",
            code="release_recipient",
        )
    if asked.account_id is not None:
        accounts.account_by_id(work.session, work.agency_id, asked.account_id)
    if asked.expires_at is not None and asked.expires_at <= work.now:
        raise InvalidInput("release: expected an end ahead, found one passed", code="release_end")


def _end_of(work: Work, asked: Asked) -> datetime | None:
    """When it ends by itself; of a party always, at the latest so long after it was asked for."""
    if asked.kind is not Recipient.PARTY:
        return asked.expires_at
    latest = work.now + timedelta(seconds=work.settings.redaction.release.party_s)
    return min(asked.expires_at or latest, latest)


def _terms(work: Work, item: Item, rendition: Derivative, policy: Policy) -> dict[str, Any]:
    """By which policy it is released, and what was found of the version then."""
    found = standing_of(work, item)
    return {
        "reviewers": found.reviewers,
        "watched_percent": policy.watched_percent,
        "unwatched": [list(span) for span in missing(found.watched, found.length_us)[:MOST_SPANS]],
        "coverage": dict(found.coverage),
        "coverage_wanted": sorted(policy.coverage),
        "open_doubts": found.open_doubts,
        "overridden": list(rendition.info.get("overridden") or []),
    }


def _facts(row: Release) -> dict[str, Any]:
    return {
        "release": str(row.id),
        "plan": row.plan_number,
        "sha256": row.rendition_sha256.hex(),
        "to": row.to_kind,
        "role": row.to_role,
        "account": str(row.to_account_id) if row.to_account_id is not None else None,
        "case": str(row.case_id) if row.case_id is not None else None,
    }


def approve(work: Work, item: Item, row: Release, note: str | None) -> None:
    """Take the open step of its chain; the last one releases it. The caller holds item and release.

    Raises:
        Conflict: No step is open (``release_state``), or something is missing (``release_not_ready``).
        NotPermitted: It is for another role (``release_step``), or for another person (``release_own``).
    """
    role = require_step(work, item, row)
    _require_ready(work, item, Recipient(row.to_kind))
    step = {"role": role, "by": work.actor.label, "at": rfc3339(work.now), "note": note}
    row.approvals = [*row.approvals, step]
    facts = {**_facts(row), "role": role, "step": len(row.approvals), "of": len(row.chain)}
    work.record(Action.RELEASE_APPROVED, "item", item.id, facts, {"note": note} if note else None)
    if next_step(row.approvals, row.chain) is not None:
        return
    row.released_at = work.now
    for target in (Redaction.APPROVED, Redaction.RELEASED):
        if Redaction(item.redaction) not in {target, Redaction.RELEASED}:
            item.redaction = str(move(Redaction(item.redaction), target))
    private = {"party": row.to_party} if row.to_party else None
    work.record(Action.RELEASE_GIVEN, "item", item.id, _facts(row), private)


def require_step(work: Work, item: Item, row: Release) -> str:
    """The role of the step that the actor may take.

    Raises:
        Conflict: No step is open (``release_state``).
        NotPermitted: It is for another role (``release_step``), or for another person (``release_own``).
    """
    state = releases.state_of(work.session, row, work.now)
    role = next_step(row.approvals, row.chain)
    if state is not ReleaseState.WAITING or role is None:
        raise Conflict(
            f"release {row.id}: expected one that waits for approval, found {state}",
            code="release_state",
            current=str(state),
        )
    if role not in work.actor.roles:
        raise NotPermitted(
            f"release {row.id}: expected {role} for step {len(row.approvals) + 1} of {len(row.chain)}, found "
            f"{', '.join(sorted(work.actor.roles))}; ask a colleague of that role",
            code="release_step",
            role=role,
        )
    gets_it = row.to_role in work.actor.roles & work.release_roles
    if gets_it or work.actor.label in _involved(work, item, row):
        raise NotPermitted(
            f"release {row.id}: expected somebody who neither wrote, reviewed, asked for, approved nor gets "
            "it, found one who did; ask a colleague",
            code="release_own",
        )
    return role


def _involved(work: Work, item: Item, row: Release) -> set[str]:
    """Actor labels of whoever has had a part in it."""
    wrote = authors_up_to(work, item, row.plan_number)
    rendition = items.derivative_by_id(work.session, work.agency_id, row.derivative_id)
    reviewed = {
        f"account:{review.account_id}"
        for review in releases.reviews_of(work.session, rendition)
        if review.signed_at is not None
    }
    approved = {str(step["by"]) for step in row.approvals}
    others = {f"account:{row.asked_by}", f"account:{row.to_account_id}"}
    return wrote | reviewed | approved | others


def refuse(work: Work, item: Item, row: Release, reason: str) -> None:
    """End a release instead of taking its open step.

    Raises:
        Conflict, NotPermitted: As `require_step`.
    """
    role = require_step(work, item, row)
    _end(work, row, reason)
    facts = {**_facts(row), "role": role, "step": len(row.approvals) + 1, "of": len(row.chain)}
    work.record(Action.RELEASE_REFUSED, "item", item.id, facts, {"reason": reason})


def require_may_end(work: Work, row: Release) -> None:
    """Raise unless the release is the actor's to take back, or to take copies of.

    Raises:
        NotPermitted: A handler, of what another asked for (``release_not_yours``).
    """
    if not work.actor.roles & DUTY and row.asked_by != work.actor.account_id:
        raise NotPermitted(
            f"release {row.id}: expected whoever asked for it, legal review or the archive, found another",
            code="release_not_yours",
        )


def revoke(work: Work, item: Item, row: Release, reason: str) -> None:
    """Take a release back at once, with everything that hangs on it; doing it twice is fine."""
    require_may_end(work, row)
    if row.ended_at is not None:
        return
    _end(work, row, reason)
    held = releases.grants_under(work.session, work.agency_id, row.id, work.now)
    for grant in held:
        revoke_grant(work, grant, "release_revoked")
    facts = {**_facts(row), "grants": len(held), "was_released": row.released_at is not None}
    work.record(Action.RELEASE_REVOKED, "item", item.id, facts, {"reason": reason})
    others = releases.releases_of(work.session, work.agency_id, item.id)
    in_force = {releases.state_of(work.session, other, work.now) for other in others}
    if Redaction(item.redaction) is Redaction.RELEASED and ReleaseState.RELEASED not in in_force:
        item.redaction = str(move(Redaction.RELEASED, Redaction.APPROVED))


def _end(work: Work, row: Release, reason: str) -> None:
    row.ended_at, row.ended_by, row.ended_reason = work.now, work.actor.label, reason
    work.session.flush()
