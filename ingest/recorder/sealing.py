"""Sealing a session: the list of its files with their digests, signed, once all is in and read back (L17).

What is sealed stays as it was: facts, notes and reasons are stated before. The signature is that of receipts
(Ed25519, *integrity only*): who alters a file, or the list, is found out; it is no electronic seal in law.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.breaks import Cause
from evidence.canonical import canonical_json
from evidence.clock import rfc3339
from evidence.custody import Action
from evidence.errors import Conflict
from evidence.item import SHOWABLE, Custody
from evidence.session import State, move
from ingest.recorder.noting import SUBJECT
from ingest.recorder.second_copy import told_of
from ingest.recorder.sessions import Told, tell
from storage.db import custody, sessions
from storage.db.custody import Happening
from storage.db.room_tables import RoomSession
from storage.db.tables import Agency
from storage.keys import KeyRing, Purpose

VERSION = "liuhen-session-manifest/1"
CHANGING = frozenset({"verified", "after_seal", "second_copy"})
"""What is told of a file and may be another tomorrow."""


def signed(keys: KeyRing, body: Mapping[str, Any]) -> dict[str, Any]:
    """A body with the key and the signature over its canonical JSON, as a receipt has them."""
    key_id, signature = keys.sign(Purpose.RECEIPT, canonical_json(body))
    return {**body, "key": key_id, "signature": base64.b64encode(signature).decode("ascii")}


def seal(
    session: Session, agency: Agency, session_id: UUID, keys: KeyRing, *, actor: str, now: datetime
) -> RoomSession:
    """Seal a session that has ended.

    Raises:
        NotFound: There is none.
        Conflict: It is open or sealed (``session_state``), has no files (``session_empty``), files that are
            not read back yet (``session_not_verified``), or some that may still come where nobody said why
            they are not waited for (``session_outstanding``).
    """
    row = sessions.session_by_id(session, agency.id, session_id, lock=True)
    target = move(State(row.state), State.SEALED)
    told = tell(session, agency.id, row)
    files = files_of(session, agency.id, told)
    if not files:
        raise Conflict(
            f"session {row.id}: expected files, found none; nothing can be sealed", code="session_empty"
        )
    unread = [each["item"] for each in files if not each["verified"]]
    if unread:
        raise Conflict(
            f"session {row.id}: expected every file read back, found {len(unread)} that are not; wait, or "
            "look at their flags",
            code="session_not_verified",
            items=unread[:20],
        )
    if any(each.cause is Cause.OUTSTANDING and not each.is_explained for each in told.breaks):
        raise Conflict(
            f"session {row.id}: expected every file, found some that may still come; wait, or state why not",
            code="session_outstanding",
            held_by=row.held_by,
        )
    manifest = canonical_json(
        signed(
            keys,
            {
                "version": VERSION,
                "agency": agency.code,
                "session": str(row.id),
                "room_no": row.room_no,
                "started_at": rfc3339(row.started_at),
                "ended_at": rfc3339(row.ended_at or now),
                "complete_at": rfc3339(row.complete_at) if row.complete_at else None,
                "sealed_at": rfc3339(now),
                "files": [
                    {name: value for name, value in each.items() if name not in CHANGING} for each in files
                ],
            },
        )
    )
    row.state, row.sealed_at, row.sealed_by, row.manifest = str(target), now, actor, manifest.decode()
    facts = {
        "manifest_sha256": sha256(manifest).hexdigest(),
        "files": len(files),
        "missing": told.facts.missing(),
    }
    happening = Happening(Action.ROOM_SESSION_SEALED, SUBJECT, str(row.id), actor, facts)
    custody.record(session, agency, happening, now)
    return row


def files_of(session: Session, agency_id: UUID, told: Told) -> list[dict[str, Any]]:
    """The files of a session, by stream and place, with their digests, and what their second copies are."""
    held = sessions.held_of(session, agency_id, told.parts)
    copies = told_of(session, agency_id, [part.reception_key for part in told.parts])
    found = []
    for part in sorted(told.parts, key=lambda each: (each.stream, each.sequence_no)):
        item, stored = held[part.item_id]
        found.append(
            {
                "stream": part.stream,
                "sequence_no": part.sequence_no,
                "item": str(item.id),
                "from_at": rfc3339(part.from_at),
                "to_at": rfc3339(part.to_at),
                "size_bytes": stored.size_bytes,
                "sha256": stored.sha256.hex(),
                "sm3": stored.sm3.hex() if stored.sm3 else None,
                "verified": Custody(item.custody) in SHOWABLE and stored.sm3 is not None,
                "after_seal": told.row.sealed_at is not None and part.noted_at > told.row.sealed_at,
                "second_copy": copies.get(part.reception_key),
            }
        )
    return found
