"""Release of a redacted rendition: proposed, checked, reviewed, approved by others, released, revocable.

The rules, in order:

1. What is released is one version of one item's redacted rendition, by the digest of its bytes, to a role, a
   person of the agency, or a party outside it. Other bytes are another release: a newer version ends it.
2. Nothing is asked for that lacks something (`lacks`): the check passed or was overridden by name, coverage
   is what the policy wants, nothing doubtful is left undecided, enough people reviewed, and nothing but what
   the policy leaves out was watched by nobody.
3. The policy names the chain: a role for each step, in order (R41, R45). Each step is another person, who
   neither wrote nor reviewed the version, nor asked for the release. The last one releases it.
4. It ends at its time, or is revoked at once, with a reason. What ended stays ended.

What was watched are spans of media time; only time that can have passed is believed (`believable`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from evidence.coverage import SOUND_ALONE, split_coverage

Span = tuple[int, int]
"""Microseconds of media time, half-open."""
WHOLE_PERCENT = 100


class Recipient(StrEnum):
    """To whom something is released."""

    ROLE = "role"  # 角色
    PERSON = "person"  # 本机关人员
    PARTY = "party"  # 机关以外


class ReleaseState(StrEnum):
    """Where a release stands."""

    WAITING = "waiting"
    """Asked for; steps of its chain are open."""
    RELEASED = "released"
    REFUSED = "refused"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"
    """The rendition it is of is served no longer."""
    EXPIRED = "expired"


class Lack(StrEnum):
    """What keeps a version from being released."""

    CHECK_FAILED = "check_failed"
    PENDING = "pending"
    COVERAGE = "coverage"
    DOUBTFUL = "doubtful"
    REVIEWERS = "reviewers"
    UNWATCHED = "unwatched"


@dataclass(frozen=True)
class Policy:
    """What an installation asks of a release."""

    reviewers: int
    watched_percent: int
    coverage: frozenset[str]
    with_doubts: bool
    approvals: tuple[str, ...]
    """The role of each step, in order."""


@dataclass(frozen=True)
class Standing:
    """What is known of a version when a release of it is asked for.

    Attributes:
        is_checked: Its rendition passed its check, or that was overridden, and is served.
        failed: Codes of what its check found; empty where it passed or nobody checked.
        coverage: What the rendition says it treats.
        open_doubts: Spans that nobody decided.
        reviewers: People who said that they reviewed it.
        watched: What these and others watched of it, in order.
        length_us: Of the rendition; 0 for a photo, which is watched by who reviews it.
    """

    is_checked: bool
    failed: tuple[str, ...] = ()
    coverage: Mapping[str, str] = field(default_factory=dict)
    open_doubts: int = 0
    reviewers: int = 0
    watched: Sequence[Span] = ()
    length_us: int = 0


def lacks(standing: Standing, policy: Policy) -> dict[Lack, str]:
    """Everything that is missing, with a line of what is expected and found; nothing: it may be asked for."""
    if standing.failed and not standing.is_checked:
        return {Lack.CHECK_FAILED: f"check passed or overridden by name, found {', '.join(standing.failed)}"}
    if not standing.is_checked:
        return {Lack.PENDING: "a checked rendition that is served, found none yet"}
    found = {}
    short = uncovered(standing.coverage, policy.coverage)
    if short:
        found[Lack.COVERAGE] = f"{', '.join(sorted(policy.coverage))} treated, found {', '.join(short)} not"
    if standing.open_doubts and not policy.with_doubts:
        found[Lack.DOUBTFUL] = f"doubtful spans decided, found {standing.open_doubts} open"
    if standing.reviewers < policy.reviewers:
        found[Lack.REVIEWERS] = f"{policy.reviewers} reviewers, found {standing.reviewers}"
    left_us = sum(end - start for start, end in missing(standing.watched, standing.length_us))
    if left_us * WHOLE_PERCENT > standing.length_us * (WHOLE_PERCENT - policy.watched_percent):
        found[Lack.UNWATCHED] = f"{policy.watched_percent}% watched, found {left_us / 1e6:.3f} s by nobody"
    return found


def uncovered(said: Mapping[str, str], wanted: frozenset[str]) -> list[str]:
    """Classes the policy wants treated that are not; of sound alone its voices, whatever classes it names."""
    treated, _ = split_coverage(said)
    asked = ({"voices"} if wanted else set()) if SOUND_ALONE in said else wanted
    return sorted(asked - set(treated))


def merged(spans: Iterable[Span]) -> list[Span]:
    """Spans in order, those that touch made one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def missing(spans: Iterable[Span], length_us: int) -> list[Span]:
    """What of 0 to ``length_us`` no span has."""
    found: list[Span] = []
    reached = 0
    for start, end in merged(spans):
        if start > reached:
            found.append((reached, min(start, length_us)))
        reached = max(reached, end)
    if reached < length_us:
        found.append((reached, length_us))
    return [(start, end) for start, end in found if start < end]


def total_us(spans: Iterable[Span]) -> int:
    """How long spans are together, each moment once."""
    return sum(end - start for start, end in merged(spans))


def believable(told: Iterable[Span], passed_us: int, max_rate: float) -> bool:
    """Whether so much can have been watched in that time, at the fastest rate of play."""
    return total_us(told) <= passed_us * max_rate


def next_step(approvals: Sequence[Mapping[str, object]], chain: Sequence[str]) -> str | None:
    """The role of the step that is open; None: all were taken."""
    return chain[len(approvals)] if len(approvals) < len(chain) else None
