"""What of a session is hidden in everything that is made of it for somebody, and why.

A mask is a person's: from an instant on, until another or until it is ended, picture or sound or both, of all
streams of the room. It changes no original. The rules:

1. A mask hides more than was asked for, never less: `MARGIN_US` on both sides, and where it is not certain at
   which moment of a file a wall time lies, every moment at which it may lie. Where the host's clock was set
   while its session was recorded, that is by as much on both sides.
2. Nothing takes a mask back. What it hid in a file is shown again by another version of that file's redaction
   plan, which a second person has to approve (`redaction.amend`).
3. A pause is hidden like what a person masks: a file goes on for a moment after it began, and a host that
   learns of it late goes on longer. So is what of a session's file lies in none of its sessions
   (`outside`): before the stated start to the microsecond, after the end from `MARGIN_US` on.
4. Of what is watched live a masked stretch is left out altogether, whatever of it is hidden: a recorder's
   file can be shown as it is, or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fractions import Fraction
from typing import Any

from evidence.errors import InvalidInput

SECOND_US = 1_000_000
MARGIN_US = SECOND_US
"""People press late; and two clocks that were read apart agree to some tenths of a second."""
Span = tuple[int, int | None]
"""Microseconds; None: it lasts."""


class Hides(StrEnum):
    """What a mask hides."""

    PICTURE = "picture"  # 画面
    SOUND = "sound"  # 声音
    BOTH = "both"  # 画面与声音

    @property
    def of_picture(self) -> bool:
        return self is not Hides.SOUND

    @property
    def of_sound(self) -> bool:
        return self is not Hides.PICTURE


class Reason(StrEnum):
    """Why something is hidden."""

    STATE_SECRET = "state_secret"  # noqa: S105 - a reason, not a password
    BUSINESS_SECRET = "business_secret"  # noqa: S105
    PRIVACY = "privacy"
    MINOR = "minor"
    OFFICER_SAFETY = "officer_safety"
    OTHER = "other"
    PAUSED = "paused"
    """Not for a person to give: recording was paused."""
    OUTSIDE_SESSION = "outside_session"
    """Not for a person to give: it is of none of the file's sessions."""


GIVEN = tuple(each for each in Reason if each not in {Reason.PAUSED, Reason.OUTSIDE_SESSION})
"""What a person may give as a reason."""
SYSTEM = "system"
"""Whose what is hidden outside of sessions is."""
HIDES_WORDS = {
    Hides.PICTURE: ("画面", "picture"),
    Hides.SOUND: ("声音", "sound"),
    Hides.BOTH: ("画面与声音", "picture and sound"),
}
REASON_WORDS = {
    Reason.STATE_SECRET: ("国家秘密", "state secret"),
    Reason.BUSINESS_SECRET: ("商业秘密", "business secret"),
    Reason.PRIVACY: ("个人隐私", "privacy"),
    Reason.MINOR: ("未成年人", "minor"),
    Reason.OFFICER_SAFETY: ("人员安全", "safety of an officer"),
    Reason.OTHER: ("其他", "other"),
    Reason.PAUSED: ("暂停期间", "recording was paused"),
    Reason.OUTSIDE_SESSION: ("会话之外", "outside of the session"),
}


@dataclass(frozen=True)
class Mask:
    """A stretch of a session that is hidden, in microseconds of UTC."""

    id: str
    from_us: int
    to_us: int | None
    """None: it lasts."""
    hides: Hides
    reason: Reason
    by: str
    """Actor label."""
    slack_us: int = 0
    """How far the host's clock was set while the session was recorded."""

    @property
    def from_least_us(self) -> int:
        return self.from_us - MARGIN_US - self.slack_us

    @property
    def to_most_us(self) -> int | None:
        return None if self.to_us is None else self.to_us + MARGIN_US + self.slack_us


Placed = tuple[Mask, tuple[int, int]]
"""A mask, and where it lies in a file's media time."""


@dataclass(frozen=True)
class Lasted:
    """When a session was, in microseconds of UTC."""

    id: str
    from_us: int
    to_us: int | None
    """None: it lasts."""
    slack_us: int = 0
    """How far the host's clock was set while it was recorded."""


def outside(from_us: int, to_us: int, of: Sequence[Lasted]) -> list[tuple[str, int, int]]:
    """What of a file lies in none of the sessions of its room.

    Where the clock was set during a session, what may be of it by the clock before or since is taken for it;
    and so is a whole file that shares no moment with any by its own time.

    Args:
        from_us: Wall time of the file's beginning, as told.
        to_us: Of its end.

    Returns:
        Name, first and last moment of each stretch, in order; the name stays the same.
    """
    begins_us, last, touched = from_us, "", False
    found: list[tuple[str, int, int]] = []
    for each in sorted(of, key=lambda one: (one.from_us, one.id)):
        ends_us = to_us if each.to_us is None else each.to_us + MARGIN_US + each.slack_us
        first_us = each.from_us - each.slack_us
        if first_us >= to_us or ends_us <= from_us:
            continue
        touched = touched or (each.from_us < to_us and (each.to_us is None or each.to_us > from_us))
        if begins_us < first_us:
            found.append((f"before:{each.id}", begins_us, first_us))
        begins_us, last = max(begins_us, ends_us), each.id
    if begins_us < to_us:
        found.append((f"after:{last}", begins_us, to_us))
    return found if touched else []


