"""Byte ranges, exactly as RFC 9110 section 14 has them; pure, the listener does the serving.

What is taken: one range, `first-last`, `first-` or `-suffix`. A header that is no byte range, or asks
for several ranges, is ignored and the whole thing is sent with 200, as section 14.2 allows: an answer in
many parts is one that players do not read, and ignoring is the one answer that is never wrong. A well-
formed range of which nothing exists is refused with 416.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_ONE = re.compile(r"bytes=[ \t]*(?:([0-9]{1,40})-([0-9]{0,40})|-([0-9]{1,40}))[ \t]*", re.IGNORECASE)


class ByteRange(NamedTuple):
    """Bytes `first` to `last`, both included."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1

    def content_range(self, size: int | None) -> str:
        """The Content-Range field; an unknown size is `*`."""
        return f"bytes {self.first}-{self.last}/{'*' if size is None else size}"


class NotSatisfiable(Exception):
    """The range is well formed and nothing of it exists: 416."""


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """The one range asked for, clipped to what exists; None means: send everything.

    Args:
        size: Bytes there are.

    Raises:
        NotSatisfiable: Well formed, and beyond the end or empty.
    """
    match = _ONE.fullmatch(header.strip()) if header is not None else None
    if match is None:
        return None
    first_text, last_text, suffix_text = match.groups()
    if suffix_text is not None:
        wanted = int(suffix_text)
        if wanted == 0 or size == 0:
            raise NotSatisfiable
        return ByteRange(max(0, size - wanted), size - 1)
    first = int(first_text)
    last = int(last_text) if last_text else size - 1
    if last_text and last < first:
        # Not a range by the grammar's own rule (section 14.1.1), so it is ignored.
        return None
    if first >= size:
        raise NotSatisfiable
    return ByteRange(first, min(last, size - 1))


def holds_if_range(header: str | None, etag: str | None) -> bool:
    """Whether If-Range lets the range stand: no such field, or exactly our strong tag.

    A date never does: what we serve has no modification time that a client could know.
    """
    if header is None:
        return True
    return etag is not None and header.strip() == etag


def is_known(if_none_match: str | None, etag: str | None) -> bool:
    """Whether If-None-Match names what would be sent, by the weak comparison it is read with."""
    if if_none_match is None or etag is None:
        return False
    named = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in named or named == ["*"]


def holds_if_match(if_match: str | None, etag: str | None) -> bool:
    """Whether If-Match lets the request stand, by the strong comparison."""
    if if_match is None:
        return True
    named = [tag.strip() for tag in if_match.split(",")]
    return named == ["*"] or (etag is not None and etag in named)


def is_inside(wanted: ByteRange, allowed: tuple[ByteRange, ...]) -> bool:
    """Whether all of a range lies in one run of allowed bytes; runs that touch count as one."""
    reach = wanted.first
    for run in sorted(allowed, key=lambda each: each.first):
        if run.first <= reach <= run.last:
            reach = run.last + 1
            if reach > wanted.last:
                return True
    return False
