"""Settings of releases of redacted renditions: what one asks for, and for whom there must be one."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from config.group import Group

Approver = Literal["handler", "reviewer", "legal_reviewer", "archivist"]


class ReleaseSettings(Group):
    """What a release of a redacted rendition asks for, and for whom there must be one."""

    reviewers: int = Field(1, ge=1, le=9, description="People who must have reviewed it")
    watched_percent: int = Field(
        100, ge=0, le=100, description="Share of it that they together must have watched"
    )
    max_play_rate: float = Field(
        2.0, ge=1, le=16, description="A report of what was watched faster than this is refused"
    )
    coverage: list[Literal["faces", "plates", "text", "voices"]] = Field(
        ["faces", "plates"],
        description="Classes that must be treated; of sound alone its voices, unless this is empty",
    )
    with_doubts: bool = Field(False, description="Doubtful spans may be left undecided")
    approvals: list[Approver] = Field(
        ["legal_reviewer"],
        min_length=1,
        max_length=6,
        description="Role of each step of the chain, in order; each is another person",
    )
    party_approvals: list[Approver] = Field(
        ["legal_reviewer", "legal_reviewer"],
        min_length=1,
        max_length=6,
        description="The same, of what goes to a party outside: secrecy check, then leader (R41)",
    )
    party_s: int = Field(
        7 * 86400, gt=0, le=366 * 86400, description="Life of a release to a party, and of its addresses"
    )
    required_for: list[Literal["officer", "handler", "reviewer"]] = Field(
        default_factory=list,
        description="Roles that see a redacted rendition by a release alone, unless some of the original is "
        "theirs to see; a party always does",
    )
