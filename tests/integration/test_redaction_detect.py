"""Plans proposed from real decoding and a real detector."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evidence.errors import FixityError, InvalidInput, MediaError, Unavailable
from media.decode import picture_times
from redaction.detect import propose_entry
from redaction.geometry import Box
from redaction.models import MODELS
from redaction.plan import FACES_ONLY, Masks, RedactionPlan, State
from redaction.plan_json import plan_from_json
from tests.integration.redaction_footage import QUICK, Footage, make_footage, propose, silent
from tests.support.samples import models_dir


def bare_frames(footage: Footage, plan: RedactionPlan) -> list[int]:
    masks = Masks(plan)
    times = [pts for pts, _ in picture_times(footage.path)]
    return [
        number
        for number, face in enumerate(footage.faces)
        if face is not None and not any(region.box.contains(Box(*face)) for region in masks.at(times[number]))
    ]


def test_plan_says_what_looked_and_what_is_not_covered(tmp_path: Path) -> None:
    footage = make_footage(tmp_path / "a.mp4", frame_count=20)
    plan = propose(footage.path, tmp_path, **QUICK)
    assert plan.models == {"centerface": MODELS["centerface"].sha256}
    assert plan.coverage == FACES_ONLY
    assert plan.coverage["voices"] == "untreated"
    assert plan.parameters["long_side_px"] == 320
    assert (plan.number, plan.parent, plan.author) == (1, None, "model")
    assert {track.state for track in plan.tracks} == {State.PROPOSED}
    assert {track.by for track in plan.tracks} == {MODELS["centerface"].sha256}
    assert plan.picture is not None
    assert plan.picture.frame_count == 20


def test_text_on_disk_is_the_plan_s_canonical_text(tmp_path: Path) -> None:
    footage = make_footage(tmp_path / "a.mp4", frame_count=5)
    plan = propose(footage.path, tmp_path, **QUICK)
    assert (tmp_path / "plan.json").read_bytes() == plan.to_bytes()


def test_looking_twice_finds_the_same(tmp_path: Path) -> None:
    footage = make_footage(tmp_path / "a.mp4", frame_count=20)
    first, second = (propose(footage.path, tmp_path, **QUICK) for _ in range(2))
    assert [track.keys for track in first.tracks] == [track.keys for track in second.tracks]


def test_face_that_the_detector_loses_for_half_a_second_is_never_bare(tmp_path: Path) -> None:
    footage = make_footage(tmp_path / "a.mp4", frame_count=80, hidden=range(30, 43))
    assert bare_frames(footage, propose(footage.path, tmp_path, **QUICK)) == []


def test_small_faces_of_large_pictures_are_found_by_the_second_look_and_carried_on(tmp_path: Path) -> None:
    footage = make_footage(tmp_path / "a.mp4", frame_count=20, path_of=lambda frame: (60 + 2 * frame, 50))
    coarse = {"long_side_px": 64, "fine_long_side_px": 320}
    large = {**coarse, "fine_from_px": 300}
    assert len(bare_frames(footage, propose(footage.path, tmp_path, **coarse))) > 10
    assert bare_frames(footage, propose(footage.path, tmp_path, **large, fine_every=5)) == []


def test_no_mask_crosses_a_scene_cut(tmp_path: Path) -> None:
    footage = make_footage(tmp_path / "a.mp4", frame_count=60, cut_at=30)
    plan = propose(footage.path, tmp_path, **QUICK)
    masks = Masks(plan)
    times = [pts for pts, _ in picture_times(footage.path)]
    assert bare_frames(footage, plan) == []
    assert [number for number in range(30, 60) if masks.at(times[number])] == []


def test_nothing_to_hide_is_an_empty_plan(tmp_path: Path) -> None:
    footage = make_footage(tmp_path / "a.mp4", frame_count=10, path_of=lambda _: None)
    assert propose(footage.path, tmp_path, **QUICK).tracks == ()


def test_progress_rises_to_the_end(tmp_path: Path) -> None:
    footage = make_footage(tmp_path / "a.mp4", frame_count=10)
    heard: list[float] = []
    request = {
        "source": str(footage.path),
        "destination": str(tmp_path / "plan.json"),
        "item_id": "i",
        "models_dir": str(models_dir()),
        "parameters": QUICK,
        "number": 3,
        "parent": 2,
    }
    propose_entry(request, heard.append)
    assert heard == sorted(heard)
    assert heard[-1] > 0.8
    plan = plan_from_json(json.loads((tmp_path / "plan.json").read_bytes()))
    assert (plan.number, plan.parent) == (3, 2)


@pytest.mark.parametrize("parameters", [{"nobody": 1}, {"pad_us": -1}, {"pad_us": 0.5}, {"pad_us": True}])
def test_parameters_that_are_not_known_whole_numbers_are_refused(
    tmp_path: Path, parameters: dict[str, int]
) -> None:
    with pytest.raises(InvalidInput):
        propose(tmp_path / "never-opened.mp4", tmp_path, **parameters)


def test_missing_and_changed_weights_are_refused(tmp_path: Path) -> None:
    footage = make_footage(tmp_path / "a.mp4", frame_count=5)
    request = {"source": str(footage.path), "destination": str(tmp_path / "p.json"), "item_id": "i"}
    with pytest.raises(Unavailable):
        propose_entry({**request, "models_dir": str(tmp_path)}, silent)
    content = bytearray((models_dir() / "centerface.onnx").read_bytes())
    content[1000] ^= 1
    (tmp_path / "centerface.onnx").write_bytes(content)
    with pytest.raises(FixityError):
        propose_entry({**request, "models_dir": str(tmp_path)}, silent)
    assert not (tmp_path / "p.json").exists()


def test_what_is_no_rendition_is_refused(tmp_path: Path) -> None:
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n")
    with pytest.raises(MediaError):
        propose(playlist, tmp_path)
