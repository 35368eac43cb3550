"""One agency with hostile recordings in every state, made by the pipeline itself, and who holds what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import inspect, select

from evidence.events import Event
from evidence.ids import new_id
from evidence.kinds import Role
from ingest import roster
from redaction.geometry import Box
from redaction.plan import Masks, RedactionPlan
from redaction.plan_json import plan_from_json
from storage.db import agencies, items
from storage.db.plans import AWAITS
from storage.db.tables import Agency, Derivative, StoredObject
from tests.support.hostile import LATITUDE, LONGITUDE, PLACE, Hostile, hostile_files
from tests.support.leaks import Judge
from tests.support.pipeline import WAYFINDING, Pipeline, Silence, pipeline_settings
from tests.support.scene import ACTOR, CASE_A, PASSWORD, Live, live_scene
from workers.tasks import TASKS

WINDOW = {"from_at": "2026-03-01T07:59:00Z", "to_at": "2026-03-01T08:01:00Z"}
WHOLE = {"purpose": "supervision", "variant": "original", "reason": "核对"}
OTHERS = ("reviewer", "handler2", "system_admin", "auditor")
"""Who has no right to any original: the least that sees footage, of another case, and who sees none."""


class Told(Silence):
    """Keeps what would be told to whoever watches."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> None:
        self.events.append(event)


@dataclass
class World:
    """What there is, and who holds what."""

    live: Live
    pipeline: Pipeline
    hostile: Mapping[str, Hostile]
    items: dict[str, UUID] = field(default_factory=dict)
    held: dict[str, Any] = field(default_factory=dict)
    """Answers to people with a right: grants, clips and sets that nobody else may use."""
    taken: dict[str, Any] = field(default_factory=dict)
    """The same of the reviewer, of masked renditions."""
    events: list[Event] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    """Where each picture of the first item is masked."""
    others: dict[str, httpx.Client] = field(default_factory=dict)

    def plan(self, item_id: UUID) -> RedactionPlan:
        with self.live.scene.storage.database.read() as session:
            row = items.plan_by_number(session, self.live.scene.agency.id, item_id, 1)
        return plan_from_json(row.plan)

    def rows(self) -> list[Derivative]:
        with self.live.scene.storage.database.read() as session:
            return list(session.scalars(select(Derivative).order_by(Derivative.id)))

    def content(self, store_key: str) -> bytes:
        with self.live.scene.storage.objects.open(store_key) as file:
            return file.read()

    def masked(self) -> list[Derivative]:
        """What may be shown to everybody who sees footage, now or once."""
        return [row for row in self.rows() if is_masked(row)]

    def unmasked(self) -> list[Derivative]:
        return [row for row in self.rows() if not is_masked(row)]

    def judge(self) -> Judge:
        """Made anew: what may be shown grows."""
        with self.live.scene.storage.database.read() as session:
            originals = list(session.scalars(select(StoredObject.store_key)))
        hidden = self.unmasked()
        texts = {"the place in words": PLACE}
        for place in (f"{LATITUDE:.3f}", f"{LONGITUDE:.3f}"):
            texts[place] = place.encode()
        for row in hidden:
            texts |= {f"address of {row.kind} {row.id}": f"{row.kind}-{row.sha256.hex()[:16]}".encode(),
                      f"key of {row.kind} {row.id}": row.store_key.encode()}  # fmt: skip
        for name, token in self.tokens().items():
            texts[f"token of {name}"] = token.encode()
        secrets = [self.content(key) for key in originals] + [self.content(row.store_key) for row in hidden]
        return Judge(secrets, texts, [self.content(row.store_key) for row in self.masked()])

    def tokens(self) -> dict[str, str]:
        """Capabilities of people with a right, by what they open."""
        found = {}
        for name, said in self.held.items():
            for key, url in said.items():
                if key.endswith("_url") and url and ("/m/" in url or "/playlists/" in url):
                    found[f"{name} {key}"] = url.split("/m/" if "/m/" in url else "/playlists/")[1].split(
                        "/"
                    )[0]
        return found


def is_masked(row: Derivative) -> bool:
    return row.masked and not row.info.get(AWAITS)


@contextmanager
def leak_world(folder: Path) -> Iterator[World]:
    """The world, being served."""
    with live_scene(folder) as live:
        scene = live.scene
        with scene.storage.database.transaction() as session:
            agencies.add_device(session, scene.agency.id, "CAM1", scene.clock.now())
        told = Told()
        settings = pipeline_settings(scene.settings)
        # There is no plate to be found.
        faces = settings.redaction.model_copy(update={"plates": False})
        pipeline = Pipeline(scene.storage, settings.model_copy(update={"redaction": faces}), told)
        world = World(live, pipeline, hostile_files(folder), events=told.events)
        _fill(world)
        world.others = {name: live.as_(name) for name in OTHERS}
        world.others["other agency"] = _other_agency(live)
        world.others["nobody"] = live.anyone
        yield world
        world.others["other agency"].close()


