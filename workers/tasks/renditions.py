"""The renditions of a recording: one job copies, or decodes once and makes every rung of the ladder.

All rungs of a job are committed in one transaction. Redaction, poster and clips are made from the largest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy.orm import Session

from evidence.errors import MediaError
from evidence.events import Topic
from evidence.item import Media, move
from media.fmp4 import FragmentIndex
from media.report import ProbeReport
from storage.db import items, jobs
from storage.db.tables import Agency, Derivative
from transcode.plan import RenditionPlan, plan_renditions
from transcode.segment import (
    TRIED_AGAIN,
    Encoded,
    RenditionResult,
    RunOptions,
    growing_index,
    make_renditions,
)
from workers.context import JobContext, Made, Outcome
from workers.derivatives import put_derivative
from workers.encodings import best_rung, want_renditions
from workers.quarantine import largest_rendition, want_after_rendition


def rendition(context: JobContext) -> Outcome:
    """Make the rungs asked for. A copy that is not its source's equal is made again as an encoding."""
    report, source = _source(context)
    may_copy = bool(context.lease.params["may_copy"])
    ladder = plan_renditions(report, context.settings.encoding, may_copy=may_copy)
    plans = [plan for plan in ladder if plan.rung.name in context.lease.params["rungs"]]
    if not plans:
        # A fuller reading changed the ladder; the rungs it asks for have jobs of their own.
        return Outcome(lambda _session, _agency: None)
    try:
        encoded = make_renditions(
            source,
            report,
            plans,
            context.scratch,
            run=RunOptions(context.scratch, context.limits, _ffmpeg(context)),
            on_progress=context.progress,
            on_growth=_growth_writer(context),
            cancelled=context.is_cancelled,
        )
    except MediaError as error:
        copied = any(plan.rung.copies_video or plan.rung.copies_audio for plan in plans)
        if copied and error.code in TRIED_AGAIN:
            return _encode_instead(context, report)
        raise
    made = [(result, context.keep_derivative(result.path)) for result in encoded.results]
    return _rendered(context, ladder, encoded, made)


def _source(context: JobContext) -> tuple[ProbeReport, Path]:
    with context.storage.database.read() as session:
        item = items.item_by_id(session, context.agency.id, context.lease.subject_id)
        stored = items.object_of(session, item)
    if item.probe is None:
        raise MediaError(f"item {item.id}: expected a probe report, found none; requeue its probe")
    return ProbeReport.from_json(item.probe), context.local_path(stored.store_key)


def _ffmpeg(context: JobContext) -> str | None:
    configured = context.settings.media.ffmpeg
    return None if configured is None else str(configured)


def _growth_writer(context: JobContext) -> Callable[[str, FragmentIndex], None]:
    """Lets holders of the right to the original watch a rung that is still being made.

    The index goes beside the file by rename, so that a reader sees an old or a new one, never a half.
    """

    def write(rung: str, index: FragmentIndex) -> None:
        half = context.scratch / f"{growing_index(rung)}.part"
        half.write_text(index.dumps(), encoding="ascii")
        half.replace(context.scratch / growing_index(rung))

    return write


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
        rows: dict[str, Derivative] = {}
        for result, kept in made:
            name = result.rung.name
            info = {**result.info, "index": result.index.to_json()}
            params = {**plans[name].params(), "source": context.lease.input_digest.hex()}
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
        best = rows.get(best_rung(ladder).name)
        if best is None and not jobs.is_open(
            session, agency.id, item.id, {"rendition"}, besides=context.lease.job_id
        ):
            # The best will not come.
            best = largest_rendition(session, agency.id, item.id)
        if best is not None:
            want_after_rendition(session, agency.id, best, now)

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
        want_renditions(session, context, plans, may_copy=False)

    return Outcome(commit, [(Topic.ITEM, str(context.lease.subject_id), "encoding_instead", {})])
