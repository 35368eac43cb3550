"""Devices, officers and upload tokens: the system administrator's work."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from fastapi import Response

from api.auth.gate import Gate
from api.auth.seat import DeskOf
from api.desk import Work
from api.schemas.administration import (
    DeviceIssuing,
    DeviceRegistration,
    DeviceShown,
    OfficerRegistration,
    OfficerShown,
    TokenIssued,
    TokenRequest,
    TokenShown,
)
from evidence.access import Act
from evidence.clock import rfc3339
from evidence.custody import Action
from evidence.errors import Conflict, NotFound
from storage.db import accounts, agencies, credentials
from storage.db.tables import Device, Officer, UploadToken

gate = Gate("设备与人员 Devices and officers")


@gate.get("/devices", Act.MANAGE_DEVICES, summary="设备 Devices")
def list_devices(desk: DeskOf) -> list[DeviceShown]:
    """含上传时出现、尚未收编的设备。Those that showed up unregistered are `unknown`."""
    with desk.reading() as work:
        held = accounts.holders(work.session, work.agency_id)
        rows = agencies.devices(work.session, work.agency_id)
        return [_device(row, held.get(row.id)) for row in rows]


@gate.post(
    "/devices", Act.MANAGE_DEVICES, status_code=201, problems=(409,), summary="登记或收编 Register or adopt"
)
def register_device(body: DeviceRegistration, desk: DeskOf) -> DeviceShown:
    """未知设备由此收编;已登记者 409。An unknown device is adopted by this; a registered one is a conflict."""
    with desk.writing() as work:
        number = agencies.check_number("device", body.device_no)
        row = agencies.device_by_no(work.session, work.agency_id, number)
        if row is None:
            row = agencies.add_device(
                work.session, work.agency_id, number, work.now, kind=body.kind, model=body.model
            )
            work.record(Action.DEVICE_REGISTERED, "device", row.id, {"kind": row.kind})
        elif row.state == agencies.UNKNOWN:
            row.state, row.kind, row.model = agencies.REGISTERED, str(body.kind), body.model
            work.record(Action.DEVICE_ADOPTED, "device", row.id, {"kind": row.kind})
        else:
            raise Conflict(f"device {number}: expected a new one, found it registered", code="device_taken")
        return _device(row, accounts.holders(work.session, work.agency_id).get(row.id))


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
        officer = _officer(work, body.officer_no)
        issued_at = body.issued_at or work.now
        agencies.issue_device(work.session, device, officer, issued_at)
        facts = {"officer": str(officer.id), "issued_at": rfc3339(issued_at)}
        work.record(Action.DEVICE_ISSUED, "device", device.id, facts)
        return _device(device, officer.officer_no)


@gate.get("/officers", Act.MANAGE_DEVICES, summary="执法人员 Officers")
def list_officers(desk: DeskOf) -> list[OfficerShown]:
    """按编号排列。By number."""
    with desk.reading() as work:
        return [_officer_shown(row) for row in agencies.officers(work.session, work.agency_id)]


@gate.post(
    "/officers", Act.MANAGE_DEVICES, status_code=201, problems=(409,), summary="登记人员 Register an officer"
)
def register_officer(body: OfficerRegistration, desk: DeskOf) -> OfficerShown:
    """编号不可重复。The number is free."""
    with desk.writing() as work:
        number = agencies.check_number("officer", body.officer_no)
        if agencies.officer_by_no(work.session, work.agency_id, number) is not None:
            raise Conflict(f"officer {number}: expected a free number, found it taken", code="officer_taken")
        row = agencies.add_officer(
            work.session, work.agency_id, number, body.name, work.now, body.certificate_no
        )
        private = {"officer_no": row.officer_no, "name": row.name, "certificate_no": row.certificate_no}
        work.record(Action.OFFICER_REGISTERED, "officer", row.id, {}, private)
        return _officer_shown(row)


@gate.get("/upload-tokens", Act.MANAGE_DEVICES, summary="上传令牌 Upload tokens")
def list_tokens(desk: DeskOf) -> list[TokenShown]:
    """不含令牌本身。Never the token itself."""
    with desk.reading() as work:
        return [_token(row, TokenShown) for row in accounts.upload_tokens(work.session, work.agency_id)]


@gate.post(
    "/upload-tokens", Act.MANAGE_DEVICES, status_code=201, problems=(404,), summary="发放令牌 Issue a token"
)
def issue_token(body: TokenRequest, desk: DeskOf) -> TokenIssued:
    """令牌仅显示一次。The token is shown once."""
    with desk.writing() as work:
        dock_no = agencies.check_number("dock", body.dock_no)
        device = None
        if body.device_no is not None:
            device = agencies.device_by_no(work.session, work.agency_id, body.device_no)
            if device is None:
                raise NotFound(
                    f"device {body.device_no}: expected a known one, found none", code="device_not_found"
                )
        token, row = credentials.issue_upload_token(
            work.session,
            work.agency,
            dock_no=dock_no,
            device_id=device.id if device else None,
            now=work.now,
            life=None if body.life_s is None else timedelta(seconds=body.life_s),
        )
        facts = {"dock": row.dock_no, "device": str(device.id) if device else None}
        work.record(Action.TOKEN_ISSUED, "upload_token", row.id, facts)
        return _token(row, TokenIssued, token=token)


@gate.delete(
    "/upload-tokens/{token_id}",
    Act.MANAGE_DEVICES,
    status_code=204,
    problems=(404,),
    summary="撤销令牌 Revoke a token",
)
def revoke_token(token_id: UUID, desk: DeskOf) -> Response:
    """立即生效。At once."""
    with desk.writing() as work:
        row = credentials.revoke_upload_token(work.session, work.agency_id, token_id, work.now)
        if row.revoked_at == work.now:
            work.record(Action.TOKEN_REVOKED, "upload_token", row.id, {"dock": row.dock_no})
    return Response(status_code=204)


def _officer(work: Work, number: str) -> Officer:
    officer = agencies.officer_by_no(work.session, work.agency_id, number)
    if officer is None:
        raise NotFound(f"officer {number}: expected a registered one, found none", code="officer_not_found")
    return officer


def _device(row: Device, officer_no: str | None) -> DeviceShown:
    return DeviceShown(
        id=row.id,
        device_no=row.device_no,
        kind=row.kind,
        state=row.state,
        model=row.model,
        officer_no=officer_no,
    )


def _officer_shown(row: Officer) -> OfficerShown:
    return OfficerShown(
        id=row.id, officer_no=row.officer_no, name=row.name, certificate_no=row.certificate_no
    )


S = TypeVar("S", bound=TokenShown)


def _token(row: UploadToken, schema: type[S], **more: str) -> S:
    return schema(
        id=row.id,
        dock_no=row.dock_no,
        device_id=row.device_id,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        **more,
    )
