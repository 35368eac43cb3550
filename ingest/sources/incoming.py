"""One transfer into the dropbox: bytes at offsets, what is missing among them, and how it ends."""

from __future__ import annotations

import os
import threading
from typing import Protocol

import structlog

from evidence.errors import Conflict, EvidenceError, InvalidInput
from ingest.sources.dropbox_shelf import Pushed
from storage.objects.durable import translated

log = structlog.get_logger(__name__)

MAX_GAPS = 1024
RESERVE_EVERY_BYTES = 64 << 20


class Receiving(Protocol):
    """What a transfer needs of the dropbox."""

    max_file_bytes: int

    def require_room(self, more_bytes: int) -> None:
        """Raises Unavailable when the disk has none."""
        ...

    def grow(self, found: Pushed, size_bytes: int) -> None:
        """Count a file as that long; raises Unavailable when its dock has too much waiting."""
        ...

    def sync(self, found: Pushed, descriptor: int, whole_to: int | None) -> Pushed:
        """Sync what came so far; what lies behind ``whole_to`` does not count."""
        ...

    def note_cut(self, found: Pushed, size_bytes: int) -> Pushed:
        """Note, durably, that no more than so much counts."""
        ...

    def note_hole(self, found: Pushed, at_bytes: int) -> Pushed:
        """Note, durably, that what lies behind there may be a hole."""
        ...

    def settle(
        self, found: Pushed, descriptor: int, *, in_order: bool, is_sound: bool, declared_bytes: int | None
    ) -> Pushed:
        """End a transfer."""
        ...


