"""What of a session is shown live without the right to originals, as the API takes and gives it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from api.schemas.common import Input, Line, Output
from evidence.live_masks import MOST_AREAS, Area, Cover


class CoverGiven(Input):
    """What is covered of a stream."""

    width_px: int = Field(description="遮挡区域所依据的画面宽度 / Of the picture the areas are set for")
    height_px: int
    areas: list[tuple[int, int, int, int]] = Field(
        min_length=1,
        max_length=MOST_AREAS,
        description=(
            "遮挡区域:左、上、右、下(像素);整幅画面即 0, 0, 宽, 高 / "
            "Left, top, right, bottom in pixels; the whole picture is 0, 0, width, height"
        ),
        examples=[[[0, 0, 640, 360]]],
    )
    heard: bool = Field(False, description="可听声音,缺省静音 / Its sound may be heard; default: silence")

    def cover(self) -> Cover:
        """As its rules have it."""
        areas: list[Area] = list(self.areas)
        return Cover(self.width_px, self.height_px, tuple(areas), self.heard)


class LiveMasking(Input):
    """Have these streams watched live, covered so; the others are not shown."""

    streams: dict[str, CoverGiven] = Field(min_length=1, description="按路名 / By the name of the stream")
    statement: Line = Field(examples=["遮挡被询问人"])


class LiveMaskLifting(Input):
    """Have nothing watched live any more without the right to originals."""

    statement: Line = Field(examples=["遮挡位置有误"])


class CoverShown(Output):
    """What is covered of a stream."""

    width_px: int
    height_px: int
    areas: list[tuple[int, int, int, int]]
    heard: bool


class LiveMaskShown(Output):
    """A live mask, or the lifting of the one before."""

    id: UUID
    number: int = Field(description="最后一条有效 / The last is in force")
    streams: dict[str, CoverShown] = Field(description="空为已取消 / Empty: what was before is lifted")
    statement: str
    by: str
    made_at: datetime
