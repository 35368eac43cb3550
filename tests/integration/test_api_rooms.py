"""Rooms and sessions through the API: who may, what comes back, and what the machine room sees."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from api.auth.calling import Calls
from api.problems import problem_of
from api.schemas.common import write_cursor
from evidence.clock import to_micros
from evidence.errors import Unavailable
from evidence.ids import new_id
from evidence.kinds import Role
from ingest.recorder import triggers
from ingest.recorder.places import room_folder
from ingest.recorder.salvage import salvage
from media.live.journal import NAME
from media.live.recording import boot_id
from storage.db import agencies, room_streams
from storage.db.leadership import lead
from tests.support.hls import Piece, read_media
from tests.support.media import ffmpeg
from tests.support.rooms import ROOM, all_in, finished_file, hand_in, read_back
from tests.support.scene import CASE_A, Live, live_scene

API = "/api/v1"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("rooms")) as live:
        yield live


def call(live: Live, name: str, method: str, path: str, status: int = 200, **body: Any) -> Any:
    given = {"json": body} if method in {"POST", "PATCH"} else {"params": body}
    answer = live.as_(name).request(method, API + path, **given)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_session_is_run_from_the_room_and_read_by_those_whose_duty_it_is(
    live: Live, tmp_path: Path
) -> None:
    scene = live.scene
    (room,) = call(live, "system_admin", "GET", "/rooms")
    assert (room["room_no"], room["session"]) == ("R-1", None)
    assert [(each["name"], each["phase"], each["told_at"]) for each in room["streams"]] == [
        ("main", None, None), ("room", None, None),
    ]  # fmt: skip
    begun = (scene.clock.now() - timedelta(minutes=10)).isoformat().replace("+00:00", "Z")
    facts = {"case_no": CASE_A, "officers": ["330101"], "party": "李某"}
    shown = call(live, "officer", "POST", "/room-sessions", 201, room_no="R-1", started_at=begun, facts=facts)
    path = f"/room-sessions/{shown['id']}"
    assert (shown["state"], shown["missing"]) == ("open", ["object_of_proof", "second_officer"])
    assert shown["facts"]["place"] == ROOM.place
    again = call(live, "handler", "POST", "/room-sessions", 409, room_no="R-1")
    assert (again["code"], again["session"]) == ("session_open", shown["id"])

    # The machine room sees that it is in use, and nothing else.
    (room,) = call(live, "system_admin", "GET", "/rooms")
    assert room["session"] == {"session_id": shown["id"], "started_at": begun, "paused_since": None}
    for name in ("system_admin", "security_officer", "auditor", "reviewer"):
        call(live, name, "GET", path, 403)

    assert shown["unregistered"] == {"case_no": False, "officers": []}
    marker = {"text": "出示证件", "key": str(UUID(int=7))}
    first = call(live, "officer", "POST", f"{path}/markers", 201, **marker)
    assert call(live, "officer", "POST", f"{path}/markers", 201, **marker) == first
    # The handler of its case runs it too; another handler and another officer do not even read it.
    call(live, "handler", "POST", f"{path}/pause", reason="emergency", statement="突发情况")
    call(live, "handler", "POST", f"{path}/pause", 409, reason="other", statement="再次")
    for name in ("handler2", "officer2"):
        for method, rest, body in (
            ("GET", "", {}), ("GET", "/breaks", {}), ("GET", "/sheet", {}), ("POST", "/stop", {}),
            ("POST", "/markers", {"text": "x"}), ("PATCH", "/facts", {"party": "x"}),
        ):  # fmt: skip
            assert call(live, name, method, path + rest, 403, **body)["code"] == "session_not_yours"
    # Named as the second officer, the other one does.
    call(live, "officer", "PATCH", f"{path}/facts", officers=["330101", "330102"], object_of_proof="是否知情")
    call(live, "officer2", "POST", f"{path}/resume")
    scene.clock.advance(30)
    ended = call(live, "officer2", "POST", f"{path}/stop")
    assert (ended["state"], ended["missing"]) == ("ended", [])

    zero = scene.clock.now() - timedelta(seconds=630)
    session_id = UUID(shown["id"])
    for stream, to_s in (("main", 600), ("room", 631)):
        made = finished_file(
            scene.storage, tmp_path, zero, zero + timedelta(seconds=to_s), stream=stream, why="salvaged"
        )
        read_back(scene.storage, hand_in(scene.storage, session_id, made))
    (main, room) = call(live, "legal_reviewer", "GET", f"{path}/breaks")["breaks"]
    assert [(each["cause"], each["length_ms"]) for each in (main, room)] == [
        ("outstanding", 30_000), ("outstanding", 0),
    ]  # fmt: skip
    refused = call(live, "handler", "POST", f"{path}/seal", 409)
    assert (refused["code"], refused["held_by"]) == ("session_outstanding", [])
    all_in(scene.storage, session_id)
    assert call(live, "handler", "GET", path)["complete_at"] is not None
    today = call(live, "legal_reviewer", "GET", "/rooms/R-1")["gaps_today"]
    assert today == {"main": {"count": 1, "missing_ms": 30_000}, "room": {"count": 0, "missing_ms": 0}}
    log = call(live, "legal_reviewer", "GET", f"{path}/breaks")
    (lost,) = log["breaks"]
    assert (lost["stream"], lost["cause"], lost["length_ms"], lost["is_explained"]) == (
        "main", "process_died", 30_000, False,
    )  # fmt: skip
    assert (log["missing_ms"], log["unexplained"], log["next_cursor"]) == ({"main": 30_000}, 1, None)
    beyond = {"cursor": write_cursor(1), "limit": 1}
    rest = call(live, "legal_reviewer", "GET", f"{path}/breaks", **beyond)
    assert (rest["breaks"], rest["missing_ms"]) == ([], {"main": 30_000})
    call(live, "legal_reviewer", "POST", f"{path}/reasons", 403, stream="main", from_at=lost["from_at"],
         to_at=lost["to_at"], reason="power_lost", statement="停电")  # fmt: skip
    call(live, "handler", "POST", f"{path}/reasons", 201, stream="main", from_at=lost["from_at"],
         to_at=lost["to_at"], reason="power_lost", statement="停电")  # fmt: skip
    assert call(live, "archivist", "GET", f"{path}/breaks")["unexplained"] == 0

    sealed = call(live, "handler", "POST", f"{path}/seal")
    assert (sealed["state"], len(sealed["manifest_sha256"])) == ("sealed", 64)
    assert [(each["stream"], each["verified"]) for each in sealed["files"]] == [
        ("main", True),
        ("room", True),
    ]
    assert [note["kind"] for note in sealed["notes"]] == ["marker", "pause", "facts", "resume", "reason"]
    sheet = call(live, "archivist", "GET", f"{path}/sheet")
    assert (sheet["started_by"], sheet["manifest_sha256"]) == ("officer (officer)", sealed["manifest_sha256"])
    assert [each["name"] for each in sheet["officers"]] == ["王某", "王某"]
    answer = live.as_("handler").get(f"{API}{path}/sheet", params={"form": "pdf"})
    assert (answer.headers["content-type"], answer.content[:5]) == ("application/pdf", b"%PDF-")
    call(live, "system_admin", "GET", f"{path}/sheet", 403)
    started = scene.leaves(shown["id"], "room_session:started")[0]
    assert started["actor"] == f"account:{scene.accounts['officer']}"


def test_a_session_is_planned_and_shown_to_whom_it_belongs(live: Live) -> None:
    day = {"room_no": "R-1", "starts_at": "2026-03-05T09:00", "ends_at": "2026-03-05T11:00"}
    facts = {"case_no": CASE_A, "officers": ["330102"], "party": "李某"}
    planned = call(live, "officer", "POST", "/planned-sessions", 201, **day, facts=facts)
    assert (planned["state"], planned["starts_at"], planned["time_zone"]) == (
        "ahead", "2026-03-05T01:00:00Z", "Asia/Shanghai",
    )  # fmt: skip
    assert planned["missing"] == ["object_of_proof", "second_officer"]
    over = {**day, "starts_at": "2026-03-05T02:59:00Z", "ends_at": "2026-03-05T04:00:00Z"}
    refused = call(live, "handler2", "POST", "/planned-sessions", 409, **over)
    assert (refused["code"], refused["plan"]) == ("plan_overlaps", planned["id"])
    for changed, code in (
        ({"starts_at": "2026-03-01T09:00"}, "plan_time"),
        ({"time_zone": "Asia/Nowhere"}, "plan_time"),
        ({"starts_at": "tomorrow"}, "request_invalid"),
    ):
        assert call(live, "officer", "POST", "/planned-sessions", 422, **{**day, **changed})["code"] == code
    call(live, "officer", "POST", "/planned-sessions", 404, **{**day, "room_no": "R-9"})
    for name, may_read in (
        ("officer2", True),
        ("handler", True),
        ("handler2", False),
        ("archivist", True),
        ("system_admin", False),
    ):
        (shown,) = call(live, name, "GET", "/planned-sessions", room_no="R-1")
        assert (shown["may_read"], shown["facts"] is not None) == (may_read, may_read)
    path = f"/planned-sessions/{planned['id']}"
    for name in ("handler2", "archivist", "system_admin"):
        assert live.as_(name).delete(f"{API}{path}").status_code == 403
    for _ in range(2):
        assert live.as_("officer2").delete(f"{API}{path}").status_code == 204
    assert call(live, "officer", "GET", "/planned-sessions", days=1)[0]["state"] == "withdrawn"


def test_a_recorder_that_chatters_and_whoever_tries_keys_are_told_to_wait() -> None:
    calls = Calls(wrong_most=2, calls_most=1)
    for kind, most in (("wrong", 2), ("call", 1)):
        for _ in range(most):
            calls.admit(kind, "one")
            calls.note(kind, "one")
        with pytest.raises(Unavailable) as refused:
            calls.admit(kind, "one")
        assert problem_of(refused.value).status == 429
        calls.admit(kind, "another")


def test_a_list_shows_that_a_session_was_and_its_facts_to_whom_they_belong(live: Live) -> None:
    second = call(live, "handler2", "POST", "/room-sessions", 201, room_no="R-1", facts={"party": "张某"})
    call(live, "handler2", "POST", f"/room-sessions/{second['id']}/stop")
    page = call(live, "officer", "GET", "/room-sessions", limit=1)
    (row,) = page["items"]
    assert (row["id"], row["may_read"], row["facts"]) == (second["id"], False, None)
    assert (row["unregistered"], row["held_by"], row["complete_at"]) == (None, [], None)
    open_or_not_in = call(live, "archivist", "GET", "/room-sessions", complete=False)["items"]
    assert [each["id"] for each in open_or_not_in] == [second["id"]]
    assert open_or_not_in[0]["unregistered"] == {"case_no": False, "officers": []}
    all_in(live.scene.storage, UUID(second["id"]))
    assert call(live, "archivist", "GET", "/room-sessions", complete=False)["items"] == []
    rest = call(live, "officer", "GET", "/room-sessions", cursor=page["next_cursor"])["items"]
    assert second["id"] not in [each["id"] for each in rest]
    found = call(live, "archivist", "GET", "/room-sessions", room_no="R-1", state="ended")["items"]
    assert [each["facts"]["party"] for each in found] == ["张某"]
    assert call(live, "archivist", "GET", "/room-sessions", room_no="R-7")["items"] == []


def test_what_streams_do_is_known_as_long_as_their_host_says_so(live: Live) -> None:
    scene, now = live.scene, live.scene.clock.now()
    with scene.storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        room_stream = {"agency_id": agency.id, "room_no": "R-1", "host": "one"}
        said = {**room_stream, "since": now, "why": None, "waiting_bytes": 0, "restarts": 2,
                "free_bytes": 10**12, "tracks": [], "told_at": now}  # fmt: skip
        flows = {"phase": "recording", "silent_ms": 40, "bytes_s": 500_000, "pictures_s": 25.0}
        waits = {"phase": "waiting", "silent_ms": None, "bytes_s": 0, "pictures_s": 0.0, "why": "refused"}
        room_streams.say(session, [{**said, "stream": "main", **flows}, {**said, "stream": "room", **waits}])
    (room,) = call(live, "handler", "GET", "/rooms")
    main, second = room["streams"]
    assert (main["phase"], main["pictures_s"], main["silent_ms"]) == ("recording", 25.0, 40)
    assert (main["headroom_s"], second["headroom_s"]) == (2_000_000, None)
    assert (second["phase"], second["why"], second["away"]) == ("waiting", "refused", False)
    told = live.anyone.get("/metrics").text
    labels = '{agency="demo",room="R-1",stream="main"}'
    assert f"liuhen_room_stream_up{labels} 1.0" in told
    assert f"liuhen_room_stream_silence_seconds{labels} 0.04" in told
    assert 'silence_seconds{agency="demo",room="R-1",stream="room"}' not in told
    gaps = call(live, "system_admin", "GET", "/rooms/R-1")["gaps_today"]
    assert set(gaps) == {"main", "room"}
    assert call(live, "handler", "GET", "/rooms/R-7", 404)["code"] == "room_not_found"
    scene.clock.advance(13)
    (room,) = call(live, "handler", "GET", "/rooms")
    assert [each["phase"] for each in room["streams"]] == [None, None]
    told = live.anyone.get("/metrics").text
    assert f"liuhen_room_stream_up{labels} 0.0" in told
    assert f"liuhen_room_stream_bytes_per_second{labels}" not in told


def test_a_handler_who_says_the_case_of_another_s_session_does_not_watch_it(live: Live) -> None:
    facts = {"case_no": CASE_A}
    begun = call(live, "officer", "POST", "/room-sessions", 201, room_no="R-1", facts=facts)
    path, why = f"/room-sessions/{begun['id']}", {"purpose": "supervision", "reason": "督导"}
    # The right is there; no recorder of this host writes here.
    assert call(live, "handler", "POST", f"{path}/live-grants", 503, **why)["code"] == "live_elsewhere"
    call(live, "handler", "PATCH", f"{path}/facts", case_no="示执罚[2026]17号")
    call(live, "handler", "POST", f"{path}/live-grants", 403, **why)
    call(live, "archivist", "POST", f"{path}/live-grants", 503, **why)
    call(live, "officer", "POST", f"{path}/stop")


def test_what_is_no_room_or_no_start_is_refused_in_words(live: Live) -> None:
    for body, status, code in (
        ({"room_no": "R-404"}, 404, "room_not_found"),
        ({"room_no": "R-1", "started_at": "2026-01-01T00:00:00Z"}, 422, "session_start"),
        ({"room_no": "R-1", "facts": {"weather": "x"}}, 422, "request_invalid"),
        ({"room_no": "../x"}, 422, "request_invalid"),
    ):
        assert call(live, "officer", "POST", "/room-sessions", status, **body)["code"] == code
    for role in set(Role) - {Role.OFFICER, Role.HANDLER}:
        call(live, str(role), "POST", "/room-sessions", 403, room_no="R-1")


class Recorder:
    """What the recorder of a stream has on this host's disk: one file that grows, and its journal."""

    def __init__(self, live: Live, stream: str, footage: Path) -> None:
        scene = live.scene
        with scene.storage.database.read() as session:
            agency = agencies.agency_by_code(session, "demo")
        self._clock = scene.clock
        self.run = room_folder(scene.storage.recorder, agency.id, "R-1") / stream / new_id().hex
        self.run.mkdir(parents=True)
        self._from_us = to_micros(scene.clock.now())
        shutil.copy(footage, self.run / "000000.mp4.part")
        self._say("begun", boot=boot_id(), utc_us=self._from_us, monotonic_us=0)
        self._say("file", name="000000.mp4", run=0, container="mp4", streams=[{"codec": "h264"}],
                  arrived_utc_us=self._from_us)  # fmt: skip
        self.goes_on()

    def goes_on(self) -> None:
        to_us = to_micros(self._clock.now())
        self._say("mark", from_utc_us=self._from_us, to_utc_us=to_us, synced_bytes=0, waiting_bytes=0,
                  end_us=to_us - self._from_us, open_us=0, silent_us=0,
                  monotonic_us=to_us - self._from_us)  # fmt: skip

    def _say(self, kind: str, **facts: Any) -> None:
        with (self.run / NAME).open("a") as journal:
            journal.write(json.dumps({"kind": kind, "file": 0, **facts}) + "\n")


