"""From claims to facts: the best word wins, nothing is thrown away, nothing crashes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from evidence.kinds import ClaimSource
from ingest.facts import FIELDS, Statement, statements_from, weigh

NOW = datetime(2026, 3, 4, 4, 0, tzinfo=UTC)


def said(field: str, value: str, source: ClaimSource = ClaimSource.DOCK) -> Statement:
    return Statement(field, value, source)


def test_a_person_outweighs_a_dock_outweighs_a_name_outweighs_a_container() -> None:
    order = [ClaimSource.CONTAINER, ClaimSource.FILENAME, ClaimSource.DOCK, ClaimSource.PERSON]
    statements: list[Statement] = []
    for source in order:
        statements.append(said("device_no", str(source), source))
        assert weigh(statements, NOW).device_no == source


def test_unknown_fields_are_no_claims() -> None:
    assert statements_from({"colour": "red", "place": " 某路 "}, ClaimSource.DOCK) == [said("place", "某路")]


def test_the_offset_is_the_docks_clock_less_the_devices() -> None:
    facts = weigh(
        [said("dock_clock", "2026-03-04T12:00:00+08:00"), said("device_clock", "2026-03-04T11:58:00+08:00")],
        NOW,
    )
    assert facts.clock_offset == timedelta(minutes=2)


def test_an_end_before_the_start_is_a_doubt() -> None:
    facts = weigh(
        [
            said("captured_from", "2026-03-04T11:00:00+08:00"),
            said("captured_to", "2026-03-04T10:00:00+08:00"),
        ],
        NOW,
    )
    assert facts.captured_to is None
    assert [code for code, _ in facts.doubts] == ["times_reversed"]


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), st.text(max_size=60)))
def test_nothing_that_is_said_crashes(metadata: dict[str, str]) -> None:
    facts = weigh(statements_from(metadata, ClaimSource.DOCK), NOW)
    assert facts.sequence_no is None or facts.sequence_no >= 0
