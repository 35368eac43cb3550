"""Policies: deadlines and limits as versioned data (docs/design/ledger.md).

Rules, in order:

1. A policy has a name, and versions that count up from 1. A version names its source and the instant from
   which it applies; it is never edited.
2. An event is judged by the version in force when it happened: of those that apply by then, the newest.
3. Only a first version may apply from a day gone by. A later one begins now or later, so that what was
   judged stays judged.
4. What no version covers is judged by the default preset (config/presets/policies.toml), with its mark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from config import presets
from evidence.clock import rfc3339
from evidence.custody import Action
from evidence.errors import InvalidInput, NotFound
from storage.db import custody, ledger_duty
from storage.db.custody import Happening
from storage.db.ledger_tables import PolicyRow
from storage.db.tables import Agency

UPLOAD_DEADLINE = "upload_deadline"
ARCHIVE_TRANSFER = "archive_transfer"
CLOCK = "clock"
RECORDING_GAP = "recording_gap"
SHORT_RECORDING = "short_recording"
DEVICE_HEALTH = "device_health"
MAX_SOURCE_CHARS = 500
EARLIEST, LATEST = datetime(1980, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)

Field = range | tuple[str, ...]
"""Whole numbers from start to stop, or one of some words."""

_DEADLINE: Mapping[str, Field] = {
    "due": ("end_of_day", "hours_after", "months_after"),
    "counted_from": ("captured", "duty", "return"),
    "hours": range(24 * 366),
    "months": range(121),
    "continuous_gap_hours": range(24 * 31),
}
SHAPES: Mapping[str, Mapping[str, Field]] = {
    UPLOAD_DEADLINE: _DEADLINE,
    ARCHIVE_TRANSFER: _DEADLINE,
    CLOCK: {
        "max_drift_ms_per_day": range(1, 86_400_000),
        "resolution_ms": range(60_001),
        "min_span_min": range(1, 60 * 24 * 31),
        "docks_set_clock": ("yes", "no", "unknown"),
    },
    RECORDING_GAP: {"max_gap_ms": range(600_001), "resolution_ms": range(60_001)},
    SHORT_RECORDING: {"min_ms": range(3_600_001)},
    DEVICE_HEALTH: {
        "not_seen_days": range(1, 3661),
        "battery_low_percent": range(101),
        "free_low_percent": range(101),
        "capacity_loss_percent": range(1, 101),
        "replace_after_months": range(1, 601),
        "replace_after_faults": range(1, 101),
    },
}


@dataclass(frozen=True)
class Preset:
    """Values that ship with the product."""

    name: str
    policy: str
    title: str
    source: str
    mark: str
    body: Mapping[str, Any]
    applies_from: date | None
    """As the text itself says; None: it does not, or was not read."""
    is_default: bool


@dataclass(frozen=True)
class Rule:
    """A policy as an event is judged by it."""

    name: str
    body: Mapping[str, Any]
    source: str
    applies_from: datetime | None
    version: int | None
    """None: the default preset."""
    policy_id: UUID | None
    mark: str | None
    """How sure the preset's source is; None for what the agency set itself."""

    def whole(self, field: str) -> int:
        """A number of the body."""
        return int(self.body[field])

    def span(self, field: str) -> timedelta:
        """A length of time of the body, by the unit its name closes with."""
        unit = field.rpartition("_")[2]
        units = {"ms": "milliseconds", "min": "minutes", "hours": "hours", "days": "days"}
        return timedelta(**{units[unit]: self.whole(field)})


def all_presets() -> tuple[Preset, ...]:
    """The presets in the order of their file."""
    return tuple(
        Preset(
            name=entry["name"],
            policy=entry["policy"],
            title=entry["title"],
            source=entry["source"],
            mark=entry["mark"],
            body=entry["body"],
            applies_from=date.fromisoformat(entry["applies_from"]) if "applies_from" in entry else None,
            is_default=entry.get("default", False),
        )
        for entry in presets.read("policies")["preset"]
    )


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        NotFound: There is none.
    """
    for found in all_presets():
        if found.name == name:
            return found
    names = ", ".join(one.name for one in all_presets())
    raise NotFound(f"preset {name[:60]!r}: expected one of {names}, found another", code="preset_not_found")


def default_of(name: str) -> Preset:
    """The preset that is used while the agency has set nothing."""
    check_name(name)
    return next(found for found in all_presets() if found.policy == name and found.is_default)


def check_name(name: str) -> str:
    """The name, if a policy has it.

    Raises:
        NotFound: None has.
    """
    if name not in SHAPES:
        raise NotFound(
            f"policy {name[:60]!r}: expected one of {', '.join(SHAPES)}, found another",
            code="policy_not_found",
        )
    return name


def check_body(name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a policy, if they are all there and each can be one.

    Raises:
        InvalidInput: With every field that cannot, in ``findings``.
    """
    shape = SHAPES[check_name(name)]
    wrong = [f"{field}: no field of {name}" for field in sorted(set(body) - set(shape))]
    for field, allowed in shape.items():
        if field not in body:
            wrong.append(f"{field}: missing")
        elif not _fits(body[field], allowed):
            wrong.append(f"{field}: expected {_told(allowed)}, found {str(body[field])[:40]!r}")
    if not wrong and name in {UPLOAD_DEADLINE, ARCHIVE_TRANSFER}:
        wrong += _deadline_findings(body)
    if wrong:
        raise InvalidInput(f"policy {name}: {'; '.join(wrong)}", code="policy_body", findings=wrong)
    return {field: body[field] for field in shape}


