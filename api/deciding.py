"""Decisions about bytes, kept exactly as long as they would be made again.

A player asks for a range every second or two, and each is decided: is the address genuine, is its grant in
force, may its holder still sign in, is the thing it names still shown. Made from rows, that takes
milliseconds. So a decision is kept with a mark of the database (`storage.db.standstill`) that was read before
it was made, and holds while

1. the mark is the same: nothing at all was committed since, so that a revocation ends it at the next range,
   whoever made it and in whichever process; and
2. the address and the grant have not come to their end by our clock; and
3. the key that signed the address is still there.

Where something was committed, one lean look at the rows the decision rests on (`grants.standing`) tells
whether it still stands; if they differ in anything it is made anew. What rests on more than those rows
(clips, renditions that grow or wait for approval) is made anew at once.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import quote
from uuid import UUID

from api.auth.capability import Capability, Use
from api.ranges import ByteRange, is_inside
from api.resolving import Servable, settling
from evidence.errors import EvidenceError, NotFound, NotPermitted, Unavailable
from storage.db import grants
from storage.db.grants import Standing
from storage.db.standstill import CommitMark
from storage.open import Storage

MOST_KEPT = 4096
ACCEPTS_RANGES = b"accept-ranges: bytes\r\n"


@dataclass(frozen=True)
class Ground:
    """The rows a decision rests on."""

    agency_id: UUID
    grant_id: UUID
    derivative_id: UUID | None
    """None where the original itself is served."""
    kind: str | None
    standing: Standing


@dataclass(frozen=True)
class Decision:
    """That some bytes may be sent, and what is said of them.

    Attributes:
        servable: The bytes.
        ends_at: The address or its grant ends, by our clock.
        capability: What the address says.
        ground: None where it must be made anew when anything was committed.
        may_be_kept: Whether asking again would do nothing but decide.
        mark: The database before it was made.
    """

    servable: Servable
    ends_at: datetime
    capability: Capability
    ground: Ground | None = None
    may_be_kept: bool = True
    mark: str | None = None
    etag: str | None = None
    described: bytes = b""
    """Header lines about the thing itself, ready to be sent."""
    part: ByteRange | None = None
    """Of the bytes these alone, as a thing of their own; None: all of them."""

    @property
    def size_bytes(self) -> int:
        """Of the thing it is about."""
        return self.servable.size_bytes if self.part is None else self.part.length

    def cut(self, part: ByteRange | None) -> Decision:
        """The same about a slice; the right to it is that to a range, its tag is its own.

        Raises:
            NotPermitted: It is not wholly in the span that was granted (``range_not_permitted``).
            Unavailable: What it is of grows and is not as long yet (``rendition_settling``).
            NotFound: There are no slices of this, or it is not as long (``nothing_here``).
        """
        if part is None:
            return self
        servable = self.servable
        if self.capability.use is not Use.MEDIA or part.last >= servable.size_bytes:
            if self.capability.use is Use.MEDIA and servable.sha256 is None:
                raise settling()
            raise NotFound("slice: expected one of what is there, found another", code="nothing_here")
        require_inside(part, servable)
        lines, etag = ACCEPTS_RANGES + f"content-type: {servable.content_type}\r\n".encode("ascii"), None
        if servable.sha256 is not None:
            etag = f'"{servable.sha256.hex()}.{part.first}-{part.last}"'
            lines += f"etag: {etag}\r\n".encode("ascii")
        return replace(self, part=part, etag=etag, described=lines)


def require_inside(sent: ByteRange, servable: Servable) -> None:
    """Bytes that a grant permits.

    Raises:
        NotPermitted: It is of a span, and they are not all of it (``range_not_permitted``).
    """
    if servable.allowed is not None and not is_inside(sent, servable.allowed):
        raise NotPermitted(
            "range: expected bytes of the span that was granted, found others", code="range_not_permitted"
        )


Make = Callable[[str, str, bool], Decision]


class Moment:
    """What was decided before and is in force now, for everybody who had asked by now.

    The database, the clock and the keys are looked at once, however many they are.
    """

    def __init__(
        self,
        kept: Mapping[tuple[str, str], Decision],
        mark: str | None,
        now: datetime,
        holds: Callable[[str], bool],
    ) -> None:
        self._kept, self._mark, self._now, self._holds = kept, mark, now, holds
        self._held: dict[str, bool] = {}

    def decided(self, token: str, name: str) -> Decision | None:
        """A decision that is known to be in force without asking anybody; None says nothing."""
        found = self._kept.get((token, name))
        if found is None or found.mark != self._mark or found.mark is None or self._now >= found.ends_at:
            return None
        key_id = found.capability.key_id
        holds = self._held.get(key_id)
        if holds is None:
            holds = self._held[key_id] = self._holds(key_id)
        return found if holds else None


class Decisions:
    """Makes decisions and keeps them.

    Args:
        storage: The opened installation.
        make: Decides from rows, in a thread: address, name, and whether bytes are taken (GET).
    """

    def __init__(self, storage: Storage, make: Make) -> None:
        self._storage, self._make = storage, make
        self._mark = CommitMark(storage.database)
        self._kept: OrderedDict[tuple[str, str], Decision] = OrderedDict()
        self._reading: asyncio.Task[str | None] | None = None
        self._next: asyncio.Task[str | None] | None = None
        self._looking: dict[tuple[str | None, Ground], asyncio.Task[Standing | None]] = {}

    def moment(self) -> Moment:
        """What is known of now without asking anybody."""
        mark = None
        if self._mark.is_instant:
            mark = self._mark.read()
            if mark is None:
                self._kept.clear()
        return Moment(self._kept, mark, self._storage.clock.now(), self._storage.keys.holds)

    async def decide(self, token: str, name: str, *, is_taking: bool) -> Decision:
        """The decision in force now.

        Raises:
            EvidenceError: There is nothing, or no right to it.
        """
        mark = await self._read_mark()
        if mark is None:
            # Nothing says what was committed: what was decided before is worth nothing.
            self._kept.clear()
        kept = self._kept.get((token, name))
        if kept is not None:
            if kept.mark == mark and self._is_within_its_time(kept):
                return kept
            if self._is_within_its_time(kept) and await self._still_stands(kept, mark):
                return self._keep(token, name, replace(kept, mark=mark))
            self._kept.pop((token, name), None)
        made = await asyncio.to_thread(self._make, token, name, is_taking)
        etag, lines = described(made.servable)
        made = replace(made, mark=mark, etag=etag, described=lines)
        return self._keep(token, name, made) if made.may_be_kept and mark is not None else made

    async def stands(self, token: str, name: str) -> bool:
        """Whether bytes that are being sent may go on being sent.

        Raises:
            Unavailable: Nobody can say now.
        """
        try:
            await self.decide(token, name, is_taking=False)
        except Unavailable:
            raise
        except EvidenceError:
            return False
        return True

    def close(self) -> None:
        self._mark.close()

    def _keep(self, token: str, name: str, decision: Decision) -> Decision:
        self._kept[token, name] = decision
        self._kept.move_to_end((token, name))
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return decision

    def _is_within_its_time(self, decision: Decision) -> bool:
        return self._storage.clock.now() < decision.ends_at and self._storage.keys.holds(
            decision.capability.key_id
        )

    async def _still_stands(self, kept: Decision, mark: str | None) -> bool:
        """Whether its rows still say the same; who found the same mark shares one look at them.

        Each commit sends every line here at once, and a look costs more than many ranges.
        """
        ground = kept.ground
        if ground is None:
            return False
        key = (mark, ground)
        looking = self._looking.get(key)
        if looking is None:
            looking = self._looking[key] = asyncio.create_task(asyncio.to_thread(self._look, ground))
            looking.add_done_callback(lambda _: self._looking.pop(key))
        return await asyncio.shield(looking) == ground.standing

    def _look(self, ground: Ground) -> Standing | None:
        with self._storage.database.read() as session:
            return grants.standing(
                session, ground.agency_id, ground.grant_id, ground.derivative_id, ground.kind
            )

    async def _read_mark(self) -> str | None:
        """A mark that was read after the call began; who waits together shares one question."""
        if self._mark.is_instant:
            return self._mark.read()
        if self._next is None:
            self._next = asyncio.create_task(self._read_after(self._reading))
        return await asyncio.shield(self._next)

    async def _read_after(self, earlier: asyncio.Task[str | None] | None) -> str | None:
        if earlier is not None:
            await asyncio.wait({earlier})
        self._reading, self._next = self._next, None
        return await asyncio.to_thread(self._mark.read)


def described(servable: Servable) -> tuple[str | None, bytes]:
    """The entity tag, and the header lines about a thing that do not depend on the request."""
    lines = [f"content-type: {servable.content_type}"]
    etag = None
    if servable.sha256 is not None:
        etag = f'"{servable.sha256.hex()}"'
        digest = base64.b64encode(servable.sha256).decode("ascii")
        lines += [f"etag: {etag}", f"repr-digest: sha-256=:{digest}:", f"digest: sha-256={digest}"]
    if servable.download_name is not None:
        # RFC 6266: the exact name, and a plain one for clients that do not read it.
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", servable.download_name)
        name = quote(servable.download_name, safe="")
        lines.append(f"content-disposition: attachment; filename=\"{plain}\"; filename*=UTF-8''{name}")
    return etag, ACCEPTS_RANGES + "".join(f"{line}\r\n" for line in lines).encode("ascii")
