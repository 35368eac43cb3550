"""Whether the pictures that a masked rendition kept as they are coded are the source's, by whole groups.

For the check, from the two files alone. A masked rendition encodes under a number of its own, so pictures
coded under parameter sets of the source, equal byte for byte, claim to be the source's. Their slices must
then be those of the source, to the bit and whole groups at a time; that they also decode to the same
pictures, and that no mask lies on any of them, `redaction.check` sees when it decodes both.

Parameter sets stand in the header and not among the samples. None may say more than x264 says in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from evidence.errors import MediaError
from media import avc
from media.decode import CodedPicture, CodedReader
from media.x264 import LENGTH_BYTES, Unlike, require_clean, slice_set
from redaction.findings import Report

SLICE_UNITS = {1, 5}

Sets = dict[int, tuple[bytes, bytes]]
"""Picture parameter set, and the sequence's that it names, by its number."""


def kept_times(source: Path, output: Path, report: Report, alive: Callable[[], None]) -> frozenset[int]:
    """When the pictures are shown that an output claims to have kept, with all findings about them.

    Args:
        source: The rendition it was made from.
        output: The masked one.
        report: Where findings go.
        alive: Called again and again.

    Raises:
        MediaError: A file cannot be read.
    """
    with CodedReader(output) as made:
        try:
            coded = avc.Configuration.from_bytes(made.configuration())
            sets = require_clean(coded)
        except Unlike as found:
            report.add("sets_not_allowed", found=str(found))
            return frozenset()
        if coded.to_bytes() != made.configuration():
            report.add("sets_not_allowed", found="bytes behind the parameter sets")
        with CodedReader(source) as original:
            own = {number for number, pair in _sets(original).items() if sets.get(number) == pair}
            return frozenset(_compared(original, made, own, report, alive)) if own else frozenset()


def _sets(reader: CodedReader) -> Sets:
    """The source's parameter sets; none where they are not as in a rendition that could be kept."""
    try:
        return require_clean(avc.Configuration.from_bytes(reader.configuration()))
    except (Unlike, MediaError):
        # Then no set of a clean output can be equal to one of it, and nothing is kept.
        return {}


def _compared(
    original: CodedReader, made: CodedReader, own: set[int], report: Report, alive: Callable[[], None]
) -> Iterator[int]:
    under = original.pictures()
    before = next(under, None)
    group: bool | None = None
    for picture in made.pictures():
        alive()
        slices = _slices(picture)
        claims = {slice_set(unit) in own for unit in slices}
        is_kept = claims == {True}
        if len(claims) > 1 or (group is not None and is_kept != group and not picture.key):
            report.add("kept_differs", pts=picture.pts, cause="not whole groups")
        group = is_kept
        if not is_kept:
            continue
        while before is not None and before.pts < picture.pts:
            before = next(under, None)
        if before is None or before.pts != picture.pts or _slices(before) != slices:
            report.add("kept_differs", pts=picture.pts, cause="other slices")
        yield picture.pts


def _slices(picture: CodedPicture) -> list[bytes]:
    return [unit for unit in avc.units(picture.data, LENGTH_BYTES) if avc.kind_of(unit) in SLICE_UNITS]
