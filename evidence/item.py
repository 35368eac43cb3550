"""An item: what an officer or a room recorded, and how its state may move.

State is facets, not a line. The rules, in order:

1. Custody starts at *received*. Reading the stored object back and finding its digest makes it
   *verified*; finding anything else, or a digest declared by the sender that differs, makes it
   *quarantined*. Nothing leaves *disposed*.
2. Media starts at *unprobed*. Probing makes it *probed* or *unplayable*; a finished rendition makes
   it *rendered*. An unplayable item is kept, listed and bound like any other (L15, R10), and becomes
   *rendered* when its job is requeued and succeeds.
3. Binding is one of *bound*, *suggested*, *unbound*, recomputed from the bindings in force, so that
   the three always sum to all items.
4. Redaction starts at *none*; a plan makes it *proposed*, a redacted rendition that passed its check
   *checked*, a person *approved* and *released*. A new plan falls back to *proposed*, unless it only
   reveals: then what is shown stays until the plan is approved. Where its last release is revoked it is
   *approved* again. *Revoked* ends what was shown until a new plan is proposed.
5. A hold stops disposal only.

Every transition is a custody leaf in the same transaction; callers write it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import TypeVar

from evidence.errors import Conflict
from evidence.kinds import MediaKind

FIXITY_MISMATCH = "fixity_mismatch"
"""Flag of an item whose stored bytes were found damaged; only a re-read that matches takes it away."""


class Custody(StrEnum):
    """Where the bytes stand."""

    RECEIVED = "received"
    VERIFIED = "verified"
    QUARANTINED = "quarantined"
    SEALED = "sealed"
    DISPOSED = "disposed"


class Media(StrEnum):
    """What is known of the picture and sound."""

    UNPROBED = "unprobed"
    PROBED = "probed"
    RENDERED = "rendered"
    UNPLAYABLE = "unplayable"


class Binding(StrEnum):
    """Whether the item is tied to a case."""

    BOUND = "bound"
    SUGGESTED = "suggested"
    UNBOUND = "unbound"


class Redaction(StrEnum):
    """How far the masked version is."""

    NONE = "none"
    PROPOSED = "proposed"
    CHECKED = "checked"
    APPROVED = "approved"
    RELEASED = "released"
    REVOKED = "revoked"


CUSTODY_MOVES: Mapping[Custody, frozenset[Custody]] = MappingProxyType(
    {
        Custody.RECEIVED: frozenset({Custody.VERIFIED, Custody.QUARANTINED}),
        Custody.VERIFIED: frozenset({Custody.SEALED, Custody.QUARANTINED, Custody.DISPOSED}),
        Custody.QUARANTINED: frozenset({Custody.VERIFIED, Custody.DISPOSED}),
        Custody.SEALED: frozenset({Custody.QUARANTINED, Custody.DISPOSED}),
        Custody.DISPOSED: frozenset(),
    }
)

MEDIA_MOVES: Mapping[Media, frozenset[Media]] = MappingProxyType(
    {
        Media.UNPROBED: frozenset({Media.PROBED, Media.UNPLAYABLE}),
        Media.PROBED: frozenset({Media.RENDERED, Media.UNPLAYABLE, Media.PROBED}),
        Media.RENDERED: frozenset({Media.PROBED, Media.RENDERED, Media.UNPLAYABLE}),
        Media.UNPLAYABLE: frozenset({Media.PROBED, Media.RENDERED, Media.UNPLAYABLE}),
    }
)

REDACTION_MOVES: Mapping[Redaction, frozenset[Redaction]] = MappingProxyType(
    {
        Redaction.NONE: frozenset({Redaction.PROPOSED}),
        Redaction.PROPOSED: frozenset({Redaction.PROPOSED, Redaction.CHECKED, Redaction.REVOKED}),
        Redaction.CHECKED: frozenset({Redaction.PROPOSED, Redaction.APPROVED, Redaction.REVOKED}),
        Redaction.APPROVED: frozenset({Redaction.PROPOSED, Redaction.RELEASED, Redaction.REVOKED}),
        Redaction.RELEASED: frozenset({Redaction.PROPOSED, Redaction.APPROVED, Redaction.REVOKED}),
        Redaction.REVOKED: frozenset({Redaction.PROPOSED}),
    }
)

_MOVES: dict[type[StrEnum], Mapping[StrEnum, frozenset[StrEnum]]] = {
    Custody: CUSTODY_MOVES,  # type: ignore[dict-item]
    Media: MEDIA_MOVES,  # type: ignore[dict-item]
    Redaction: REDACTION_MOVES,  # type: ignore[dict-item]
}


F = TypeVar("F", bound=StrEnum)


def move(current: F, target: F) -> F:
    """Move a facet, or say why not.

    Raises:
        Conflict: The rules above have no such move.
    """
    if target not in _MOVES[type(current)][current]:
        allowed = ", ".join(sorted(_MOVES[type(current)][current])) or "none"
        raise Conflict(
            f"{type(current).__name__.lower()}: expected one of {allowed} after {current}, found {target}",
            code="state_not_allowed",
            current=str(current),
            target=str(target),
        )
    return target


@dataclass(frozen=True)
class FiveFacts:
    """What each AV record states (R6): case, time, place, collector, object of proof."""

    case_no: str | None
    captured_from: datetime | None
    captured_to: datetime | None
    captured_place: str | None
    collector: str | None
    object_of_proof: str | None

    def missing(self) -> list[str]:
        """Names of the facts that are not there yet; empty means complete."""
        facts = {
            "case_no": self.case_no,
            "captured_at": self.captured_from and self.captured_to,
            "captured_place": self.captured_place,
            "collector": self.collector,
            "object_of_proof": self.object_of_proof,
        }
        return [name for name, value in facts.items() if not value]

    def is_complete(self) -> bool:
        return not self.missing()


RENDERED_KINDS = frozenset({MediaKind.VIDEO, MediaKind.AUDIO, MediaKind.PHOTO})


SHOWABLE = frozenset({Custody.VERIFIED, Custody.SEALED})
"""Custody in which masked renditions are shown: the bytes were read back and are what came in."""


def is_reviewable(custody: Custody, media: Media, redaction: Redaction) -> bool:
    """A person without the right to the original can look at something safe now."""
    return (
        custody in SHOWABLE
        and media is Media.RENDERED
        and redaction in {Redaction.CHECKED, Redaction.APPROVED, Redaction.RELEASED}
    )
