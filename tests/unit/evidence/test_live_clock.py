"""Wall time of live streams: simulated sources with clocks that drift, step, wrap, stall, lose and repeat."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.live_clock import SECOND_US, Event, HostClock, LiveClock, RunClock, Taken, Turn

FRAME_US = 40_000
PTS_33_BITS_US = (1 << 33) * 100 // 9
HOUR_US = 3600 * SECOND_US


@dataclass
class Simulated:
    """A source at 25 frames a second, and the line to us. Real time is our monotonic clock."""

    seed: int = 0
    drift_ppm: int = 0
    base_delay_us: int = 30_000
    jitter_us: int = 5_000
    loss: float = 0.0
    started_us: int = 777 * SECOND_US
    first_media_us: int = 0
    frame_us: int = FRAME_US
    wrap_us: int | None = None
    made_us: dict[int, int] = field(default_factory=dict)
    """When a packet was really made, by its media time, unwrapped."""

    def packets(self, seconds: float) -> Iterator[tuple[int, int]]:
        """Media time as the source says it, and arrival."""
        chance = random.Random(self.seed)
        arrived_us = 0
        for number in range(int(seconds * SECOND_US / self.frame_us)):
            media_us = self.first_media_us + number * self.frame_us
            # The source's second is longer or shorter than ours.
            made_us = self.started_us + number * self.frame_us * (1_000_000 + self.drift_ppm) // 1_000_000
            if chance.random() < self.loss:
                continue
            delay_us = self.base_delay_us + int(chance.expovariate(1 / max(1, self.jitter_us)))
            arrived_us = max(arrived_us, made_us + delay_us)
            self.made_us[media_us] = made_us
            yield (media_us % self.wrap_us if self.wrap_us else media_us), arrived_us


def heard(clock: LiveClock, packets: Iterator[tuple[int, int]]) -> list[Taken]:
    return [clock.observe(0, media_us, FRAME_US, arrival_us) for media_us, arrival_us in packets]


def events_of(taken: list[Taken]) -> list[Event]:
    return [event for each in taken for event in each.events]


def worst_us(run: RunClock, source: Simulated) -> int:
    return max(abs(run.wall_us(media_us) - made_us) for media_us, made_us in source.made_us.items())


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1 << 30),
    drift_ppm=st.integers(-450, 450),
    base_delay_us=st.integers(0, 300_000),
    jitter_us=st.integers(0, 40_000),
    loss=st.floats(0, 0.2),
    first_media_us=st.integers(-HOUR_US, HOUR_US),
    is_near_wrap=st.booleans(),
)
def test_the_wall_time_of_every_packet_is_near(
    seed: int,
    drift_ppm: int,
    base_delay_us: int,
    jitter_us: int,
    loss: float,
    first_media_us: int,
    is_near_wrap: bool,
) -> None:
    """A wall time is late by no more than the least delay and what drift does in two windows."""
    wrap_us = PTS_33_BITS_US if is_near_wrap else None
    source = Simulated(
        seed,
        drift_ppm,
        base_delay_us,
        jitter_us,
        loss,
        first_media_us=PTS_33_BITS_US - 20 * SECOND_US if is_near_wrap else first_media_us,
        wrap_us=wrap_us,
    )
    clock = LiveClock(wrap_us=wrap_us)
    taken = heard(clock, source.packets(90))
    assert [event.turn for event in events_of(taken)] == [Turn.WRAP] * is_near_wrap
    assert not any(each.begins_run or each.is_repeat for each in taken)
    # Duration is what the source counted, exactly.
    assert [each.media_us for each in taken] == list(source.made_us)
    allowed_us = base_delay_us + jitter_us + 2 * 10 * abs(drift_ppm) + 2_000
    assert worst_us(clock.run, source) <= allowed_us
    walls = [clock.run.wall_us(each.media_us) for each in taken]
    assert all(after > before for before, after in pairwise(walls))


def test_eight_hours_of_drift_are_followed_and_measured() -> None:
    source = Simulated(3, drift_ppm=300, jitter_us=20_000, frame_us=SECOND_US // 4)
    clock = LiveClock()
    taken = [clock.observe(0, media_us, source.frame_us, at) for media_us, at in source.packets(8 * 3600)]
    assert events_of(taken) == []
    assert worst_us(clock.run, source) < 60_000
    assert clock.run.drift_ppm == pytest.approx(300, abs=2)
    # No false duration: the media clock is the source's, to the frame.
    assert taken[-1].media_us == (8 * 3600 * 4 - 1) * source.frame_us


@pytest.mark.parametrize("leap_us", [2 * HOUR_US, 30 * SECOND_US, -30 * SECOND_US, -2 * HOUR_US])
def test_a_leap_of_the_source_is_a_new_run_and_no_duration(leap_us: int) -> None:
    clock = LiveClock()
    arrival_us = 0
    taken = []
    for number in range(2000):
        media_us = number * FRAME_US + (leap_us if number >= 1000 else 0)
        arrival_us = number * FRAME_US + 50_000
        taken.append(clock.observe(0, media_us, FRAME_US, arrival_us))
    assert [index for index, each in enumerate(taken) if each.begins_run] == [1000]
    (event,) = events_of(taken)
    assert event.turn is (Turn.JUMP_AHEAD if leap_us > 0 else Turn.JUMP_BACK)
    assert (event.media_us, event.by_us) == (1000 * FRAME_US, abs(FRAME_US + leap_us))
    assert clock.run.wall_us(taken[-1].media_us) == arrival_us


def test_both_streams_leap_and_one_run_begins_for_each_leap_at_most() -> None:
    clock = LiveClock()
    runs = 0
    for number in range(3000):
        for stream, late in ((0, 0), (1, 3)):
            leapt = HOUR_US if number >= 1000 + late else 0
            taken = clock.observe(stream, number * FRAME_US + leapt, FRAME_US, number * FRAME_US)
            runs += taken.begins_run
    # The sound that still came by the old clock stood apart and then fitted.
    assert runs == 1


def test_sound_with_an_epoch_of_its_own_is_placed_by_its_arrival() -> None:
    clock = LiveClock()
    for number in range(500):
        picture = clock.observe(0, 5 * HOUR_US + number * FRAME_US, FRAME_US, number * FRAME_US)
        sound = clock.observe(1, number * FRAME_US, FRAME_US, number * FRAME_US + 1000)
        assert (picture.begins_run, sound.begins_run) == (False, False)
        assert abs(sound.media_us - picture.media_us) <= 1000
        assert [event.turn for event in sound.events] == [Turn.APART] * (number == 0)


def test_what_was_lost_is_told_to_the_microsecond_and_stays_in_the_clock() -> None:
    clock = LiveClock()
    taken = heard(clock, ((n * FRAME_US, n * FRAME_US + 9_000) for n in range(1000) if not 300 <= n < 425))
    assert events_of(taken) == [Event(Turn.LOSS, 300 * FRAME_US, 5 * SECOND_US)]
    assert clock.run.wall_us(999 * FRAME_US) == 999 * FRAME_US + 9_000


def test_a_sender_that_catches_up_neither_lost_nor_paused_anything() -> None:
    clock = LiveClock()

    def line() -> Iterator[tuple[int, int]]:
        arrival_us = 0
        for number in range(6000):
            made_us = number * FRAME_US
            if number == 1000:
                arrival_us = made_us + 20 * SECOND_US
            arrival_us = max(made_us, arrival_us + FRAME_US * 8 // 10)
            yield made_us, arrival_us

    taken = heard(clock, line())
    assert events_of(taken) == []
    # What was still behind by less than a pause moved the offset as a drift would.
    assert all(0 <= clock.run.wall_us(n * FRAME_US) - n * FRAME_US < 100_000 for n in range(6000))


def test_a_source_that_stood_still_has_paused() -> None:
    clock = LiveClock()
    taken = heard(
        clock, ((n * FRAME_US, n * FRAME_US + (60 * SECOND_US if n >= 1000 else 0)) for n in range(3000))
    )
    assert events_of(taken) == [Event(Turn.PAUSE, 999 * FRAME_US, 60 * SECOND_US)]
    assert clock.run.wall_us(998 * FRAME_US) == 998 * FRAME_US
    assert clock.run.wall_us(1000 * FRAME_US) == 1000 * FRAME_US + 60 * SECOND_US
    assert clock.run.wall_us(2999 * FRAME_US) == 2999 * FRAME_US + 60 * SECOND_US
    assert clock.run.drift_ppm == 0


def test_what_a_source_stood_still_is_open_before_it_is_told() -> None:
    clock = LiveClock()
    assert clock.run.open_us == 0
    heard(clock, ((n * FRAME_US, n * FRAME_US) for n in range(500)))
    assert clock.run.open_us == 0
    taken = heard(clock, ((n * FRAME_US, n * FRAME_US + 9 * SECOND_US) for n in range(500, 550)))
    assert events_of(taken) == [] and clock.run.wall_us(549 * FRAME_US) == 549 * FRAME_US
    assert clock.run.open_us == 9 * SECOND_US
    taken = heard(clock, ((n * FRAME_US, n * FRAME_US + 9 * SECOND_US) for n in range(550, 1300)))
    assert events_of(taken) == [Event(Turn.PAUSE, 499 * FRAME_US, 9 * SECOND_US)] and clock.run.open_us == 0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1 << 30))
def test_repeats_are_taken_once(seed: int) -> None:
    chance = random.Random(seed)
    clock, once, told = LiveClock(), [], 0
    for number in range(500):
        taken = clock.observe(0, number * FRAME_US, FRAME_US, number * FRAME_US)
        once.append(taken.media_us)
        assert not taken.is_repeat
        while chance.random() < 0.2:
            again = clock.observe(
                0, max(0, number - chance.randrange(30)) * FRAME_US, FRAME_US, number * FRAME_US
            )
            assert again.is_repeat and not again.begins_run
            told += 1
    assert once == [number * FRAME_US for number in range(500)]


def test_a_first_packet_that_was_delayed_does_not_make_the_others_early() -> None:
    clock = LiveClock()
    taken = heard(clock, ((n * FRAME_US, max(3 * SECOND_US, n * FRAME_US)) for n in range(1000)))
    assert events_of(taken) == []
    assert clock.run.wall_us(0) == 0


def test_after_the_source_was_lost_a_run_begins_with_no_memory() -> None:
    clock = LiveClock()
    heard(clock, ((n * FRAME_US, n * FRAME_US) for n in range(100)))
    ended = clock.renew()
    assert ended.wall_us(0) == 0
    assert events_of(heard(clock, ((n * FRAME_US, HOUR_US + n * FRAME_US) for n in range(100)))) == []
    assert clock.run.wall_us(0) == HOUR_US
    with pytest.raises(ValueError, match="expected at least one packet"):
        RunClock().wall_us(0)


def test_steps_of_utc_are_told_and_slewing_is_not() -> None:
    host = HostClock(1_000 * SECOND_US, 0)
    for second in range(1, 100):
        assert host.read((1_000 + second) * SECOND_US + second * 400, second * SECOND_US) == 0
    assert host.read(1_130 * SECOND_US + 40_000, 100 * SECOND_US) == 30 * SECOND_US + 400
    assert host.read(1_131 * SECOND_US + 40_000, 101 * SECOND_US) == 0
    assert host.read(1_102 * SECOND_US + 40_000, 102 * SECOND_US) == -30 * SECOND_US
