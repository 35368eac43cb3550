"""The second copy of what rooms record (D14): which files are to have one, what was read there, putting back.

The rules:

1. A file that goes into custody out of a room with a second store is to have a copy there, from the
   transaction that ties it to its session. A copy is `outstanding` until it was read back.
2. A copy is judged by what the medium of the second store holds, never by what was sent to it: it is `copied`
   where that is the file's SHA-256 in custody, and `differs` where it is not after it was copied anew.
3. What differs is tried again; what was copied stays so. Each reading that changes what is known is a leaf.
4. Copies are named by when the recording begins, by the agency's clock, and by run and number: never twice
   the same, and nothing of a person or a case in them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from evidence.clock import from_micros, rfc3339
from evidence.custody import Action
from evidence.ids import new_id
from evidence.session import CopyState
from ingest.damage import note_sound
from ingest.recorder.stream import Finished
from storage.db import custody, items, second_copies
from storage.db.custody import Happening
from storage.db.room_tables import SecondCopy
from storage.db.tables import Agency


def live_name(stream: str, run: str, name: str) -> str:
    """What the copy of a recorder's file is called while it is nobody's."""
    return f"{stream}_{run}_{name}"


def want(
    session: Session, agency: Agency, room_no: str, finished: Finished, item_id: UUID, now: datetime
) -> None:
    """A file that is in custody is to have a copy; said again changes nothing."""
    if second_copies.copies_of(session, agency.id, [finished.key]):
        return
    begins = from_micros(finished.from_utc_us).astimezone(ZoneInfo(agency.time_zone))
    session.add(
        SecondCopy(
            id=new_id(),
            agency_id=agency.id,
            item_id=item_id,
            room_no=room_no,
            reception_key=finished.key,
            live_name=live_name(finished.stream, finished.run, finished.name),
            path=f"{begins:%Y-%m-%d}/{begins:%H-%M-%S}_{finished.stream}_{finished.run}-{finished.name}",
            wanted_at=now,
            state=str(CopyState.OUTSTANDING),
        )
    )
    session.flush()


def note_reading(
    session: Session, agency: Agency, copy_id: UUID, store: UUID, expected: bytes, found: bytes, now: datetime
) -> CopyState:
    """What was read of a copy; the state it is in then."""
    row = second_copies.copy_by_id(session, agency.id, copy_id, lock=True)
    state = CopyState.COPIED if found == expected else CopyState.DIFFERS
    if row.state in {CopyState.COPIED, state}:
        return CopyState(row.state)
    facts = {
        "second_store": str(store),
        "path": row.path,
        "sha256": found.hex(),
        **({} if found == expected else {"expected_sha256": expected.hex()}),
    }
    action = Action.ITEM_COPIED if state is CopyState.COPIED else Action.ITEM_COPY_DIFFERS
    happening = Happening(action, "item", str(row.item_id), "system", facts)
    row.leaf_id = custody.record(session, agency, happening, now)
    row.state, row.store, row.sha256, row.settled_at = str(state), store, found, now
    session.flush()
    return state


def told_of(
    session: Session, agency_id: UUID, reception_keys: Collection[str]
) -> dict[str, Mapping[str, Any]]:
    """What is known of the copies of files, as data, by the keys of their receptions."""
    return {
        key: {
            "state": row.state,
            "path": row.path,
            "second_store": str(row.store) if row.store else None,
            "sha256": row.sha256.hex() if row.sha256 else None,
            "read_at": rfc3339(row.settled_at) if row.settled_at else None,
        }
        for key, row in second_copies.copies_of(session, agency_id, reception_keys).items()
    }


def note_put_back(
    session: Session,
    agency: Agency,
    copy_id: UUID,
    stored_id: UUID,
    *,
    kept_aside: Sequence[str],
    actor: str,
    now: datetime,
) -> None:
    """An original came back out of a second store; it was read back there, and matched.

    Args:
        kept_aside: Names of damaged files that lay in its place.
    """
    row = second_copies.copy_by_id(session, agency.id, copy_id)
    stored = items.object_by_id(session, agency.id, stored_id)
    facts = {
        "sha256": stored.sha256.hex(),
        "size_bytes": stored.size_bytes,
        "second_store": str(row.store),
        "path": row.path,
    }
    happening = Happening(Action.OBJECT_PUT_BACK, "object", str(stored.id), actor, facts)
    leaf = custody.record(session, agency, happening, now)
    note_sound(
        session, agency, stored, actor=actor, now=now,
        kept_aside=kept_aside, evidence={"put_back": str(leaf)},
    )  # fmt: skip
