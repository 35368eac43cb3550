"""Devices, who holds them, what is wrong with them, and officers: the system administrator's work."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import Query

from api.auth.gate import Gate
from api.auth.seat import DeskOf
from api.desk import Work
from api.schemas.administration import (
    DeviceIssuing,
    DeviceRegistration,
    DeviceShown,
    OfficerRegistration,
    OfficerShown,
)
from api.schemas.common import (
    PAGE_DEFAULT,
    Limit,
    Page,
    read_id_cursor,
    read_text_cursor,
    read_time_cursor,
    write_cursor,
)
from api.schemas.ledger import (
    Adoption,
    DeviceDetail,
    FaultReport,
    FaultResolution,
    FaultShown,
    IssueShown,
    ReadingShown,
    Returning,
    StretchShown,
    TableTaken,
    UnknownDevice,
)
from api.table_body import TableBody, table_of, take_table
from evidence.access import Act
from ingest import ledger as device_ledger
from ingest import policy, roster
from ingest.ledger_clock import is_beyond
from ingest.ledger_health import device_stretches
from ingest.ledger_sheets import EXAMPLES, Kind
from storage.db import accounts, agencies, ledger
from storage.db.ledger_tables import DeviceFault, DeviceReading
from storage.db.tables import Device, Officer

gate = Gate("设备与人员 Devices and officers")
Cursor = Annotated[str | None, Query(max_length=200)]
CLOCK_LOOK_BACK = timedelta(days=90)
MOST_OPEN_FAULTS = 200


@gate.get("/devices", Act.MANAGE_DEVICES, summary="设备 Devices")
def list_devices(
    desk: DeskOf,
    in_use: Annotated[bool | None, Query(description="在用/停用 / In use or retired only")] = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> Page[DeviceShown]:
    """按编号排列,含上传时出现、尚未收编的设备。By number; those that showed up unregistered are `unknown`."""
    after = read_text_cursor(cursor)
    with desk.reading() as work:
        held = accounts.holders(work.session, work.agency_id)
        rows = ledger.page_of_devices(
            work.session, work.agency_id, in_use=in_use, after=after, limit=limit + 1
        )
        shown = rows[:limit]
        return Page(
            items=[_device(row, held.get(row.id)) for row in shown],
            next_cursor=write_cursor(shown[-1].device_no) if len(rows) > limit else None,
        )


@gate.get("/devices/unknown", Act.MANAGE_DEVICES, summary="待收编设备 Unknown devices")
def list_unknown_devices(
    desk: DeskOf, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> Page[UnknownDevice]:
    """未登记而出现的设备:其文件均已收存,一步收编并领用。

    Devices that showed up unregistered. What they brought is kept; adopt each in one step.
    """
    after = read_text_cursor(cursor)
    with desk.reading() as work:
        rows = ledger.page_of_devices(
            work.session, work.agency_id, state=agencies.UNKNOWN, after=after, limit=limit + 1
        )
        shown = rows[:limit]
        ids = [row.id for row in shown]
        brought = ledger.items_by_device(work.session, work.agency_id, ids)
        said = ledger.officers_said(work.session, work.agency_id, ids)
        return Page(
            items=[
                UnknownDevice(
                    id=row.id,
                    device_no=row.device_no,
                    kind=row.kind,
                    first_seen_at=row.created_at,
                    item_count=brought[row.id][0] if row.id in brought else 0,
                    last_item_at=brought[row.id][2] if row.id in brought else None,
                    officer_nos=said.get(row.id, []),
                )
                for row in shown
            ],
            next_cursor=write_cursor(shown[-1].device_no) if len(rows) > limit else None,
        )


@gate.post(
    "/devices", Act.MANAGE_DEVICES, status_code=201, problems=(409,), summary="登记或收编 Register or adopt"
)
def register_device(body: DeviceRegistration, desk: DeskOf) -> DeviceShown:
    """未知设备由此收编;已登记者 409。An unknown device is adopted by this; a registered one is a conflict."""
    with desk.writing() as work:
        session, agency = work.session, work.agency
        known = agencies.device_by_no(session, agency.id, body.device_no)
        enter = roster.register_device
        if known is not None and known.state == agencies.UNKNOWN:
            enter = roster.adopt_device
        row = enter(
            session,
            agency,
            body.device_no,
            kind=body.kind,
            maker=body.maker,
            model=body.model,
            actor=work.actor.label,
            now=work.now,
        )
        return _device(row, accounts.holders(session, agency.id).get(row.id))


@gate.post(
    "/devices/import",
    Act.MANAGE_DEVICES,
    summary="批量登记设备 Import devices",
    openapi_extra=table_of(EXAMPLES[Kind.DEVICES]),
)
def import_devices(body: TableBody, desk: DeskOf) -> TableTaken:
    """CSV 或 XLSX;合格的行登记或收编,不合格的逐行说明。Good lines are taken, each bad one is one finding."""
    return take_table(desk, Kind.DEVICES, body)


@gate.post(
    "/officers/import",
    Act.MANAGE_DEVICES,
    summary="批量登记人员 Import officers",
    openapi_extra=table_of(EXAMPLES[Kind.OFFICERS]),
)
def import_officers(body: TableBody, desk: DeskOf) -> TableTaken:
    """CSV 或 XLSX。CSV or XLSX, line by line."""
    return take_table(desk, Kind.OFFICERS, body)


@gate.post(
    "/issues/import",
    Act.MANAGE_DEVICES,
    summary="批量领用 Import issues",
    openapi_extra=table_of(EXAMPLES[Kind.ISSUES]),
)
def import_issues(body: TableBody, desk: DeskOf) -> TableTaken:
    """CSV 或 XLSX,含领用与归还时间。CSV or XLSX, with dates of issue and return."""
    return take_table(desk, Kind.ISSUES, body)


@gate.get("/devices/{device_id}", Act.MANAGE_DEVICES, problems=(404,), summary="一台设备 A device")
def get_device(device_id: UUID, desk: DeskOf) -> DeviceDetail:
    """持有人与日期、未修故障、时钟漂移。Who held it and when, open faults, how its clock runs (R12, D4)."""
    with desk.reading() as work:
        row = accounts.device_by_id(work.session, work.agency_id, device_id)
        faults = ledger.page_of_faults(
            work.session, work.agency_id, device_id=row.id, is_open=True, limit=MOST_OPEN_FAULTS
        )
        return DeviceDetail(
            id=row.id,
            device_no=row.device_no,
            kind=row.kind,
            state=row.state,
            maker=row.maker,
            model=row.model,
            firmware=row.firmware,
            capacity_bytes=row.capacity_bytes,
            created_at=row.created_at,
            retired_at=row.retired_at,
            issues=[
                IssueShown(
                    id=issue.id,
                    officer_no=officer.officer_no,
                    issued_at=issue.issued_at,
                    returned_at=issue.returned_at,
                )
                for issue, officer in ledger.issues_of(work.session, work.agency_id, row.id)
            ],
            open_faults=[_fault(fault, number) for fault, number in faults],
            clock=_clock(work, row),
        )


def _clock(work: Work, row: Device) -> list[StretchShown]:
    readings = ledger.readings_since(work.session, work.agency_id, row.id, work.now - CLOCK_LOOK_BACK)
    return [
        StretchShown(
            since=one.since,
            until=one.until,
            reading_count=one.reading_count,
            from_setting=one.from_setting,
            last_offset_us=one.last_offset_us,
            drift_us_per_day=one.drift_us_per_day,
            finding="drift" if is_beyond(one, rule) else None,
        )
        for one, rule in device_stretches(
            policy.History(work.session, work.agency, policy.CLOCK), reversed(readings)
        )
    ]


@gate.get("/devices/{device_id}/readings", Act.MANAGE_DEVICES, problems=(404,), summary="采集时读数 Readings")
def list_readings(
    device_id: UUID, desk: DeskOf, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT
) -> Page[ReadingShown]:
    """每次入座一条:时钟、电量、容量、固件;新者在前。One for a docking; newest first."""
    after = read_time_cursor(cursor)
    with desk.reading() as work:
        row = accounts.device_by_id(work.session, work.agency_id, device_id)
        rows = ledger.page_of_readings(work.session, work.agency_id, row.id, after=after, limit=limit + 1)
        shown = rows[:limit]
        return Page(
            items=[_reading(each) for each in shown],
            next_cursor=write_cursor(shown[-1].read_at, shown[-1].id) if len(rows) > limit else None,
        )


@gate.post(
    "/devices/{device_id}/adopt",
    Act.MANAGE_DEVICES,
    problems=(404, 409),
    summary="收编并领用 Adopt and issue",
)
def adopt_device(device_id: UUID, body: Adoption, desk: DeskOf) -> DeviceShown:
    """一步完成收编与领用。Adopts an unknown device and, with an officer, issues it in the same step."""
    with desk.writing() as work:
        row = accounts.device_by_id(work.session, work.agency_id, device_id)
        roster.adopt_device(
            work.session,
            work.agency,
            row.device_no,
            kind=body.kind,
            maker=body.maker,
            model=body.model,
            officer_no=body.officer_no,
            issued_at=body.issued_at,
            actor=work.actor.label,
            now=work.now,
        )
        return _device(row, body.officer_no)


@gate.post(
    "/devices/{device_id}/issues",
    Act.MANAGE_DEVICES,
    status_code=201,
    problems=(404, 409),
    summary="领用 Issue to an officer",
)
def issue_device(device_id: UUID, body: DeviceIssuing, desk: DeskOf) -> DeviceShown:
    """前一领用人同时归还。Whoever had it before returned it at that instant."""
    with desk.writing() as work:
        device = accounts.device_by_id(work.session, work.agency_id, device_id)
        roster.issue_device(
            work.session,
            work.agency,
            device.device_no,
            body.officer_no,
            issued_at=body.issued_at or work.now,
            actor=work.actor.label,
            now=work.now,
        )
        return _device(device, body.officer_no)


@gate.post("/devices/{device_id}/return", Act.MANAGE_DEVICES, problems=(404, 409), summary="归还 Take back")
def return_device(device_id: UUID, body: Returning, desk: DeskOf) -> DeviceShown:
    """此后不在任何人手中。From then on it is in nobody's hands."""
    with desk.writing() as work:
        device = accounts.device_by_id(work.session, work.agency_id, device_id)
        roster.return_device(
            work.session,
            work.agency,
            device.device_no,
            returned_at=body.returned_at or work.now,
            actor=work.actor.label,
            now=work.now,
        )
        return _device(device, None)


