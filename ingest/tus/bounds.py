"""What one sender can make this host hold: places, bytes, and memory of what is finished.

A sender is a token, or the device tokens are bound to: a device keeps its bounds when its token is replaced.
"""

from __future__ import annotations

from collections.abc import Iterable

from evidence.errors import InvalidInput
from ingest.tus.upload import TOMBSTONES, Upload
from storage.db.credentials import Uploader

MAX_TOMBSTONES = 4096
"""Finished uploads remembered for one sender; the oldest beyond are forgotten before they expire."""


class Holdings:
    """The open uploads of each sender."""

    def __init__(self) -> None:
        self._held: dict[object, set[Upload]] = {}
        """With some that were open when last looked at."""

    def add(self, upload: Upload) -> None:
        """Count an upload, if it is one that counts."""
        if upload.is_open:
            self._held.setdefault(_sender(upload.record.uploader), set()).add(upload)

    def discard(self, upload: Upload) -> None:
        """Count an upload no longer."""
        sender = _sender(upload.record.uploader)
        held = self._held.get(sender, set())
        held.discard(upload)
        if not held:
            self._held.pop(sender, None)

    def require_place(self, uploader: Uploader, most: int) -> None:
        """Raises InvalidInput (``too_many_uploads``) when a sender has no place for one more."""
        held = len(self._open_of(uploader))
        if held >= most:
            raise InvalidInput(
                f"upload: expected fewer than {most} open ones, found {held}; finish or terminate one",
                code="too_many_uploads",
            )

    def require_allowance(self, uploader: Uploader, more_bytes: int, most_bytes: int) -> None:
        """Raises InvalidInput (``too_many_open_bytes``) when a sender may not hold that much more."""
        held = sum(upload.held_bytes for upload in self._open_of(uploader))
        if held + more_bytes > most_bytes:
            raise InvalidInput(
                f"upload: expected at most {most_bytes} bytes in open ones, found {held + more_bytes}; "
                "finish or terminate one",
                code="too_many_open_bytes",
            )

    def _open_of(self, uploader: Uploader) -> set[Upload]:
        held = self._held.get(_sender(uploader), set())
        held -= {upload for upload in held if not upload.is_open}
        return held


def spare_tombstones(uploads: Iterable[Upload]) -> list[Upload]:
    """The oldest tombstones of senders that have more than we remember for one."""
    by_sender: dict[object, list[Upload]] = {}
    for upload in uploads:
        if upload.record.phase in TOMBSTONES:
            by_sender.setdefault(_sender(upload.record.uploader), []).append(upload)
    spare: list[Upload] = []
    for tombstones in by_sender.values():
        if len(tombstones) > MAX_TOMBSTONES:
            tombstones.sort(key=lambda upload: upload.touched_at)
            spare += tombstones[: len(tombstones) - MAX_TOMBSTONES]
    return spare


def _sender(uploader: Uploader) -> object:
    return (uploader.agency_id, uploader.device_no) if uploader.device_no else uploader.token_id
