"""The agent's parts by themselves: names, profiles, ZFY_INFO, mounts, journal, pace, receipts, settings."""

from __future__ import annotations

import base64
import json
import os
import resource
import threading
from dataclasses import replace
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dock_support import FakeClock, write_config

from evidence import canonical, filenames
from liuhen_dock.board import RATE_WINDOW_S, Board
from liuhen_dock.config import TOKEN_VARIABLE, load_config, read_token
from liuhen_dock.errors import BadReceipt, ConfigError, DockError, Refused
from liuhen_dock.journal import Entry, FileKey, Journal, Phase
from liuhen_dock.lock import only_one
from liuhen_dock.mounts import parse_mountinfo
from liuhen_dock.names import decoded, name_bytes, shown
from liuhen_dock.pace import FairShare, Governor, Hours, RateLimit
from liuhen_dock.profiles import load_profiles, parse_profiles
from liuhen_dock.receipts import Expected, ReceiptFolder, canonical_json, parse_key, verify
from liuhen_dock.transfer import BackOff
from liuhen_dock.tus import TusClient, retry_after
from liuhen_dock.wording import PROBLEMS
from liuhen_dock.zfy import SIZE_BYTES, ZfyInfo

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key()
PUBLIC_TEXT = base64.b64encode(PUBLIC.public_bytes_raw()).decode()

# --- names and profiles -------------------------------------------------------------------------

NAMES = [
    b"DSJ_0000001_123456_20240304_091530_IMP.mp4",
    "执法.mp4".encode(),
    "执法.mp4".encode("gbk"),
    b"\xff\xfe\x00.mp4",
    "\u202egnp.exe\u200b\x07.mp4".encode(),
    b"a" * 400 + b".mp4",
]


STARTED = "2024-03-04T09:15:30+08:00"


@pytest.mark.parametrize("name", NAMES)
def test_names_are_read_and_shown_as_the_server_does(name: bytes) -> None:
    assert decoded(name) == filenames.decode_name(name)
    assert shown(name) == filenames.display_name(name)
    assert name_bytes(os.fsdecode(name)) == name
    assert shown(os.fsdecode(name)) == shown(name)


@pytest.mark.parametrize(
    ("name", "device", "officer", "started", "is_key"),
    [
        ("DSJ_0000001_123456_20240304_091530_IMP.mp4", "0000001", "123456", STARTED, True),
        ("DSJ_0000001_123456_20240304_091530_IMP_enc.mp4", "0000001", "123456", STARTED, True),
        ("DSJ_0000001_123456_20240304_091530.jpg", "0000001", "123456", STARTED, False),
        ("DSJ_0000001_123456_20241344_096130.mp4", "0000001", "123456", None, False),
        ("DSJ_0000001_123456_20240304_091530.mp4\n", None, None, None, False),
        ("holiday_IMP.MP4", None, None, None, True),
        ("IMPORTANT.mp4", None, None, None, False),
    ],
)  # fmt: skip
def test_name_profile_reads_what_the_rules_say(
    name: str, device: str | None, officer: str | None, started: str | None, is_key: bool
) -> None:
    facts = load_profiles()["underscore_v1"].read_name(name)
    assert (facts.device_no, facts.officer_no, facts.is_key) == (device, officer, is_key)
    assert (facts.started_at.isoformat() if facts.started_at else None) == started