class Incoming:
    """One transfer. Its methods wait for the disk, and for each other."""

    def __init__(self, box: Receiving, found: Pushed, descriptor: int) -> None:
        self._box = box
        self._found = found
        self._descriptor: int | None = descriptor
        self._turn = threading.RLock()
        """Nobody writes to a descriptor that is closed meanwhile, and may be another file's by then."""
        self._reserved_to = 0
        self._gaps: list[tuple[int, int]] = []
        """Where nothing was written yet, because pieces came out of order."""
        self._broken_at: int | None = None
        """Where the first piece was to go that was refused or failed: its sender may go on all the same, and
        end politely."""
        self._is_sound = True
        """False once a sync failed: what is not synced by then counts no more."""
        self.size_bytes = os.fstat(descriptor).st_size
        """How long the file is now."""
        self._old_to = self.size_bytes
        """So far what an earlier transfer left counts: to where this one began to write over it."""
        self.declared_bytes: int | None = None
        """How long the whole file is, as the dock said beforehand."""
        self.appends = False
        """Whether each write goes to the end."""

    def write(self, data: bytes, offset_bytes: int | None) -> None:
        """Write at an offset; None: at the end.

        Raises:
            InvalidInput: Beyond the largest size (``push_too_large``), or one gap too many (``push_offset``).
            Unavailable: No room on the disk, or none for this dock (``push_full``).
        """
        with self._turn:
            self._write(data, self.size_bytes if offset_bytes is None else offset_bytes)

    def _write(self, data: bytes, offset_bytes: int) -> None:
        descriptor, end = self._file(), offset_bytes + len(data)
        try:
            self._require_welcome(offset_bytes, end)
            with translated("pushed file"):
                view, at = memoryview(data), offset_bytes
                while view:
                    count = os.pwrite(descriptor, view, at)
                    at += count
                    view = view[count:]
        except EvidenceError:
            self._broken_at = min(offset_bytes, self._whole_to())
            raise
        self._note(offset_bytes, end)

    def _require_welcome(self, begin: int, end: int) -> None:
        if end > self._box.max_file_bytes:
            raise InvalidInput(
                f"file: expected at most {self._box.max_file_bytes} bytes, found more", code="push_too_large"
            )
        leaves_gap_at = self.size_bytes if begin > self.size_bytes else min(begin, self._old_to)
        leaves_gap = begin > self.size_bytes or begin < self._old_to
        if leaves_gap and len(self._gaps) >= MAX_GAPS:
            raise InvalidInput("offset: expected pieces in order, found many gaps", code="push_offset")
        if end > self._reserved_to:
            self._box.require_room(RESERVE_EVERY_BYTES)
            self._reserved_to = end + RESERVE_EVERY_BYTES
        known_at = self._found.hole_at
        if leaves_gap and (known_at is None or leaves_gap_at < known_at):
            self._found = self._box.note_hole(self._found, leaves_gap_at)
        if end > self.size_bytes:
            self._box.grow(self._found, end)

    def _note(self, begin: int, end: int) -> None:
        """Keep account of what is missing: a hole, or what an older transfer left, would pass for footage."""
        if begin > self.size_bytes:
            self._gaps.append((self.size_bytes, begin))
        if begin < self._old_to:
            self._gaps.append((end, self._old_to))
            self._old_to = begin
        self.size_bytes = max(self.size_bytes, end)
        if self._gaps:
            cut = [((low, min(high, begin)), (max(low, end), high)) for low, high in self._gaps]
            self._gaps = [(low, high) for pair in cut for low, high in pair if low < high]

    def truncate(self, size_bytes: int) -> None:
        """Cut it, or lengthen it by nothing: a hole would pass for footage."""
        with self._turn:
            if size_bytes > self.size_bytes:
                raise InvalidInput("size: expected what is here at most, found more", code="push_offset")
            # The record first: after a power cut it must not speak for old bytes that the cut was to remove.
            self._found = self._box.note_cut(self._found, size_bytes)
            with translated("pushed file"):
                os.ftruncate(self._file(), size_bytes)
            self.size_bytes = size_bytes
            self._old_to = min(self._old_to, size_bytes)
            self._gaps = [(low, min(high, size_bytes)) for low, high in self._gaps if low < size_bytes]
            self._box.grow(self._found, size_bytes)

    def sync(self) -> None:
        """Sync what came so far.

        Raises:
            Unavailable: The disk fails; nothing after the last good sync counts.
        """
        with self._turn:
            whole_to = None if self._is_in_order else self._whole_to()
            try:
                self._found = self._box.sync(self._found, self._file(), whole_to)
            except EvidenceError:
                self._is_sound = False
                raise

    def end(self, *, in_order: bool) -> Pushed:
        """End the transfer; after this the bytes are on disk. What lies behind a gap is none of the file.

        Raises:
            Unavailable: The disk fails; the file is torn, and holds what was synced before.
        """
        with self._turn:
            descriptor, is_in_order = self._file(), self._is_in_order
            if not is_in_order:
                self._cut_at(self._whole_to())
            self._descriptor = None
            return self._box.settle(
                self._found,
                descriptor,
                in_order=in_order and is_in_order,
                is_sound=self._is_sound,
                declared_bytes=self.declared_bytes,
            )

    def let_go(self) -> None:
        """End it as broken off, unless it was ended: its connection is gone."""
        with self._turn:
            if self._descriptor is not None:
                self.end(in_order=False)

    @property
    def _is_in_order(self) -> bool:
        return not self._gaps and self._broken_at is None

    def _whole_to(self) -> int:
        """Up to where every byte came."""
        broken_at = self.size_bytes if self._broken_at is None else self._broken_at
        return min(broken_at, self.size_bytes, *(low for low, _ in self._gaps))

    def _cut_at(self, size_bytes: int) -> None:
        try:
            self.truncate(size_bytes)
        except EvidenceError as error:
            # Then it is cut back further, to what was synced; and if that fails too, by the next writer.
            log.error("push:not_cut", code=error.code, detail=error.message)  # noqa: TRY400
            self._is_sound = False

    @property
    def is_ended(self) -> bool:
        """Whether `end` was called."""
        return self._descriptor is None

    def _file(self) -> int:
        if self._descriptor is None:
            raise Conflict("file: expected it open, found it closed", code="push_busy")
        return self._descriptor
