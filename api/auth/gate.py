"""Deny unless allowed, at the level of routes: a route cannot exist without saying who may call it.

Routes are added through a `Gate`. Each declares an `Act`, which the caller's roles must carry, or one of
the few `Open` ways. What an act means for one item or case is decided again inside the route, where
the subject is known. `docs/ref/api.md` lists every route with its declaration.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from inspect import iscoroutinefunction, signature
from typing import Any, TypeVar

from fastapi import APIRouter, Depends
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute

from api.auth.bearer import ActorOf, AnyActorOf
from api.problems import documented
from evidence.access import Act, Actor, require

DECLARED = "x-liuhen-access"
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class Open(StrEnum):
    """Ways in that no role decides."""

    ANYONE = "anyone"
    """No proof asked: signing in, health, the page itself."""
    SIGNED_IN = "signed_in"
    """Any session, also before the first password is changed: about the session itself."""
    CAPABILITY = "capability"
    """The address is the proof: signed, for one grant, with an end."""
    TRIGGER = "trigger"
    """The key of a room's recorder (`api.auth.calling`)."""
    LOOPBACK = "loopback"
    """Only from this machine."""


Access = Act | Open


class GuardedRoute(APIRoute):
    """A route that says who may call it; without that it is refused when the application is built."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        extra = options.get("openapi_extra") or {}
        if extra.get(DECLARED) not in {*Act, *Open}:
            raise TypeError(f"route {path}: expected a declared Act or Open, found none; add it by a Gate")
        super().__init__(path, endpoint, **options)


async def _signed_in(_: AnyActorOf) -> None:
    """Having an actor is all that is asked."""


def _needs(act: Act) -> Callable[..., Any]:
    async def check(actor: ActorOf) -> Actor:
        require(actor, act)
        return actor

    return check


class Gate:
    """Adds routes of one subject.

    Args:
        tag: Heading in the OpenAPI document, Chinese first.
    """

    def __init__(self, tag: str, prefix: str = "/api/v1") -> None:
        self.router = APIRouter(prefix=prefix, tags=[tag], route_class=GuardedRoute)

    def get(self, path: str, access: Access, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._add("GET", path, access, options)

    def post(self, path: str, access: Access, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._add("POST", path, access, options)

    def put(self, path: str, access: Access, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._add("PUT", path, access, options)

    def patch(self, path: str, access: Access, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._add("PATCH", path, access, options)

    def delete(self, path: str, access: Access, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._add("DELETE", path, access, options)

    def _add(
        self, method: str, path: str, access: Access, options: dict[str, Any]
    ) -> Callable[[Endpoint], Endpoint]:
        checks: list[Any] = []
        statuses = {400, 404, 413, 414, 422, 431, 503}
        if isinstance(access, Act):
            checks.append(Depends(_needs(access)))
            statuses |= {401, 403}
        elif access is Open.SIGNED_IN:
            checks.append(Depends(_signed_in))
            statuses |= {401}
        elif access is Open.TRIGGER:
            statuses |= {401, 409, 429}
        statuses |= set(options.pop("problems", ()))
        extra = {DECLARED: str(access), **options.pop("openapi_extra", {})}
        add = self.router.api_route(
            path,
            methods=[method],
            dependencies=checks,
            openapi_extra=extra,
            responses={**documented(*sorted(statuses)), **options.pop("responses", {})},
            **options,
        )

        def added(endpoint: Endpoint) -> Endpoint:
            add(endpoint if iscoroutinefunction(endpoint) else in_thread(endpoint))
            return endpoint

        return added


def in_thread(endpoint: Endpoint) -> Callable[..., Any]:
    """The endpoint as a coroutine that runs it in a thread.

    FastAPI would go to a thread once more to look at what a plain function returned; that costs more than
    the look.
    """

    @wraps(endpoint)
    async def running(*given: Any, **named: Any) -> Any:
        return await run_in_threadpool(endpoint, *given, **named)

    # Its annotations are names of the endpoint's own module.
    running.__signature__ = signature(endpoint, eval_str=True)  # type: ignore[attr-defined]
    return running
