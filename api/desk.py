"""What a route works with: the installation, and one transaction with who, for whom and when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from config.settings import Settings
from evidence.access import Actor
from evidence.custody import Action
from evidence.kinds import Role
from storage.db import agencies, custody
from storage.db.custody import Happening
from storage.db.tables import Agency
from storage.open import Storage


@dataclass(frozen=True)
class Installation:
    """What the application was made with; the same for every request."""

    storage: Storage
    settings: Settings


async def installation_of(request: Request) -> Installation:
    """The installation this application serves."""
    held: Installation = request.app.state.installation
    return held


InstallationOf = Annotated[Installation, Depends(installation_of)]


@dataclass(frozen=True)
class Work:
    """One transaction on behalf of one actor."""

    session: Session
    actor: Actor
    now: datetime
    storage: Storage
    settings: Settings

    @property
    def agency(self) -> Agency:
        """The actor's agency; read when it is asked for, once a transaction."""
        return agencies.agency_by_id(self.session, self.actor.agency_id)

    @property
    def agency_id(self) -> UUID:
        return self.actor.agency_id

    @property
    def release_roles(self) -> frozenset[Role]:
        """Roles that see what is masked by a release alone."""
        return frozenset(map(Role, self.settings.redaction.release.required_for))

    def record(
        self,
        action: Action,
        subject_kind: str,
        subject_id: object,
        facts: Mapping[str, Any],
        private: Mapping[str, Any] | None = None,
    ) -> None:
        """A custody leaf in this transaction, by this actor."""
        custody.record(
            self.session,
            self.agency,
            Happening(action, subject_kind, str(subject_id), self.actor.label, facts, private),
            self.now,
        )


@dataclass(frozen=True)
class Desk:
    """Where a signed-in actor's work is done: one request, one transaction."""

    installation: Installation
    actor: Actor

    @contextmanager
    def reading(self) -> Iterator[Work]:
        """A consistent look; nothing is kept."""
        with self.installation.storage.database.read() as session:
            yield self._work(session)

    @contextmanager
    def writing(self) -> Iterator[Work]:
        """All of it, or nothing."""
        with self.installation.storage.database.transaction() as session:
            yield self._work(session)

    def _work(self, session: Session) -> Work:
        storage = self.installation.storage
        return Work(session, self.actor, storage.clock.now(), storage, self.installation.settings)
