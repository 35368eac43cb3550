"""The device ledger as the part-time administrator types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli import dock, policy, shell, upload_token
from cli.main import main
from cli.report import worded


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIUHEN_DATA__FREE_FLOOR_BYTES", "0")
    return tmp_path / "data"


def test_lists_go_on_past_a_page(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (shell, dock, upload_token, policy):
        monkeypatch.setattr(module, "PAGE", 2)
    assert main(["init", "--agency-code", "demo", "--data", str(data)]) == 0
    for number in range(4):
        assert main(["token", "issue", "--dock", f"D-{number}", "--data", str(data)]) == 0
    for hours in range(3):
        words = ["--value", f"hours={hours}", "--source", "本局规定", "--data", str(data)]
        assert main(["policy", "set", "upload_deadline", *words]) == 0

    def listed(*words: str) -> list[dict[str, object]]:
        capsys.readouterr()
        assert main([*words, "--json", "--data", str(data)]) == 0
        found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
        return found

    numbers = [f"D-{number}" for number in range(4)]
    assert [row["dock_no"] for row in listed("dock", "list")] == numbers
    assert [row["dock_no"] for row in listed("token", "list")] == numbers[::-1]
    assert [row["version"] for row in listed("policy", "history", "upload_deadline")] == [1, 2, 3]


def test_a_year_of_the_ledger_by_command(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def liuhen(*words: str) -> int:
        capsys.readouterr()
        return main([*words, "--data", str(data)])

    def listed(*words: str) -> list[dict[str, object]]:
        assert liuhen(*words, "--json") == 0
        found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
        return found

    assert liuhen("init", "--agency-code", "demo") == 0
    table = tmp_path / "people.csv"
    table.write_text("警号,姓名\nP1,王五\nP2\n", encoding="gb18030")
    assert liuhen("officer", "import", str(table)) == 2
    assert "第3行" in capsys.readouterr().err
    assert liuhen("officer", "import", str(table), "--skip-bad") == 0
    (tmp_path / "devices.csv").write_text("设备编号,型号\nCAM1,X\n", encoding="utf-8")
    assert liuhen("device", "import", str(tmp_path / "devices.csv")) == 0
    assert liuhen("device", "issue", "CAM1", "P1", "--at", "2026-01-05T08:00") == 0
    assert liuhen("device", "return", "CAM1", "--at", "2026-01-04T08:00") == 2
    assert liuhen("device", "return", "CAM1", "--at", "2026-01-06T08:00") == 0
    assert liuhen("device", "return", "CAM1") == 4
    (tmp_path / "issues.csv").write_text("device_no,officer_no,issued_at\nCAM1,P1,2026-02-01\n")
    assert liuhen("device", "import-issues", str(tmp_path / "issues.csv")) == 0
    assert liuhen("device", "show", "CAM1") == 0
    shown = capsys.readouterr().out
    assert shown.count("P1") == 2
    assert liuhen("duty", "add", "P1", "2026-02-10T08:30", "2026-02-10T17:30") == 0
    assert liuhen("duty", "add", "P1", "2026-02-10T16:30", "2026-02-10T18:30") == 4
    (entered,) = listed("duty", "list")
    assert (entered["officer_no"], entered["duty_from"]) == ("P1", "2026-02-10 08:30:00")
    assert liuhen("token", "issue", "--dock", "D-01") == 0
    assert liuhen("dock", "add", "D-01", "--place", "一楼") == 4
    assert "liuhen dock set" in capsys.readouterr().err, "the way out is named"
    for place in ("一楼", "二楼", "二楼"):
        assert liuhen("dock", "set", "D-01", "--place", place) == 0
    assert [row["place"] for row in listed("dock", "list")] == ["二楼"]
    assert liuhen("dock", "set", "D-02", "--place", "一楼") == 3
    (token,) = listed("token", "list")
    assert liuhen("token", "rotate", str(token["id"]), "--overlap-hours", "0") == 0
    assert liuhen("token", "rotate", str(token["id"])) == 4
    assert liuhen("policy", "set", "upload_deadline", "--preset", "same_day", "--from", "2026-01-01") == 0
    assert liuhen("policy", "set", "upload_deadline", "--value", "hours=two", "--source", "x") == 2
    assert liuhen("policy", "set", "upload_deadline", "--value", "hours=2", "--source", "本局规定") == 0
    assert [row["version"] for row in listed("policy", "history", "upload_deadline")] == [1, 2]
    assert liuhen("policy", "show", "clock") == 0
    assert "secondary" in capsys.readouterr().out
    made = tmp_path / "absence.csv"
    period = ("--from", "2026-02-10", "--to", "2026-02-11")
    assert liuhen("report", "absence", *period, "--csv", str(made), "--xlsx", str(tmp_path / "a.xlsx")) == 0
    assert "nothing_recorded,P1,CAM1,2026-02-10 08:30:00" in made.read_text(encoding="utf-8-sig")
    assert liuhen("report", "absence", *period, "--csv", str(made)) == 4
    assert liuhen("report", "ratio", "--from", "2026-02-10", "--to", "2026-02-10") == 2
    for name in ("lateness", "ratio", "health", "clock"):
        assert liuhen("report", name) == 0
    assert [worded(value) for value in (True, False, 0, None)] == ["是 yes", "否 no", 0, None]
    assert liuhen("device", "fault", "CAM1", "按键失灵") == 0
    (fault,) = listed("device", "faults")
    assert liuhen("device", "mend", str(fault["id"]), "更换") == 0
    assert listed("device", "unknown") == []
    assert liuhen("device", "retire", "CAM1") == 0
    assert liuhen("dock", "retire", "D-01") == 0
    assert liuhen("dock", "set", "D-01", "--place", "三楼") == 4
    assert listed("device", "list")[0]["state"] == "retired"
