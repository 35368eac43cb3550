"""Policies as data: presets, values that cannot be, and deadlines to the second."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from evidence.errors import InvalidInput, NotFound
from ingest import policy

MARKS = {"confirmed", "secondary", "derived", "unconfirmed"}


def rule(**changed: object) -> policy.Rule:
    body = {**policy.preset("within_24h").body, **changed}
    return policy.Rule(policy.UPLOAD_DEADLINE, body, "a text", None, 1, None, None)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def test_every_preset_names_its_source_its_mark_and_values_that_can_be() -> None:
    found = policy.all_presets()
    assert {one.name for one in found} >= {
        "same_day", "within_24h", "after_return", "archive_transfer", "clock", "recording_gap",
    }  # fmt: skip
    for one in found:
        assert policy.check_body(one.policy, one.body) == dict(one.body)
        assert one.mark in MARKS
        assert one.source.strip()
    for name in policy.SHAPES:
        assert sum(one.is_default for one in found if one.policy == name) == 1


def test_the_marks_are_those_of_the_texts() -> None:
    marks = {one.name: one.mark for one in policy.all_presets()}
    assert marks["within_24h"] == marks["same_day"] == marks["clock"] == "secondary"
    assert marks["archive_transfer"] == "confirmed"
    assert marks["after_return"] == "unconfirmed"


@pytest.mark.parametrize(
    "changed",
    [
        {"hours": -1},
        {"hours": "24"},
        {"hours": True},
        {"hours": 1.5},
        {"hours": 10**30},
        {"due": "whenever"},
        {"due": ["end_of_day"]},
        {"counted_from": None},
        {"surprise": 1},
        {"due": "months_after", "months": 0},
    ],
)
def test_values_that_cannot_be_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        policy.check_body(policy.UPLOAD_DEADLINE, {**policy.preset("same_day").body, **changed})
    assert refused.value.code == "policy_body"


def test_every_wrong_field_is_told_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        policy.check_body(policy.CLOCK, {"resolution_ms": -1, "x": 1})
    assert len(refused.value.facts["findings"]) == 5  # type: ignore[arg-type]


def test_a_name_no_policy_has_is_not_found() -> None:
    for ask in (policy.check_name, policy.preset):
        with pytest.raises(NotFound):
            ask("retention")


@pytest.mark.parametrize(
    ("zone", "ended", "due"),
    [
        ("Asia/Shanghai", "2026-03-03T23:59:59+08:00", "2026-03-04T00:00:00+08:00"),
        ("Asia/Shanghai", "2026-03-04T00:00:00+08:00", "2026-03-05T00:00:00+08:00"),
        # The day the clock goes forward has 23 hours, the day it goes back 25.
        ("Europe/Berlin", "2026-03-29T01:30:00+01:00", "2026-03-30T00:00:00+02:00"),
        ("Europe/Berlin", "2026-10-25T02:30:00+02:00", "2026-10-26T00:00:00+01:00"),
        # Midnight of 15 October 2017 was skipped in São Paulo: the day begins at 01:00.
        ("America/Sao_Paulo", "2017-10-14T22:00:00-03:00", "2017-10-15T01:00:00-02:00"),
    ],
)
def test_the_end_of_the_day_is_the_zones(zone: str, ended: str, due: str) -> None:
    assert policy.due_at(rule(due="end_of_day", hours=0), utc(ended), zone) == utc(due)


def test_hours_are_hours_whatever_the_clocks_do() -> None:
    ended = utc("2026-03-28T12:00:00+01:00")
    assert policy.due_at(rule(hours=24), ended, "Europe/Berlin") == utc("2026-03-29T13:00:00+02:00")


@pytest.mark.parametrize(
    ("ended", "due"),
    [
        ("2026-01-31T10:00:00+08:00", "2026-03-01T00:00:00+08:00"),
        ("2024-01-31T10:00:00+08:00", "2024-03-01T00:00:00+08:00"),
        ("2026-11-30T10:00:00+08:00", "2026-12-31T00:00:00+08:00"),
        ("2026-12-15T10:00:00+08:00", "2027-01-16T00:00:00+08:00"),
    ],
)
def test_a_month_ends_with_the_day_of_its_number_or_the_last(ended: str, due: str) -> None:
    month = rule(due="months_after", months=1)
    assert policy.due_at(month, utc(ended), "Asia/Shanghai") == utc(due)


def test_a_day_begins_in_the_agencys_zone() -> None:
    assert policy.start_of_day(date(2026, 3, 4), "Asia/Shanghai") == utc("2026-03-03T16:00:00+00:00")
