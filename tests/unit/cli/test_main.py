"""The command line itself: help in both languages, version, unknown words."""

from __future__ import annotations

import argparse
from importlib.metadata import version

import pytest

from cli.main import COMMANDS, EXITS, command_parser, main
from cli.options import read_id, read_instant, read_media_time
from cli.printable import printable
from cli.shell import environment_of, overrides_of
from evidence.errors import EvidenceError, InvalidInput


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_in_both_languages(name: str) -> None:
    text = command_parser(name).format_help()
    assert f"liuhen {name}" in text
    assert any("\u4e00" <= char <= "\u9fff" for char in text)
    assert " / " in COMMANDS[name][1]


def test_every_kind_of_error_has_an_exit_status() -> None:
    assert set(EvidenceError.__subclasses__()) <= set(EXITS)
    assert all(number > 1 for number, _ in EXITS.values())


def test_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"liuhen {version('liuhen')}\n"


def test_bare_command_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in COMMANDS)


def test_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["fly"])
    assert "fly" in capsys.readouterr().err


def test_what_others_wrote_does_nothing_to_the_terminal() -> None:
    assert printable("CAM\x1b]0;title\x07\x9b2J\u202egpj") == "CAM�]0;title��2J�gpj"


def options(**values: object) -> argparse.Namespace:
    return argparse.Namespace(**{"set": [], "data": None, "config": None, **values})


def test_settings_of_the_command_line_reach_children_as_variables() -> None:
    given = options(set=["api.port=18600", "worker.lease-s=5"])
    assert overrides_of(given) == {"api.port": "18600", "worker.lease_s": "5"}
    assert environment_of(given) == {"LIUHEN_API__PORT": "18600", "LIUHEN_WORKER__LEASE_S": "5"}


@pytest.mark.parametrize("text", ["api.port", "port=1", "=1"])
def test_malformed_setting_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        overrides_of(options(set=[text]))


@pytest.mark.parametrize(
    ("text", "micros"),
    [("90", 90_000_000), ("90.5", 90_500_000), ("1:30", 90_000_000), ("0:01:30.000001", 90_000_001)],
)
def test_media_time_is_read_exactly(text: str, micros: int) -> None:
    assert read_media_time(text, "from") == micros


@pytest.mark.parametrize("text", ["", "x", "-1", "1:2:3:4", "1.1234567"])
def test_media_time_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_media_time(text, "from")


def test_instant_without_zone_is_the_agencys() -> None:
    assert read_instant("2026-03-04T09:00", "at", "Asia/Shanghai").isoformat() == "2026-03-04T09:00:00+08:00"
    with pytest.raises(InvalidInput):
        read_instant("yesterday", "at", "Asia/Shanghai")


def test_id_of_another_form_is_refused() -> None:
    with pytest.raises(InvalidInput):
        read_id("7", "item")