@pytest.mark.parametrize(
    ("name", "is_footage"),
    [("a.mp4", True), ("A.MP4", True), ("a.thm", False), ("a.mp4.tmp", False),
     ("._a.mp4", False), ("a", False)],
)  # fmt: skip
def test_companions_are_skipped(name: str, is_footage: bool) -> None:
    assert load_profiles()["underscore_v1"].is_footage(name) is is_footage


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[[profile]]\nname = "x"', "files"),
        ('[[profile]]\nname = "x"\nfiles = ["*"]\ncolour = 1', "colour"),
        ('[[profile]]\nname = "x"\nfiles = ["*"]\nlabel = "("', "label"),
        ('[[profile]]\nname = "x"\nfiles = ["*"]\nfolders = ["../etc"]', "inside the volume"),
        ('[[profile]]\nname = "x"\nfiles = ["*"]\ntimezone = "Moon/Base"', "timezone"),
        ('[[profile]]\nname = "x"\nfiles = ["*"]\nneeds_named = true', "name_pattern"),
        ("[[profile", "TOML"),
    ],
)
def test_faulty_profile_is_named(text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        parse_profiles(text, "mine.toml")


def test_profile_of_ones_own_replaces_the_built_in_one(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[[profile]]\nname = "generic_dcim"\nfiles = ["*.avi"]')
    assert load_profiles(tmp_path)["generic_dcim"].files == ("*.avi",)


# --- ZFY_INFO -----------------------------------------------------------------------------------


def test_zfy_info_is_94_bytes_and_comes_back_from_gbk() -> None:
    info = ZfyInfo("0000001", "123456", "张三", "500101000001", "重庆市某区执法大队")
    raw = info.packed()
    assert len(raw) == SIZE_BYTES == 94
    assert raw[15:19] == "张三".encode("gbk")
    assert ZfyInfo.parse(raw) == info


def test_what_stands_behind_a_nul_is_not_part_of_a_field() -> None:
    raw = bytearray(ZfyInfo("1", "2").packed())
    raw[2:8] = b"SECRET"
    assert ZfyInfo.parse(bytes(raw)).serial == "1"


@pytest.mark.parametrize("raw", [b"", bytes(93), bytes(95), b"\xff" * 94, b"\x01\x02" + bytes(92)])
def test_what_is_no_zfy_info_is_refused(raw: bytes) -> None:
    with pytest.raises(DockError, match="ZFY_INFO"):
        ZfyInfo.parse(raw)


@pytest.mark.parametrize("info", [ZfyInfo(serial="12345678"), ZfyInfo(user_name="张" * 17)])
def test_field_that_leaves_no_room_for_its_nul_is_refused(info: ZfyInfo) -> None:
    with pytest.raises(DockError, match="at most"):
        info.packed()


# --- mounts -------------------------------------------------------------------------------------


def test_mountinfo_gives_names_with_spaces_and_chinese() -> None:
    text = (
        "36 35 98:0 / /media/u/CAM\\0401 rw,noatime shared:1 - vfat /dev/sdb1 rw\n"
        "37 35 98:0 / /media/\\345\\215\\241 rw - exfat /dev/sdc1 rw\nnonsense\n"
    )
    lines = parse_mountinfo(text)
    assert [(str(line.mount_point), line.fs_type) for line in lines] == [
        ("/media/u/CAM 1", "vfat"),
        ("/media/卡", "exfat"),
    ]


# --- journal ------------------------------------------------------------------------------------


def entry(path: str = "DCIM/a.mp4", phase: Phase = Phase.OPEN) -> Entry:
    return Entry(FileKey("0000001", path, 5, 7, 0), phase, location="http://server/uploads/1")


def test_journal_comes_back_and_the_last_word_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    first = journal.put(entry("DCIM/\udcff.mp4"))
    journal.advance(first, Phase.SENT, sha256="ab", item="i")
    journal.close()
    again = Journal(tmp_path / "journal.jsonl")
    assert again.get(first.key) == replace(first, phase=Phase.SENT, sha256="ab", item="i")
    again.close()


@pytest.mark.parametrize("cut", [1, 9, 10, 60, -1])
def test_torn_tail_is_cut_off_and_the_next_line_is_whole(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.put(entry("a"))
    whole = path.stat().st_size
    journal.put(entry("b"))
    journal.close()
    with path.open("r+b") as file:
        file.truncate(whole + cut if cut > 0 else path.stat().st_size + cut)
    again = Journal(path)
    again.put(entry("c"))
    again.close()
    third = Journal(path)
    assert third.get(entry("a").key) and third.get(entry("c").key)
    assert third.damaged_lines == 0
    # A line that lacks its line end alone is whole.
    assert (third.get(entry("b").key) is not None) == (cut == -1)
    third.close()


def test_damaged_line_is_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for name in "abc":
        journal.put(entry(name))
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b'"open"', b'"sent"') + b"\0" * 40 + b"\n" + lines[2])
    again = Journal(path)
    assert again.damaged_lines == 2
    assert [each.key.path for each in again.in_phase(Phase.OPEN)] == ["a", "c"]
    again.close()


def test_journal_grown_long_is_written_anew_without_a_loss(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.put(entry("a"))
    journal.close()
    path.write_bytes(path.read_bytes() * 1500)
    again = Journal(path)
    assert len(path.read_bytes().splitlines()) == 1
    assert again.get(entry("a").key) == entry("a")
    again.close()


def test_journal_that_grows_while_it_is_used_stays_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    kept = journal.put(entry("kept", Phase.SENT))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a thousand of them take seconds
    for offset in range(1100):
        journal.put(replace(entry("moving"), prefix_bytes=offset))
    journal.close()
    assert len((tmp_path / "journal.jsonl").read_bytes().splitlines()) < 200
    again = Journal(tmp_path / "journal.jsonl")
    assert again.get(kept.key) == kept
    moving = again.get(entry("moving").key)
    assert moving is not None
    assert moving.prefix_bytes == 1099
    again.close()


def test_full_disk_of_the_dock_is_said_and_nothing_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.put(entry("before"))
    size = path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))
    try:
        with pytest.raises(DockError) as refused:
            journal.put(entry("during"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refused.value.code == "state_unwritable"
    assert path.stat().st_size == size, "the half line is gone"
    journal.put(entry("after"))
    journal.close()
    again = Journal(path)
    assert [each.key.path for each in again.in_phase(Phase.OPEN)] == ["before", "after"]
    assert again.damaged_lines == 0
    again.close()


def test_second_agent_of_a_state_folder_is_refused(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(ConfigError) as refused, only_one(tmp_path):
        pass
    assert refused.value.code == "already_running"


# --- pace ---------------------------------------------------------------------------------------


def test_cameras_that_always_wait_are_never_more_than_a_piece_apart() -> None:
    shares, piece = FairShare(), 100
    for camera in "abc":
        shares.join(camera)
    for _ in range(500):
        shares.charge(shares.next_of("abc"), piece)
        assert max(shares.served().values()) - min(shares.served().values()) <= piece


def test_latecomer_starts_level_and_starves_nobody() -> None:
    shares = FairShare()
    shares.join("early")
    shares.charge("early", 1_000_000)
    shares.join("late")
    turns = []
    for _ in range(10):
        turns.append(shares.next_of(["early", "late"]))
        shares.charge(turns[-1], 100)
    assert turns.count("early") == turns.count("late") == 5


def test_camera_that_asks_for_small_pieces_gets_as_many_bytes() -> None:
    shares = FairShare()
    shares.join("large")
    shares.join("small")
    for _ in range(1100):
        camera = shares.next_of(["large", "small"])
        shares.charge(camera, 1000 if camera == "large" else 100)
    large, small = shares.served()["large"], shares.served()["small"]
    assert abs(large - small) <= 1000


def test_governor_lets_the_camera_that_had_least_go_first() -> None:
    clock, stop = FakeClock(), threading.Event()
    governor = Governor(RateLimit((), clock, UTC), clock, stop, slots=1)
    turns: list[str] = []
    with governor.sending("rich"), governor.sending("poor"):
        with governor.piece("rich", 1000):
            waiting = [
                threading.Thread(target=take, args=(governor, camera, turns)) for camera in ("rich", "poor")
            ]
            for thread in waiting:
                thread.start()
            while len(governor.waiting()) < 2:
                clock.wait(0, stop)
            assert turns == []
        for thread in waiting:
            thread.join(10)
    assert turns == ["poor", "rich"]


def take(governor: Governor, camera: str, turns: list[str]) -> None:
    with governor.piece(camera, 10):
        turns.append(camera)


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, 4, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "expected"),
    [(at(7, 59), 50), (at(8), 10), (at(17, 59), 10), (at(18), 50), (at(22), 0), (at(3), 0), (at(6), 50)],
)
def test_first_hours_that_hold_give_the_limit(now: datetime, expected: int) -> None:
    hours = [Hours(time(8), time(18), 10), Hours(time(22), time(6), 0), Hours(time(0), time(0), 50)]
    assert RateLimit(hours, FakeClock(now), UTC).bytes_per_s() == expected


def test_limit_is_kept_to_the_byte_over_time() -> None:
    clock, stop = FakeClock(at(9)), threading.Event()
    limit = RateLimit([Hours(time(8), time(18), 1000)], clock, UTC)
    for _ in range(100):
        clock.wait(limit.spend(250), stop)
    assert clock.passed_s == pytest.approx(99 * 0.25)


def test_limit_changes_with_the_hour() -> None:
    clock, stop = FakeClock(at(17, 59)), threading.Event()
    limit = RateLimit([Hours(time(8), time(18), 1000)], clock, UTC)
    assert (limit.bytes_per_s(), limit.piece_bytes()) == (1000, 16 << 10)
    clock.wait(60, stop)
    assert (limit.bytes_per_s(), limit.piece_bytes()) == (None, 1 << 20)
    assert limit.spend(1 << 30) == 0


def test_waits_grow_and_never_undercut_what_the_server_asks() -> None:
    back_off = BackOff(lambda: 0.0)
    assert [back_off.next_s() for _ in range(4)] == [0.25, 0.5, 1.0, 2.0]
    assert back_off.next_s(30) == 30
    for _ in range(30):
        back_off.next_s()
    assert back_off.next_s() == 30
    back_off.reset()
    assert back_off.next_s() == 0.25
    assert BackOff(lambda: 1.0).next_s(30) == 33


@pytest.mark.parametrize(
    ("value", "expected"),
    [("5", 5), ("0", 0), ("999999", 3600), ("", None), ("soon", None), ("-3", None),
     ("Wed, 04 Mar 2026 09:00:20 GMT", 20), ("Wed, 04 Mar 2026 08:00:00 GMT", 0)],
)  # fmt: skip
def test_retry_after_is_read_in_both_its_forms(value: str, expected: float | None) -> None:
    assert retry_after(httpx.Response(503, headers={"Retry-After": value}), at(9)) == expected


# --- receipts -----------------------------------------------------------------------------------

BODY: dict[str, Any] = {
    "version": "liuhen-receipt/1", "agency": "demo", "item": "i-1", "reception": "r-1", "sha256": "ab" * 32,
    "sm3": None, "size_bytes": 5, "may_erase": True, "备注": "\u20ac\U0001f600\n",
}  # fmt: skip
EXPECTED = Expected("ab" * 32, 5, "i-1", "0000001")


def signed(body: dict[str, Any], key: Ed25519PrivateKey = KEY) -> bytes:
    signature = base64.b64encode(key.sign(canonical.canonical_json(body))).decode()
    return json.dumps({**body, "key": "receipt-x", "signature": signature}).encode()


def test_receipt_that_holds_is_believed_by_any_configured_key() -> None:
    older = Ed25519PrivateKey.generate().public_key()
    assert verify(signed(BODY), [older, PUBLIC], EXPECTED)["item"] == "i-1"


@pytest.mark.parametrize(
    ("named", "card"),
    [
        ({}, "0000001"),
        ({"device_no": None}, "0000001"),
        ({"device_no": "0000001"}, "0000001"),
        ({"device_no": "0000001"}, " 0000001 "),
        ({"device_no": "0000001"}, ""),
    ],
)
def test_receipt_may_name_the_cards_device_or_none(named: dict[str, Any], card: str) -> None:
    assert verify(signed({**BODY, **named}), [PUBLIC], replace(EXPECTED, device_no=card))


@pytest.mark.parametrize(
    "raw",
    [
        signed({**BODY, "device_no": 1}),
        signed({**BODY, "device_no": ""}),
        signed({**BODY, "device_no": ["0000001"]}),
        signed(BODY, Ed25519PrivateKey.generate()),
        signed(BODY).replace(b'"i-1"', b'"i-2"'),
        signed({**BODY, "item": "i-2"}),
        signed({**BODY, "sha256": "cd" * 32}),
        signed({**BODY, "size_bytes": 6}),
        signed({**BODY, "size_bytes": True}),
        signed({**BODY, "may_erase": False}),
        signed({**BODY, "may_erase": 1}),
        signed({**BODY, "version": "liuhen-receipt/2"}),
        signed({**BODY, "device_no": "0000002"}),
        signed({name: value for name, value in BODY.items() if name != "may_erase"}),
        signed(BODY)[:-1] + b', "item": "i-1"}',
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"signature": 5}',
        b"[" * 70_000,
        b"[" * 60_000,
        b"x" * 70_000,
        signed(BODY).replace(b'"size_bytes": 5', b'"size_bytes": 5.0'),
        signed(BODY).replace(b'"size_bytes": 5', b'"size_bytes": 5, "size_bytes": 5'),
    ],
)
def test_receipt_that_does_not_hold_is_not_believed(raw: bytes) -> None:
    with pytest.raises(BadReceipt):
        verify(raw, [PUBLIC], EXPECTED)


