"""The desk of a signed-in actor, as routes ask for it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from api.auth.bearer import ActorOf
from api.desk import Desk, InstallationOf


async def desk_of(installation: InstallationOf, actor: ActorOf) -> Desk:
    """Where this request's work is done."""
    return Desk(installation, actor)


DeskOf = Annotated[Desk, Depends(desk_of)]
