"""Devices, officers, issues and duty from tables (R12, R13, R14).

A table is read as a whole first, so that every line that cannot be taken is known before anything is
written; then its lines are taken batch by batch (`ingest.sheets`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy.orm import Session

from evidence.errors import Conflict, EvidenceError, InvalidInput, NotFound
from evidence.kinds import SourceKind
from ingest import duty, ledger_many, roster, sheets
from ingest.sheets import LineFinding, Transactions
from storage.db import agencies, ledger
from storage.db.tables import Agency, Device, Officer


class Kind(StrEnum):
    """What a table is a table of."""

    DEVICES = "devices"
    OFFICERS = "officers"
    ISSUES = "issues"
    DUTY = "duty"


_DEVICE = {"设备编号": "device_no", "记录仪编号": "device_no"}
_OFFICER = {
    "执法人员编号": "officer_no",
    "人员编号": "officer_no",
    "警号": "officer_no",
    "编号": "officer_no",
}
FORMS: Mapping[Kind, sheets.Form] = {
    Kind.DEVICES: sheets.Form(
        {**_DEVICE, "类别": "kind", "厂商": "maker", "生产厂家": "maker", "型号": "model"},
        frozenset({"device_no"}),
    ),
    Kind.OFFICERS: sheets.Form(
        {**_OFFICER, "姓名": "name", "执法证号": "certificate_no"}, frozenset({"officer_no", "name"})
    ),
    Kind.ISSUES: sheets.Form(
        {
            **_DEVICE,
            **_OFFICER,
            "领用人编号": "officer_no",
            "领用时间": "issued_at",
            "领用日期": "issued_at",
            "归还时间": "returned_at",
            "归还日期": "returned_at",
        },
        frozenset({"device_no", "officer_no", "issued_at"}),
    ),
    Kind.DUTY: sheets.Form(
        {
            **_OFFICER,
            "执勤开始": "duty_from",
            "上岗时间": "duty_from",
            "执勤结束": "duty_to",
            "下岗时间": "duty_to",
        },
        frozenset({"officer_no", "duty_from", "duty_to"}),
    ),
}
KIND_WORDS: Mapping[str, SourceKind] = {
    "执法记录仪": SourceKind.BODY_CAM,
    "记录仪": SourceKind.BODY_CAM,
    "询问室": SourceKind.INTERVIEW_ROOM,
    "固定监控": SourceKind.FIXED_CAMERA,
    "车载": SourceKind.VEHICLE,
    "无人机": SourceKind.UAV,
    "照相机": SourceKind.PHOTO,
    "录音笔": SourceKind.AUDIO,
}
EXAMPLES: Mapping[Kind, str] = {
    Kind.DEVICES: "设备编号,类别,厂商,型号\nBC-0101,执法记录仪,某厂,DSJ-4\n",
    Kind.OFFICERS: "执法人员编号,姓名,执法证号\n330109,赵六,ZF-0109\n",
    Kind.ISSUES: "设备编号,领用人编号,领用时间\nBC-0101,330109,2026-03-01 08:30\n",
    Kind.DUTY: "执法人员编号,上岗时间,下岗时间\n330109,2026-03-02 08:30,2026-03-02 17:30\n",
}


@dataclass
class Table:
    """A table as read: what can be taken, and what is wrong."""

    kind: Kind
    ready: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    findings: list[LineFinding] = field(default_factory=list)


def read(session: Session, agency: Agency, kind: Kind, body: bytes) -> Table:
    """Read a table and find what is wrong with it; writes nothing.

    Raises:
        InvalidInput: The file as a whole cannot be read.
    """
    table = Table(kind)
    known = Known(*ledger.numbers_known(session, agency.id))
    for number, fields in sheets.lines(body, FORMS[kind]):
        try:
            if isinstance(fields, EvidenceError):
                raise fields
            missing = FORMS[kind].required - fields.keys()
            if missing:
                raise InvalidInput(
                    f"line: expected {', '.join(sorted(missing))}, found none", code="field_missing"
                )
            table.ready.append((number, _READERS[kind](agency, known, fields)))
        except EvidenceError as error:
            table.findings.append(LineFinding.of(number, error))
    return table


def take(begin: Transactions, table: Table, *, actor: str, now: datetime) -> sheets.Taken[object]:
    """Take the lines of a table, as one person would enter them one by one.

    Issues are taken in the order of their times, whatever order they stand in.
    """
    ready = table.ready
    if table.kind is Kind.ISSUES:
        ready = sorted(ready, key=lambda line: line[1]["issued_at"])
    act, act_on_many = _TAKERS[table.kind], _MANY[table.kind]
    taken = sheets.take(
        begin,
        ready,
        lambda session, agency, values: act(session, agency, values, actor, now),
        lambda session, agency, many: act_on_many(session, agency, many, actor, now),
    )
    findings = sorted([*table.findings, *taken.findings], key=lambda found: found.line)
    return sheets.Taken(taken.made, findings)


# --- reading a line ---------------------------------------------------------------------------


@dataclass
class Known:
    """What there is already, and what lines before this one bring."""

    devices: dict[str, Device]
    officers: dict[str, Officer]
    brought: set[str] = field(default_factory=set)

    def bring(self, number: str, taken: EvidenceError) -> None:
        """Remember a number; the second line of it is refused."""
        if number in self.brought:
            raise taken
        self.brought.add(number)

    def device(self, number: str) -> str:
        if number not in self.devices:
            raise NotFound(f"device {number[:64]}: expected one known, found none", code="device_not_found")
        return number

    def officer(self, number: str) -> str:
        if number not in self.officers:
            raise NotFound(
                f"officer {number[:64]}: expected one registered, found none", code="officer_not_found"
            )
        return number


def _read_device(_agency: Agency, known: Known, fields: sheets.Fields) -> dict[str, Any]:
    number = agencies.check_number("device", fields["device_no"])
    taken = Conflict(f"device {number}: expected a free number, found it registered", code="device_no_taken")
    there = known.devices.get(number)
    if there is not None and there.state != agencies.UNKNOWN:
        raise taken
    known.bring(number, taken)
    return {
        "device_no": number,
        "kind": _kind(fields.get("kind")),
        "maker": fields.get("maker"),
        "model": fields.get("model"),
    }


def _kind(word: str | None) -> SourceKind:
    if word is None:
        return SourceKind.BODY_CAM
    if word in KIND_WORDS:
        return KIND_WORDS[word]
    try:
        return SourceKind(word.lower())
    except ValueError as error:
        raise InvalidInput(
            f"kind: expected one of {', '.join(SourceKind)}, found {word[:40]!r}", code="kind_unknown"
        ) from error


def _read_officer(_agency: Agency, known: Known, fields: sheets.Fields) -> dict[str, Any]:
    number = agencies.check_number("officer", fields["officer_no"])
    taken = Conflict(f"officer {number}: expected a free number, found it taken", code="officer_no_taken")
    if number in known.officers:
        raise taken
    known.bring(number, taken)
    return {"officer_no": number, "name": fields["name"], "certificate_no": fields.get("certificate_no")}


def _read_issue(agency: Agency, known: Known, fields: sheets.Fields) -> dict[str, Any]:
    zone = agency.time_zone
    issued_at = sheets.instant(fields["issued_at"], "issued_at", zone)
    returned_at = sheets.instant(fields.get("returned_at"), "returned_at", zone)
    if issued_at is not None and returned_at is not None and returned_at < issued_at:
        raise InvalidInput("returned_at: expected after issued_at, found before", code="issue_times")
    return {
        "device_no": known.device(fields["device_no"]),
        "officer_no": known.officer(fields["officer_no"]),
        "issued_at": issued_at,
        "returned_at": returned_at,
    }


def _read_duty(agency: Agency, known: Known, fields: sheets.Fields) -> dict[str, Any]:
    zone = agency.time_zone
    duty_from = sheets.instant(fields["duty_from"], "duty_from", zone)
    duty_to = sheets.instant(fields["duty_to"], "duty_to", zone)
    if duty_from is None or duty_to is None:
        raise InvalidInput("duty: expected a beginning and an end, found none", code="field_missing")
    duty.check_times(duty_from, duty_to)
    return {
        "officer_no": known.officer(fields["officer_no"]),
        "duty_from": duty_from,
        "duty_to": duty_to,
    }


_READERS: Mapping[Kind, Callable[[Agency, Known, sheets.Fields], dict[str, Any]]] = {
    Kind.DEVICES: _read_device,
    Kind.OFFICERS: _read_officer,
    Kind.ISSUES: _read_issue,
    Kind.DUTY: _read_duty,
}


# --- taking a line ----------------------------------------------------------------------------


def _take_device(
    session: Session, agency: Agency, values: dict[str, Any], actor: str, now: datetime
) -> object:
    known = agencies.device_by_no(session, agency.id, values["device_no"])
    if known is not None and known.state == agencies.UNKNOWN:
        return roster.adopt_device(session, agency, **values, actor=actor, now=now)
    return roster.register_device(session, agency, **values, actor=actor, now=now)


def _take_officer(
    session: Session, agency: Agency, values: dict[str, Any], actor: str, now: datetime
) -> object:
    return roster.register_officer(session, agency, **values, actor=actor, now=now)


def _take_issue(
    session: Session, agency: Agency, values: dict[str, Any], actor: str, now: datetime
) -> object:
    returned_at = values["returned_at"]
    wanted = {name: value for name, value in values.items() if name != "returned_at"}
    issue = roster.issue_device(session, agency, **wanted, actor=actor, now=now)
    if returned_at is not None:
        roster.return_device(
            session, agency, values["device_no"], returned_at=returned_at, actor=actor, now=now
        )
    return issue


def _take_duty(session: Session, agency: Agency, values: dict[str, Any], actor: str, now: datetime) -> object:
    return duty.enter_duty(session, agency, **values, actor=actor, now=now)


_TAKERS: Mapping[Kind, Callable[[Session, Agency, dict[str, Any], str, datetime], object]] = {
    Kind.DEVICES: _take_device,
    Kind.OFFICERS: _take_officer,
    Kind.ISSUES: _take_issue,
    Kind.DUTY: _take_duty,
}
_MANY: Mapping[Kind, Callable[[Session, Agency, ledger_many.Lines, str, datetime], list[object]]] = {
    Kind.DEVICES: ledger_many.register_devices,
    Kind.OFFICERS: ledger_many.register_officers,
    Kind.ISSUES: ledger_many.issue_devices,
    Kind.DUTY: ledger_many.enter_duties,
}
