"""Times of decoding that a source left out: made up from neighbours, never in a wrong order."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
from av.packet import Packet

from media.live.arrivals import Arrivals, Arrived
from media.live.opening import Source

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

    times: Sequence[tuple[float | None, float | None]]
    codec: str = "h264"
    keyframes: set[int] = field(default_factory=set)
    size_bytes: int = 7
    waits_at: int | None = None
    """The source says nothing more before this one until it may go on."""
    may_go_on: threading.Event = field(default_factory=threading.Event)
    breaks: bool = False
    """The line breaks after the last."""

    @property
    def source(self) -> Source:
        return Source([Lane(Codec(self.codec))], self.demux)  # type: ignore[list-item]

    def demux(self, *_: Any) -> Iterator[Packet[Any]]:
        for place, (shown, decoded) in enumerate(self.times):
            if place == self.waits_at:
                assert self.may_go_on.wait(10)
            packet: Packet[Any] = Packet(bytes(self.size_bytes))
            packet.pts = None if shown is None else int(shown * STEP)
            packet.dts = None if decoded is None else int(decoded * STEP)
            packet.duration, packet.is_keyframe = STEP, place in self.keyframes
            yield packet
        if self.breaks:
            raise OSError("broken")


def until(what: Callable[[], object]) -> None:
    patience = time.monotonic() + 10
    while not what():
        assert time.monotonic() < patience
        time.sleep(0.001)


def arrived(source: Scripted) -> list[tuple[float | None, float]]:
    """Time shown and time of decoding of each, in pictures."""
    arrivals = Arrivals(lambda: source.source, 1 << 20)
    arrivals.start()
    until(lambda: arrivals.ended is not None)
    assert arrivals.ended == ("OSError: broken" if source.breaks else "source_ended")
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


# A quarter of what may wait, and no more, is held back for the order of decoding.
@pytest.mark.parametrize(("come", "may_be_taken"), [(8, 0), (9, 9)])
def test_what_waits_for_its_time_of_decoding_is_no_silence_and_fills_what_may_wait(
    come: int, may_be_taken: int
) -> None:
    size_bytes = 256 << 10
    source = Scripted([(each, None) for each in range(12)], size_bytes=size_bytes, waits_at=come)
    arrivals = Arrivals(lambda: source.source, 4 * 8 * size_bytes)
    began_us = arrivals.last_us
    arrivals.start()
    until(lambda: arrivals.waiting_bytes == come * size_bytes)
    assert arrivals.last_us > began_us
    # Whoever takes is not answered at once for what cannot be taken.
    begun_s = time.monotonic()
    assert len(arrivals.take(0.05)) == may_be_taken
    assert may_be_taken or time.monotonic() - begun_s >= 0.05
    source.may_go_on.set()
    until(lambda: arrivals.ended is not None)
    assert len(arrivals.take(0)) == 12 - may_be_taken
    assert arrivals.waiting_bytes == 0


def test_a_line_that_breaks_takes_nothing_with_it_that_had_come() -> None:
    assert arrived(Scripted([(0, None), (1, None), (2, None)], breaks=True)) == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize(("kind", "may_rest"), [(socket.SOCK_STREAM, True), (socket.SOCK_DGRAM, False)])
def test_whether_what_comes_may_gather_is_asked_of_the_sockets_there_are(
    family: int, kind: int, may_rest: bool
) -> None:
    with socket.socket(family, kind):
        arrivals = Arrivals(lambda: Scripted([(0, 0)]).source, 1)
        arrivals.start()
        until(lambda: arrivals.ended is not None)
    assert arrivals.rests is may_rest
