"""The media queue, long recordings: pieces that any worker makes, and their joining.

A piece is a derivative like any other, with its digest in a custody leaf, until the renditions are there.
Which of two workers' bytes counts is decided as for every job, by the fence of its row. Each piece names its
job in a box that players pass over, so that no two pieces share bytes in the store and one can go without the
other.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.orm import Session

from evidence.clock import rfc3339
from evidence.errors import InvalidInput, MediaError, NotFound
from evidence.events import Topic
from evidence.fixity import hash_file
from media.errors import media_error
from media.fmp4 import FragmentIndex
from media.report import ProbeReport
from media.run import packaged_ffmpeg
from storage.db import grants, items, jobs
from storage.db.jobs import Wanted
from storage.db.tables import Agency, Derivative
from transcode.chunks import ChunkFile, cuts, join
from transcode.encoder_trial import reason_of
from transcode.encoders import SOFTWARE
from transcode.plan import CHUNK, PIECES, PREVIEW, SOUND, RenditionPlan, chunk_plan, preview_plan, sound_plan
from transcode.segment import LIMIT, Encoded, RenditionResult, make_renditions
from workers.context import JobContext, Made, Outcome, params_digest
from workers.derivatives import put_derivative
from workers.encodings import (
    let_go_of_pieces,
    let_go_of_what_nobody_joins,
    pieces_of,
    want_chunks,
    want_join_when_complete,
)
from workers.making import NOT_THE_ENCODER, encoder_for, growth_writer, ladder_for, run_options, source_of

log = structlog.get_logger()


def chunk(context: JobContext) -> Outcome:
    """Encode the pictures of one span for every rung.

    All chunks of a recording are of one encoder, since pictures of two do not join. Where this worker has not
    the one that was agreed on, or it fails, all of them are wanted anew, of x264.
    """
    report, source = source_of(context)
    plans = _plans(context, report)
    video = report.video
    assert video is not None  # noqa: S101 - only pictures are cut
    params = context.lease.params
    cut = cuts(video, params["chunks"])[params["chunk"]]
    if cut.span != (params["from_pts"], params["to_pts"]):
        raise _changed(context)
    chunked = [chunk_plan(plan, cut, video.time_base_fraction) for plan in plans]
    encoder = encoder_for(context)
    if encoder.is_hardware and encoder.name != context.encoder.name:
        return _in_software(context, report, f"this worker has no {encoder.name}")
    try:
        return _piece(context, report, source, chunked, CHUNK)
    except MediaError as error:
        if not encoder.is_hardware or error.code in NOT_THE_ENCODER:
            raise
        return _in_software(context, report, f"{encoder.name} failed: {reason_of(error)}")


def _in_software(context: JobContext, report: ProbeReport, why: str) -> Outcome:
    subject = str(context.lease.subject_id)
    log.warning("encoded_by_software", item=subject, encoder=context.lease.params["encoder"], reason=why)

    def commit(session: Session, agency: Agency) -> None:
        now = context.storage.clock.now()
        items.item_by_id(session, agency.id, context.lease.subject_id, lock=True)
        jobs.note(session, context.lease, f"its recording is encoded by software, because {why}")
        if _is_encoded(session, context):
            let_go_of_pieces(session, context.lease, agency, "joined", now)
        else:
            jobs.cancel_ready(session, agency.id, context.lease.subject_id, {CHUNK})
            want_chunks(session, context, report, context.lease.params, SOFTWARE)

    return Outcome(commit, [(Topic.ITEM, subject, "encoding_instead", {})])


def sound(context: JobContext) -> Outcome:
    """Make the sound of a long recording, whole."""
    report, source = source_of(context)
    plan = sound_plan(_plans(context, report)[0], report)
    return _piece(context, report, source, [plan], SOUND)


def preview(context: JobContext) -> Outcome:
    """Make the beginning of the smallest rung, with its sound, to be watched while the chunks are made."""
    report, source = source_of(context)
    video = report.video
    assert video is not None  # noqa: S101 - only pictures are cut
    first = cuts(video, context.lease.params["chunks"])[0]
    encoded = [plan for plan in ladder_for(context, report) if not plan.rung.is_copy]
    if not encoded:
        raise _changed(context)
    plan = preview_plan(encoded[0], first, video.time_base_fraction)
    return _piece(context, report, source, [plan], PREVIEW)


def discard(context: JobContext) -> Outcome:
    """Remove the bytes of withdrawn pieces of an item; done twice it does the same.

    A preview stays for who began to watch it, until the last of their grants ends: then another job looks.
    """
    now, item_id = context.storage.clock.now(), context.lease.subject_id
    with context.storage.database.read() as session:
        holders = grants.holders_of_preview(session, context.agency.id, item_id, now)
        kinds = [kind for kind in PIECES if kind != PREVIEW or not holders]
        keys = items.keys_withdrawn(session, context.agency.id, item_id, kinds)
    for key in keys:
        context.storage.objects.delete(key)

    def commit(session: Session, agency: Agency) -> None:
        if holders:
            until = max(grant.expires_at for grant in holders)
            after_s = (until - now).total_seconds()
            wanted = Wanted("discard", "io", item_id, params={"until": rfc3339(until)}, after_s=after_s)
            jobs.want(session, agency.id, wanted, now, again=True)

    return Outcome(commit)


def joined(context: JobContext, report: ProbeReport, plans: list[RenditionPlan]) -> Encoded:
    """The renditions of a recording whose chunks are all there.

    Raises:
        MediaError: ``chunks_do_not_join``, or what they were joined to is not the recording.
    """
    video = report.video
    assert video is not None  # noqa: S101 - only pictures are cut
    planned = cuts(video, context.lease.params["chunks"])
    asked = {name: context.lease.params[name] for name in ("may_copy", "chunks")}
    agreed = {name: value for name, value in context.lease.params.items() if name == "encoder"}
    with context.storage.database.read() as session:
        rows = pieces_of(session, context.agency.id, context.lease.subject_id, context.lease.params)
    sound_path = None
    if report.audio is not None:
        params = _params(context, sound_plan(plans[0], report), asked)
        heard = [row for row in rows if row.kind == SOUND and row.params_digest == params_digest(params)]
        if not heard:
            raise media_error("chunks_do_not_join", "sound: expected one of these settings, found another")
        sound_path = _whole_file(context, heard[-1])
    results: list[RenditionResult] = []
    for number, plan in enumerate(plans):
        # Of other settings, or of another FFmpeg, pictures at a seam would change their look.
        digests = {
            params_digest(
                _params(
                    context,
                    chunk_plan(plan, cut, video.time_base_fraction),
                    {**asked, **agreed, "chunk": place, "from_pts": cut.from_pts, "to_pts": cut.to_pts},
                )
            )
            for place, cut in enumerate(planned)
        }
        chunks = [
            ChunkFile(
                row.info["chunk"],
                (row.info["from_pts"], row.info["to_pts"]),
                _whole_file(context, row),
                FragmentIndex.from_json(row.info["index"]),
            )
            for row in rows
            if row.kind == CHUNK and row.params_digest in digests
        ]
        results.append(
            join(
                plan,
                report,
                sorted(chunks, key=lambda each: each.number),
                planned,
                sound_path,
                context.scratch,
                run=run_options(context),
                on_progress=_part_of(context, number, len(plans)),
                cancelled=context.is_cancelled,
            )
        )
    return Encoded(tuple(results))


def _part_of(context: JobContext, number: int, count: int) -> Callable[[float], None]:
    return lambda done: context.progress((number + done) / count)


def _plans(context: JobContext, report: ProbeReport) -> list[RenditionPlan]:
    rungs = context.lease.params["rungs"]
    plans = [plan for plan in ladder_for(context, report) if plan.rung.name in rungs]
    if [plan.rung.name for plan in plans] != rungs:
        raise _changed(context)
    return plans


def _changed(context: JobContext) -> InvalidInput:
    return InvalidInput(
        f"item {context.lease.subject_id}: expected the ladder and spans of its other chunks, found "
        "the settings or its report changed; it is encoded whole",
        code="encoding_changed",
    )


def _piece(
    context: JobContext, report: ProbeReport, source: Path, plans: list[RenditionPlan], kind: str
) -> Outcome:
    encoded = make_renditions(
        source,
        report,
        plans,
        context.scratch,
        run=run_options(context),
        on_progress=context.progress,
        on_growth=growth_writer(context, plans) if kind == PREVIEW else None,
        cancelled=context.is_cancelled,
    )
    if encoded.refused:
        raise media_error("rendition_differs", "; ".join(encoded.refused))
    made: list[tuple[RenditionPlan, RenditionResult, Made]] = []
    for plan, result in zip(plans, encoded.results, strict=True):
        _sign(context, result.path)
        made.append((plan, result, context.keep_derivative(result.path)))
    asked = {name: value for name, value in context.lease.params.items() if name != "rungs"}

    def commit(session: Session, agency: Agency) -> None:
        now = context.storage.clock.now()
        item = items.item_by_id(session, agency.id, context.lease.subject_id, lock=True)
        for plan, result, kept in made:
            params = _params(context, plan, asked)
            info = {
                **asked, **result.info, LIMIT: plan.segment_limit_s, "index": result.index.to_json()
            }  # fmt: skip
            put_derivative(session, context, item.id, kind, params, kept, info=info, masked=False)
        if _is_encoded(session, context):
            # Whole, meanwhile.
            let_go_of_pieces(session, context.lease, agency, "joined", now)
            return
        if kind != PREVIEW:
            want_join_when_complete(session, context, report)
        let_go_of_what_nobody_joins(session, context.lease, agency, now)

    return Outcome(commit, [(Topic.ITEM, str(context.lease.subject_id), kind, asked)])


def _is_encoded(session: Session, context: JobContext) -> bool:
    made = items.derivatives_of(
        session, context.agency.id, context.lease.subject_id, kind="rendition", light=True
    )
    return any(row.params["rung"]["name"] != "copy" for row in made)


def _params(context: JobContext, plan: RenditionPlan, asked: Mapping[str, Any]) -> dict[str, Any]:
    """All that a piece depends on, as it stands in its row."""
    binary = Path(context.settings.media.ffmpeg or packaged_ffmpeg())
    state = binary.stat()
    return {
        **plan.params(),
        **asked,
        "source": context.lease.input_digest.hex(),
        "ffmpeg_sha256": _digest_of(binary, state.st_mtime_ns, state.st_size),
    }


@cache
def _digest_of(binary: Path, _mtime_ns: int, _size_bytes: int) -> str:
    return hash_file(binary).sha256.hex()


def _sign(context: JobContext, path: Path) -> None:
    """End the file with a box of this job's, durably."""
    with path.open("ab") as file:
        name = context.lease.job_id.bytes
        file.write(struct.pack(">I4s", 8 + len(name), b"free") + name)
        file.flush()
        os.fsync(file.fileno())


def _whole_file(context: JobContext, row: Derivative) -> Path:
    """A piece whose bytes are those that were committed."""
    try:
        path = context.local_path(row.store_key)
        found = hash_file(path).sha256
    except (NotFound, FileNotFoundError) as error:
        raise media_error("chunks_do_not_join", f"derivative {row.id}: its bytes are gone") from error
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise media_error("chunks_do_not_join", f"derivative {row.id}: the medium gives an error") from error
    if found != row.sha256:
        raise media_error("chunks_do_not_join", f"derivative {row.id}: its bytes are not those of its digest")
    return path
