"""Reports on equipment: how many recorders for how many officers, clocks, health and replacement.

R13 asks for the ratio, D4 for the clocks, R12 and R15 for the state of each device and the list of those
to replace. All are made from rows alone, as of the end of the period.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.kinds import SourceKind
from ingest import policy
from ingest.ledger_clock import Stretch, is_beyond, stretches
from ingest.ledger_report import Column, Report, Row, Value
from storage.db import agencies, ledger, ledger_reports
from storage.db.ledger_tables import DeviceFault, DeviceReading
from storage.db.tables import Agency, Device, DeviceIssue

# How far back the state of a device is read from.
LOOK_BACK = timedelta(days=90)
LAST_READINGS = 3
DEVICES_AT_ONCE = 20
YEAR = timedelta(days=365)
MONTH = timedelta(days=30)


def policies_of(session: Session, agency: Agency, at: datetime, *names: str) -> list[dict[str, Value]]:
    """The policies a report is judged by at its end."""
    rules = [policy.in_force(session, agency, name, at) for name in names]
    return [
        {"name": rule.name, "version": rule.version, "source": rule.source, "mark": rule.mark}
        for rule in rules
    ]


def ratio(session: Session, agency: Agency, since: datetime, until: datetime, now: datetime) -> Report:
    """Recorders and officers as of the end (R13): one row for each pair, idle recorder, officer without."""
    officers = ledger_reports.officers_at(session, agency.id, until)
    recorders = ledger_reports.devices_at(
        session, agency.id, until, state=agencies.REGISTERED, kinds=[SourceKind.BODY_CAM]
    )
    held = _held_at(ledger.issues_between(session, agency.id, until, until))
    rows: list[dict[str, Value]] = []
    people = {row.id: row for row in officers}
    with_one = set()
    for device in recorders:
        issue = held.get(device.id)
        person = people.get(issue.officer_id) if issue is not None else None
        if issue is not None and person is not None:
            with_one.add(person.id)
            rows.append(_pair("held", device.device_no, person.officer_no, person.name, issue.issued_at))
        else:
            rows.append(_pair("idle", device.device_no, None, None, None))
    without = [row for row in officers if row.id not in with_one]
    rows += [_pair("without", None, row.officer_no, row.name, None) for row in without]
    figures = {
        "recorders": len(recorders),
        "officers": len(officers),
        "docks": ledger_reports.count_docks_at(session, agency.id, until),
        "recorders_held": sum(row["kind"] == "held" for row in rows),
        "recorders_idle": sum(row["kind"] == "idle" for row in rows),
        "officers_without": len(without),
        "recorders_per_100_officers": round(100 * len(recorders) / len(officers)) if officers else 0,
    }
    columns = (
        Column("kind", "情况", "kind"),
        Column("device_no", "设备编号", "device"),
        Column("officer_no", "人员编号", "officer"),
        Column("name", "姓名", "name"),
        Column("issued_at", "领用时间", "issued"),
    )
    return Report("ratio", "配备率 / recorders per officer", since, until, now, figures, columns, rows)


def _pair(
    kind: str, device_no: str | None, officer_no: str | None, name: str | None, at: datetime | None
) -> dict[str, Value]:
    return {"kind": kind, "device_no": device_no, "officer_no": officer_no, "name": name, "issued_at": at}


def _held_at(issues: Iterable[DeviceIssue]) -> dict[UUID, DeviceIssue]:
    """The issue in force by device; of several the latest."""
    return {row.device_id: row for row in issues}


def device_stretches(
    rules: policy.History, readings: Iterable[DeviceReading]
) -> list[tuple[Stretch, policy.Rule]]:
    """Free stretches of one device's clock, each with the clock policy in force at its end."""
    listed = list(readings)
    if not listed:
        return []
    found = stretches(listed, str(rules.at(listed[-1].read_at).body["docks_set_clock"]))
    return [(one, rules.at(one.until)) for one in found]


