"""Rungs as a grant shows them, and how lists of those that grow are begun under it.

A list that grows is read again and again, and may only grow (RFC 8216 section 6.2.1). What its first reading
said, and what could come out otherwise later, is written into the grant: docs/design/encoding.md, *Lists of
what is being made*.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from evidence.clock import rfc3339
from ingest.placement import Placement
from media.fmp4 import FragmentIndex
from storage.db.tables import Grant
from transcode.playlist import SAFE_LIMIT_S, Listing

COPY = "copy"
"""The rung that takes the picture over as the camera made it (`transcode.ladder`)."""


@dataclass(frozen=True)
class Rung:
    """One rendition that can be played now."""

    name: str
    file_name: str
    index: FragmentIndex
    sha256: bytes | None
    """None while it grows, and of a preview, which is nobody's to keep."""
    is_growing: bool = False
    limit_s: int = SAFE_LIMIT_S
    """No segment of it is longer."""
    made_at: datetime | None = None
    """When it was whole; None while it grows, and of a preview, which never is."""
    listing: Listing | None = None
    then: Rung | None = None
    """What goes on where it ends."""

    @property
    def is_copied(self) -> bool:
        return self.name == COPY


@dataclass(frozen=True)
class Ladder:
    """The rungs that can be played now, what was whole first at the front."""

    rungs: tuple[Rung, ...]
    names: frozenset[str]
    """Theirs, and of those that will be there."""
    is_damaged: bool = False
    """Its footage does not decode everywhere."""

    @property
    def offered(self) -> tuple[Rung, ...]:
        """The rungs that a player is shown to choose from.

        A copy of damaged footage is not, once it was encoded: browsers give up where FFmpeg conceals. Whoever
        was told of it before can go on.
        """
        encoded = tuple(rung for rung in self.rungs if not rung.is_copied)
        has_whole = any(rung.made_at is not None for rung in encoded)
        return encoded if self.is_damaged and has_whole else self.rungs

    @property
    def is_coming(self) -> bool:
        """Whether there will be more of it."""
        return len(self.names) > len(self.rungs) or any(rung.is_growing for rung in self.rungs)


def tell(grant: Grant, ladder: Ladder | None, started_at: datetime | None) -> None:
    """Remember how lists of what grows are begun under a grant; the caller holds the item and the grant.

    What was remembered before stays as it was.
    """
    rungs = ladder.rungs if ladder is not None else ()
    told = {"started_at": rfc3339(started_at) if started_at is not None else None, **(grant.told or {})}
    if ladder is not None and rungs:
        told.setdefault("first", ladder.offered[0].name)
    growing = {rung.name: rung.limit_s for rung in rungs if rung.is_growing}
    grant.told = {**told, "limits_s": {**growing, **limits_told(grant)}}


def has_to_tell(grant: Grant, ladder: Ladder | None) -> bool:
    """Whether something grows of which no list was begun under the grant."""
    rungs = ladder.rungs if ladder is not None else ()
    return any(rung.is_growing and rung.name not in limits_told(grant) for rung in rungs)


def first_of(grant: Grant, ladder: Ladder) -> Rung:
    """The rung that stands for the item, the same ever since a list of it was begun."""
    name = (grant.told or {}).get("first")
    return next((rung for rung in ladder.rungs if rung.name == name), ladder.offered[0])


def started_at_of(grant: Grant, placement: Placement | None) -> datetime | None:
    """The date of media time 0: by the corrected clock, or as lists were begun with."""
    if grant.told is not None:
        started_at = grant.told["started_at"]
        return datetime.fromisoformat(started_at) if started_at is not None else None
    return placement.starts_at if placement is not None else None


def start_told(placement: Placement | None) -> dict[str, Any] | None:
    """What remembers the date of media time 0 from before any list was begun; None: nobody knows it."""
    return {"started_at": rfc3339(placement.starts_at)} if placement is not None else None


def limits_told(grant: Grant) -> dict[str, int]:
    """The rungs whose lists were begun under a grant while they grew, and their target durations."""
    found: dict[str, int] = (grant.told or {}).get("limits_s", {})
    return found
