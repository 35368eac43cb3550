"""Patterns that people write into settings: a part of regular expressions that cannot be made slow.

A file name is hostile text, and a pattern is tried on it before anything else is known. Python's engine
backtracks, so a careless pattern takes years on a name made for it. Accepted here is what leaves nothing to
backtrack into:

- literals, classes such as ``[A-Za-z0-9]``, ``\\d``, named groups, ``(?:…)`` and alternatives in groups;
- a repeat stands behind one character or class, and what may follow a repeat of varying length shares no
  character with it, so the engine never has a second place to stop;
- a group takes no quantifier but ``?``, so repeats never nest; optional parts and alternatives are few;
- the pattern is anchored at both ends and short.

Matching then takes time that grows with the length of the name alone.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

MAX_PATTERN_CHARS = 400
MAX_REPEAT = 255
MAX_PATHS = 4096
"""Ways through optional parts and alternatives, all of which a name can make the engine try."""
MAX_DEPTH = 4

_ALPHABET = frozenset(map(chr, range(32, 127))) | {"\0"}
"""What classes are made of; the last stands for every character that is not printable ASCII."""
_DIGITS = frozenset(string.digits)
_ESCAPED = frozenset(r".-_()[]{}+*?|^$\/ ~#@&,;=!")
_NAMED = re.compile(r"\(\?P<([a-z][a-z0-9_]{0,31})>")
_BRACES = re.compile(r"\{([0-9]{1,3})(?:,([0-9]{1,3}))?\}")

Chars = frozenset[str]


@dataclass(frozen=True)
class _Part:
    """One character or class, how often."""

    chars: Chars
    least: int = 1
    most: int = 1


@dataclass(frozen=True)
class _Group:
    """Alternatives, once or perhaps not at all."""

    branches: tuple[tuple[_Node, ...], ...]
    is_optional: bool = False


_Node = _Part | _Group


def check_pattern(pattern: str, *, ignore_case: bool = False) -> frozenset[str]:
    """Names of the groups of a pattern that is safe to try on any name.

    Raises:
        ValueError: It is not one of the patterns described above; the message says what is in the way.
    """
    if len(pattern) > MAX_PATTERN_CHARS:
        raise ValueError(f"pattern: expected at most {MAX_PATTERN_CHARS} characters, found {len(pattern)}")
    if not pattern.startswith("^") or not pattern.endswith("$") or pattern.endswith("\\$"):
        raise ValueError("pattern: expected ^ at its beginning and $ at its end, found it open")
    reader = _Reader(pattern[1:-1], ignore_case=ignore_case)
    branches = reader.branches(0)
    if reader.at != len(reader.text):
        raise reader.error("a closing bracket without its opening one")
    if (paths := sum(map(_paths, branches))) > MAX_PATHS:
        raise ValueError(f"pattern: expected at most {MAX_PATHS} ways through it, found {paths}")
    for branch in branches:
        _check_run(branch, frozenset())
    re.compile(pattern)
    return frozenset(reader.names)


def _check_run(nodes: tuple[_Node, ...], after: Chars) -> None:
    """Check nodes from the last to the first, knowing what may come behind each."""
    behind = after
    for node in reversed(nodes):
        if isinstance(node, _Group):
            for branch in node.branches:
                _check_run(branch, behind)
        elif node.least != node.most and node.chars & behind:
            shared = "".join(sorted(node.chars & behind))[:8]
            raise ValueError(
                f"pattern: expected nothing behind a repeat that the repeat takes too, found {shared!r}; "
                "say how often, as in {6}, or put a separator behind it"
            )
        behind = _first((node,), behind)


def _first(nodes: tuple[_Node, ...], after: Chars) -> Chars:
    """Characters that may come first in nodes, with what follows them where they may be empty."""
    found: Chars = frozenset()
    for node in nodes:
        if isinstance(node, _Group):
            inner = [_first(branch, frozenset()) for branch in node.branches]
            found |= frozenset().union(*inner)
            may_be_empty = node.is_optional or any(_may_be_empty(branch) for branch in node.branches)
        else:
            found |= node.chars
            may_be_empty = node.least == 0
        if not may_be_empty:
            return found
    return found | after


def _may_be_empty(nodes: tuple[_Node, ...]) -> bool:
    return all(
        (node.is_optional or any(map(_may_be_empty, node.branches)))
        if isinstance(node, _Group)
        else node.least == 0
        for node in nodes
    )


def _paths(nodes: tuple[_Node, ...]) -> int:
    """Ways through nodes: alternatives add up, what follows multiplies."""
    groups = [node for node in nodes if isinstance(node, _Group)]
    return prod(sum(map(_paths, group.branches)) + group.is_optional for group in groups)


@dataclass
class _Reader:
    """Reads the accepted part of the language."""

    text: str
    ignore_case: bool
    at: int = 0
    names: list[str] = field(default_factory=list)

    def error(self, what: str) -> ValueError:
        return ValueError(f"pattern: expected the plain part of regular expressions, found {what} "
                          f"at character {self.at + 1}")  # fmt: skip

    def branches(self, depth: int) -> tuple[tuple[_Node, ...], ...]:
        if depth > MAX_DEPTH:
            raise self.error(f"groups nested deeper than {MAX_DEPTH}")
        found = [tuple(self._nodes(depth))]
        while self.text[self.at : self.at + 1] == "|":
            if depth == 0:
                raise self.error("an alternative outside of a group")
            self.at += 1
            found.append(tuple(self._nodes(depth)))
        return tuple(found)

    def _nodes(self, depth: int) -> Iterator[_Node]:
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            if self.text[self.at] == "(":
                yield self._group(depth)
            else:
                chars = self._chars()
                least, most = self._repeat()
                yield _Part(self._folded(chars), least, most)

    def _group(self, depth: int) -> _Group:
        named = _NAMED.match(self.text, self.at)
        if named is not None:
            if named[1] in self.names:
                raise self.error(f"a second group {named[1]}")
            self.names.append(named[1])
            self.at = named.end()
        elif self.text.startswith("(?:", self.at):
            self.at += 3
        else:
            raise self.error("a group that is neither (?P<name>…) nor (?:…)")
        branches = self.branches(depth + 1)
        if self.text[self.at : self.at + 1] != ")":
            raise self.error("a group without its end")
        self.at += 1
        mark = self.text[self.at : self.at + 1]
        if mark in {"*", "+", "{"}:
            raise self.error("a repeated group")
        if mark == "?":
            self.at += 1
        return _Group(branches, mark == "?")

    def _repeat(self) -> tuple[int, int]:
        mark = self.text[self.at : self.at + 1]
        found = {"?": (0, 1), "*": (0, MAX_REPEAT), "+": (1, MAX_REPEAT)}.get(mark)
        if mark == "{":
            braces = _BRACES.match(self.text, self.at)
            if braces is None:
                raise self.error("braces that say no number")
            least, most = int(braces[1]), int(braces[2] or braces[1])
            if not least <= most <= MAX_REPEAT:
                raise self.error(f"a repeat beyond {MAX_REPEAT}")
            found = (least, most)
            self.at = braces.end()
        elif found is not None:
            self.at += 1
        if found is None:
            return 1, 1
        if self.text[self.at : self.at + 1] in {"?", "+", "*", "{"}:
            raise self.error("a repeat of a repeat")
        return found

    def _chars(self) -> Chars:
        char = self.text[self.at]
        self.at += 1
        if char == "[":
            return self._class()
        if char == "\\":
            return self._escape()
        if char in "^$.*+?{}":
            self.at -= 1
            raise self.error(f"{char} where a character was to come")
        return frozenset(char if char in _ALPHABET else "\0")

    def _escape(self) -> Chars:
        char = self.text[self.at : self.at + 1]
        self.at += 1
        if char == "d":
            return _DIGITS
        if char in _ESCAPED and char:
            return frozenset(char)
        raise self.error(f"\\{char}")

    def _class(self) -> Chars:
        end = self.text.find("]", self.at)
        body = self.text[self.at : end] if end > self.at else ""
        if not body or body[0] == "^" or "[" in body or not all(char in _ALPHABET for char in body):
            raise self.error("a class that does not list printable ASCII")
        self.at = end + 1
        found: set[str] = set()
        body = body.replace("\\d", "0-9").replace("\\-", "\1").replace("\\.", ".").replace("\\_", "_")
        if "\\" in body:
            raise self.error("an escape in a class")
        at = 0
        while at < len(body):
            if body[at + 1 : at + 2] == "-" and at + 2 < len(body):
                first, last = ord(body[at]), ord(body[at + 2])
                if first > last:
                    raise self.error("a range that runs backwards")
                found |= set(map(chr, range(first, last + 1)))
                at += 3
            else:
                found.add("-" if body[at] == "\1" else body[at])
                at += 1
        return frozenset(found)

    def _folded(self, chars: Chars) -> Chars:
        if not self.ignore_case:
            return chars
        return chars | {char.lower() for char in chars} | {char.upper() for char in chars}
