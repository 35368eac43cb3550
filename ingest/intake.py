"""“We now hold this item”: from a whole staged file to rows, custody leaf and jobs.

Order (docs/design/storage.md): the bytes are durable in the object store before `accept` is called;
`accept` then writes object, item, reception, claims, leaf and jobs in the caller's one transaction.
Accepting the same reception twice gives the same answer, so a caller cut off at any point repeats.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy.exc import DataError, DBAPIError, StatementError
from sqlalchemy.orm import Session

from evidence.custody import Action
from evidence.errors import InvalidInput, Unavailable
from evidence.filenames import decode_name, display_name
from evidence.ids import new_id
from evidence.item import Binding, Custody, Media, Redaction
from evidence.kinds import ClaimSource, MediaKind
from evidence.zfy import parse_zfy_base64
from ingest import ledger, roster
from ingest.correction import corrected_times
from ingest.facts import Facts, Statement, weigh
from ingest.naming import Vocabulary, shipped
from ingest.sources.base import StagedFile
from ingest.wording import escaped, fit, fit_statement
from storage.db import agencies, custody, items, jobs
from storage.db.custody import Happening
from storage.db.ledger import lock_device
from storage.db.tables import Agency, Claim, Device, Item, Reception
from storage.db.tables import StoredObject as ObjectRow
from storage.objects.base import StoredObject

OF_WORDS = frozenset(
    {
        "declared_digest_unreadable",
        "said_late",
        "sidecar_field_ignored",
        "sidecar_unreadable",
        "words_refused",
    }
)
"""Findings about what an arrival says of its bytes."""


@dataclass(frozen=True)
class Accepted:
    """What the sender is told: stored, not yet a receipt (invariant 3)."""

    item_id: UUID
    reception_id: UUID
    sha256: bytes
    size_bytes: int
    custody: str
    is_new: bool


def is_of_words(error: Exception) -> bool:
    """Whether `accept` failed for what the sender said: then the same words fail each time.

    The caller takes the file in without them (`ingest.wording.without_words`), in a new transaction.
    """
    if isinstance(error, Unavailable) and isinstance(error.__cause__, Exception):
        return is_of_words(error.__cause__)
    if isinstance(error, InvalidInput | DataError | UnicodeError | OverflowError):
        return True
    if isinstance(error, DBAPIError):
        # 22: the value is no value of its column; 54: too large for an index or a row.
        return str(getattr(error.orig, "sqlstate", None) or "")[:2] in {"22", "54"}
    return isinstance(error, StatementError) and isinstance(error.orig, ValueError | OverflowError)


def accept(
    session: Session,
    agency: Agency,
    staged: StagedFile,
    stored: StoredObject,
    now: datetime,
    vocabulary: Vocabulary | None = None,
) -> Accepted:
    """Record a file whose bytes are durable.

    Args:
        staged: What arrived, with its digest and the sender's words; claims of its name are added here.
        stored: Where the object store holds it.
        vocabulary: What names are read with; what is shipped when omitted.

    Raises:
        Unavailable: The database cannot be written now.
    """
    staged = fit(staged)
    staged, known = _known(session, agency, staged)
    if known is not None:
        item = items.item_by_id(session, agency.id, known.item_id)
        return Accepted(item.id, known.id, staged.sha256, staged.size_bytes, item.custody, is_new=False)
    by_device, unread = _said_by_device(staged)
    said = [*staged.claims, *by_device, *(vocabulary or shipped()).said_by_name(staged.original_name_raw)]
    named = {statement.field for statement in said}
    said += [statement for statement in staged.assumed if statement.field not in named]
    facts = weigh(said, now)
    device, doubts = _device(session, agency, facts, now)
    ledger.note_reading(session, agency, device, staged.metadata, now, dock_no=staged.dock_no)
    doubts = [*doubts, *staged.findings, *unread]
    row = _object_row(session, agency, staged, stored, now)
    item, is_new = _item(session, agency, staged, row, device, facts, doubts, now)
    if not is_new:
        _note_words(session, item, staged)
    mismatch = staged.declared_sha256 is not None and staged.declared_sha256 != staged.sha256
    if mismatch:
        _mismatched(session, agency, item, staged, now, is_new=is_new)
    reception = _reception(session, agency, item, staged, now, is_new=is_new, is_mismatched=mismatch)
    for statement in said:
        session.add(
            Claim(
                agency_id=agency.id,
                item_id=item.id,
                field=statement.field,
                value=statement.value,
                source=str(statement.source),
                clock=statement.clock,
                made_at=now,
            )
        )
    # A receipt needs a re-read of its own, so each reception wants one; probing is of the bytes, once.
    params: dict[str, object] = {"reception": str(reception.id)}
    if mismatch or not staged.earns_receipt:
        # Sound bytes that are not those this sender declared, or of a sender who may no longer send: kept,
        # but its card is not wiped for them.
        params["receipt"] = False
    jobs.want(
        session, agency.id, jobs.Wanted("verify", "io", item.id, staged.sha256, params, priority=10), now
    )
    jobs.want(session, agency.id, jobs.Wanted("probe", "quick", item.id, staged.sha256, priority=15), now)
    session.flush()
    return Accepted(item.id, reception.id, staged.sha256, staged.size_bytes, item.custody, is_new)


def _known(session: Session, agency: Agency, staged: StagedFile) -> tuple[StagedFile, Reception | None]:
    """The reception of this arrival if it was handed in before.

    A key that was used for other bytes, as another card under the same path can come to, is another
    arrival: it gets a key of its own, and is never answered with the item of those bytes.
    """
    known = items.reception_by_key(session, agency.id, staged.reception_key)
    if known is not None:
        held = items.object_of(session, items.item_by_id(session, agency.id, known.item_id))
        if held.sha256 != staged.sha256:
            staged = replace(staged, reception_key=f"{staged.reception_key}:{staged.sha256.hex()}")
            known = items.reception_by_key(session, agency.id, staged.reception_key)
    return staged, known


def _said_by_device(staged: StagedFile) -> tuple[list[Statement], list[tuple[str, str]]]:
    """Claims in the record a driver read off the device (D9), where the sender passed it on."""
    text = staged.metadata.get("zfy_info", "").strip()
    if not text:
        return [], []
    try:
        found = parse_zfy_base64(text)
    except InvalidInput as error:
        return [], [(error.code, error.message)]
    return [
        fit_statement(Statement(field, value, ClaimSource.DEVICE)) for field, value in found.claims().items()
    ], []


def _device(
    session: Session, agency: Agency, facts: Facts, now: datetime
) -> tuple[Device | None, list[tuple[str, str]]]:
    """The device named; one nobody registered is noted as unknown, not refused (6.2)."""
    if facts.device_no is None:
        return None, [("device_missing", "device: expected a number, found none; name the device")]
    try:
        number = agencies.check_number("device", facts.device_no)
    except InvalidInput as error:
        return None, [("device_invalid", error.message)]
    device = agencies.device_by_no(session, agency.id, number)
    if device is None:
        device = agencies.add_device(
            session, agency.id, number, now, kind=facts.source_kind, state=agencies.UNKNOWN
        )
        custody.record(
            session,
            agency,
            Happening(Action.DEVICE_QUARANTINED, "device", str(device.id), "system", {"state": device.state}),
            now,
        )
    if device.state == agencies.UNKNOWN:
        # Whoever adopts it now ends the flags of what it brought: of this file too, or before it comes.
        lock_device(session, device)
    if device.state == agencies.UNKNOWN:
        return device, [
            (roster.UNKNOWN_DEVICE, "device: expected a registered one, found an unknown number; adopt it")
        ]
    return device, []


def _object_row(
    session: Session, agency: Agency, staged: StagedFile, stored: StoredObject, now: datetime
) -> ObjectRow:
    row = items.object_by_digest(session, agency.id, staged.sha256)
    if row is None:
        row = ObjectRow(
            agency_id=agency.id,
            sha256=staged.sha256,
            size_bytes=staged.size_bytes,
            store_key=stored.key,
            stored_at=now,
        )
        session.add(row)
        session.flush()
    return row


def _item(
    session: Session,
    agency: Agency,
    staged: StagedFile,
    row: ObjectRow,
    device: Device | None,
    facts: Facts,
    doubts: list[tuple[str, str]],
    now: datetime,
) -> tuple[Item, bool]:
    item_id = new_id()
    identity = f"{staged.sha256.hex()}:{device.id if device else '-'}"
    if staged.size_bytes == 0:
        # Two empty files have equal bytes and nothing else in common.
        identity = str(item_id)
        doubts = [*doubts, ("empty", "file: expected footage, found 0 bytes; look at the recorder")]
    found = items.item_by_identity(session, agency.id, identity)
    if found is not None:
        return found, False
    if facts.encrypted:
        doubts = [*doubts, ("encrypted", "file: expected plain footage, found one the device encrypted")]
    times = corrected_times(session, agency.id, device.id if device else None, facts, now)
    item = Item(
        id=item_id,
        agency_id=agency.id,
        object_id=row.id,
        device_id=device.id if device else None,
        identity_key=identity,
        source_kind=str(facts.source_kind),
        media_kind=str(MediaKind.UNKNOWN),
        original_name=display_name(staged.original_name_raw),
        custody=str(Custody.RECEIVED),
        media=str(Media.UNPROBED),
        binding=str(Binding.UNBOUND),
        redaction=str(Redaction.NONE),
        held=False,
        key_file=facts.key_file,
        flags=[{"code": code, "message": message} for code, message in [*doubts, *facts.doubts]],
        captured_from=times.captured_from,
        captured_to=times.captured_to,
        captured_place=facts.place,
        collector=facts.officer_no,
        object_of_proof=facts.object_of_proof,
        recording_key=f"{device.id if device else '-'}:{facts.recording}" if facts.recording else None,
        sequence_no=facts.sequence_no,
        received_at=now,
    )
    session.add(item)
    session.flush()
    return item, True


def _note_words(session: Session, item: Item, staged: StagedFile) -> None:
    """What is wrong with the words of an arrival holds for the item also where its bytes were here before."""
    found = [(code, line) for code, line in staged.findings if code in OF_WORDS]
    if found:
        session.refresh(item, with_for_update=True)
    for code, line in found:
        items.flag(item, code, line)


def _mismatched(
    session: Session, agency: Agency, item: Item, staged: StagedFile, now: datetime, *, is_new: bool
) -> None:
    """A fresh item is quarantined; one that was there is as sound as before, and only gets a flag."""
    declared = staged.declared_sha256.hex() if staged.declared_sha256 else ""
    message = (
        f"digest: expected {declared[:16]}… as declared, found {staged.sha256.hex()[:16]}…; upload it again"
    )
    if not is_new:
        session.refresh(item, with_for_update=True)
        items.flag(item, "digest_mismatch", message)
        return
    item.custody = str(Custody.QUARANTINED)
    items.flag(item, "digest_mismatch", message)
    custody.record(
        session,
        agency,
        Happening(
            Action.ITEM_QUARANTINED,
            "item",
            str(item.id),
            "system",
            {"declared_sha256": declared, "found_sha256": staged.sha256.hex()},
        ),
        now,
    )


def _reception(
    session: Session,
    agency: Agency,
    item: Item,
    staged: StagedFile,
    now: datetime,
    *,
    is_new: bool,
    is_mismatched: bool,
) -> Reception:
    reception_id = new_id()
    declared = (
        {"declared_sha256": staged.declared_sha256.hex()} if is_mismatched and staged.declared_sha256 else {}
    )
    leaf_id = custody.record(
        session,
        agency,
        Happening(
            Action.ITEM_RECEIVED if is_new else Action.ITEM_RECEIVED_AGAIN,
            "item",
            str(item.id),
            staged.actor,
            {
                "reception": str(reception_id),
                "sha256": staged.sha256.hex(),
                "size_bytes": staged.size_bytes,
                "source": staged.source,
                "dock": staged.dock_no,
                **declared,
            },
            private={
                "original_name": escaped(decode_name(staged.original_name_raw)),
                "metadata": dict(staged.metadata),
            },
        ),
        now,
    )
    reception = Reception(
        id=reception_id,
        agency_id=agency.id,
        item_id=item.id,
        reception_key=staged.reception_key,
        source=staged.source,
        dock_no=staged.dock_no,
        original_name=display_name(staged.original_name_raw),
        original_name_raw=staged.original_name_raw,
        metadata_received=dict(staged.metadata),
        leaf_id=leaf_id,
        received_at=now,
    )
    session.add(reception)
    session.flush()
    return reception
