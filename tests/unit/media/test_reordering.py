"""Reordered pictures are decoded from the moment their fragment is shown; none is shown at another time."""

from __future__ import annotations

import struct
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from evidence.errors import MediaError
from media.fragments import FragmentIndex
from media.growing import GrowingRendition
from media.samples import read_samples
from tests.support.boxes import box, init, moof

FRAME = 400
"""Ticks of a picture, a multiple of the mark."""


def marked(decoded: list[int], first_number: int) -> list[int]:
    return [each - (first_number + number) % 2 for number, each in enumerate(decoded)]


def fragment(shown: list[int], *, begin: int, first_number: int = 0, key: bool = True) -> bytes:
    """As FFmpeg writes it: pictures in order of decoding, each second one marked."""
    decoded = marked([begin + number * FRAME for number in range(len(shown) + 1)], first_number)
    steps = [after - before for before, after in pairwise(decoded)]
    shifts = [pts - dts for pts, dts in zip(shown, decoded[:-1], strict=True)]
    return moof(video=(decoded[0], steps), shifts=shifts, key=key) + box("mdat", b"x" * 100)


def settled(path: Path, *fragments: bytes) -> tuple[FragmentIndex, list[list[tuple[int, int, int]]]]:
    """The index, and of each fragment when its pictures are decoded, shown, and how long they last."""
    path.write_bytes(init(video_timescale=10_000) + b"".join(fragments))
    index = GrowingRendition(path, is_reordered=True).finish()
    return index, [
        [(each.dts, each.pts, each.duration) for each in read_samples(path, index.main, [part])]
        for part in index.fragments
    ]


# I P B b b P B b b: two groups of four, each picture decoded two before the first of its kind could be shown.
ORDER = (0, 4, 2, 1, 3, 8, 6, 5, 7)


def at(begin: int, order: tuple[int, ...] = ORDER) -> list[int]:
    return [(2 + begin + place) * FRAME for place in order]


