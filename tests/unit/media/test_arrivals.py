"""Times of decoding that a source left out: made up from neighbours, never in a wrong order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
from av.packet import Packet

from media.live.arrivals import Arrivals, Arrived

STEP = 3600


@dataclass
class Codec:
    name: str


@dataclass
class Lane:
    codec_context: Codec
    type: str = "video"
    index: int = 0
    time_base: Fraction = Fraction(1, 90_000)
    average_rate: Fraction = Fraction(25)


@dataclass
class Scripted:
    """A source that gives what was written down: time shown and time of decoding, each in pictures."""

    times: list[tuple[float | None, float | None]]
    codec: str = "h264"
    keyframes: set[int] = field(default_factory=set)
    streams: list[Lane] = field(init=False)

    def __post_init__(self) -> None:
        self.streams = [Lane(Codec(self.codec))]

    def demux(self, *_: Any) -> Iterator[Packet[Any]]:
        for place, (shown, decoded) in enumerate(self.times):
            packet: Packet[Any] = Packet(b"picture")
            packet.pts = None if shown is None else int(shown * STEP)
            packet.dts = None if decoded is None else int(decoded * STEP)
            packet.duration, packet.is_keyframe = STEP, place in self.keyframes
            yield packet


def arrived(source: Scripted) -> list[tuple[float | None, float]]:
    """Time shown and time of decoding of each, in pictures."""
    arrivals = Arrivals(lambda: source, 1 << 20)
    arrivals.start()
    until = time.monotonic() + 10
    while arrivals.ended is None:
        assert time.monotonic() < until
        time.sleep(0.001)
    assert arrivals.ended == "source_ended"
    found = [each for each in arrivals.take(0) if isinstance(each, Arrived)]
    return [(None if each.packet.pts is None else each.packet.pts / STEP, each.dts / STEP) for each in found]


@pytest.mark.parametrize(
    "times",
    [
        # As FFmpeg tells B-frames of RTSP, which knows only when a picture is shown.
        [(None, None), (4, None), (2, None), (1, 1), (3, 2), (8, 3), (6, 4), (5, 5)],
        [(None, None), (3, None), (1, 0), (2, 1), (6, 2)],
        [(None, None), (1, 1), (2, 2)],
    ],
)
def test_pictures_shown_in_another_order_are_decoded_in_the_order_they_came(
    times: list[tuple[float | None, float | None]],
) -> None:
    found = arrived(Scripted(times))
    first = found[0][1]
    assert [decoded for _, decoded in found] == [first + place for place in range(len(times))]
    # The first picture is shown before all others, and each once.
    assert found[0][0] == 0
    assert len({shown for shown, _ in found}) == len(times)
    assert all(shown is not None and shown >= decoded for shown, decoded in found)


def test_a_source_that_never_tells_when_to_decode_is_taken_in_the_order_it_came() -> None:
    shown = [0, 4, 2, 1, 3] + [each + 4 * turn for turn in range(1, 6) for each in (4, 2, 1, 3)]
    found = arrived(Scripted([(each, None) for each in shown]))
    assert [decoded for _, decoded in found] == [place - 2 for place in range(len(shown))]
    assert [each for each, _ in found] == shown


def test_pictures_that_are_shown_as_they_come_wait_for_nothing() -> None:
    assert arrived(Scripted([(5, None), (6, None), (8, None)], codec="mjpeg")) == [(5, 5), (6, 6), (8, 7)]


def test_a_sender_that_calls_showing_decoding_steps_back_nowhere() -> None:
    # Joined between keyframes; FFmpeg finds out after the first.
    before = [(13, 13), (11, 11), (10, 10), (12, 12), (17, 17), (15, 15), (14, 14), (16, 16)]
    after = [(20, 20), (24, None), (22, None), (21, None), (23, 22), (28, 23), (26, 24), (25, 25), (27, 26)]
    found = arrived(Scripted([*before, *after], keyframes={8}))
    decoded = [each for _, each in found]
    assert decoded == sorted(set(decoded))
    assert decoded[-3:] == [24, 25, 26]


def test_pictures_that_come_twice_at_the_beginning_are_told_as_they_came() -> None:
    times = [(each, each) for each in (0, 1, 2, 3, 1, 2, 3, 4)]
    assert arrived(Scripted(times, keyframes={0})) == times
