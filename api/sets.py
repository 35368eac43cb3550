"""Grant sets: one address over many items, of which each is decided by itself.

A set is no right. It only says which grants were asked for together and in which order; each grant is
issued for its own item by the asker's right to that item (invariant 7), leaves its own leaf, is revoked by
itself or with the set, and is looked at again at each request. What was not permitted is listed as left
out, never shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy.orm import Session

from api.auth.capability import Use, mint
from api.auth.rights import Span
from api.captions import captions_of
from api.desk import Installation, Work
from api.issuing import REACHES, Seated, Variant, require_reason, revoke_grant, write_grants
from api.resolving import ladder_of, parts_of
from api.telling import Ladder, Rung, first_of, has_to_tell, limits_told, start_told, started_at_of, tell
from evidence.errors import Conflict, EvidenceError, InvalidInput, NotFound, NotPermitted, Unavailable
from evidence.kinds import MediaKind, RetrievalPurpose
from ingest.placement import Placement, placements_of
from ingest.timeline import CaseTimeline, Entry
from storage.db import cases, grants, items
from storage.db.grants import Seat
from storage.db.tables import Case, Grant, GrantSet, Item
from storage.open import Storage
from transcode.captions import Caption
from transcode.playlist import Part
from transcode.synchrony import Aligned, align

MOST_MEMBERS = 500
MOST_LANES = 8
LONGEST_WINDOW = timedelta(hours=24)
KEYFRAME_REACH = timedelta(seconds=10)
"""How far around a window is granted, so that the keyframe before it can be shown."""
US = timedelta(microseconds=1)
PLAYABLE = frozenset({MediaKind.VIDEO, MediaKind.AUDIO})
MIXED = "mixed"
"""The list of a lane that has every item: of each the rung that was there first."""

Kind = Literal["recording", "aligned"]


@dataclass(frozen=True)
class Member:
    """An item that is asked for, and in which playlist of the set it stands."""

    item_id: UUID
    lane: int = 0
    near: Span | None = None
    """Microseconds of media time that are wanted; None: all that may be seen."""


@dataclass(frozen=True)
class Wanted:
    """For what somebody asks."""

    variant: Variant
    purpose: RetrievalPurpose
    reason: str | None
    case: Case | None


def issue_set(
    work: Work,
    kind: Kind,
    members: Sequence[Member],
    wanted: Wanted,
    window: tuple[datetime, datetime] | None = None,
) -> GrantSet:
    """Grants for what the actor may see of the members, in their order, and a list of what not.

    Raises:
        NotPermitted, Conflict, NotFound, InvalidInput: Nothing of any of them may be seen; as for the first.
        InvalidInput: ``set_too_large``.
    """
    require_reason(wanted.variant, wanted.reason)
    _require_few(len(members))
    held = items.lock_items(work.session, work.agency_id, [member.item_id for member in members])
    row = grants.add_set(
        work.session,
        work.agency_id,
        account_id=work.actor.account_id,
        kind=kind,
        variant=str(wanted.variant),
        window=window,
        now=work.now,
        expires_at=work.now + timedelta(seconds=work.settings.media.grant_s),
    )
    # The map of a window is told with the grants, and a clock that is read later must not move its lists.
    placed = placements_of(work.session, work.agency_id, held.values(), work.now) if window else {}
    left_out: list[dict[str, str | int]] = []
    first: EvidenceError | None = None
    given: list[Seated] = []
    for member in members:
        try:
            spans = _spans(work, held[member.item_id], member, wanted)
        except (NotPermitted, NotFound, Conflict, InvalidInput) as error:
            first = first or error
            left_out.append({"item_id": str(member.item_id), "lane": member.lane, "why": error.code})
            continue
        _require_few(len(given) + len(spans))
        for span in spans:
            told = start_told(placed.get(member.item_id))
            given.append(Seated(member.item_id, span, Seat(row.id, member.lane, len(given)), told))
    if not given and first is not None:
        raise first
    write_grants(work, wanted.variant, given, purpose=wanted.purpose, reason=wanted.reason, case=wanted.case)
    row.left_out = left_out
    return row


def _require_few(count: int) -> None:
    """A playlist is made anew of everything in its set each time, by whoever knows the address."""
    if count > MOST_MEMBERS:
        raise InvalidInput(
            f"set: expected at most {MOST_MEMBERS} items or spans of them, found {count}; "
            "ask for a shorter stretch",
            code="set_too_large",
        )


def _spans(work: Work, item: Item, member: Member, wanted: Wanted) -> list[Span | None]:
    if item.media_kind not in PLAYABLE:
        raise InvalidInput(
            f"item {item.id}: expected video or sound, found {item.media_kind}; ask for it by itself",
            code="not_playable",
        )
    # Before the right is looked at, as for a grant by itself.
    cases.hold_cases_of_item(work.session, work.agency_id, item.id)
    found = REACHES[wanted.variant](work, item, wanted.case).within(member.near)
    if not found:
        raise NotPermitted(
            f"item {item.id}: expected a span that may be seen, found none in what was asked",
            code="span_not_permitted",
        )
    return found


def side_by_side(
    found: CaseTimeline, window: tuple[datetime, datetime], lanes: Sequence[str] | None
) -> list[Member]:
    """What of a case's timeline lies in a window, source by source.

    Raises:
        InvalidInput: ``window_too_long``, ``sources_too_many``.
        NotFound: ``window_empty``: nothing of those sources lies in it.
    """
    if window[1] - window[0] > LONGEST_WINDOW:
        raise InvalidInput(
            f"window: expected at most {LONGEST_WINDOW}, found {window[1] - window[0]}; ask for a part of it",
            code="window_too_long",
        )
    inside: dict[str, dict[UUID, Entry]] = {}
    for entry in found.entries:
        if (
            entry.starts_at is None
            or entry.ends_at is None
            or (lanes is not None and entry.lane not in lanes)
        ):
            continue
        if entry.starts_at < window[1] and entry.ends_at > window[0]:
            inside.setdefault(entry.lane, {}).setdefault(entry.tied.id, entry)
    if not inside:
        raise NotFound(
            "window: expected footage of a source in it, found none; look at the timeline",
            code="window_empty",
        )
    if len(inside) > MOST_LANES:
        raise InvalidInput(
            f"sources: expected at most {MOST_LANES} in the window, found {len(inside)}; name them",
            code="sources_too_many",
            lanes=sorted(inside),
        )
    return [
        Member(entry.tied.id, number, _near(entry, window))
        for number, (_, entries) in enumerate(sorted(inside.items()))
        for entry in entries.values()
    ]


def _near(entry: Entry, window: tuple[datetime, datetime]) -> Span | None:
    """Media time around a window; None where that is all of the item."""
    if entry.placement is None or entry.tied.duration_us is None:
        return None
    first = (window[0] - KEYFRAME_REACH - entry.placement.starts_at) // US
    last = (window[1] + KEYFRAME_REACH - entry.placement.starts_at) // US
    if first <= 0 and last >= entry.tied.duration_us:
        return None
    return max(0, first), min(last, entry.tied.duration_us)


def revoke_set(work: Work, row: GrantSet, why: str) -> None:
    """End a set and each of its grants at once; ending it twice is fine."""
    if row.revoked_at is not None:
        return
    row.revoked_at = work.now
    for grant in grants.grants_of_set(work.session, work.agency_id, row.id, lock=True):
        revoke_grant(work, grant, why)


@dataclass(frozen=True)
class Seen:
    """One grant of a set, as it stands now."""

    grant: Grant
    placement: Placement | None
    ladder: Ladder | None = None
    """None: nothing of it can be played."""
    why: str | None = None
    """Why not: the code of the error."""
    is_coming: bool = False
    """It, or more of it, will be there by itself."""
    captions: Sequence[Caption] = ()
    """What its holder may read beside it."""


def seen_of(session: Session, storage: Storage, held: Iterable[Grant], now: datetime) -> list[Seen]:
    """Grants of a set, each asked for anew."""
    held = list(held)
    agency_id = held[0].agency_id if held else None
    if agency_id is None:
        return []
    rows = items.items_by_id(session, agency_id, [grant.item_id for grant in held])
    placed = placements_of(session, agency_id, rows.values(), now)
    captions = captions_of(session, held, now)
    found = []
    for grant in held:
        placement = placed.get(grant.item_id)
        if grant.revoked_at is not None or now >= grant.expires_at:
            found.append(Seen(grant, placement, why="grant_ended"))
            continue
        try:
            ladder = ladder_of(session, storage, grant, rows[grant.item_id])
            is_coming = ladder.is_coming and grant.variant == Variant.ORIGINAL
            read = captions.get(grant.id, ())
            found.append(Seen(grant, placement, ladder, is_coming=is_coming, captions=read))
        except (NotFound, Conflict, Unavailable) as error:
            unmade = grants.rendition_jobs(session, agency_id, grant.item_id)
            is_coming = any(job.state != "done" for job in unmade)
            found.append(Seen(grant, placement, None, error.code, is_coming, captions.get(grant.id, ())))
    return found


@dataclass(frozen=True)
class Listed:
    """What one list of a lane shows, one item after another."""

    parts: list[Part]
    more_follows: bool
    """An item grows or is about to: what comes after waits, because what was told once must not change."""
    is_settling: bool = False
    """Less of it is there than was told: what was being made is begun anew, or changes places."""


@dataclass(frozen=True)
class Lane:
    """The playlists of one lane of a set."""

    lists: dict[str, Listed]
    """By rung. A name that was told stays: where an item has no such rung, its first stands for it."""
    offered: tuple[str, ...]
    """Those that a player may change between: every item has them; `MIXED` alone where there are none."""
    shown: list[tuple[Grant, Ladder]]
    was_open: bool
    """Its lists are, or were, told while they grew."""
    has_captions: bool = False
    """There is something to read beside an item of it, be it shown yet or not."""


def have_to_tell(seen: Sequence[Seen]) -> bool:
    """Whether a list of the lane is begun now that will grow."""
    return any(has_to_tell(each.grant, each.ladder) or each.grant.told is None for each in _in_growing(seen))


def tell_lane(seen: Sequence[Seen]) -> None:
    """Remember how it was begun; the caller holds the items and the grants."""
    for each in _in_growing(seen):
        tell(each.grant, each.ladder, each.placement.starts_at if each.placement is not None else None)


def _in_growing(seen: Sequence[Seen]) -> list[Seen]:
    """Items that a lane shows while one of them is not whole; behind one that is waited for none is."""
    found, is_whole = [], True
    for each in seen:
        is_coming = each.is_coming and each.grant.variant == Variant.ORIGINAL
        if each.ladder is not None or is_coming:
            found.append(each)
        is_whole = is_whole and not is_coming
        if is_coming and (each.ladder is None or first_of(each.grant, each.ladder).is_growing):
            break
    return [] if is_whole else found


def lane_of(installation: Installation, seen: Sequence[Seen]) -> Lane:
    """The lists of a lane, each up to the first item of which it waits for more."""
    dates = _dates(seen)
    chosen = _chosen(seen, MIXED)
    shown = [(each.grant, each.ladder) for each, _ in chosen if each.ladder is not None]
    names = [{rung.name for rung in ladder.rungs} for _, ladder in shown]
    offered = [{rung.name for rung in ladder.offered} for _, ladder in shown]
    common = [rung.name for _, ladder in shown[:1] for rung in ladder.rungs
              if all(rung.name in each for each in offered)]  # fmt: skip
    lists = {}
    told = {name for each in seen for name in limits_told(each.grant) if _is_settling(each, name)}
    for name in [MIXED, *sorted(told.union(*names))]:
        rungs = _chosen(seen, name)
        parts = [
            part
            for each, rung in rungs
            if rung is not None
            for part in parts_of(installation, each.grant, rung, dates[each.grant.id], each.captions)
        ]
        waits = bool(rungs) and _waits(*rungs[-1])
        lists[name] = Listed(parts, waits, any(_is_settling(each, name) for each, _ in rungs))
    was_open = any(each.grant.told is not None for each in seen)
    is_open = any(listed.more_follows for listed in lists.values())
    has_captions = any(each.captions for each in seen)
    return Lane(lists, tuple(common) or (MIXED,), shown, was_open or is_open, has_captions)


def _chosen(seen: Sequence[Seen], name: str) -> list[tuple[Seen, Rung | None]]:
    """The rung of each item in a list, up to the one that is waited for."""
    found: list[tuple[Seen, Rung | None]] = []
    for each in seen:
        rung = _rung_in(each, name)
        if rung is not None or each.is_coming:
            found.append((each, rung))
            if _waits(each, rung):
                break
    return found


def _rung_in(each: Seen, name: str) -> Rung | None:
    if each.ladder is None:
        return None
    own = next((rung for rung in each.ladder.rungs if rung.name == name), None)
    # What may still get a rung of that name is waited for: another could not give way to it.
    waits_for_it = each.is_coming and name != MIXED
    return own or (None if waits_for_it else first_of(each.grant, each.ladder))


def _is_settling(each: Seen, name: str) -> bool:
    """Whether a rung that the list by a name was told of is not there, and will be again."""
    told = limits_told(each.grant)
    name = (each.grant.told or {}).get("first", name) if name == MIXED else name
    if name not in told or not each.is_coming:
        return False
    if each.ladder is None:
        return True
    return name in each.ladder.names and all(rung.name != name for rung in each.ladder.rungs)


def _waits(each: Seen, rung: Rung | None) -> bool:
    return each.grant.variant == Variant.ORIGINAL and each.is_coming and (rung is None or rung.is_growing)


def aligned_of(installation: Installation, row: GrantSet, seen: Sequence[Seen]) -> tuple[Aligned, Lane]:
    """A lane on the clock of its set's window: of each item the most modest rung that was whole by then.

    Several sources play at once, so each is asked for little, and nothing that is told of a clock may change:
    a better rung that comes later is for who asks again.
    """
    parts: list[Part] = []
    ladders: list[tuple[Grant, Ladder]] = []
    for each in seen:
        rungs = [rung for rung in each.ladder.offered if rung.made_at] if each.ladder else []
        started_at = started_at_of(each.grant, each.placement)
        if each.ladder is None or not rungs or started_at is None:
            continue
        chosen = _settled(rungs, row.issued_at)
        (part,) = parts_of(installation, each.grant, chosen, started_at, each.captions)
        parts.append(part)
        ladders.append((each.grant, Ladder((chosen,), frozenset({chosen.name}))))
    if row.window_from is None or row.window_to is None:
        raise NotFound("grant set: expected one with a window, found a recording", code="nothing_here")
    found = align(parts, (row.window_from, row.window_to))
    # What something is shown of leaves its leaf, and nothing else does.
    shown = [each for number, each in enumerate(ladders) if number in found.part_numbers]
    has_captions = any(each.captions for each in seen)
    return found, Lane({MIXED: Listed(parts, False)}, (MIXED,), shown, False, has_captions)


def _settled(rungs: Sequence[Rung], issued_at: datetime) -> Rung:
    """Of what was there the most modest, else the first that came: neither changes any more."""
    dated = [(rung.made_at, rung) for rung in rungs if rung.made_at is not None]
    there = [rung for made_at, rung in dated if made_at <= issued_at]
    if there:
        return min(there, key=lambda rung: rung.index.peak_bitrate_bps)
    return min(dated, key=lambda each: each[0])[1]


def _dates(seen: Sequence[Seen]) -> dict[UUID, datetime | None]:
    """When each began. Some recorders write the first start into every file: then only the first is dated."""
    first: dict[datetime, UUID] = {}
    dates: dict[UUID, datetime | None] = {}
    for each in seen:
        if each.ladder is None:
            continue
        start = started_at_of(each.grant, each.placement)
        is_own = start is not None and first.setdefault(start, each.grant.item_id) == each.grant.item_id
        dates[each.grant.id] = start if is_own else None
    return dates


def lane_url(installation: Installation, row: GrantSet, lane: int, name: str) -> str:
    """The address of a playlist of a set."""
    token = mint(installation.storage.keys, Use.SET, row.agency_id, row.id, row.expires_at)
    return f"/api/v1/playlists/{token}/lane-{lane}/{name}.m3u8"
