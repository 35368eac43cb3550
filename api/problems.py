"""Errors as problem details (RFC 9457): which kind becomes which status, and in what words.

The kind of an `EvidenceError` decides the status; a few codes decide it more finely (what was there and
is gone answers 410). An answer of 5xx says nothing of the inside: the reason goes to the log. Codes,
meanings and status are listed in docs/ref/errors.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from evidence.errors import (
    Conflict,
    CustodyError,
    EvidenceError,
    FixityError,
    InvalidInput,
    MediaError,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    Unavailable,
)

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:liuhen:error:"
RETRY_AFTER_S = 5
CHALLENGE = 'Bearer realm="liuhen"'
log = structlog.get_logger()

KINDS: tuple[tuple[type[EvidenceError], int, str], ...] = (
    (NotFound, 404, "未找到 / Not found"),
    (Conflict, 409, "与当前状态冲突 / Conflict with the present state"),
    (InvalidInput, 422, "输入不符合要求 / Invalid input"),
    (NotPermitted, 403, "没有权限 / Not permitted"),
    (NotAuthenticated, 401, "未登录或登录已失效 / Not signed in"),
    (Unavailable, 503, "暂不可用 / Unavailable for now"),
    (MediaError, 422, "影像无法读取 / Footage cannot be read"),
    (FixityError, 500, "完整性校验不符 / Fixity mismatch"),
    (CustodyError, 500, "流转记录异常 / Custody record broken"),
    (EvidenceError, 500, "内部错误 / Internal error"),
)

# What was there for this caller and has been taken back is gone, not missing.
GONE = frozenset({"derivative_withdrawn", "grant_ended", "release_ended"})
# Whoever is told so asked too often, or holds too many; others are served.
TOO_MANY = frozenset({"sign_in_throttled", "streams_too_many", "grant_crowded", "trigger_throttled"})

STATUS_TITLES = {
    400: "请求格式错误 / Malformed request",
    401: "未登录或登录已失效 / Not signed in",
    403: "没有权限 / Not permitted",
    404: "没有这个地址 / No such address",
    405: "不支持的方法 / Method not allowed",
    408: "请求未及时发完 / Request not sent in time",
    409: "与当前状态冲突 / Conflict with the present state",
    410: "已失效 / Gone",
    412: "前提条件不成立 / Precondition failed",
    413: "请求过大 / Request too large",
    414: "地址过长 / Address too long",
    416: "字节范围无法满足 / Range not satisfiable",
    415: "不支持的内容类型 / Unsupported media type",
    422: "输入不符合要求 / Invalid input",
    431: "请求头过大 / Request headers too large",
    429: "请求过于频繁 / Too many requests",
    503: "暂不可用 / Unavailable for now",
    505: "不支持的 HTTP 版本 / HTTP version not supported",
}

# Written out, because the phrases of the standard library change from version to version.
STATUS_CODES = {
    400: "request_malformed",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    412: "precondition_failed",
    413: "body_too_large",
    414: "address_too_long",
    415: "content_type",
    416: "range_not_satisfiable",
    431: "headers_too_large",
    500: "internal",
    505: "http_version",
}


@dataclass(frozen=True)
class Problem:
    """One problem, before it becomes a response."""

    status: int
    code: str
    title: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """The JSON object, RFC 9457 section 3.1 first."""
        standard = {
            "type": f"{TYPE_PREFIX}{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        return {**self.more, **standard}


def problem_of(error: EvidenceError) -> Problem:
    """The problem a deliberate error becomes."""
    _, status, title = next(entry for entry in KINDS if isinstance(error, entry[0]))
    if error.code in GONE:
        status, title = 410, STATUS_TITLES[410]
    if error.code in TOO_MANY:
        status, title = 429, STATUS_TITLES[429]
    headers: dict[str, str] = {}
    if status == 401:
        headers["WWW-Authenticate"] = CHALLENGE
    if status in {429, 503}:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if status >= 500:
        # The message may name hosts, paths and keys of the inside.
        log.error("request_failed", code=error.code, reason=error.message)
        return Problem(status, error.code, title, f"{title}; {error.code}", headers)
    return Problem(status, error.code, title, error.message, headers, _public(error.facts))


def _public(facts: Mapping[str, object]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if isinstance(value, str | int | bool | list)}


def malformed(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """The problem of a request that does not fit its schema, with every finding."""
    unreadable = any(finding["type"] == "json_invalid" for finding in errors)
    findings = [
        {"where": ".".join(str(part) for part in finding["loc"]), "what": str(finding["msg"])}
        for finding in errors[:100]
    ]
    status = 400 if unreadable else 422
    title = STATUS_TITLES[400] if unreadable else "输入不符合要求 / Invalid input"
    code = "request_malformed" if unreadable else "request_invalid"
    detail = "; ".join(f"{found['where']}: {found['what']}" for found in findings[:5])
    return Problem(status, code, title, detail, more={"findings": findings})


def respond(problem: Problem) -> JSONResponse:
    """The response that carries a problem."""
    return JSONResponse(problem.body(), problem.status, headers=dict(problem.headers), media_type=MEDIA_TYPE)


def http_problem(status: int, headers: Mapping[str, str] | None = None, detail: str | None = None) -> Problem:
    """A problem that only a status tells: unknown address, wrong method, too large."""
    title = STATUS_TITLES.get(status, HTTPStatus(status).phrase)
    return Problem(status, STATUS_CODES.get(status, f"http_{status}"), title, detail or title, headers or {})


def route_of(scope: Mapping[str, Any]) -> str:
    """The template of the route a request met; unknown addresses share one word."""
    return str(getattr(scope.get("route"), "path", "unknown"))


def install(app: FastAPI) -> None:
    """Make every error of the application a problem."""

    async def deliberate(_: Request, error: Exception) -> JSONResponse:
        return respond(problem_of(cast(EvidenceError, error)))

    async def unfit(_: Request, error: Exception) -> JSONResponse:
        return respond(malformed(cast(RequestValidationError, error).errors()))

    async def by_status(_: Request, error: Exception) -> JSONResponse:
        found = cast(HTTPException, error)
        # In our own words or none: what the framework says may name the inside.
        detail = found.detail if found.status_code == 413 else None
        return respond(http_problem(found.status_code, found.headers, detail))

    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        # The route and not the address: an address may be a capability.
        log.error("request_crashed", route=route_of(request.scope), exc_info=error)
        return respond(Problem(500, "internal", "内部错误 / Internal error", "内部错误 / Internal error"))

    app.add_exception_handler(EvidenceError, deliberate)
    app.add_exception_handler(RequestValidationError, unfit)
    app.add_exception_handler(HTTPException, by_status)
    app.add_exception_handler(Exception, unexpected)


PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "findings": {"type": "array", "items": {"type": "object"}},
    },
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for problems of those statuses."""
    content = {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA}}
    return {
        status: {"description": STATUS_TITLES.get(status, HTTPStatus(status).phrase), "content": content}
        for status in statuses
    }