def test_who_watches_is_told_of_a_pause_a_silent_stream_a_dead_recorder_and_another_host(
    live: Live, tmp_path: Path
) -> None:
    scene, clock, footage = live.scene, live.scene.clock, tmp_path / "camera.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=64x48:rate=10:duration=10", "-c:v", "libx264", "-g", 5,
           "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-use_editlist", 0,
           "-movflags", "empty_moov+default_base_moof+frag_keyframe", footage)  # fmt: skip
    began = clock.now()
    begun = call(live, "officer", "POST", "/room-sessions", 201, room_no="R-1", facts={"case_no": CASE_A})
    path, why = f"/room-sessions/{begun['id']}", {"purpose": "supervision", "reason": "督导"}
    main, _ = Recorder(live, "main", footage), Recorder(live, "room", footage)
    shown = call(live, "handler", "POST", f"{path}/live-grants", 201, **why)

    def states() -> list[str]:
        told = call(live, "handler", "GET", f"/live-grants/{shown['grant_id']}")
        return [each["state"] for each in told["streams"]]

    def pieces() -> list[Piece]:
        answer = live.anyone.get(shown["streams"][0]["playlist_url"])
        assert answer.status_code == 200, answer.text
        return read_media(answer.text).pieces

    def at(seconds: int) -> datetime:
        return began + timedelta(seconds=seconds)

    assert states() == ["live", "live"]
    clock.advance(3)
    call(live, "officer", "POST", f"{path}/pause", reason="emergency", statement="突发情况")
    assert states() == ["paused", "paused"]
    clock.advance(2)
    call(live, "officer", "POST", f"{path}/resume")
    clock.advance(5)
    main.goes_on()
    assert states() == ["live", "away"]

    # Nothing of the pause or the second around it is listed, and none of its bytes are given.
    told = pieces()
    assert [each.dated_at for each in told if each.dated_at] == [at(0), at(6)]
    last, first = next(pair for pair in pairwise(told) if pair[1].is_discontinuous)
    assert last.url == first.url and last.first + last.size < first.first
    assert sum(each.duration_us for each in told[: told.index(first)]) <= 2_000_000
    paused = {"Range": f"bytes={last.first + last.size}-{first.first - 1}"}
    assert live.anyone.get(first.url, headers=paused).status_code == 403

    # Killed: what was told stays, and what the next one records follows at its own time.
    salvage(main.run)
    assert pieces()[: len(told)] == told
    clock.advance(2)
    Recorder(live, "main", footage)
    grown = pieces()
    assert grown[: len(told)] == told
    assert [each.dated_at for each in grown if each.dated_at] == [at(0), at(6), at(12)]

    # Recorded by another host, it is not this one's to show.
    here = live.app.state.installation
    ingest = scene.settings.ingest.model_copy(update={"host_id": "one"})
    with scene.storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        lead(session, f"room:{agency.id.hex}:R-1", "two:1", clock.now(), timedelta(seconds=10))
    live.app.state.installation = replace(here, settings=scene.settings.model_copy(update={"ingest": ingest}))
    try:
        answer = live.anyone.get(shown["streams"][0]["playlist_url"])
        assert (answer.status_code, answer.json()["code"]) == (503, "live_elsewhere")
        assert call(live, "handler", "POST", f"{path}/live-grants", 503, **why)["code"] == "live_elsewhere"
        clock.advance(11)
        assert pieces() == grown
    finally:
        live.app.state.installation = here
    call(live, "officer", "POST", f"{path}/stop")


