"""Taking something away: a clip or a picture is asked for; its right is decided, job and leaf are written.

The bytes are made by a worker (`workers.tasks.clips`); what is said of them here rests on rows alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from api.auth.capability import Use, mint
from api.auth.rights import Reach, Span, release_needed
from api.desk import Work
from api.issuing import REACHES, Variant, check_span, require_reason
from api.resolving import CLIPS, index_of, local_path, redacted_in_force
from api.schemas.taking import ClipShown
from evidence.access import Act, require
from evidence.case import normalise_case_no
from evidence.clock import to_micros
from evidence.custody import Action
from evidence.errors import Conflict, InvalidInput, NotFound, NotPermitted
from evidence.item import Custody
from evidence.kinds import PURPOSE_WORDS, MediaKind, RetrievalPurpose
from evidence.release import Recipient, ReleaseState
from ingest.placement import placements_of
from storage.db import accounts, cases, clips, items, jobs, releases
from storage.db.clip_tables import Clip
from storage.db.jobs import wanted_by_people
from storage.db.release_tables import Release
from storage.db.tables import Case, Derivative, Item
from transcode.picture import picture_at, picture_of_number

FORMS: Mapping[str, Literal["file", "picture", "part"]] = {
    "file": "file",
    "picture": "picture",
    "part": "part",
}


def case_named(work: Work, case_id: UUID | None, case_no: str | None) -> Case:
    """The case of that id, or of that number in any spelling.

    Raises:
        NotFound: There is none (``case_not_found``).
    """
    if case_id is not None:
        return cases.case_by_id(work.session, work.agency_id, case_id)
    found = cases.case_by_key(work.session, work.agency_id, normalise_case_no(case_no or ""))
    if found is None:
        raise NotFound("case: expected one of the register, found none of that number", code="case_not_found")
    return found


@dataclass(frozen=True)
class Taking:
    """For what, and how, something is taken away."""

    case: Case
    variant: Variant
    purpose: RetrievalPurpose
    reason: str | None
    marked: bool
    time_of_day: bool
    release: Release | None = None
    """To a party, for whom it is taken away."""

    def require(self, work: Work) -> None:
        """Raise unless all is said that must be.

        Raises:
            InvalidInput: A reason is asked for (``reason_missing``).
            NotPermitted: It is to be without a mark, and may not be.
        """
        require_reason(self.variant, self.reason)
        if not self.marked:
            require_may_be_unmarked(work, self.reason)


def want_picture(work: Work, item: Item, taking: Taking, *, at_us: int | None, frame: int | None) -> Clip:
    """One picture of an item, to be made by a worker.

    Raises:
        NotPermitted, NotFound, Conflict, InvalidInput: No right to it, or nothing there to take it from.
    """
    # The right comes first: nobody else learns how many pictures there are, or when.
    reach = reach_of(work, item, taking)
    source = source_of(work, item, taking.variant)
    path, index = local_path(work.storage, source.store_key), index_of(source)
    try:
        shown = (
            picture_at(path, index, at_us)
            if at_us is not None
            else picture_of_number(path, index, frame or 0)
        )
    except InvalidInput as error:
        if error.code == "picture_outside" and reach.spans is not None:
            # How many there are is said to whoever may see all of them.
            raise NotPermitted(
                "picture: expected one inside what may be seen, found none there", code="span_not_permitted"
            ) from error
        raise
    reach.choose(check_span(item, shown.span_us))
    named = {"frame": shown.number, "pts": shown.pts}
    return write_clip(work, item, taking, source, shown.span_us, "picture", named)


def want_clip(work: Work, item: Item, taking: Taking, asked: Span | None) -> Clip:
    """A span of an item, to be cut by a worker.

    Raises:
        NotPermitted, NotFound, Conflict, InvalidInput: No right to it, or nothing there to cut it from.
    """
    span = reach_of(work, item, taking).choose(check_span(item, asked))
    source = source_of(work, item, taking.variant)
    length = int(source.info.get("duration_us") or item.duration_us or 0)
    return write_clip(work, item, taking, source, span or (0, max(length, 1)), "file")


def reach_of(work: Work, item: Item, taking: Taking) -> Reach:
    """What of an item may be taken away.

    Raises:
        NotPermitted, NotFound, Conflict: Nothing of it.
        InvalidInput: It is a photo (``clip_of_photo``).
    """
    if item.media_kind == MediaKind.PHOTO:
        raise InvalidInput(
            "clip: expected video or sound, found a photo; ask for a grant", code="clip_of_photo"
        )
    return REACHES[taking.variant](work, item, taking.case)


def write_clip(
    work: Work,
    item: Item,
    taking: Taking,
    source: Derivative,
    span: Span,
    form: Literal["file", "picture", "part"],
    named: Mapping[str, int] | None = None,
    seat: tuple[UUID, int] | None = None,
) -> Clip:
    """The row, the job and the leaf of a clip whose right was looked at in this transaction.

    A part of a composite has no job of its own.

    Args:
        named: Which picture it is.
        seat: The set it is asked for with, and its number there.
    """
    release = taking.release
    if release is None and taking.variant is Variant.REDACTED:
        release = release_needed(work, item, taking.case)
    clip = clips.add_clip(
        work.session,
        work.agency_id,
        account_id=work.actor.account_id,
        item_id=item.id,
        case_id=taking.case.id,
        form=form,
        marked=taking.marked,
        variant=str(taking.variant),
        span_us=span,
        purpose=str(taking.purpose),
        reason=taking.reason,
        now=work.now,
        seat=seat,
        release_id=release.id if release is not None else None,
    )
    if form != "part":
        params: dict[str, Any] = {"derivative": str(source.id), **(named or {})}
        params["mark"] = mark_of(work, taking, f"clip {clip.id}")
        if taking.time_of_day:
            params["clock_us"] = _clock_us(work, item, clip)
        # Into what nothing is drawn is copied, but for its edges.
        is_drawn = form == "file" and (taking.marked or taking.time_of_day)
        footage = timedelta(microseconds=span[1] - span[0] if is_drawn else 0)
        wanted = wanted_by_people("clip", clip.id, source.sha256, params, footage)
        jobs.want(work.session, work.agency_id, wanted, work.now)
    facts = {
        "clip": str(clip.id),
        "form": clip.form,
        "marked": clip.marked,
        "variant": clip.variant,
        "purpose": clip.purpose,
        "case": str(clip.case_id),
        "span_us": list(span),
        "source_sha256": source.sha256.hex(),
    }
    if seat is not None:
        facts["set"] = str(seat[0])
    if clip.release_id is not None:
        facts["release"] = str(clip.release_id)
    work.record(
        Action.GRANT_ISSUED, "item", item.id, facts, {"reason": taking.reason} if taking.reason else None
    )
    return clip


def require_may_be_unmarked(work: Work, reason: str | None) -> None:
    """Raise unless the actor may take something away without a mark in it.

    Raises:
        NotPermitted: Nobody here may (``unmarked_not_permitted``), or the actor's roles may not.
        InvalidInput: No reason (``reason_missing``).
    """
    require(work.actor, Act.TAKE_UNMARKED)
    if not work.settings.media.unmarked_clips:
        raise NotPermitted(
            "mark: expected media.unmarked_clips to allow its absence, found it does not; leave marked out",
            code="unmarked_not_permitted",
        )
    if not reason:
        raise InvalidInput(
            "mark: expected a reason to leave it out, found none; say why", code="reason_missing"
        )


def source_of(work: Work, item: Item, variant: Variant) -> Derivative:
    """The rendition to cut from: the masked one, or the largest of the original."""
    if variant is Variant.REDACTED:
        return redacted_in_force(work.session, work.agency_id, item.id)
    made = items.derivatives_of(work.session, work.agency_id, item.id, kind="rendition")
    if not made:
        raise Conflict(
            f"item {item.id}: expected a rendition, found none yet; ask again", code="rendition_missing"
        )
    return max(made, key=lambda row: (row.info.get("height_px") or 0, row.id))


def _clock_us(work: Work, item: Item, clip: Clip) -> int:
    """What a clock of the agency's zone showed at the item's media time 0, as if the zone were UTC.

    Raises:
        Conflict: Nobody knows when the recording began (``capture_time_unknown``).
    """
    placed = placements_of(work.session, work.agency_id, [item], work.now).get(item.id)
    if placed is None:
        raise Conflict(
            f"item {item.id}: expected a time it was captured at, found none; leave time_of_day out",
            code="capture_time_unknown",
        )
    return local_us(work, placed.starts_at, timedelta(microseconds=clip.span_from_us))


def local_us(work: Work, at: datetime, shown_after: timedelta = timedelta()) -> int:
    """What a clock of the agency's zone shows at an instant, as if the zone were UTC.

    Args:
        shown_after: The first picture comes so much later; the zone's offset is the one of then.
    """
    shown = (at + shown_after).astimezone(ZoneInfo(work.agency.time_zone))
    return to_micros(at + (shown.utcoffset() or timedelta()))


def mark_of(work: Work, taking: Taking, named: str) -> list[dict[str, str]]:
    """The lines burnt in: case, viewer, time, purpose; Latin ones for where no Chinese font is.

    Args:
        named: What it is that is taken away, with its id.
    """
    if not taking.marked:
        return []
    viewer = accounts.account_by_id(work.session, work.agency_id, work.actor.account_id)
    at = work.now.astimezone(ZoneInfo(work.agency.time_zone)).strftime("%Y-%m-%d %H:%M:%S")
    purpose, case = taking.purpose, taking.case
    masked = taking.variant is Variant.REDACTED
    whose = {"text": f"{viewer.display_name}({viewer.username}){at}", "latin": f"account {viewer.id} {at}"}
    if taking.release is not None:
        given = f"release {taking.release.id} {at}"
        whose = {"text": f"提供给 {taking.release.to_party} {at}", "latin": given}
    return [
        {
            "text": f"{case.case_no} {'脱敏件' if masked else '原件'} {PURPOSE_WORDS[purpose]}",
            "latin": f"case {case.id} {taking.variant} {purpose}",
        },
        whose,
        {"text": named, "latin": named},
    ]


def clip_shown(work: Work, clip: Clip) -> ClipShown:
    """A clip as it stands."""
    row = (
        items.derivative_by_id(work.session, work.agency_id, clip.derivative_id)
        if clip.derivative_id is not None
        else None
    )
    job = clips.job_of(work.session, work.agency_id, clip.id)
    item = items.item_by_id(work.session, work.agency_id, clip.item_id)
    state: Literal["ready", "working", "failed", "withdrawn"] = "working"
    if row is not None:
        state = "ready" if row.withdrawn_at is None and _may_be_fetched(work, clip) else "withdrawn"
    elif job is not None and job.state in {"quarantined", "cancelled"}:
        state = "failed"
    ready = row is not None and state == "ready"
    return ClipShown(
        form=FORMS[clip.form],
        state=state,
        item_id=clip.item_id,
        clip_id=clip.id,
        grant=None,
        variant=Variant(clip.variant),
        span_us=(clip.span_from_us, clip.span_to_us),
        file_url=clip_url(work, clip) if ready and clip.form in CLIPS else None,
        sha256=row.sha256.hex() if row is not None and ready else None,
        size_bytes=row.size_bytes if row is not None and ready else None,
        progress_permille=1000 if ready else (job.progress_permille if job is not None else 0),
        quarantined=item.custody == Custody.QUARANTINED,
        reason="clip could not be cut; ask again" if state == "failed" else None,
    )


def _may_be_fetched(work: Work, clip: Clip) -> bool:
    """Whether the release it hangs on, if any, is in force."""
    if clip.release_id is None:
        return True
    release = releases.release_by_id(work.session, work.agency_id, clip.release_id)
    return releases.state_of(work.session, release, work.now) is ReleaseState.RELEASED


def clip_url(work: Work, clip: Clip) -> str:
    """Where a clip that was made is fetched."""
    ends = work.now + timedelta(seconds=work.settings.media.grant_s)
    if clip.release_id is not None:
        release = releases.release_by_id(work.session, work.agency_id, clip.release_id)
        until = release.expires_at or ends
        # What goes to a party is fetched in its time, not in ours.
        ends = until if release.to_kind == Recipient.PARTY else min(ends, until)
    token = mint(work.storage.keys, Use.CLIP, work.agency_id, clip.id, ends)
    return f"{work.settings.media_url}/m/{token}/{CLIPS[clip.form]}"
