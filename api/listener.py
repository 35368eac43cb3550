"""The media listener (`liuhen media`): bytes out, by exact range, under a capability.

A bare RSGI application: granian sends the file itself. Each request is decided anew: the signature, the
grant's row, what its variant opens, and, for a grant of a span, that every byte asked for belongs to
it (invariant 7). Answers follow RFC 9110 section 14; see `api.ranges` for what is taken as a range.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

import structlog
from granian.constants import Interfaces
from granian.rsgi import Scope

from api import serving
from api.auth.capability import Use, unfold
from api.issuing import Once, Variant, note_issued
from api.problems import MEDIA_TYPE, Problem, http_problem, problem_of
from api.ranges import ByteRange, NotSatisfiable, holds_if_range, is_inside, parse_range
from api.resolving import ORIGINAL, Servable, named, resolve_clip, resolve_grant
from config.load import SettingsError, load_settings
from config.logs import set_up_logging
from evidence.custody import Action
from evidence.errors import EvidenceError, NotFound, NotPermitted
from storage.db import agencies, grants
from storage.keys import Purpose
from storage.open import Storage, open_storage

PREFIX = "/m/"
METHODS = "GET, HEAD, OPTIONS"
EXPOSED = "Accept-Ranges, Content-Length, Content-Range, ETag, Repr-Digest"
# What leaves a leaf when it is first fetched; a rendition has left one with its playlist.
NOTED = {
    ORIGINAL: Action.ORIGINAL_ISSUED,
    "poster.jpg": Action.STILL_ISSUED,
    "photo.jpg": Action.STILL_ISSUED,
    "track.geojson": Action.TRACK_ISSUED,
}
NOTED_KINDS = {
    "sheet": Action.STILL_ISSUED,
    "waveform": Action.WAVEFORM_ISSUED,
    "waveform_image": Action.WAVEFORM_ISSUED,
    "scenes": Action.SCENES_ISSUED,
}

Headers = list[tuple[str, str]]
log = structlog.get_logger()

ALWAYS: Headers = [
    # The address is the secret, so any page that knows it may read it; no cookie is ever looked at.
    ("access-control-allow-origin", "*"),
    ("access-control-expose-headers", EXPOSED),
    ("cross-origin-resource-policy", "cross-origin"),
    ("cache-control", "private, no-store"),
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; sandbox"),
    ("referrer-policy", "no-referrer"),
]


class HTTPProtocol(Protocol):
    """What of granian's protocol object is used here."""

    def response_empty(self, status: int, headers: Headers) -> None: ...
    def response_str(self, status: int, headers: Headers, body: str) -> None: ...
    def response_file_range(self, status: int, headers: Headers, file: str, start: int, end: int) -> None: ...


@dataclass(frozen=True)
class Asked:
    """What a request asks for, as far as the listener looks."""

    method: str
    token: str
    name: str
    range: str | None
    if_range: str | None


