"""The separated offices: devices and jobs, accounts, and the auditor's view of custody."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from evidence import merkle
from evidence.custody import parse_checkpoint
from evidence.ids import new_id
from storage.db import agencies, credentials, jobs
from storage.db.tables import Job
from storage.sequencer import sequence_agency
from tests.support.scene import PASSWORD, Live, live_scene

VERIFIER = Path(__file__).parents[2] / "cli" / "verifier.py"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("offices")) as live:
        yield live


def test_a_device_is_registered_issued_and_listed(live: Live) -> None:
    client = live.as_("system_admin")
    made = client.post("/api/v1/devices", json={"device_no": "BC-1", "kind": "body_cam"})
    assert made.status_code == 201
    assert client.post("/api/v1/devices", json={"device_no": "BC-1"}).json()["code"] == "device_no_taken"
    device = f"/api/v1/devices/{made.json()['id']}"
    issued = client.post(f"{device}/issues", json={"officer_no": "330101"})
    assert issued.json()["officer_no"] == "330101"
    assert client.post(f"{device}/issues", json={"officer_no": "000"}).status_code == 404
    assert [row["officer_no"] for row in client.get("/api/v1/devices").json()["items"]] == ["330101"]
    actions = [leaf["action"] for leaf in live.scene.leaves(made.json()["id"])]
    assert actions == ["device:registered", "device:issued"]


def test_an_unknown_device_is_adopted(live: Live) -> None:
    scene = live.scene
    with scene.storage.database.transaction() as session:
        now = scene.clock.now()
        row = agencies.add_device(session, scene.agency.id, "STRAY", now, state=agencies.UNKNOWN)
    adopted = live.as_("system_admin").post("/api/v1/devices", json={"device_no": "STRAY", "kind": "uav"})
    assert (adopted.json()["state"], adopted.json()["kind"]) == ("registered", "uav")
    assert [leaf["action"] for leaf in scene.leaves(row.id)] == ["device:adopted"]


def test_an_officer_is_registered_once(live: Live) -> None:
    client = live.as_("system_admin")
    body = {"officer_no": "880001", "name": "李四", "certificate_no": "浙001"}
    assert client.post("/api/v1/officers", json=body).status_code == 201
    assert client.post("/api/v1/officers", json=body).status_code == 409
    assert "880001" in [row["officer_no"] for row in client.get("/api/v1/officers").json()["items"]]


def test_an_upload_token_is_shown_once_and_revoked_at_once(live: Live) -> None:
    scene, client = live.scene, live.as_("system_admin")
    issued = client.post("/api/v1/upload-tokens", json={"dock_no": "DOCK-7", "life_s": 3600})
    assert issued.status_code == 201
    token = issued.json()["token"]
    with scene.storage.database.read() as session:
        assert credentials.uploader_of(session, token, scene.clock.now()).dock_no == "DOCK-7"
    assert token not in client.get("/api/v1/upload-tokens").text
    assert client.delete(f"/api/v1/upload-tokens/{issued.json()['id']}").status_code == 204
    with scene.storage.database.read() as session, pytest.raises(Exception, match="ended"):
        credentials.uploader_of(session, token, scene.clock.now())
    assert client.delete(f"/api/v1/upload-tokens/{new_id()}").status_code == 404


def test_an_account_may_not_hold_two_of_the_separated_offices(live: Live) -> None:
    client = live.as_("security_officer")
    body = {"username": "two", "display_name": "二", "password": PASSWORD}
    both = client.post("/api/v1/accounts", json={**body, "roles": ["auditor", "system_admin"]})
    assert (both.status_code, both.json()["code"]) == (422, "roles_not_separate")
    mixed = client.post("/api/v1/accounts", json={**body, "roles": ["auditor", "reviewer"]})
    assert mixed.json()["code"] == "roles_not_separate"
    weak = client.post("/api/v1/accounts", json={**body, "roles": ["reviewer"], "password": "short"})
    assert weak.json()["code"] == "password_weak"
    assert "password" not in client.get("/api/v1/accounts").text


def test_nobody_disables_themselves(live: Live) -> None:
    own = live.scene.accounts["security_officer"]
    answer = live.as_("security_officer").post(f"/api/v1/accounts/{own}/disable")
    assert (answer.status_code, answer.json()["code"]) == (409, "account_own")


def test_a_quarantined_job_is_listed_and_requeued(live: Live) -> None:
    scene, client = live.scene, live.as_("system_admin")
    subject = new_id()
    with scene.storage.database.transaction() as session:
        jobs.want(session, scene.agency.id, jobs.Wanted("verify", "io", subject), scene.clock.now())
        job = session.scalars(select(Job).where(Job.subject_id == subject)).one()
        job.state, job.attempt, job.last_error = "quarantined", 3, "media_unreadable: noise"
        job_id = job.id
    listed = [row["id"] for row in client.get("/api/v1/jobs/stuck").json()]
    assert listed == [str(job_id)]
    assert client.get("/api/v1/jobs/counts").json()["counts"]["quarantined"] == 1
    done = client.post(f"/api/v1/jobs/{job_id}/requeue").json()
    assert (done["state"], done["attempt"]) == ("ready", 0)
    assert client.post(f"/api/v1/jobs/{job_id}/requeue").json()["code"] == "job_not_quarantined"
    assert scene.leaves(job_id, "job:requeued")


def test_a_job_at_work_says_how_long_it_will_take(live: Live) -> None:
    scene, client = live.scene, live.as_("system_admin")
    subject = new_id()
    with scene.storage.database.transaction() as session:
        jobs.want(session, scene.agency.id, jobs.Wanted("chunk", "media", subject), scene.clock.now())
        job = session.scalars(select(Job).where(Job.subject_id == subject)).one()
        job.state, job.progress_permille = "leased", 250
        job.started_at = scene.clock.now() - timedelta(hours=2)
    (shown,) = [row for row in client.get("/api/v1/jobs/stuck").json() if row["subject_id"] == str(subject)]
    assert shown["remaining_s"] == pytest.approx(6 * 3600, abs=60)
    with scene.storage.database.transaction() as session:
        session.scalars(select(Job).where(Job.subject_id == subject)).one().state = "cancelled"


def test_each_leaf_of_an_item_is_proved_to_the_newest_checkpoint(live: Live) -> None:
    scene = live.scene
    recording = scene.record(case=scene.case_a)
    live.as_("legal_reviewer").put(
        f"/api/v1/items/{recording.item_id}/facts", json={"captured_place": "某路1号"}
    )
    live.as_("archivist").put(f"/api/v1/items/{recording.item_id}/facts", json={"captured_place": "某路2号"})
    sequence_agency(scene.storage, scene.agency.id)
    shown = live.as_("archivist").get(f"/api/v1/items/{recording.item_id}/custody").json()
    checkpoint = parse_checkpoint(shown["checkpoint"]["note"])
    assert checkpoint.root.hex() == shown["checkpoint"]["root"]
    assert len(shown["leaves"]) >= 3
    for leaf in shown["leaves"]:
        body = base64.b64decode(leaf["leaf_b64"])
        assert json.loads(body) == leaf["leaf"]
        proof = leaf["proof"]
        path = [bytes.fromhex(node) for node in proof["hashes"]]
        assert merkle.verify_inclusion(
            proof["leaf_index"], proof["tree_size"], merkle.leaf_hash(body), path, checkpoint.root
        )
    assert any(leaf["payload"] for leaf in shown["leaves"])
    audited = live.as_("auditor").get(f"/api/v1/items/{recording.item_id}/custody").json()
    assert [leaf["leaf_id"] for leaf in audited["leaves"]] == [leaf["leaf_id"] for leaf in shown["leaves"]]
    assert all(leaf["payload"] is None for leaf in audited["leaves"])
    assert "某路" not in json.dumps(audited, ensure_ascii=False)


def test_an_older_checkpoint_begins_the_newer_one(live: Live) -> None:
    scene = live.scene
    scene.record()
    sequence_agency(scene.storage, scene.agency.id)
    older = live.as_("auditor").get("/api/v1/custody/checkpoint").json()
    scene.record()
    sequence_agency(scene.storage, scene.agency.id)
    answer = live.as_("auditor").get("/api/v1/custody/consistency", params={"from": older["tree_size"]})
    found = answer.json()
    newer = live.as_("auditor").get("/api/v1/custody/checkpoint").json()
    assert (found["first_root"], found["second_root"]) == (older["root"], newer["root"])
    assert merkle.verify_consistency(
        found["first_size"], found["second_size"], bytes.fromhex(older["root"]), bytes.fromhex(newer["root"]),
        [bytes.fromhex(node) for node in found["hashes"]],
    )  # fmt: skip
    beyond = {"from": 1, "to": newer["tree_size"] + 1}
    assert live.as_("auditor").get("/api/v1/custody/consistency", params=beyond).status_code == 404


def test_an_export_over_the_api_passes_the_stand_alone_verifier(live: Live, tmp_path: Path) -> None:
    scene = live.scene
    scene.record(case=scene.case_a, name="张三的记录.mp4")
    sequence_agency(scene.storage, scene.agency.id)
    with live.as_("auditor").stream("GET", "/api/v1/custody/export") as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        (tmp_path / "export.ndjson").write_bytes(answer.read())
    kept = live.as_("auditor").get("/api/v1/custody/checkpoint").json()["note"]
    (tmp_path / "checkpoint.txt").write_text(kept, encoding="utf-8")
    # Carried away alone, as an examiner would have it.
    shutil.copy(VERIFIER, tmp_path / "verifier.py")
    command = [sys.executable, "verifier.py", "export.ndjson", "--checkpoint", "checkpoint.txt"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(line["payload"] is None for line in _lines(tmp_path / "export.ndjson") if "payload" in line)
    refused = live.as_("reviewer").get("/api/v1/custody/export")
    assert refused.status_code == 403
    assert scene.leaves(scene.agency.id, "custody:exported")


def _lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