def clock(session: Session, agency: Agency, since: datetime, until: datetime, now: datetime) -> Report:
    """Drift of each device's clock in the period (D4): a row for each stretch it ran freely."""
    figures = dict.fromkeys(("devices_read", "stretches", "drift", "devices_drifting"), 0)
    columns = (
        Column("finding", "问题", "finding"),
        Column("device_no", "设备编号", "device"),
        Column("since", "起", "from"),
        Column("until", "止", "to"),
        Column("reading_count", "读数次数", "readings"),
        Column("from_setting", "自校时起", "from setting"),
        Column("last_offset_ms", "末次偏差毫秒", "last offset ms"),
        Column("drift_ms_per_day", "日漂移毫秒", "drift ms/day"),
        Column("limit_ms_per_day", "限值毫秒", "limit ms/day"),
    )
    return Report(
        "clock", "时钟漂移 / clock drift", since, until, now, figures, columns,
        _clocks(session, agency, since, until, figures), policies_of(session, agency, until, policy.CLOCK),
    )  # fmt: skip


def _clocks(
    session: Session, agency: Agency, since: datetime, until: datetime, figures: dict[str, int]
) -> Iterator[Row]:
    rules = policy.History(session, agency, policy.CLOCK)
    for device, readings in _read_between(
        session, agency, agencies.devices(session, agency.id), since, until
    ):
        found = device_stretches(rules, readings)
        drifting = [is_beyond(stretch, rule) for stretch, rule in found]
        figures["devices_read"] += bool(readings)
        figures["stretches"] += len(found)
        figures["drift"] += sum(drifting)
        figures["devices_drifting"] += any(drifting)
        for (stretch, rule), is_drift in zip(found, drifting, strict=True):
            yield {
                "finding": "drift" if is_drift else None,
                "device_no": device.device_no,
                "since": stretch.since,
                "until": stretch.until,
                "reading_count": stretch.reading_count,
                "from_setting": stretch.from_setting,
                "last_offset_ms": _ms(stretch.last_offset_us),
                "drift_ms_per_day": _ms(stretch.drift_us_per_day),
                "limit_ms_per_day": rule.whole("max_drift_ms_per_day"),
            }


def _read_between(
    session: Session, agency: Agency, devices: Sequence[Device], since: datetime, until: datetime
) -> Iterator[tuple[Device, list[DeviceReading]]]:
    """Each device with its readings, those of a few devices in memory at a time."""
    for start in range(0, len(devices), DEVICES_AT_ONCE):
        some = devices[start : start + DEVICES_AT_ONCE]
        ids = [row.id for row in some]
        found = _by_device(ledger.readings_between(session, agency.id, since, until, ids))
        for device in some:
            yield device, found.get(device.id, [])


def _ms(us: int) -> int:
    return round(us / 1000)


def _by_device(readings: Iterable[DeviceReading]) -> dict[UUID, list[DeviceReading]]:
    found: dict[UUID, list[DeviceReading]] = {}
    for row in readings:
        found.setdefault(row.device_id, []).append(row)
    return found


FINDINGS = (
    "fault_open",
    "drift",
    "battery_low",
    "card_full",
    "capacity_lost",
    "not_seen",
    "used_after_retirement",
    "replace_age",
    "replace_faults",
)
REPLACE = frozenset({"replace_age", "replace_faults", "capacity_lost"})


