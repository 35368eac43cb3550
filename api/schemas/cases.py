"""Cases as the API takes and gives them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from api.schemas.common import Input, Instant, Line, Number, Output
from evidence.kinds import EnforcementKind
from storage.db.tables import Case


class CaseOpening(Input):
    """A case to open."""

    case_no: str = Field(
        min_length=1, max_length=240, description="案件编号 / Case number", examples=["示执罚〔2026〕17号"]
    )
    kind: EnforcementKind = Field(EnforcementKind.PENALTY, description="执法类型 / Kind")
    cause: Line | None = Field(None, description="案由 / Cause of action", examples=["占道经营"])
    party: Line | None = Field(None, description="当事人 / Party")
    handler: Number | None = Field(None, description="承办人用户名 / Handler's user name")
    officer_no: Number | None = Field(None, description="执法人员编号 / Officer in charge")
    opened_at: Instant | None = Field(None, description="立案时间,默认现在 / Default now")


class CaseChange(Input):
    """What changes; a field that is left out stays as it is."""

    cause: Line | None = None
    party: Line | None = None
    officer_no: Number | None = None
    handler: Number | None = Field(None, description="承办人用户名 / Handler's user name")
    closed_at: Instant | None = Field(None, description="结案时间 / Closes the case at this instant")


class CaseShown(Output):
    """A case."""

    id: UUID
    case_no: str
    kind: EnforcementKind
    cause: str | None
    party: str | None
    handler_id: UUID | None
    officer_no: str | None
    is_open: bool
    opened_at: datetime
    closed_at: datetime | None

    @classmethod
    def of(cls, case: Case) -> CaseShown:
        return cls(
            id=case.id,
            case_no=case.case_no,
            kind=EnforcementKind(case.kind),
            cause=case.cause,
            party=case.party,
            handler_id=case.handler_id,
            officer_no=case.officer_no,
            is_open=case.closed_at is None,
            opened_at=case.opened_at,
            closed_at=case.closed_at,
        )


class LineNotTaken(Output):
    """A line of an imported file that did not become a case."""

    line: int
    code: str
    message: str


class CasesImported(Output):
    """What became of an imported file."""

    taken: int
    case_ids: list[UUID]
    not_taken: list[LineNotTaken]