def _fits(value: object, allowed: Field) -> bool:
    if isinstance(allowed, range):
        return isinstance(value, int) and not isinstance(value, bool) and value in allowed
    return value in allowed


def _told(allowed: Field) -> str:
    if isinstance(allowed, range):
        return f"{allowed.start} to {allowed.stop - 1}"
    return f"one of {', '.join(allowed)}"


def _deadline_findings(body: Mapping[str, Any]) -> list[str]:
    if body["due"] == "months_after" and body["months"] == 0:
        return ["months: expected 1 or more with due months_after, found 0"]
    return []


def in_force(session: Session, agency: Agency, name: str, at: datetime) -> Rule:
    """By what an event of that instant is judged.

    Raises:
        NotFound: No policy has that name.
    """
    row = ledger_duty.policy_at(session, agency.id, check_name(name), at)
    return rule_of(row) if row is not None else _preset_rule(agency, default_of(name))


class History:
    """All versions of a policy, read once: for whoever judges many events."""

    def __init__(self, session: Session, agency: Agency, name: str) -> None:
        self._versions = ledger_duty.policy_versions(session, agency.id, check_name(name))
        self._preset = _preset_rule(agency, default_of(name))

    def at(self, instant: datetime) -> Rule:
        """As `in_force`."""
        for row in reversed(self._versions):
            if row.applies_from <= instant:
                return rule_of(row)
        return self._preset


def rule_of(row: PolicyRow) -> Rule:
    """A version as a rule."""
    return Rule(row.name, row.body, row.source, row.applies_from, row.version, row.id, None)


def _preset_rule(agency: Agency, found: Preset) -> Rule:
    since = start_of_day(found.applies_from, agency.time_zone) if found.applies_from else None
    return Rule(found.policy, found.body, found.source, since, None, None, found.mark)


def set_policy(
    session: Session,
    agency: Agency,
    name: str,
    body: Mapping[str, Any],
    *,
    source: str,
    applies_from: datetime,
    actor: str,
    now: datetime,
) -> PolicyRow:
    """Give a policy its next version.

    Raises:
        NotFound: No policy has that name.
        InvalidInput: Values that cannot be, no source, or a later version that begins before now.
    """
    values = check_body(name, body)
    named = source.strip()
    if not named or len(named) > MAX_SOURCE_CHARS or not named.isprintable():
        raise InvalidInput(
            f"policy {name}: expected its source in one line of 1 to {MAX_SOURCE_CHARS} characters, "
            "found none; name the text and the article",
            code="policy_source",
        )
    if not EARLIEST <= applies_from <= LATEST:
        raise InvalidInput(
            f"policy {name}: expected a first day from {EARLIEST.year} to {LATEST.year}, found "
            f"{applies_from.isoformat()}",
            code="policy_backdated",
        )
    newest = ledger_duty.newest_policy(session, agency, name)
    if newest is not None and applies_from < now:
        raise InvalidInput(
            f"policy {name}: expected a version that begins now or later, found {rfc3339(applies_from)}; "
            "what was judged stays judged",
            code="policy_backdated",
        )
    row = PolicyRow(
        agency_id=agency.id,
        name=name,
        version=1 if newest is None else newest.version + 1,
        applies_from=applies_from,
        source=named,
        body=values,
        author=actor,
        made_at=now,
    )
    session.add(row)
    session.flush()
    facts = {
        "name": name,
        "version": row.version,
        "applies_from": rfc3339(applies_from),
        "source": named,
        "body": values,
    }
    custody.record(session, agency, Happening(Action.POLICY_SET, "policy", str(row.id), actor, facts), now)
    return row


def start_of_day(day: date, zone_name: str) -> datetime:
    """The instant a day begins in a zone; where the clock skips midnight, the instant it skips.

    Sums are done in UTC: a day is 23 or 25 hours long where the clock is changed.
    """
    return datetime.combine(day, time(), ZoneInfo(zone_name)).astimezone(UTC)


def end_of_day(instant: datetime, zone_name: str) -> datetime:
    """The instant the day of an instant ends, in a zone."""
    return start_of_day(instant.astimezone(ZoneInfo(zone_name)).date() + timedelta(days=1), zone_name)


def due_at(rule: Rule, counted_from: datetime, zone_name: str) -> datetime:
    """When something that is counted from an instant is due.

    Hours are hours. Months end with the day of the same number, or the last of a shorter month.
    """
    due = rule.body["due"]
    if due == "hours_after":
        return counted_from + rule.span("hours")
    if due == "end_of_day":
        return end_of_day(counted_from, zone_name) + rule.span("hours")
    local = counted_from.astimezone(ZoneInfo(zone_name)).date()
    return start_of_day(_months_later(local, rule.whole("months")) + timedelta(days=1), zone_name)


def _months_later(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    after = date(year + (month == 11), 1 if month == 11 else month + 2, 1)
    last = (after - timedelta(days=1)).day
    return date(year, month + 1, min(day.day, last))