def check_stretch(
    from_at: datetime | None,
    to_at: datetime | None,
    began_at: datetime,
    ended_at: datetime | None,
    now: datetime,
) -> tuple[datetime, datetime | None]:
    """The stretch a person asks to hide, of a session that lasts or is over.

    Raises:
        InvalidInput: It does not lie in the session, or goes backward (``mask_stretch``).
    """
    last = now if ended_at is None else ended_at
    begins = from_at if from_at is not None else now
    ends = to_at if to_at is not None or ended_at is None else ended_at
    is_late = from_at is None and ended_at is not None
    if is_late or not began_at <= begins <= last or (ends is not None and not begins < ends <= last):
        raise InvalidInput(
            f"mask: expected a stretch between {began_at.isoformat()} and {last.isoformat()}, found "
            f"{begins.isoformat()} to {ends.isoformat() if ends is not None else 'open'}; give other times",
            code="mask_stretch",
        )
    return begins, ends


def slack_us(from_us: int, to_us: int, media_us: int, open_us: int) -> int:
    """How much earlier in a file than its wall time says a moment may lie, short of half a second.

    In whole seconds, so that it stays as it is while the file grows; the margin covers what is left out.

    Args:
        from_us: Wall time at the file's first packet.
        to_us: Wall time at its end, as told.
        media_us: What of that time the source's clock ran.
        open_us: By how much at most it ended later: what the source stood still may not be told yet.
    """
    missing_us = max(0, to_us - from_us - media_us) + open_us
    return (missing_us + SECOND_US // 2) // SECOND_US * SECOND_US


def without(
    windows: Sequence[Span], masks: Sequence[Mask], *, early_us: int = 0, late_us: int = 0
) -> list[Span]:
    """What is left of stretches of wall time, in order, once masks with their margins are taken out.

    Args:
        early_us: How much earlier than it seems what is masked may lie.
        late_us: How much later.
    """
    left = list(windows)
    for mask in masks:
        begins = mask.from_least_us - early_us
        ends = None if mask.to_most_us is None else mask.to_most_us + late_us
        cut: list[Span] = []
        for first, last in left:
            if first < begins:
                cut.append((first, begins if last is None else min(begins, last)))
            if ends is not None and (last is None or ends < last):
                cut.append((max(first, ends), last))
        left = cut
    return left


def media_span(
    mask: Mask, from_us: int, to_us: int, duration_us: int, open_us: int = 0
) -> tuple[int, int] | None:
    """Where a mask may lie in a file's media time; None: nowhere.

    A source that stood still, or began with what cannot be decoded, makes media time shorter than wall time,
    at some place or other: a moment lies between where it would be if all of that came behind it, and where
    it would be if all of it came before.

    Args:
        mask: In wall time.
        from_us: Wall time at the file's first packet.
        to_us: Wall time at its end.
        duration_us: Of what is shown of it.
        open_us: By how much at most it ended later: a pause may not have been told yet.
    """
    to_us += open_us
    begins, ends = mask.from_least_us, to_us if mask.to_most_us is None else mask.to_most_us
    lasts = mask.to_us is None or mask.to_us >= to_us
    return _placed(begins, to_us if lasts else ends, from_us, to_us, duration_us)


def outside_span(
    first_us: int, last_us: int, from_us: int, to_us: int, duration_us: int
) -> tuple[int, int] | None:
    """Where a stretch of `outside` may lie in a file's media time; None: nowhere."""
    return _placed(first_us, last_us, from_us, to_us, duration_us)


def _placed(begins: int, ends: int, from_us: int, to_us: int, duration_us: int) -> tuple[int, int] | None:
    if ends <= from_us or begins >= to_us:
        return None
    missing_us = to_us - from_us - duration_us
    first = min(begins - from_us, begins - from_us - missing_us)
    last = max(ends - from_us, ends - from_us - missing_us)
    if ends == to_us:
        last = duration_us
    first, last = max(0, first), min(duration_us, last)
    return (first, last) if first < last else None


def in_plan(plan: Mapping[str, Any], placed: Sequence[Placed]) -> dict[str, Any]:
    """A redaction plan, as it is stored, with what masks hide that it does not have; else the same."""
    known = {span["id"] for name in ("muted_spans", "whole_frame_spans") for span in plan[name]}
    muted, frames, picture = list(plan["muted_spans"]), list(plan["whole_frame_spans"]), plan["picture"]
    for mask, (from_us, to_us) in placed:
        said = {"origin": "account", "by": mask.by, "reason": str(mask.reason), "state": "accepted"}
        sound, sight = f"{mask.id}:sound", f"{mask.id}:picture"
        if mask.hides.of_sound and sound not in known:
            muted.append(
                {"id": sound, "from_us": from_us, "to_us": to_us, "stream": None, "kind": "silence", **said}
            )
        if mask.hides.of_picture and picture is not None and sight not in known:
            ticks = Fraction(picture["time_base"][1], picture["time_base"][0] * 1_000_000)
            first, last = int(from_us * ticks), -int(-to_us * ticks)
            begins = picture["first_pts"]
            frames.append({"id": sight, "from_pts": begins + first, "to_pts": begins + last, **said})
    return {**plan, "muted_spans": muted, "whole_frame_spans": frames}
