"""The media listener (`liuhen media`): bytes out, by exact range, under a capability.

Each request is decided anew or by a decision that would be made again (`api.deciding`): the signature, the
grant's row, what its variant opens, and, for a grant of a span, that every byte asked for belongs to it
(invariant 7). Answers follow RFC 9110 sections 13 and 14; see `api.ranges` for what is taken as a range, and
`api.line` for how bytes leave and what becomes of a body whose right ends while it is sent.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from urllib.parse import quote

import structlog
from sqlalchemy.orm import Session

from api import live, serving
from api.auth.capability import Capability, Use, unfold
from api.deciding import ACCEPTS_RANGES, Decision, Decisions, Ground, Moment, require_inside
from api.fairness import CROWDED, Shares
from api.issuing import Once, Variant, note_issued
from api.lines import Lines
from api.problems import MEDIA_TYPE, Problem, http_problem, problem_of
from api.ranges import (
    ByteRange,
    NotSatisfiable,
    holds_if_match,
    holds_if_range,
    is_known,
    parse_range,
)
from api.resolving import (
    ORIGINAL,
    Servable,
    is_rung,
    named,
    resolve_clip,
    resolve_clip_set,
    resolve_grant,
)
from api.wire import FilePart, Reply, Request
from config.load import SettingsError, load_settings
from config.logs import set_up_logging
from config.settings import MediaSettings
from evidence.custody import Action
from evidence.errors import EvidenceError, NotFound, Unavailable
from evidence.listening import Listener
from messaging.sockets import listen, require_free
from messaging.tls import tls_of
from storage.db import agencies, grants
from storage.db.alarms import NewAlarm, raise_alarm
from storage.db.tables import Grant
from storage.keys import Purpose
from storage.open import Storage, open_storage
from transcode.slices import slice_of

PREFIX = "/m/"
METHODS = "GET, HEAD, OPTIONS"
EXPOSED = "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, Digest, ETag, Repr-Digest"
MAX_LINES = 1024
STOP_WAIT_S = 10.0
# What leaves a leaf when it is first fetched. A playlist has one of its own, which whoever knows the address
# of a rendition need not ask for.
NOTED = {
    ORIGINAL: Action.ORIGINAL_ISSUED,
    "poster.jpg": Action.STILL_ISSUED,
    "photo.jpg": Action.RENDITION_ISSUED,
    "track.geojson": Action.TRACK_ISSUED,
}
NOTED_KINDS = {
    "redacted": Action.RENDITION_ISSUED,
    "redacted_photo": Action.RENDITION_ISSUED,
    "sheet": Action.SHEET_ISSUED,
    "waveform": Action.WAVEFORM_ISSUED,
    "waveform_image": Action.WAVEFORM_ISSUED,
    "scenes": Action.SCENES_ISSUED,
}

SUBJECTS = {Use.CLIP: "clip", Use.CLIP_SET: "clip_set", Use.LIVE: "live_grant"}
"""What an address that is no grant's is of, as alarms name it."""
CONDITIONS = frozenset({"if-match", "if-none-match", "if-range", "if-modified-since", "if-unmodified-since"})
log = structlog.get_logger()

ALWAYS = (
    # The address is the secret, so any page that knows it may read it; no cookie is ever looked at.
    b"access-control-allow-origin: *\r\n"
    b"access-control-expose-headers: " + EXPOSED.encode("ascii") + b"\r\n"
    b"cross-origin-resource-policy: cross-origin\r\n"
    b"cache-control: private, no-store\r\n"
    b"x-content-type-options: nosniff\r\n"
    b"content-security-policy: default-src 'none'; sandbox\r\n"
    b"referrer-policy: no-referrer\r\n"
)
PREFLIGHT = (
    f"allow: {METHODS}\r\n"
    f"access-control-allow-methods: {METHODS}\r\n"
    "access-control-allow-headers: Range, If-Range, If-Match, If-None-Match\r\n"
    "access-control-max-age: 600\r\n"
).encode("ascii")


