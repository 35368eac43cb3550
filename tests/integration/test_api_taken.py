"""One file that is taken away: a picture, a clip, a composite, each by right, with its leaf and its sheet."""

from __future__ import annotations

import io
from collections.abc import Iterator
from copy import deepcopy
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import av
import httpx
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from evidence.ids import new_id
from media.footage import read_frame_number
from storage.db import clips
from storage.db.clip_tables import ClipSet
from storage.db.tables import Account, Derivative, Item
from tests.support.placing import film, read_clock
from tests.support.scene import CASE_A, Live, Recording
from tests.support.taking import NOON, ask_set, fetch, forget, scene_of_takers, work


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with scene_of_takers(tmp_path_factory.mktemp("taken")) as live:
        yield live


def act_as(live: Live, name: str, role: str) -> None:
    with live.scene.storage.database.transaction() as session:
        session.scalars(select(Account).where(Account.username == name)).one().roles = [role]


def ask(live: Live, name: str, **body: Any) -> httpx.Response:
    return live.as_(name).post("/api/v1/clips", json={"case_no": CASE_A, **body})


def test_one_picture_is_taken_by_right_with_leaf_and_sheet(live: Live) -> None:
    scene = live.scene
    recording = scene.record(case=scene.case_a)
    wanted = {"item_id": str(recording.item_id), "form": "picture"}
    asked = ask(live, "reviewer", **wanted, at_us=1_030_000)
    assert asked.status_code == 202, asked.text
    work(live)
    own = ask(live, "handler", **wanted, frame=149, variant="original", reason="核对")
    assert own.status_code == 202, own.text
    forget(live)
    path = asked.headers["location"]
    done = live.as_("reviewer").get(path).json()
    assert (done["form"], done["state"], done["span_us"]) == ("picture", "ready", [1_000_000, 1_000_001])
    file = fetch(done["file_url"])
    assert file.headers["content-type"] == "image/png"
    assert f"picture-{done['clip_id']}.png" in file.headers["content-disposition"]
    assert sha256(file.content).hexdigest() == done["sha256"]
    # The masked rendition of the scene is other footage than the original: numbers from 51,000 on.
    with Image.open(io.BytesIO(file.content)) as picture:
        marked = np.asarray(picture.convert("L"))
    assert marked.shape == (180, 320)
    (leaf,) = scene.leaves(recording.item_id, "clip:issued")[:1]
    facts = leaf["facts"]
    assert (facts["form"], facts["sha256"], facts["variant"]) == ("picture", done["sha256"], "redacted")
    (granted,) = scene.leaves(recording.item_id, "grant:issued")[:1]
    assert (granted["facts"]["form"], granted["facts"]["purpose"]) == ("picture", "case_handling")
    sheet = live.as_("reviewer").get(f"{path}/sheet").json()
    assert (sheet["form"], sheet["frame"], sheet["frame_count"]) == ("picture", 25, 1)
    assert (sheet["clip"]["sha256"], sheet["leaf"]["leaf_id"]) == (done["sha256"], leaf["leaf_id"])
    page = live.as_("reviewer").get(f"{path}/sheet", params={"form": "html"}).text
    assert "<code>25</code>" in page
    assert f"{leaf['leaf_id']} · 尚未排序" in page and "not yet placed" in page and "None" not in page
    original = live.as_("handler").get(own.headers["location"]).json()
    assert original["span_us"] == [5_960_000, 5_960_001]
    assert live.as_("reviewer").get(own.headers["location"]).status_code == 403
    assert fetch(done["file_url"].replace("picture.png", "clip.mp4")).status_code == 404


@pytest.mark.parametrize(
    ("name", "more", "status", "code"),
    [
        ("reviewer", {"frame": 0, "variant": "original", "reason": "x"}, 403, "not_permitted"),
        ("reviewer", {"frame": 150, "variant": "original", "reason": "x"}, 403, "not_permitted"),
        ("handler", {"frame": 0, "variant": "original"}, 422, "reason_missing"),
        ("reviewer", {"frame": 150}, 422, "picture_outside"),
        ("reviewer", {"at_us": 6_000_000}, 422, "picture_outside"),
        ("reviewer", {}, 422, "request_invalid"),
        ("reviewer", {"frame": 0, "at_us": 0}, 422, "request_invalid"),
        ("reviewer", {"frame": 0, "from_ms": 0}, 422, "request_invalid"),
        ("reviewer", {"frame": 0, "form": "file"}, 422, "request_invalid"),
        ("auditor", {"frame": 0}, 403, "not_permitted"),
    ],
)
def test_no_picture_without_the_right_or_where_there_is_none(
    live: Live, whole: str, name: str, more: dict[str, Any], status: int, code: str
) -> None:
    answer = ask(live, name, **{"item_id": whole, "form": "picture", **more})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.fixture(scope="module")
