"""Live events of one's own agency, as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import Query, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.auth.bearer import ActorOf, TokenOf
from api.auth.gate import Gate
from api.desk import Installation, InstallationOf
from api.news import Listener, NewsRoom
from evidence.access import Act, may
from evidence.errors import NotAuthenticated, Unavailable
from evidence.events import Topic
from storage.db import credentials

gate = Gate("动态 Events")
HEARTBEAT_S = 15.0
# Those who see no footage watch the machine, not the cases.
MACHINE_TOPICS = frozenset({Topic.JOB, Topic.ALARM})
# What reports found is for who may read them.
CONDUCT_TOPICS = frozenset({Topic.REPORT})
ROOM_TOPICS = frozenset({Topic.ROOM})


@gate.get(
    "/events",
    Act.WATCH_EVENTS,
    response_class=StreamingResponse,
    problems=(429,),
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "SSE"}},
    summary="实时动态 Live events",
)
async def events(
    request: Request,
    installation: InstallationOf,
    actor: ActorOf,
    token: TokenOf,
    case_id: Annotated[UUID | None, Query(description="音像仅限此案 / Of items, those of this case")] = None,
) -> StreamingResponse:
    """每 15 秒一条心跳注释;会话结束即断开;每账号最多五路。

    A comment every 15 s; it ends with the session. At most five at a time for an account.
    """
    room: NewsRoom = request.app.state.news
    topics = frozenset(Topic) if may(actor, Act.LIST_ITEMS) else MACHINE_TOPICS
    if may(actor, Act.SEE_ROOMS):
        topics |= ROOM_TOPICS
    else:
        topics -= ROOM_TOPICS
    if not may(actor, Act.REPORT_ON_CONDUCT):
        topics -= CONDUCT_TOPICS
    listener = Listener(
        actor.agency_code,
        actor.agency_id,
        actor.account_id,
        frozenset(str(topic) for topic in topics),
        asyncio.get_running_loop(),
        case_id,
    )
    room.join(listener)
    return _Stream(room, listener, _stream(listener, installation, token))


class _Stream(StreamingResponse):
    """Leaves the room however it ends, also when nobody waited for its first line."""

    def __init__(self, room: NewsRoom, listener: Listener, lines: AsyncIterator[str]) -> None:
        super().__init__(lines, media_type="text/event-stream")
        self._room, self._listener = room, listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._room.leave(self._listener)


async def _stream(listener: Listener, installation: Installation, token: str) -> AsyncIterator[str]:
    """Events as they come; by the clock, and however many come, whether the session still holds."""
    yield ": 留痕 liuhen\n\n"
    told = 0
    look_at = time.monotonic() + HEARTBEAT_S
    while True:
        event = await listener.next(look_at - time.monotonic())
        if time.monotonic() >= look_at:
            if not await asyncio.to_thread(_is_in_force, installation, token):
                return
            look_at = time.monotonic() + HEARTBEAT_S
            yield ": ping\n\n"
        if event is None:
            continue
        if listener.missed > told:
            told = listener.missed
            yield f"event: missed\ndata: {json.dumps({'missed': told})}\n\n"
        body = json.dumps(event, ensure_ascii=False)
        yield f"event: {event['topic']}\ndata: {body}\n\n"


def _is_in_force(installation: Installation, token: str) -> bool:
    storage = installation.storage
    try:
        with storage.database.read() as session:
            credentials.actor_of(session, token, storage.clock.now())
    except NotAuthenticated:
        return False
    except Unavailable:
        # A busy database ends nobody's session; it is asked again with the next heartbeat.
        return True
    return True
