"""Of what is being made only that is shown which comes out the same whoever makes it again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from config.settings import EncodingSettings
from media.fmp4 import FragmentIndex, Track
from tests.unit.transcode.reports import report
from transcode.encoders import ENCODERS, SOFTWARE, Encoder
from transcode.plan import plan_renditions
from workers.making import growth_writer

INDEX = FragmentIndex(1000, (Track(1, "video", 1000, "avc1.640028", 640, 360),), 80, ())
WHOLE_LADDER, SMALLEST = ["360p", "720p", "1080p"], ["360p"]


@pytest.mark.parametrize(
    ("wanted", "has", "shown"),
    [
        ("software", SOFTWARE, WHOLE_LADDER),
        ("nvenc", ENCODERS["nvenc"], SMALLEST),
        # Its processor failed, or there is none; another worker may end what this one begins.
        ("nvenc", SOFTWARE, SMALLEST),
        ("auto", SOFTWARE, SMALLEST),
    ],
)
def test_rungs_that_hardware_may_make_again_are_not_shown_while_they_grow(
    tmp_path: Path, wanted: str, has: Encoder, shown: list[str]
) -> None:
    encoding = EncodingSettings.model_validate({"encoder": wanted})
    plans = plan_renditions(report({"codec": "hevc"}, {}), encoding, encoder=has)
    context = SimpleNamespace(scratch=tmp_path, settings=SimpleNamespace(encoding=encoding))
    tell = growth_writer(context, plans)  # type: ignore[arg-type]
    for plan in plans:
        tell(plan.rung.name, INDEX)
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {f"growing-{name}.json" for name in shown}


def test_a_copy_is_shown_while_it_grows(tmp_path: Path) -> None:
    encoding = EncodingSettings(encoder="auto")
    plans = plan_renditions(report({}, {}), encoding, encoder=ENCODERS["nvenc"])
    context = SimpleNamespace(scratch=tmp_path, settings=SimpleNamespace(encoding=encoding))
    growth_writer(context, plans)("copy", INDEX)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["growing-copy.json"]