@gate.post(
    "/devices/{device_id}/retire", Act.MANAGE_DEVICES, problems=(404, 409), summary="停用 Retire a device"
)
def retire_device(device_id: UUID, desk: DeskOf) -> DeviceShown:
    """同时归还并终止其令牌;此后来的文件仍然收存。Returned, its tokens ended; what it still brings is kept."""
    with desk.writing() as work:
        device = accounts.device_by_id(work.session, work.agency_id, device_id)
        device_ledger.retire_device(work.session, work.agency, device, actor=work.actor.label, now=work.now)
        return _device(device, None)


@gate.get("/faults", Act.MANAGE_DEVICES, summary="故障 Faults")
def list_faults(
    desk: DeskOf,
    is_open: Annotated[bool | None, Query(description="未修/已修 / Open or resolved only")] = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> Page[FaultShown]:
    """新者在前。Newest first."""
    after = read_id_cursor(cursor)
    with desk.reading() as work:
        rows = ledger.page_of_faults(
            work.session, work.agency_id, is_open=is_open, after=after, limit=limit + 1
        )
        shown = rows[:limit]
        return Page(
            items=[_fault(row, number) for row, number in shown],
            next_cursor=write_cursor(shown[-1][0].id) if len(rows) > limit else None,
        )


@gate.post(
    "/devices/{device_id}/faults",
    Act.MANAGE_DEVICES,
    status_code=201,
    problems=(404,),
    summary="报修 Report a fault",
)
def report_fault(device_id: UUID, body: FaultReport, desk: DeskOf) -> FaultShown:
    """开一张故障单。Opens a ticket."""
    with desk.writing() as work:
        device = accounts.device_by_id(work.session, work.agency_id, device_id)
        row = device_ledger.report_fault(
            work.session, work.agency, device, body.what, actor=work.actor.label, now=work.now
        )
        return _fault(row, device.device_no)


@gate.post(
    "/faults/{fault_id}/resolve", Act.MANAGE_DEVICES, problems=(404, 409), summary="修复 Resolve a fault"
)
def resolve_fault(fault_id: UUID, body: FaultResolution, desk: DeskOf) -> FaultShown:
    """写明如何处理。Says what was done."""
    with desk.writing() as work:
        row = device_ledger.resolve_fault(
            work.session, work.agency, fault_id, body.resolution, actor=work.actor.label, now=work.now
        )
        return _fault(row, accounts.device_by_id(work.session, work.agency_id, row.device_id).device_no)


@gate.get("/officers", Act.MANAGE_DEVICES, summary="执法人员 Officers")
def list_officers(desk: DeskOf, cursor: Cursor = None, limit: Limit = PAGE_DEFAULT) -> Page[OfficerShown]:
    """按编号排列。By number."""
    after = read_text_cursor(cursor)
    with desk.reading() as work:
        rows = agencies.page_of_officers(work.session, work.agency_id, after=after, limit=limit + 1)
        shown = rows[:limit]
        return Page(
            items=[_officer_shown(row) for row in shown],
            next_cursor=write_cursor(shown[-1].officer_no) if len(rows) > limit else None,
        )


@gate.post(
    "/officers", Act.MANAGE_DEVICES, status_code=201, problems=(409,), summary="登记人员 Register an officer"
)
def register_officer(body: OfficerRegistration, desk: DeskOf) -> OfficerShown:
    """编号不可重复。The number is free."""
    with desk.writing() as work:
        row = roster.register_officer(
            work.session,
            work.agency,
            body.officer_no,
            body.name,
            certificate_no=body.certificate_no,
            actor=work.actor.label,
            now=work.now,
        )
        return _officer_shown(row)


def _device(row: Device, officer_no: str | None) -> DeviceShown:
    return DeviceShown(
        id=row.id,
        device_no=row.device_no,
        kind=row.kind,
        state=row.state,
        maker=row.maker,
        model=row.model,
        firmware=row.firmware,
        capacity_bytes=row.capacity_bytes,
        retired_at=row.retired_at,
        officer_no=officer_no,
    )


def _officer_shown(row: Officer) -> OfficerShown:
    return OfficerShown(
        id=row.id, officer_no=row.officer_no, name=row.name, certificate_no=row.certificate_no
    )


def _fault(row: DeviceFault, device_no: str) -> FaultShown:
    return FaultShown(
        id=row.id,
        device_id=row.device_id,
        device_no=device_no,
        what=row.what,
        reported_by=row.reported_by,
        reported_at=row.reported_at,
        resolved_at=row.resolved_at,
        resolved_by=row.resolved_by,
        resolution=row.resolution,
    )


def _reading(row: DeviceReading) -> ReadingShown:
    return ReadingShown(
        id=row.id,
        dock_no=row.dock_no,
        read_at=row.read_at,
        device_clock=row.device_clock,
        reference_clock=row.reference_clock,
        offset_us=row.offset_us,
        clock_set=row.clock_set,
        battery_percent=row.battery_percent,
        free_bytes=row.free_bytes,
        capacity_bytes=row.capacity_bytes,
        firmware=row.firmware,
        officer_no=row.officer_no,
    )
