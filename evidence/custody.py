"""The custody log: what a leaf, a sealed payload, a checkpoint and an export *are*.

The rules, in order (docs/design/custody.md):

1. Every change of anything that matters is one `Leaf`, written in the transaction of the
   change. Its bytes are canonical JSON with a version tag and are never made twice: what
   was hashed is what is stored.
2. A leaf holds digests, sizes, states and ids. What could name a person goes into a
   *sealed payload*, salted, of which the leaf holds the digest alone; so one case can be
   shown without the others, and nobody can guess a payload from its digest.
3. Leaves are written unordered. One sequencer gives them indices in an RFC 9162 tree and
   signs a *checkpoint* over size and root (C2SP tlog-checkpoint in a C2SP signed note).
4. Whoever holds a checkpoint can prove, with an export and `cli/verifier.py`, what was
   altered, removed, added or moved below its size.

The tree is in `evidence.merkle`, checkpoints in `evidence.checkpoint`, the log as a file in
`evidence.custody_export`; their words are offered here too, as the one vocabulary of custody.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any
from uuid import UUID

from evidence import merkle
from evidence.canonical import JSON, canonical_json
from evidence.checkpoint import (
    Checkpoint,
    NoteSignature,
    NoteSigner,
    checkpoint_body,
    is_origin,
    is_signed_by,
    note_key_id,
    origin_of,
    parse_checkpoint,
    sign_checkpoint,
)
from evidence.clock import rfc3339
from evidence.custody_export import (
    EXPORT_FORMAT,
    ExportCheckpoint,
    ExportHeader,
    ExportLeaf,
    PublicKeyRecord,
    export_lines,
    read_export,
)
from evidence.errors import CustodyError, InvalidInput

__all__ = [
    "EXPORT_FORMAT",
    "LEAF_VERSION",
    "Action",
    "Checkpoint",
    "ExportCheckpoint",
    "ExportHeader",
    "ExportLeaf",
    "Leaf",
    "NoteSignature",
    "NoteSigner",
    "PublicKeyRecord",
    "SealedPayload",
    "Sequenced",
    "checkpoint_body",
    "export_lines",
    "is_signed_by",
    "leaf_bytes",
    "leaf_hash",
    "new_salt",
    "note_key_id",
    "open_payload",
    "origin_of",
    "parse_checkpoint",
    "parse_leaf",
    "read_export",
    "seal_payload",
    "sequence_leaves",
    "sign_checkpoint",
]

LEAF_VERSION = "liuhen-leaf/1"

MAX_LEAF_BYTES = 256 * 1024
MAX_PAYLOAD_BYTES = 1024 * 1024
MIN_SALT_BYTES = 16

_TOKEN = re.compile(r"[a-z][a-z0-9_]*")
_SUBJECT_ID = re.compile(r"[^\s\x00-\x1f\x7f]{1,200}")
_ACTOR = re.compile(r"[a-z][a-z0-9_]*(:[^\s\x00-\x1f\x7f]{1,128})?")
_HEX_DIGEST = re.compile(r"[0-9a-f]{64}")


class Action(StrEnum):
    """Everything the log can say happened, as ``subject:action``. Add a line to add an event."""

    AGENCY_CREATED = "agency:created"
    AGENCY_RENAMED = "agency:renamed"
    ALARM_CLEARED = "alarm:cleared"
    ALARM_RAISED = "alarm:raised"
    ACCOUNT_CREATED = "account:created"
    ACCOUNT_CHANGED = "account:changed"
    BACKUP_MADE = "backup:made"
    BINDING_ENDED = "binding:ended"
    BINDING_MADE = "binding:made"
    BINDING_SPLIT = "binding:split"
    BINDING_SUGGESTED = "binding:suggested"
    CASE_CHANGED = "case:changed"
    CASE_CLOSED = "case:closed"
    CASE_OPENED = "case:opened"
    CLIP_ISSUED = "clip:issued"
    CUSTODY_EXPORTED = "custody:exported"
    DERIVATIVE_MADE = "derivative:made"
    DERIVATIVE_WITHDRAWN = "derivative:withdrawn"
    DEVICE_ADOPTED = "device:adopted"
    DEVICE_FAULT_OPENED = "device:fault_opened"
    DEVICE_FAULT_RESOLVED = "device:fault_resolved"
    DEVICE_ISSUED = "device:issued"
    DEVICE_QUARANTINED = "device:quarantined"
    DEVICE_REGISTERED = "device:registered"
    DEVICE_RETIRED = "device:retired"
    DEVICE_RETURNED = "device:returned"
    DOCK_CHANGED = "dock:changed"
    DOCK_REGISTERED = "dock:registered"
    DOCK_RETIRED = "dock:retired"
    DUTY_ENTERED = "duty:entered"
    DUTY_WITHDRAWN = "duty:withdrawn"
    GRANT_ISSUED = "grant:issued"
    GRANT_REVOKED = "grant:revoked"
    HOLD_LIFTED = "hold:lifted"
    HOLD_PLACED = "hold:placed"
    ITEM_COPIED = "item:copied"
    ITEM_COPY_DIFFERS = "item:copy_differs"
    ITEM_FACTS_SET = "item:facts_set"
    ITEM_FIXITY_FAILED = "item:fixity_failed"
    ITEM_FLAGGED = "item:flagged"
    ITEM_GROUPED = "item:grouped"
    ITEM_LATE = "item:late"
    ITEM_LATE_REASON = "item:late_reason"
    ITEM_INTERRUPTION_REASON = "item:interruption_reason"
    ITEM_NUMBER_DRAWN = "item:number_drawn"
    ITEM_PROBED = "item:probed"
    ITEM_QUARANTINED = "item:quarantined"
    ITEM_RECEIVED = "item:received"
    ITEM_RECEIVED_AGAIN = "item:received_again"
    ITEM_UNFLAGGED = "item:unflagged"
    ITEM_UNPLAYABLE = "item:unplayable"
    ITEM_VERIFIED = "item:verified"
    JOB_QUARANTINED = "job:quarantined"
    JOB_REQUEUED = "job:requeued"
    KEY_CREATED = "key:created"
    KEY_ROTATED = "key:rotated"
    OBJECT_PUT_BACK = "object:put_back"
    OBJECT_REREAD = "object:reread"
    OFFICER_REGISTERED = "officer:registered"
    LIVE_ISSUED = "live:issued"
    ORIGINAL_ISSUED = "original:issued"
    PREVIEW_ISSUED = "preview:issued"
    PLANNED_SESSION_BEGUN = "planned_session:begun"
    PLANNED_SESSION_MADE = "planned_session:made"
    PLANNED_SESSION_RELEASED = "planned_session:released"
    PLANNED_SESSION_WITHDRAWN = "planned_session:withdrawn"
    PLAYLIST_ISSUED = "playlist:issued"
    POLICY_SET = "policy:set"
    RECEIPT_ISSUED = "receipt:issued"
    REDACTION_CHECKED = "redaction:checked"
    REDACTION_CHECK_FAILED = "redaction:check_failed"
    REDACTION_CHECK_OVERRIDDEN = "redaction:check_overridden"
    REDACTION_REVIEWED = "redaction:reviewed"
    REDACTION_PLAN_AMENDED = "redaction_plan:amended"
    REDACTION_PLAN_APPROVED = "redaction_plan:approved"
    REDACTION_PLAN_PROPOSED = "redaction_plan:proposed"
    RELEASE_APPROVED = "release:approved"
    RELEASE_ASKED = "release:asked"
    RELEASE_GIVEN = "release:given"
    RELEASE_REFUSED = "release:refused"
    RELEASE_REVOKED = "release:revoked"
    RENDITION_ISSUED = "rendition:issued"
    REPORT_FOUND = "report:found"
    RESTORE_DONE = "restore:done"
    ROOM_SESSION_ENDED = "room_session:ended"
    ROOM_SESSION_FACTS_SET = "room_session:facts_set"
    ROOM_SESSION_HANDED_OVER = "room_session:handed_over"
    ROOM_SESSION_LIVE_MASKED = "room_session:live_masked"
    ROOM_SESSION_LIVE_MASK_LIFTED = "room_session:live_mask_lifted"
    ROOM_SESSION_MARKED = "room_session:marked"
    ROOM_SESSION_MASKED = "room_session:masked"
    ROOM_SESSION_MASK_ENDED = "room_session:mask_ended"
    ROOM_SESSION_PART_NOTED = "room_session:part_noted"
    ROOM_SESSION_PAUSED = "room_session:paused"
    ROOM_SESSION_POINT_NOTED = "room_session:point_noted"
    ROOM_SESSION_REASON_GIVEN = "room_session:reason_given"
    ROOM_SESSION_RECORDED_AT = "room_session:recorded_at"
    ROOM_SESSION_RESUMED = "room_session:resumed"
    ROOM_SESSION_SEALED = "room_session:sealed"
    ROOM_SESSION_STARTED = "room_session:started"
    ROWS_WRITTEN = "rows:written"
    SCENES_ISSUED = "scenes:issued"
    SESSION_OPENED = "session:opened"
    SESSION_REFUSED = "session:refused"
    SHEET_ISSUED = "sheet:issued"
    SOURCE_FREED = "source:freed"
    STILL_ISSUED = "still:issued"
    STORE_CHECKED = "store:checked"
    STORE_INITIALISED = "store:initialised"
    TOKEN_ISSUED = "token:issued"  # noqa: S105 -- an event, not a secret
    TOKEN_REVOKED = "token:revoked"  # noqa: S105 -- an event, not a secret
    TOKEN_ROTATED = "token:rotated"  # noqa: S105 -- an event, not a secret
    TRACK_ISSUED = "track:issued"
    TRIGGER_ISSUED = "trigger:issued"
    TRIGGER_REVOKED = "trigger:revoked"
    UPLOAD_EXPIRED = "upload:expired"
    UPLOAD_TERMINATED = "upload:terminated"
    WAVEFORM_ISSUED = "waveform:issued"


# --- Leaves ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One thing that happened.

    Raises:
        InvalidInput: A field is not of the form the log allows.
    """

    leaf_id: UUID
    agency: str
    """The agency's code, the same as in the log's origin."""
    action: Action
    subject_kind: str
    subject_id: str
    made_at: datetime
    """By the server's clock when the transaction wrote it. Leaves are ordered by index, not by this."""
    actor: str
    """Who did it: ``account:<uuid>``, ``dock:<no>``, ``worker``, ``system``. Never a person's name."""
    facts: Mapping[str, JSON] = field(default_factory=dict)
    """Digests, sizes, states and ids. What could name a person belongs in the payload."""
    payload_digest: str | None = None
    """SHA-256 of the sealed payload, lower-case hexadecimal; None when there is none."""
    version: str = LEAF_VERSION

    def __post_init__(self) -> None:
        _expect(self.version == LEAF_VERSION, "version", LEAF_VERSION, self.version)
        _expect(is_origin(origin_of(self.agency)), "agency", "an agency code", self.agency)
        _expect(isinstance(self.action, Action), "action", "an Action", self.action)
        _expect(_TOKEN.fullmatch(self.subject_kind) is not None, "subject_kind", "a word", self.subject_kind)
        _expect(_SUBJECT_ID.fullmatch(self.subject_id) is not None, "subject_id", "an id", self.subject_id)
        _expect(self.made_at.tzinfo is not None, "made_at", "an instant with a zone", self.made_at)
        _expect(_ACTOR.fullmatch(self.actor) is not None, "actor", "kind or kind:id", self.actor)
        if self.actor.startswith("account:"):
            _expect(_is_uuid(self.actor.removeprefix("account:")), "actor", "account:<uuid>", "another form")
        if self.payload_digest is not None:
            _expect(
                _HEX_DIGEST.fullmatch(self.payload_digest) is not None,
                "payload_digest",
                "64 lower-case hexadecimal digits",
                self.payload_digest,
            )


