"""The row and custody leaf of something that was made, in the job's committing transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.canonical import canonical_json
from evidence.custody import Action
from storage.db import custody, items, jobs
from storage.db.custody import Happening
from storage.db.jobs import Wanted
from storage.db.plans import AWAITS
from storage.db.tables import Agency, Derivative
from transcode.names import MASKED_PREFIX
from workers.context import WORKER, JobContext, Made, params_digest


def put_derivative(
    session: Session,
    context: JobContext,
    item_id: UUID,
    kind: str,
    params: Mapping[str, Any],
    made: Made,
    *,
    info: Mapping[str, Any],
    masked: bool,
    content_type: str = "video/mp4",
    awaits_approval: bool = False,
) -> Derivative:
    """Record a derivative whose bytes are durable; made again with the same parameters it is served again.

    Args:
        params: Everything its bytes depend on besides the source.
        info: Facts for players and lists.
        masked: Whether somebody without the right to the original may have it.
        awaits_approval: Nobody may have it until a person approved the plan it was made from.
    """
    now = context.storage.clock.now()
    plain = json.loads(canonical_json(dict(params)))
    digest = params_digest(plain)
    row = items.derivative_by_params(session, context.agency.id, item_id, kind, digest)
    if row is None:
        row = Derivative(
            agency_id=context.agency.id,
            item_id=item_id,
            kind=kind,
            source_sha256=context.lease.input_digest,
            params_digest=digest,
            params=plain,
            masked=masked,
            content_type=content_type,
        )
        session.add(row)
    row.sha256, row.size_bytes, row.store_key = made.sha256, made.size_bytes, made.store_key
    row.info, row.made_at = {**info, **({AWAITS: True} if awaits_approval else {})}, now
    row.withdrawn_at = now if awaits_approval else None
    session.flush()
    facts = {
        "derivative": str(row.id),
        "kind": kind,
        "source_sha256": context.lease.input_digest.hex(),
        "params_sha256": digest.hex(),
        "sha256": made.sha256.hex(),
        "size_bytes": made.size_bytes,
        "masked": masked,
        **({AWAITS: True} if awaits_approval else {}),
    }
    custody.record(
        session, context.agency, Happening(Action.DERIVATIVE_MADE, "item", str(item_id), WORKER, facts), now
    )
    return row


def want_followers(session: Session, agency_id: UUID, row: Derivative, now: datetime) -> None:
    """Want what helps to find one's way in a rendition; of a masked one the scenes too."""
    params = {"derivative": str(row.id)}
    # A few keyframes cost seconds and go before hours of redaction; what reads all of it goes behind.
    kinds = [("waveform", 50)]
    if row.info.get("width_px"):
        kinds.append(("thumbnails", 37))
        if row.masked:
            kinds.append(("scenes", 62))
    for kind, priority in kinds:
        jobs.want(session, agency_id, Wanted(kind, "media", row.item_id, row.sha256, params, priority), now)


def source_of(context: JobContext) -> Derivative | None:
    """The rendition a job is about; None once it is shown to nobody any more, or holds other bytes."""
    with context.storage.database.read() as session:
        source = items.derivative_by_id(session, context.agency.id, UUID(context.lease.params["derivative"]))
    return source if _is_followed(source, context) else None


def _is_followed(source: Derivative, context: JobContext) -> bool:
    is_shown = source.withdrawn_at is None or bool(source.info.get(AWAITS))
    return is_shown and source.sha256 == context.lease.input_digest


def put_follower(
    session: Session,
    context: JobContext,
    source: Derivative,
    kind: str,
    params: Mapping[str, Any],
    made: Made,
    *,
    info: Mapping[str, Any],
    content_type: str,
) -> None:
    """Record what helps to find one's way in a rendition: it is shown, held back and withdrawn with it.

    Nothing is recorded where the rendition was withdrawn or made anew meanwhile.
    """
    items.item_by_id(session, context.agency.id, source.item_id, lock=True)
    now_is = items.derivative_by_id(session, context.agency.id, source.id)
    if not _is_followed(now_is, context):
        return
    plan = {"plan": now_is.params["plan"]} if now_is.masked else {}
    put_derivative(
        session,
        context,
        source.item_id,
        f"{MASKED_PREFIX}{kind}" if now_is.masked else kind,
        {**params, **plan, "rendition_sha256": now_is.sha256.hex()},
        made,
        info=info,
        masked=now_is.masked,
        content_type=content_type,
        awaits_approval=bool(now_is.info.get(AWAITS)),
    )


def withdraw(session: Session, agency: Agency, row: Derivative, reason: str, now: datetime) -> None:
    """End the serving of a derivative: its address answers 410 from now on."""
    row.withdrawn_at = now
    facts = {"derivative": str(row.id), "kind": row.kind, "reason": reason}
    custody.record(
        session,
        agency,
        Happening(Action.DERIVATIVE_WITHDRAWN, "item", str(row.item_id), WORKER, facts),
        now,
    )
