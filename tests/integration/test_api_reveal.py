"""Whoever takes a mask away shows nobody anything: judged by the pixels that the listener sends."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from uuid import UUID

import av
import httpx
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from media.painting import FILL
from redaction.plan import Masks, RedactionPlan
from redaction.plan_json import plan_from_json
from storage.db import agencies, items
from storage.db.plans import held_back
from storage.db.tables import Job
from tests.support import media as footage
from tests.support.pipeline import WAYFINDING, Pipeline, pipeline_settings
from tests.support.samples import sample
from tests.support.scene import CASE_A, PASSWORD, Live, live_scene

SEEDS = count(1)
BOX = {"op": "add_box", "shape": "rectangle", "reason": "privacy", "keys": [[0, 0, 0, 40, 40, 0]]}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("reveal")) as live:
        with live.scene.storage.database.transaction() as session:
            agencies.add_device(session, live.scene.agency.id, "CAM1", live.scene.clock.now())
        opened = live.as_("security_officer").post(
            "/api/v1/accounts",
            json={"username": "legal2", "display_name": "法制", "password": PASSWORD,
                  "roles": ["legal_reviewer"]},
        )  # fmt: skip
        assert opened.status_code == 201, opened.text
        live.choose_password("legal2")
        yield live


@dataclass
class Footage:
    """An item with a face on it, redacted by the pipeline itself."""

    live: Live
    pipeline: Pipeline
    item_id: UUID
    plan: RedactionPlan

    @property
    def path(self) -> str:
        return f"/api/v1/items/{self.item_id}"

    def amend(self, name: str, base: int, *changes: dict[str, Any]) -> httpx.Response:
        body = {"base_number": base, "changes": list(changes), "note": "改"}
        return self.live.as_(name).post(f"{self.path}/redaction/plans", json=body)

    def approve(self, name: str, number: int) -> httpx.Response:
        return self.live.as_(name).post(f"{self.path}/redaction/approve", json={"number": number})

    def bare(self) -> list[dict[str, Any]]:
        return [{"op": "delete_box", "track": track.id} for track in self.plan.tracks]

    def is_face_hidden(self, folder: Path) -> bool:
        """Whether every frame a reviewer is sent has the fill where version 1 hides the face."""
        grant = self.live.grant("reviewer", self.item_id)
        assert grant["state"] == "ready", grant
        answer = httpx.get(grant["file_url"], trust_env=False, timeout=20)
        assert answer.status_code == 200
        path = folder / "sent.mp4"
        path.write_bytes(answer.content)
        masks = Masks(self.plan)
        worst = 0.0
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                luma = frame.to_ndarray(format="yuv420p")[: frame.height].astype(np.int16)
                for region in masks.at(frame.pts):
                    inner = luma[region.box.y0 + 2 : region.box.y1 - 2, region.box.x0 + 2 : region.box.x1 - 2]
                    worst = max(worst, float(np.abs(inner - FILL[0]).mean()))
        return worst < 8


@pytest.fixture
def shown(live: Live, tmp_path: Path) -> Footage:
    clip = tmp_path / "clip.mp4"
    footage.make_plain(clip, seconds=1, fps=5, face=sample("astronaut.png"), seed=next(SEEDS))
    pipeline = Pipeline(live.scene.storage, pipeline_settings(live.scene.settings))
    accepted = pipeline.take(clip, device_no="CAM1", case_no=CASE_A)
    pipeline.work()
    with live.scene.storage.database.read() as session:
        row = items.plan_by_number(session, live.scene.agency.id, accepted.item_id, 1)
    made = Footage(live, pipeline, accepted.item_id, plan_from_json(row.plan))
    assert made.plan.tracks
    assert made.is_face_hidden(tmp_path)
    return made


def test_a_deleted_mask_stays_until_another_person_has_approved(shown: Footage, tmp_path: Path) -> None:
    live = shown.live
    answer = shown.amend("handler", 1, *shown.bare())
    assert answer.status_code == 201, answer.text
    assert answer.json()["plan"]["reveals"]
    assert answer.json()["plan"]["awaits_approval"]
    early = shown.approve("legal_reviewer", 2)
    assert (early.status_code, early.json()["code"]) == (409, "redaction_pending")
    shown.pipeline.work()
    assert shown.is_face_hidden(tmp_path)
    leaves = live.scene.leaves(shown.item_id, "redaction:checked")
    assert [leaf["facts"]["awaits_approval"] for leaf in leaves] == [False, True]
    assert live.as_("reviewer").get(shown.path).json()["is_reviewable"]
    assert shown.approve("handler", 2).status_code == 403
    approved = shown.approve("legal_reviewer", 2)
    assert (approved.status_code, approved.json()["redaction"]) == (200, "approved")
    assert not shown.is_face_hidden(tmp_path)


PREVIEW = {"variant": "awaiting", "purpose": "supervision", "reason": "审核前预览"}


def test_an_approver_sees_what_they_are_to_approve_and_nobody_else_does(
    shown: Footage, tmp_path: Path
) -> None:
    live = shown.live
    ask = partial(live.as_("legal_reviewer").post, f"{shown.path}/grants")
    nothing = ask(json=PREVIEW)
    assert (nothing.status_code, nothing.json()["code"]) == (409, "nothing_awaits_approval")
    assert shown.amend("handler", 1, *shown.bare()).status_code == 201
    assert ask(json=PREVIEW).json()["state"] == "pending"
    shown.pipeline.work()
    blind = ask(json={**PREVIEW, "reason": None})
    assert (blind.status_code, blind.json()["code"]) == (422, "reason_missing")
    for name in ("handler", "handler2", "reviewer", "archivist", "officer", "auditor", "system_admin"):
        refused = live.as_(name).post(f"{shown.path}/grants", json=PREVIEW)
        assert (refused.status_code, refused.json()["code"]) == (403, "not_permitted"), name

    grant = live.grant("legal_reviewer", shown.item_id, **PREVIEW)
    assert grant["state"] == "ready"
    sent = httpx.get(grant["file_url"], trust_env=False, timeout=20)
    assert sent.status_code == 200
    assert httpx.get(grant["poster_url"], trust_env=False).status_code == 200
    with live.scene.storage.database.read() as session:
        rows = held_back(session, live.scene.agency.id, shown.item_id, 2)
        (held,) = [row for row in rows if row.kind == "redacted"]
    assert hashlib.sha256(sent.content).digest() == held.sha256
    playlist = live.anyone.get(grant["playlist_url"])
    assert playlist.status_code == 200
    assert grant["file_url"].rpartition("/")[2] in playlist.text
    assert shown.is_face_hidden(tmp_path), "the others go on seeing the version in force"
    (issued,) = live.scene.leaves(shown.item_id, "preview:issued")
    assert issued["facts"]["grant"] == grant["grant_id"]
    variants = [leaf["facts"]["variant"] for leaf in live.scene.leaves(shown.item_id, "playlist:issued")]
    assert variants == ["awaiting"]
    # The name of what waits opens nothing under a grant of what is served, nor the other way round.
    masked = live.grant("reviewer", shown.item_id)
    folder, _, name = grant["file_url"].rpartition("/")
    masked_folder, _, masked_name = masked["file_url"].rpartition("/")
    assert httpx.get(f"{masked_folder}/{name}", trust_env=False).status_code == 410
    assert httpx.get(f"{folder}/{masked_name}", trust_env=False).status_code == 404
    assert httpx.get(f"{folder}/original", trust_env=False).status_code == 404

    assert shown.approve("legal_reviewer", 2).status_code == 200
    assert httpx.get(grant["file_url"], trust_env=False).status_code == 410
    assert not shown.is_face_hidden(tmp_path)


def test_a_preview_ends_with_the_next_version(shown: Footage) -> None:
    assert shown.amend("handler", 1, *shown.bare()).status_code == 201
    shown.pipeline.work()
    grant = shown.live.grant("legal_reviewer", shown.item_id, **PREVIEW)
    assert httpx.get(grant["file_url"], trust_env=False).status_code == 200
    back = {"op": "accept_box", "track": shown.plan.tracks[0].id}
    assert shown.amend("handler", 2, back).status_code == 201
    assert httpx.get(grant["file_url"], trust_env=False).status_code == 410


def test_nobody_approves_what_they_or_a_helper_built_on(shown: Footage, tmp_path: Path) -> None:
    assert shown.amend("legal_reviewer", 1, *shown.bare()).status_code == 201
    assert shown.amend("handler", 2, {"op": "set_reason", "track": shown.plan.tracks[0].id,
                                      "reason": "minor"}).json()["plan"]["reveals"]  # fmt: skip
    shown.pipeline.work()
    own = shown.approve("legal_reviewer", 3)
    assert (own.status_code, own.json()["code"]) == (403, "plan_own")
    assert shown.is_face_hidden(tmp_path)
    assert shown.approve("legal2", 3).status_code == 200
    assert not shown.is_face_hidden(tmp_path)


def test_nobody_approves_their_own_after_others_undid_it_and_that(shown: Footage) -> None:
    assert shown.amend("legal_reviewer", 1, *shown.bare()).status_code == 201
    for base, number in ((2, 1), (3, 2)):
        body = {"base_number": base, "note": "改"}
        undone = shown.live.as_("handler").post(f"{shown.path}/redaction/plans/{number}/restore", json=body)
        assert undone.status_code == 201, undone.text
    assert undone.json()["plan"]["awaits_approval"]
    own = shown.approve("legal_reviewer", 4)
    assert (own.status_code, own.json()["code"]) == (403, "plan_own")
    amended = shown.live.scene.leaves(shown.item_id, "redaction_plan:amended")
    assert [leaf["facts"].get("restored_from") for leaf in amended] == [None, 1, 2]


def test_a_version_that_hides_and_reveals_ends_what_was_shown_and_waits(
    shown: Footage, tmp_path: Path
) -> None:
    grant = shown.live.grant("reviewer", shown.item_id)
    assert shown.amend("handler", 1, BOX, *shown.bare()).status_code == 201
    shown.pipeline.work()
    assert httpx.get(grant["file_url"], trust_env=False).status_code == 410
    assert shown.live.grant("reviewer", shown.item_id)["state"] == "pending"
    poster = shown.live.as_("reviewer").get(f"{shown.path}/poster")
    assert poster.headers["x-liuhen-state"] == "pending"
    clip = {"case_no": CASE_A, "item_id": str(shown.item_id), "form": "file"}
    assert shown.live.as_("reviewer").post("/api/v1/clips", json=clip).json()["code"] == "redaction_pending"
    back = [{"op": "accept_box", "track": track.id} for track in shown.plan.tracks]
    again = shown.amend("handler", 2, *back)
    assert not again.json()["plan"]["reveals"]
    shown.pipeline.work()
    assert shown.is_face_hidden(tmp_path)


def test_hiding_more_is_served_as_soon_as_it_is_checked(shown: Footage, tmp_path: Path) -> None:
    grant = shown.live.grant("reviewer", shown.item_id)
    assert not shown.amend("handler", 1, BOX).json()["plan"]["reveals"]
    assert httpx.get(grant["file_url"], trust_env=False).status_code == 410
    shown.pipeline.work()
    assert shown.is_face_hidden(tmp_path)


def test_without_the_right_to_the_original_a_plan_is_neither_read_nor_changed(shown: Footage) -> None:
    answer = shown.amend("handler2", 1, *shown.bare())
    assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted")
    assert shown.live.as_("handler2").get(f"{shown.path}/redaction/plans/1").status_code == 403
    assert shown.live.as_("handler").get(f"{shown.path}/redaction/plans/1").status_code == 200


def test_what_the_check_finds_is_shown_only_when_a_named_person_lets_it_pass(
    live: Live, tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    footage.make_plain(clip, seconds=1, fps=5, face=sample("astronaut.png"), seed=next(SEEDS))
    settings = pipeline_settings(live.scene.settings)
    # So low that the other detector takes anything for a face.
    redaction = settings.redaction.model_copy(update={"check_score": 0.1})
    pipeline = Pipeline(live.scene.storage, settings.model_copy(update={"redaction": redaction}))
    item_id = pipeline.take(clip, device_no="CAM1", case_no=CASE_A).item_id
    pipeline.work()
    assert "redaction_check_failed" in pipeline.flags(item_id)
    assert live.grant("reviewer", item_id)["state"] == "pending"
    path = f"/api/v1/items/{item_id}/redaction"
    found = live.as_("legal_reviewer").get(f"{path}/plans/1/check").json()
    assert found["codes"] == ["face_left"]
    assert found["findings"][0]["zh"]
    lacks = live.as_("reviewer").get(f"{path}/reviews").json()["lacks"]
    assert [lack["code"] for lack in lacks] == ["check_failed"]
    passed = live.as_("legal_reviewer").post(f"{path}/plans/1/override", json={"reason": "墙上花纹"})
    assert passed.status_code == 200, passed.text
    pipeline.work()
    assert live.grant("reviewer", item_id)["state"] == "ready"
    (checked,) = live.scene.leaves(item_id, "redaction:checked")
    assert checked["facts"]["overridden"] == ["face_left"]


WAYS = ("thumbnails_url", "waveform_url", "waveform_image_url", "scenes_url")


def find_ways(shown: Footage) -> None:
    """Make what was left out for the other tests."""
    with shown.live.scene.storage.database.transaction() as session:
        for job in session.scalars(
            select(Job).where(
                Job.subject_id == shown.item_id, Job.kind.in_(WAYFINDING), Job.state == "cancelled"
            )
        ):
            job.state = "ready"
    shown.pipeline.work(only=WAYFINDING)


def sheet_of(grant: dict[str, Any]) -> tuple[str, Image.Image]:
    """Address and content of the first contact sheet a player would fetch."""
    track = httpx.get(grant["thumbnails_url"], trust_env=False)
    assert track.headers["content-type"] == "text/vtt"
    name = track.text.split("\n")[3].partition("#")[0]
    url = urljoin(grant["thumbnails_url"], name)
    answer = httpx.get(url, trust_env=False)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    return url, Image.open(io.BytesIO(answer.content))


def hidden_share(sheet: Image.Image, plan: RedactionPlan) -> float:
    """How far the middle of the first tile's mask is from its fill, in levels."""
    assert plan.picture is not None
    box = Masks(plan).at(plan.picture.first_pts)[0].box
    luma = np.asarray(sheet.convert("YCbCr"))[..., 0].astype(np.int16)
    # A tile of a picture 320 pixels wide has half its size.
    inner = luma[box.y0 // 2 + 4 : box.y1 // 2 - 4, box.x0 // 2 + 4 : box.x1 // 2 - 4]
    return float(np.abs(inner - np.median(inner)).mean())


def test_ways_through_a_masked_rendition_are_masked_held_back_and_withdrawn_with_it(shown: Footage) -> None:
    live = shown.live
    find_ways(shown)
    masked = live.grant("reviewer", shown.item_id)
    whole = live.grant("legal_reviewer", shown.item_id, variant="original", reason="核对")
    assert httpx.get(whole["poster_url"], trust_env=False).status_code == 200
    part = live.grant("reviewer", shown.item_id, span={"from_us": 0, "to_us": 500_000})
    assert [part[name] for name in WAYS] == [None] * 4
    for name in WAYS:
        assert httpx.get(masked[name], trust_env=False).status_code == 200
        assert httpx.get(whole[name], trust_env=False).status_code == 200
        stolen = urljoin(masked[name], whole[name].rsplit("/", 1)[1])
        assert httpx.get(stolen, trust_env=False).status_code == 404
    masked_url, masked_sheet = sheet_of(masked)
    whole_url, whole_sheet = sheet_of(whole)
    assert httpx.get(urljoin(masked_url, whole_url.rsplit("/", 1)[1]), trust_env=False).status_code == 404
    assert hidden_share(masked_sheet, shown.plan) < 4 < hidden_share(whole_sheet, shown.plan)
    leaves = live.scene.leaves(shown.item_id)
    issued = [leaf["action"] for leaf in leaves if leaf["facts"].get("grant") == whole["grant_id"]]
    assert sorted(issued) == [
        "grant:issued",
        "scenes:issued",
        "sheet:issued",
        "still:issued",
        "waveform:issued",
    ]

    assert shown.amend("handler", 1, *shown.bare()).status_code == 201
    shown.pipeline.work()
    find_ways(shown)
    # The version that reveals is held back with all that was made from it; the one in force goes on.
    assert live.grant("reviewer", shown.item_id)["thumbnails_url"].endswith(masked["thumbnails_url"][-20:])
    preview = live.grant("legal_reviewer", shown.item_id, **PREVIEW)
    preview_url, preview_sheet = sheet_of(preview)
    assert hidden_share(preview_sheet, shown.plan) > 4
    assert httpx.get(urljoin(masked_url, preview_url.rsplit("/", 1)[1]), trust_env=False).status_code == 410
    assert shown.approve("legal_reviewer", 2).status_code == 200
    for url in (masked_url, masked["thumbnails_url"], masked["scenes_url"]):
        assert httpx.get(url, trust_env=False).status_code == 410
    # The sound is the same, to the bit.
    assert httpx.get(masked["waveform_url"], trust_env=False).status_code == 200
    assert (
        sheet_of(live.grant("reviewer", shown.item_id))[0].rsplit("/", 1)[1] == preview_url.rsplit("/", 1)[1]
    )

    assert shown.amend("handler", 2, BOX).status_code == 201
    approved = live.grant("reviewer", shown.item_id)
    assert [approved[name] for name in WAYS] == [None] * 4
    for url in (preview_url, masked["waveform_url"]):
        assert httpx.get(url, trust_env=False).status_code == 410
