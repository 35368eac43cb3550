"""Rooms and sessions as an officer without a browser types them."""

from __future__ import annotations

import fcntl
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from pwd import getpwuid
from typing import Any

import pytest

from cli.main import main
from cli.seen import wait_for_pictures
from cli.shell import Desk
from cli.up import tell_recorders
from config.load import SettingsError, load_settings
from config.rooms import RoomSettings, StreamSettings
from ingest.recorder.registry import LOST
from media.live.journal import LOCK
from storage.db import agencies, room_streams
from storage.db.alarms import NewAlarm, raise_alarm
from storage.open import open_storage

ROOMS = """
[data]
free_floor_bytes = 0
[[recorder.rooms]]
room_no = "R-1"
name = "一号询问室"
pre_record_s = 600
[[recorder.rooms.streams]]
name = "main"
url = "rtsp://192.0.2.1/main"
"""


def tell_away(data: Path, config: Path) -> None:
    """What the daemon does once a stream was away for some seconds."""
    storage = open_storage(load_settings({}, file=config, overrides={"data.dir": str(data)}))
    with storage.database.transaction() as session:
        agency = agencies.agencies(session)[0]
        wanted = NewAlarm(LOST, "room", "R-1/main", "room R-1/main: away", {"stream": "R-1/main"})
        raise_alarm(session, agency, wanted, actor="system", now=storage.clock.now())
    storage.database.dispose()


def desk_of(data: Path, config: Path) -> Desk:
    settings = load_settings({}, file=config, overrides={"data.dir": str(data)})
    storage = open_storage(settings)
    with storage.database.read() as session:
        return Desk(settings, storage, agencies.agencies(session)[0])


