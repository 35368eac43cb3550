"""What a child may use grows with the footage it works on, as far as that is believed; memory does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from config.settings import Settings
from workers.context import JobContext, portions_of

HOUR_US = 3600 * 1_000_000


@pytest.mark.parametrize(
    ("duration_us", "frame_count", "portions"),
    [
        (0, 0, 1),
        (HOUR_US // 2, 45_000, 1),
        (HOUR_US // 2 + 1, 0, 2),
        # Pictures count where there are more of them than usual.
        (HOUR_US // 2, 240 * 1800, 10),
        (8 * HOUR_US, 25 * 8 * 3600, 16),
        (24 * HOUR_US, 2 * 24 * 3600, 48),
        (10**18, 1, 96),
    ],
)
def test_limits_are_given_once_for_each_half_hour(duration_us: int, frame_count: int, portions: int) -> None:
    assert portions_of(duration_us, frame_count) == portions


def test_a_day_is_redacted_within_its_limits() -> None:
    lease = SimpleNamespace(queue="media")
    short = JobContext(
        lease,
        None,
        None,
        Settings(),
        Path(),
        lambda _: None,
        lambda: False,  # type: ignore[arg-type]
    )
    day = replace(short, portions=portions_of(24 * HOUR_US, 25 * 24 * 3600)).limits
    # As docs/design/redaction.md measured it: detection, a second look every fifth picture, decoding.
    assert day.cpu_s > 25 * 24 * 3600 * (0.065 + 0.275 / 5 + 0.005)
    assert (day.wall_s, day.file_size_bytes) == (48 * 43_200, 48 * 64 << 30)
    assert (day.memory_bytes, day.stall_s) == (short.limits.memory_bytes, short.limits.stall_s)