def whole(live: Live) -> str:
    return str(live.scene.record(case=live.scene.case_a).item_id)


def test_a_picture_is_inside_what_is_tied_to_the_case(live: Live) -> None:
    scene = live.scene
    spans = [(scene.case_a, 1_010_000, 2_000_000)]
    wanted = {"item_id": str(scene.record(spans=spans).item_id), "form": "picture"}
    # What is shown at 1.01 s began before it, and is of no case.
    for more, status in (
        ({"at_us": 1_010_000}, 403), ({"at_us": 1_040_000}, 202), ({"frame": 49}, 202), ({"frame": 50}, 403),
        ({"frame": 150}, 403), ({"at_us": 6_000_000}, 403),
    ):  # fmt: skip
        answer = ask(live, "reviewer", **wanted, **more)
        assert answer.status_code == status, answer.text
        # How many pictures there are in all is not said either.
        assert status == 202 or answer.json()["code"] == "span_not_permitted"
    forget(live)


def test_without_a_mark_whole_groups_are_copied_and_all_that_is_said(live: Live) -> None:
    scene = live.scene
    recording = scene.record(case=scene.case_a)
    wanted = {"item_id": str(recording.item_id), "form": "file", "marked": False, "from_ms": 1200}
    for name, more, status, code in (
        ("reviewer", {"reason": "举证"}, 403, "not_permitted"),
        ("handler", {"reason": "举证"}, 403, "not_permitted"),
        ("legal_reviewer", {}, 422, "reason_missing"),
    ):
        refused = ask(live, name, **wanted, **more)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
    asked = ask(live, "legal_reviewer", **wanted, reason="举证")
    assert asked.status_code == 202, asked.text
    work(live)
    done = live.as_("legal_reviewer").get(asked.headers["location"]).json()
    assert sha256(fetch(done["file_url"]).content).hexdigest() == done["sha256"]
    sheet = live.as_("legal_reviewer").get(f"{asked.headers['location']}/sheet").json()
    assert (sheet["marked"], sheet["frame_count"], sheet["copied_frame_count"]) == (False, 120, 100)
    for action in ("grant:issued", "clip:issued"):
        assert [leaf["facts"]["marked"] for leaf in scene.leaves(recording.item_id, action)] == [False]
    # Who may see the footage, but may leave no mark out any more, has it no longer.
    act_as(live, "legal_reviewer", "reviewer")
    assert live.as_("legal_reviewer").get(asked.headers["location"]).status_code == 403
    assert fetch(done["file_url"]).status_code == 410
    act_as(live, "legal_reviewer", "legal_reviewer")
    assert fetch(done["file_url"]).status_code == 200
    media = scene.settings.media
    object.__setattr__(media, "unmarked_clips", False)
    refused = live.as_("legal_reviewer").get(asked.headers["location"])
    object.__setattr__(media, "unmarked_clips", True)
    assert (refused.status_code, refused.json()["code"]) == (403, "unmarked_not_permitted")


