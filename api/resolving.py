"""From a grant to bytes, anew for each request, so that an address never changes and ends when it must.

What a grant opens is decided by its variant and by `derivative.masked`, both of the database; a name in
an address only picks among what is open. While a rendition is being made, holders of the right to the
original get the file that grows, up to its last settled fragment.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from uuid import UUID

from sqlalchemy.orm import Session

from api.auth.capability import Use, mint
from api.auth.rights import Asker, actor_of, require_showable
from api.desk import Installation
from api.issuing import Variant, permitted_span
from api.ranges import ByteRange
from api.telling import Ladder, Rung, limits_told
from evidence.access import Act, may
from evidence.errors import Conflict, InvalidInput, MediaError, NotFound, NotPermitted, Unavailable
from media.fmp4 import FragmentIndex
from media.report import ProbeReport
from storage.db import cases, clips, grants, items, releases
from storage.db.clip_tables import Clip, ClipSet
from storage.db.plans import held_back
from storage.db.tables import Derivative, Grant, Item, Job
from storage.open import Storage
from transcode.captions import Caption
from transcode.ladder import can_copy_video
from transcode.names import SUFFIXES, WAYFINDING, address_name
from transcode.plan import PREVIEW
from transcode.playlist import SAFE_LIMIT_S, Listing, Part, seam_of, segments_of
from transcode.playlist import Span as ShownSpan
from transcode.segment import LIMIT, growing_file, growing_index

ORIGINAL = "original"
DAMAGE = frozenset({"corrupt", "timestamps_jump"})
"""Flags of footage that `transcode.ladder` might not have copied, had all of it been read."""
CLIPS = {"file": "clip.mp4", "picture": "picture.png"}
"""By form, how what is taken away is named in its address."""
CLIP_SET, COMPOSITE = "clips.zip", "composite.mp4"
FRAGMENTS_KEPT = 300_000
"""Of all indexes that are kept together, with what lists say of them: 160 hours, some 180 MB at most."""
GROWING_KEPT, REACHED_KEPT = 4, 4096
"""Indexes of what grows, and how far what grows was told."""
SPANS_KEPT = 64
"""Of one rendition, with what may be read of each."""

_NAMED = re.compile(r"([a-z_]{1,40})-([0-9a-f]{16})\.[a-z0-9]{3,4}")
_RUNG = re.compile(r"rendition-([A-Za-z0-9_]{1,24})\.mp4")
_STILL = re.compile(r"(poster|photo)\.jpg|(track)\.geojson")


@dataclass(frozen=True)
class Servable:
    """Bytes the listener may send."""

    path: Path
    size_bytes: int
    content_type: str
    sha256: bytes | None
    """None while the file grows: its size and digest are not known yet."""
    allowed: tuple[ByteRange, ...] | None = None
    """What may be read of it; None is all."""
    download_name: str | None = None
    store_key: str | None = None
    """None while the file grows."""
    derivative_id: UUID | None = None
    """None for an original, and for what grows."""
    kind: str | None = None


def masked_name(row: Derivative) -> str:
    """The name of a masked derivative, or of what helps to find one's way, in an address."""
    return address_name(row.kind, row.sha256)


def named(name: str) -> tuple[str, str] | None:
    """Kind and beginning of the digest that a name in an address is made of; None where it is none such."""
    found = _NAMED.fullmatch(name)
    if found is None or not name.endswith(f".{SUFFIXES.get(found[1], '-')}"):
        return None
    return found[1], found[2]


def is_rung(name: str) -> bool:
    """Whether a name in an address is of a rendition of the original."""
    return _RUNG.fullmatch(name) is not None


def rung_name(row: Derivative) -> str:
    """The rung a finished rendition is of, as addresses and the jobs of renditions name it."""
    return _kept(row).rung


def newest(session: Session, agency_id: UUID, item_id: UUID, kind: str) -> Derivative | None:
    """The derivative of that kind that is served now."""
    made = items.derivatives_of(session, agency_id, item_id, kind=kind, light=True)
    return made[-1] if made else None


