"""What the packets of a stream add up to, whatever single ones say."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest

from media.counting import Count

DAY = 26 * 3600 * 10


def count_of(shown: list[int], decoded: list[int] | None = None) -> Count:
    """Of pictures a tenth of a second long, by when each is shown and decoded."""
    count = Count(Fraction(1, 10))
    for pts, dts in zip(shown, decoded or range(len(shown)), strict=True):
        packet = av.Packet(1)
        packet.pts, packet.dts, packet.duration = pts, dts, 1
        count.add(packet)
    return count


@pytest.mark.parametrize("place", [0, 5, 9])
@pytest.mark.parametrize("leap", [DAY, -DAY])
def test_one_time_out_of_all_bounds_makes_no_recording_longer(place: int, leap: int) -> None:
    shown = [at + (leap if at == place else 0) for at in range(10)]
    count = count_of(shown)
    assert (count.duration(), count.jumps) == (1, 1)
    if place:
        assert (count.start, count.end) == (0, 10 - (place == 9))


@pytest.mark.parametrize("place", [1, 5, 9])
def test_nor_does_one_that_is_decoded_as_late_as_it_is_shown(place: int) -> None:
    times = [at + (DAY if at == place else 0) for at in range(10)]
    assert count_of(times, times).duration() == 1


def test_pictures_that_are_reordered_are_no_jumps() -> None:
    count = count_of([2, 5, 3, 4, 8, 6, 7, 9])
    assert (count.duration(), count.jumps, count.start, count.end) == (Fraction(8, 10), 0, 2, 10)
