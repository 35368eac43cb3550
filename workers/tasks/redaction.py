"""The media queue, second half: propose a plan, render it, and let nothing out that fails its check.

`redact` makes version 1 of an item's plan from its best rendition; `render` makes the masked rendition of
whichever version is newest. That of a version which reveals something is held back until a person approved
it; meanwhile the version in force is rendered too, and served. The check decodes what was written, on its
own; a failed check is an outcome that blocks the item, never something to be tried until it passes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.canonical import canonical_json
from evidence.coverage import SOUND_ALONE
from evidence.custody import Action
from evidence.doubts import open_doubts
from evidence.errors import Conflict, MediaError
from evidence.events import Topic
from evidence.fixity import hash_file
from evidence.item import Redaction, move
from evidence.kinds import MediaKind
from evidence.masks import in_plan
from media import sandbox
from media.fmp4 import index_fragments
from redaction.amend import reveals
from redaction.findings import told
from redaction.models import load_model
from redaction.plan import treatment_of_sound
from redaction.plan_json import plan_from_json
from storage.db import custody, items, jobs, releases
from storage.db.custody import Happening
from storage.db.doubts import note_doubts
from storage.db.jobs import Wanted
from storage.db.plans import plan_in_force
from storage.db.release_tables import CheckFailure
from storage.db.tables import Agency, Derivative, Item, RedactionPlanRow
from storage.hiding import hold_sessions, placed_in
from transcode.stills import make_poster
from workers.context import WORKER, JobContext, Made, Outcome
from workers.derivatives import put_derivative, want_followers, withdraw

CHECK_FAILED = "redaction_check_failed"
FINDINGS_KEPT = 1000
"""Of a check that failed, for whoever decides; of more nobody can let pass what there is."""


def redact(context: JobContext) -> Outcome:
    """Find what must not be shown in every frame, and propose the first plan."""
    source, item = _source(context)
    models_dir = context.settings.redaction.models_dir.resolve()
    for name in context.settings.redaction.models_in_use():
        load_model(models_dir, name)
    destination = context.scratch / "plan.json"
    entry = "propose_photo_entry" if item.media_kind == MediaKind.PHOTO else "propose_entry"
    facts = sandbox.call(
        f"redaction.detect:{entry}",
        {
            "source": str(context.local_path(source.store_key)),
            "destination": str(destination.resolve()),
            "item_id": str(item.id),
            "models_dir": str(models_dir),
            "threads": context.settings.redaction.threads,
            "parameters": context.settings.redaction.as_parameters(),
            "own_models": context.settings.redaction.own_as_parameters(),
        },
        limits=context.limits,
        on_progress=context.progress,
        cancelled=context.is_cancelled,
        scratch=context.scratch,
    )
    plan: dict[str, Any] = json.loads(destination.read_bytes())

    def commit(session: Session, agency: Agency) -> None:
        now = context.storage.clock.now()
        hold_sessions(session, agency.id, item.id)
        found = items.item_by_id(session, agency.id, item.id, lock=True)
        if items.newest_plan(session, agency.id, item.id) is not None:
            return
        placed = placed_in(session, agency.id, found.id, int(source.info.get("duration_us") or 0))
        hidden = in_plan(plan, placed) if placed else None
        if hidden is not None:
            # Kept only if it can be read again.
            plan_from_json(hidden)
        row = RedactionPlanRow(
            agency_id=agency.id,
            item_id=item.id,
            number=1,
            plan_sha256=hash_file(destination).sha256
            if hidden is None
            else sha256(canonical_json(hidden)).digest(),
            plan=plan if hidden is None else hidden,
            author=WORKER,
            made_at=now,
        )
        session.add(row)
        note_doubts(session, agency.id, item.id, row.number, open_doubts(row.plan))
        found.redaction = str(move(Redaction(found.redaction), Redaction.PROPOSED))
        said = {
            "plan": 1,
            "plan_sha256": row.plan_sha256.hex(),
            "source_sha256": source.sha256.hex(),
            "tracks": int(str(facts["track_count"])),
            "doubtful": int(str(facts["doubtful_count"])),
            "session_masks": len(placed),
            "coverage": plan["coverage"],
            "models": plan["models"],
        }
        custody.record(
            session,
            agency,
            Happening(Action.REDACTION_PLAN_PROPOSED, "item", str(item.id), WORKER, said),
            now,
        )
        if int(str(facts["doubtful_count"])):
            items.flag(
                found,
                "redaction_doubtful",
                "有存疑处已遮挡,请人工查看 / redaction: parts are masked in doubt; a person should look",
            )
        want_render(session, agency, source, row, now)

    counts = {"tracks": facts["track_count"], "frames": facts["frame_count"]}
    return Outcome(commit, [(Topic.ITEM, str(item.id), "redaction_proposed", counts)])


def want_render(
    session: Session, agency: Agency, source: Derivative, plan: RedactionPlanRow, now: datetime
) -> None:
    """Want the masked rendition of a plan version."""
    params = {"derivative": str(source.id), "plan": plan.number}
    jobs.want(session, agency.id, Wanted("render", "media", plan.item_id, plan.plan_sha256, params, 38), now)


def render(context: JobContext) -> Outcome:
    """Render a plan version and check the output; what passes takes the place of what was shown before."""
    source, item = _source(context)
    with context.storage.database.read() as session:
        number = int(context.lease.params["plan"])
        plan = items.plan_by_number(session, context.agency.id, item.id, number)
        wanted = _versions_wanted(session, context.agency, item)
    if plan.number not in wanted:
        return Outcome(lambda _session, _agency: None)
    is_photo = item.media_kind == MediaKind.PHOTO
    output = context.scratch / ("redacted.jpg" if is_photo else "redacted.mp4")
    plan_path = context.scratch / "plan.json"
    plan_path.write_text(json.dumps(plan.plan), encoding="utf-8")
    request: dict[str, object] = {
        "source": str(context.local_path(source.store_key)),
        "plan_path": str(plan_path.resolve()),
        "destination": str(output.resolve()),
    }
    entry = "redact_photo_entry" if is_photo else "render_entry"
    if not is_photo:
        request["made"] = {"sha256": source.sha256.hex(), "params": source.params}
    facts = _child(context, f"redaction.render:{entry}", request, 0.0, 0.7)
    check = "check_photo_entry" if is_photo else "check_entry"
    settings = context.settings.redaction
    looking = {
        "output": str(output.resolve()),
        "models_dir": str(settings.models_dir.resolve()),
        "check_permille": round(settings.check_score * 1000),
    }
    report = _child(context, f"redaction.check:{check}", {**request, **looking}, 0.7, 1.0)
    if report["findings"]:
        with context.storage.database.read() as session:
            failure = releases.check_failure(session, context.agency.id, item.id, plan.number)
        if not is_let_pass(report, failure):
            return _check_failed(context, item, plan, report)
    return _checked(context, item, source, plan, output, facts, report)


def _child(
    context: JobContext, entry: str, request: dict[str, object], begin: float, end: float
) -> dict[str, object]:
    return sandbox.call(
        entry,
        request,
        limits=context.limits,
        on_progress=lambda fraction: context.progress(begin + fraction * (end - begin)),
        cancelled=context.is_cancelled,
        scratch=context.scratch,
    )


def _checked(
    context: JobContext,
    item: Item,
    source: Derivative,
    plan: RedactionPlanRow,
    output: Path,
    facts: dict[str, object],
    report: dict[str, object],
) -> Outcome:
    is_photo = item.media_kind == MediaKind.PHOTO
    info: dict[str, Any] = {
        "plan": plan.number,
        "coverage": plan.plan["coverage"],
        **_overridden(report),
        "duration_us": source.info.get("duration_us"),
        "frame_count": source.info.get("frame_count"),
        "width_px": source.info.get("width_px"),
        "height_px": source.info.get("height_px"),
    }
    poster: Made | None = None
    still_info: dict[str, int] = {}
    if not is_photo:
        index = index_fragments(output)
        if index is None:
            raise MediaError(f"item {item.id}: expected fragments in the redacted rendition, found none")
        info |= {"index": index.to_json(), "codecs": index.codecs, "bitrate_bps": index.bitrate_bps,
                 "peak_bitrate_bps": index.peak_bitrate_bps, "frame_count": index.frame_count,
                 "duration_us": int(index.duration * 1_000_000)}  # fmt: skip
        if item.media_kind == MediaKind.AUDIO:
            treatment = treatment_of_sound(
                plan_from_json(plan.plan), len(index.tracks), ceil(index.duration * 1_000_000)
            )
            info["coverage"] = {**info["coverage"], SOUND_ALONE: treatment}
        if item.media_kind == MediaKind.VIDEO:
            still = make_poster(
                output,
                index,
                context.scratch / "poster.jpg",
                scratch=context.scratch,
                limits=context.limits,
                cancelled=context.is_cancelled,
            )
            poster, still_info = context.keep_derivative(still.path), still.info
    made = context.keep_derivative(output)
    params = {
        "plan": plan.number,
        "plan_sha256": plan.plan_sha256.hex(),
        "source_sha256": source.sha256.hex(),
        "models": plan.plan["models"],
        "renderer": "liuhen-render/3",
    }

    def commit(session: Session, agency: Agency) -> None:
        now = context.storage.clock.now()
        found = items.item_by_id(session, agency.id, item.id, lock=True)
        wanted = _versions_wanted(session, agency, item)
        if plan.number not in wanted:
            # Somebody amended the plan while this was rendered: nothing of it may be shown.
            raise Conflict(f"plan {plan.number}: expected one of {sorted(wanted)}, found it superseded")
        awaits = items.plan_by_number(session, agency.id, item.id, plan.number).awaits_approval
        for old in items.derivatives_of(session, agency.id, item.id):
            # What is served hides more than a version that awaits approval, and goes on being served.
            follows = old.params.get("rendition_sha256") == made.sha256.hex()
            if old.masked and old.kind != "clip" and not follows and not awaits:
                withdraw(session, agency, old, f"plan {plan.number}", now)
        kind = "redacted_photo" if is_photo else "redacted"
        content_type = "image/jpeg" if is_photo else "video/mp4"
        row = put_derivative(
            session, context, item.id, kind, params, made,
            info=info, masked=True, content_type=content_type, awaits_approval=awaits,
        )  # fmt: skip
        if not is_photo:
            want_followers(session, agency.id, row, now)
        if poster is not None:
            put_derivative(
                session, context, item.id, "redacted_poster", params, poster,
                info=still_info, masked=True, content_type="image/jpeg", awaits_approval=awaits,
            )  # fmt: skip
        if plan.number == max(wanted):
            items.unflag(found, CHECK_FAILED)
        if not awaits:
            found.redaction = str(move(Redaction(found.redaction), Redaction.CHECKED))
        said = {"plan": plan.number, "sha256": made.sha256.hex(), "frames": info["frame_count"],
                "masked_frames": int(str(facts.get("masked_frame_count", 0))),
                "kept_frames": int(str(facts.get("kept_frame_count", 0))),
                "checked_frames": report["frame_count"], "checked_regions": report["region_count"],
                "worst_difference": report["worst_difference"], "looked": report["looked"],
                "awaits_approval": awaits, **_overridden(report)}  # fmt: skip
        custody.record(
            session, agency, Happening(Action.REDACTION_CHECKED, "item", str(item.id), WORKER, said), now
        )

    return Outcome(commit, [(Topic.ITEM, str(item.id), "redacted", {"plan": plan.number})])


def _versions_wanted(session: Session, agency: Agency, item: Item) -> set[int]:
    """The versions to render: the newest, and the one that is served while the newest awaits approval.

    That one only where it hides whatever the newest does: what somebody hid is not shown for as long as
    another decision of the same version is waited for.
    """
    newest = items.newest_plan(session, agency.id, item.id)
    in_force = plan_in_force(session, agency.id, item.id)
    if newest is None:
        return set()
    if in_force is None or reveals(plan_from_json(newest.plan), plan_from_json(in_force.plan)):
        return {newest.number}
    return {newest.number, in_force.number}


def _findings(report: Mapping[str, object]) -> list[dict[str, Any]]:
    found = report["findings"]
    return found if isinstance(found, list) else []


def _codes(report: Mapping[str, object]) -> list[str]:
    """Codes of all findings, each once; past those that are listed nobody knows what others there are."""
    findings = _findings(report)
    codes = {str(found["code"]) for found in findings}
    return sorted(codes if report["finding_count"] == len(findings) else codes | {"more"})


def is_let_pass(report: Mapping[str, object], failure: CheckFailure | None) -> bool:
    """Whether all that the check found is what somebody let pass by name: the same, at the same place."""
    findings = _findings(report)
    if failure is None or failure.overridden_at is None or report["finding_count"] != len(findings):
        return False
    return all(any(_is_same(found, each) for each in failure.findings) for found in findings)


def _is_same(found: Mapping[str, Any], passed: Mapping[str, Any]) -> bool:
    if any(found.get(name) != passed.get(name) for name in ("code", "pts", "stream", "track")):
        return False
    if "box" not in found or "box" not in passed:
        # Which second of a voice is most like itself is chance, anew with each rendering.
        return "box" not in found and "box" not in passed
    (left, top, right, bottom), (x0, y0, x1, y1) = found["box"], passed["box"]
    return bool(x0 <= (left + right) / 2 <= x1 and y0 <= (top + bottom) / 2 <= y1)


def _overridden(report: Mapping[str, object]) -> dict[str, list[str]]:
    """What the check found and somebody lets pass by name; nothing where it passed."""
    codes = _codes(report)
    return {"overridden": codes} if codes else {}


def _check_failed(
    context: JobContext, item: Item, plan: RedactionPlanRow, report: dict[str, object]
) -> Outcome:
    findings, codes = _findings(report), _codes(report)
    lines = [f"{found['zh']} / {found['en']}" for found in findings]
    seen = told(findings, plan_from_json(plan.plan))

    def commit(session: Session, agency: Agency) -> None:
        found = items.item_by_id(session, agency.id, item.id, lock=True)
        if plan.number == max(_versions_wanted(session, agency, item), default=plan.number):
            items.unflag(found, CHECK_FAILED)
        message = f"redaction of plan {plan.number}: {lines[0]}; amend the plan"
        items.flag(found, CHECK_FAILED, message, findings=seen)
        failure = releases.check_failure(session, agency.id, item.id, plan.number, lock=True)
        if failure is None:
            failure = CheckFailure(agency_id=agency.id, item_id=item.id, plan_number=plan.number)
            session.add(failure)
        failure.codes, failure.findings = codes, findings[:FINDINGS_KEPT]
        failure.finding_count = int(str(report["finding_count"]))
        failure.found_at = context.storage.clock.now()
        # Whoever let something pass has not seen this.
        failure.overridden_codes = failure.overridden_at = None
        failure.overridden_by = failure.override_reason = None
        said = {"plan": plan.number, "findings": codes, "count": report["finding_count"]}
        custody.record(
            session,
            agency,
            Happening(Action.REDACTION_CHECK_FAILED, "item", str(item.id), WORKER, said),
            context.storage.clock.now(),
        )

    return Outcome(commit, [(Topic.ITEM, str(item.id), "redaction_check_failed", {"plan": plan.number})])


def _source(context: JobContext) -> tuple[Derivative, Item]:
    with context.storage.database.read() as session:
        source = items.derivative_by_id(session, context.agency.id, UUID(context.lease.params["derivative"]))
        return source, items.item_by_id(session, context.agency.id, source.item_id)
