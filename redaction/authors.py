"""Who wrote what a version of a plan shows: nobody approves that themselves, by whatever way it came back.

Versions name the one they were made on, and undoing takes the content of one that stands on another line. So
whoever wrote that content, version by version back to what was in force, wrote what undoing brings back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from redaction.plan_json import plan_from_json
from redaction.revealing import reveals

# What tells a version from another one of the same content.
NUMBERING = frozenset({"number", "parent", "author"})


class Version(NamedTuple):
    """A version as it is kept."""

    number: int
    parent: int | None
    author: str
    """Actor label."""
    plan: Mapping[str, Any]
    """As `redaction.plan_json` reads it."""


def writers(versions: Sequence[Version], in_force: int | None) -> set[str]:
    """Actor labels of all who wrote what the newest version shows and the one in force does not.

    Args:
        versions: All of an item's, oldest first; at least one.
        in_force: Number of the version in force; None where there is none.
    """
    by_number = {version.number: version for version in versions}
    shown = plan_from_json(by_number[in_force].plan) if in_force is not None else None
    wrote = {version.number for version in versions if version.number > (in_force or 0)}
    wrote.add(versions[-1].number)
    waiting = [by_number[number] for number in wrote if number != in_force]
    while waiting:
        version = waiting.pop()
        content = _content(version)
        same = [one for one in versions if one.number < version.number and _content(one) == content]
        parent = by_number.get(version.parent or 0)
        for source in [*same, *([parent] if parent is not None else [])]:
            if source.number in wrote or (
                shown is not None and not reveals(shown, plan_from_json(source.plan))
            ):
                continue
            wrote.add(source.number)
            waiting.append(source)
    return {by_number[number].author for number in wrote}


def _content(version: Version) -> dict[str, Any]:
    return {name: value for name, value in version.plan.items() if name not in NUMBERING}
