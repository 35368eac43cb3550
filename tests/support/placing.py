"""Recordings of a scene set in wall time: by a device, by what its clock said, in one recording or alone."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from storage.db import agencies
from storage.db.ledger_tables import DeviceReading
from storage.db.tables import Claim, Device, Item
from tests.support.scene import Recording, Scene


def film(
    scene: Scene,
    device_no: str | None,
    said_at: datetime | None,
    *,
    recording_key: str | None = None,
    sequence_no: int | None = None,
    **options: Any,
) -> Recording:
    """A recording of six seconds that begins at `said_at` by its device's clock; None: nobody said when."""
    recording = scene.record(**options)
    with scene.storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == recording.item_id)).one()
        item.device_id = device_of(scene, session, device_no).id if device_no is not None else None
        item.recording_key, item.sequence_no = recording_key, sequence_no
        item.captured_from = said_at
        item.captured_to = said_at + timedelta(seconds=6) if said_at is not None else None
        if said_at is not None:
            session.add(
                Claim(
                    agency_id=scene.agency.id, item_id=item.id, field="captured_from",
                    value=said_at.isoformat(), source="dock", clock="device", made_at=scene.clock.now(),
                )
            )  # fmt: skip
    return recording


def device_of(scene: Scene, session: Any, device_no: str) -> Device:
    """The device of that number, registered where it is not."""
    found = agencies.device_by_no(session, scene.agency.id, device_no)
    if found is None:
        found = Device(
            agency_id=scene.agency.id, device_no=device_no, kind="body_cam", state="registered",
            created_at=scene.clock.now(),
        )  # fmt: skip
        session.add(found)
        session.flush()
    return found


def read_clock(scene: Scene, device_no: str, device_clock: datetime, offset: timedelta) -> None:
    """A dock reads the device's clock: reference less device is `offset`."""
    with scene.storage.database.transaction() as session:
        session.add(
            DeviceReading(
                agency_id=scene.agency.id, device_id=device_of(scene, session, device_no).id,
                read_at=scene.clock.now(), device_clock=device_clock,
                offset_us=offset // timedelta(microseconds=1), clock_set=False,
            )
        )  # fmt: skip
