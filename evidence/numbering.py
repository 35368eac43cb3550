"""AV record numbers (R5): one sequence an agency, class and year; no gaps, never reused.

The template is policy data. The number is drawn in the transaction that files the item into a case;
a voided number stays in the register with its reason.
"""

from __future__ import annotations

import string

from evidence.errors import InvalidInput
from evidence.kinds import MediaKind

DEFAULT_TEMPLATE = "{agency}-{cls}-{year}-{seq:04d}"

# ZP and LX are confirmed class codes (A9); LY and WD follow the same pattern.
CLASS_CODES = {
    MediaKind.VIDEO: "LX",
    MediaKind.AUDIO: "LY",
    MediaKind.PHOTO: "ZP",
    MediaKind.DOCUMENT: "WD",
    MediaKind.UNKNOWN: "QT",
}

_FIELDS = frozenset({"agency", "cls", "year", "seq"})


def check_template(template: str) -> str:
    """The template, if it names year, class and sequence and nothing unknown.

    Raises:
        InvalidInput: A field is unknown, or one that keeps numbers apart is missing.
    """
    try:
        found = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise InvalidInput(f"numbering template: {error}", code="numbering_template") from error
    unknown, missing = found - _FIELDS, {"cls", "year", "seq"} - found
    if unknown or missing:
        raise InvalidInput(
            "numbering template: expected {cls}, {year} and {seq}, optionally {agency}, "
            f"found {template!r}",
            code="numbering_template",
        )
    for media_kind in MediaKind:
        try:
            av_record_no(template, agency="A", media_kind=media_kind, year=2026, seq=1)
        except (ValueError, IndexError, AttributeError) as error:
            raise InvalidInput(
                f"numbering template: expected one that makes numbers, found {template!r}: {error}",
                code="numbering_template",
            ) from error
    return template


def av_record_no(template: str, *, agency: str, media_kind: MediaKind, year: int, seq: int) -> str:
    """One number of the register."""
    return template.format(agency=agency, cls=CLASS_CODES[media_kind], year=year, seq=seq)
