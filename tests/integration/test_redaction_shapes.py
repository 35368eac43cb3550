"""What people draw beyond boxes, and a voice made unrecognisable: rendered, judged from the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from media.decode import picture_times
from redaction.amend import amend
from redaction.plan import FACES_ONLY, Picture, RedactionPlan
from tests.integration.redaction_footage import HEIGHT, WIDTH, check, make_footage, render

FRAMES = 25
SOUNDS = [f"aevalsrc=0.3*sin(2*PI*{120 + 40 * number}*t)*random(0):s=16000" for number in range(5)]
CORNERS = [[6050, 2000], [25000, 4000], [16000, 9000], [24000, 16025], [4000, 15000]]
POLYGON = {"op": "add_box", "shape": "polygon", "reason": "privacy", "class": "screen",
           "keys": [[0, 40, 20, 250, 161, 0, CORNERS], [24 * 512, 40, 20, 250, 161, 0, CORNERS]]}  # fmt: skip
BUT = {"op": "add_box", "shape": "all_but", "reason": "minor",
       "keys": [[0, 31, 21, 280, 170, 0], [24 * 512, 41, 21, 290, 170, 0]]}  # fmt: skip
VOICE = {
    "op": "mute",
    "from_us": 150_000,
    "to_us": 900_000,
    "stream": 3,
    "kind": "voice",
    "reason": "privacy",
}
Made = tuple[Path, RedactionPlan, RedactionPlan, Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A rendition of five sound tracks, a plan that hides nothing, one that hides much, and its rendition."""
    folder = tmp_path_factory.mktemp("shapes")
    source = make_footage(folder / "rendition.mp4", frame_count=FRAMES, sound=SOUNDS).path
    times = [pts for pts, _ in picture_times(source)]
    picture = Picture(WIDTH, HEIGHT, (1, 12800), FRAMES, times[0], times[-1])
    bare = RedactionPlan("item-1", 1, None, "model", FACES_ONLY, {}, {}, picture)
    at = times[0]
    drawn = [{**each, "keys": [[key[0] + at, *key[1:]] for key in each["keys"]]} for each in (POLYGON, BUT)]
    plan = amend(bare, [*drawn, VOICE], "account-7")
    output = folder / "redacted.mp4"
    assert render(source, plan, output)["muted_streams"] == [3]
    return source, bare, plan, output


def codes(report: dict[str, Any]) -> set[str]:
    return {str(finding["code"]) for finding in report["findings"]}


def test_polygons_all_but_a_region_and_a_disguised_voice_pass_the_check(made: Made) -> None:
    source, _, plan, output = made
    report = check(source, plan, output)
    assert report["passed"], report["findings"][:3]


def test_a_voice_that_was_kept_and_a_polygon_that_was_not_painted_are_found(
    made: Made, tmp_path: Path
) -> None:
    source, bare, plan, _ = made
    shown = tmp_path / "shown.mp4"
    render(source, bare, shown)
    assert codes(check(source, plan, shown)) >= {"mask_missing", "voice_recognisable"}


def test_a_polygon_painted_too_small_is_found(made: Made, tmp_path: Path) -> None:
    source, _, plan, _ = made
    (track, *others) = plan.tracks
    small = replace(track, keys=tuple(
        key._replace(y0=40, points=((6050, 4000), (25000, 4000), *key.points[2:])) for key in track.keys
    ))  # fmt: skip
    output = tmp_path / "small.mp4"
    render(source, replace(plan, tracks=(small, *others)), output)
    assert "mask_missing" in codes(check(source, plan, output))


def test_missing_sound_is_nothing_to_disguise(made: Made, tmp_path: Path) -> None:
    source, bare, _, _ = made
    plan = amend(bare, [{**VOICE, "stream": 9}], "account-7")
    output = tmp_path / "kept.mp4"
    assert render(source, plan, output)["muted_streams"] == []
    # The face of the footage is bare in this plan, as the second family says; of sound there is no finding.
    assert codes(check(source, plan, output)) == {"face_left"}
