"""A face on a known path goes in; nothing of it comes out, and everything else does."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from evidence.errors import Conflict, InvalidInput, MediaError, Unavailable
from evidence.masks import Reason
from media.decode import AudioReader, open_video, picture_times, read_photo
from media.fmp4 import index_fragments
from media.painting import FILL
from media.sandbox import Limits, call
from redaction.amend import amend
from redaction.check import check_photo_entry
from redaction.detect import propose_photo_entry
from redaction.detectors.centerface import CenterFace
from redaction.geometry import Box
from redaction.models import MODELS
from redaction.plan import Masks, RedactionPlan, State
from redaction.render import FILL_RGB, redact_photo_entry, render_entry
from tests.integration.redaction_footage import (
    HEIGHT,
    QUICK,
    WIDTH,
    Footage,
    check,
    make_footage,
    make_sound,
    of_our_sound,
    propose,
    render,
    silent,
)
from tests.support.samples import models_dir, sample

# Levels of 255 by which the coder may leave the fill: beside the edge of a mask, and in the mean of a face.
EDGE_LEVELS, MEAN_LEVELS = 40, 4.0


@dataclass(frozen=True)
class Redacted:
    footage: Footage
    plan: RedactionPlan
    output: Path
    facts: dict[str, object]


@pytest.fixture(scope="module")
def redacted(tmp_path_factory: pytest.TempPathFactory) -> Redacted:
    """Four seconds with a face on a path, invisible to any detector for half a second, and two sounds."""
    folder = tmp_path_factory.mktemp("face")
    sounds = ("aevalsrc=0.4*random(0)-0.2:s=48000", "sine=f=440:r=44100")
    footage = make_footage(folder / "rendition.mp4", hidden=range(40, 52), sound=sounds)
    plan = propose(footage.path, folder, **QUICK)
    output = folder / "redacted.mp4"
    made = of_our_sound(footage.path)
    return Redacted(footage, plan, output, render(footage.path, plan, output, made=made))


def assert_hidden(output: Path, faces: dict[int, tuple[int, int, int, int]]) -> None:
    with open_video(output) as video:
        for frame in video:
            if frame.index not in faces:
                continue
            x0, y0, x1, y1 = faces[frame.index]
            for plane, level, step in zip(frame.planes(), FILL, (1, 2, 2), strict=True):
                part = plane[y0 // step : -(-y1 // step), x0 // step : -(-x1 // step)]
                difference = np.abs(part.astype(int) - level)
                assert difference.mean() <= MEAN_LEVELS, (frame.index, difference.mean())
                assert difference.max() <= EDGE_LEVELS, (frame.index, difference.max())


def test_every_frame_s_pixels_on_the_path_are_the_fill(redacted: Redacted) -> None:
    faces = {number: box for number, box in enumerate(redacted.footage.faces) if box}
    assert len(faces) == 100
    assert_hidden(redacted.output, faces)


def test_the_path_is_bare_in_the_source(redacted: Redacted) -> None:
    with pytest.raises(AssertionError):
        assert_hidden(redacted.footage.path, {20: redacted.footage.faces[20]})  # type: ignore[dict-item]


def test_frame_count_times_and_duration_are_those_of_the_source(redacted: Redacted) -> None:
    source, output = redacted.footage.path, redacted.output
    assert picture_times(output) == picture_times(source)
    before, after = index_fragments(source), index_fragments(output)
    assert before is not None
    assert after is not None
    assert (after.frame_count, after.duration, after.origin) == (
        before.frame_count,
        before.duration,
        before.origin,
    )
    assert redacted.facts["frame_count"] == 100


def test_fragments_start_at_the_source_s_keyframes(redacted: Redacted) -> None:
    before, after = index_fragments(redacted.footage.path), index_fragments(redacted.output)
    assert before is not None
    assert after is not None
    assert [f.start_pts for f in after.fragments] == [f.start_pts for f in before.fragments]
    assert all(fragment.starts_with_keyframe for fragment in after.fragments)


def test_sound_is_kept_to_the_bit_when_nothing_is_muted(redacted: Redacted) -> None:
    for number in range(2):
        with (
            AudioReader(redacted.footage.path, number) as before,
            AudioReader(redacted.output, number) as after,
        ):
            assert after.config == before.config
            assert list(after.packets()) == list(before.packets())


def test_what_is_not_masked_is_still_to_be_seen(redacted: Redacted) -> None:
    masks = Masks(redacted.plan)
    with open_video(redacted.footage.path) as source, open_video(redacted.output) as output:
        for before, after in zip(source, output, strict=True):
            bare = np.ones((HEIGHT, WIDTH), dtype=bool)
            for box, _ in masks.at(before.pts):
                bare[max(0, box.y0 - 16) : box.y1 + 16, max(0, box.x0 - 16) : box.x1 + 16] = False
            difference = np.abs(before.planes()[0].astype(int) - after.planes()[0])[bare]
            assert bare.mean() > 0.4
            assert difference.mean() < 3


def test_check_passes_and_says_what_it_looked_at(redacted: Redacted) -> None:
    source = redacted.footage.path
    report = check(source, redacted.plan, redacted.output, made=of_our_sound(source))
    assert report["findings"] == []
    assert report["passed"] is True
    assert report["frame_count"] == 100
    assert report["region_count"] >= 100


def test_output_plays_in_another_decoder_without_a_complaint(redacted: Redacted) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "warning", "-i", str(redacted.output)]
    command += ["-map", "0", "-f", "null", "-"]
    assert subprocess.run(command, capture_output=True, check=True).stderr == b""


def test_nothing_of_the_encoders_or_the_source_is_named_in_the_file(tmp_path: Path) -> None:
    options: list[str] = []
    for mark in ("title=SECRETTITLE", "location=+31.2-121.5/", "comment=SECRETNOTE"):
        options += ["-metadata", mark]
    footage = make_footage(tmp_path / "a.mp4", frame_count=10, options=options)
    output = tmp_path / "out.mp4"
    plan = propose(footage.path, tmp_path, **QUICK)
    render(footage.path, plan, output)
    content = output.read_bytes()
    assert all(word in footage.path.read_bytes() for word in (b"x264", b"Lavc"))
    for word in b"x264 Lavc Lavf SECRET +31.2 Handler udta meta uuid sidx".split():
        assert word not in content, word


def mute(from_us: int, to_us: int, kind: str = "silence", stream: int | None = 0) -> dict[str, object]:
    return {
        "op": "mute",
        "from_us": from_us,
        "to_us": to_us,
        "stream": stream,
        "kind": kind,
        "reason": "privacy",
    }


def sound_of(path: Path, number: int) -> tuple[NDArray[np.float32], int]:
    """First channel as if it began at zero of the file's clock, and samples a second."""
    with AudioReader(path, number) as reader:
        rate = reader.sample_rate_hz
        blocks = [(round(block.pts * reader.time_base * rate), block.samples[0]) for block in reader.blocks()]
    whole = np.zeros(blocks[-1][0] + len(blocks[-1][1]), dtype=np.float32)
    for first, samples in blocks:
        whole[max(0, first) : first + len(samples)] = samples[max(0, -first) :]
    return whole, rate


