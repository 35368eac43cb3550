"""What the tasks that make renditions share: the source, its ladder, how FFmpeg is run, and what grows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from evidence.errors import MediaError
from media.fmp4 import FragmentIndex
from media.report import ProbeReport
from storage.db import items
from transcode.plan import RenditionPlan, plan_renditions
from transcode.segment import LIMIT, RunOptions, growing_index
from workers.context import JobContext


def source_of(context: JobContext) -> tuple[ProbeReport, Path]:
    """What is known of the job's item, and a file with its bytes."""
    with context.storage.database.read() as session:
        item = items.item_by_id(session, context.agency.id, context.lease.subject_id)
        stored = items.object_of(session, item)
    if item.probe is None:
        raise MediaError(f"item {item.id}: expected a probe report, found none; requeue its probe")
    return ProbeReport.from_json(item.probe), context.local_path(stored.store_key)


def ladder_for(context: JobContext, report: ProbeReport) -> tuple[RenditionPlan, ...]:
    """The whole ladder of the item, as far as the job may copy."""
    may_copy = bool(context.lease.params["may_copy"])
    return plan_renditions(report, context.settings.encoding, may_copy=may_copy)


def run_options(context: JobContext) -> RunOptions:
    """FFmpeg as the settings and the job's limits have it."""
    configured = context.settings.media.ffmpeg
    return RunOptions(context.scratch, context.limits, None if configured is None else str(configured))


def growth_writer(
    context: JobContext, plans: Sequence[RenditionPlan]
) -> Callable[[str, FragmentIndex], None]:
    """Lets holders of the right to the original watch a rung that is still being made.

    The index goes beside the file by rename, so that a reader sees an old or a new one, never a half.
    """
    limits_s = {plan.rung.name: plan.segment_limit_s for plan in plans}

    def write(rung: str, index: FragmentIndex) -> None:
        half = context.scratch / f"{growing_index(rung)}.part"
        said = {**index.to_json(), LIMIT: limits_s[rung]}
        half.write_text(json.dumps(said, separators=(",", ":")), encoding="ascii")
        half.replace(context.scratch / growing_index(rung))

    return write
