"""A small agency to ask questions of: people of every role, two cases, recordings in every state, servers."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import httpx
from fastapi import FastAPI
from granian.constants import Interfaces
from PIL import Image
from sqlalchemy import select

from api import serving
from api.app import create_app
from api.auth.throttle import Throttle
from api.listener import MediaListener
from api.listener import serve as serve_media
from config.rooms import RoomSettings
from config.settings import Settings
from evidence.canonical import canonical_json
from evidence.ids import new_id
from evidence.kinds import ClaimSource, MediaKind, Role
from ingest import binding, register, roster
from media.fmp4 import FragmentIndex
from redaction.plan import FACES_ONLY, Picture, RedactionPlan
from storage.db import cases, custody
from storage.db.plans import AWAITS
from storage.db.tables import (
    Agency,
    Case,
    CaseBinding,
    Claim,
    Derivative,
    Item,
    Reception,
    RedactionPlanRow,
    StoredObject,
)
from storage.objects.base import Namespace
from storage.open import Storage, found
from tests.support import media as footage
from tests.support.clocks import SettableClock
from tests.support.databases import laid_url
from tests.support.installations import AGENCY, settings_for
from tests.support.rooms import ROOM

PASSWORD = "correct horse battery"
ACTOR = "system"
CASE_A, CASE_B = "示执罚〔2026〕17号", "示执罚〔2026〕18号"
CAPTURED = datetime(2026, 3, 3, 2, 0, tzinfo=UTC)


def _jpeg() -> bytes:
    """A small grey picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 18), (90, 100, 110)).save(buffer, "JPEG")
    return buffer.getvalue()


JPEG = _jpeg()


@dataclass(frozen=True)
class Reel:
    """A recording: the file as a camera wrote it, and its rendition."""

    original: bytes
    rendition: bytes
    index: FragmentIndex
    info: dict[str, Any]


@cache
def reel(seed: int, seconds: int = 6) -> Reel:
    """A real recording with a fragment a second; made once for the whole run."""
    folder = Path(mkdtemp(prefix="liuhen-reel-"))
    source = folder / "source.mp4"
    footage.make_plain(source, seconds=seconds, keyframe_every=25, seed=seed, first_frame=seed * 1000)
    report = footage.probe(source, folder)
    (made,) = footage.render(source, report, folder)
    info = {**made.info, "index": made.index.to_json()}
    return Reel(source.read_bytes(), made.path.read_bytes(), made.index, info)


@dataclass
class Recording:
    """An item of the scene and what was made from it."""

    item_id: UUID
    derivatives: dict[str, Derivative] = field(default_factory=dict)


