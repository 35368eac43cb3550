"""What is taken away, made by a worker: pictures and clips, each by right, with its leaf and its sheet."""

from __future__ import annotations

import io
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.support.pipeline import Pipeline
from tests.support.scene import CASE_A, Live, Scene, served


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("taken")
    scene = Scene(folder, f"sqlite:///{folder / 'test.db'}")
    media = scene.settings.media.model_copy(update={"unmarked_clips": True})
    scene.settings = scene.settings.model_copy(update={"media": media})
    with served(scene) as live:
        yield live
    scene.close()


def work(live: Live) -> None:
    Pipeline(live.scene.storage, live.scene.settings).work(only={"clip"})


def ask(live: Live, name: str, **body: Any) -> httpx.Response:
    return live.as_(name).post("/api/v1/clips", json={"case_no": CASE_A, **body})


def fetch(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False, timeout=60)


def test_one_picture_is_taken_by_right_with_leaf_and_sheet(live: Live) -> None:
    scene = live.scene
    recording = scene.record(case=scene.case_a)
    wanted = {"item_id": str(recording.item_id), "form": "picture"}
    asked = ask(live, "reviewer", **wanted, at_us=1_030_000)
    assert asked.status_code == 202, asked.text
    own = ask(live, "handler", **wanted, frame=149, variant="original", reason="核对")
    assert own.status_code == 202, own.text
    work(live)
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
    ):  # fmt: skip
        answer = ask(live, "reviewer", **wanted, **more)
        assert answer.status_code == status, answer.text


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