def test_a_composite_is_by_right_shows_its_instants_and_ends_with_any_source(
    live: Live, tmp_path: Path
) -> None:
    """CAM-4 is two seconds slow: it began 0.5 s after CAM-3."""
    scene = live.scene
    begun = NOON + timedelta(hours=1)
    read_clock(scene, "CAM-4", begun, timedelta(seconds=2))
    one = film(scene, "CAM-3", begun, case=scene.case_b)
    two = film(scene, "CAM-4", begun - timedelta(seconds=1.5), seed=2, case=scene.case_b)
    hidden = film(scene, "CAM-5", begun, case=scene.case_b, redacted=False)
    lanes = {each.item_id: f"device:{_device(live, each)}" for each in (one, two, hidden)}
    body = {
        "layout": "side_by_side",
        "lanes": [lanes[two.item_id], lanes[one.item_id], lanes[hidden.item_id]],
    }
    first = 3_600 + 4.61
    refused = ask_set(live, "reviewer", first, first + 0.8, **body, sound="device:x")
    assert (refused.status_code, refused.json()["code"]) == (422, "sound_not_shown")
    unmarked = ask_set(live, "legal_reviewer", first, first + 0.8, **body, marked=False, reason="举证")
    assert unmarked.status_code == 202, unmarked.text
    work(live)
    path = unmarked.headers["location"]
    done = live.as_("legal_reviewer").get(path).json()
    assert (done["form"], done["state"], done["progress_permille"]) == ("side_by_side", "ready", 1000)
    assert done["left_out"] == [{"item_id": str(hidden.item_id), "why": "redaction_pending"}]
    assert {each["clip"]["file_url"] for each in done["members"]} == {None}
    file = fetch(done["file_url"])
    assert (file.headers["content-type"], sha256(file.content).hexdigest()) == ("video/mp4", done["sha256"])
    (tmp_path / "composite.mp4").write_bytes(file.content)
    sheet = live.as_("legal_reviewer").get(f"{path}/sheet").json()
    told = sheet["composite"]
    assert (told["rate"], told["frame_count"], told["sound_lane"]) == (25, 20, lanes[two.item_id])
    assert [pane["device_no"] for pane in told["panes"]] == ["CAM-4", "CAM-3"]
    offsets = {each["device_no"]: (each["offset_us"], each["offset_basis"]) for each in sheet["clips"]}
    assert offsets["CAM-4"] == (2_000_000, "after")
    read = []
    with av.open(str(tmp_path / "composite.mp4")) as container:
        for frame in container.decode(video=0):
            gray = frame.to_ndarray(format="gray").astype(np.uint8)
            boxes = [pane["box_px"] for pane in told["panes"]]
            read.append([read_frame_number(gray[y : y + h, x : x + w]) for x, y, w, h in boxes])
    # 4.61 s after CAM-3 began and 4.11 s after CAM-4 did; masked footage carries numbers from 50,000 on.
    assert read == [[52_000 + (4_110 + 40 * n) // 40, 51_000 + (4_610 + 40 * n) // 40] for n in range(20)]
    issued = [
        leaf for leaf in scene.leaves(two.item_id, "clip:issued") if leaf["facts"]["sha256"] == done["sha256"]
    ]
    assert [leaf["facts"]["form"] for leaf in issued] == ["side_by_side"]
    member = f"/api/v1/clips/{done['members'][1]['clip']['clip_id']}"
    assert live.as_("legal_reviewer").get(member).json()["form"] == "part"
    assert live.as_("legal_reviewer").get(f"{member}/sheet").json()["code"] == "nothing_here"
    page = live.as_("legal_reviewer").get(f"{path}/sheet", params={"form": "html"}).text
    assert "合成画面 Composite" in page and "+2.000000 s" in page
    late = ask_set(live, "reviewer", first, first + 0.8, **body).json()
    _withdraw(live, two)
    work(live)
    with scene.storage.database.read() as session:
        made = session.scalars(select(ClipSet.derivative_id).where(ClipSet.id == UUID(late["set_id"])))
        assert made.one() is None
    assert fetch(done["file_url"]).status_code == 410
    after = live.as_("legal_reviewer").get(path).json()
    assert (after["state"], after["file_url"]) == ("withdrawn", None)
    assert live.as_("legal_reviewer").get(f"{path}/sheet").status_code in {404, 410}


def _device(live: Live, recording: Recording) -> str:
    with live.scene.storage.database.read() as session:
        return str(session.scalars(select(Item.device_id).where(Item.id == recording.item_id)).one())


def _withdraw(live: Live, recording: Recording) -> None:
    """The masked rendition ends, as when a better one was made; the composite's row is another item's."""
    with live.scene.storage.database.transaction() as session:
        found = select(Derivative).where(
            Derivative.item_id == recording.item_id, Derivative.kind == "redacted"
        )
        session.scalars(found).one().withdrawn_at = live.scene.clock.now()


def test_an_inset_is_shown_from_a_small_rung_and_the_large_picture_from_the_largest(live: Live) -> None:
    scene, begun = live.scene, NOON + timedelta(hours=2)
    found = [film(scene, name, begun, seed=3, case=scene.case_b) for name in ("CAM-6", "CAM-7")]
    with scene.storage.database.transaction() as session:
        for each in found:
            largest = session.get_one(Derivative, each.derivatives["rendition"].id)
            item = session.get_one(Item, each.item_id)
            info = deepcopy(largest.info)
            info["height_px"] = 90
            info["index"]["tracks"][0].update(width_px=160, height_px=90)
            scene.derive(session, item, "rendition", new_id().bytes, info, params={"rung": {"name": "90p"}})
    body: dict[str, Any] = {
        "layout": "picture_in_picture", "lanes": [f"device:{_device(live, each)}" for each in found],
        "variant": "original", "reason": "举证",
    }  # fmt: skip
    asked = ask_set(live, "legal_reviewer", 7_201, 7_202, **body)
    assert asked.status_code == 202, asked.text
    forget(live)
    with scene.storage.database.read() as session:
        held = clips.set_by_id(session, scene.agency.id, UUID(asked.json()["set_id"]))
        parts = {clip.id: clip.item_id for clip in clips.clips_of_set(session, scene.agency.id, held.id)}
        shown = {
            parts[clip]: session.get_one(Derivative, source).info["index"]["tracks"][0]["height_px"]
            for clip, source in clips.source_ids_of(held).items()
        }
    assert shown == {found[0].item_id: 180, found[1].item_id: 90}
