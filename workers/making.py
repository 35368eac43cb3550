"""What the tasks that make renditions share: source, ladder, encoder, how FFmpeg is run, and what grows."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import structlog

from config.settings import Settings
from evidence.errors import MediaError
from media.fmp4 import FragmentIndex
from media.report import ProbeReport
from media.sandbox import Limits
from storage.db import items
from transcode.encoder_trial import Choice, choose_encoder
from transcode.encoders import ENCODERS, SOFTWARE, Encoder
from transcode.plan import RenditionPlan, plan_renditions
from transcode.segment import LIMIT, RunOptions, growing_index
from workers.context import JobContext

log = structlog.get_logger()

NOT_THE_ENCODER = frozenset({"decoder_over_time", "output_too_large"})
"""Failures that another encoder would have as well."""
TRIALS_S = 60.0
"""All trials together: `liuhen up` waits twice as long for a worker, and ends everything without one."""


def source_of(context: JobContext) -> tuple[ProbeReport, Path]:
    """What is known of the job's item, and a file with its bytes."""
    with context.storage.database.read() as session:
        item = items.item_by_id(session, context.agency.id, context.lease.subject_id)
        stored = items.object_of(session, item)
    if item.probe is None:
        raise MediaError(f"item {item.id}: expected a probe report, found none; requeue its probe")
    return ProbeReport.from_json(item.probe), context.local_path(stored.store_key)


def encoder_of_machine(settings: Settings, *, within_s: float = TRIALS_S) -> Encoder:
    """What this worker encodes with, found out by trial; why others are not used is in its log.

    A process that hangs inside a driver cannot be killed; the thread that waits for it is left behind.
    """
    wanted = settings.encoding.encoder
    if wanted == SOFTWARE.name:
        return SOFTWARE
    limits = Limits(memory_bytes=settings.media.child_memory_bytes, niceness=0)
    found: Future[Choice] = Future()
    is_over = threading.Event()

    def find() -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="liuhen-trial-") as folder:
                options = _options(settings, Path(folder), limits)
                choice = choose_encoder(wanted, options, cancelled=is_over.is_set)
        except BaseException as error:
            # Handed to whoever waits for this thread, and raised there.
            found.set_exception(error)
        else:
            found.set_result(choice)

    threading.Thread(target=find, name="trial", daemon=True).start()
    try:
        choice = found.result(within_s)
    except TimeoutError:
        is_over.set()
        choice = Choice(SOFTWARE, {wanted: f"its trial did not end within {within_s:.0f} s"})
    for name, why in choice.refused.items():
        log.warning("encoder_refused", encoder=name, reason=why)
    log.info("encoder_chosen", encoder=choice.encoder.codec)
    return choice.encoder


def encoder_for(context: JobContext) -> Encoder:
    """What a job encodes with: what was agreed on for all chunks of its recording, else its worker's."""
    params = context.lease.params
    return ENCODERS[params.get("encoder", SOFTWARE.name)] if "chunks" in params else context.encoder


def ladder_for(
    context: JobContext, report: ProbeReport, encoder: Encoder | None = None
) -> tuple[RenditionPlan, ...]:
    """The whole ladder of the item, as far as the job may copy.

    Args:
        encoder: Another than the job's.
    """
    may_copy = bool(context.lease.params["may_copy"])
    used = encoder or encoder_for(context)
    return plan_renditions(report, context.settings.encoding, may_copy=may_copy, encoder=used)


def run_options(context: JobContext) -> RunOptions:
    """FFmpeg as the settings and the job's limits have it."""
    return _options(context.settings, context.scratch, context.limits)


def _options(settings: Settings, scratch: Path, limits: Limits) -> RunOptions:
    binary, render_node = settings.media.ffmpeg, settings.encoding.render_node
    return RunOptions(
        scratch,
        limits,
        None if binary is None else str(binary),
        None if render_node is None else str(render_node),
    )


def growth_writer(
    context: JobContext, plans: Sequence[RenditionPlan]
) -> Callable[[str, FragmentIndex], None]:
    """Lets holders of the right to the original watch a rung that is still being made.

    The index goes beside the file by rename, so that a reader sees an old or a new one, never a half. What
    was shown has to come out the same when it is made again, which only x264 promises: where hardware is
    wanted, who makes a larger rung again may have it, though this worker has not, or its own failed.
    """
    is_sure = context.settings.encoding.encoder == SOFTWARE.name
    limits_s = {
        plan.rung.name: plan.segment_limit_s
        for plan in plans
        if plan.is_smallest or plan.rung.is_copy or (is_sure and not plan.is_hardware)
    }

    def write(rung: str, index: FragmentIndex) -> None:
        if rung not in limits_s:
            return
        half = context.scratch / f"{growing_index(rung)}.part"
        said = {**index.to_json(), LIMIT: limits_s[rung]}
        half.write_text(json.dumps(said, separators=(",", ":")), encoding="ascii")
        half.replace(context.scratch / growing_index(rung))

    return write


def begin_growth_again(context: JobContext, plans: Sequence[RenditionPlan]) -> None:
    """Before the files are written anew: their indexes must not promise what is not there yet."""
    for plan in plans:
        (context.scratch / growing_index(plan.rung.name)).unlink(missing_ok=True)
