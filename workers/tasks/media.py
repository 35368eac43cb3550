"""The quick and the media queue, first half: what a file is, and the renditions it gets.

`probe` reads tables and first frames only, so that what can be copied is playable at once; `examine`
then reads every packet, and what has to be encoded waits for what it finds. A file that cannot be
played is an outcome: it is kept, listed and bound (invariant 2, L15).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from evidence.custody import Action
from evidence.errors import MediaError
from evidence.events import Topic
from evidence.item import Media, move
from evidence.kinds import ClaimSource, MediaKind
from ingest import grouping, lateness
from ingest.binding import bind_by_claims
from ingest.correction import set_times
from ingest.facts import Statement
from media import sandbox
from media.fmp4 import FragmentIndex
from media.report import ProbeReport
from storage.db import custody, items, jobs
from storage.db.custody import Happening
from storage.db.jobs import Wanted
from storage.db.tables import Agency, Item
from transcode.ladder import Rung
from transcode.plan import RenditionPlan, plan_renditions
from transcode.segment import TRIED_AGAIN, RenditionResult, RunOptions, make_rendition
from workers.claims import add_claims
from workers.context import QUICK, WORKER, JobContext, Made, Outcome
from workers.derivatives import put_derivative
from workers.quarantine import mark_unplayable, want_after_rendition
from workers.tasks.tracks import may_hold_track

QUICK_RUNGS = frozenset({"copy", "audio"})
GROWING = "growing.json"
RENDITION = "rendition.mp4"
EXAMINE_WAITS_S = 3.0
LONG_READING_BYTES = 64 << 20
"""A reading of every packet that takes long steps back until the first segment of the copy is out."""


def probe(context: JobContext) -> Outcome:
    """Judge a file by its tables and first frames; what browsers play is copied right away."""
    report = _probed(context, "header")
    plans = plan_renditions(report)
    copies = [plan for plan in plans if plan.rung.copies_video or plan.rung.copies_audio]
    examination = _wanted(context, "examine", 25)
    if len(copies) == len(plans) and report.size_bytes >= LONG_READING_BYTES:
        examination = replace(examination, after_s=EXAMINE_WAITS_S)
    facts: dict[str, Any] = {"media_kind": str(report.media_kind), "decodable": report.decodable}
    news: list[tuple[Topic, str, str, Mapping[str, Any]]] = [
        (Topic.ITEM, str(context.lease.subject_id), "probed", facts)
    ]

    def commit(session: Session, agency: Agency) -> None:
        now = context.storage.clock.now()
        item = _placed(session, agency, report, context)
        if lateness.judge(session, agency, item, now) is not None:
            news.append((Topic.ITEM, str(item.id), "late", {}))
        if not report.decodable:
            code = report.reason["code"] if report.reason else "media_unreadable"
            mark_unplayable(session, agency, item, code, now)
            return
        item.media = str(move(Media(item.media), Media.PROBED))
        bind_by_claims(session, agency, item, now)
        if report.media_kind is MediaKind.PHOTO:
            jobs.want(session, agency.id, _wanted(context, "photo", 20, queue=QUICK), now)
            return
        jobs.want(session, agency.id, examination, now)
        if may_hold_track(report):
            jobs.want(session, agency.id, _wanted(context, "track", 45), now)
        if len(copies) == len(plans):
            want_renditions(session, context, plans, may_copy=True)

    return Outcome(commit, news)


def examine(context: JobContext) -> Outcome:
    """Read every packet: frames, duration and damage; then want what has to be encoded."""
    report = _probed(context, "packets")

    def commit(session: Session, agency: Agency) -> None:
        now = context.storage.clock.now()
        item = _placed(session, agency, report, context)
        lateness.judge(session, agency, item, now)
        if not report.decodable:
            if item.media == Media.PROBED:
                code = report.reason["code"] if report.reason else "media_unreadable"
                mark_unplayable(session, agency, item, code, now)
            return
        plans = plan_renditions(report)
        want_renditions(session, context, plans, may_copy=True)
        if plans:
            # Behind everything that somebody may be waiting for.
            jobs.want(session, agency.id, _wanted(context, "continuity", 60), now)

    return Outcome(commit, [(Topic.ITEM, str(context.lease.subject_id), "examined", {})])


def rendition(context: JobContext) -> Outcome:
    """Make one rung. A copy that is not its source's equal is made again as an encoding."""
    report, source = _source(context)
    may_copy = bool(context.lease.params["may_copy"])
    plans = plan_renditions(report, may_copy=may_copy)
    plan = next((plan for plan in plans if plan.rung.name == context.lease.params["rung"]), None)
    if plan is None:
        # A fuller reading changed the ladder; the rungs it asks for have jobs of their own.
        return Outcome(lambda _session, _agency: None)
    try:
        result = make_rendition(
            source,
            report,
            plan,
            context.scratch / RENDITION,
            run=RunOptions(context.scratch, context.limits, _ffmpeg(context)),
            on_progress=context.progress,
            on_growth=_growth_writer(context),
            cancelled=context.is_cancelled,
        )
    except MediaError as error:
        copied = plan.rung.copies_video or plan.rung.copies_audio
        if copied and error.code in TRIED_AGAIN:
            return _encode_instead(context, report)
        raise
    made = context.keep_derivative(result.path)
    return _rendered(context, plan, plans, result, made)


