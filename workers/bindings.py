"""Telling whoever has a case open that an item came into it or left it, by whichever way; and of releases.

A binding is made and ended on the page, by commands, by the rules of the pipeline and by sessions of rooms.
What all of them leave in their own transaction is a custody leaf: so none of them has to tell, and nothing is
told that was not committed. The relay looks at each round for leaves that wait for their place, and for those
that got one since its last look: whoever places them, none is missed while it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import structlog

from evidence.custody import Action, parse_leaf
from evidence.errors import CustodyError
from evidence.events import Event, Topic
from messaging.events import EventPublisher
from storage.db import agencies, custody
from storage.open import Storage

log = structlog.get_logger()
MOST_A_ROUND = 1000
"""Waiting leaves that are read at once; what is placed meanwhile is read from its place."""
WORDS = {
    str(Action.BINDING_MADE): "bound",
    str(Action.BINDING_SUGGESTED): "suggested",
    str(Action.BINDING_ENDED): "unbound",
    str(Action.REDACTION_REVIEWED): "reviewed",
    str(Action.RELEASE_ASKED): "release_asked",
    str(Action.RELEASE_GIVEN): "released",
    str(Action.RELEASE_REFUSED): "release_refused",
    str(Action.RELEASE_REVOKED): "release_revoked",
}
TOLD_OF = ("case", "release", "plan")
"""What of a leaf's facts is told."""


class BindingNews:
    """The relay's look at bindings; it remembers what it told."""

    def __init__(self, storage: Storage, publisher: EventPublisher) -> None:
        self._storage = storage
        self._publisher = publisher
        self._placed: dict[UUID, int] = {}
        self._told: set[UUID] = set()

    def round(self) -> int:
        """Tell what was tied or untied since the last round; the number told."""
        told, still = 0, set[UUID]()
        with self._storage.database.read() as session:
            for agency in agencies.agencies(session):
                # What waits comes first: a leaf that is placed between the two is seen twice, and not never.
                waiting = custody.waiting_leaves(session, agency.id, list(WORDS))
                new = custody.bodies_of(
                    session, agency.id, [each for each in waiting if each not in self._told][:MOST_A_ROUND]
                )
                size = custody.tree_size(session, agency.id)
                since = self._placed.get(agency.id, size)
                placed = custody.leaves_from(session, agency.id, since, list(WORDS)) if since < size else []
                self._placed[agency.id] = size
                still |= {each for each in waiting if each in self._told} | {leaf_id for leaf_id, _ in new}
                for leaf_id, body in dict([*placed, *new]).items():
                    if leaf_id not in self._told:
                        told += self._tell(agency.code, leaf_id, body)
        self._told = still
        return told

    def _tell(self, agency: str, leaf_id: UUID, body: bytes) -> bool:
        try:
            leaf = parse_leaf(body)
        except CustodyError as error:
            return _untold(leaf_id, error.message)
        what, facts = WORDS.get(str(leaf.action)), _told_of(leaf.facts)
        if what is None or not facts or leaf.agency != agency:
            return _untold(leaf_id, "leaf: expected a binding or release of its agency, found another")
        self._publisher.publish(Event(Topic.ITEM, agency, leaf.subject_id, what, leaf.made_at, facts))
        return True


def _untold(leaf_id: UUID, reason: str) -> bool:
    """Somebody altered it: that is for whoever verifies the log, and nothing else waits for it."""
    log.error("binding_untold", leaf=str(leaf_id), reason=reason)
    return False


def _told_of(facts: object) -> dict[str, str | int]:
    found = {name: facts.get(name) for name in TOLD_OF} if isinstance(facts, Mapping) else {}
    return {name: value for name, value in found.items() if isinstance(value, str | int)}
