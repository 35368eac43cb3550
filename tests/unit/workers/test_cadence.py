"""A busy log is signed ever less often, up to a limit; a quiet one not at all."""

from __future__ import annotations

from workers.cadence import Cadence


def turns(cadence: Cadence, busy: list[bool]) -> list[float]:
    """When each turn was taken, looking every half second as the relay does."""
    taken: list[float] = []
    now = 0.0
    for placed in busy:
        while not cadence.is_due(now):
            now += 0.5
        taken.append(now)
        cadence.took(7 if placed else 0, now)
    return taken


def test_a_busy_log_is_signed_ever_less_often() -> None:
    taken = turns(Cadence(5, 60, 0), [True] * 8)
    assert taken == [0, 5, 15, 35, 75, 135, 195, 255]


def test_a_quiet_turn_brings_the_short_pause_back() -> None:
    taken = turns(Cadence(5, 60, 0), [True, True, True, False, True, True])
    assert taken == [0, 5, 15, 35, 40, 45]


def test_a_longest_pause_below_the_shortest_does_not_count() -> None:
    assert turns(Cadence(5, 1, 0), [True] * 3) == [0, 5, 10]
