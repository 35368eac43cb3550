"""What is taken away, made by a worker: pictures and clips, each by right, with its leaf and its sheet."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
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
from sqlalchemy.orm import Session

from api.resolving import resolve_clip_set
from evidence.errors import Conflict, EvidenceError
from evidence.ids import new_id
from media.footage import read_frame_number
from storage.db import clips
from storage.db.clip_tables import ClipSet
from storage.db.tables import Account, Derivative, Item, Job
from tests.support.asked import questions
from tests.support.pipeline import Pipeline
from tests.support.placing import film, read_clock
from tests.support.scene import CASE_A, CASE_B, Live, Recording, Scene, served
from transcode.clip_set import pack
from workers.quarantine import settle_quarantined


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("taken")
    scene = Scene(folder, f"sqlite:///{folder / 'test.db'}")
    media = scene.settings.media.model_copy(update={"unmarked_clips": True})
    scene.settings = scene.settings.model_copy(update={"media": media})
    with served(scene) as live:
        yield live
    scene.close()


def forget(live: Live) -> None:
    """Whatever is wanted is not made: only its asking was of interest."""
    with live.scene.storage.database.transaction() as session:
        for job in session.scalars(select(Job).where(Job.state == "ready")):
            job.state = "cancelled"


def act_as(live: Live, name: str, role: str) -> None:
    with live.scene.storage.database.transaction() as session:
        session.scalars(select(Account).where(Account.username == name)).one().roles = [role]


def work(live: Live, *kinds: str) -> None:
    Pipeline(live.scene.storage, live.scene.settings).work(only=set(kinds) or {"clip", "clip_set"})


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


# Sets for a timeline.

NOON = datetime(2026, 3, 3, 4, tzinfo=UTC)


def at(seconds: float) -> str:
    return (NOON + timedelta(seconds=seconds)).isoformat()


@pytest.fixture(scope="module")
def filmed(live: Live) -> list[Recording]:
    """Two cameras, one of them three seconds slow; one recording is not masked yet, one has no time."""
    scene = live.scene
    read_clock(scene, "CAM-2", NOON, timedelta(seconds=3))
    return [
        film(scene, "CAM-1", NOON + timedelta(seconds=8), case=scene.case_b),
        film(scene, "CAM-2", NOON - timedelta(seconds=3), seed=2, case=scene.case_b),
        film(scene, "CAM-1", NOON + timedelta(seconds=20), case=scene.case_b, redacted=False),
        film(scene, "CAM-1", None, case=scene.case_b),
    ]


def ask_set(live: Live, name: str, first: float, last: float, **more: Any) -> httpx.Response:
    body = {"case_no": CASE_B, "purpose": "litigation", "from_at": at(first), "to_at": at(last), **more}
    return live.as_(name).post("/api/v1/clip-sets", json=body)


@pytest.fixture(scope="module")
def packed(live: Live, filmed: list[Recording]) -> str:
    """Where a set of two clips is told of."""
    del filmed
    asked = ask_set(live, "reviewer", 2, 30)
    assert asked.status_code == 202, asked.text
    path, working = asked.headers["location"], asked.json()
    assert (working["state"], working["file_url"], working["unplaced_count"]) == ("working", None, 1)
    assert live.as_("reviewer").get(f"{path}/sheet").json()["code"] == "clip_not_ready"
    work(live)
    return path


def test_a_set_is_numbered_by_corrected_time_and_names_its_gaps(
    live: Live, filmed: list[Recording], packed: str, tmp_path: Path
) -> None:
    path = packed
    done = live.as_("reviewer").get(path).json()
    assert (done["state"], done["progress_permille"]) == ("ready", 1000)
    members = [(each["number"], each["clip"]["item_id"], each["clip"]["span_us"]) for each in done["members"]]
    assert members == [
        (1, str(filmed[1].item_id), [2_000_000, 6_000_000]),
        (2, str(filmed[0].item_id), [0, 6_000_000]),
    ]
    assert done["left_out"] == [{"item_id": str(filmed[2].item_id), "why": "redaction_pending"}]
    over_all = [gap for gap in done["gaps"] if gap["lane"] is None]
    assert [(gap["starts_at"], gap["duration_us"]) for gap in over_all] == [
        ("2026-03-03T04:00:06Z", 2_000_000),
        ("2026-03-03T04:00:14Z", 16_000_000),
    ]
    assert len({gap["lane"] for gap in done["gaps"]}) == 3
    file = fetch(done["file_url"])
    assert file.headers["content-type"] == "application/zip"
    assert sha256(file.content).hexdigest() == done["sha256"]
    with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
        assert archive.testzip() is None
        assert {each.compress_type for each in archive.infolist()} == {zipfile.ZIP_STORED}
        names = ["001-20260303T120002.mp4", "002-20260303T120008.mp4"]
        assert archive.namelist() == ["sheet.json", "sheet.html", *names]
        for name, each in zip(names, done["members"], strict=True):
            assert sha256(archive.read(name)).hexdigest() == each["clip"]["sha256"]
            assert fetch(each["clip"]["file_url"]).content == archive.read(name)
        sheet, page = json.loads(archive.read("sheet.json")), archive.read("sheet.html").decode()
        (tmp_path / "1.mp4").write_bytes(archive.read(names[0]))
    # The masked footage of the scene carries numbers from 52,000 on; the mark lies over the last of them.
    with av.open(str(tmp_path / "1.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 100
    assert sheet == live.as_("reviewer").get(f"{path}/sheet").json()
    assert page == live.as_("reviewer").get(f"{path}/sheet", params={"form": "html"}).text
    assert [each["file"] for each in sheet["clips"]] == names
    assert [(each["marked"], each["masked"]) for each in sheet["clips"]] == [(True, True)] * 2
    assert sheet["clips"][0]["coverage"]["voices"] == "untreated"
    assert (sheet["clips"][0]["offset_us"], sheet["purpose"]) == (3_000_000, "litigation")
    for said in (CASE_B, done["members"][0]["clip"]["sha256"], "16.000000 s", str(filmed[2].item_id)):
        assert said in page
    issued = live.scene.leaves(live.scene.case_b.id, "clip:issued")
    assert [leaf["facts"]["sha256"] for leaf in issued] == [done["sha256"]]
    grants = live.scene.leaves(filmed[0].item_id, "grant:issued")
    assert [leaf["facts"]["set"] for leaf in grants] == [done["set_id"]]
    assert live.as_("officer").get(path).status_code == 403
    with live.scene.storage.database.read() as session:
        length = clips.length_of_subject(session, live.scene.agency.id, UUID(done["set_id"]))
        cut_from = list(
            session.scalars(select(Item).where(Item.id.in_([each.item_id for each in filmed[:2]])))
        )
    assert length == (
        sum(each.duration_us for each in cut_from),
        sum(each.frame_count or 0 for each in cut_from),
    )


def test_packing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    sheets = {"sheet.json": b"{}"}
    (tmp_path / "one").write_bytes(b"a clip")
    for name in ("a.zip", "b.zip"):
        pack(
            tmp_path / name,
            [("001.mp4", tmp_path / "one")],
            sheets,
            on_progress=lambda _: None,
            is_cancelled=lambda: False,
        )
        os.utime(tmp_path / "one", (1, 1))
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with pytest.raises(Conflict):
        pack(
            tmp_path / "c.zip",
            [("001.mp4", tmp_path / "one")],
            sheets,
            on_progress=lambda _: None,
            is_cancelled=lambda: True,
        )
    assert not (tmp_path / "c.zip").exists()
    with pytest.raises(EvidenceError, match=r"clip 002\.mp4: .*No such file"):
        pack(
            tmp_path / "d.zip",
            [("001.mp4", tmp_path / "one"), ("002.mp4", tmp_path / "gone")],
            sheets,
            on_progress=lambda _: None,
            is_cancelled=lambda: False,
        )
    assert not (tmp_path / "d.zip").exists()


def test_packing_hears_a_cancel_in_the_midst_of_a_large_clip(tmp_path: Path) -> None:
    with (tmp_path / "one").open("wb") as file:
        file.truncate(8 << 20)
    heard: list[float] = []
    with pytest.raises(Conflict):
        pack(
            tmp_path / "a.zip",
            [("001.mp4", tmp_path / "one")],
            {},
            on_progress=heard.append,
            is_cancelled=lambda: len(heard) == 2,
        )
    assert heard == [0.125, 0.25]


def pack_of(session: Session, set_id: str) -> Derivative:
    """What a set is packed into now."""
    query = select(Derivative).join(ClipSet, ClipSet.derivative_id == Derivative.id)
    return session.scalars(query.where(ClipSet.id == UUID(set_id))).one()


def test_what_could_not_be_cut_is_named_and_the_others_are_handed_over(
    live: Live, filmed: list[Recording]
) -> None:
    asked = ask_set(live, "reviewer", 4, 9).json()
    path = f"/api/v1/clip-sets/{asked['set_id']}"
    uncut = asked["members"][0]

    def job_of(session: Session) -> Job:
        return session.scalars(select(Job).where(Job.subject_id == UUID(uncut["clip"]["clip_id"]))).one()

    with live.scene.storage.database.transaction() as session:
        job = job_of(session)
        job.state = "quarantined"
        session.flush()
        settle_quarantined(session, job.id, "decoder_crashed", live.scene.storage.clock.now())
    assert live.as_("reviewer").get(path).json()["state"] == "working"
    work(live)
    done = live.as_("reviewer").get(path).json()
    assert (done["state"], done["progress_permille"]) == ("ready", 1000)
    assert [each["clip"]["state"] for each in done["members"]] == ["failed", "ready"]
    with zipfile.ZipFile(io.BytesIO(fetch(done["file_url"]).content)) as archive:
        assert archive.namelist() == ["sheet.json", "sheet.html", "002-20260303T120008.mp4"]
        sheet, page = json.loads(archive.read("sheet.json")), archive.read("sheet.html").decode()
    assert [each["number"] for each in sheet["clips"]] == [2]
    (named,) = sheet["not_cut"]
    assert (named["number"], named["item_id"]) == (1, str(filmed[1].item_id))
    assert named["starts_at"].startswith(uncut["starts_at"].rstrip("Z"))
    assert named["why"] == "decoder_crashed"
    assert "未能裁剪 Could not be cut" in page and "decoder_crashed" in page
    # Requeued once what was wrong is mended, it is in the set too.
    with live.scene.storage.database.transaction() as session:
        job_of(session).state = "ready"
    work(live, "clip")
    assert live.as_("reviewer").get(path).json()["sha256"] == done["sha256"]
    with live.scene.storage.database.read() as session:
        first = pack_of(session, asked["set_id"])
    # Until then its sheet is the one of the file that there is.
    assert live.as_("reviewer").get(f"{path}/sheet").json() == sheet
    with live.scene.storage.database.transaction() as session:
        for job in session.scalars(select(Job).where(Job.subject_id == UUID(asked["set_id"]))):
            job.state = "ready" if job.state == "cancelled" else job.state
    work(live, "clip_set", "discard_pack")
    after = live.as_("reviewer").get(path).json()
    with zipfile.ZipFile(io.BytesIO(fetch(after["file_url"]).content)) as archive:
        assert len(archive.namelist()) == 4
        assert json.loads(archive.read("sheet.json"))["not_cut"] == []
    # Tens of gigabytes that nothing leads to are kept by nobody.
    objects = live.scene.storage.objects
    with live.scene.storage.database.read() as session:
        before = session.scalars(select(Derivative).where(Derivative.id == first.id)).one()
        now_is = pack_of(session, asked["set_id"])
    assert before.withdrawn_at is not None and not objects.exists(before.store_key)
    assert objects.exists(now_is.store_key)
    (leaf,) = [
        each
        for each in live.scene.leaves(before.item_id, "derivative:withdrawn")
        if each["facts"]["derivative"] == str(first.id)
    ]
    assert leaf["facts"]["reason"] == "packed again"


def test_a_set_of_which_nothing_could_be_cut_has_failed(live: Live, filmed: list[Recording]) -> None:
    del filmed
    asked = ask_set(live, "reviewer", 4.5, 9).json()
    with live.scene.storage.database.transaction() as session:
        for each in asked["members"]:
            job = session.scalars(select(Job).where(Job.subject_id == UUID(each["clip"]["clip_id"]))).one()
            job.state = "quarantined"
            session.flush()
            settle_quarantined(session, job.id, "decoder_crashed", live.scene.storage.clock.now())
    done = live.as_("reviewer").get(f"/api/v1/clip-sets/{asked['set_id']}").json()
    assert (done["state"], done["file_url"]) == ("failed", None)


def test_what_shows_no_picture_in_the_window_spoils_no_set(live: Live, filmed: list[Recording]) -> None:
    # The last picture of the first recording begins at 5.96 s.
    asked = ask_set(live, "reviewer", 5.97, 9).json()
    forget(live)
    assert [each["clip"]["item_id"] for each in asked["members"]] == [str(filmed[0].item_id)]
    assert asked["left_out"] == [{"item_id": str(filmed[1].item_id), "why": "span_empty"}]
    alone = ask_set(live, "reviewer", 5.97, 6)
    assert (alone.status_code, alone.json()["code"]) == (422, "span_empty")


@pytest.mark.parametrize(
    ("name", "most", "code"),
    [
        ("MOST_CLIPS", 1, "set_too_large"),
        ("MOST_ASKED", 2, "set_too_large"),
        ("LONGEST_FOOTAGE", timedelta(seconds=9), "set_too_long"),
    ],
)
def test_a_set_is_bounded(
    live: Live, filmed: list[Recording], monkeypatch: pytest.MonkeyPatch, name: str, most: object, code: str
) -> None:
    del filmed
    monkeypatch.setattr(f"api.clip_sets.{name}", most)
    answer = ask_set(live, "reviewer", 2, 30)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_whether_a_set_may_be_sent_is_asked_at_once(live: Live, packed: str) -> None:
    scene, set_id = live.scene, UUID(packed.rsplit("/", 1)[1])
    database = scene.storage.database

    def count() -> int:
        with questions(database) as said, database.read() as session:
            resolve_clip_set(session, scene.storage, scene.agency.id, set_id, "clips.zip")
        return len(said)

    few = count()
    with database.transaction() as session:
        first = clips.clips_of_set(session, scene.agency.id, set_id)[0]
        for place in range(3, 13):
            another = clips.add_clip(
                session, scene.agency.id, account_id=first.account_id, item_id=first.item_id,
                case_id=first.case_id, form="file", marked=True, variant=first.variant,
                span_us=(first.span_from_us, first.span_to_us), purpose=first.purpose, reason=None,
                now=first.requested_at, seat=(set_id, place),
            )  # fmt: skip
            another.derivative_id = first.derivative_id
    many = count()
    with database.transaction() as session:
        for another in clips.clips_of_set(session, scene.agency.id, set_id)[2:]:
            session.delete(another)
    # The bindings of each, and nothing else.
    assert many - few == 10


def test_a_set_ends_with_the_right_to_any_of_it(live: Live, filmed: list[Recording], packed: str) -> None:
    path = packed
    url = live.as_("reviewer").get(path).json()["file_url"]
    assert fetch(url).status_code == 200
    change = {"op": "mask_frames", "from_pts": 0, "to_pts": 9, "reason": "minor"}
    amend = {"base_number": 1, "changes": [change], "note": "x"}
    plans = f"/api/v1/items/{filmed[0].item_id}/redaction/plans"
    assert live.as_("handler2").post(plans, json=amend).status_code == 201
    assert fetch(url).status_code == 410
    after = live.as_("reviewer").get(path).json()
    assert (after["state"], after["file_url"]) == ("withdrawn", None)
    assert live.as_("reviewer").get(f"{path}/sheet").status_code == 410


@pytest.mark.parametrize(
    ("name", "first", "last", "more", "status", "code"),
    [
        ("reviewer", 100, 200, {}, 404, "window_empty"),
        ("reviewer", 0, 5, {"lanes": ["device:none"]}, 404, "window_empty"),
        ("reviewer", 0, 90_000, {}, 422, "window_too_long"),
        ("reviewer", 5, 0, {}, 422, "request_invalid"),
        ("reviewer", 0, 5, {"from_at": "0001-01-01T00:00:00+08:00"}, 422, "request_invalid"),
        ("reviewer", 0, 5, {"variant": "original", "reason": "x"}, 403, "not_permitted"),
        ("legal_reviewer", 0, 5, {"marked": False}, 422, "reason_missing"),
        ("reviewer", 20, 25, {}, 409, "redaction_pending"),
        ("auditor", 0, 5, {}, 403, "not_permitted"),
    ],
)
def test_no_set_where_nothing_may_be_had(
    live: Live,
    filmed: list[Recording],
    name: str,
    first: float,
    last: float,
    more: dict[str, Any],
    status: int,
    code: str,
) -> None:
    del filmed
    answer = ask_set(live, name, first, last, **more)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


# Composites.


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
