"""What streams of rooms are doing: said by the host that records them, read by whoever watches.

The row of a stream is overwritten every few seconds, by one statement without a look before it; nothing is
decided by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from storage.db.room_tables import RoomStream

KEY = ("agency_id", "room_no", "stream")


def say(session: Session, states: Sequence[Mapping[str, Any]]) -> None:
    """Overwrite the state of each of these streams; a state has every column."""
    if not states:
        return
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(RoomStream).values([dict(state) for state in states])
    said = {name: statement.excluded[name] for name in states[0] if name not in KEY}
    session.execute(statement.on_conflict_do_update(index_elements=KEY, set_=said))


def streams_of(session: Session, agency_id: UUID) -> list[RoomStream]:
    """What was said last of each stream of an agency."""
    query = select(RoomStream).where(RoomStream.agency_id == agency_id)
    return list(session.scalars(query.order_by(RoomStream.room_no, RoomStream.stream)))