def redacted_in_force(session: Session, agency_id: UUID, item_id: UUID, kind: str = "redacted") -> Derivative:
    """The masked rendition that is served now.

    Raises:
        Conflict: It is not there yet (``redaction_pending``).
    """
    row = newest(session, agency_id, item_id, kind)
    if row is None or not row.masked:
        raise Conflict(
            f"item {item_id}: expected a masked rendition, found none yet; ask again when it is made",
            code="redaction_pending",
        )
    return row


def all_awaiting(session: Session, agency_id: UUID, item_id: UUID) -> list[Derivative]:
    """Everything that was made from the newest plan and waits for its approval, oldest first."""
    newest_plan = items.newest_plan(session, agency_id, item_id, light=True)
    if newest_plan is None or not newest_plan.awaits_approval:
        return []
    return held_back(session, agency_id, item_id, newest_plan.number)


def awaiting_approval(
    session: Session, agency_id: UUID, item_id: UUID, kind: str = "redacted"
) -> Derivative | None:
    """What was made from the newest plan and waits for its approval; None where nothing does."""
    held = [row for row in all_awaiting(session, agency_id, item_id) if row.kind == kind]
    return held[-1] if held else None


def ladder_of(session: Session, storage: Storage, grant: Grant, item: Item | None = None) -> Ladder:
    """What can be played under a grant.

    Args:
        item: Of the grant, where it was read in this transaction.

    Raises:
        Conflict: The masked rendition is not there yet.
        NotFound: No rendition was made, and none is being made.
    """
    if grant.variant != Variant.ORIGINAL:
        require_showable(item or items.item_by_id(session, grant.agency_id, grant.item_id))
        releases.require_of(session, grant, storage.clock.now())
        if grant.variant == Variant.AWAITING:
            row = _awaiting(session, grant, "redacted")
        else:
            row = redacted_in_force(session, grant.agency_id, grant.item_id)
        return Ladder((_rung(row, masked_name(row), "redacted"),), frozenset({"redacted"}))
    rungs = {}
    for row in items.derivatives_of(session, grant.agency_id, grant.item_id, kind="rendition", light=True):
        name = rung_name(row)
        rungs[name] = _rung(row, f"rendition-{name}.mp4", name)
    wanted = grants.rendition_jobs(session, grant.agency_id, grant.item_id)
    rungs |= _preview(session, grant, rungs)
    for job, name in [(each, str(rung)) for each in wanted for rung in each.params["rungs"]]:
        growing = _growing(storage, job, name) if name not in rungs else None
        if growing is not None and segments_of(growing.index, None, strict=False, is_growing=True):
            rungs[name] = growing
    if not rungs and limits_told(grant) and any(job.state != "done" for job in wanted):
        raise settling()
    if not rungs:
        raise NotFound(
            f"item {grant.item_id}: expected a rendition, found none yet; ask again", code="rendition_missing"
        )
    names = set(rungs) | {str(name) for job in wanted if job.state != "done" for name in job.params["rungs"]}
    of_item = item or items.item_by_id(session, grant.agency_id, grant.item_id)
    return Ladder(tuple(rungs.values()), frozenset(names), _is_damaged(of_item))


def _is_damaged(item: Item) -> bool:
    """Whether its picture would not be copied, now that all of it was read.

    Damage to the sound, to other streams, or to packets that no copy has, does not come to that.
    """
    if item.probe is None or not any(flag["code"] in DAMAGE for flag in item.flags):
        return False
    video = ProbeReport.from_json(item.probe).video
    return video is not None and not can_copy_video(video)


def _rung(row: Derivative, file_name: str, name: str) -> Rung:
    kept = _kept(row)
    return Rung(
        name, file_name, index_of(row), row.sha256, limit_s=kept.limit_s, made_at=row.made_at,
        listing=kept.listing,
    )  # fmt: skip