class Scene:
    """The agency and its rows.

    Args:
        folder: For the data folder.
        database_url: SQLite or PostgreSQL.
        room: That the settings have.
    """

    def __init__(self, folder: Path, database_url: str, room: RoomSettings = ROOM) -> None:
        self.clock = SettableClock()
        self.settings: Settings = settings_for(
            folder,
            database_url,
            api__port=free_port(),
            media__port=free_port(),
            recorder__rooms=[room.model_dump()],
        )
        self.storage: Storage = replace(found(self.settings, AGENCY, self.clock), clock=self.clock)
        self.accounts: dict[str, UUID] = {}
        self._populate()
        self.case_a = self.open_case(CASE_A, "handler")
        self.case_b = self.open_case(CASE_B, "handler2")

    def _populate(self) -> None:
        now = self.clock.now() - timedelta(days=30)
        with self.storage.database.transaction() as session:
            agency = session.scalars(select(Agency)).one()
            self.agency = agency
            for number in ("330101", "330102"):
                roster.register_officer(
                    session, agency, number, "王某", certificate_no=None, actor=ACTOR, now=now
                )
            people = {str(role): role for role in Role} | {"handler2": Role.HANDLER, "officer2": Role.OFFICER}
            numbers = {"officer": "330101", "officer2": "330102"}
            for name, role in people.items():
                row = roster.add_account(
                    session, agency, username=name, display_name=name, password=PASSWORD,
                    roles=frozenset({role}), officer_no=numbers.get(name), actor=ACTOR, now=now,
                    must_change=False,
                )  # fmt: skip
                self.accounts[name] = row.id

    def open_case(self, number: str, handler: str | None) -> Case:
        with self.storage.database.transaction() as session:
            new = register.NewCase(
                number, handler_id=self.accounts[handler] if handler else None, officer_no="330101",
                opened_at=self.clock.now() - timedelta(days=20),
            )  # fmt: skip
            return register.open_case(session, self.agency, new, actor=ACTOR, now=self.clock.now())

    def record(
        self,
        *,
        seed: int = 1,
        case: Case | None = None,
        spans: list[tuple[Case, int, int]] | None = None,
        redacted: bool = True,
        rendered: bool = True,
        name: str = "DSJ01_330101_20260303100000.mp4",
        officer_no: str | None = "330101",
        hides: Mapping[str, Any] | None = None,
    ) -> Recording:
        """A verified item with rendition, posters and, unless told otherwise, a masked rendition.

        Args:
            hides: Fields of version 1 of its plan, as `RedactionPlan` has them; without, it hides nothing.
        """
        film, masked = reel(seed), reel(seed + 50)
        # Each item's own bytes: equal bytes would share an object.
        original = film.original + new_id().bytes
        with self.storage.database.transaction() as session:
            now = self.clock.now()
            held = self.put(original, Namespace.ORIGINAL)
            row = StoredObject(
                agency_id=self.agency.id, sha256=held[0], size_bytes=len(original), store_key=held[1],
                stored_at=now, verified_at=now,
            )  # fmt: skip
            session.add(row)
            session.flush()
            item = Item(
                id=new_id(), agency_id=self.agency.id, object_id=row.id, device_id=None,
                identity_key=held[0].hex(), source_kind="body_cam", media_kind=str(MediaKind.VIDEO),
                original_name=name, custody="verified", media="rendered" if rendered else "probed",
                binding="unbound", redaction="checked" if redacted else "none", held=False, key_file=False,
                flags=[], captured_from=CAPTURED, captured_to=CAPTURED + timedelta(seconds=6),
                captured_place=None, collector=officer_no, object_of_proof=None,
                duration_us=film.info["duration_us"], frame_count=film.info["frame_count"], received_at=now,
            )  # fmt: skip
            session.add(item)
            session.flush()
            if officer_no is not None:
                session.add(
                    Claim(
                        agency_id=self.agency.id, item_id=item.id, field="officer_no", value=officer_no,
                        source=str(ClaimSource.DOCK), clock=None, made_at=now,
                    )
                )  # fmt: skip
            session.add(
                Reception(
                    agency_id=self.agency.id, item_id=item.id, reception_key=f"tus:{item.id}", source="tus",
                    dock_no="D1", original_name=name, original_name_raw=name.encode(), metadata_received={},
                    leaf_id=new_id(), received_at=now, receipt=None,
                )
            )  # fmt: skip
            made = Recording(item.id)
            if rendered:
                made.derivatives["rendition"] = self.derive(
                    session, item, "rendition", film.rendition, film.info, params={"rung": {"name": "copy"}}
                )
                made.derivatives["poster"] = self.derive(session, item, "poster", JPEG + new_id().bytes, {})
            if redacted:
                info = {**masked.info, "coverage": dict(FACES_ONLY), "plan": 1}
                made.derivatives["redacted"] = self.derive(
                    session, item, "redacted", masked.rendition, info, masked=True, params={"plan": 1}
                )
                made.derivatives["redacted_poster"] = self.derive(
                    session, item, "redacted_poster", JPEG + new_id().bytes, {}, masked=True
                )
                session.add(self._plan(item, film, hides))
            for tied in [case] if case is not None else []:
                self._bind(session, item, tied, None)
            for tied, start, end in spans or []:
                self._bind(session, item, tied, (start, end))
        return made

    def hold_back(self, recording: Recording, seed: int) -> None:
        """A next version of the plan that reveals, checked and waiting for its approval."""
        film, now = reel(seed), self.clock.now()
        with self.storage.database.transaction() as session:
            item = session.scalars(select(Item).where(Item.id == recording.item_id)).one()
            plan = self._plan(item, film)
            plan.number, plan.parent_number, plan.reveals, plan.author = 2, 1, True, "account:other"
            session.add(plan)
            info = {**film.info, "coverage": dict(FACES_ONLY), AWAITS: True}
            recording.derivatives["awaiting"] = self.derive(
                session, item, "redacted", film.rendition, info, masked=True, params={"plan": 2}
            )
            recording.derivatives["awaiting_poster"] = self.derive(
                session, item, "redacted_poster", JPEG + new_id().bytes, {AWAITS: True}, masked=True,
                params={"plan": 2},
            )  # fmt: skip
            for name in ("awaiting", "awaiting_poster"):
                recording.derivatives[name].withdrawn_at = now

    def _bind(self, session: Any, item: Item, case: Case, span: tuple[int, int] | None) -> CaseBinding:
        held = cases.case_by_id(session, self.agency.id, case.id)
        return binding.bind(
            session, self.agency, item, held, author="system", reason="named", now=self.clock.now(),
            span_us=span,
        )  # fmt: skip

    def _plan(self, item: Item, film: Reel, hides: Mapping[str, Any] | None = None) -> RedactionPlanRow:
        main = film.index.main
        plan = RedactionPlan(
            item_id=str(item.id), number=1, parent=None, author="model", coverage=dict(FACES_ONLY),
            models={"centerface": "00" * 32}, parameters={},
            picture=Picture(
                main.width_px, main.height_px, (1, main.timescale), 150, film.index.origin_pts,
                film.index.origin_pts + 149 * 512,
            ),
        )  # fmt: skip
        plan = replace(plan, **(hides or {}))
        return RedactionPlanRow(
            agency_id=self.agency.id, item_id=item.id, number=1, parent_number=None,
            plan_sha256=hashlib.sha256(plan.to_bytes()).digest(), plan=plan.to_json(),
            author="worker" if plan.author == "model" else plan.author,
            made_at=self.clock.now(),
        )  # fmt: skip

    def derive(
        self,
        session: Any,
        item: Item,
        kind: str,
        body: bytes,
        info: dict[str, Any],
        *,
        masked: bool = False,
        params: dict[str, Any] | None = None,
    ) -> Derivative:
        """A derivative of those bytes, in the caller's transaction."""
        digest, key = self.put(body, Namespace.DERIVATIVE)
        plain = dict(params or {})
        row = Derivative(
            agency_id=self.agency.id, item_id=item.id, kind=kind, source_sha256=digest,
            params_digest=hashlib.sha256(canonical_json(plain)).digest(), params=plain, sha256=digest,
            size_bytes=len(body), store_key=key, masked=masked, info=info, made_at=self.clock.now(),
            content_type="image/jpeg" if "poster" in kind else "video/mp4",
        )  # fmt: skip
        session.add(row)
        session.flush()
        return row

    def put(self, body: bytes, namespace: Namespace) -> tuple[bytes, str]:
        """Bytes in the object store: their digest and key."""
        staged = self.storage.objects.staging_dir / str(new_id())
        staged.write_bytes(body)
        digest = hashlib.sha256(body).digest()
        stored = self.storage.objects.adopt(staged, digest, len(body), self.agency.id.hex, namespace)
        return digest, stored.key

    def leaves(self, subject_id: object, action: str | None = None) -> list[dict[str, Any]]:
        """Custody leaves about something, oldest first."""
        with self.storage.database.read() as session:
            found = custody.leaves_about(session, self.agency.id, str(subject_id))
        bodies: list[dict[str, Any]] = [json.loads(leaf.body or b"{}") for leaf in found]
        return [body for body in bodies if action in {None, body["action"]}]

    def close(self) -> None:
        self.storage.database.dispose()


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Serving:
    """A server in a thread of the test, on a real socket."""

    def __init__(self, serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None
        self._serve = serve
        self._thread = threading.Thread(target=self._run, name="serve")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve(self._stop))
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        except BaseException as error:
            self._failure = error
        finally:
            self._loop.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        if self._failure is not None:
            raise self._failure


