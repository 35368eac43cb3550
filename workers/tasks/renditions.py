"""The renditions of a recording: one job copies, or decodes once and makes every rung of the ladder.

All rungs of a job are committed in one transaction. Redaction, poster and clips are made from the largest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import structlog
from sqlalchemy.orm import Session

from evidence.errors import MediaError
from evidence.events import Topic
from evidence.item import Media, move
from media.report import ProbeReport
from storage.db import items, jobs
from storage.db.tables import Agency, Derivative
from transcode.encoder_trial import reason_of
from transcode.encoders import SOFTWARE
from transcode.plan import RenditionPlan, plan_renditions
from transcode.segment import LIMIT, TRIED_AGAIN, Encoded, RenditionResult, make_renditions
from workers.context import JobContext, Made, Outcome
from workers.derivatives import put_derivative
from workers.encodings import best_rung, let_go_of_pieces, want_present_ladder, want_renditions, want_whole
from workers.making import (
    NOT_THE_ENCODER,
    begin_growth_again,
    growth_writer,
    ladder_for,
    run_options,
    source_of,
)
from workers.quarantine import largest_rendition, want_after_rendition
from workers.tasks.chunks import joined

log = structlog.get_logger()


def rendition(context: JobContext) -> Outcome:
    """Make the rungs asked for. A copy that is not its source's equal is made again as an encoding."""
    report, source = source_of(context)
    ladder = ladder_for(context, report)
    asked = context.lease.params["rungs"]
    plans = [plan for plan in ladder if plan.rung.name in asked]
    made = _made(context)
    if made.issuperset(asked):
        # By chunks, or whole, while this job was in quarantine.
        return Outcome(lambda _session, _agency: None)
    if [plan.rung.name for plan in plans] != asked:
        # A fuller reading, or other settings, changed the ladder.
        return Outcome(lambda session, _agency: _want_again(session, context, report, ladder))
    # What is shown stays as it was: a job that runs again makes the rungs that are missing.
    plans = [plan for plan in plans if plan.rung.name not in made]
    if "chunks" in context.lease.params:
        return _join_or_encode(context, report, ladder, plans)
    try:
        encoded = _encoded(context, report, source, plans)
    except MediaError as error:
        if any(plan.is_hardware for plan in plans) and error.code not in NOT_THE_ENCODER:
            return _in_software(context, report, source, plans, reason_of(error))
        copied = any(plan.rung.copies_video or plan.rung.copies_audio for plan in plans)
        if copied and error.code in TRIED_AGAIN:
            return _encode_instead(context, report)
        raise
    if encoded.refused and any(plan.is_hardware for plan in plans):
        return _in_software(context, report, source, plans, "; ".join(encoded.refused))
    return _kept(context, ladder, encoded)


def _encoded(
    context: JobContext, report: ProbeReport, source: Path, plans: Sequence[RenditionPlan]
) -> Encoded:
    return make_renditions(
        source,
        report,
        plans,
        context.scratch,
        run=run_options(context),
        on_progress=context.progress,
        on_growth=growth_writer(context, plans),
        cancelled=context.is_cancelled,
    )


def _in_software(
    context: JobContext, report: ProbeReport, source: Path, plans: Sequence[RenditionPlan], why: str
) -> Outcome:
    """All of it once more by x264: whatever a graphics processor does, no rendition fails for it."""
    name = context.encoder.name
    log.warning("encoded_by_software", item=str(context.lease.subject_id), encoder=name, reason=why)
    begin_growth_again(context, plans)
    ladder = ladder_for(context, report, SOFTWARE)
    asked = {plan.rung.name for plan in plans}
    same = [plan for plan in ladder if plan.rung.name in asked]
    outcome = _kept(context, ladder, _encoded(context, report, source, same))

    def commit(session: Session, agency: Agency) -> None:
        outcome.commit(session, agency)
        jobs.note(session, context.lease, f"encoded by software, because {name} failed: {why}")

    return Outcome(commit, outcome.events)


def _made(context: JobContext) -> set[str]:
    """The rungs of the item that are there."""
    with context.storage.database.read() as session:
        made = items.derivatives_of(
            session, context.agency.id, context.lease.subject_id, kind="rendition", light=True
        )
        return {row.params["rung"]["name"] for row in made}