def _preview(session: Session, grant: Grant, made: Mapping[str, Rung]) -> dict[str, Rung]:
    """The beginning of a long recording, while its chunks are made: it is told as what still grows.

    To whom it was told it stays, and goes on by the rung that it is the beginning of.
    """
    row = _preview_row(session, grant)
    if row is None:
        return {}
    then = next((rung for rung in made.values() if not rung.is_copied), None)
    shown = _rung(row, f"rendition-{PREVIEW}.mp4", PREVIEW)
    is_growing = row.withdrawn_at is None and then is None
    return {PREVIEW: replace(shown, sha256=None, made_at=None, is_growing=is_growing, then=then)}


def _preview_row(session: Session, grant: Grant) -> Derivative | None:
    was_told = PREVIEW in limits_told(grant)
    rows = grants.derivatives_ever(session, grant.agency_id, grant.item_id, PREVIEW)
    return next((each for each in reversed(rows) if was_told or each.withdrawn_at is None), None)


def shown_span(grant: Grant) -> ShownSpan | None:
    """The grant's span in whole milliseconds, rounded inward."""
    if grant.span_from_us is None or grant.span_to_us is None:
        return None
    return ShownSpan(-(-grant.span_from_us // 1000), grant.span_to_us // 1000)


def parts_of(
    installation: Installation,
    grant: Grant,
    rung: Rung,
    started_at: datetime | None,
    captions: Sequence[Caption] = (),
) -> list[Part]:
    """A rung as a grant shows it: its bytes at the media listener, its span to the letter."""
    keys, span = installation.storage.keys, shown_span(grant)
    media = mint(keys, Use.MEDIA, grant.agency_id, grant.id, grant.expires_at)
    found: list[Part] = []
    since: Fraction | None = None
    shown: Rung | None = rung
    while shown is not None:
        url = f"{installation.settings.media_url}/m/{media}/{shown.file_name}"
        found.append(
            Part(
                shown.index, url, span, span is not None, started_at, shown.is_growing, since,
                shown.is_copied, shown.listing, captions,
            )
        )  # fmt: skip
        if shown.then is not None:
            since = seam_of(shown.then.index, shown.index.duration)
        shown = shown.then
    return found


def resolve_grant(session: Session, storage: Storage, grant: Grant, name: str) -> Servable:
    """The bytes a name means under a grant.

    Raises:
        NotFound: Nothing of that name under this grant; ``derivative_withdrawn`` where there was.
        NotPermitted: A still or a whole file under a grant of a span.
        Unavailable: A rendition is just changing places (``rendition_settling``).
        Conflict: A masked rendition of an item that is not verified any more.
    """
    by_digest = named(name)
    if by_digest is not None and grant.variant != Variant.ORIGINAL:
        require_showable(items.item_by_id(session, grant.agency_id, grant.item_id))
        releases.require_of(session, grant, storage.clock.now())
        if grant.variant == Variant.AWAITING:
            row = _awaiting(session, grant, by_digest[0], name)
        else:
            row = _by_digest(session, grant, *by_digest, masked=True)
        return _of_derivative(storage, row, grant)
    if grant.variant != Variant.ORIGINAL:
        raise _nothing()
    if by_digest is not None and by_digest[0] in WAYFINDING:
        return _of_derivative(storage, _by_digest(session, grant, *by_digest, masked=False), grant)
    if name == ORIGINAL:
        return _original(session, storage, grant)
    still = _STILL.fullmatch(name)
    if still is not None:
        found = newest(session, grant.agency_id, grant.item_id, still[1] or still[2])
        if found is None:
            raise _nothing()
        return _of_derivative(storage, found, grant)
    rung = _RUNG.fullmatch(name)
    if rung is None:
        raise _nothing()
    return _rendition(session, storage, grant, rung[1])


def resolve_clip(session: Session, storage: Storage, agency_id: UUID, clip_id: UUID, name: str) -> Servable:
    """The file of a clip that was cut, or of a picture that was taken.

    Whether its holder may have it is asked again each time: a binding may have ended since, a case may have
    changed hands, a role may have been taken away.

    Raises:
        NotFound: Not cut yet, withdrawn since, or its holder's right has ended (``grant_ended``).
    """
    clip = clips.clip_by_id(session, agency_id, clip_id)
    if clip.derivative_id is None or name != CLIPS.get(clip.form):
        raise _nothing()
    if not may_still_have(session, storage, [clip]):
        raise NotFound("clip: expected a holder with the right to it, found it ended", code="grant_ended")
    releases.require_of(session, clip, storage.clock.now())
    return _taken(session, storage, agency_id, clip.derivative_id, name.replace(".", f"-{clip.id}."))


def resolve_clip_set(
    session: Session, storage: Storage, agency_id: UUID, set_id: UUID, name: str
) -> Servable:
    """The file of a set that was made: of each clip in it is asked again whether its holder may have it.

    Raises:
        NotFound: Not made yet, a clip was withdrawn since, or what a part of a composite is shown from, or
            its holder's right to one has ended.
    """
    held = clips.set_by_id(session, agency_id, set_id)
    if held.derivative_id is None or name != clip_set_name(held):
        raise _nothing()
    # All at once: it is asked again every second while a file of gigabytes is sent.
    members = clips.clips_of_set(session, agency_id, set_id)
    if not may_still_have(session, storage, members):
        raise NotFound("clip set: expected a right to each clip, found one ended", code="grant_ended")
    for each in members:
        releases.require_of(session, each, storage.clock.now())
    for row in clips.withdrawn_of_set(session, agency_id, set_id):
        _require_served(row)
    for source_id in clips.source_ids_of(held).values():
        _require_served(items.derivative_by_id(session, agency_id, source_id))
    return _taken(session, storage, agency_id, held.derivative_id, name.replace(".", f"-{held.id}."))


def clip_set_name(row: ClipSet) -> str:
    """What the file of a set is called in its address."""
    return CLIP_SET if row.form == "zip" else COMPOSITE


def _taken(
    session: Session, storage: Storage, agency_id: UUID, derivative_id: UUID, download_name: str
) -> Servable:
    row = items.derivative_by_id(session, agency_id, derivative_id)
    _require_served(row)
    return Servable(
        local_path(storage, row.store_key), row.size_bytes, row.content_type, row.sha256, None, download_name,
        row.store_key,
    )  # fmt: skip


def may_still_have(session: Session, storage: Storage, taken: Sequence[Clip]) -> bool:
    """Whether the one who asked for these clips has the right to each of them now."""
    agency_id, account_id = taken[0].agency_id, taken[0].account_id
    if not grants.may_hold(session, agency_id, account_id):
        return False
    actor = actor_of(session, agency_id, account_id)
    if not all(clip.marked for clip in taken) and not may(actor, Act.TAKE_UNMARKED):
        return False
    asker = Asker(session, agency_id, actor, storage.clock.now())
    of_case = {each: cases.case_by_id(session, agency_id, each) for each in {clip.case_id for clip in taken}}
    of_item = {each: items.item_by_id(session, agency_id, each) for each in {clip.item_id for clip in taken}}
    try:
        for clip in taken:
            span = clip.span_from_us, clip.span_to_us
            permitted_span(asker, of_item[clip.item_id], Variant(clip.variant), of_case[clip.case_id], span)
    except (NotPermitted, NotFound, InvalidInput, Conflict):
        return False
    return True


def _nothing() -> NotFound:
    return NotFound("address: expected something under this grant, found nothing", code="nothing_here")


def _require_served(row: Derivative) -> None:
    if row.withdrawn_at is not None:
        raise NotFound(
            f"derivative {row.id}: expected in force, found withdrawn; ask again", code="derivative_withdrawn"
        )


def _awaiting(session: Session, grant: Grant, kind: str, name: str | None = None) -> Derivative:
    """What a grant of the awaiting variant shows: it ends with the approval, or a next version.

    Raises:
        NotFound: Nothing waits, or nothing yet (``derivative_withdrawn``), or nothing of that name.
    """
    held = [row for row in all_awaiting(session, grant.agency_id, grant.item_id) if row.kind == kind]
    if held and name is not None:
        held = [row for row in held if masked_name(row) == name]
        if not held:
            raise _nothing()
    if not held:
        raise NotFound(
            f"item {grant.item_id}: expected a rendition that awaits approval, found none; ask again",
            code="derivative_withdrawn",
        )
    return held[-1]


def _by_digest(session: Session, grant: Grant, kind: str, digest: str, *, masked: bool) -> Derivative:
    rows = grants.derivatives_ever(session, grant.agency_id, grant.item_id, kind)
    found = [row for row in rows if row.masked == masked and row.sha256.hex().startswith(digest)]
    if not found:
        raise _nothing()
    in_force = [row for row in found if row.withdrawn_at is None]
    _require_served((in_force or found)[-1])
    return in_force[-1]


def _of_derivative(storage: Storage, row: Derivative, grant: Grant) -> Servable:
    allowed = None
    if grant.span_from_us is not None:
        if _kept(row).index is None:
            # A still may show a moment outside the span, a route all of them.
            raise NotPermitted(
                "still: expected a grant of the whole item, found one of a span", code="span_not_permitted"
            )
        allowed = _kept_allowed(row, grant)
    return Servable(
        local_path(storage, row.store_key), row.size_bytes, row.content_type, row.sha256, allowed, None,
        row.store_key, row.id, row.kind,
    )  # fmt: skip


def _original(session: Session, storage: Storage, grant: Grant) -> Servable:
    if grant.span_from_us is not None:
        raise NotPermitted(
            "original: expected a grant of the whole item, found one of a span", code="span_not_permitted"
        )
    item = items.item_by_id(session, grant.agency_id, grant.item_id)
    held = items.object_of(session, item)
    return Servable(
        local_path(storage, held.store_key),
        held.size_bytes,
        "application/octet-stream",
        held.sha256,
        None,
        item.original_name,
        held.store_key,
    )


def _rendition(session: Session, storage: Storage, grant: Grant, name: str) -> Servable:
    made = items.derivatives_of(session, grant.agency_id, grant.item_id, kind="rendition", light=True)
    for row in reversed(made):
        if rung_name(row) == name:
            return _of_derivative(storage, row, grant)
    shown = _preview_row(session, grant) if name == PREVIEW else None
    if shown is not None:
        return replace(_of_derivative(storage, shown, grant), sha256=None)
    for job in grants.rendition_jobs(session, grant.agency_id, grant.item_id):
        if name not in job.params["rungs"] or job.state != "leased":
            continue
        growing = _growing(storage, job, name)
        path = _growing_folder(storage, job) / growing_file(name)
        if growing is None or not path.exists():
            # Between the last fragment and the row there is a moment without either.
            raise settling()
        allowed = _allowed(growing.index, grant) if grant.span_from_us is not None else None
        return Servable(path, growing.index.size_bytes, "video/mp4", None, allowed)
    raise _nothing()


def _allowed(index: FragmentIndex, grant: Grant) -> tuple[ByteRange, ...]:
    """The bytes of a span: what comes before the first fragment, and the fragments wholly inside it."""
    runs: list[ByteRange] = []
    for part in segments_of(index, shown_span(grant), strict=True):
        first, last = part.offset_bytes, part.offset_bytes + part.size_bytes - 1
        if runs and runs[-1].last + 1 == first:
            first = runs.pop().first
        runs.append(ByteRange(first, last))
    return (ByteRange(0, index.init_size_bytes - 1), *runs)


def _kept_allowed(row: Derivative, grant: Grant) -> tuple[ByteRange, ...]:
    """The same of a finished rendition: a player asks for thousands of ranges of one span."""
    spans = _kept(row).allowed
    key = (grant.span_from_us, grant.span_to_us)
    found = spans.get(key)
    if found is None:
        found = _allowed(index_of(row), grant)
        if len(spans) >= SPANS_KEPT:
            spans.clear()
        spans[key] = found
    return found


def local_path(storage: Storage, store_key: str) -> Path:
    """The file of an object.

    Raises:
        Unavailable: It is not on this machine (``store_not_local``).
    """
    path = storage.objects.path(store_key)
    if path is None:
        raise Unavailable("object: expected a local file, found a remote store", code="store_not_local")
    return path


def _growing_folder(storage: Storage, job: Job) -> Path:
    return storage.scratch / f"{job.id}-{job.fence}"


def _growing(storage: Storage, job: Job, name: str) -> Rung | None:
    """What is settled of what is made on this host; None where nothing is, or less than was told."""
    if job.state != "leased":
        return None
    path = _growing_folder(storage, job) / growing_index(name)
    try:
        state = path.stat()
        key = (path, state.st_ino, state.st_mtime_ns)
        with _lock:
            found = _settled.get(key)
        if found is None:
            said = json.loads(path.read_bytes())
            index, limit_s = FragmentIndex.from_json(said), said.get(LIMIT, SAFE_LIMIT_S)
            found = Rung(name, f"rendition-{name}.mp4", index, None, True, limit_s)
    except FileNotFoundError:
        return None
    with _lock:
        _settled[key] = found
        while len(_settled) > GROWING_KEPT:
            _settled.popitem(last=False)
        # After the death of a worker another begins anew; its bytes are the same, only not yet there.
        size, reached = found.index.size_bytes, _reached.pop((job.id, name), 0)
        _reached[job.id, name] = max(size, reached)
        while len(_reached) > REACHED_KEPT:
            _reached.popitem(last=False)
    return found if size >= reached else None


def settling() -> Unavailable:
    """A rendition is just changing places, or is made anew."""
    return Unavailable(
        "rendition: expected its bytes, found them moving; ask again", code="rendition_settling"
    )


def index_of(row: Derivative) -> FragmentIndex:
    """The fragment index of a finished rendition.

    Raises:
        MediaError: It has none.
    """
    index = _kept(row).index
    if index is None:
        raise MediaError(f"derivative {row.id}: expected a fragment index, found none; make it again")
    return index


@dataclass(frozen=True)
class _Kept:
    """What each range of a span and each refresh of a player asks of a row that never changes."""

    rung: str
    index: FragmentIndex | None
    listing: Listing | None = None
    limit_s: int = SAFE_LIMIT_S
    allowed: dict[tuple[int | None, int | None], tuple[ByteRange, ...]] = field(default_factory=dict)
    """The bytes of spans that were asked for, by microseconds."""


def _kept(row: Derivative) -> _Kept:
    key = (row.id, row.sha256)
    with _lock:
        known = _known.get(key)
        if known is not None:
            _known.move_to_end(key)
            return known
    stored = row.info.get("index")
    index = FragmentIndex.from_json(stored) if stored is not None else None
    listing = Listing(index) if index is not None else None
    limit_s = int(row.info.get(LIMIT, SAFE_LIMIT_S))
    found = _Kept(str(row.info.get("rung", "")), index, listing, limit_s)
    with _lock:
        _known[key] = found
        held = sum(_size(each) for each in _known.values())
        while held > FRAGMENTS_KEPT and len(_known) > 1:
            held -= _size(_known.popitem(last=False)[1])
    return found


def _size(kept: _Kept) -> int:
    # Those without an index are small, but not nothing.
    return 100 + (len(kept.index.fragments) if kept.index is not None else 0)


_known: OrderedDict[tuple[UUID, bytes], _Kept] = OrderedDict()
_settled: OrderedDict[tuple[Path, int, int], Rung] = OrderedDict()
_reached: OrderedDict[tuple[UUID, str], int] = OrderedDict()
_lock = threading.Lock()