def test_the_recorder_of_a_room_begins_what_whoever_conducts_it_then_states(live: Live) -> None:
    storage, now = live.scene.storage, live.scene.clock.now()
    with storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        key, row = triggers.issue(session, agency, ROOM, "主机", actor="operator:1", now=now)

    def press(action: str, status: int = 200, held: str = key, **given: Any) -> Any:
        headers = {"Authorization": f"Bearer {held}", **given.pop("headers", {})}
        answer = live.anyone.post(f"{API}/room-triggers/{action}", headers=headers, **given)
        assert answer.status_code == status, answer.text
        return answer.json()

    once = {"headers": {"Idempotency-Key": "press-1"}}
    begun = press("start", **once)
    assert (begun["room_no"], begun["changed"]) == ("R-1", True)
    assert press("start", **once) == begun
    assert press("start")["changed"] is False
    assert press("mark", json={"text": "出示证件"})["session_id"] == begun["session_id"]
    assert press("dance", 422)["code"] == "request_invalid"
    assert press("stop", 409, **once)["code"] == "trigger_key_used"
    # A session is no recorder's key, nor the other way round; and it is nobody's until somebody says so.
    assert press("start", 401, live.as_("officer").headers["authorization"][7:])["code"] == "trigger_unknown"
    answer = live.anyone.get(f"{API}/rooms", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 401
    path = f"/room-sessions/{begun['session_id']}"
    for name in ("system_admin", "auditor"):
        call(live, name, "GET", path, 403)
    taken = call(live, "officer2", "PATCH", f"{path}/facts", officers=["330101", "330102"], case_no=CASE_A)
    assert taken["started_by"] == f"trigger:{row.id}"
    assert call(live, "handler2", "GET", path, 403)["code"] == "session_not_yours"
    marks = [leaf["actor"] for leaf in live.scene.leaves(begun["session_id"], "room_session:marked")]
    assert marks == [f"trigger:{row.id}"]

    # What must be said and seen.
    found = call(live, "officer", "GET", f"{path}/checklist")
    assert found["open"] == [each["point"] for each in found["points"]]
    shown = call(live, "officer", "POST", f"{path}/points", 201, point="certificates_shown")
    (point,) = [each for each in shown["points"] if each["point"] == "certificates_shown"]
    assert (point["is_shown"], point["by"]) == (True, f"account:{live.scene.accounts['officer']}")
    told = call(
        live, "handler", "POST", f"{path}/point-reasons", 201, point="recusal_asked", statement="离场"
    )
    assert {"certificates_shown", "recusal_asked"} & set(told["open"]) == set()
    assert call(live, "handler", "POST", f"{path}/points", 404, point="weather")["code"] == "point_unknown"
    for name in ("handler2", "archivist"):
        call(live, name, "POST", f"{path}/points", 403, point="grounds_told")
    call(live, "handler2", "GET", f"{path}/checklist", 403)
    assert call(live, "archivist", "GET", f"{path}/checklist") == told

    # Whoever tries keys behind the same address is told to wait, and the recorder goes on.
    live.app.state.calls = Calls(wrong_most=1)
    told = [press("start", status, "lht_guess")["code"] for status in (401, 429)]
    assert told == ["trigger_unknown", "trigger_throttled"]
    lasting = call(live, "officer", "POST", f"{path}/masks", 201, reason="privacy", statement="更衣")
    assert lasting["to_at"] is None
    assert press("stop")["changed"] is True
    # What lasts ends with its session.
    (hidden,) = call(live, "officer", "GET", f"{path}/masks")
    assert hidden["to_at"] == call(live, "officer", "GET", path)["ended_at"] is not None
    live.app.state.calls = Calls()
    assert press("stop") == {"action": "stop", "room_no": "R-1", "session_id": None, "changed": False}
    with storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        triggers.revoke(session, agency, row.id, actor="operator:1", now=now)
    assert press("start", 401)["code"] == "trigger_unknown"