def leaf_bytes(leaf: Leaf) -> bytes:
    """The bytes that are stored and hashed.

    Raises:
        InvalidInput: The facts hold what canonical JSON refuses, or the leaf is too large.
    """
    body = canonical_json(
        {
            "version": leaf.version,
            "leaf_id": str(leaf.leaf_id),
            "agency": leaf.agency,
            "action": leaf.action,
            "subject_kind": leaf.subject_kind,
            "subject_id": leaf.subject_id,
            "made_at": rfc3339(leaf.made_at),
            "actor": leaf.actor,
            "facts": leaf.facts,
            "payload_digest": leaf.payload_digest,
        }
    )
    _expect(len(body) <= MAX_LEAF_BYTES, "size", f"at most {MAX_LEAF_BYTES} bytes", len(body))
    return body


def leaf_hash(leaf: Leaf) -> bytes:
    """The hash by which the leaf stands in the tree."""
    return merkle.leaf_hash(leaf_bytes(leaf))


def parse_leaf(body: bytes) -> Leaf:
    """Read a stored leaf back.

    Raises:
        CustodyError: The bytes are no leaf, or not the one form of it.
    """
    try:
        read: Any = json.loads(body)
        leaf = Leaf(
            **{
                **read,
                "leaf_id": UUID(read["leaf_id"]),
                "action": Action(read["action"]),
                "made_at": datetime.fromisoformat(read["made_at"]),
            }
        )
        if leaf_bytes(leaf) == body:
            return leaf
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidInput) as error:
        raise CustodyError(f"leaf: expected {LEAF_VERSION} in canonical JSON, found other bytes") from error
    raise CustodyError(f"leaf: expected {LEAF_VERSION} in canonical JSON, found another form of it")


