"""Byte ranges as RFC 9110 section 14 has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ranges import ByteRange, NotSatisfiable, holds_if_range, is_inside, parse_range


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        ("bytes=0-0", 10, (0, 0)),
        ("bytes=0-1", 10, (0, 1)),
        ("bytes=3-", 10, (3, 9)),
        ("bytes=9-", 10, (9, 9)),
        ("bytes=0-9", 10, (0, 9)),
        ("bytes=0-10", 10, (0, 9)),
        ("bytes=2-99999999999999999999999999", 10, (2, 9)),
        ("bytes=-1", 10, (9, 9)),
        ("bytes=-10", 10, (0, 9)),
        ("bytes=-11", 10, (0, 9)),
        ("Bytes=1-2", 10, (1, 2)),
        ("  bytes=1-2  ", 10, (1, 2)),
    ],
)
def test_one_range_is_taken_exactly(header: str, size: int, expected: tuple[int, int]) -> None:
    found = parse_range(header, size)
    assert found == ByteRange(*expected)


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-11", "bytes=99-100", "bytes=-0"])
def test_a_range_of_which_nothing_exists_is_refused(header: str) -> None:
    with pytest.raises(NotSatisfiable):
        parse_range(header, 10)


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=-5"])
def test_nothing_of_an_empty_file_can_be_had_by_range(header: str) -> None:
    with pytest.raises(NotSatisfiable):
        parse_range(header, 0)


@pytest.mark.parametrize(
    "header",
    [None, "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-4", "bytes=0-1,3-4", "bytes=1--2",
     "items=0-1", "bytes 0-1", "bytes=0-1;q=1", "bytes=+1-2", "bytes=1-2 3", "bytes=٣-٤", "bytes=0x1-2"],
)  # fmt: skip
def test_what_is_no_single_range_is_ignored(header: str | None) -> None:
    assert parse_range(header, 10) is None


@given(st.integers(1, 200), st.integers(0, 300), st.integers(0, 300))
def test_a_range_gives_what_slicing_gives(size: int, first: int, last: int) -> None:
    body = bytes(number % 251 for number in range(size))
    try:
        found = parse_range(f"bytes={first}-{last}", size)
    except NotSatisfiable:
        assert first >= size and last >= first
        return
    if found is None:
        assert last < first
        return
    assert body[found.first : found.last + 1] == body[first : last + 1]
    assert found.length == len(body[first : last + 1])
    assert found.content_range(size) == f"bytes {first}-{min(last, size - 1)}/{size}"


@given(st.text(max_size=40), st.integers(0, 100))
def test_no_header_crashes_or_leads_outside(header: str, size: int) -> None:
    try:
        found = parse_range(header, size)
    except NotSatisfiable:
        return
    assert found is None or 0 <= found.first <= found.last < size


def test_a_range_of_a_growing_file_says_that_its_size_is_unknown() -> None:
    assert ByteRange(0, 4).content_range(None) == "bytes 0-4/*"


@pytest.mark.parametrize(
    ("header", "etag", "holds"),
    [
        (None, '"a"', True),
        (None, None, True),
        ('"a"', '"a"', True),
        ('"b"', '"a"', False),
        ('W/"a"', '"a"', False),
        ('"a"', None, False),
        ("Wed, 21 Oct 2026 07:28:00 GMT", '"a"', False),
    ],
)
def test_if_range_holds_for_the_strong_tag_alone(header: str | None, etag: str | None, holds: bool) -> None:
    assert holds_if_range(header, etag) is holds


@pytest.mark.parametrize(
    ("wanted", "inside"),
    [((0, 9), True), ((20, 29), True), ((20, 39), True), ((25, 34), True), ((0, 10), False), ((9, 20), False),
     ((10, 19), False), ((39, 40), False), ((19, 20), False), ((40, 40), False)],
)  # fmt: skip
def test_only_bytes_of_the_span_are_inside(wanted: tuple[int, int], inside: bool) -> None:
    allowed = (ByteRange(30, 39), ByteRange(0, 9), ByteRange(20, 29))
    assert is_inside(ByteRange(*wanted), allowed) is inside


def test_nothing_is_inside_nothing() -> None:
    assert not is_inside(ByteRange(0, 0), ())
