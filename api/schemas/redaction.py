"""Redaction plans."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from api.schemas.common import Input, Line, Output
from evidence.item import Redaction
from storage.db.tables import RedactionPlanRow


class PlanSummary(Output):
    """A version of a plan, without what it hides."""

    number: int
    parent: int | None
    plan_sha256: str
    author: str
    note: str | None = Field(description="仅整件原件权限者可见 / With the right to all of the original")
    made_at: datetime
    reveals: bool = Field(description="揭开了遮挡 / Shows something that the version in force hid")
    approved_at: datetime | None
    awaits_approval: bool = Field(description="待他人审核,暂不提供 / Not served until another approves")

    @classmethod
    def of(cls, row: RedactionPlanRow, *, with_note: bool = True) -> PlanSummary:
        return cls(
            number=row.number,
            parent=row.parent_number,
            plan_sha256=row.plan_sha256.hex(),
            author=row.author,
            note=row.note if with_note else None,
            made_at=row.made_at,
            reveals=row.reveals,
            approved_at=row.approved_at,
            awaits_approval=row.awaits_approval,
        )


class PlanShown(PlanSummary):
    """A version of a plan with everything it hides."""

    plan: dict[str, Any]


class Change(Input):
    """What every change says."""

    base_number: int = Field(ge=1, le=2**31 - 1, description="所依据的版本,须为最新 / Must be the newest")
    note: Line = Field(description="理由 / Why")


class Amendment(Change):
    """Changes to the newest version."""

    changes: list[dict[str, Any]] = Field(
        min_length=1,
        max_length=1000,
        examples=[
            [
                {
                    "op": "add_box",
                    "shape": "rectangle",
                    "reason": "privacy",
                    "keys": [[0, 10, 10, 60, 60, 0], [900, 20, 20, 70, 70, 0]],
                }
            ]
        ],
    )


class PreviewAsked(Input):
    """A look at a version: one frame, or a stretch."""

    grant_id: UUID = Field(description="本件整件原件的授权 / A grant to all of the original")
    at_us: int = Field(ge=0, le=2**53 - 1, description="媒体时间 / Media time")
    length_us: int | None = Field(
        default=None, ge=1, le=6_000_000, description="缺省为一帧图片 / Left out: one picture"
    )


class Approval(Input):
    """Approve the plan in force."""

    number: int = Field(ge=1, le=2**31 - 1, description="所审核的版本 / The version looked at")
    note: Line | None = None


class RedactionState(Output):
    """Where an item's redaction stands."""

    redaction: Redaction
    plan: PlanSummary