def test_receipt_for_an_item_the_server_never_named_is_not_believed() -> None:
    with pytest.raises(BadReceipt, match="item"):
        verify(signed({**BODY, "item": ""}), [PUBLIC], replace(EXPECTED, item=""))


@pytest.mark.parametrize(
    "value", [BODY, [1, -2, True, None, "\u2028\x7f\x00"], {"b": 1, "a": {"\ue000": 1, "\U0001f600": 2}}]
)
def test_canonical_json_is_the_servers(value: Any) -> None:
    assert canonical_json(value) == canonical.canonical_json(value)


def test_receipts_are_kept_and_found_by_digest_alone(tmp_path: Path) -> None:
    folder = ReceiptFolder(tmp_path)
    path = folder.keep("ab" * 32, {"reception": "../../etc/passwd"}, b"{}")
    assert path.is_relative_to(tmp_path)
    assert folder.find("ab" * 32) == folder.find("abab") == [path]
    assert folder.find("../..") == folder.find("cd") == []


def test_key_that_is_none_is_refused() -> None:
    for text in ("", "AAAA", "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----"):
        with pytest.raises(ConfigError):
            parse_key(text)


# --- the configuration --------------------------------------------------------------------------


def test_every_fault_of_a_configuration_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "dock.toml"
    path.write_text(
        """
colour = "red"
[server]
url = "http://footage.example"
receipt_keys = ["missing.pem"]
[dock]
free_after_receipt = "yes"
timezone = "Moon/Base"
[watch]
profiles = ["nobody"]
[upload]
max_cameras = 0
[[rate]]
hours = "8-18"
limit_mbit_s = 5
[[slot]]
profile = "generic_dcim"
[[slot]]
folder = "x"
colour = "blue"
"""
    )
    with pytest.raises(ConfigError) as refused:
        load_config(path, {})
    lines = refused.value.message.splitlines()
    for fault in (
        "colour: is unknown", "server.url: expected https", "server.receipt_keys", "dock.free_after_receipt",
        "dock.state_dir", "dock.timezone", "watch.profiles", "upload.max_cameras", "rate 1.hours",
        "slot 1.folder", "slot 2.colour",
    ):  # fmt: skip
        assert sum(f": {fault}" in line for line in lines) == 1, fault


