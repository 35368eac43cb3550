"""Text of other people, made safe for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """One line, in which nothing moves the cursor, sets a title or turns the reading round."""
    return "".join(char if char.isprintable() else "�" for char in text)
