"""The command as an operator types it, and the page beside it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dock_support import Card, FakeClock, Server, server, write_config
from rich.console import Console

from liuhen_dock import cli
from liuhen_dock.board import Board
from liuhen_dock.errors import DockError
from liuhen_dock.lock import only_one
from liuhen_dock.page import page
from liuhen_dock.terminal import summary, table
from liuhen_dock.wording import State
from tests.integration.tus_server import free_port


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def upstream(listener: Server) -> Server:
    listener.forget()
    return listener


@pytest.fixture(autouse=True)
def signals_stay_pytests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_stop_on_signals", lambda station: None)


def configured(tmp_path: Path, upstream: Server, *cards: Card, **dock: Any) -> Path:
    roots = [card.root for card in cards]
    return write_config(tmp_path, upstream.run.url, upstream.issuer.public_key, *roots, **dock)


def test_once_uploads_frees_and_says_so(
    tmp_path: Path, upstream: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    card = Card(tmp_path / "card")
    card.record(1, 1000)
    path = configured(tmp_path, upstream, card, free_after_receipt=True)
    assert cli.main(["once", "--config", str(path), "--no-table"]) == cli.OK
    assert "0000001: 全部完成" in capsys.readouterr().out
    assert card.left() == set()
    digest = upstream.run.register.finished[0].sha256.hex()
    assert cli.main(["receipt", "--config", str(path), digest[:8]]) == cli.OK
    assert f"sha256 {digest}" in capsys.readouterr().out
    kept = next((tmp_path / "state" / "receipts").rglob("*.json"))
    assert cli.main(["receipt", str(kept), "--key", upstream.issuer.public_key]) == cli.OK
    other = base64.b64encode(Ed25519PrivateKey.generate().public_key().public_bytes_raw()).decode()
    assert cli.main(["receipt", str(kept), "--key", other]) == cli.LEFT
    assert "无效 / not valid" in capsys.readouterr().out
    assert cli.main(["receipt", "--config", str(path), "ffff"]) == cli.LEFT
    own = ["receipt", "--config", str(path), digest[:8], "--key"]
    assert (cli.main([*own, upstream.issuer.public_key]), cli.main([*own, other])) == (cli.OK, cli.LEFT)
    away = ["receipt", "--config", str(tmp_path / "none"), str(kept), "--key", upstream.issuer.public_key]
    assert cli.main(away) == cli.OK, "a receipt and a key are enough, anywhere"


def test_once_without_receipts_ends_with_something_left(
    tmp_path: Path, upstream: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.issuer.is_open = False
    card = Card(tmp_path / "card")
    card.record(1, 1000)
    path = configured(tmp_path, upstream, card)
    assert cli.main(["once", "--config", str(path), "--wait-s", "0", "--no-table"]) == cli.LEFT
    said = capsys.readouterr().out
    assert "等待回执" in said
    assert "Do not erase" in said


def test_unusable_configuration_token_and_second_agent_have_their_status(
    tmp_path: Path, upstream: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check-config", "--config", str(tmp_path / "none.toml")]) == cli.UNUSABLE
    path = configured(tmp_path, upstream)
    assert cli.main(["check-config", "--config", str(path)]) == cli.OK
    assert "从不清理 / never freed" in capsys.readouterr().out
    (tmp_path / "token").chmod(0o604)
    assert cli.main(["check-config", "--config", str(path)]) == cli.UNUSABLE
    assert "chmod 600" in capsys.readouterr().err
    (tmp_path / "token").chmod(0o600)
    with only_one(tmp_path / "state"):
        assert cli.main(["once", "--config", str(path), "--no-table"]) == cli.TAKEN


def test_profiles_are_listed_and_tried(
    tmp_path: Path, upstream: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(configured(tmp_path, upstream))
    assert cli.main(["profiles", "--config", path]) == cli.OK
    assert "* underscore_v1" in capsys.readouterr().out
    card = Card(tmp_path / "card")
    card.write("holiday.mp4", b"")
    assert cli.main(["profiles", "--config", path, "--try", str(card.root)]) == cli.LEFT
    card.record(1, 10)
    assert cli.main(["profiles", "--config", path, "--try", str(card.root)]) == cli.OK
    assert "underscore_v1" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["", "run", "once", "status", "profiles", "check-config", "receipt"])
def test_help_speaks_both_languages(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*command.split(), "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert any("\u4e00" <= char <= "\u9fff" for char in said)
    assert "configuration" in said


def shown_board() -> Board:
    board = Board(FakeClock())
    board.panel("/media/cam", "CAM")
    board.update("/media/cam", state=State.HELD_UP, device_no="0000001", files_total=3, bytes_total=300)
    board.problem("/media/cam", DockError("clip: expected bytes", code="card_unreadable"), "<b>a.mp4")
    board.server(DockError("server: expected an answer", code="server_unreachable"))
    board.ignored({"/media/stick": "[red]STICK"})
    return board


def test_page_shows_the_board_to_this_machine_alone() -> None:
    board, port = shown_board(), free_port()
    with (
        page(port, board.snapshot),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        answers = {path: client.get(path) for path in ("/", "/page.js", "/page.css", "/state.json", "/else")}
        assert [answer.status_code for answer in answers.values()] == [200, 200, 200, 200, 404]
        assert "default-src 'none'" in answers["/"].headers["Content-Security-Policy"]
        seen = answers["/state.json"].json()
        assert seen["cameras"][0]["may_unplug"] is False
        assert seen["server"]["zh"] == "连不上服务器"
        assert client.get("/state.json", headers={"Host": "evil.example"}).status_code == 403
        assert client.post("/state.json").status_code == 501


def test_status_asks_the_running_agent(
    tmp_path: Path, upstream: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    path, port = configured(tmp_path, upstream), free_port()
    path.write_text(path.read_text("utf-8").replace("port = 0", f"port = {port}"), "utf-8")
    assert cli.main(["status", "--config", str(path)]) == cli.LEFT
    assert "没有运行" in capsys.readouterr().err
    with page(port, shown_board().snapshot):
        assert cli.main(["status", "--config", str(path)]) == cli.LEFT, "the server is not well"
        assert "卡上的文件读不出来" in capsys.readouterr().out
        assert cli.main(["status", "--config", str(path), "--json"]) == cli.LEFT
        assert json.loads(capsys.readouterr().out)["cameras"][0]["device_no"] == "0000001"


def test_terminal_shows_names_as_text_and_never_as_markup() -> None:
    console = Console(width=160, record=True, force_terminal=False, file=open_nothing())
    seen = shown_board().snapshot()
    console.print(table(seen))
    said = console.export_text()
    for text in ("0000001", "请勿拔出 / Do not unplug", "<b>a.mp4", "[red]STICK", "检查网线和网络"):
        assert text in said
    assert "[red]STICK" not in summary(seen) or "/media/stick" in summary(seen)


def open_nothing() -> Any:
    import io

    return io.StringIO()


def test_problem_that_is_solved_is_no_longer_shown() -> None:
    board = shown_board()
    board.solved("/media/cam", "<b>a.mp4")
    assert board.snapshot()["cameras"][0]["problems"] == []


def test_rate_is_that_of_the_last_seconds() -> None:
    clock = FakeClock()
    board = Board(clock)
    for _ in range(20):
        board.acknowledged(1000)
        clock.wait(1, threading.Event())
    assert board.snapshot()["rate_bytes_per_s"] == pytest.approx(1000, rel=0.2)
    clock.wait(60, threading.Event())
    assert board.snapshot()["rate_bytes_per_s"] == 0