def test_muted_span_is_silent_to_the_last_bit_and_the_rest_stays_in_place(
    redacted: Redacted, tmp_path: Path
) -> None:
    source = redacted.footage.path
    plan = amend(redacted.plan, [mute(1_000_000, 1_500_007), mute(3_900_000, 9_000_000)], "account-7")
    output = tmp_path / "muted.mp4"
    made = of_our_sound(source)
    facts = render(source, plan, output, made=made)
    assert (facts["muted_streams"], facts["recoded_streams"]) == ([0], [0])
    assert check(source, plan, output, made=made)["findings"] == []
    # The first frame of this source is shown 0.08 s after zero of its clock.
    before, rate = sound_of(source, 0)
    after, _ = sound_of(output, 0)
    first, end = int(1.08 * rate), int(1.580007 * rate) + 1
    assert before[first:end].any()
    assert not after[first:end].any()
    assert not after[int(3.98 * rate) :].any()
    assert len(before) <= len(after) < len(before) + 1024
    # Everything else is where it was: the best match of what was kept is at no shift at all.
    part = slice(2 * rate, 2 * rate + 20_000)
    shifts = range(-2100, 2101)
    matches = [float(before[part] @ after[part.start + shift : part.stop + shift]) for shift in shifts]
    assert shifts[int(np.argmax(matches))] == 0
    # The other track was not muted and is untouched.
    with AudioReader(source, 1) as kept, AudioReader(output, 1) as copied:
        assert list(copied.packets()) == list(kept.packets())


def test_tone_replaces_and_does_not_cover_up(redacted: Redacted, tmp_path: Path) -> None:
    plan = amend(redacted.plan, [mute(1_000_000, 2_000_000, "tone", None)], "account-7")
    output = tmp_path / "tone.mp4"
    assert render(redacted.footage.path, plan, output)["muted_streams"] == [0, 1]
    assert check(redacted.footage.path, plan, output)["findings"] == []
    after, rate = sound_of(output, 0)
    tone = after[int(1.2 * rate) : int(1.9 * rate)]
    spectrum = np.abs(np.fft.rfft(tone * np.hanning(len(tone))))
    loudest = np.argmax(spectrum) * rate / len(tone)
    assert loudest == pytest.approx(1000, abs=3)


