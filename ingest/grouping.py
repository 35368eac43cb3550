"""Putting the files of one press of the button together, in whatever order they come in.

Called in the transaction that learns a file's time and length, after `lock_device`: files of one device are
grouped one after another, so two at once see each other, and a middle file that comes last joins both sides.
What a recording is stands in `evidence.recording`. Every change is a custody leaf.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.custody import Action
from evidence.ids import new_id
from evidence.kinds import ClaimSource, MediaKind
from evidence.recording import Joint, Part, chains, in_order, joints, missing_numbers, resolution_of
from ingest.correction import statements_of
from ingest.facts import RANK
from media.report import ProbeReport
from storage.db import custody, items, recordings
from storage.db.custody import Happening
from storage.db.tables import Agency, Claim, Item

BY_TIME, BY_NUMBER = "time:", "number:"
"""How keys begin that no sender gave; those a sender gave begin with a device's id, or a dash."""
PIPELINE = "system"
NUMBERS_LAST = timedelta(days=1)
"""Recording numbers in names start again, so equal ones further apart mean nothing."""
GROUPED_KINDS = frozenset({MediaKind.VIDEO, MediaKind.AUDIO})
STARTS = ("captured_from", "device_started_at", "gps_started_at")


def lock_device(session: Session, agency_id: UUID, item_id: UUID) -> None:
    """Wait until nobody else groups files of the item's device; call it before the item is locked.

    The order, device before item, is the same everywhere, so two files that join each other never wait
    for each other.
    """
    recordings.lock_device_of(session, agency_id, item_id)


def group(session: Session, agency: Agency, item: Item, limit: timedelta, now: datetime) -> None:
    """Put the item where it belongs; files that nobody can place stay alone."""
    if item.device_id is None or item.media_kind not in GROUPED_KINDS or _is_named(item):
        return
    number = _recording_no(session, item)
    if number is not None:
        members = [item, *_of_number(session, item, number)]
        _settle(session, agency, item, [members], BY_NUMBER, now)
        return
    if item.captured_from is None or item.duration_us is None:
        return
    near = recordings.near_in_time(
        session,
        agency.id,
        item.device_id,
        item.captured_from - limit,
        item.captured_from + timedelta(microseconds=item.duration_us) + limit,
    )
    around = [item, *(row for row in near if _may_chain(row))]
    if item.recording_key is None:
        _join(session, agency, item, around, limit, now)
        return
    # It was placed before, and its time or length has changed: the files it lies with are laid out anew.
    keys = {row.recording_key for row in around if row.recording_key}
    together = {row.id: row for row in [*around, *recordings.members(session, agency.id, keys)]}
    free = [row for row in together.values() if _may_chain(row)]
    _settle(session, agency, item, _chained(session, agency.id, free, limit), BY_TIME, now)


def _join(
    session: Session, agency: Agency, item: Item, around: list[Item], limit: timedelta, now: datetime
) -> None:
    """Put a file that lies nowhere yet to what it touches: its neighbours decide, however many there are."""
    chain = next(chain for chain in _chained(session, agency.id, around, limit) if item in chain)
    keys = {row.recording_key for row in chain if row.recording_key}
    members = {row.id: row for row in chain}
    if len(keys) > 1:
        members |= {row.id: row for row in recordings.members(session, agency.id, keys)}
    _settle(session, agency, item, [list(members.values())], BY_TIME, now)


def _chained(session: Session, agency_id: UUID, rows: list[Item], limit: timedelta) -> list[list[Item]]:
    by_id = {row.id: row for row in rows}
    return [[by_id[part.id] for part in chain] for chain in chains(parts_of(session, agency_id, rows), limit)]


@dataclass(frozen=True)
class Recording:
    """The files of one press of the button."""

    by: Literal["sender", "time", "number"] | None
    """What put them together; None for a file on its own."""
    members: tuple[Item, ...]
    """In order."""
    joints: tuple[Joint[UUID], ...]
    """Between neighbours of which both have a time and a length."""
    missing_sequence_nos: list[int]


def recording_of(session: Session, item: Item) -> Recording:
    """The recording an item belongs to, which may be itself alone."""
    rows = recordings.members(session, item.agency_id, [item.recording_key]) if item.recording_key else [item]
    return _laid_out(item.recording_key, rows, parts_of(session, item.agency_id, rows))


def recordings_of(session: Session, agency_id: UUID, keys: Sequence[str]) -> dict[str, Recording]:
    """Many recordings by their keys, in a few statements."""
    members = recordings.members_of(session, agency_id, keys)
    every = [row for rows in members.values() for row in rows]
    parts = {part.id: part for part in parts_of(session, agency_id, every)}
    return {
        key: _laid_out(key, rows, [parts[row.id] for row in rows if row.id in parts])
        for key, rows in members.items()
    }