def test_a_start_waits_for_pictures_and_names_what_does_not_come(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "liuhen.toml"
    config.write_text(ROOMS, encoding="utf-8")
    assert main(["init", "--agency-code", "demo", "--config", str(config), "--data", str(tmp_path)]) == 0
    desk = desk_of(tmp_path, config)
    (room,) = desk.settings.recorder.rooms

    def say(phase: str, **facts: Any) -> None:
        """What the host that records the room says of its stream every three seconds."""
        now = desk.now()
        said = {"agency_id": desk.agency.id, "room_no": "R-1", "stream": "main", "host": "one", "since": now,
                "phase": phase, "why": None, "silent_ms": None, "bytes_s": 0, "pictures_s": 0.0,
                "waiting_bytes": 0, "restarts": 0, "free_bytes": 1, "tracks": [], "copy_lag_bytes": None,
                "copy_why": None, "told_at": now}  # fmt: skip
        with desk.storage.database.transaction() as session:
            room_streams.say(session, [{**said, **facts}])

    def waited(wait_s: float) -> tuple[list[str], str]:
        capsys.readouterr()
        return wait_for_pictures(desk, room, wait_s), capsys.readouterr().err

    try:
        # No host, so nothing to wait for.
        assert waited(60) == (["main (无主机报告 unknown)"], "")
        say("off")
        capsys.readouterr()
        assert main(["room", "list", "--config", str(config), "--data", str(tmp_path)]) == 0
        assert "main 未连接 not connected" in capsys.readouterr().out
        unseen, told = waited(0.1)
        assert unseen == ["main (未录制 off)"] and "waiting for pictures" in told
        say("waiting", why="source_does_not_answer")
        assert waited(0)[0] == ["main (无信号 waiting: source_does_not_answer)"]
        picture = [{"kind": "video"}, {"kind": "audio"}]
        say("recording", tracks=picture)
        assert waited(0)[0] == ["main (录制中 recording)"]
        say("recording", tracks=picture, pictures_s=25.0)
        assert waited(60) == ([], "")
        say("recording", tracks=picture[1:])
        assert waited(60) == ([], "")
    finally:
        desk.storage.database.dispose()


def test_who_stops_everything_is_told_which_recorders_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings({}, overrides={"data.dir": str(tmp_path)})
    tell_recorders(settings)
    assert capsys.readouterr().err == ""
    locks = [settings.recorder_dir / "a" / "R-1" / "main" / name / LOCK for name in ("over", "goes-on")]
    for lock in locks:
        lock.parent.mkdir(parents=True)
        lock.touch()
    with locks[1].open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        tell_recorders(settings)
    told = capsys.readouterr().err
    assert told.startswith("1 路录制仍在进行;结束: liuhen room end-recording / recorders that go on: 1;")


def test_a_session_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "liuhen.toml"
    config.write_text(ROOMS, encoding="utf-8")

    def liuhen(*words: str) -> int:
        capsys.readouterr()
        return main([*words, "--config", str(config), "--data", str(tmp_path / "data")])

    def listed(*words: str) -> Any:
        assert liuhen(*words, "--json") == 0
        return json.loads(capsys.readouterr().out)

    assert liuhen("init", "--agency-code", "demo") == 0
    (room,) = listed("room", "list")
    assert (room["room_no"], room["device_no"], room["session"]) == ("R-1", "R-1", None)
    assert (room["away"], room["phases"]) == ([], {"main": None})
    assert liuhen("room", "list") == 0
    assert "main 无主机报告 unknown" in capsys.readouterr().out
    tell_away(tmp_path / "data", config)
    (room,) = listed("room", "list")
    assert room["away"] == ["main"]
    assert liuhen("room", "watch", "R-1", "--for", "0.1", "--every", "1", "--json") == 0
    (stream,) = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (stream["name"], stream["phase"], stream["away"], stream["gaps_today"]) == ("main", None, True, 0)
    assert liuhen("room", "watch", "--for", "0.1", "--every", "0.05") == 0
    assert capsys.readouterr().out.count("无主机报告 unknown") >= 2
    assert liuhen("room", "watch", "R-9", "--for", "1") == 3
    assert liuhen("room", "end-recording", "R-9") == 3
    assert liuhen("room", "end-recording", "R-1") == 0
    assert "recorders ended: 0, by force: 0" in capsys.readouterr().out
    assert liuhen("session", "start", "R-2") == 3
    assert liuhen("session", "start", "R-1", "--from", "2026-01-01T00:00") == 2
    assert liuhen("session", "start", "R-1", "--officer", "330101", "--party", "李某") == 0
    told = capsys.readouterr().out
    assert (
        "未登记 / not stated yet: 案号 case_no, 证明对象 object_of_proof, 第二名办案人员 second_officer"
        in told
    )
    assert "not recorded now, look at the recorder: main (无主机报告 unknown)" in told
    assert liuhen("session", "start", "R-1") == 4
    assert liuhen("session", "pause", "R-1", "emergency", "突发情况") == 0
    (room,) = listed("room", "list")
    assert room["state"] == "暂停 paused"
    assert liuhen("session", "resume", "R-1") == 0
    assert liuhen("session", "mark", "R-1", "出示证件") == 0
    assert liuhen("session", "tick", "R-1", "certificates_shown", "--text", "两人均出示") == 0
    assert liuhen("session", "tick", "R-1", "weather") == 3
    assert liuhen("session", "untold", "R-1", "recusal_asked", "当事人中途离场") == 0
    points = {each["code"]: each for each in listed("session", "checklist", "R-1")}
    assert [points[code]["is_shown"] for code in ("certificates_shown", "recusal_asked")] == [True, False]
    assert points["recusal_asked"]["text"] == "当事人中途离场"
    assert liuhen("session", "checklist", "R-1") == 0
    assert "两人均出示" in capsys.readouterr().out
    assert liuhen("session", "facts", "R-1", "--proof", "是否知情") == 0
    assert liuhen("session", "mask", "R-1", "minor", "未成年人入场", "--hides", "picture") == 0
    told = capsys.readouterr().out
    assert "masked: 画面 picture" in told and "redacted anew: 0" in told
    assert liuhen("session", "mask", "R-1", "minor", "太早", "--from", "2001-01-01T00:00") == 2
    assert liuhen("session", "mask-end", "R-1") == 0
    assert "masks ended: 1" in capsys.readouterr().out
    assert liuhen("session", "mask", "R-1", "privacy", "更衣") == 0
    assert liuhen("session", "stop", "R-1") == 0
    # The room is free again: a session that has ended goes by its id.
    assert liuhen("session", "mark", "R-1", "太迟") == 2
    session_id = room["session"]
    assert liuhen("session", "mark", session_id, "太迟") == 4
    capsys.readouterr()
    # What lasted has ended with it.
    assert liuhen("session", "mask-end", session_id) == 0
    assert "masks ended: 0" in capsys.readouterr().out
    assert liuhen("session", "seal", session_id) == 4
    shown = listed("session", "show", session_id)
    assert [note["kind"] for note in shown["notes"]] == [
        "pause", "resume", "marker", "shown", "not_shown", "facts",
    ]  # fmt: skip
    assert [each["stream"] for each in shown["breaks"]][:1] == ["main"]
    hidden = [(each["reason"], each["hides"], each["statement"]) for each in shown["masks"]]
    assert hidden == [
        ("paused", "both", "突发情况"), ("minor", "picture", "未成年人入场"), ("privacy", "both", "更衣"),
    ]  # fmt: skip
    assert liuhen("session", "show", session_id) == 0
    told = capsys.readouterr().out
    assert "已结束 ended" in told
    assert "人工暂停" in told
    account = getpwuid(os.getuid()).pw_name
    assert f"未成年人入场   {account} (系统用户" in told
    # What was noted, in words: which point, and which facts.
    assert "出示执法证件 · 两人均出示" in told and "Object of proof: 是否知情" in told and "{" not in told
    broken = shown["breaks"][0]
    words = ("main", broken["from_at"], broken["to_at"], "device_fault", "未接通")
    assert liuhen("session", "reason", session_id, *words) == 0
    assert listed("session", "show", session_id)["breaks"][0]["reasons"][-1] == "未接通"
    assert liuhen("session", "sheet", session_id) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["session"], made["started_by"].split()[0]) == (session_id, account)
    assert [each["reason"] for each in made["masks"]] == ["paused", "minor", "privacy"]
    pages = tmp_path / "sheet.pdf"
    assert liuhen("session", "sheet", session_id, "--pdf", str(pages)) == 0
    signed = pages.read_bytes()
    # One that may have been signed is not written over.
    assert liuhen("session", "sheet", session_id, "--pdf", str(pages)) == 4
    assert (signed[:5], pages.read_bytes()) == (b"%PDF-", signed)
    (row,) = listed("session", "list", "--room", "R-1", "--state", "ended")
    assert (row["id"], row["missing"]) == (session_id, "case_no, second_officer")

    # What is to begin by itself, and what may begin it.
    soon = datetime.now(UTC).date() + timedelta(days=2)
    day = (f"{soon}T09:00", f"{soon}T10:00")
    assert liuhen("plan", "add", "R-1", *day, "--officer", "330101") == 0
    assert "未登记 / not stated yet: 案号 case_no, 被询问人 party" in capsys.readouterr().out
    assert liuhen("plan", "add", "R-1", *day) == 4
    assert f"found one from {soon} 09:00:00 Asia/Shanghai to" in capsys.readouterr().err
    (plan,) = listed("plan", "list", "--room", "R-1")
    assert (plan["state"], plan["session"]) == ("ahead", None)
    assert liuhen("plan", "withdraw", plan["id"]) == 0
    assert liuhen("plan", "list") == 0
    told = capsys.readouterr().out
    assert "已撤销 withdrawn" in told and "案号 case_no, 被询问人 party" in told
    assert liuhen("trigger", "issue", "R-1", "主机") == 0
    assert capsys.readouterr().out.startswith("lht_")
    (key,) = listed("trigger", "list")
    assert (key["name"], key["revoked_at"]) == ("主机", "")
    assert liuhen("trigger", "revoke", key["id"]) == 0
    assert liuhen("trigger", "list") == 0


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("password_file", {"url": "rtsp://u:hunter2@192.0.2.1/main"}),
        ("one of url and url_file", {}),
        ("one of url and url_file", {"url": "rtsp://192.0.2.1/main", "url_file": "/run/secret"}),
        ("name", {"url": "rtsp://192.0.2.1/main", "name": "No"}),
    ],
)
def test_an_address_with_a_secret_in_it_is_refused_and_not_told(
    what: str, changes: dict[str, str], tmp_path: Path
) -> None:
    stream = {"name": "main", **changes}
    room = {"room_no": "R-1", "name": "一号询问室", "streams": [stream]}
    empty = tmp_path / "empty.toml"
    empty.touch()
    with pytest.raises(SettingsError, match=what) as refused:
        load_settings({}, file=empty, overrides={"recorder.rooms": [room]})
    assert "hunter2" not in str(refused.value)


def test_rooms_and_their_streams_each_have_a_name_of_their_own(tmp_path: Path) -> None:
    stream = StreamSettings(name="main", url="rtsp://192.0.2.1/main")
    room = RoomSettings(room_no="R-1", name="一号询问室", streams=[stream]).model_dump()
    empty = tmp_path / "empty.toml"
    empty.touch()
    for rooms, what in (
        ([room, room], "a number for each room"),
        ([{**room, "streams": [stream.model_dump()] * 2}], "a name for each stream"),
    ):
        with pytest.raises(SettingsError, match=what):
            load_settings({}, file=empty, overrides={"recorder.rooms": rooms})
    same_elsewhere = load_settings(
        {}, file=empty, overrides={"recorder.rooms": [room, {**room, "agency": "b"}]}
    )
    assert len(same_elsewhere.recorder.rooms) == 2