def test_sound_alone_is_muted_until_a_person_decides_and_then_copied(tmp_path: Path) -> None:
    source, output = tmp_path / "note.m4a", tmp_path / "out.mp4"
    make_sound(source)
    proposed = propose(source, tmp_path)
    assert proposed.picture is None
    (span,), (doubt,) = proposed.muted_spans, proposed.doubtful
    assert (span.stream, span.reason, span.state) == (None, Reason.PRIVACY, State.PROPOSED)
    assert doubt.why == "nobody has listened, muted whole"
    render(source, proposed, output)
    assert check(source, proposed, output)["passed"]
    silence, _ = sound_of(output, 0)
    assert len(silence) > 0
    assert not silence.any()
    assert "sound_not_replaced" in {f["code"] for f in check(source, proposed, source)["findings"]}
    plan = amend(proposed, [{"op": "unmute", "span": span.id}], "account-7")
    made = of_our_sound(source)
    render(source, plan, output, made=made)
    with AudioReader(source) as before, AudioReader(output) as after:
        assert list(after.packets()) == list(before.packets())
    assert check(source, plan, output, made=made)["passed"]
    muted = amend(plan, [mute(1_000_000, 2_000_000)], "account-7")
    render(source, muted, output)
    assert check(source, muted, output)["passed"]
    samples, rate = sound_of(output, 0)
    assert not samples[rate : 2 * rate].any()
    assert samples[3 * rate : 4 * rate].std() > 0.05
    index = index_fragments(output)
    assert index is not None
    assert len(index.fragments) > 1


def test_manual_boxes_and_whole_frames_are_hidden(redacted: Redacted, tmp_path: Path) -> None:
    pts = [time for time, _ in picture_times(redacted.footage.path)]
    keys = [[pts[0], 201, 101, 241, 141, 0], [pts[-1], 221, 111, 261, 151, 0]]
    plan = amend(
        redacted.plan,
        [
            {"op": "add_box", "shape": "ellipse", "reason": "officer_safety", "keys": keys},
            {"op": "mask_frames", "from_pts": pts[60], "to_pts": pts[69], "reason": "minor"},
        ],
        "account-7",
    )
    output = tmp_path / "manual.mp4"
    render(redacted.footage.path, plan, output)
    assert check(redacted.footage.path, plan, output)["findings"] == []
    assert_hidden(output, dict.fromkeys(range(60, 70), (0, 0, WIDTH, HEIGHT)))
    assert_hidden(output, {0: (211, 111, 231, 131), 99: (231, 121, 251, 141)})


def test_uneven_times_are_kept_to_the_tick(tmp_path: Path) -> None:
    uneven = ["-vf", "select='not(eq(mod(n\\,7)\\,3))*not(between(n\\,20\\,31))'", "-fps_mode", "vfr"]
    footage = make_footage(tmp_path / "vfr.mp4", frame_count=60, options=uneven)
    plan = propose(footage.path, tmp_path, **QUICK)
    output = tmp_path / "out.mp4"
    render(footage.path, plan, output)
    durations = {duration for _, duration in picture_times(footage.path)}
    assert len(durations) > 1
    assert [pts for pts, _ in picture_times(output)] == [pts for pts, _ in picture_times(footage.path)]
    assert check(footage.path, plan, output)["findings"] == []


def test_rotation_and_pixel_aspect_are_kept_and_faces_found_upright(tmp_path: Path) -> None:
    lying = make_footage(
        tmp_path / "lying.mp4", frame_count=20, path_of=lambda _: (100, 60),
        options=["-vf", "transpose=clock,setsar=16/11"],
    )  # fmt: skip
    turned = tmp_path / "turned.mp4"
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-display_rotation",
        "90",
        "-i",
        str(lying.path),
    ]
    subprocess.run([*command, "-c", "copy", str(turned)], check=True)
    plan = propose(turned, tmp_path, **QUICK)
    output = tmp_path / "out.mp4"
    render(turned, plan, output)
    with open_video(turned) as before, open_video(output) as after:
        assert before.shape.rotation == after.shape.rotation == 90
        assert before.shape.sample_aspect == after.shape.sample_aspect == Fraction(16, 11)
        assert (after.shape.width_px, after.shape.height_px) == (HEIGHT, WIDTH)
    # Turned clockwise, column x of the picture lies in row x, and row y in column HEIGHT - y.
    x0, y0, x1, y1 = lying.faces[0]  # type: ignore[misc]
    assert_hidden(output, dict.fromkeys(range(20), (HEIGHT - y1, x0, HEIGHT - y0, x1)))


