"""Freeing a card: the one thing here that cannot be taken back.

A file is deleted when all of it holds: the configuration allows it; this agent uploaded it;
its kept receipt verifies again now, against digest, size, item and device as the agent found
them; the file still is, by name, size, time and inode, the one that was read; and it was read
in this docking, or is read again whole and has the same digest; and the server, asked now, still stands
by it: bytes may be found damaged after their receipt. Key files wait until nothing else on the
card waits for a receipt.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from liuhen_dock.card import Camera, Footage
from liuhen_dock.durable import sync_folder
from liuhen_dock.errors import BadReceipt, DockError, FileChanged, UploadGone
from liuhen_dock.journal import Entry, Journal, Phase
from liuhen_dock.names import shown
from liuhen_dock.reading import CardFile
from liuhen_dock.receipts import Expected, ReceiptFolder, verify
from liuhen_dock.tus import TusClient


def expected_of(entry: Entry) -> Expected:
    """What a receipt for this file must say."""
    return Expected(entry.sha256, entry.key.size_bytes, entry.item, entry.device_no)


def may_be_freed(entry: Entry, footage: Footage, waiting: int) -> bool:
    """Whether a file's turn has come: key files last, and only when nothing waits for a receipt."""
    return entry.phase in {Phase.RECEIPTED, Phase.FREED} and not (footage.facts.is_key and waiting)


def free(
    camera: Camera,
    footage: Footage,
    entry: Entry,
    *,
    journal: Journal,
    receipts: ReceiptFolder,
    keys: Sequence[Ed25519PublicKey],
    was_read_now: bool,
    client: TusClient,
) -> Entry:
    """Delete one file from the card.

    Args:
        was_read_now: The agent read all of it since the card was put in.
        client: Asks the server whether its receipt still holds.

    Returns:
        Its entry, in `Phase.FREED`.

    Raises:
        BadReceipt: No kept receipt proves it, or the server no longer stands by it
            (``receipt_withdrawn``: the file is uploaded anew); the file stays.
        TryAgain: The server cannot be asked now.
        FileChanged: It is not the file that was sent; the file stays and is uploaded anew.
        DockError: Code ``card_readonly``: the card does not let go of it.
    """
    _require_receipt(entry, receipts, keys)
    if not _still_holds(entry, keys, client):
        journal.advance(entry, Phase.DROPPED)
        raise BadReceipt(
            f"receipt {entry.sha256[:16]}: expected the server to stand by it, found it withdrawn",
            code="receipt_withdrawn",
        )
    with CardFile(camera, footage) as file:
        if not was_read_now and file.sha256() != entry.sha256:
            journal.advance(entry, Phase.DROPPED, sha256="")
            raise FileChanged(f"{shown(footage.name)}: expected sha256 {entry.sha256}, found another")
        file.require_same()
    try:
        footage.path.unlink()
        sync_folder(footage.path.parent)
    except OSError as error:
        raise DockError(
            f"{shown(footage.name)}: expected leave to delete, found: {error.strerror}", code="card_readonly"
        ) from error
    return journal.advance(entry, Phase.FREED)


def _still_holds(entry: Entry, keys: Sequence[Ed25519PublicKey], client: TusClient) -> bool:
    try:
        raw = client.receipt(client.require_ours(entry.location))
    except UploadGone:
        return _is_known_sound(entry, client)
    if raw is None:
        return False
    verify(raw, keys, expected_of(entry))
    return True


def _is_known_sound(entry: Entry, client: TusClient) -> bool:
    """By digest, where the upload itself is long forgotten."""
    try:
        known = client.receptions(entry.sha256)
    except UploadGone:  # a server that does not answer by digest
        return False
    return any(one.get("item") == entry.item and one.get("may_erase") is True for one in known)


def _require_receipt(entry: Entry, receipts: ReceiptFolder, keys: Sequence[Ed25519PublicKey]) -> None:
    reason = BadReceipt(
        f"receipt {entry.sha256[:16]}: expected it in the folder, found none", code="receipt_missing"
    )
    for path in receipts.find(entry.sha256):
        try:
            verify(path.read_bytes(), keys, expected_of(entry))
        except BadReceipt as error:
            reason = error
        else:
            return
    raise reason
