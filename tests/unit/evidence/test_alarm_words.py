"""Every alarm speaks Chinese beside its English line, also one that was raised by an earlier version."""

from __future__ import annotations

import pytest

from api.fairness import CROWDED
from evidence import alarm_words
from evidence.alarm_words import TITLES, line_of
from ingest.daemon.second_copies import DIFFERS
from ingest.damage import DAMAGED
from ingest.recorder import schedule
from ingest.recorder.registry import COPY_LOST, LOST, NOT_TAKEN_UP
from workers.sweep import UNSETTLED


def test_every_code_has_a_title_and_a_line() -> None:
    assert TITLES.keys() == alarm_words._LINES.keys()
    raised = {CROWDED, DAMAGED, DIFFERS, COPY_LOST, LOST, NOT_TAKEN_UP, UNSETTLED, schedule.MISSED,
              schedule.WAITS, schedule.LATE_BEGUN, schedule.OVERDUE, schedule.UNKEPT}  # fmt: skip
    assert raised <= TITLES.keys()


@pytest.mark.parametrize("code", sorted(TITLES))
def test_a_line_needs_no_fact_and_takes_any(code: str) -> None:
    """What earlier versions stored, and what a stranger may have put into a name."""
    assert "R1/main" in line_of(code, "R1/main", {}) or "不明" in line_of(code, "R1/main", {})
    hostile = dict.fromkeys(
        ("job", "kind", "found", "item", "room_no", "session", "path"), "{about.__class__}"
    )
    line = line_of(code, "{0}", {**hostile, "device": None, "late_ms": 3})
    assert "\n" not in line and "<class" not in line


def test_a_line_names_the_thing_and_what_to_do() -> None:
    facts = {"item": "7f", "device": "CAM1", "expected_sha256": "ab" * 32, "found": "missing"}
    assert line_of("object_damaged", "7f", facts) == (
        "音像7f（设备CAM1）：应为 SHA-256 abababababababab…，实为missing；"
        "存储卡上如仍有请重新上传，否则从备份恢复"
    )
    assert line_of("unheard_of", "x", {}) == "unheard_of：x"