# --- Sealed payloads ------------------------------------------------------------------


@dataclass(frozen=True)
class SealedPayload:
    """Personal details of a leaf: ``body`` is kept apart and shown at will, ``digest`` is in the leaf."""

    body: bytes
    digest: bytes


def new_salt() -> bytes:
    """A fresh salt: one for each payload, so that equal payloads have unlike digests."""
    return secrets.token_bytes(32)


def seal_payload(payload: Mapping[str, JSON], salt: bytes) -> SealedPayload:
    """Bind ``payload`` to a leaf without telling what it says.

    Raises:
        InvalidInput: The salt is short, or the payload is too large or not canonical JSON.
    """
    if len(salt) < MIN_SALT_BYTES:
        raise InvalidInput(
            f"payload salt: expected at least {MIN_SALT_BYTES} random bytes, found {len(salt)}",
            code="payload_malformed",
        )
    body = canonical_json({"salt": salt.hex(), "payload": payload})
    if len(body) > MAX_PAYLOAD_BYTES:
        raise InvalidInput(
            f"payload: expected at most {MAX_PAYLOAD_BYTES} bytes, found {len(body)}",
            code="payload_malformed",
        )
    return SealedPayload(body, sha256(body).digest())


def open_payload(body: bytes, digest: bytes) -> Mapping[str, JSON]:
    """The payload, once it is shown to be the one the leaf was written with.

    Args:
        body: The sealed payload as stored or shown.
        digest: The leaf's ``payload_digest``, as 32 bytes.

    Raises:
        CustodyError: The body is not what the leaf's digest says, or is no sealed payload.
    """
    found = sha256(body).digest()
    if found != digest:
        raise CustodyError(
            f"payload: expected SHA-256 {digest.hex()}, found {found.hex()}",
            code="payload_altered",
            expected=digest.hex(),
            found=found.hex(),
        )
    try:
        payload: Mapping[str, JSON] = json.loads(body)["payload"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CustodyError("payload: expected an object with salt and payload, found other JSON") from error
    return payload


# --- Sequencing -----------------------------------------------------------------------


@dataclass(frozen=True)
class Sequenced:
    """What one turn of the sequencer decides: an index for each leaf, and the grown tree."""

    indices: range
    frontier: merkle.Frontier


def sequence_leaves(frontier: merkle.Frontier, leaf_hashes: Sequence[bytes]) -> Sequenced:
    """Give unsequenced leaves the next indices, in the order handed in.

    ``frontier`` itself stays as it was: a turn that fails to commit leaves nothing behind.
    """
    grown = frontier.copy()
    grown.extend(leaf_hashes)
    return Sequenced(range(frontier.size, grown.size), grown)


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _expect(holds: bool, name: str, expected: str, found: object) -> None:
    if not holds:
        raise InvalidInput(f"leaf {name}: expected {expected}, found {found!r:.100}", code="leaf_malformed")