def _laid_out(key: str | None, rows: Sequence[Item], parts: Iterable[Part[UUID]]) -> Recording:
    by = _by(key)
    # Numbers in names of files that only time put together may have started again in between.
    is_numbered = by in {"sender", "number"} and any(row.sequence_no is not None for row in rows)
    by_id = {row.id: row for row in rows}
    ordered = in_order(parts, by_number=is_numbered)
    timed = {part.id for part in ordered}
    members = [by_id[part.id] for part in ordered] + [row for row in rows if row.id not in timed]
    if is_numbered:
        members.sort(key=lambda row: row.sequence_no or 0)
    neighbours = {(one.id, other.id) for one, other in pairwise(members)}
    between = tuple(joint for joint in joints(ordered) if (joint.before, joint.after) in neighbours)
    missing = missing_numbers(row.sequence_no for row in rows) if is_numbered else []
    return Recording(by, tuple(members), between, missing)


def _by(key: str | None) -> Literal["sender", "time", "number"] | None:
    if key is None:
        return None
    return "time" if key.startswith(BY_TIME) else "number" if key.startswith(BY_NUMBER) else "sender"


def parts_of(session: Session, agency_id: UUID, members: Sequence[Item]) -> list[Part[UUID]]:
    """Files as parts of a recording; those without time or length are left out."""
    claims = recordings.claims_about(session, agency_id, [row.id for row in members], (*STARTS, "timecode"))
    return [_part(row, claims.get(row.id, [])) for row in members if row.captured_from and row.duration_us]


def _part(item: Item, claims: Sequence[Claim]) -> Part[UUID]:
    video = ProbeReport.from_json(item.probe).video if item.probe else None
    code = next((row.value for row in claims if row.field == "timecode"), None)
    shape = (video.codec, video.width_px, video.height_px) if video else (item.media_kind,)
    assert item.captured_from is not None and item.duration_us is not None  # noqa: S101 - see parts_of
    return Part(
        item.id,
        item.captured_from,
        item.duration_us,
        shape,
        _resolution(claims),
        video.frame_duration if video else None,
        code,
        item.sequence_no,
    )


def _resolution(claims: Iterable[Claim]) -> int:
    """The step of the clock that the start was taken from: that of the best-placed claim about it."""
    said = [row for row in statements_of(claims) if row.field in STARTS]
    best = min(said, key=lambda row: (STARTS.index(row.field), RANK[row.source]), default=None)
    return resolution_of(best.value if best else "")


def _is_named(item: Item) -> bool:
    return item.recording_key is not None and not item.recording_key.startswith((BY_TIME, BY_NUMBER))


def _may_chain(item: Item) -> bool:
    is_free = item.recording_key is None or item.recording_key.startswith(BY_TIME)
    return is_free and item.media_kind in GROUPED_KINDS and bool(item.captured_from and item.duration_us)


def _recording_no(session: Session, item: Item) -> str | None:
    said = [
        row
        for row in items.claimed(session, item.agency_id, item.id, "recording_no")
        if row.source == ClaimSource.FILENAME
    ]
    return said[-1].value if said else None


def _of_number(session: Session, item: Item, number: str) -> list[Item]:
    return [
        row
        for row in recordings.said_of_near(session, item, "recording_no", number, NUMBERS_LAST)
        if not _is_named(row)
        and row.media_kind == item.media_kind
        # A small copy of each chapter has the chapter's name with another ending.
        and _ending(row) == _ending(item)
    ]


def _ending(item: Item) -> str:
    return item.original_name.rpartition(".")[2].casefold()


def _settle(
    session: Session, agency: Agency, item: Item, groups: list[list[Item]], prefix: str, now: datetime
) -> None:
    """Give each group one key, the one most of it has already, and each lone file none."""
    taken: set[str] = set()
    for members in sorted(groups, key=len, reverse=True):
        key = _key(members, taken, prefix) if len(members) > 1 else None
        if key is not None:
            taken.add(key)
        changed = [row for row in members if row.recording_key != key]
        for row in changed:
            row.recording_key = key
        if changed:
            facts = {
                "recording": key,
                "by": prefix.rstrip(":"),
                "items": [str(row.id) for row in changed],
            }
            subject = item if item in members else changed[0]
            happening = Happening(Action.ITEM_GROUPED, "item", str(subject.id), PIPELINE, facts)
            custody.record(session, agency, happening, now)
    session.flush()


def _key(members: Sequence[Item], taken: set[str], prefix: str) -> str:
    held = [row.recording_key for row in members if row.recording_key and row.recording_key not in taken]
    return max(sorted(set(held)), key=held.count) if held else f"{prefix}{new_id()}"