def _probed(context: JobContext, depth: str) -> ProbeReport:
    with context.storage.database.read() as session:
        item = items.item_by_id(session, context.agency.id, context.lease.subject_id)
        stored = items.object_of(session, item)
    found = sandbox.call(
        "media.probe:probe_entry",
        {"path": str(context.local_path(stored.store_key)), "name": item.original_name, "depth": depth},
        limits=context.limits,
        on_progress=context.progress,
        cancelled=context.is_cancelled,
        scratch=context.scratch,
    )
    return ProbeReport.from_json(found)


def _placed(session: Session, agency: Agency, report: ProbeReport, context: JobContext) -> Item:
    """The item, locked, with what the report says of it, among the files of its recording."""
    # The device before the item, and other items before numbers and cases: see ingest.grouping.
    grouping.lock_device(session, agency.id, context.lease.subject_id)
    item = items.item_by_id(session, agency.id, context.lease.subject_id, lock=True)
    known = None if item.probe is None else (item.captured_from, item.duration_us)
    _write_report(session, agency, item, report, context)
    if known != (item.captured_from, item.duration_us):
        gap = timedelta(seconds=context.settings.ingest.recording_gap_s)
        grouping.group(session, agency, item, gap, context.storage.clock.now())
    return item


def _write_report(
    session: Session, agency: Agency, item: Item, report: ProbeReport, context: JobContext
) -> None:
    """Facts and claims of a report; claims once, by the first reading."""
    now = context.storage.clock.now()
    is_first = item.probe is None
    item.probe = report.to_json()
    item.media_kind = str(report.media_kind)
    video = report.video
    item.duration_us = report.duration_us or item.duration_us
    if video is not None and video.packet_count is not None:
        item.frame_count = video.packet_count
    for entry in [*report.flags, *([report.reason] if report.reason else [])]:
        items.flag(item, entry["code"], entry["message"])
    if is_first:
        said = [
            Statement(claim["field"], claim["value"], ClaimSource.CONTAINER, claim.get("clock") or None)
            for claim in report.claims
        ]
        add_claims(session, agency, item, said, now)
    set_times(session, item, now)
    facts = {
        "depth": report.depth,
        "media_kind": str(report.media_kind),
        "container": report.container,
        "decodable": report.decodable,
        "duration_us": report.duration_us,
        "frame_count": item.frame_count,
        "flags": [entry["code"] for entry in report.flags],
    }
    custody.record(session, agency, Happening(Action.ITEM_PROBED, "item", str(item.id), WORKER, facts), now)


def _wanted(
    context: JobContext, kind: str, priority: int, params: dict[str, Any] | None = None, queue: str = "media"
) -> Wanted:
    return Wanted(kind, queue, context.lease.subject_id, context.lease.input_digest, params, priority)


def want_renditions(
    session: Session, context: JobContext, plans: tuple[RenditionPlan, ...], *, may_copy: bool
) -> None:
    """Want a job for each rung, the quickest first."""
    for place, plan in enumerate(plans):
        params = {"rung": plan.rung.name, "may_copy": may_copy}
        if plan.rung.name in QUICK_RUNGS:
            wanted = _wanted(context, "rendition", 20, params, QUICK)
        else:
            wanted = _wanted(context, "rendition", 30 + place, params)
        jobs.want(session, context.agency.id, wanted, context.storage.clock.now())


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


def _growth_writer(context: JobContext) -> Callable[[FragmentIndex], None]:
    """Lets holders of the right to the original watch a rendition that is still being made.

    The index goes beside the file by rename, so that a reader sees an old or a new one, never a half.
    """

    def write(index: FragmentIndex) -> None:
        half = context.scratch / f"{GROWING}.part"
        half.write_text(index.dumps(), encoding="ascii")
        half.replace(context.scratch / GROWING)

    return write


def _rendered(
    context: JobContext,
    plan: RenditionPlan,
    plans: tuple[RenditionPlan, ...],
    result: RenditionResult,
    made: Made,
) -> Outcome:
    def commit(session: Session, agency: Agency) -> None:
        now = context.storage.clock.now()
        item = items.item_by_id(session, agency.id, context.lease.subject_id, lock=True)
        info = {**result.info, "index": result.index.to_json()}
        params = {**plan.params(), "source": context.lease.input_digest.hex()}
        row = put_derivative(session, context, item.id, "rendition", params, made, info=info, masked=False)
        item.media = str(move(Media(item.media), Media.RENDERED))
        for finding in result.findings:
            items.flag(item, "rendition_differs", f"rendition {plan.rung.name}: {finding}")
        if item.frame_count is None and report_has_picture(result):
            item.frame_count = result.info["frame_count"]
        if item.duration_us is None:
            item.duration_us = result.info["duration_us"]
        is_best = plan.rung.name == best_rung(plans).name
        if is_best or not jobs.is_open(
            session, agency.id, item.id, {"rendition"}, besides=context.lease.job_id
        ):
            want_after_rendition(session, agency.id, row, now)

    facts = {"rung": plan.rung.name, "duration_us": result.info["duration_us"]}
    return Outcome(commit, [(Topic.ITEM, str(context.lease.subject_id), "rendered", facts)])


def report_has_picture(result: RenditionResult) -> bool:
    """Whether the rendition's frames are pictures, not packets of sound."""
    return result.index.main.kind == "video"


def best_rung(plans: tuple[RenditionPlan, ...]) -> Rung:
    """The rung redaction and clips are made from: the last, which is the largest."""
    return plans[-1].rung


def _encode_instead(context: JobContext, report: ProbeReport) -> Outcome:
    def commit(session: Session, _agency: Agency) -> None:
        want_renditions(session, context, plan_renditions(report, may_copy=False), may_copy=False)

    return Outcome(commit, [(Topic.ITEM, str(context.lease.subject_id), "encoding_instead", {})])
