"""One upload in this process: how far it is, who has it, and what may still come of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

from evidence.errors import Conflict, NotPermitted, Unavailable
from evidence.fixity import StreamingDigest
from ingest.tus.state import Phase, UploadRecord

TOMBSTONES = frozenset({Phase.SEALED, Phase.JOINED})


class Upload:
    """One upload in this process."""

    def __init__(self, record: UploadRecord, folder: Path, offset_bytes: int, touched_at: datetime) -> None:
        self.record = record
        self.offset_bytes = offset_bytes
        self.touched_at = touched_at
        self.digest: StreamingDigest | None = StreamingDigest() if offset_bytes == 0 else None
        """Of exactly the acknowledged bytes; None when it must be made from the file."""
        self.part_path = folder / f"{record.upload_id}.part"
        self.mark_path = folder / f"{record.upload_id}.mark"
        self.record_path = folder / f"{record.upload_id}.json"
        self.lock = asyncio.Lock()
        self.settling = asyncio.Lock()
        self.failed_seals = 0
        self.retry_seal_at = 0.0
        self._claims = 0
        self._timer: asyncio.Timeout | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every byte is there and acknowledged."""
        return self.offset_bytes == self.record.length_bytes

    @property
    def is_final(self) -> bool:
        """Whether it is joined of parts, and takes no bytes itself."""
        return bool(self.record.parts)

    @property
    def owes_item(self) -> bool:
        """Whether all its bytes are on our disk, and nothing but an item may come of them."""
        if self.record.phase in TOMBSTONES or self.record.is_partial:
            return False
        return self.is_whole or self.is_final

    @property
    def is_to_settle(self) -> bool:
        """Whether something is left to do that needs no sender."""
        return self.owes_item or (self.is_whole and self.record.phase is Phase.OPEN)

    @property
    def is_open(self) -> bool:
        """Whether it counts against what its sender may hold open."""
        if self.is_final:
            return False
        return self.record.phase is Phase.OPEN or (
            self.record.is_partial and self.record.phase is Phase.COMPLETE
        )

    @property
    def held_bytes(self) -> int:
        """What it takes of the bytes its sender may hold open."""
        length = self.record.length_bytes
        return self.offset_bytes if length is None else length

    def require_takes_bytes(self) -> None:
        """Raises NotPermitted (``final_upload``) for one that is joined of parts: nobody else writes it."""
        if self.is_final:
            raise NotPermitted(
                "upload: expected one that takes bytes, found a final one; send to its parts",
                code="final_upload",
            )

    def claim(self) -> int:
        """Take the upload over: whoever writes now stops waiting for bytes at once."""
        self._claims += 1
        if self._timer is not None and not self._timer.expired():
            self._timer.reschedule(asyncio.get_running_loop().time())
        return self._claims

    def is_held_by(self, claim: int) -> bool:
        """Whether nobody claimed it later; may be asked in a thread."""
        return self._claims == claim

    def require_claim(self, claim: int) -> None:
        """Raises Conflict (``upload_interrupted``) when someone claimed the upload later."""
        if not self.is_held_by(claim):
            raise Conflict(
                "upload: expected to be its only sender, found a newer request for it; ask with HEAD "
                "and send from there",
                code="upload_interrupted",
            )

    @contextlib.asynccontextmanager
    async def waiting(self, claim: int, deadline_s: float) -> AsyncIterator[None]:
        """Wait for the sender inside this: not longer than the deadline, nor past the claim.

        Raises:
            Conflict: A newer request took the upload over.
            Unavailable: Nothing came for ``deadline_s``; code ``read_deadline``.
        """
        self.require_claim(claim)
        try:
            async with asyncio.timeout(deadline_s) as self._timer:
                yield
        except TimeoutError as error:
            self.require_claim(claim)
            raise Unavailable(
                f"body: expected more bytes within {deadline_s:g} s, found none; ask with HEAD and go on",
                code="read_deadline",
            ) from error
        finally:
            self._timer = None
