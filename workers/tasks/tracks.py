"""The media queue, positions: the route a recording was made along, where its file holds one.

Unmasked, for holders of the right to the original (invariants 7 and 8); a file without positions is an
outcome, not a failure.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from evidence.events import Topic
from evidence.kinds import ClaimSource
from ingest.facts import Statement
from media import sandbox
from media.report import ProbeReport
from storage.db import items
from storage.db.tables import Agency
from workers.claims import add_claims
from workers.context import JobContext, Outcome
from workers.derivatives import put_derivative

GEOJSON = "application/geo+json"
KINDS = frozenset({"data", "subtitle"})


def may_hold_track(report: ProbeReport) -> bool:
    """Whether the file has a stream that could hold positions."""
    return any(stream.kind in KINDS for stream in report.streams)


def track(context: JobContext) -> Outcome:
    """Read the positions of a recording; claims of place, and the route as a derivative."""
    with context.storage.database.read() as session:
        item = items.item_by_id(session, context.agency.id, context.lease.subject_id)
        stored = items.object_of(session, item)
    origin = ProbeReport.from_json(item.probe).origin if item.probe else 0
    destination = context.scratch / "track.geojson"
    found = sandbox.call(
        "media.gps:track_entry",
        {
            "path": str(context.local_path(stored.store_key)),
            "destination": str(destination),
            "origin": str(origin),
        },
        limits=context.limits,
        on_progress=context.progress,
        cancelled=context.is_cancelled,
        scratch=context.scratch,
    )
    if not found["point_count"]:
        return Outcome(lambda _session, _agency: None)
    made = context.keep_derivative(destination)
    claims: list[dict[str, str]] = found["claims"]  # type: ignore[assignment]
    info = {name: found[name] for name in ("point_count", "thinned_by", "sources")}

    def commit(session: Session, agency: Agency) -> None:
        held = items.item_by_id(session, agency.id, item.id, lock=True)
        said = [
            Statement(claim["field"], claim["value"], ClaimSource.CONTAINER, claim["clock"] or None)
            for claim in claims
        ]
        add_claims(session, agency, held, said, context.storage.clock.now())
        params = {"source": context.lease.input_digest.hex()}
        put_derivative(
            session, context, item.id, "track", params, made, info=info, masked=False, content_type=GEOJSON
        )

    facts = {"point_count": found["point_count"]}
    return Outcome(commit, [(Topic.ITEM, str(item.id), "track", facts)])
