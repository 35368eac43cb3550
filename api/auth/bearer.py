"""From the Authorization header to an actor. The token is proved in `storage.db.credentials`."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.desk import InstallationOf
from evidence.access import Actor
from evidence.errors import NotAuthenticated
from evidence.listening import is_loopback
from storage.db import credentials

MAX_TOKEN_CHARS = 256

_scheme = HTTPBearer(auto_error=False, description="会话令牌 / Session token, from POST /api/v1/sessions")


async def token_of(held: Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)]) -> str:
    """The session token of the request.

    Raises:
        NotAuthenticated: There is none, or it is not of the form of one.
    """
    if held is None or not held.credentials or len(held.credentials) > MAX_TOKEN_CHARS:
        raise NotAuthenticated(
            "session: expected a bearer token, found none; sign in", code="session_missing"
        )
    return held.credentials


TokenOf = Annotated[str, Depends(token_of)]


def actor_of(token: TokenOf, installation: InstallationOf) -> Actor:
    """Who is asking.

    Raises:
        NotAuthenticated: No session is in force.
        NotPermitted: The password has to be changed first.
    """
    with installation.storage.database.read() as session:
        return credentials.actor_of(session, token, installation.storage.clock.now())


def any_actor_of(token: TokenOf, installation: InstallationOf) -> Actor:
    """Who is asking, also when their password has to be changed first.

    Raises:
        NotAuthenticated: No session is in force.
    """
    with installation.storage.database.read() as session:
        now = installation.storage.clock.now()
        return credentials.actor_of(session, token, now, before_change=True)


ActorOf = Annotated[Actor, Depends(actor_of)]
AnyActorOf = Annotated[Actor, Depends(any_actor_of)]


def is_from_this_machine(request: Request) -> bool:
    """Whether the peer is loopback and no proxy spoke for somebody else."""
    forwarded = {"forwarded", "x-forwarded-for", "x-real-ip"}
    peer = request.client.host if request.client else ""
    return is_loopback(peer) and not forwarded & set(request.headers)
