"""What second stores hold, against the rows that say they matched (D14)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from evidence.errors import EvidenceError, Unavailable
from evidence.fixity import hash_stream
from storage.check_files import Depth
from storage.db import second_copies
from storage.db.room_tables import SecondCopy
from storage.db.tables import Agency, StoredObject
from storage.findings import Finding, finding
from storage.open import Storage
from storage.second_copy import SecondStore, attached, room_folder

KIND = "second_copy"


def check_copies(
    storage: Storage, agency: Agency, folders: Mapping[str, Path], depth: Depth
) -> Iterator[Finding]:
    """Everything wrong with an agency's second copies.

    Args:
        folders: The second store of each room that has one, by the room's number.
    """
    for room_no, folder in folders.items():
        with storage.database.read() as session:
            rows = list(second_copies.all_copied(session, agency.id, room_no))
        try:
            with attached(folder, agency.store_id) as second:
                for row, held in rows:
                    place = f"{room_folder(agency.code, room_no)}/{row.path}"
                    try:
                        yield from _judge(second, place, row, held, depth)
                    except EvidenceError as error:
                        yield finding("copy_unreadable", KIND, row.id, f"{place}: {error.message}")
        except Unavailable as error:
            yield finding(error.code, "room", room_no, folder)


def _judge(
    second: SecondStore, place: str, row: SecondCopy, held: StoredObject, depth: Depth
) -> Iterator[Finding]:
    size = second.size(place)
    if size is None:
        yield finding("copy_missing", KIND, row.id, place)
    elif size != held.size_bytes:
        yield finding("copy_size", KIND, row.id, f"{place}: {held.size_bytes} B, {size} B")
    elif depth is Depth.DIGESTS:
        found = hash_stream(second.read_back(place)).sha256
        if found != held.sha256:
            yield finding("copy_digest", KIND, row.id, f"{place}: {held.sha256.hex()}, {found.hex()}")
