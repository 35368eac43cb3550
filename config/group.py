"""What every group of settings is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """A group of settings: frozen, and a name nobody knows is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
