"""Commands as an operator types them, over a real installation."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from cli.main import main
from evidence.canonical import canonical_json
from storage.db import agencies, grants, items
from storage.db.tables import Account, CaseBinding, Grant
from storage.keys import Purpose
from storage.open import open_storage
from tests.support.held_shift import play_shift
from tests.support.installations import settings_for

Liuhen = Callable[..., int]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIUHEN_DATA__FREE_FLOOR_BYTES", "0")
    return tmp_path / "data"


@pytest.fixture
def liuhen(data: Path) -> Liuhen:
    """Run a command on the data folder; its exit status."""
    return lambda *words: main([*map(str, words), "--data", str(data)])


@pytest.fixture
def founded(liuhen: Liuhen, capsys: pytest.CaptureFixture[str]) -> str:
    """What founding printed."""
    assert liuhen("init", "--agency-code", "demo", "--case-no-pattern", r"示执罚\(\d{4}\)\d+号") == 0
    return capsys.readouterr().out


def said(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def granted(data: Path, binding_id: str) -> UUID:
    """A grant of the original of what that binding ties, for whoever there is."""
    storage = open_storage(settings_for(data.parent, f"sqlite:///{data / 'liuhen.db'}"))
    now = storage.clock.now()
    with storage.database.transaction() as session:
        tied = session.scalars(select(CaseBinding).where(CaseBinding.id == UUID(binding_id))).one()
        account = session.scalars(select(Account).limit(1)).one()
        made = grants.new_grant(
            tied.agency_id,
            account_id=account.id,
            item_id=tied.item_id,
            case_id=None,
            variant="original",
            span_us=None,
            purpose="case_handling",
            reason="x",
            now=now,
            expires_at=now + timedelta(hours=1),
        )
        session.add(made)
        return made.id


def test_first_accounts_are_shown_once(
    liuhen: Liuhen, founded: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "admin" in founded
    assert "security" in founded
    assert liuhen("init") == 0
    assert "admin" not in capsys.readouterr().out


def test_nothing_is_founded_without_a_code(
    data: Path, liuhen: Liuhen, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert liuhen("init") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--agency-code CODE" in line
    assert "make run AGENCY=CODE" in line
    assert liuhen("init", "--agency-code", "../x") == 2
    assert liuhen("init", "--agency-code", "x", "--time-zone", "Mars/Olympus") == 2
    assert not data.exists()
    typed = iter(["yzj\n", " 渝中区执法局 \n"])
    monkeypatch.setattr("cli.init.confirm_tty", lambda: True)
    monkeypatch.setattr("sys.stdin.readline", lambda: next(typed), raising=False)
    assert liuhen("init") == 0
    assert "机构 / agency: yzj  渝中区执法局\n" in capsys.readouterr().out


def test_what_was_founded_is_not_passed_over_and_its_name_alone_is_corrected(
    data: Path, liuhen: Liuhen, founded: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "机构 / agency: demo  demo\n" in founded
    assert liuhen("init", "--agency-code", "yzj", "--agency-name", "渝中区执法局") == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected --agency-code demo, --agency-name demo, found yzj, 渝中区执法局" in line
    assert liuhen("agency", "rename", "渝中区执法局") == 0
    assert liuhen("agency", "rename", " 渝中区执法局") == 0
    assert liuhen("agency", "rename", "\n") == 2
    assert liuhen("init", "--agency-code", "demo", "--agency-name", "渝中区执法局") == 0
    capsys.readouterr()
    assert liuhen("agency", "show", "--json") == 0
    assert said(capsys)["name"] == "渝中区执法局"
    assert liuhen("case", "list", "--agency", "yzj") == 3
    assert "expected demo, found none of that code" in capsys.readouterr().err
    with closing(sqlite3.connect(data / "liuhen.db")) as rows:
        counted = rows.execute("SELECT count(*) FROM custody_leaf WHERE action = 'agency:renamed'")
        assert counted.fetchone() == (1,)
    assert liuhen("check") == 0


def test_registers_are_kept_by_commands(
    liuhen: Liuhen, founded: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (
        ("officer", "add", "330101", "张三", "--certificate", "Z1"),
        ("device", "add", "D1", "--model", "DSJ-4"),
        ("device", "issue", "D1", "330101"),
        ("account", "add", "wang", "--role", "handler"),
        ("case", "add", "示执罚〔2026〕17号", "--officer", "330101", "--handler", "wang"),
        ("token", "issue", "--dock", "K1", "--device", "D1"),
    ):
        assert liuhen(*words) == 0, words
    capsys.readouterr()
    liuhen("device", "list", "--json")
    assert said(capsys)[0]["officer_no"] == "330101"
    liuhen("case", "list", "--prefix", "示执罚（２０２６）", "--json")
    assert said(capsys)[0]["case_no"] == "示执罚〔2026〕17号"
    assert liuhen("case", "timeline", "示执罚[2026]17号", "--json") == 0
    assert said(capsys) == []
    assert liuhen("case", "timeline", "示执罚[2026]18号") == 3
    capsys.readouterr()
    liuhen("token", "list", "--json")
    token = said(capsys)[0]
    assert liuhen("token", "revoke", token["id"]) == 0
    assert liuhen("account", "disable", "wang") == 0
    capsys.readouterr()
    liuhen("account", "list", "--json")
    assert {row["username"]: bool(row["disabled_at"]) for row in said(capsys)} == {
        "admin": False,
        "security": False,
        "wang": True,
    }
    assert liuhen("check") == 0


def test_each_kind_of_error_has_its_exit_status_and_one_line(
    liuhen: Liuhen, founded: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert liuhen("case", "add", "not the agency's form") == 2
    assert liuhen("device", "adopt", "D9") == 3
    assert liuhen("account", "add", "admin", "--role", "reviewer") == 4
    assert liuhen("account", "add", "x", "--role", "auditor", "--role", "system_admin") == 2
    assert main(["item", "list", "--data", str(tmp_path / "elsewhere")]) == 6
    assert main(["check", "--set", "worker.processes=many"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 6
    assert all(line.startswith("liuhen: ") for line in lines)
    assert "[case_no_form]" in lines[0]


def test_cases_come_from_a_spreadsheet_whole_or_not_at_all(
    liuhen: Liuhen, founded: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sheet = tmp_path / "cases.csv"
    sheet.write_bytes(
        "案号,案由\n示执罚〔2026〕1号,占道\n坏号,占道\n示执罚〔2026〕2号,噪声\n".encode("gb18030")
    )
    assert liuhen("case", "import", sheet) == 2
    assert "第3行 / line 3" in capsys.readouterr().err
    liuhen("case", "list", "--json")
    assert said(capsys) == []
    assert liuhen("case", "import", sheet, "--skip-bad") == 0
    capsys.readouterr()
    liuhen("case", "list", "--json")
    assert len(said(capsys)) == 2


def test_taken_files_are_held_bound_and_unbound(
    liuhen: Liuhen, data: Path, founded: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    liuhen("case", "add", "示执罚〔2026〕17号")
    card = tmp_path / "card"
    card.mkdir()
    for number in range(3):
        (card / f"clip{number}.mp4").write_bytes(bytes([number]) * 2_000_000)
    (card / "link.mp4").symlink_to(card / "clip0.mp4")
    before = {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in card.iterdir()}
    capsys.readouterr()
    assert liuhen("take", card, "--device", "D1", "--json") == 0
    rows = said(capsys)
    assert [row["name"] for row in rows] == ["clip0.mp4", "clip1.mp4", "clip2.mp4"]
    assert {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in card.iterdir()} == before
    assert liuhen("item", "list", "--json") == 0
    digests = {row["name"]: row["sha256"] for row in said(capsys)}
    held = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in card.glob("clip*.mp4")}
    assert digests == held
    assert liuhen("item", "list") == 0
    table = capsys.readouterr().out
    assert all(digest[:12] in table and digest not in table for digest in held.values())
    item = rows[0]["item"]
    assert (
        liuhen("bind", item, "示执罚[2026]17号", "--reason", "指定", "--from", "0:00", "--to", "0:01.5") == 0
    )
    capsys.readouterr()
    assert liuhen("item", "show", item, "--json") == 0
    shown = said(capsys)
    assert shown["bindings"][0]["to_us"] == 1_500_000
    assert liuhen("case", "timeline", "示执罚[2026]17号", "--json") == 0
    (laid,) = said(capsys)
    assert (laid["item_id"], laid["gap_s"], laid["overlap_s"]) == (item, None, None)
    assert liuhen("case", "timeline", "示执罚[2026]17号") == 0
    assert laid["name"] in capsys.readouterr().out
    grant_id = granted(data, shown["bindings"][0]["id"])
    assert liuhen("unbind", shown["bindings"][0]["id"], "--reason", "误关联") == 0
    with open_storage(
        settings_for(data.parent, f"sqlite:///{data / 'liuhen.db'}")
    ).database.read() as session:
        assert session.scalars(select(Grant).where(Grant.id == grant_id)).one().revoked_at is not None
    assert liuhen("unbind", shown["bindings"][0]["id"], "--reason", "误关联") == 4
    capsys.readouterr()
    assert liuhen("item", "show", item) == 0
    told = capsys.readouterr().out
    assert "保管 custody" in told and "已接收 received" in told and "采集起 captured_from" in told
    assert liuhen("check", "--depth", "digests") == 0


def test_file_that_cannot_be_taken_is_named_and_the_others_go_on(
    liuhen: Liuhen, founded: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "good.mp4").write_bytes(b"x" * 1000)
    assert liuhen("take", tmp_path / "gone.mp4", tmp_path / "good.mp4", "--json") == 6
    captured = capsys.readouterr()
    assert "gone.mp4" in captured.err
    assert [row["name"] for row in json.loads(captured.out)] == ["good.mp4"]
    staging = tmp_path / "data" / "objects" / "staging"
    assert list(staging.iterdir()) == []


def test_log_is_exported_proved_and_verified_against_a_kept_checkpoint(
    liuhen: Liuhen, founded: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kept, export, key = tmp_path / "kept", tmp_path / "export", tmp_path / "key.pem"
    assert liuhen("custody", "checkpoint", "--out", kept) == 0
    liuhen("officer", "add", "330101", "张三")
    assert liuhen("custody", "export", export) == 0
    assert liuhen("custody", "export", export) == 6  # Never written over.
    assert liuhen("keys", "export", "checkpoint", "--out", key) == 0
    assert liuhen("verify", "--checkpoint", kept) == 0
    assert main(["verify", str(export), "--checkpoint", str(kept), "--key", str(key)]) == 0
    assert "张三" not in export.read_text()
    lines = export.read_text().splitlines(keepends=True)
    export.write_text("".join(lines[:2] + lines[3:]))
    capsys.readouterr()
    assert main(["verify", str(export), "--checkpoint", str(kept), "--json"]) == 1
    assert {found["kind"] for found in said(capsys)} >= {"removed"}
    proof = tmp_path / "proof"
    leaf = json.loads(lines[1])["leaf_id"]
    assert liuhen("custody", "prove", leaf, "--out", proof) == 0
    assert liuhen("custody", "prove", "--since", kept) == 0
    assert liuhen("custody", "prove") == 2


def test_receipt_is_verified_offline(
    data: Path, tmp_path: Path, liuhen: Liuhen, capsys: pytest.CaptureFixture[str]
) -> None:
    liuhen("init", "--agency-code", "demo")
    settings = settings_for(tmp_path, f"sqlite:///{data / 'liuhen.db'}")
    storage = open_storage(settings)
    desk = play_shift(settings, storage, tmp_path, count=1)
    with storage.database.read() as session:
        agency = agencies.agencies(session)[0]
        item = items.page_of_items(session, agency.id, items.ItemFilter(), after=None, limit=1)[0]
        receipt = items.receptions_of(session, agency.id, item.id)[0].receipt
    desk.storage.database.dispose()
    assert receipt is not None
    device_no = json.loads(receipt)["device_no"]
    # As it was given before receipts named the device.
    unnamed = {
        name: value
        for name, value in json.loads(receipt).items()
        if name not in {"device_no", "key", "signature"}
    }
    key_id, signature = storage.keys.sign(Purpose.RECEIPT, canonical_json(unnamed))
    path, key = tmp_path / "receipt.json", tmp_path / "key.pem"
    path.write_text(receipt)
    liuhen("keys", "export", "receipt", "--out", key)
    footage = tmp_path / "DSJ-D1_0.mp4"
    words = ["receipt", "verify", str(path), "--key", str(key), "--footage"]
    capsys.readouterr()
    assert main([*words, str(footage)]) == 0
    assert f"device {device_no} " in capsys.readouterr().out
    # As the answer about all receptions of some bytes holds it, and one that has none yet.
    told = {"received_at": "2026-01-02T00:00:00Z", "receipt": json.loads(receipt)}
    waits = {"received_at": "2026-01-03T00:00:00Z", "receipt": None}
    path.write_text(json.dumps({"sha256": "…", "receptions": [told, waits]}))
    assert main([*words, str(footage)]) == 0
    path.write_text(json.dumps({"receptions": [waits]}))
    assert main([*words, str(footage)]) == 2
    capsys.readouterr()
    signed = {"key": key_id, "signature": base64.b64encode(signature).decode()}
    path.write_text(json.dumps({**unnamed, **signed}))
    assert main([*words, str(footage)]) == 0
    assert "not named" in capsys.readouterr().out
    path.write_text(json.dumps({**unnamed, **signed, "device_no": device_no}))
    assert main([*words, str(footage)]) == 1
    path.write_text(receipt)
    footage.write_bytes(b"other")
    assert main([*words, str(footage)]) == 1
    path.write_text(receipt.replace('"size_bytes":4000', '"size_bytes":4001'))
    capsys.readouterr()
    assert main(words[:-1]) == 1
    assert "签名" in capsys.readouterr().out


def test_backup_is_restored_by_command(
    liuhen: Liuhen, founded: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x" * 1000)
    liuhen("take", tmp_path / "a.mp4")
    capsys.readouterr()
    assert liuhen("backup", tmp_path / "backup", "--objects") == 0
    digest = capsys.readouterr().out.split()[-1]
    new = str(tmp_path / "new")
    assert main(["restore", str(tmp_path / "backup"), "--data", new, "--manifest-sha256", "0" * 64]) == 7
    assert main(["restore", str(tmp_path / "backup"), "--data", new, "--manifest-sha256", digest]) == 0
    assert main(["verify", "--data", new]) == 0


def test_stuck_job_is_listed_and_requeued(
    liuhen: Liuhen, founded: str, capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x" * 1000)
    liuhen("take", tmp_path / "a.mp4")
    capsys.readouterr()
    liuhen("jobs", "stuck", "--older-than", "0", "--json")
    rows = said(capsys)
    assert {row["kind"] for row in rows} == {"verify", "probe"}
    assert liuhen("jobs", "requeue", rows[0]["id"]) == 4
    assert liuhen("jobs", "counts") == 0


def test_claims_conflicts_and_recordings_are_shown(
    liuhen: Liuhen, founded: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    name = "DSJ_0000001_123456_20240304_091530.mp4"
    (tmp_path / name).write_bytes(b"x" * 1000)
    capsys.readouterr()
    begun = ("--from", "2024-03-04T09:20:00+08:00")
    assert liuhen("take", tmp_path / name, "--device", "0000009", *begun, "--json") == 0
    item = said(capsys)[0]["item"]
    assert liuhen("item", "show", item, "--json") == 0
    shown = said(capsys)
    assert {row["subject"]: row["spread_s"] for row in shown["conflicts"]} == {
        "device_no": None,
        "started": 270.0,
    }
    assert "0000001 (filename)" in shown["conflicts"][0]["said"]
    started = next(row for row in shown["claims"] if row["field"] == "device_started_at")
    assert (started["value"], started["offset_s"]) == ("2024-03-04T09:15:30+08:00", None)
    capsys.readouterr()
    assert liuhen("item", "facts", item) == 2
    assert liuhen("item", "facts", item, "--place", "两行\n地点") == 2
    assert liuhen("item", "facts", item, "--from", "2024-03-04T09:20", "--to", "2024-03-04T09:10") == 2
    capsys.readouterr()
    assert liuhen("item", "facts", item, "--place", " 人民路12号 ", "--proof", "占道经营") == 0
    told = capsys.readouterr().out
    assert "案件编号" in told and "采集时间" in told and "采集地点" not in told
    assert liuhen("item", "show", item, "--json") == 0
    shown = said(capsys)
    assert (shown["place"], shown["object_of_proof"]) == ("人民路12号", "占道经营")
    assert ("place", "person") in {(row["field"], row["source"]) for row in shown["claims"]}
    assert liuhen("item", "recording", item, "--json") == 0
    found = said(capsys)
    assert [row["id"] for row in found["members"]] == [item]
    assert (found["by"], found["joints"], found["missing_sequence_nos"]) == (None, [], [])
    assert liuhen("item", "recording", item) == 0
    assert name in capsys.readouterr().out
