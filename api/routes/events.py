"""Live events of one's own agency, as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from fastapi import Request
from fastapi.responses import StreamingResponse

from api.auth.bearer import ActorOf, TokenOf
from api.auth.gate import Gate
from api.desk import Installation, InstallationOf
from api.news import Listener, NewsRoom
from evidence.access import Act, may
from evidence.errors import EvidenceError
from evidence.events import Topic
from storage.db import credentials

gate = Gate("动态 Events")
HEARTBEAT_S = 15.0
# Those who see no footage watch the machine, not the cases.
MACHINE_TOPICS = frozenset({Topic.JOB, Topic.RELAY, Topic.UPLOAD})


@gate.get(
    "/events",
    Act.WATCH_EVENTS,
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "SSE"}},
    summary="实时动态 Live events",
)
async def events(
    request: Request, installation: InstallationOf, actor: ActorOf, token: TokenOf
) -> StreamingResponse:
    """每 15 秒一条心跳注释;会话结束即断开。A comment every 15 s; it ends with the session."""
    room: NewsRoom = request.app.state.news
    topics = frozenset(Topic) if may(actor, Act.LIST_ITEMS) else MACHINE_TOPICS
    listener = Listener(
        actor.agency_code, frozenset(str(topic) for topic in topics), asyncio.get_running_loop()
    )
    return StreamingResponse(_stream(room, listener, installation, token), media_type="text/event-stream")


async def _stream(
    room: NewsRoom, listener: Listener, installation: Installation, token: str
) -> AsyncIterator[str]:
    room.join(listener)
    try:
        yield ": 留痕 liuhen\n\n"
        told = 0
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    event = await listener.queue.get()
            except TimeoutError:
                if not await asyncio.to_thread(_is_in_force, installation, token):
                    return
                yield ": ping\n\n"
                continue
            if listener.missed > told:
                told = listener.missed
                yield f"event: missed\ndata: {json.dumps({'missed': told})}\n\n"
            body = json.dumps(event, ensure_ascii=False)
            yield f"event: {event['topic']}\ndata: {body}\n\n"
    finally:
        room.leave(listener)


def _is_in_force(installation: Installation, token: str) -> bool:
    storage = installation.storage
    try:
        with storage.database.read() as session:
            credentials.actor_of(session, token, storage.clock.now())
    except EvidenceError:
        return False
    return True