def test_the_first_pictures_share_the_time_before_the_others_are_decoded(tmp_path: Path) -> None:
    index, pictures = settled(
        tmp_path / "r.mp4",
        fragment(at(0), begin=0),
        fragment(at(9), begin=9 * FRAME, first_number=9),
    )
    assert index.origin == 0
    assert [(each.start_pts, each.duration_pts) for each in index.fragments] == [
        (0, 9 * FRAME),
        (9 * FRAME, 9 * FRAME),
    ]
    for number, samples in enumerate(pictures):
        zero = number * 9 * FRAME
        assert [pts - zero for _, pts, _ in samples] == [place * FRAME for place in ORDER]
        assert [dts - zero for dts, _, _ in samples][:5] == [0, FRAME // 3, 2 * FRAME // 3, FRAME, 2 * FRAME]
        assert all(dts <= pts for dts, pts, _ in samples)
        assert {length for _, _, length in samples[3:7]} == {FRAME}


@pytest.mark.parametrize("tail", [(8, 6, 5, 7), (6, 5, 7, 8), (5, 6, 7, 8)], ids=["B-frames", "P", "none"])
def test_the_last_pictures_are_decoded_up_to_where_the_next_fragment_begins(
    tmp_path: Path, tail: tuple[int, ...]
) -> None:
    """Else a player that puts fragments behind each other takes the hole between them for a break."""
    order = (*ORDER[:5], *tail)
    index, (first, second) = settled(
        tmp_path / "r.mp4",
        fragment(at(0, order), begin=0),
        fragment(at(9), begin=9 * FRAME, first_number=9),
    )
    assert [after - before for (before, *_), (after, *_) in pairwise([*first, second[0]])] == [
        length for _, _, length in first
    ]
    assert [pts for _, pts, _ in first] == [place * FRAME for place in order]
    assert all(dts <= pts for dts, pts, _ in first)
    assert max(pts + length for _, pts, length in first) == 9 * FRAME
    assert next(length for _, pts, length in first if pts == 8 * FRAME) == FRAME
    assert index.fragments[0].tail_pts == 0


def test_a_reordered_fragment_is_told_when_the_one_behind_it_is_there(tmp_path: Path) -> None:
    """What was shown does not change any more."""
    path = tmp_path / "r.mp4"
    one, two = fragment(at(0), begin=0), fragment(at(9), begin=9 * FRAME, first_number=9)
    head = init(video_timescale=10_000)
    path.write_bytes(head + one)
    growing = GrowingRendition(path, is_reordered=True)
    assert not growing.advance()
    with path.open("ab") as file:
        file.write(two)
    assert growing.advance()
    seen = path.read_bytes()[: len(head + one)]
    assert growing.index is not None
    assert len(growing.index.fragments) == 1
    assert len(growing.finish().fragments) == 2
    assert path.read_bytes()[: len(head + one)] == seen


def test_what_leads_an_open_group_keeps_its_place_before_it(tmp_path: Path) -> None:
    """The keyframe is shown third: two pictures that lead it are decoded after it."""
    order = (2, 0, 1, 6, 4, 3, 5)
    _, pictures = settled(
        tmp_path / "r.mp4",
        fragment(at(0), begin=0),
        fragment(at(9, order), begin=9 * FRAME, first_number=9),
    )
    zero = 9 * FRAME
    decoded, shown = [dts for dts, _, _ in pictures[1]], [pts for _, pts, _ in pictures[1]]
    assert shown == [zero + place * FRAME for place in order]
    # A tick before, since that is when the first of them is shown.
    assert decoded[:2] == [zero - 1, zero]
    assert decoded == sorted(set(decoded))
    assert all(dts <= pts for dts, pts in zip(decoded, shown, strict=True))


def test_a_fragment_nobody_can_begin_with_keeps_its_clock_without_marks(tmp_path: Path) -> None:
    _, pictures = settled(
        tmp_path / "r.mp4",
        fragment(at(0), begin=0),
        fragment(at(9), begin=9 * FRAME, first_number=9, key=False),
    )
    assert [dts for dts, _, _ in pictures[1]] == [(7 + number) * FRAME for number in range(9)]
    assert [pts for _, pts, _ in pictures[1]] == [(9 + place) * FRAME for place in ORDER]


def test_how_long_the_last_picture_stands_is_never_given_away(tmp_path: Path) -> None:
    """A group so short that the last one shown is among the first decoded stays as it was."""
    index, pictures = settled(
        tmp_path / "r.mp4",
        fragment(at(0), begin=0),
        fragment(at(9, (0, 2, 1)), begin=9 * FRAME, first_number=9),
    )
    assert index.duration == Fraction(12 * FRAME, 10_000)
    assert [dts for dts, _, _ in pictures[1]] == [(7 + number) * FRAME for number in range(3)]


def test_a_picture_alone_is_decoded_when_it_is_shown(tmp_path: Path) -> None:
    _, pictures = settled(
        tmp_path / "r.mp4",
        fragment(at(0), begin=0),
        fragment(at(9, (0,)), begin=9 * FRAME, first_number=9),
    )
    assert pictures[1] == [(9 * FRAME, 9 * FRAME, FRAME)]


def test_a_recording_of_one_short_group_is_not_copied(tmp_path: Path) -> None:
    """It would be decoded before time begins; upon this it is encoded."""
    with pytest.raises(MediaError) as caught:
        settled(tmp_path / "r.mp4", fragment(at(0, (0, 2, 1)), begin=0))
    assert caught.value.code == "fragments_unreadable"


def test_a_run_that_claims_more_than_it_holds_is_an_error(tmp_path: Path) -> None:
    whole = fragment(at(0), begin=0)
    head = struct.pack(">II", 1 << 24 | 0x905, len(ORDER))
    assert whole.count(head) == 1
    with pytest.raises(MediaError):
        settled(tmp_path / "r.mp4", whole.replace(head, struct.pack(">II", 1 << 24 | 0x905, 1 << 19)))
