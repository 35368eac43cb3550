"""`liuhen names`: what a name says, seen without taking anything in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.main import main


def read(capsys: pytest.CaptureFixture[str], *words: str) -> object:
    assert main(["names", *words, "--json"]) == 0
    found: object = json.loads(capsys.readouterr().out)
    return found


def test_each_name_is_shown_with_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    found = read(capsys, "try", "DSJ_0000001_123456_20240304_091530_IMP.mp4", "现场.mp4")
    assert isinstance(found, dict)
    assert {"field": "key_file", "value": "true", "clock": None} in found[
        "DSJ_0000001_123456_20240304_091530_IMP.mp4"
    ]
    assert found["现场.mp4"] == []
    assert main(["names", "try", "现场.mp4"]) == 0
    assert "照常收下" in capsys.readouterr().out


def test_an_agencys_own_profile_is_tried_first(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        '[[profile]]\nname = "own"\nsource = "a test"\nstanding = "derived"\n'
        "pattern = '^(?P<device_no>[0-9]{3})[.]mp4$'\nexamples = [{ name = \"007.mp4\" }]\n"
    )
    where = ("--set", f'ingest.name_profiles="{own}"')
    assert read(capsys, "try", "007.mp4", *where) == {
        "007.mp4": [
            {"field": "name_profile", "value": "own", "clock": None},
            {"field": "device_no", "value": "007", "clock": None},
        ]
    }
    listed = read(capsys, "list", *where)
    assert isinstance(listed, list)
    assert [row["name"] for row in listed][:2] == ["own", "underscore_v1"]


def test_a_profile_file_that_cannot_be_used_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["names", "list", "--set", f'ingest.name_profiles="{tmp_path / "none.toml"}"']) == 2
    assert "ingest.name_profiles" in capsys.readouterr().err
