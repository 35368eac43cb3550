"""Who may do what only one process may do: a lease on a name, with a fence."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from storage.db.shared_clock import shared_now
from storage.db.tables import Leadership


def lead(session: Session, name: str, owner: str, now: datetime, by: timedelta) -> bool:
    """Take or keep the lead; False while somebody else has it."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    until = shared_now(session, now, by)
    statement = insert(Leadership).values(name=name, owner=owner, fence=1, until=until)
    taken = session.execute(
        statement.on_conflict_do_update(
            index_elements=["name"],
            set_={"owner": owner, "until": until, "fence": Leadership.fence + 1},
            where=or_(Leadership.owner == owner, Leadership.until < shared_now(session, now)),
        ).returning(Leadership.owner)
    ).scalar_one_or_none()
    return taken == owner


def leader(session: Session, name: str, now: datetime) -> str | None:
    """Who has the lead now; None: nobody."""
    query = select(Leadership.owner).where(
        Leadership.name == name, Leadership.until >= shared_now(session, now)
    )
    return session.scalars(query).one_or_none()


def resign(session: Session, name: str, owner: str) -> None:
    """Let the lead go, so that the next need not wait."""
    session.execute(delete(Leadership).where(Leadership.name == name, Leadership.owner == owner))
