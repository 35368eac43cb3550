"""Names as they stand on cards: what they are in bytes, how they are shown.

The same rules as the server's, written again because the agent stands alone; a test of the
repository holds the two to the same answers. A name is never part of a path of ours.
"""

from __future__ import annotations

import sys
import unicodedata

MAX_SHOWN_CHARS = 255


def name_bytes(name: str) -> bytes:
    """A name as the file system gave it, to be sent as it is: the server keeps the very bytes."""
    if sys.platform == "win32":
        return name.encode("utf-8", "backslashreplace")
    return name.encode("utf-8", "surrogateescape")


def decoded(name: bytes | str) -> str:
    """A name as text: UTF-8, else GB 18030 as cards written in China use, else escaped bytes."""
    if isinstance(name, bytes):
        raw = name
    else:
        try:
            raw = name.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return name.encode("utf-8", "backslashreplace").decode("utf-8")
    for encoding in ("utf-8", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("utf-8", "backslashreplace")


def shown(name: bytes | str) -> str:
    """A name that is safe to show: one line, nothing invisible, at most 255 characters."""
    text = "".join(_visible(character) for character in decoded(name))
    if len(text) <= MAX_SHOWN_CHARS:
        return text
    tail = 40
    return f"{text[: MAX_SHOWN_CHARS - tail - 1]}…{text[-tail:]}"


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category.startswith("C") or category in {"Zl", "Zp"}:
        return f"⟨U+{ord(character):04X}⟩"
    return character