def damaged(source: Path, into: Path, *, share: float) -> None:
    """Overwrite 3,000 bytes of the second fragment, some share of the way into it."""
    index = index_fragments(source)
    assert index is not None
    content = bytearray(source.read_bytes())
    hurt = index.fragments[1]
    first = hurt.offset_bytes + int(hurt.size_bytes * share)
    content[first : first + 3000] = np.random.default_rng(3).integers(0, 256, 3000, dtype=np.uint8).tobytes()
    into.write_bytes(content)


@pytest.mark.parametrize("share", [0.08, 0.35])
def test_frames_that_do_not_decode_are_masked_whole_and_counted(tmp_path: Path, share: float) -> None:
    whole = make_footage(tmp_path / "whole.mp4", frame_count=80, sound=())
    source, output = tmp_path / "damaged.mp4", tmp_path / "out.mp4"
    damaged(whole.path, source, share=share)
    plan = propose(source, tmp_path, **QUICK)
    assert {span.why for span in plan.doubtful} == {"could not be decoded, masked whole"}
    facts = render(source, plan, output)
    pts = [time for time, _ in picture_times(source)]
    (span,) = plan.whole_frame_spans
    # Nothing after the damage is trusted until a picture that depends on nothing comes.
    assert pts[50] <= span.from_pts < pts[75]
    assert span.to_pts == pts[79]
    assert facts["frame_count"] == 80
    assert facts["unreadable_frame_count"] == 80 - pts.index(span.from_pts)
    assert [time for time, _ in picture_times(output)] == pts
    assert check(source, plan, output)["findings"] == []
    assert_hidden(output, dict.fromkeys(range(pts.index(span.from_pts), 80), (0, 0, WIDTH, HEIGHT)))
    # A person who has looked may decide otherwise.
    shown = amend(plan, [{"op": "unmask_frames", "span": span.id}], "account-7")
    render(source, shown, output)
    assert check(source, shown, output)["findings"] == []
    with pytest.raises(AssertionError):
        assert_hidden(output, {79: (0, 0, WIDTH, HEIGHT)})


def test_plan_for_another_picture_is_refused_and_leaves_no_file(redacted: Redacted, tmp_path: Path) -> None:
    shorter = make_footage(tmp_path / "short.mp4", frame_count=30)
    output = tmp_path / "out.mp4"
    with pytest.raises(Conflict) as caught:
        render(shorter.path, redacted.plan, output)
    assert caught.value.code == "plan_does_not_fit"
    assert not output.exists()


