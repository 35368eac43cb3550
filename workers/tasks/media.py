"""The quick and the media queue, first half: what a file is.

`probe` reads tables and first frames only, so that what can be copied is playable at once; `examine`
then reads every packet, and what has to be encoded waits for what it finds (`workers.tasks.renditions`). A
file that cannot be played is an outcome: it is kept, listed and bound (invariant 2, L15).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from evidence.custody import Action
from evidence.events import Topic
from evidence.item import Media, move
from evidence.kinds import ClaimSource, MediaKind
from ingest import grouping, lateness
from ingest.binding import bind_by_claims
from ingest.correction import set_times
from ingest.facts import Statement
from media import sandbox
from media.report import ProbeReport
from storage.db import custody, items, jobs
from storage.db.custody import Happening
from storage.db.jobs import Wanted
from storage.db.tables import Agency, Item
from transcode.chunks import may_be_long
from transcode.plan import plan_renditions
from workers.claims import add_claims
from workers.context import QUICK, WORKER, JobContext, Outcome
from workers.encodings import want_renditions
from workers.quarantine import mark_unplayable
from workers.tasks.tracks import may_hold_track

EXAMINE_WAITS_S = 3.0
LONG_READING_BYTES = 64 << 20
"""A reading of every packet that takes long steps back until the first segment of the copy is out."""


def probe(context: JobContext) -> Outcome:
    """Judge a file by its tables and first frames; what browsers play is copied right away."""
    report = _probed(context, "header")
    plans = plan_renditions(report, context.settings.encoding)
    early = [plan for plan in plans if plan.rung.copies_video or plan.rung.copies_audio]
    if may_be_long(report, context.settings.encoding):
        # How it is cut into chunks, only a reading of every packet tells.
        early = [plan for plan in early if plan.rung.is_copy]
    examination = _wanted(context, "examine", 25)
    if early and all(plan.rung.is_copy for plan in early) and report.size_bytes >= LONG_READING_BYTES:
        # An encoding that began at once would hold the worker for its whole length.
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
        if early:
            want_renditions(session, context, report, early, may_copy=True)

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
        plans = plan_renditions(report, context.settings.encoding)
        want_renditions(session, context, report, plans, may_copy=True)
        if plans:
            # Behind everything that somebody may be waiting for.
            jobs.want(session, agency.id, _wanted(context, "continuity", 60), now)

    return Outcome(commit, [(Topic.ITEM, str(context.lease.subject_id), "examined", {})])


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
    report = ProbeReport.from_json(found)
    # Where media time 0 lies is decided once: what was made by an earlier reading goes by it.
    return report if item.probe is None else report.led_by(ProbeReport.from_json(item.probe).lead_us)


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