@dataclass
class Live:
    """A scene that is being served."""

    scene: Scene
    api_url: str
    media_url: str
    anyone: httpx.Client
    app: FastAPI
    _askers: dict[str, httpx.Client] = field(default_factory=dict)

    def as_(self, name: str) -> httpx.Client:
        """A client that is signed in."""
        if name not in self._askers:
            answer = self.anyone.post("/api/v1/sessions", json={"username": name, "password": PASSWORD})
            assert answer.status_code == 201, answer.text
            self._askers[name] = httpx.Client(
                base_url=self.api_url,
                timeout=60,
                trust_env=False,
                headers={"Authorization": f"Bearer {answer.json()['token']}"},
            )
        return self._askers[name]

    def forgive(self) -> None:
        """Forget the wrong passwords of this machine, as after a minute."""
        self.app.state.throttle = Throttle()

    def choose_password(self, name: str) -> None:
        """What somebody does at their first sign-in; the password is `PASSWORD` again in the end."""
        for old, new in ((PASSWORD, PASSWORD[::-1]), (PASSWORD[::-1], PASSWORD)):
            answer = self.as_(name).put("/api/v1/me/password", json={"old": old, "new": new})
            assert answer.status_code == 204, answer.text

    def sign_all_out(self) -> None:
        """Forget the sessions, for instance after the clock has moved."""
        for client in self._askers.values():
            client.close()
        self._askers.clear()

    def grant(self, name: str, item_id: UUID, **more: Any) -> dict[str, Any]:
        """A grant that must be given."""
        body = {"purpose": "case_handling", **more}
        answer = self.as_(name).post(f"/api/v1/items/{item_id}/grants", json=body)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found


@contextmanager
def served(scene: Scene) -> Iterator[Live]:
    """API and media listener over the scene."""
    settings = scene.settings
    app = create_app(scene.storage, settings)
    api_line = serving.listener_of("api", settings.api)
    api = Serving(lambda stop: serving.serve(app, api_line, Interfaces.ASGI, stop))
    media_line = serving.listener_of("media", settings.media)
    media_app = MediaListener(scene.storage, settings.media)
    media = Serving(lambda stop: serve_media(media_app, media_line, settings.media, stop))
    with api, media, httpx.Client(base_url=settings.api_url, timeout=60, trust_env=False) as anyone:
        live = Live(scene, settings.api_url, settings.media_url, anyone, app)
        _wait(settings.api_url + "/healthz")
        _wait(settings.media_url + "/healthz")
        yield live
        live.sign_all_out()


def _wait(url: str) -> None:
    for _ in range(200):
        try:
            httpx.get(url, trust_env=False).raise_for_status()
        except httpx.TransportError:
            threading.Event().wait(0.05)
        else:
            return
    raise TimeoutError(url)


@contextmanager
def live_scene(folder: Path, database: str = "sqlite") -> Iterator[Live]:
    """A fresh scene over one of the databases, being served."""
    scene = Scene(folder, laid_url(database, folder))
    try:
        with served(scene) as live:
            yield live
    finally:
        scene.close()
