"""A file on its way to us: bytes in staging that outlive a cut line and a killed process.

    pull-<place>-<file>.part    the bytes
                       .mark    which state of which file, how much of it is on disk, boot, digest when whole

The discipline is that of an open upload (docs/design/storage.md): bytes, ``fdatasync``, then the mark.
What counts after a crash is the mark, or, within the same boot, what the file holds: a dead process
loses no page cache. The digest is made while bytes arrive, and made again from the file after a restart.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

from evidence.errors import Unavailable
from evidence.fixity import StreamingDigest
from storage.objects.durable import translated, write_durably

MARK_EVERY_BYTES = 64 << 20
MARK_EVERY_S = 5.0
OVERLAP_BYTES = 4096
"""So much is asked for again after a cut and compared: a file replaced in between is noticed."""


def boot() -> str:
    """Which boot of this machine it is."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


class Partial:
    """One file being fetched; use `open`, then `write`, then `finish` or `keep`."""

    def __init__(self, stem: Path, identity: str) -> None:
        self.path = stem.with_name(stem.name + ".part")
        self._mark = stem.with_name(stem.name + ".mark")
        self._identity = identity
        self._digest = StreamingDigest()
        self._descriptor: int | None = None
        self._marked_bytes = 0
        self._marked_s = 0.0
        self._is_sound = True
        self.sha256: bytes | None = None
        """Set once it is whole."""
        self.unsure_from = self.unsure_to = 0
        """Between these it came over an earlier line: it may be of another file of equal size and time."""

    @property
    def have_bytes(self) -> int:
        """How much is here."""
        return self._digest.size_bytes

    @property
    def resume_at(self) -> int:
        """From where to ask: a little before the end of what is here, to compare."""
        return max(0, self.have_bytes - OVERLAP_BYTES)

    def open(self) -> None:
        """Find what an earlier try left behind, or begin.

        Raises:
            Unavailable: The disk is full or fails.
        """
        mark = self._read_mark()
        with translated("staging of a fetched file"):
            if mark is None:
                self.path.unlink(missing_ok=True)
                self._write_mark(0)
            elif mark.get("sha256"):
                # Whole already; the bytes may have been adopted by a process that died right after.
                self.sha256 = bytes.fromhex(str(mark["sha256"]))
                self.unsure_from, self.unsure_to = map(int, str(mark.get("unsure", "0-0")).split("-"))
                return
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            size = os.fstat(self._descriptor).st_size
            if mark is not None:
                counts = size if mark.get("boot") == boot() else min(size, int(str(mark["length"])))
                os.ftruncate(self._descriptor, counts)
                os.fsync(self._descriptor)
                self._digest.follow(self._descriptor)
                self._marked_bytes = self.unsure_to = counts
        self._marked_s = time.monotonic()

    def tail(self) -> bytes:
        """What lies between `resume_at` and the end of what is here."""
        return os.pread(self._file(), self.have_bytes - self.resume_at, self.resume_at)

    def bytes_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Some of a whole file."""
        with translated("staging of a fetched file"), self.path.open("rb") as file:
            return os.pread(file.fileno(), size_bytes, offset_bytes)

    def note_compared(self, to_bytes: int) -> None:
        """Note, durably, that a whole file is one to there."""
        if self.sha256 is not None and to_bytes != self.unsure_from:
            self.unsure_from = to_bytes
            self._write_mark(self.unsure_to, self.sha256)

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes.

        Raises:
            Unavailable: The disk is full or fails; what came before is kept.
        """
        view = memoryview(data)
        position = self.have_bytes
        try:
            with translated("staging of a fetched file"):
                rest = view
                while rest:
                    written = os.pwrite(self._file(), rest, position)
                    position += written
                    rest = rest[written:]
        except Unavailable:
            self._is_sound = False
            raise
        self._digest.update(view)
        due = self.have_bytes - self._marked_bytes >= MARK_EVERY_BYTES
        if due or time.monotonic() - self._marked_s >= MARK_EVERY_S:
            self._acknowledge()

    def finish(self) -> bytes:
        """Sync the whole file and note its digest, durably; returns the digest."""
        self._acknowledge()
        digest = self._digest.digests().sha256
        self._write_mark(self.have_bytes, digest)
        self._close()
        self.sha256 = digest
        return digest

    def keep(self) -> None:
        """Let go for now; what is here is gone on with by the next try."""
        if self._descriptor is None:
            return
        try:
            if not self._is_sound:
                # After a failed write nothing behind the mark is trusted, nor asked to be synced again.
                os.ftruncate(self._descriptor, self._marked_bytes)
            else:
                # A disk that is full of our own bytes refuses the mark too; the old one stands.
                with contextlib.suppress(Unavailable):
                    self._acknowledge()
                if not self._is_sound:
                    os.ftruncate(self._descriptor, self._marked_bytes)
        finally:
            self._close()

    def drop(self) -> None:
        """Forget the bytes: the file changed, or they are safe elsewhere."""
        self._close()
        self.path.unlink(missing_ok=True)
        self._mark.unlink(missing_ok=True)

    def _acknowledge(self) -> None:
        try:
            with translated("staging of a fetched file"):
                os.fdatasync(self._file())
        except Unavailable:
            self._is_sound = False
            raise
        self._write_mark(self.have_bytes)
        self._marked_bytes, self._marked_s = self.have_bytes, time.monotonic()

    def _write_mark(self, length: int, sha256: bytes | None = None) -> None:
        fields: dict[str, object] = {"identity": self._identity, "length": length, "boot": boot()}
        if sha256 is not None:
            fields |= {"sha256": sha256.hex(), "unsure": f"{self.unsure_from}-{self.unsure_to}"}
        with translated("mark of a fetched file"):
            write_durably(self._mark, json.dumps(fields).encode())

    def _read_mark(self) -> dict[str, object] | None:
        try:
            mark = json.loads(self._mark.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        is_ours = isinstance(mark, dict) and mark.get("identity") == self._identity
        return mark if is_ours and isinstance(mark.get("length"), int) else None

    def _file(self) -> int:
        if self._descriptor is None:
            raise ValueError("partial: expected it open, found it closed")
        return self._descriptor

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