def test_missing_token_and_profiles_are_told_with_the_rest_and_bring_no_others(tmp_path: Path) -> None:
    path = write_config(tmp_path, "http://127.0.0.1:1", PUBLIC_TEXT, tmp_path / "card")
    text = path.read_text("utf-8").replace(
        "mount_roots", 'profiles = ["own"]\nprofiles_dir = "none"\nmount_roots'
    )
    path.write_text(text.replace("[[slot]]", '[[slot]]\nprofile = "own"'), "utf-8")
    (tmp_path / "token").unlink()
    with pytest.raises(ConfigError) as refused:
        load_config(path, {}, needs_token=True)
    faults = [line.removeprefix(f"{path}: ") for line in refused.value.message.splitlines()]
    assert [fault.split()[0] for fault in faults] == ["watch.profiles_dir:", "token"]


def test_key_is_taken_in_every_form_it_is_exported_or_copied_in() -> None:
    pem = PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for form in (pem, pem.splitlines()[1], PUBLIC_TEXT):
        assert parse_key(form).public_bytes_raw() == PUBLIC.public_bytes_raw()
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(ConfigError, match="Ed25519"):
        parse_key(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def test_agent_nobody_looks_at_keeps_no_more_than_the_last_seconds() -> None:
    clock = FakeClock()
    board = Board(clock)
    for _ in range(1000):
        board.acknowledged(1)
        clock.passed_s += 1
    assert len(board._samples) <= RATE_WINDOW_S + 1


def test_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, "http://127.0.0.1:1", PUBLIC_TEXT), {})
    assert read_token(config) == "dock-1-secret"
    (tmp_path / "token").chmod(0o644)
    with pytest.raises(ConfigError, match="0600"):
        read_token(config)
    assert read_token(replace(config, variables={TOKEN_VARIABLE: "from-the-environment"})) == (
        "from-the-environment"
    )


def test_token_goes_to_the_configured_server_alone(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, "http://127.0.0.1:8080", PUBLIC_TEXT), {})
    with TusClient(config, "a-token", None) as client:
        assert client.require_ours("http://127.0.0.1:8080/uploads/1")
        for elsewhere in (
            "http://127.0.0.1:8081/uploads/1",
            "http://evil.example/u/1",
            "https://127.0.0.1:8080/u",
        ):
            with pytest.raises(Refused, match="other_hosts"):
                client.require_ours(elsewhere)


def test_every_code_has_words_in_both_languages() -> None:
    for code, said in PROBLEMS.items():
        assert all((said.zh, said.en, said.do_zh, said.do_en)), code
        assert any("\u4e00" <= char <= "\u9fff" for char in said.zh), code
