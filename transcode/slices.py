"""Lists without byte ranges, for players that do not keep to them: each range has an address of its own.

Some players ask for a range without its end (`bytes=N-`) and read on until they have enough, others join
ranges that touch. Under a grant of a span that asks for bytes nobody may have. A *slice* is one range of a
stored object as a thing of its own, with its own length, tag and ranges; nothing is stored or cut. How its
address is spelt, and how the media listener reads it, stands here alone.
"""

from __future__ import annotations

import re

_MAP = re.compile(r'^#EXT-X-MAP:URI="([^"\n]+)",BYTERANGE="(\d+)@(\d+)"$', re.MULTILINE)
_SEGMENT = re.compile(r"^#EXT-X-BYTERANGE:(\d+)@(\d+)\n(\S+)$", re.MULTILINE)
_LIST = re.compile(r"(?<![\w-])(?:(?:rung|keyframes)-[A-Za-z0-9_]{1,24}|index)\.m3u8")
_NUMBER = r"(0|[1-9][0-9]{0,18})"
_NAME = re.compile(rf"([^/]+\.mp4)/{_NUMBER}-{_NUMBER}\.mp4")


def in_slices(playlist: str) -> str:
    """A list with a slice wherever it has a byte range, or, if multivariant, of lists that have them."""
    mapped = _MAP.sub(lambda each: f'#EXT-X-MAP:URI="{_address(each[1], each[2], each[3])}"', playlist)
    listed = _SEGMENT.sub(lambda each: _address(each[3], each[1], each[2]), mapped)
    return _LIST.sub(r"\g<0>?sliced=true", listed)


def _address(url: str, size: str, first: str) -> str:
    return f"{url}/{first}-{int(first) + int(size) - 1}.mp4"


def slice_of(name: str) -> tuple[str, int, int] | None:
    """Name of the object, first and last byte that the name of a slice says; None where it is none.

    There is one spelling of each, so that no slice has two addresses.
    """
    match = _NAME.fullmatch(name)
    if match is None or int(match[2]) > int(match[3]):
        return None
    return match[1], int(match[2]), int(match[3])
