"""When a numbered set of clips is packed: once each of its clips is cut, or will not be.

What could not be cut is written into the set, with why; its sheet says so, and the others are handed over.
A clip that is cut after all, its job having been requeued, has the set packed once more, with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from storage.db import clips, jobs
from storage.db.clip_tables import Clip
from storage.db.jobs import wanted_by_people


def note_cut(session: Session, agency_id: UUID, clip_id: UUID, derivative_id: UUID, now: datetime) -> None:
    """Tie a clip to what was made of it."""
    _settle(session, agency_id, clip_id, now, derivative_id=derivative_id)


def note_not_cut(session: Session, agency_id: UUID, clip_id: UUID, why: str, now: datetime) -> None:
    """Nobody tries any more to cut a clip; ``why`` is the code of the error."""
    _settle(session, agency_id, clip_id, now, why=why)


def of_what_is_cut(held: Sequence[Clip]) -> bytes:
    """A digest of which clips of a set are in its file."""
    return hashlib.sha256(b"".join(each.id.bytes for each in held if each.derivative_id)).digest()


def _settle(
    session: Session,
    agency_id: UUID,
    clip_id: UUID,
    now: datetime,
    *,
    derivative_id: UUID | None = None,
    why: str | None = None,
) -> None:
    clip = clips.clip_by_id(session, agency_id, clip_id)
    # The set first: of two that end at once, the second sees the first.
    held = clips.set_by_id(session, agency_id, clip.set_id, lock=True) if clip.set_id else None
    clip.derivative_id = derivative_id
    if held is None:
        return
    # What was cut after all is named until the file has it.
    not_cut = {**clips.not_cut_of(held), **({str(clip.id): why} if why is not None else {})}
    held.layout = {**held.layout, "not_cut": not_cut}
    session.flush()
    every = clips.clips_of_set(session, agency_id, held.id)
    is_settled = all(each.derivative_id is not None or str(each.id) in not_cut for each in every)
    if is_settled and any(each.derivative_id is not None for each in every):
        wanted = wanted_by_people("clip_set", held.id, of_what_is_cut(every), {}, timedelta())
        jobs.want(session, agency_id, wanted, now)
