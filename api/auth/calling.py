"""From the Authorization header to the recorder of a room that calls by itself, and how often one may.

A key has 256 random bits: it is not guessed. The bounds are there so that a contact that chatters, or
somebody who tries keys, costs the others nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.auth.bearer import MAX_TOKEN_CHARS
from api.auth.throttle import Tally, peer_of
from api.desk import InstallationOf
from evidence.errors import NotAuthenticated, Unavailable
from storage.db import triggers

WRONG_MOST = 30
CALLS_MOST = 60
"""Of one key, and of wrong ones from one peer, in a minute."""

_scheme = HTTPBearer(
    auto_error=False, scheme_name="TriggerKey", description="录像机密钥 / Key of `liuhen trigger issue`"
)


@dataclass(frozen=True)
class Caller:
    """A recorder that has proved its key."""

    trigger_id: UUID
    agency_id: UUID
    room_no: str


class Calls:
    """How often recorders called lately; one for each application."""

    def __init__(self, *, wrong_most: int = WRONG_MOST, calls_most: int = CALLS_MOST) -> None:
        self._most = {"wrong": wrong_most, "call": calls_most}
        self._heard = {"wrong": Tally(), "call": Tally()}

    def admit(self, kind: str, name: str) -> None:
        """Let one more in.

        Raises:
            Unavailable: There were too many (``trigger_throttled``).
        """
        if self._heard[kind].count(name) >= self._most[kind]:
            raise Unavailable(
                f"trigger: expected at most {self._most[kind]} calls a minute, found more; wait",
                code="trigger_throttled",
            )

    def note(self, kind: str, name: str) -> None:
        self._heard[kind].note(name)


def caller_of(
    request: Request,
    installation: InstallationOf,
    held: Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)],
) -> Caller:
    """Which recorder calls.

    Raises:
        NotAuthenticated: No key, or none in force (``trigger_unknown``).
        Unavailable: Too many calls (``trigger_throttled``).
    """
    calls: Calls = request.app.state.calls
    peer = peer_of(request, behind_proxy=installation.settings.api.behind_proxy)
    key = held.credentials if held is not None else ""
    try:
        if not 0 < len(key) <= MAX_TOKEN_CHARS:
            raise NotAuthenticated(
                "trigger: expected a key as bearer token, found none", code="trigger_unknown"
            )
        with installation.storage.database.read() as session:
            row = triggers.key_of(session, key)
    except NotAuthenticated:
        # Only now: behind one address others may have keys that are right.
        calls.admit("wrong", peer)
        calls.note("wrong", peer)
        raise
    calls.admit("call", str(row.id))
    calls.note("call", str(row.id))
    return Caller(row.id, row.agency_id, row.room_no)


CallerOf = Annotated[Caller, Depends(caller_of)]