def health(session: Session, agency: Agency, since: datetime, until: datetime, now: datetime) -> Report:
    """Devices that need a person as of the end (R12), and those to replace (R15).

    A row for each device with a finding. A battery is low when each of the last three readings says so: one
    docking after a long shift is none.
    """
    rule = policy.in_force(session, agency, policy.DEVICE_HEALTH, until)
    devices = ledger_reports.devices_at(session, agency.id, until, state=agencies.REGISTERED)
    clocks = policy.History(session, agency, policy.CLOCK)
    faults: dict[UUID, list[DeviceFault]] = {}
    for fault in ledger.faults_before(session, agency.id, until):
        faults.setdefault(fault.device_id, []).append(fault)
    last = ledger_reports.last_items(session, agency.id, until)
    largest = ledger.largest_capacity(session, agency.id, until)
    held = _held_at(ledger.issues_between(session, agency.id, until, until))
    people = {row.id: row.officer_no for row in ledger_reports.officers_at(session, agency.id, until)}
    rows: list[dict[str, Value]] = []
    for device, read in _read_between(session, agency, devices, until - LOOK_BACK, until):
        tickets = faults.get(device.id, [])
        seen = max(filter(None, [last.get(device.id), read[-1].read_at if read else None]), default=None)
        drifting = [stretch for stretch, law in device_stretches(clocks, read) if is_beyond(stretch, law)]
        found = _findings(device, read, tickets, seen, largest.get(device.id), rule, until)
        if drifting:
            found.append("drift")
        if found:
            holder = held.get(device.id)
            rows.append(_row(device, found, read, tickets, seen, drifting, people, holder, until))
    for device in ledger_reports.used_after_retirement(session, agency.id, until):
        seen = last.get(device.id)
        rows.append(_row(device, ["used_after_retirement"], [], [], seen, [], people, None, until))
    counted = Counter(code for row in rows for code in str(row["findings"]).split())
    figures = {
        "devices": len(devices),
        "with_findings": len(rows),
        "to_replace": sum(row["replace"] is True for row in rows),
        **{code: counted[code] for code in FINDINGS},
    }
    columns = (
        Column("device_no", "设备编号", "device"),
        Column("findings", "问题", "findings"),
        Column("replace", "建议更新", "replace"),
        Column("officer_no", "持有人", "holder"),
        Column("maker", "厂商", "maker"),
        Column("model", "型号", "model"),
        Column("firmware", "固件", "firmware"),
        Column("registered_at", "登记时间", "registered"),
        Column("seen_at", "最近出现", "last seen"),
        Column("open_faults", "未修故障", "open faults"),
        Column("battery_percent", "电量%", "battery %"),
        Column("free_percent", "剩余空间%", "free %"),
        Column("drift_ms_per_day", "日漂移毫秒", "drift ms/day"),
    )
    return Report(
        "health", "设备健康与更新 / health and replacement", since, until, now, figures, columns, rows,
        policies_of(session, agency, until, policy.DEVICE_HEALTH, policy.CLOCK),
    )  # fmt: skip


def _findings(
    device: Device,
    read: list[DeviceReading],
    tickets: list[DeviceFault],
    seen: datetime | None,
    largest: int | None,
    rule: policy.Rule,
    at: datetime,
) -> list[str]:
    found = []
    if any(ticket.resolved_at is None or ticket.resolved_at > at for ticket in tickets):
        found.append("fault_open")
    charges = [row.battery_percent for row in read if row.battery_percent is not None][-LAST_READINGS:]
    if len(charges) == LAST_READINGS and max(charges) < rule.whole("battery_low_percent"):
        found.append("battery_low")
    free = _free_percent(read)
    if free is not None and free < rule.whole("free_low_percent"):
        found.append("card_full")
    sizes = [row.capacity_bytes for row in read if row.capacity_bytes is not None]
    if sizes and largest and sizes[-1] * 100 <= largest * (100 - rule.whole("capacity_loss_percent")):
        found.append("capacity_lost")
    if at - (seen or device.created_at) > rule.span("not_seen_days"):
        found.append("not_seen")
    if at - device.created_at >= rule.whole("replace_after_months") * MONTH:
        found.append("replace_age")
    if sum(at - ticket.reported_at <= YEAR for ticket in tickets) >= rule.whole("replace_after_faults"):
        found.append("replace_faults")
    return found


def _free_percent(read: list[DeviceReading]) -> int | None:
    for row in reversed(read):
        if row.free_bytes is not None and row.capacity_bytes:
            return min(100, row.free_bytes * 100 // row.capacity_bytes)
    return None


def _row(
    device: Device,
    found: list[str],
    read: list[DeviceReading],
    tickets: list[DeviceFault],
    seen: datetime | None,
    drifting: list[Stretch],
    people: dict[UUID, str],
    holder: DeviceIssue | None,
    at: datetime,
) -> dict[str, Value]:
    charges = [row.battery_percent for row in read if row.battery_percent is not None]
    return {
        "device_no": device.device_no,
        "findings": " ".join(sorted(found, key=FINDINGS.index)),
        "replace": bool(REPLACE & set(found)),
        "officer_no": people.get(holder.officer_id) if holder is not None else None,
        "maker": device.maker,
        "model": device.model,
        "firmware": device.firmware,
        "registered_at": device.created_at,
        "seen_at": seen,
        "open_faults": sum(one.resolved_at is None or one.resolved_at > at for one in tickets),
        "battery_percent": charges[-1] if charges else None,
        "free_percent": _free_percent(read),
        "drift_ms_per_day": _ms(drifting[-1].drift_us_per_day) if drifting else None,
    }
