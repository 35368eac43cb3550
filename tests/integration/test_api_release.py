"""Redacted renditions reviewed, approved by others, released and taken back, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from api.desk import Installation
from cli.main import main
from evidence.doubts import open_doubts
from storage.db import items
from storage.db.doubts import note_doubts
from storage.db.release_tables import CheckFailure
from tests.support.pipeline import Pipeline
from tests.support.scene import PASSWORD, Live, Recording, live_scene
from workers.tasks.redaction import is_let_pass

LENGTH_US = 6_000_000
BOX = {"op": "add_box", "shape": "rectangle", "reason": "privacy", "keys": [[274, 0, 0, 40, 40, 0]]}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("release")) as live:
        for name in ("legal2", "legal3"):
            opened = live.as_("security_officer").post(
                "/api/v1/accounts",
                json={"username": name, "display_name": "法制", "password": PASSWORD,
                      "roles": ["legal_reviewer"]},
            )  # fmt: skip
            assert opened.status_code == 201, opened.text
            live.choose_password(name)
        with policy(live, coverage=["faces"], required_for=["officer"]):
            yield live


@contextmanager
def policy(live: Live, **changes: Any) -> Iterator[None]:
    """Another policy for a while."""
    before: Installation = live.app.state.installation
    settings = before.settings
    release = settings.redaction.release.model_copy(update=changes)
    redaction = settings.redaction.model_copy(update={"release": release})
    changed = settings.model_copy(update={"redaction": redaction})
    live.app.state.installation = Installation(before.storage, changed)
    try:
        yield
    finally:
        live.app.state.installation = before


@pytest.fixture
def recording(live: Live) -> Recording:
    return live.scene.record(seed=1, case=live.scene.case_a)


def post(live: Live, name: str, path: str, **body: Any) -> httpx.Response:
    return live.as_(name).post(f"/api/v1{path}", json=body)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def fetch(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False, timeout=20)


def watch(live: Live, name: str, item_id: UUID, *spans: tuple[int, int]) -> httpx.Response:
    """Have the rendition sent, let it be played, and say so."""
    grant = live.grant(name, item_id)
    assert fetch(grant["file_url"]).status_code == 200
    live.scene.clock.advance(6)
    told = [{"from_us": start, "to_us": end} for start, end in spans or [(0, LENGTH_US)]]
    return post(live, name, f"/items/{item_id}/redaction/watched", grant_id=grant["grant_id"], spans=told)


def reviewed(live: Live, item_id: UUID, name: str = "reviewer") -> None:
    assert watch(live, name, item_id).status_code == 200
    signed = post(live, name, f"/items/{item_id}/redaction/reviews", number=1)
    assert signed.status_code == 201, signed.text


def ask(live: Live, item_id: UUID, name: str = "handler", **more: Any) -> httpx.Response:
    body = {"number": 1, "to": "role", "role": "officer", "purpose": "training", "reason": "教学", **more}
    if body["to"] != "role":
        del body["role"]
    return post(live, name, f"/items/{item_id}/releases", **body)


def released(live: Live, item_id: UUID, *approvers: str, **more: Any) -> dict[str, Any]:
    reviewed(live, item_id)
    asked = ask(live, item_id, **more)
    assert asked.status_code == 201, asked.text
    for name in approvers or ("legal_reviewer",):
        answer = post(live, name, f"/releases/{asked.json()['id']}/approve")
        assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found["state"] == "released"
    return found


def facet(live: Live, item_id: UUID) -> str:
    return str(live.as_("handler").get(f"/api/v1/items/{item_id}").json()["facets"]["redaction"])


# --- Reviewing --------------------------------------------------------------------------


def test_whoever_wrote_a_version_is_no_reviewer_of_it(live: Live) -> None:
    author = f"account:{live.scene.accounts['reviewer']}"
    recording = live.scene.record(seed=1, case=live.scene.case_a, hides={"author": author})
    assert watch(live, "reviewer", recording.item_id).status_code == 200
    signed = post(live, "reviewer", f"/items/{recording.item_id}/redaction/reviews", number=1)
    assert code_of(signed) == (403, "plan_own")
    assert ask(live, recording.item_id).json()["lacks"] == ["reviewers", "unwatched"]


def test_a_request_that_ends_before_it_is_approved_is_over(live: Live, recording: Recording) -> None:
    reviewed(live, recording.item_id)
    ends = live.scene.clock.now() + timedelta(hours=1)
    asked = ask(live, recording.item_id, expires_at=ends.isoformat()).json()
    live.scene.clock.advance(3601)
    late = post(live, "legal_reviewer", f"/releases/{asked['id']}/approve")
    assert code_of(late) == (409, "release_state")
    assert late.json()["current"] == "expired"
    assert facet(live, recording.item_id) != "released"
    assert ask(live, recording.item_id).status_code == 201


def test_what_was_watched_is_added_up_and_what_nobody_watched_is_said(
    live: Live, recording: Recording
) -> None:
    item_id = recording.item_id
    first = watch(live, "reviewer", item_id, (0, 1_000_000), (2_000_000, 4_000_000)).json()
    assert first["people"][0]["watched_us"] == 3_000_000
    assert first["unwatched_by_me"] == [[1_000_000, 2_000_000], [4_000_000, LENGTH_US]]
    # What somebody watched counts once they say that they reviewed it.
    assert first["unwatched"] == [[0, LENGTH_US]]
    second = watch(live, "reviewer", item_id, (500_000, 2_500_000)).json()
    assert second["people"][0]["spans"] == [[0, 4_000_000]]
    signed = post(live, "reviewer", f"/items/{item_id}/redaction/reviews", number=1, note="尾部未看")
    assert signed.status_code == 201
    assert signed.json()["unwatched"] == [[4_000_000, LENGTH_US]]
    assert [lack["code"] for lack in signed.json()["lacks"]] == ["unwatched"]
    (leaf,) = live.scene.leaves(item_id, "redaction:reviewed")
    assert leaf["facts"]["unwatched"] == [[4_000_000, LENGTH_US]]
    refused = ask(live, item_id)
    assert code_of(refused) == (409, "release_not_ready")
    assert refused.json()["lacks"] == ["unwatched"]
    # Somebody else watches the rest.
    assert watch(live, "archivist", item_id, (3_900_000, LENGTH_US)).status_code == 200
    done = post(live, "archivist", f"/items/{item_id}/redaction/reviews", number=1).json()
    assert (done["unwatched"], done["lacks"]) == ([], [])


def test_what_cannot_have_been_watched_is_refused(live: Live, recording: Recording) -> None:
    item_id = recording.item_id
    grant = live.grant("reviewer", item_id)
    path = f"/items/{item_id}/redaction/watched"

    def say(name: str, grant_id: str, start: int, end: int) -> tuple[int, str]:
        told = [{"from_us": start, "to_us": end}]
        return code_of(post(live, name, path, grant_id=grant_id, spans=told))

    live.scene.clock.advance(60)
    assert say("reviewer", grant["grant_id"], 0, 1) == (409, "watch_unserved")
    assert fetch(grant["file_url"]).status_code == 200
    assert say("reviewer", grant["grant_id"], 0, LENGTH_US + 1) == (422, "span_invalid")
    assert say("legal_reviewer", grant["grant_id"], 0, 1) == (403, "grant_not_yours")
    mine = {"grant_id": grant["grant_id"], "spans": [{"from_us": 0, "to_us": 1_000_000}]}
    assert post(live, "reviewer", path, **mine).status_code == 200
    live.scene.clock.advance(1)
    assert say("reviewer", grant["grant_id"], 1_000_000, 3_000_001) == (422, "watch_too_fast")
    # Another grant of theirs buys no more time.
    other = live.grant("reviewer", item_id)
    assert fetch(other["file_url"]).status_code == 200
    assert say("reviewer", other["grant_id"], 1_000_000, 2_000_000) == (422, "watch_too_fast")
    whole = live.grant("legal_reviewer", item_id, variant="original", reason="核对")
    assert fetch(whole["file_url"]).status_code == 200
    live.scene.clock.advance(1)
    assert say("legal_reviewer", whole["grant_id"], 0, 1_000_000) == (409, "watch_unserved")
    part = live.grant("archivist", item_id, span={"from_us": 0, "to_us": 2_000_000})
    listed = live.anyone.get(part["playlist_url"])
    assert listed.status_code == 200
    live.scene.clock.advance(6)
    assert say("archivist", part["grant_id"], 0, 1) == (409, "watch_unserved")
    unseen = post(live, "archivist", f"/items/{item_id}/redaction/reviews", number=1)
    assert code_of(unseen) == (409, "watch_unserved")
    wrong = post(live, "reviewer", f"/items/{item_id}/redaction/reviews", number=2)
    assert code_of(wrong) == (409, "plan_not_served")


# --- Releasing --------------------------------------------------------------------------


def test_nothing_is_released_that_lacks_anything(live: Live, recording: Recording) -> None:
    with policy(live, coverage=["faces", "plates"], reviewers=2):
        refused = ask(live, recording.item_id)
    assert code_of(refused) == (409, "release_not_ready")
    assert refused.json()["lacks"] == ["coverage", "reviewers", "unwatched"]
    assert "plates" in refused.json()["detail"]
    assert live.scene.leaves(recording.item_id, "release:asked") == []


def test_each_step_is_another_person_and_is_on_record(live: Live, recording: Recording) -> None:
    item_id = recording.item_id
    reviewed(live, item_id, "legal2")
    with policy(live, approvals=["legal_reviewer", "archivist"], coverage=["faces"]):
        asked = ask(live, item_id, "handler").json()
    assert (asked["state"], asked["chain"]) == ("waiting", ["legal_reviewer", "archivist"])
    path = f"/releases/{asked['id']}"
    assert code_of(post(live, "archivist", f"{path}/approve")) == (403, "release_step")
    assert code_of(post(live, "legal2", f"{path}/approve")) == (403, "release_own"), "who reviewed it"
    first = post(live, "legal_reviewer", f"{path}/approve", note="已核")
    assert (first.json()["state"], first.json()["next_role"]) == ("waiting", "archivist")
    assert facet(live, item_id) == "checked"
    assert code_of(post(live, "legal3", f"{path}/approve")) == (403, "release_step")
    done = post(live, "archivist", f"{path}/approve").json()
    assert (done["state"], done["next_role"]) == ("released", None)
    assert done["coverage"]["treated"] == ["faces"]
    assert facet(live, item_id) == "released"
    assert code_of(post(live, "archivist", f"{path}/approve")) == (409, "release_state")
    told = [leaf["action"] for leaf in live.scene.leaves(item_id) if leaf["action"].startswith("release:")]
    assert told == ["release:asked", "release:approved", "release:approved", "release:given"]
    (given,) = live.scene.leaves(item_id, "release:given")
    assert given["facts"]["sha256"] == recording.derivatives["redacted"].sha256.hex()


def test_who_wrote_or_asked_approves_nothing_and_a_refusal_ends_it(live: Live, recording: Recording) -> None:
    item_id = recording.item_id
    reviewed(live, item_id)
    own = ask(live, item_id, "legal_reviewer").json()
    assert code_of(post(live, "legal_reviewer", f"/releases/{own['id']}/approve")) == (403, "release_own")
    to = live.scene.accounts["legal_reviewer"]
    gets = ask(live, item_id, to="person", account_id=str(to)).json()
    assert code_of(post(live, "legal_reviewer", f"/releases/{gets['id']}/approve")) == (403, "release_own")
    waiting = live.as_("legal2").get("/api/v1/releases", params={"waiting": "true"}).json()["items"]
    assert {own["id"], gets["id"]} <= {row["id"] for row in waiting}
    refused = post(live, "legal2", f"/releases/{own['id']}/refuse", reason="范围过大").json()
    assert (refused["state"], refused["ended_reason"]) == ("refused", "范围过大")
    assert code_of(post(live, "legal3", f"/releases/{own['id']}/approve")) == (409, "release_state")
    for body in ({"to": "party", "party": "某某"}, {"to": "person"}, {"to": "role", "role": None},
                 {"to": "role", "party": "某某"}):  # fmt: skip
        assert code_of(ask(live, item_id, **body)) == (422, "release_recipient"), body
    past = ask(live, item_id, expires_at="2020-01-01T00:00:00Z")
    assert code_of(past) == (422, "release_end")


def test_of_two_who_take_the_last_step_at_once_one_does(live: Live, recording: Recording) -> None:
    reviewed(live, recording.item_id)
    asked = ask(live, recording.item_id).json()
    twice = ask(live, recording.item_id)
    assert (code_of(twice), twice.json()["release"]) == ((409, "release_waiting"), asked["id"])
    for name in ("legal2", "legal3"):
        live.as_(name)
    with ThreadPoolExecutor(2) as both:
        answers = list(
            both.map(lambda name: post(live, name, f"/releases/{asked['id']}/approve"), ("legal2", "legal3"))
        )
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert len(live.scene.leaves(recording.item_id, "release:given")) == 1


def test_a_role_that_needs_a_release_sees_nothing_before_it_and_nothing_after_it(
    live: Live, recording: Recording
) -> None:
    item_id = recording.item_id
    asking = {"purpose": "training"}
    path = f"/api/v1/items/{item_id}"
    assert live.as_("officer").post(f"{path}/grants", json=asking).status_code == 201, "who recorded it"
    before = live.as_("officer2").post(f"{path}/grants", json=asking)
    assert code_of(before) == (403, "release_missing")
    clip = {"case_no": live.scene.case_a.case_no, "item_id": str(item_id), "form": "file"}
    assert code_of(live.as_("officer2").post("/api/v1/clips", json=clip)) == (403, "release_missing")
    poster = live.as_("officer2").get(f"{path}/poster")
    assert (poster.status_code, poster.headers["x-liuhen-state"]) == (200, "pending")
    assert live.as_("handler2").post(f"{path}/grants", json=asking).status_code == 201, "of no such role"

    release = released(live, item_id)
    grant = live.grant("officer2", item_id, purpose="training")
    assert grant["state"] == "ready"
    assert fetch(grant["file_url"]).status_code == 200
    assert live.anyone.get(grant["playlist_url"]).status_code == 200
    assert "x-liuhen-state" not in live.as_("officer2").get(f"{path}/poster").headers
    taken = live.as_("officer2").post("/api/v1/clips", json=clip)
    assert taken.status_code == 202, taken.text

    assert code_of(post(live, "handler2", f"/releases/{release['id']}/revoke", reason="x")) == (
        403,
        "release_not_yours",
    )
    ended = post(live, "archivist", f"/releases/{release['id']}/revoke", reason="发布有误")
    assert ended.json()["state"] == "revoked"
    assert fetch(grant["file_url"]).status_code == 410
    assert live.anyone.get(grant["playlist_url"]).status_code == 410
    assert live.as_("officer2").get(f"/api/v1/grants/{grant['grant_id']}").status_code == 410
    assert live.as_("officer2").get(f"/api/v1/clips/{taken.json()['clip_id']}").status_code == 403
    again = live.as_("officer2").post(f"{path}/grants", json=asking)
    assert code_of(again) == (403, "release_missing")
    assert facet(live, item_id) == "approved"
    assert post(live, "archivist", f"/releases/{release['id']}/revoke", reason="再次").status_code == 200
    (leaf,) = live.scene.leaves(item_id, "release:revoked")
    assert leaf["facts"]["grants"] == 1


def test_a_version_that_hides_more_ends_the_releases_of_the_one_before(
    live: Live, recording: Recording
) -> None:
    item_id = recording.item_id
    release = released(live, item_id)
    later = ask(live, item_id, to="person", account_id=str(live.scene.accounts["officer2"])).json()
    grant = live.grant("officer2", item_id)
    assert fetch(grant["file_url"]).status_code == 200
    body = {"base_number": 1, "changes": [BOX], "note": "改"}
    amended = live.as_("handler").post(f"/api/v1/items/{item_id}/redaction/plans", json=body)
    assert amended.status_code == 201, amended.text
    assert facet(live, item_id) == "proposed"
    assert fetch(grant["file_url"]).status_code == 410
    assert live.anyone.get(grant["playlist_url"]).status_code == 410
    for row in live.as_("handler").get(f"/api/v1/items/{item_id}/releases").json():
        assert row["state"] == "superseded"
    assert code_of(post(live, "legal_reviewer", f"/releases/{later['id']}/approve")) == (409, "release_state")
    with live.scene.storage.database.transaction() as session:
        # As a worker renders it.
        item = items.item_by_id(session, live.scene.agency.id, item_id)
        body_of = recording.derivatives["redacted"]
        made = live.scene.derive(
            session, item, "redacted", b"2" * 2000, dict(body_of.info), masked=True, params={"plan": 2}
        )
        assert made.sha256 != body_of.sha256
    # Neither the address of the old release nor a new asking shows them the version that nobody released.
    assert live.anyone.get(grant["playlist_url"]).status_code == 410
    refused = live.as_("officer2").post(f"/api/v1/items/{item_id}/grants", json={"purpose": "training"})
    assert code_of(refused) == (403, "release_missing")
    assert live.grant("reviewer", item_id)["state"] == "ready"
    assert release["plan_number"] == 1


def test_a_release_ends_at_its_time(live: Live, recording: Recording) -> None:
    until = live.scene.clock.now().replace(microsecond=0)
    released(live, recording.item_id, expires_at=until.replace(hour=until.hour + 1).isoformat())
    grant = live.grant("officer2", recording.item_id)
    assert grant["expires_at"] == until.replace(hour=until.hour + 1).isoformat().replace("+00:00", "Z")
    assert fetch(grant["file_url"]).status_code == 200
    live.scene.clock.advance(3600)
    assert fetch(grant["file_url"]).status_code == 410
    again = live.as_("officer2").post(
        f"/api/v1/items/{recording.item_id}/grants", json={"purpose": "training"}
    )
    assert code_of(again) == (403, "release_missing")


def test_a_party_gets_a_marked_copy_by_two_approvals_until_it_is_taken_back(
    live: Live, recording: Recording
) -> None:
    item_id = recording.item_id
    case = {"case_id": str(live.scene.case_a.id)}
    release = released(live, item_id, "legal2", "legal_reviewer", to="party", party="当事人<甲>", **case)
    asking = f"/releases/{release['id']}/copies"
    assert code_of(post(live, "handler2", asking)) == (403, "release_not_yours")
    copy = post(live, "handler", asking, span={"from_us": 0, "to_us": 1_000_000})
    assert copy.status_code == 202, copy.text
    Pipeline(live.scene.storage, live.scene.settings).work(only={"clip"})
    shown = live.as_("handler").get(f"/api/v1/clips/{copy.json()['clip_id']}").json()
    assert shown["state"] == "ready", shown
    assert fetch(shown["file_url"]).status_code == 200
    sheet = live.as_("handler").get(f"/api/v1/clips/{copy.json()['clip_id']}/sheet").json()
    assert (sheet["released_to"], sheet["marked"]) == ("当事人<甲>", True)
    page = live.as_("handler").get(f"/api/v1/clips/{copy.json()['clip_id']}/sheet", params={"form": "html"})
    assert "当事人&lt;甲&gt;" in page.text
    listed = live.as_("handler").get(f"/api/v1/releases/{release['id']}").json()
    assert listed["copies"] == [copy.json()["clip_id"]]
    # For days, not for the hours of a grant.
    live.scene.clock.advance(5 * 3600)
    assert fetch(shown["file_url"]).status_code == 200
    live.scene.clock.advance(-5 * 3600)
    (given,) = live.scene.leaves(item_id, "release:given")
    assert "当事人" not in str(given), "a name is in the sealed payload alone"
    assert post(live, "handler", f"/releases/{release['id']}/revoke", reason="撤回").status_code == 200
    gone = fetch(shown["file_url"])
    assert code_of(gone) == (410, "release_ended")
    assert code_of(post(live, "handler", asking)) == (410, "release_ended")
    assert live.as_("handler").get(f"/api/v1/clips/{copy.json()['clip_id']}").json()["state"] == "withdrawn"


# --- Checks that failed, and doubts -----------------------------------------------------


def fail_check(live: Live, recording: Recording, *codes: str) -> None:
    """As a worker leaves it whose check found something: nothing is served."""
    with live.scene.storage.database.transaction() as session:
        for made in items.derivatives_of(session, live.scene.agency.id, recording.item_id):
            if made.masked:
                made.withdrawn_at = live.scene.clock.now()
        session.add(
            CheckFailure(
                agency_id=live.scene.agency.id, item_id=recording.item_id, plan_number=1, codes=list(codes),
                findings=[{"code": code} for code in codes], finding_count=len(codes),
                found_at=live.scene.clock.now(),
            )
        )  # fmt: skip


def test_a_failed_check_blocks_until_a_named_person_lets_pass_what_may_be_judged(
    live: Live, recording: Recording
) -> None:
    item_id = recording.item_id
    fail_check(live, recording, "face_left")
    assert ask(live, item_id).json()["lacks"] == ["check_failed"]
    path = f"/items/{item_id}/redaction/plans/1"
    # What a check saw, and where, is for those who may see what is hidden.
    assert live.as_("reviewer").get(f"/api/v1{path}/check").status_code == 403
    assert live.as_("legal_reviewer").get(f"/api/v1{path}/check").json()["codes"] == ["face_left"]
    assert post(live, "handler", f"{path}/override", reason="石像").status_code == 403
    assert post(live, "legal_reviewer", f"{path}/override").status_code == 422
    passed = post(live, "legal_reviewer", f"{path}/override", reason="石像,并非人脸")
    assert passed.status_code == 200, passed.text
    assert passed.json()["overridden_by"] == f"account:{live.scene.accounts['legal_reviewer']}"
    assert ask(live, item_id).json()["lacks"] == ["pending"]
    (leaf,) = live.scene.leaves(item_id, "redaction:check_overridden")
    assert leaf["facts"]["findings"] == ["face_left"]
    assert "石像" not in str(leaf)


def test_what_was_let_pass_is_that_and_nothing_like_it() -> None:
    statue = {"code": "face_left", "pts": 3000, "box": [100, 80, 140, 130], "score_permille": 740}
    passed = CheckFailure(
        codes=["face_left"], findings=[statue], overridden_at=datetime(2026, 5, 6, tzinfo=UTC)
    )

    def is_passed(*findings: dict[str, Any], count: int | None = None) -> bool:
        report = {"findings": list(findings), "finding_count": len(findings) if count is None else count}
        return is_let_pass(report, passed)

    assert is_passed({**statue, "box": [102, 79, 141, 131], "score_permille": 720})
    assert not is_passed(statue, {**statue, "pts": 9000})
    assert not is_passed({**statue, "box": [400, 80, 440, 130]})
    assert not is_passed({"code": "voice_recognisable", "stream": 0, "at_us": 0})
    assert not is_passed(statue, count=2)
    assert not is_let_pass({"findings": [statue], "finding_count": 1}, None)
    passed.overridden_at = None
    assert not is_passed(statue)


def test_that_a_mask_hides_is_nobody_s_to_judge(live: Live, recording: Recording) -> None:
    fail_check(live, recording, "face_left", "mask_missing")
    path = f"/items/{recording.item_id}/redaction/plans/1"
    refused = post(live, "legal_reviewer", f"{path}/override", reason="x")
    assert code_of(refused) == (409, "check_not_overridable")
    assert refused.json()["findings"] == ["mask_missing"]
    assert code_of(post(live, "legal_reviewer", f"{path}9/override", reason="x")) == (404, "check_not_failed")


def test_doubts_of_all_items_come_by_risk_and_go_with_a_decision(live: Live) -> None:
    ids = []
    for seed, (first, last) in ((1, (0, 512)), (2, (0, 5 * 512)), (3, (0, 2 * 512))):
        made = live.scene.record(seed=seed, case=live.scene.case_a)
        ids.append(str(made.item_id))
        span = {"op": "mask_frames", "from_pts": 274 + first, "to_pts": 274 + last, "reason": "minor"}
        body = {"base_number": 1, "changes": [span], "note": "改"}
        path = f"/api/v1/items/{made.item_id}/redaction/plans"
        assert live.as_("handler").post(path, json=body).status_code == 201
        with live.scene.storage.database.transaction() as session:
            # As the machine proposes what it could not decode.
            row = items.plan_by_number(session, live.scene.agency.id, made.item_id, 2)
            (hidden,) = row.plan["whole_frame_spans"]
            doubt = {"track": None, "from_pts": 274 + first, "to_pts": 274 + last, "why": "w"}
            proposed = {**row.plan, "whole_frame_spans": [{**hidden, "state": "proposed"}],
                        "doubtful": [doubt]}  # fmt: skip
            doubts = open_doubts(proposed)
            note_doubts(session, live.scene.agency.id, made.item_id, int(proposed["number"]), doubts)

    def queue(name: str = "reviewer", **query: Any) -> list[str]:
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = live.as_(name).get("/api/v1/redaction/doubts", params={**query, **cursor}).json()
            found += [row["item_id"] for row in page["items"]]
            if page["next_cursor"] is None:
                return found
            cursor = {"cursor": page["next_cursor"]}

    assert queue() == [ids[1], ids[2], ids[0]]
    assert queue(limit=1) == [ids[1], ids[2], ids[0]]
    assert queue(item_id=ids[2]) == [ids[2]]
    assert live.as_("auditor").get("/api/v1/redaction/doubts").status_code == 403
    bad = live.as_("reviewer").get("/api/v1/redaction/doubts", params={"cursor": "Wzdd"})
    assert code_of(bad) == (422, "cursor_invalid")
    # Any later version that leaves nothing undecided takes it off the list.
    path = f"/api/v1/items/{ids[1]}/redaction/plans"
    span = live.as_("handler").get(f"{path}/2").json()["plan"]["whole_frame_spans"][0]["id"]
    body = {"base_number": 2, "changes": [{"op": "accept_span", "span": span}], "note": "看过"}
    decided = live.as_("handler").post(path, json=body)
    assert decided.status_code == 201, decided.text
    assert not decided.json()["plan"]["reveals"]
    assert queue() == [ids[2], ids[0]]


# --- By command -------------------------------------------------------------------------


def test_a_release_goes_its_way_by_command(
    live: Live,
    recording: Recording,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    item_id = str(recording.item_id)

    def liuhen(name: str, *words: str) -> str:
        monkeypatch.setenv("LIUHEN_TOKEN", live.as_(name).headers["authorization"].removeprefix("Bearer "))
        assert main(["release", *words, "--url", live.api_url]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    grant = live.grant("reviewer", recording.item_id)
    assert fetch(grant["file_url"]).status_code == 200
    live.scene.clock.advance(6)
    told = liuhen("reviewer", "watched", item_id, grant["grant_id"], "0-0:05.5", "5-6")
    assert "watched by nobody" in told
    assert "watched by nobody" not in liuhen("reviewer", "review", item_id, "1", "--note", "无异常")
    asking = ["--party", "当事人乙", "--case", str(live.scene.case_a.id), "--purpose", "litigation", "--json"]
    asked = json.loads(liuhen("handler", "ask", item_id, "1", *asking, "--reason", "诉讼"))
    assert asked["id"] in liuhen("legal2", "list", "--waiting")
    assert "1/2" in liuhen("legal2", "approve", asked["id"])
    assert "已发布 released" in liuhen("legal3", "approve", asked["id"], "--note", "同意")
    stop = threading.Event()
    worker = threading.Thread(target=cut_until, args=(live, stop))
    worker.start()
    try:
        told = liuhen("handler", "copy", asked["id"], "--from", "0", "--to", "0:01", "--link")
    finally:
        stop.set()
        worker.join()
    # The worker of this process logs beside it.
    (link,) = [line for line in told.splitlines() if line.startswith("http")]
    assert fetch(link).status_code == 200
    assert "已撤回 revoked" in liuhen("legal_reviewer", "revoke", asked["id"], "--reason", "当事人撤诉")
    assert fetch(link).status_code == 410
    assert json.loads(liuhen("legal2", "show", asked["id"]))["ended_reason"] == "当事人撤诉"
    assert "risk" in liuhen("reviewer", "queue", "--item", item_id)


def cut_until(live: Live, stop: threading.Event) -> None:
    """A worker that cuts what is asked for."""
    while not stop.wait(0.1):
        Pipeline(live.scene.storage, live.scene.settings).work(only={"clip"})
