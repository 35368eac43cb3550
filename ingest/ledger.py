"""The device ledger: what is read off devices, faults, retirement (R12, R15, D4, D8).

Each change is custody, in the caller's transaction. Who holds a device is `ingest.roster`'s, docks and
tokens `ingest.docks`', clocks and drift `ingest.ledger_clock`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.custody import Action
from evidence.errors import Conflict, InvalidInput
from ingest import docks, roster
from ingest.facts import is_plausible, parse_instant
from storage.db import agencies, custody, ledger
from storage.db.custody import Happening
from storage.db.ledger_tables import DeviceFault, DeviceReading
from storage.db.tables import Agency, Device

MAX_FIRMWARE_CHARS = 128
MAX_BYTES = 1 << 50
# Files of one docking bring the same reading; the dock may take a new one for each of them.
ONE_DOCKING = timedelta(minutes=30)
SAME_CLOCKS = timedelta(hours=24)
SAME_OFFSET_US = 2_000_000
READING_FIELDS = frozenset(
    {"device_clock", "dock_clock", "battery_percent", "capacity_bytes", "free_bytes", "firmware"}
)


@dataclass(frozen=True)
class Measured:
    """What a dock said of a device, as far as it can be used."""

    device_clock: datetime | None
    reference_clock: datetime | None
    battery_percent: int | None
    free_bytes: int | None
    capacity_bytes: int | None
    firmware: str | None
    officer_no: str | None
    clock_set: bool | None

    @property
    def offset_us(self) -> int | None:
        """Dock minus device clock; positive: the device is slow."""
        if self.device_clock is None or self.reference_clock is None:
            return None
        return (self.reference_clock - self.device_clock) // timedelta(microseconds=1)


def note_reading(
    session: Session,
    agency: Agency,
    device: Device | None,
    metadata: Mapping[str, str],
    now: datetime,
    *,
    dock_no: str | None = None,
) -> DeviceReading | None:
    """Keep what was read off a device at docking, once for a docking; the row if it is new.

    Never fails for what a sender said: what cannot be read is left out, and stands in the reception.

    Args:
        session: The transaction of the arrival.
        agency: Whose it is.
        device: What the file is from; nothing is kept without one.
        metadata: The sender's words: ``device_clock`` and ``dock_clock`` (ISO 8601 with zone),
            ``battery_percent``, ``capacity_bytes``, ``free_bytes``, ``firmware``, ``clock_set`` (whether
            the dock set the device clock afterwards), ``officer_no`` as held in the device.
        now: The server's clock.
        dock_no: Where it was docked.
    """
    if device is None or not READING_FIELDS & metadata.keys():
        return None
    found = _measured(metadata, now)
    if not _says_anything(found):
        return None
    ledger.lock_device(session, device)
    if any(
        _is_same_docking(row, found, dock_no, now)
        for row in ledger.readings_since(session, agency.id, device.id, now - SAME_CLOCKS)
    ):
        return None
    row = DeviceReading(
        agency_id=agency.id,
        device_id=device.id,
        dock_no=dock_no,
        read_at=now,
        device_clock=found.device_clock,
        reference_clock=found.reference_clock,
        offset_us=found.offset_us,
        clock_set=found.clock_set,
        battery_percent=found.battery_percent,
        free_bytes=found.free_bytes,
        capacity_bytes=found.capacity_bytes,
        firmware=found.firmware,
        officer_no=found.officer_no,
    )
    session.add(row)
    device.firmware = found.firmware or device.firmware
    device.capacity_bytes = found.capacity_bytes or device.capacity_bytes
    session.flush()
    return row


def _measured(metadata: Mapping[str, str], now: datetime) -> Measured:
    officer = metadata.get("officer_no", "").strip()[: agencies.MAX_NUMBER_CHARS]
    return Measured(
        device_clock=_instant(metadata, "device_clock", None),
        reference_clock=_instant(metadata, "dock_clock", now),
        battery_percent=_whole(metadata, "battery_percent", 100),
        free_bytes=_whole(metadata, "free_bytes", MAX_BYTES),
        capacity_bytes=_whole(metadata, "capacity_bytes", MAX_BYTES),
        firmware=_line(metadata.get("firmware", ""), MAX_FIRMWARE_CHARS),
        officer_no=_line(officer, agencies.MAX_NUMBER_CHARS),
        clock_set={"true": True, "1": True, "false": False, "0": False}.get(
            metadata.get("clock_set", "").strip().lower()
        ),
    )


def _says_anything(found: Measured) -> bool:
    told = (found.device_clock, found.battery_percent, found.free_bytes, found.capacity_bytes, found.firmware)
    return any(value is not None for value in told)


def _instant(metadata: Mapping[str, str], name: str, now: datetime | None) -> datetime | None:
    """A clock as read. A device may say 1970 or 2099, that is its offset; no dock that does is believed."""
    try:
        found = parse_instant(metadata[name], name)
    except (KeyError, InvalidInput):
        return None
    return found if now is None or is_plausible(found, now) else None


def _whole(metadata: Mapping[str, str], name: str, most: int) -> int | None:
    text = metadata.get(name, "").strip()
    if not text.isascii() or not text.isdecimal() or len(text) > 20 or int(text) > most:
        return None
    return int(text)


def _line(text: str, most: int) -> str | None:
    cleaned = "".join(char for char in text if char.isprintable()).strip()[:most]
    return cleaned or None


def _is_same_docking(row: DeviceReading, found: Measured, dock_no: str | None, now: datetime) -> bool:
    """Whether a row says already what was read now."""
    if row.dock_no != dock_no or not _covers(row, found):
        return False
    if found.device_clock is not None and found.reference_clock is not None:
        if (row.device_clock, row.reference_clock) == (found.device_clock, found.reference_clock):
            return True
        near = (
            row.offset_us is not None
            and found.offset_us is not None
            and abs(row.offset_us - found.offset_us) < SAME_OFFSET_US
        )
        return near and abs(now - row.read_at) <= ONE_DOCKING
    return abs(now - row.read_at) <= ONE_DOCKING


def _covers(row: DeviceReading, found: Measured) -> bool:
    """Whether the row has every kind of thing that was read now, and the same card and firmware."""
    for name in ("battery_percent", "free_bytes", "device_clock"):
        if getattr(found, name) is not None and getattr(row, name) is None:
            return False
    return all(getattr(found, name) in {None, getattr(row, name)} for name in ("capacity_bytes", "firmware"))


# --- faults and retirement --------------------------------------------------------------------


def report_fault(
    session: Session, agency: Agency, device: Device, what: str, *, actor: str, now: datetime
) -> DeviceFault:
    """Open a fault ticket (R12).

    Raises:
        InvalidInput: Nothing said, or too much.
    """
    row = DeviceFault(
        agency_id=agency.id,
        device_id=device.id,
        what=_said("fault", what),
        reported_by=actor,
        reported_at=now,
    )
    session.add(row)
    session.flush()
    happening = Happening(
        Action.DEVICE_FAULT_OPENED,
        "device",
        str(device.id),
        actor,
        {"fault": str(row.id)},
        {"what": row.what},
    )
    custody.record(session, agency, happening, now)
    return row


def resolve_fault(
    session: Session, agency: Agency, fault_id: UUID, resolution: str, *, actor: str, now: datetime
) -> DeviceFault:
    """Close a fault ticket with what was done.

    Raises:
        NotFound: There is none.
        Conflict: It is closed already.
        InvalidInput: Nothing said, or too much.
    """
    row = ledger.fault_by_id(session, agency.id, fault_id, lock=True)
    if row.resolved_at is not None:
        raise Conflict(f"fault {fault_id}: expected an open one, found it resolved", code="fault_resolved")
    row.resolution, row.resolved_by, row.resolved_at = _said("resolution", resolution), actor, now
    happening = Happening(
        Action.DEVICE_FAULT_RESOLVED,
        "device",
        str(row.device_id),
        actor,
        {"fault": str(row.id)},
        {"resolution": row.resolution},
    )
    custody.record(session, agency, happening, now)
    return row


def retire_device(session: Session, agency: Agency, device: Device, *, actor: str, now: datetime) -> Device:
    """Take a device out of use: it is returned, and the tokens bound to it end.

    What it still brings is taken in all the same; a device is never refused its footage (6.2).

    Raises:
        Conflict: It is out of use already, or was never adopted.
    """
    ledger.lock_device(session, device)
    if device.retired_at is not None:
        raise Conflict(
            f"device {device.device_no}: expected one in use, found it retired", code="device_retired"
        )
    if device.state == agencies.UNKNOWN:
        raise Conflict(
            f"device {device.device_no}: expected registered, found unknown; adopt it", code="device_unknown"
        )
    for issue in ledger.open_issues(session, agency.id, device.id):
        roster.end_issue(session, agency, device, issue, now, actor=actor, now=now)
    ended = ledger.tokens_not_revoked(session, agency.id, device_id=device.id)
    for token in ended:
        docks.revoke_token(session, agency, token.id, actor=actor, now=now)
    device.retired_at = now
    facts = {"device_no": device.device_no, "tokens_ended": len(ended)}
    happening = Happening(Action.DEVICE_RETIRED, "device", str(device.id), actor, facts)
    custody.record(session, agency, happening, now)
    return device


def _said(what: str, text: str) -> str:
    cleaned = docks.line(what, text)
    if cleaned is None:
        raise InvalidInput(f"{what}: expected a few words, found none", code="text_missing")
    return cleaned
