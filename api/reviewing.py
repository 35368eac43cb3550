"""Reviewing a redacted rendition: who watched which parts, and who says that they reviewed it.

What somebody says they watched is believed as far as it can be: under a grant of their own of these bytes, of
which the media listener sent some, inside it and inside the rendition, and no faster than it can be played in
the time since they last said so.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from api.desk import Work
from api.issuing import Variant
from api.resolving import newest, redacted_in_force
from evidence.custody import Action
from evidence.errors import Conflict, InvalidInput, NotPermitted
from evidence.kinds import MediaKind
from evidence.release import Span, believable, merged, missing, total_us
from storage.db import grants, releases
from storage.db.plans import plans_of
from storage.db.release_tables import RedactionReview
from storage.db.tables import Derivative, Grant, Item

MOST_SPANS_IN_A_LEAF = 200
MOST_SPANS_WATCHED = 5000
"""Apart from each other, by one person."""
US_PER_S = 1_000_000


def kind_of(item: Item) -> str:
    """The kind of derivative that is shown of an item in place of the original."""
    return "redacted_photo" if item.media_kind == MediaKind.PHOTO else "redacted"


def rendition_of(work: Work, item: Item) -> Derivative:
    """The masked rendition that is served now.

    Raises:
        Conflict: It is not there yet (``redaction_pending``).
    """
    return redacted_in_force(work.session, work.agency_id, item.id, kind_of(item))


def served(work: Work, item: Item) -> Derivative | None:
    """The same; None while there is none."""
    row = newest(work.session, work.agency_id, item.id, kind_of(item))
    return row if row is not None and row.masked else None


def length_of(rendition: Derivative) -> int:
    """Microseconds of it that can be watched; 0 of a photo."""
    return 0 if rendition.kind == "redacted_photo" else int(rendition.info.get("duration_us") or 0)


def plan_of(rendition: Derivative) -> int:
    """The version of the plan that a masked rendition shows."""
    return int(rendition.params["plan"])


def note_watched(work: Work, item: Item, grant_id: UUID, told: Sequence[Span]) -> RedactionReview:
    """Add what the actor says they watched; the caller holds the item's lock.

    Raises:
        NotFound: The grant has ended (``grant_ended``), or what it hangs on (``release_ended``).
        NotPermitted: It is another's (``grant_not_yours``), or of a span that does not hold what was watched
            (``span_not_permitted``).
        Conflict: It is of no masked rendition of this item, or no byte of it was sent (``watch_unserved``).
        InvalidInput: Outside the rendition, or in too many pieces (``span_invalid``), or more than can have
            been watched (``watch_too_fast``).
    """
    grant = grants.grant_in_force(work.session, work.agency_id, grant_id, work.now, lock=True)
    _require_served(work, item, grant)
    rendition = rendition_of(work, item)
    _require_inside(told, rendition, grant)
    row = releases.review_by(work.session, rendition, work.actor.account_id)
    is_anew = row is None or row.rendition_sha256 != rendition.sha256
    since = max(grant.issued_at, rendition.made_at)
    if row is not None and not is_anew:
        since = max(since, row.reported_at)
    passed_us = int((work.now - since).total_seconds() * US_PER_S)
    rate = work.settings.redaction.release.max_play_rate
    if not believable(told, passed_us, rate):
        raise InvalidInput(
            f"watched: expected at most {passed_us * rate / US_PER_S:.3f} s since the last report, found "
            f"{total_us(told) / US_PER_S:.3f}; report it again later",
            code="watch_too_fast",
            most_us=int(passed_us * rate),
        )
    if row is None:
        row = RedactionReview(
            agency_id=work.agency_id,
            item_id=item.id,
            derivative_id=rendition.id,
            rendition_sha256=rendition.sha256,
            plan_number=plan_of(rendition),
            account_id=work.actor.account_id,
            watched=[],
            reported_at=work.now,
        )
        work.session.add(row)
    elif is_anew:
        row.rendition_sha256, row.watched, row.signed_at, row.note = rendition.sha256, [], None, None
    watched = merged([*spans_of(row), *told])
    if len(watched) > MOST_SPANS_WATCHED:
        raise InvalidInput(
            f"watched: expected at most {MOST_SPANS_WATCHED} stretches apart, found {len(watched)}; "
            "report longer ones",
            code="span_invalid",
        )
    row.watched = [list(span) for span in watched]
    row.reported_at = work.now
    work.session.flush()
    return row


def _require_served(work: Work, item: Item, grant: Grant) -> None:
    if grant.account_id != work.actor.account_id:
        raise NotPermitted("grant: expected your own, found another's", code="grant_not_yours")
    releases.require_of(work.session, grant, work.now)
    is_of_it = grant.item_id == item.id and grant.variant == Variant.REDACTED
    if not is_of_it or Action.RENDITION_ISSUED not in (grant.noted or []):
        raise Conflict(
            f"item {item.id}: expected a grant of its masked rendition of which bytes were fetched, "
            "found none; watch it first",
            code="watch_unserved",
        )


def _require_inside(told: Sequence[Span], rendition: Derivative, grant: Grant) -> None:
    length_us = length_of(rendition)
    for start, end in told:
        if not 0 <= start < end <= length_us:
            raise InvalidInput(
                f"watched: expected inside 0 to {length_us} µs, found {start} to {end}", code="span_invalid"
            )
        if grant.span_from_us is not None and not (
            grant.span_from_us <= start and end <= (grant.span_to_us or 0)
        ):
            raise NotPermitted(
                "watched: expected inside the span that was granted, found outside", code="span_not_permitted"
            )


def sign(work: Work, item: Item, number: int, note: str | None) -> RedactionReview:
    """Say that one reviewed a version; what of it nobody who did has watched is shown and kept.

    Raises:
        Conflict: Another version is served (``plan_not_served``), or nothing of it was watched
            (``watch_unserved``).
        NotPermitted: The actor wrote it (``plan_own``).
    """
    rendition = require_version(work, item, number)
    row = releases.review_by(work.session, rendition, work.actor.account_id)
    if row is None or row.rendition_sha256 != rendition.sha256:
        raise Conflict(
            f"redaction plan {number}: expected something of it watched, found nothing; watch it first",
            code="watch_unserved",
        )
    if work.actor.label in authors_up_to(work, item, number):
        raise NotPermitted(
            f"redaction plan {number}: expected a reviewer who did not write it, found one who did; "
            "ask a colleague",
            code="plan_own",
        )
    row.signed_at, row.note = work.now, note
    unwatched = missing(spans_of(row), length_of(rendition))
    facts = {
        "plan": number,
        "sha256": rendition.sha256.hex(),
        "watched_us": total_us(spans_of(row)),
        "unwatched_us": total_us(unwatched),
        "unwatched": [list(span) for span in unwatched[:MOST_SPANS_IN_A_LEAF]],
    }
    work.record(Action.REDACTION_REVIEWED, "item", item.id, facts, {"note": note} if note else None)
    return row


def authors_up_to(work: Work, item: Item, number: int) -> set[str]:
    """Actor labels of whoever wrote a version of the item's plan, or one before it."""
    plans = plans_of(work.session, work.agency_id, item.id, light=True)
    return {plan.author for plan in plans if plan.number <= number}


def require_version(work: Work, item: Item, number: int) -> Derivative:
    """The masked rendition that is served, if it shows that version.

    Raises:
        Conflict: It shows another (``plan_not_served``), or there is none (``redaction_pending``).
    """
    rendition = rendition_of(work, item)
    if plan_of(rendition) != number:
        raise Conflict(
            f"redaction plan: expected version {plan_of(rendition)}, which is served, found {number}",
            code="plan_not_served",
            served=plan_of(rendition),
        )
    return rendition


def spans_of(review: RedactionReview) -> list[Span]:
    """What one person watched."""
    return [(int(start), int(end)) for start, end in review.watched]
