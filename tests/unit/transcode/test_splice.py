"""What of a stream is copied and what encoded, by the times and kinds of its samples alone."""

from __future__ import annotations

import pytest

from media.samples import StoredSample
from transcode.splice import Unsuited, joint_of


def stream(*groups: tuple[int, ...]) -> tuple[list[StoredSample], list[bool]]:
    """Samples by the times they are shown at, decoded in the order given; each group begins with an IDR."""
    shown = [pts for group in groups for pts in group]
    starts = [number == 0 for group in groups for number in range(len(group))]
    samples = [StoredSample(n, pts, 1, 100 * n, 100, starts[n]) for n, pts in enumerate(shown)]
    return samples, starts


def test_groups_wholly_inside_are_copied_and_the_rest_of_the_span_encoded() -> None:
    samples, starts = stream((1, 3, 2), (4, 6, 5), (7, 9, 8), (10, 12, 11))
    found = joint_of(samples, starts, 2, 12)
    assert [each.pts for each in found.head] == [3, 2]
    assert [each.pts for each in found.copied] == [4, 6, 5, 7, 9, 8]
    assert [each.pts for each in found.tail] == [10, 11]


def test_a_span_that_ends_with_groups_has_no_edges() -> None:
    samples, starts = stream((1, 3, 2), (4, 6, 5))
    found = joint_of(samples, starts, 1, 7)
    assert (found.head, len(found.copied), found.tail) == ((), 6, ())


@pytest.mark.parametrize(
    ("groups", "first", "last", "why"),
    [
        (((1, 3, 2), (4, 6, 5)), 2, 6, "no_whole_group"),
        (((1, 4, 2), (3, 6, 5), (7, 8, 9)), 2, 10, "groups_out_of_order"),
        (((0, 3, 1), (4, 6, 5)), 0, 9, "shown_before_decoded"),
    ],
)
def test_what_cannot_be_joined_says_why(
    groups: tuple[tuple[int, ...], ...], first: int, last: int, why: str
) -> None:
    samples, starts = stream(*groups)
    with pytest.raises(Unsuited) as caught:
        joint_of(samples, starts, first, last)
    assert str(caught.value) == why


def test_a_stream_that_does_not_begin_with_an_idr_is_not_copied_from_there() -> None:
    samples, starts = stream((1, 3, 2), (4, 6, 5))
    found = joint_of(samples, [False, *starts[1:]], 1, 7)
    assert [each.pts for each in found.head] == [1, 3, 2]
    assert [each.pts for each in found.copied] == [4, 6, 5]