class MediaListener:
    """The application.

    Args:
        storage: The opened installation.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._noted = Once()

    async def __rsgi__(self, scope: Scope, proto: HTTPProtocol) -> None:
        """One request."""
        if scope.proto != "http":
            return
        if scope.path in {"/healthz", "/readyz"}:
            await self._health(scope.path == "/readyz", proto)
            return
        if scope.method == "OPTIONS":
            proto.response_empty(204, [*ALWAYS, *_preflight()])
            return
        if scope.method not in {"GET", "HEAD"}:
            _refuse(proto, scope.method, http_problem(405), [("allow", METHODS)])
            return
        token, _, name = scope.path.removeprefix(PREFIX).partition("/")
        asked = Asked(scope.method, token, name, scope.headers.get("range"), scope.headers.get("if-range"))
        try:
            if not scope.path.startswith(PREFIX):
                raise NotFound("address: expected one that was issued here, found another")
            servable = await asyncio.to_thread(self._resolve, asked)
            _send(proto, asked, servable)
        except EvidenceError as error:
            problem = problem_of(error)
            _refuse(proto, asked.method, problem, list(problem.headers.items()))
        except Exception as error:
            log.exception("media_request_crashed", exc_info=error)
            _refuse(proto, asked.method, http_problem(500))

    async def _health(self, is_ready_asked: bool, proto: HTTPProtocol) -> None:
        try:
            if is_ready_asked:
                await asyncio.to_thread(self._require_ready)
            proto.response_str(200, [("content-type", "text/plain")], "ok\n")
        except EvidenceError as error:
            _refuse(proto, "GET", problem_of(error))

    def _require_ready(self) -> None:
        with self._storage.database.read() as session:
            agencies.agencies(session)
        self._storage.keys.current(Purpose.GRANT)

    def _resolve(self, asked: Asked) -> Servable:
        storage = self._storage
        now = storage.clock.now()
        capability = unfold(storage.keys, asked.token, now)
        agency_id, subject_id = capability.agency_id, capability.subject_id
        with storage.database.read() as session:
            if capability.use is Use.CLIP and asked.name == "clip.mp4":
                return resolve_clip(session, storage, agency_id, subject_id)
            if capability.use is not Use.MEDIA:
                raise NotFound("address: expected one of media, found another", code="capability_unknown")
            grant = grants.grant_in_force(session, agency_id, subject_id, now)
            servable = resolve_grant(session, storage, grant, asked.name)
        action = NOTED.get(asked.name) or NOTED_KINDS.get((named(asked.name) or ("",))[0])
        if grant.variant == Variant.AWAITING:
            action = Action.PREVIEW_ISSUED
        if action is not None and asked.method == "GET" and not self._noted.is_noted(grant.id, action):
            with storage.database.transaction() as session:
                grant = grants.grant_in_force(session, agency_id, subject_id, now, lock=True)
                agency = agencies.agency_by_id(session, agency_id)
                facts = {"sha256": servable.sha256.hex() if servable.sha256 else None, "name": asked.name}
                note_issued(session, agency, grant, action, facts, now)
            self._noted.remember(grant.id, action)
        return servable


def _send(proto: HTTPProtocol, asked: Asked, servable: Servable) -> None:
    size = servable.size_bytes
    etag = f'"{servable.sha256.hex()}"' if servable.sha256 is not None else None
    headers = [*ALWAYS, *_described(servable, etag)]
    known = None if servable.sha256 is None else size
    try:
        wanted = parse_range(asked.range, size) if holds_if_range(asked.if_range, etag) else None
    except NotSatisfiable:
        headers.append(("content-range", f"bytes */{size}"))
        _refuse(proto, asked.method, http_problem(416), headers, bare=True)
        return
    whole = ByteRange(0, size - 1)
    if servable.allowed is not None and not is_inside(wanted or whole, servable.allowed):
        raise NotPermitted(
            "range: expected bytes of the span that was granted, found others", code="range_not_permitted"
        )
    sent = wanted or whole
    headers.append(("content-length", str(sent.length)))
    if wanted is not None:
        headers.append(("content-range", wanted.content_range(known)))
    status = 206 if wanted is not None else 200
    if asked.method == "HEAD" or size == 0:
        proto.response_empty(status, headers)
    else:
        # granian ends before `end`; Content-Length above makes the answer exact and unchunked.
        proto.response_file_range(status, headers, str(servable.path), sent.first, sent.last + 1)


def _described(servable: Servable, etag: str | None) -> Headers:
    headers = [("accept-ranges", "bytes"), ("content-type", servable.content_type)]
    if etag is not None and servable.sha256 is not None:
        digest = base64.b64encode(servable.sha256).decode("ascii")
        headers += [("etag", etag), ("repr-digest", f"sha-256=:{digest}:"), ("digest", f"sha-256={digest}")]
    if servable.download_name is not None:
        # RFC 6266: the exact name, and a plain one for clients that do not read it.
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", servable.download_name)
        name = quote(servable.download_name, safe="")
        shown = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{name}"
        headers.append(("content-disposition", shown))
    return headers


def _preflight() -> Headers:
    return [
        ("allow", METHODS),
        ("access-control-allow-methods", METHODS),
        ("access-control-allow-headers", "Range, If-Range"),
        ("access-control-max-age", "600"),
    ]


def _refuse(
    proto: HTTPProtocol, method: str, problem: Problem, headers: Headers | None = None, *, bare: bool = False
) -> None:
    """Answer with a problem; `bare` when the headers are all there already."""
    sent = list(headers or []) if bare else [*ALWAYS, *(headers or [])]
    sent = [entry for entry in sent if entry[0] not in {"content-type", "content-disposition"}]
    sent.append(("content-type", MEDIA_TYPE))
    if method == "HEAD":
        proto.response_empty(problem.status, sent)
        return
    proto.response_str(problem.status, sent, json.dumps(problem.body(), ensure_ascii=False))


def main() -> None:
    """Serve media until SIGTERM.

    Raises:
        InvalidInput: The listener would not be private.
        Unavailable: There is no installation, or the port is taken.
    """
    set_up_logging("media")
    settings = load_settings()
    listener = serving.listener_of("media", settings.media)
    listener.require_private()
    serving.run(MediaListener(open_storage(settings)), listener, Interfaces.RSGI)


if __name__ == "__main__":
    try:
        main()
    except (EvidenceError, SettingsError) as error:
        raise SystemExit(f"liuhen media: {error}") from error
