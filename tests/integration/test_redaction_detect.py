"""Plans proposed from real decoding and a real detector."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evidence.errors import FixityError, InvalidInput, MediaError, Unavailable
from media.decode import picture_times
from redaction.detect import propose_entry
from redaction.geometry import Box
from redaction.models import MODELS
from redaction.plan import FACES_ONLY, Masks, RedactionPlan, State
from redaction.plan_json import plan_from_json
from tests.integration.redaction_footage import (
    FACE_PX,
    FACE_WITHIN,
    FPS,
    QUICK,
    Footage,
    background,
    encode,
    face,
    make_footage,
    propose,
    silent,
)
from tests.support.plates import draw_plate
from tests.support.samples import models_dir
from tests.support.voice import voice

STREET_FRAMES = 20
RATE_HZ = 48_000


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
    assert plan.models == {name: MODELS[name].sha256 for name in ("centerface", "plates")}
    assert plan.coverage == {**FACES_ONLY, "plates": "treated"}
    assert propose(footage.path, tmp_path, **QUICK, plate_every=0).coverage == FACES_ONLY
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
    seldom = {**coarse, "fine_from_px": 300}
    often = {**seldom, "fine_often_from_px": 300}
    assert len(bare_frames(footage, propose(footage.path, tmp_path, **coarse))) > 10
    assert bare_frames(footage, propose(footage.path, tmp_path, **seldom)) == []
    assert bare_frames(footage, propose(footage.path, tmp_path, **often)) == []


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


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plate that drifts over 20 frames of wall, and two seconds of a voice after one of noise."""
    path = tmp_path_factory.mktemp("street") / "a.mp4"
    frames = bytearray()
    for frame in range(STREET_FRAMES):
        picture = background(frame)
        draw_plate(picture, 60 + 2 * frame, 120)
        frames += picture.tobytes()
    sound = path.with_suffix(".wav")
    samples = np.concatenate([np.random.default_rng(1).normal(0, 0.002, RATE_HZ), voice(2.0, RATE_HZ)])
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    encode(path, bytes(frames), sound=[f"amovie={sound}"], seconds=3)
    return path


def test_plates_are_masked_in_the_frames_between_two_looks_too(street: Path, tmp_path: Path) -> None:
    plan = propose(street, tmp_path, long_side_px=64, turned_every=0, plate_long_side_px=320, plate_every=6)
    assert {track.track_class for track in plan.tracks} == {"plate"}
    assert {track.by for track in plan.tracks} == {MODELS["plates"].sha256}
    masks = Masks(plan)
    for number, (pts, _) in enumerate(picture_times(street)):
        # By eye, the characters: what can be read is covered, whatever the rim.
        characters = Box(66 + 2 * number, 126, 214 + 2 * number, 166)
        assert any(region.box.contains(characters) for region in masks.at(pts)), number


def test_words_and_speech_are_treated_where_that_is_wanted(street: Path, tmp_path: Path) -> None:
    plan = propose(
        street, tmp_path, long_side_px=64, turned_every=0, plate_every=0,
        text_every=10, text_long_side_px=320, speech=1,
    )  # fmt: skip
    assert {track.track_class for track in plan.tracks} == {"text"}
    assert plan.coverage == {**FACES_ONLY, "text": "treated", "voices": "treated"}
    ((from_us, to_us),) = [(span.from_us, span.to_us) for span in plan.muted_spans]
    assert 400_000 < from_us < 1_200_000
    assert 2_800_000 < to_us < 3_300_000
    assert {(span.stream, span.by) for span in plan.muted_spans} == {(0, MODELS["speech"].sha256)}


def test_faces_of_a_camera_that_lies_on_its_side_are_found_from_the_first_frame_on(tmp_path: Path) -> None:
    pasted = np.rot90(face())
    frames = bytearray()
    for frame in range(16):
        picture = background(frame)
        picture[60 : 60 + FACE_PX, 100 : 100 + FACE_PX] = pasted
        frames += picture.tobytes()
    path = tmp_path / "a.mp4"
    encode(path, bytes(frames), sound=(), seconds=16 / FPS)
    sure = {**QUICK, "plate_every": 0, "strong_permille": 500}
    assert propose(path, tmp_path, **sure, turned_every=0).tracks == ()
    masks = Masks(propose(path, tmp_path, **sure))
    left, top, right, bottom = (round(share * FACE_PX) for share in FACE_WITHIN)
    lying = Box(100 + top, 60 + FACE_PX - right, 100 + bottom, 60 + FACE_PX - left)
    for pts, _ in picture_times(path):
        assert any(region.box.contains(lying) for region in masks.at(pts)), pts


def test_an_agency_s_own_model_proposes_under_its_own_class_and_digest(street: Path, tmp_path: Path) -> None:
    record = MODELS["plates"]
    own = {
        "path": str(models_dir() / record.file_name), "sha256": record.sha256, "finds": "screen",
        "decoder": "plates", "long_side_px": 320, "every": 6, "score_permille": 500,
    }  # fmt: skip
    parameters = {"long_side_px": 64, "turned_every": 0, "plate_every": 0}
    request: dict[str, Any] = {
        "source": str(street), "destination": str(tmp_path / "plan.json"), "item_id": "i",
        "models_dir": str(models_dir()), "parameters": parameters, "own_models": [own],
    }  # fmt: skip
    propose_entry(request, silent)
    plan = plan_from_json(json.loads((tmp_path / "plan.json").read_bytes()))
    assert {track.track_class for track in plan.tracks} == {"screen"}
    assert plan.models[f"plates:{record.sha256[:8]}"] == record.sha256
    with pytest.raises(FixityError):
        propose_entry({**request, "own_models": [{**own, "sha256": "0" * 64}]}, silent)


def test_what_is_no_rendition_is_refused(tmp_path: Path) -> None:
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n")
    with pytest.raises(MediaError):
        propose(playlist, tmp_path)
