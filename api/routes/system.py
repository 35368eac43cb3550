"""Health, readiness, metrics, and the page."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api import web
from api.auth.bearer import is_from_this_machine
from api.auth.gate import Gate, Open
from api.desk import InstallationOf
from api.hardening import Metrics
from evidence.errors import NotFound
from storage.db import agencies
from storage.keys import Purpose

gate = Gate("系统 System", prefix="")


@gate.get("/healthz", Open.ANYONE, summary="存活 Alive", response_class=Response, include_in_schema=False)
async def healthz() -> Response:
    """The process answers."""
    return Response("ok\n", media_type="text/plain")


@gate.get("/readyz", Open.ANYONE, summary="就绪 Ready", response_class=Response, include_in_schema=False)
def readyz(installation: InstallationOf) -> Response:
    """The database answers, the object store is there, the key is there."""
    storage = installation.storage
    with storage.database.read() as session:
        agencies.agencies(session)
    storage.objects.free_bytes()
    storage.keys.current(Purpose.GRANT)
    return Response("ok\n", media_type="text/plain")


def _loopback_only(request: Request) -> None:
    if not is_from_this_machine(request):
        raise NotFound("address: expected one of this API, found another", code="not_found")


@gate.get(
    "/metrics",
    Open.LOOPBACK,
    response_class=Response,
    include_in_schema=False,
)
def metrics(request: Request, _: Annotated[None, Depends(_loopback_only)]) -> Response:
    """Prometheus text, for this machine alone."""
    held: Metrics = request.app.state.metrics
    return Response(generate_latest(held.registry), media_type=CONTENT_TYPE_LATEST)


@gate.get("/", Open.ANYONE, include_in_schema=False, response_class=Response)
async def page() -> Response:
    """The page for reviewers."""
    return web.answer("index.html")


@gate.get("/docs", Open.ANYONE, include_in_schema=False, response_class=Response)
async def docs() -> Response:
    """The API, operation by operation."""
    return web.answer("docs.html")


@gate.get("/static/{name}", Open.ANYONE, include_in_schema=False, response_class=Response)
async def static(name: str) -> Response:
    """What the pages load."""
    return web.answer(name)