def _join_or_encode(
    context: JobContext,
    report: ProbeReport,
    ladder: tuple[RenditionPlan, ...],
    plans: list[RenditionPlan],
) -> Outcome:
    """The renditions out of their chunks; where these are not the recording, one job encodes it whole."""
    try:
        encoded = joined(context, report, plans)
    except MediaError as error:
        if error.code not in TRIED_AGAIN | {"chunks_do_not_join"}:
            raise
        log.warning("chunks_do_not_join", item=str(context.lease.subject_id), reason=error.message)
        return Outcome(
            lambda session, _agency: want_whole(session, context.lease, context.storage.clock.now()),
            [(Topic.ITEM, str(context.lease.subject_id), "encoding_instead", {})],
        )
    return _kept(context, ladder, encoded)


def _kept(context: JobContext, ladder: tuple[RenditionPlan, ...], encoded: Encoded) -> Outcome:
    made = [(result, context.keep_derivative(result.path)) for result in encoded.results]
    return _rendered(context, ladder, encoded, made)


def _rendered(
    context: JobContext,
    ladder: tuple[RenditionPlan, ...],
    encoded: Encoded,
    made: list[tuple[RenditionResult, Made]],
) -> Outcome:
    plans = {plan.rung.name: plan for plan in ladder}

    def commit(session: Session, agency: Agency) -> None:
        now = context.storage.clock.now()
        item = items.item_by_id(session, agency.id, context.lease.subject_id, lock=True)
        shown = items.derivatives_of(session, agency.id, item.id, kind="rendition", light=True)
        served = {row.params["rung"]["name"] for row in shown}
        rows: dict[str, Derivative] = {}
        for result, kept in made:
            name = result.rung.name
            if name in served:
                # Another job was quicker: what is shown stays as it was, and is not masked twice.
                continue
            info = {
                **result.info, LIMIT: plans[name].segment_limit_s, "index": result.index.to_json()
            }  # fmt: skip
            params = {**plans[name].params(), "source": context.lease.input_digest.hex()}
            if "chunks" in context.lease.params:
                params["chunks"] = context.lease.params["chunks"]
            rows[name] = put_derivative(
                session, context, item.id, "rendition", params, kept, info=info, masked=False
            )
            for finding in result.findings:
                items.flag(item, "rendition_differs", f"rendition {name}: {finding}")
        for why in encoded.refused:
            items.flag(item, "rendition_differs", f"rendition {why}; it is not shown")
        item.media = str(move(Media(item.media), Media.RENDERED))
        facts = made[-1][0].info
        if item.frame_count is None and made[-1][0].index.main.kind == "video":
            item.frame_count = facts["frame_count"]
        if item.duration_us is None:
            item.duration_us = facts["duration_us"]
        name = best_rung(ladder).name
        best = rows.get(name)
        if (
            best is None
            and name not in served
            and not jobs.is_open(session, agency.id, item.id, {"rendition"}, besides=context.lease.job_id)
        ):
            # The best will not come.
            best = largest_rendition(session, agency.id, item.id)
        if best is not None:
            want_after_rendition(session, agency.id, best, now)
        if any(not result.rung.is_copy for result, _ in made):
            let_go_of_pieces(session, context.lease, agency, "joined", now)

    subject = str(context.lease.subject_id)
    news = [
        (
            Topic.ITEM,
            subject,
            "rendered",
            {"rung": result.rung.name, "duration_us": result.info["duration_us"]},
        )
        for result, _ in made
    ]
    return Outcome(commit, list(news))


def _encode_instead(context: JobContext, report: ProbeReport) -> Outcome:
    def commit(session: Session, _agency: Agency) -> None:
        plans = plan_renditions(report, context.settings.encoding, may_copy=False)
        want_renditions(session, context, report, plans, may_copy=False)

    return Outcome(commit, [(Topic.ITEM, str(context.lease.subject_id), "encoding_instead", {})])


def _want_again(
    session: Session, context: JobContext, report: ProbeReport, ladder: tuple[RenditionPlan, ...]
) -> None:
    if set(context.lease.params["rungs"]) & {"copy", "audio"}:
        # What cannot be copied after all has no jobs of its own yet.
        may_copy = bool(context.lease.params["may_copy"])
        want_renditions(session, context, report, ladder, may_copy=may_copy)
    else:
        want_present_ladder(session, context, ladder)
