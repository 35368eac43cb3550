"""Which frames are looked at, with looks that are written down beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from redaction.passes import BLOCK, BLOCKS_HELD, NOTHING, Answer, Passes, PassParameters
from redaction.track import join

FRAME_US = 40_000
STILL = np.full((22, 40), 90, dtype=np.uint8)


def seen(x: float, y: float = 50, *, size: float = 20, score: float = 0.9) -> NDArray[np.float32]:
    return np.array([[x, y, x + size, y + size, score]], dtype=np.float32)


@dataclass
class Looks:
    """Looks at what is written down, and remembers at which frames it did."""

    script: Sequence[NDArray[np.float32]]
    at: set[int] = field(default_factory=set)
    near: dict[int, NDArray[np.float32] | None] = field(default_factory=dict)

    def run(
        self,
        lumas: Sequence[NDArray[np.uint8]] | None = None,
        parameters: PassParameters | None = None,
        insisted: Sequence[int] = (),
        late: Mapping[int, Sequence[int]] | None = None,
    ) -> list[NDArray[np.float32]]:
        def look(number: int) -> NDArray[np.float32]:
            assert number not in self.at
            self.at.add(number)
            return self.script[number]

        with ThreadPoolExecutor(2) as pool:
            passes = Passes(parameters or PassParameters())
            for number in range(len(self.script)):
                luma = STILL if lumas is None else lumas[number]

                def begin(near: NDArray[np.float32] | None, number: int = number) -> Answer:
                    self.near[number] = near
                    return pool.submit(look, number).result

                passes.add(number * FRAME_US, luma, begin, insist=number in insisted)
                for earlier in (late or {}).get(number, ()):
                    passes.insist(earlier)
            return passes.finish()


def test_still_and_empty_picture_is_looked_at_every_fifth_frame_and_at_its_end() -> None:
    looks = Looks([NOTHING] * 103)
    assert all(len(found) == 0 for found in looks.run())
    assert looks.at == {*range(0, 103, 5), 102}


def test_face_that_stays_needs_no_more() -> None:
    looks = Looks([seen(50)] * 103)
    found = looks.run()
    assert looks.at == {*range(0, 103, 5), 102}
    assert [len(boxes) for boxes in found] == [int(number in looks.at) for number in range(103)]


@pytest.mark.parametrize("begins", [40, 41, 42, 43, 44])
def test_every_frame_around_a_first_and_a_last_sighting_is_looked_at(begins: int) -> None:
    looks = Looks([seen(50) if begins <= number < 93 else NOTHING for number in range(150)])
    looks.run()
    assert set(range(begins - 10, begins + 11)) <= looks.at
    assert set(range(83, 103)) <= looks.at
    assert len(looks.at) < 90


def test_drop_out_is_found_wherever_it_lies() -> None:
    for length in (1, 2, 4, 7, 11, 15):
        script = [NOTHING if 52 <= number < 52 + length else seen(50) for number in range(120)]
        (track,) = join(Looks(script).run(), np.arange(120, dtype=np.int64) * FRAME_US, [])
        assert (track.first_frame, track.last_frame) == (0, 119)


def test_unsure_and_fast_sightings_are_looked_at_in_every_frame() -> None:
    unsure = Looks([seen(50, score=0.3)] * 60)
    unsure.run()
    assert unsure.at == set(range(60))
    fast = Looks([seen(10 + 4 * number) for number in range(60)])
    fast.run()
    assert fast.at == set(range(60))
    slow = Looks([seen(10 + number) for number in range(60)])
    slow.run()
    assert len(slow.at) < 20


def test_two_that_come_near_each_other_are_looked_at_in_every_frame() -> None:
    pairs = [np.concatenate([seen(20 + number), seen(140 - number)]) for number in range(120)]
    looks = Looks(pairs)
    looks.run()
    assert set(range(56, 66)) <= looks.at


def test_moment_in_a_still_picture_is_seen() -> None:
    # Three frames, between two that would be looked at; the picture says that something is there.
    lumas = [STILL.copy() for _ in range(100)]
    for number in (41, 42, 43):
        lumas[number][4:14, 10:20] = 200
    looks = Looks([seen(50) if 41 <= number <= 43 else NOTHING for number in range(100)])
    found = looks.run(lumas)
    assert [number for number in range(100) if len(found[number])] == [41, 42, 43]


def test_both_sides_of_what_may_be_a_cut_are_looked_at() -> None:
    lumas = [STILL if number < 48 else 255 - STILL for number in range(100)]
    looks = Looks([NOTHING] * 100)
    looks.run(lumas)
    assert {47, 48} <= looks.at


def test_what_the_caller_insists_on_is_looked_at() -> None:
    looks = Looks([NOTHING] * 60)
    looks.run(insisted=[7, 33])
    assert {7, 33} <= looks.at


def test_frame_that_is_insisted_on_later_is_looked_at_with_those_around_it() -> None:
    # A face that no first look met, and that something else told of when 12 more frames were there.
    looks = Looks([seen(50) if 41 <= number <= 43 else NOTHING for number in range(100)])
    found = looks.run(late={54: [42]})
    assert [number for number in range(100) if len(found[number])] == [41, 42, 43]
    assert set(range(32, 52)) <= looks.at
    # What is held no more is let be.
    gone = Looks([NOTHING] * 100)
    gone.run(late={99: [7, 42]})
    assert not {7, 42} & gone.at


def test_every_frame_is_looked_at_when_so_asked() -> None:
    looks = Looks([seen(50)] * 60)
    looks.run(parameters=PassParameters(look_every=1, look_every_moving=1))
    assert looks.at == set(range(60))


def test_frames_are_not_held_for_ever() -> None:
    held = {"now": 0, "most": 0}

    class Picture:
        def __init__(self) -> None:
            held["now"] += 1
            held["most"] = max(held["most"], held["now"])

        def __del__(self) -> None:
            held["now"] -= 1

        def look(self, _near: NDArray[np.float32] | None) -> Answer:
            return lambda: NOTHING

    passes = Passes(PassParameters())
    for number in range(600):
        passes.add(number * FRAME_US, STILL, Picture().look)
    passes.finish()
    assert held["most"] <= BLOCK * BLOCKS_HELD


def test_look_that_fails_fails_the_recording() -> None:
    def fails() -> NDArray[np.float32]:
        raise ValueError("a damaged network")

    passes = Passes(PassParameters())
    passes.add(0, STILL, lambda _: fails)
    with pytest.raises(ValueError, match="damaged"):
        passes.finish()


def test_nothing_to_look_at() -> None:
    assert Looks([]).run() == []


@settings(max_examples=12, deadline=None)
@given(
    spans=st.lists(
        st.tuples(st.integers(0, 119), st.integers(10, 60), st.integers(0, 200), st.integers(-3, 3)),
        max_size=4,
    )
)
def test_who_is_there_for_ten_frames_is_covered_in_all_of_them(
    spans: list[tuple[int, int, int, int]],
) -> None:
    script = []
    for number in range(120):
        there = [
            seen(x + step * (number - begins), 40 + 60 * row)
            for row, (begins, length, x, step) in enumerate(spans)
            if begins <= number < begins + length
        ]
        script.append(np.concatenate(there) if there else NOTHING)
    tracks = join(Looks(script).run(), np.arange(120, dtype=np.int64) * FRAME_US, [])
    for number, boxes in enumerate(script):
        masks = [t.masks[number - t.first_frame] for t in tracks if t.first_frame <= number <= t.last_frame]
        for box in boxes:
            if number < 115:
                assert any((m[:2] <= box[:2]).all() and (m[2:] >= box[2:4]).all() for m in masks), number