def test_what_is_no_plan_or_no_footage_is_refused(redacted: Redacted, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{")
    request = {"source": str(redacted.footage.path), "destination": str(tmp_path / "o.mp4")}
    with pytest.raises(InvalidInput):
        render_entry({**request, "plan_path": str(tmp_path / "plan.json")}, silent)
    text = tmp_path / "text.mp4"
    text.write_text("#EXTM3U\nfile:///etc/passwd\n")
    with pytest.raises(MediaError):
        render_entry({**request, "plan": redacted.plan.to_json(), "source": str(text)}, silent)


# Of the passenger's clip, by eye: a dark knob between the man's shoulder and the window.
HEADREST = Box(102, 62, 134, 96)


def test_real_clip_comes_out_with_no_face_that_the_detector_knows(tmp_path: Path) -> None:
    source, output = sample("carphone.mp4"), tmp_path / "out.mp4"
    plan = propose(source, tmp_path)
    render(source, plan, output)
    assert check(source, plan, output)["findings"] == []
    detector, masks = CenterFace(models_dir(), long_side_px=352), Masks(plan)
    sighted = 0
    with open_video(source) as before, open_video(output) as after:
        for frame, made in zip(before, after, strict=True):
            # Frames that were looked at, and some that were not.
            if frame.index % 4:
                continue
            known, left = (detector.detect(one.rgb(352, 288)[None])[0] for one in (frame, made))
            sighted += len(known)
            for x0, y0, x1, y1, _ in known / [2, 2, 2, 2, 1]:
                face = Box(ceil(x0), ceil(y0), floor(x1), floor(y1))
                assert any(region.box.contains(face) for region in masks.at(frame.pts)), frame.index
            # One man is in the car, always in sight. Beside the edge of his mask the detector may take the
            # headrest at the window for a face, with a score of little over 0.2; nothing else is let pass.
            for x0, y0, x1, y1, score in left / [2, 2, 2, 2, 1]:
                centre = ((x0 + x1) / 2, (y0 + y1) / 2)
                is_headrest = (
                    HEADREST.x0 <= centre[0] < HEADREST.x1 and HEADREST.y0 <= centre[1] < HEADREST.y1
                )
                assert is_headrest and score < 0.3, (frame.index, centre, score)
    assert sighted >= 25


def test_photo_comes_out_without_the_face_and_without_exif(tmp_path: Path) -> None:
    source, plan_path, output = tmp_path / "photo.jpg", tmp_path / "plan.json", tmp_path / "out.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "SECRETCAMERA"
    with Image.open(sample("astronaut.png")) as picture:
        picture.crop((0, 0, 511, 511)).save(source, quality=95, exif=exif, comment=b"SECRETNOTE")
    request = {
        "source": str(source),
        "destination": str(plan_path),
        "item_id": "i",
        "models_dir": str(models_dir()),
    }
    facts = propose_photo_entry(request, silent)
    assert facts["track_count"] == 1
    redaction = {
        "source": str(source),
        "plan_path": str(plan_path),
        "destination": str(output),
        "models_dir": str(models_dir()),
    }
    assert redact_photo_entry(redaction, silent)["region_count"] == 1
    assert b"SECRET" not in output.read_bytes()
    rgb = read_photo(output)
    assert rgb.shape == (511, 511, 3)
    assert np.abs(rgb[72:172, 188:262].astype(int) - FILL_RGB).max() < 20
    assert rgb[300:400].std() > 20
    report = check_photo_entry({**redaction, "output": str(output)}, silent)
    assert report["findings"] == []
    assert report["looked"] == {"blazeface": MODELS["blazeface"].sha256}
    bare = check_photo_entry({**redaction, "output": str(source)}, silent)
    found = {finding["code"] for finding in bare["findings"]}  # type: ignore[index,union-attr]
    assert found == {"mask_missing", "mask_transparent", "name_in_container"}


def test_whole_way_runs_inside_the_sandbox(redacted: Redacted, tmp_path: Path) -> None:
    limits = Limits(cpu_s=120, wall_s=240.0, memory_bytes=2 << 30)
    plan, output, heard = tmp_path / "plan.json", tmp_path / "out.mp4", []
    source = str(redacted.footage.path)
    found = call(
        "redaction.detect:propose_entry",
        {"source": source, "destination": str(plan), "item_id": "i", "models_dir": str(models_dir()),
         "parameters": QUICK},
        limits=limits, scratch=tmp_path, on_progress=heard.append,
    )  # fmt: skip
    assert found["frame_count"] == 100
    assert heard == sorted(heard)
    request: dict[str, object] = {"source": source, "plan_path": str(plan), "destination": str(output)}
    made = call("redaction.render:render_entry", request, limits=limits, scratch=tmp_path)
    assert made["frame_count"] == 100
    checked = {**request, "output": str(output), "models_dir": str(models_dir())}
    report = call("redaction.check:check_entry", checked, limits=limits, scratch=tmp_path)
    assert report["passed"] is True
    with pytest.raises(Conflict) as caught:
        other = {**request, "source": str(sample("carphone.mp4")), "destination": str(tmp_path / "no.mp4")}
        call("redaction.render:render_entry", other, limits=limits, scratch=tmp_path)
    assert caught.value.code == "plan_does_not_fit"


def test_output_beyond_its_limit_leaves_no_half_made_file(redacted: Redacted, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    request: dict[str, object] = {"source": str(redacted.footage.path), "plan": redacted.plan.to_json()}
    limits = Limits(cpu_s=120, wall_s=240.0, memory_bytes=2 << 30, file_size_bytes=20_000)
    with pytest.raises(MediaError) as caught:
        entry = "redaction.render:render_entry"
        call(entry, {**request, "destination": str(output)}, limits=limits, scratch=tmp_path)
    assert caught.value.code == "output_too_large"
    assert not output.exists()


def test_place_that_cannot_be_written_may_be_tried_again(redacted: Redacted, tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        render(redacted.footage.path, redacted.plan, tmp_path / "no" / "out.mp4")
    assert caught.value.code == "output_unwritable"


def test_box_hidden_is_inside_what_was_planned(redacted: Redacted) -> None:
    masks = Masks(redacted.plan)
    for (pts, _), face in zip(picture_times(redacted.footage.path), redacted.footage.faces, strict=True):
        assert face is not None
        assert any(region.box.contains(Box(*face)) for region in masks.at(pts))