class MediaListener:
    """The application.

    Args:
        storage: The opened installation.
        media: How much one grant may take, and whether a trusted nginx in front sends instead.
    """

    def __init__(self, storage: Storage, media: MediaSettings) -> None:
        self._storage = storage
        self._accel = media.accel_location.rstrip("/") if media.accel_location is not None else None
        self._shares = Shares(media.max_lines_per_grant, "answers")
        self._noted = Once()
        self._decisions = Decisions(storage, self._make)

    def at_once(self) -> Callable[[Request], Reply | None]:
        """Replies to requests that were decided before, where nothing was committed since."""
        return partial(self._now, self._decisions.moment())

    def _now(self, moment: Moment, request: Request) -> Reply | None:
        if request.method != "GET" or not request.path.startswith(PREFIX):
            return None
        token, name, part = _addressed(request.path)
        try:
            decision = moment.decided(token, name)
            return None if decision is None else self._reply(request, decision.cut(part), token, name)
        except Unavailable:
            return None  # Refused in the other way, which may take time.
        except Exception as error:
            # A bug is this request's 500, in the log with its trace; the lines of others go on.
            return _failed(request, error)

    async def __call__(self, request: Request) -> Reply:
        """The reply to any request; it never raises."""
        try:
            return await self._answer(request)
        except Exception as error:
            return _failed(request, error)

    def refuse(self, status: int) -> Reply:
        """The reply to what was no request anybody could read."""
        return refusal(http_problem(status), "GET")

    def close(self) -> None:
        """Let go of what is kept of the database."""
        self._decisions.close()

    async def _answer(self, request: Request) -> Reply:
        if request.method == "OPTIONS":
            return Reply(204, ALWAYS + PREFLIGHT)
        if request.method not in {"GET", "HEAD"}:
            return refusal(http_problem(405), request.method, {"allow": METHODS})
        if request.path in {"/healthz", "/readyz"}:
            if request.path == "/readyz":
                await asyncio.to_thread(self._require_ready)
            said = b"ok\n" if request.method == "GET" else b""
            return Reply(200, b"content-type: text/plain\r\ncontent-length: 3\r\n", said)
        if not request.path.startswith(PREFIX):
            raise NotFound("address: expected one that was issued here, found another")
        token, name, part = _addressed(request.path)
        is_taking = request.method == "GET"
        if part is not None and is_taking:
            # A slice that nobody may have is not noted as taken.
            (await self._decisions.decide(token, name, is_taking=False)).cut(part)
        decision = await self._decisions.decide(token, name, is_taking=is_taking)
        try:
            return self._reply(request, decision.cut(part), token, name)
        except Unavailable as error:
            subject_id = decision.capability.subject_id
            if error.code == CROWDED and self._shares.is_first_refusal(subject_id):
                log.warning("grant_crowded", grant=str(subject_id), reason=error.message)
                try:
                    await asyncio.to_thread(self._tell_of_crowd, decision.capability, error.message)
                except Unavailable as away:
                    self._shares.nobody_was_told(subject_id)
                    log.warning("grant_crowded_untold", grant=str(subject_id), reason=away.message)
            raise

    def _reply(self, request: Request, decision: Decision, token: str, name: str) -> Reply:
        """What conditions and range make of a request (RFC 9110 section 13.2.2 has the order)."""
        headers, size, holds = request.headers, decision.size_bytes, True
        if not CONDITIONS.isdisjoint(headers):
            if not holds_if_match(headers.get("if-match"), decision.etag):
                return refusal(http_problem(412), request.method)
            if is_known(headers.get("if-none-match"), decision.etag):
                return Reply(304, ALWAYS + decision.described)
            holds = holds_if_range(headers.get("if-range"), decision.etag)
        try:
            # A range is of GET alone (section 14.2).
            wanted = parse_range(headers.get("range"), size) if holds and request.method == "GET" else None
        except NotSatisfiable:
            said = {"content-range": f"bytes */{size}"}
            return refusal(http_problem(416), request.method, said)
        return self._give(request, decision, wanted, token, name)

    def _give(
        self, request: Request, decision: Decision, wanted: ByteRange | None, token: str, name: str
    ) -> Reply:
        servable, part = decision.servable, decision.part
        sent = wanted or ByteRange(0, decision.size_bytes - 1)
        if part is None:
            require_inside(sent, servable)
        if self._accel is not None and servable.store_key is not None and _is_plain(request, decision):
            where = quote(f"{self._accel}/{servable.store_key}")
            handed = f"x-accel-redirect: {where}\r\ncontent-length: 0\r\n".encode("ascii")
            # nginx says by itself that it takes ranges.
            return Reply(200, ALWAYS + decision.described.removeprefix(ACCEPTS_RANGES) + handed)
        lines = f"content-length: {sent.length}\r\n"
        if wanted is not None:
            known = None if servable.sha256 is None and part is None else decision.size_bytes
            lines += f"content-range: {wanted.content_range(known)}\r\n"
        reply = Reply(200 if wanted is None else 206, ALWAYS + decision.described + lines.encode("ascii"))
        if request.method == "GET" and sent.length:
            first = sent.first if part is None else part.first + sent.first
            stored = ByteRange(first, first + sent.length - 1)
            reply.file = self._file(decision, stored, lambda: self._decisions.stands(token, name))
        return reply

    def _file(
        self, decision: Decision, sent: ByteRange, may_go_on: Callable[[], Awaitable[bool]]
    ) -> FilePart:
        """Bytes of the thing decided on, as one of the answers its grant may have under way."""
        shares, subject_id = self._shares, decision.capability.subject_id
        shares.take(subject_id)
        try:
            descriptor = _opened(decision.servable)
        except BaseException:
            # Nobody would end an answer that never began, and the grant would have one fewer for ever.
            shares.give_back(subject_id)
            raise
        done = partial(shares.give_back, subject_id)
        return FilePart(descriptor, sent.first, sent.length, may_go_on, done)

    def _tell_of_crowd(self, capability: Capability, message: str) -> None:
        """An address that more read than one person has players may have been passed on."""
        storage, subject = self._storage, SUBJECTS.get(capability.use, "grant")
        facts = {subject: str(capability.subject_id)}
        wanted = NewAlarm(CROWDED, subject, str(capability.subject_id), message, facts)
        with storage.database.transaction() as session:
            agency = agencies.agency_by_id(session, capability.agency_id)
            raise_alarm(session, agency, wanted, actor="listener:media", now=storage.clock.now())

    def _require_ready(self) -> None:
        with self._storage.database.read() as session:
            agencies.agencies(session)
        self._storage.keys.current(Purpose.GRANT)

    def _make(self, token: str, name: str, is_taking: bool) -> Decision:
        """Decide from rows; the first taking of what is noted leaves its leaf."""
        storage = self._storage
        now = storage.clock.now()
        capability = unfold(storage.keys, token, now)
        agency_id, subject_id = capability.agency_id, capability.subject_id
        if capability.use is Use.LIVE:
            servable = live.take(storage, agency_id, subject_id, name, is_taking=is_taking)
            # It rests on roles, on the session and on what grows: it is decided anew each time.
            return Decision(servable, capability.expires_at, capability, may_be_kept=False)
        with storage.database.read() as session:
            if capability.use is Use.CLIP:
                servable = resolve_clip(session, storage, agency_id, subject_id, name)
                return Decision(servable, capability.expires_at, capability)
            if capability.use is Use.CLIP_SET:
                servable = resolve_clip_set(session, storage, agency_id, subject_id, name)
                return Decision(servable, capability.expires_at, capability)
            if capability.use is not Use.MEDIA:
                raise NotFound("address: expected one of media, found another", code="capability_unknown")
            grant = grants.grant_in_force(session, agency_id, subject_id, now)
            servable = resolve_grant(session, storage, grant, name)
            ground = _ground(session, grant, servable)
        action = Action.PREVIEW_ISSUED if grant.variant == Variant.AWAITING else _noted_as(name)
        is_noted = action is None or self._noted.is_noted(grant.id, action)
        if action is not None and is_taking and not is_noted:
            self._note(capability, action, servable, name)
            is_noted = True
        ends_at = min(capability.expires_at, grant.expires_at)
        # What grows, grows without a commit.
        may_be_kept = is_noted and servable.sha256 is not None
        return Decision(servable, ends_at, capability, ground, may_be_kept)

    def _note(self, capability: Capability, action: Action, servable: Servable, name: str) -> None:
        """Leave the leaf of a first taking."""
        agency_id, now = capability.agency_id, self._storage.clock.now()
        with self._storage.database.transaction() as session:
            grant = grants.grant_in_force(session, agency_id, capability.subject_id, now, lock=True)
            agency = agencies.agency_by_id(session, agency_id)
            facts = {"sha256": servable.sha256.hex() if servable.sha256 else None, "name": name}
            note_issued(session, agency, grant, action, facts, now)
        self._noted.remember(capability.subject_id, action)


