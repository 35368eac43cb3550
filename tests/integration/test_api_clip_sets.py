"""Sets for a timeline: several clips in one file, numbered, each by its own right, with what is left out."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import av
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.resolving import resolve_clip_set
from evidence.errors import Conflict, EvidenceError
from storage.db import clips
from storage.db.clip_tables import ClipSet
from storage.db.tables import Derivative, Item, Job
from tests.support.asked import questions
from tests.support.placing import film, read_clock
from tests.support.scene import CASE_B, Live, Recording
from tests.support.taking import NOON, ask_set, fetch, forget, scene_of_takers, work
from transcode.clip_set import pack
from workers.quarantine import settle_quarantined


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with scene_of_takers(tmp_path_factory.mktemp("sets")) as live:
        yield live


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