def _fill(world: World) -> None:
    live = world.live
    for name, hostile in world.hostile.items():
        accepted = world.pipeline.take(hostile.path, device_no="CAM1", case_no=CASE_A)
        world.items[name] = accepted.item_id
        # What helps to find one's way is made of the first alone.
        world.pipeline.work(only=set(TASKS) - (set() if name == "mp4" else WAYFINDING))
    main = world.items["mp4"]
    plan = world.plan(main)
    world.boxes = _boxes(plan)
    world.held["original"] = live.grant("legal_reviewer", main, **WHOLE)
    for name, who, variant in (("held", "legal_reviewer", "original"), ("taken", "reviewer", "redacted")):
        kept: dict[str, Any] = getattr(world, name)
        kept["clip"] = _asked(
            live, who, "/api/v1/clips", form="file", from_ms=0, to_ms=900, **_of(main, variant)
        )
        kept["picture"] = _asked(live, who, "/api/v1/clips", form="picture", frame=0, **_of(main, variant))
        kept["aligned"] = _asked(
            live,
            who,
            f"/api/v1/cases/{live.scene.case_a.id}/aligned",
            **WINDOW,
            **_of(None, variant, case=False),
        )
    layout = {"layout": "side_by_side", "sound": "none"}
    for key, form in (("set", {}), ("composite", layout)):
        body = {**WINDOW, **_of(None, "redacted"), **form}
        world.taken[key] = _asked(live, "reviewer", "/api/v1/clip-sets", **body)
    world.pipeline.work()
    for name, who in (("held", "legal_reviewer"), ("taken", "reviewer")):
        kept = getattr(world, name)
        for key in kept.keys() & {"clip", "picture", "set", "composite"}:
            kind = "clips" if "clip_id" in kept[key] else "clip-sets"
            shown = (
                live.as_(who).get(f"/api/v1/{kind}/{kept[key].get('clip_id') or kept[key]['set_id']}").json()
            )
            assert shown["state"] == "ready", (name, key, shown)
            kept[key] = shown
    bare = [{"op": "delete_box", "track": track.id} for track in plan.tracks]
    body = {"base_number": 1, "changes": bare, "note": "改"}
    amended = live.as_("handler").post(f"/api/v1/items/{main}/redaction/plans", json=body)
    assert amended.json()["plan"]["awaits_approval"], amended.text
    world.pipeline.work()
    world.held["awaiting"] = live.grant("legal_reviewer", main, **{**WHOLE, "variant": "awaiting"})
    world.taken["masked"] = live.grant("reviewer", main)


def _boxes(plan: RedactionPlan) -> list[Box]:
    """Where the first mask lies in each picture."""
    assert plan.picture is not None
    masks, shown = Masks(plan), plan.picture
    step = (shown.last_pts - shown.first_pts) // (shown.frame_count - 1)
    return [masks.at(pts)[0].box for pts in range(shown.first_pts, shown.last_pts + 1, step)]


def _of(item_id: UUID | None, variant: str, *, case: bool = True) -> dict[str, Any]:
    said = {"purpose": "supervision", "variant": variant, "reason": "核对"}
    said |= {"case_no": CASE_A} if case else {}
    return said | ({"item_id": str(item_id)} if item_id else {})


def _asked(live: Live, name: str, path: str, **body: Any) -> dict[str, Any]:
    answer = live.as_(name).post(path, json=body)
    assert answer.status_code in {201, 202}, (path, answer.text)
    found: dict[str, Any] = answer.json()
    return found


def _other_agency(live: Live) -> httpx.Client:
    """Its legal reviewer, who sees every original there."""
    scene = live.scene
    with scene.storage.database.transaction() as session:
        demo = agencies.agency_by_code(session, "demo")
        columns = {each.key: getattr(demo, each.key) for each in inspect(Agency).columns}
        other = Agency(**columns | {"id": new_id(), "code": "other"})
        session.add(other)
        session.flush()
        roster.add_account(
            session, other, username="stranger", display_name="外", password=PASSWORD,
            roles=frozenset({Role.LEGAL_REVIEWER}), officer_no=None, actor=ACTOR, now=scene.clock.now(),
            must_change=False,
        )  # fmt: skip
    said = {"agency": "other", "username": "stranger", "password": PASSWORD}
    answer = live.anyone.post("/api/v1/sessions", json=said)
    assert answer.status_code == 201, answer.text
    token = {"Authorization": f"Bearer {answer.json()['token']}"}
    return httpx.Client(base_url=live.api_url, timeout=60, trust_env=False, headers=token)
