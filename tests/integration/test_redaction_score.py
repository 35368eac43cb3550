"""Scores of generated footage, found by the real detector through the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.main import main
from media.decode import picture_times
from media.hazards import HAZARDS, make_hazard
from redaction.score import read_truth
from tests.integration.redaction_footage import QUICK
from tests.support.samples import models_dir, sample

BY_NAME = {hazard.name: hazard for hazard in HAZARDS}
SETTINGS = ["--set", f"redaction.models_dir={models_dir()}"]
QUICKLY = [word for name, value in QUICK.items() for word in ("--parameter", f"{name}={value}")]


def test_truth_of_generated_footage_is_of_every_frame(tmp_path: Path) -> None:
    clip = make_hazard(BY_NAME["fast"], sample("astronaut.png"), tmp_path)
    frames, truths = read_truth(clip.with_suffix(".faces.json"))
    assert len(picture_times(clip)) == len(frames) == 45
    middle = [truth for truth in truths if truth.frame == 20]
    assert [(truth.tier, truth.person) for truth in middle] == [("must", 0)]
    assert (middle[0].box.x0 + middle[0].box.x1) / 2 == -20 + 9 * 20
    # It comes in at the left: not asked for before half of it is there.
    assert {truth.tier for truth in truths if truth.frame < 2} <= {"ignore"}


def test_hazard_is_scored(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["redaction", "score", "--hazards", "--only", "fast", "--json", *QUICKLY, *SETTINGS]) == 0
    (clip,) = json.loads(capsys.readouterr().out)["clips"]
    assert clip["recall"] == 1.0
    assert (clip["persons"], clip["persons_bare"]) == (1, 0)
    assert 0 < clip["over_masked"] < 0.2
    assert clip["cpu_s_per_min"] > 0


def test_folder_is_scored_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_hazard(BY_NAME["moment"], sample("astronaut.png"), tmp_path)
    (tmp_path / "没有真值.mp4").write_bytes(b"no truth beside it")
    assert main(["redaction", "score", str(tmp_path), *QUICKLY, *SETTINGS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["moment", "合计"]
    assert "100.0%" in lines[2]


def test_folder_without_truth_is_not_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["redaction", "score", str(tmp_path), *SETTINGS]) == 3
    assert "expected clips" in capsys.readouterr().err


def test_nothing_to_score_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["redaction", "score", *SETTINGS]) == 2
    assert "--hazards" in capsys.readouterr().err


def test_parameter_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["redaction", "score", "--hazards", "--only", "moment", "--parameter", "speed=9", *SETTINGS]
    assert main(words) == 2
    assert "speed" in capsys.readouterr().err
