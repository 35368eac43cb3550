"""Devices, officers and upload tokens: the system administrator's work."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from fastapi import Response

from api.auth.gate import Gate
from api.auth.seat import DeskOf
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
from ingest import docks, roster
from storage.db import accounts, agencies
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
        session, agency = work.session, work.agency
        known = agencies.device_by_no(session, agency.id, body.device_no)
        if known is not None and known.state == agencies.UNKNOWN:
            row = roster.adopt_device(
                session,
                agency,
                body.device_no,
                kind=body.kind,
                model=body.model,
                actor=work.actor.label,
                now=work.now,
            )
        else:
            row = roster.register_device(
                session,
                agency,
                body.device_no,
                kind=body.kind,
                model=body.model,
                actor=work.actor.label,
                now=work.now,
            )
        return _device(row, accounts.holders(session, agency.id).get(row.id))


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
        token, row = docks.issue_token(
            work.session,
            work.agency,
            dock_no=body.dock_no,
            device_no=body.device_no,
            life=None if body.life_s is None else timedelta(seconds=body.life_s),
            actor=work.actor.label,
            now=work.now,
        )
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
        docks.revoke_token(work.session, work.agency, token_id, actor=work.actor.label, now=work.now)
    return Response(status_code=204)


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