def _addressed(path: str) -> tuple[str, str, ByteRange | None]:
    """What a path is made of: the token, the name of what it opens, and which slice of that."""
    token, _, name = path.removeprefix(PREFIX).partition("/")
    found = slice_of(name) if "/" in name else None
    return (token, name, None) if found is None else (token, found[0], ByteRange(*found[1:]))


def _noted_as(name: str) -> Action | None:
    """The leaf that a first taking of this leaves."""
    if is_rung(name):
        return Action.RENDITION_ISSUED
    return NOTED.get(name) or NOTED_KINDS.get((named(name) or ("",))[0])


def _ground(session: Session, grant: Grant, servable: Servable) -> Ground | None:
    """What a decision rests on; None where it is more than a few rows."""
    if servable.sha256 is None or grant.variant == Variant.AWAITING:
        return None
    derivative_id, kind = servable.derivative_id, servable.kind
    stood = grants.standing(session, grant.agency_id, grant.id, derivative_id, kind)
    return None if stood is None else Ground(grant.agency_id, grant.id, derivative_id, kind, stood)


def _opened(servable: Servable) -> int:
    """The file, open and as long as it must be; another put in its place later is not what is sent.

    Raises:
        Unavailable: It is gone, or not of the size its row says (``object_unreadable``).
    """
    try:
        descriptor = os.open(servable.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(
            f"object: expected a file in the store, found {error.strerror}; run `liuhen check`",
            code="object_unreadable",
        ) from error
    size = os.lseek(descriptor, 0, os.SEEK_END)
    # What grows may be ahead of what is settled.
    if size == servable.size_bytes or (servable.sha256 is None and size > servable.size_bytes):
        return descriptor
    os.close(descriptor)
    raise Unavailable(
        f"object: expected {servable.size_bytes} bytes, found {size}; run `liuhen check`",
        code="object_unreadable",
    )


def _is_plain(request: Request, decision: Decision) -> bool:
    """Whether a proxy that knows neither span nor slice nor tag gives the answer we would.

    It reads Range by itself, and would judge a condition by a tag of its own.
    """
    is_whole = decision.servable.allowed is None and decision.part is None
    return request.method == "GET" and is_whole and not CONDITIONS & request.headers.keys()


def refusal(problem: Problem, method: str, headers: Mapping[str, str] | None = None) -> Reply:
    """Answer with a problem; tag and digest of the thing asked for are none of its own."""
    body = b"" if method == "HEAD" else json.dumps(problem.body(), ensure_ascii=False).encode()
    lines = [ALWAYS]
    lines += [f"{name.lower()}: {value}\r\n".encode("latin-1") for name, value in (headers or {}).items()]
    if method != "HEAD":
        lines.append(f"content-length: {len(body)}\r\n".encode("ascii"))
    return Reply(problem.status, b"".join(lines) + f"content-type: {MEDIA_TYPE}\r\n".encode("ascii"), body)


def _failed(request: Request, error: Exception) -> Reply:
    """What is said of an error; what nobody meant goes to the log alone."""
    if isinstance(error, EvidenceError):
        problem = problem_of(error)
        return refusal(problem, request.method, problem.headers)
    log.error("media_request_crashed", exc_info=error)
    return refusal(http_problem(500), request.method)


async def serve(app: MediaListener, listener: Listener, media: MediaSettings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then let what is being sent be finished, for a moment.

    Raises:
        InvalidInput: The line would not be private.
        Unavailable: The port is taken, or the certificate cannot be read.
    """
    listener.require_private()
    require_free(listener)
    tls = tls_of(listener)
    lines = Lines(app, most=MAX_LINES, stall_s=media.stall_s, least_bytes_s=media.least_bytes_s)
    with listen(listener, MAX_LINES) as door:
        accepting = asyncio.create_task(lines.accept(door, tls))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({accepting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (accepting, stopping):
            task.cancel()
        (ended, _) = await asyncio.gather(accepting, stopping, return_exceptions=True)
    await lines.close(STOP_WAIT_S)
    app.close()
    if isinstance(ended, Exception):
        raise ended


async def _until_told(app: MediaListener, listener: Listener, media: MediaSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.info("listening", listener=listener.name, host=listener.host, port=listener.port)
    await serve(app, listener, media, stop)


def main() -> None:
    """Serve media until SIGTERM.

    Raises:
        InvalidInput: The listener would not be private.
        Unavailable: There is no installation, or the port is taken.
    """
    set_up_logging("media")
    settings = load_settings()
    media = settings.media
    listener = serving.listener_of("media", media)
    listener.require_private()
    app = MediaListener(open_storage(settings), media)
    serving.set_apart_what_stays()
    asyncio.run(_until_told(app, listener, media))


if __name__ == "__main__":
    try:
        main()
    except (EvidenceError, SettingsError) as error:
        raise SystemExit(f"liuhen media: {error}") from error
