"""The check decodes the output itself; each thing that may be wrong with it is planted here, and found."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pytest

import redaction.render
from media.decode import picture_times, read_photo
from media.encode import Canvas
from media.mux import FragmentFile, Sample, VideoTrack
from media.painting import FILL
from redaction.amend import amend
from redaction.geometry import Region
from redaction.leftover import another_family
from redaction.models import MODELS
from redaction.plan import Key, RedactionPlan
from tests.integration.redaction_footage import (
    QUICK,
    Footage,
    check,
    encode,
    make_footage,
    of_our_sound,
    propose,
    render,
)
from tests.support.samples import models_dir, sample

FRAMES = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RedactionPlan, Path]:
    """A rendition, its plan, and its good redacted rendition."""
    folder = tmp_path_factory.mktemp("check")
    source = make_footage(folder / "rendition.mp4", frame_count=FRAMES).path
    plan = propose(source, folder, **QUICK)
    output = folder / "redacted.mp4"
    render(source, plan, output)
    assert check(source, plan, output)["passed"]
    return source, plan, output


def codes(report: dict[str, Any]) -> set[str]:
    assert report["passed"] is (report["finding_count"] == 0)
    return {finding["code"] for finding in report["findings"]}


def test_bare_face_is_found_in_every_frame(made: tuple[Path, RedactionPlan, Path]) -> None:
    source, plan, _ = made
    report = check(source, plan, source)
    bare = {finding["pts"] for finding in report["findings"] if finding["code"] == "mask_missing"}
    assert bare == {pts for pts, _ in picture_times(source)}


@pytest.fixture(scope="module")
def missed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Footage, RedactionPlan, Path]:
    """Footage, a plan whose detector saw nothing in it, and what was rendered by that plan."""
    folder = tmp_path_factory.mktemp("missed")
    footage = make_footage(folder / "rendition.mp4", frame_count=30, sound=())
    plan = replace(propose(footage.path, folder, **QUICK), tracks=())
    output = folder / "redacted.mp4"
    render(footage.path, plan, output)
    return footage, plan, output


def test_face_that_the_proposing_family_missed_is_found_twice_a_second(
    missed: tuple[Footage, RedactionPlan, Path],
) -> None:
    footage, plan, output = missed
    report = check(footage.path, plan, output)
    assert codes(report) == {"face_left"}
    assert report["looked"] == {"blazeface": MODELS["blazeface"].sha256}
    assert report["looked_frame_count"] == 3
    times = [pts for pts, _ in picture_times(footage.path)]
    for finding in report["findings"]:
        face = footage.faces[times.index(finding["pts"])]
        assert face is not None
        x0, y0, x1, y1 = finding["box"]
        assert x0 < (face[0] + face[2]) / 2 < x1
        assert y0 < (face[1] + face[3]) / 2 < y1


def test_face_that_a_person_decided_to_show_is_no_finding(
    missed: tuple[Footage, RedactionPlan, Path],
) -> None:
    footage, plan, output = missed
    first, last = picture_times(footage.path)[0][0], picture_times(footage.path)[-1][0]
    # Two calls of a person: mask what the machine asks about, and take the mask away with a reason.
    keys = [[first, 0, 0, 320, 180, 0], [last, 0, 0, 320, 180, 0]]
    box = {"op": "add_box", "shape": "rectangle", "reason": "privacy", "keys": keys}
    masked = amend(plan, [box], "account-1")
    shown = amend(masked, [{"op": "delete_box", "track": masked.tracks[-1].id}], "account-1")
    assert codes(check(footage.path, shown, output)) == set()


def test_who_looks_is_of_another_family_than_who_proposed(
    missed: tuple[Footage, RedactionPlan, Path],
) -> None:
    _, plan, _ = missed
    assert another_family(plan, models_dir(), 0.7).family == "blazeface"
    swapped = replace(plan, models={"blazeface:0123abcd": "0" * 64})
    assert another_family(swapped, models_dir(), 0.7).family == "centerface"


def test_one_bare_frame_is_found(made: tuple[Path, RedactionPlan, Path], tmp_path: Path) -> None:
    source, plan, _ = made
    pts = [time for time, _ in picture_times(source)]
    gone, back = pts[30], pts[31]

    def with_hole(keys: tuple[Key, ...]) -> tuple[Key, ...]:
        before = [key for key in keys if key.pts < gone]
        after = [key for key in keys if key.pts >= back]
        return (*before, Key(gone, *before[-1].box, outside=True), *after, Key(pts[-1] + 1, *keys[-1].box))

    holed = replace(plan, tracks=tuple(replace(track, keys=with_hole(track.keys)) for track in plan.tracks))
    output = tmp_path / "holed.mp4"
    render(source, holed, output)
    report = check(source, plan, output)
    assert codes(report) - {"mask_transparent"} == {"mask_missing"}
    assert gone in {finding.get("pts") for finding in report["findings"]}


def test_blur_is_no_mask(made: tuple[Path, RedactionPlan, Path], tmp_path: Path) -> None:
    source, plan, _ = made
    blurred = tmp_path / "blurred.mp4"
    ffmpeg("-i", source, "-vf", "gblur=sigma=20", "-c:a", "copy", blurred)
    assert "mask_missing" in codes(check(source, plan, blurred))


def ffmpeg(*options: object) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *map(str, options[:-1])]
    fragments = ["-movflags", "+frag_keyframe+empty_moov+default_base_moof"]
    subprocess.run([*command, *fragments, str(options[-1])], check=True)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["-metadata", "title=a title"], "box_not_allowed"),
        (["-metadata:s:v", "handler_name=a camera"], "name_in_container"),
        (["-map", "0:v", "-map", "0:a", "-map", "0:a"], "stream_not_allowed"),
        (["-map", "0:a"], "stream_not_allowed"),
        (["-t", "1"], "frames_differ"),
    ],
)
def test_remuxed_output_with_more_or_less_in_it_is_found(
    made: tuple[Path, RedactionPlan, Path], tmp_path: Path, options: list[str], found: str
) -> None:
    source, plan, output = made
    other = tmp_path / "other.mp4"
    ffmpeg("-i", output, "-c", "copy", *options, other)
    assert found in codes(check(source, plan, other))


def test_cover_picture_is_found(made: tuple[Path, RedactionPlan, Path], tmp_path: Path) -> None:
    source, plan, output = made
    cover, other = tmp_path / "cover.png", tmp_path / "other.mp4"
    ffmpeg("-i", source, "-frames:v", "1", "-f", "image2", cover)
    picture = ["-map", "0", "-map", "1", "-c", "copy", "-disposition:v:1", "attached_pic"]
    ffmpeg("-i", output, "-i", cover, *picture, other)
    assert {"box_not_allowed", "stream_not_allowed"} & codes(check(source, plan, other))


def rewritten(output: Path, into: Path, change: Callable[[int, bytes], bytes | None]) -> None:
    """Write the pictures again with our own muxer, each changed or left out."""
    with av.open(str(output)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        track = VideoTrack(
            context.width, context.height, stream.time_base.denominator, context.extradata or b""
        )
        file = FragmentFile(into, track, [])
        for number, packet in enumerate(container.demux(stream)):
            data = change(number, bytes(packet))
            if packet.pts is not None and data:
                file.add_picture(Sample(packet.pts, packet.duration or 0, data, packet.is_keyframe))
        file.finish()


def test_user_data_among_the_slices_is_found(made: tuple[Path, RedactionPlan, Path], tmp_path: Path) -> None:
    source, plan, output = made
    message = bytes([6, 5, 20]) + bytes(16) + b"GPS!" + b"\x80"

    def with_sei(number: int, data: bytes) -> bytes:
        return struct.pack(">I", len(message)) + message + data if number == 7 else data

    other = tmp_path / "other.mp4"
    rewritten(output, other, with_sei)
    units = [f for f in check(source, plan, other)["findings"] if f["code"] == "unit_not_allowed"]
    assert [finding["found"] for finding in units] == [[6]]


def test_frame_that_is_missing_is_found(made: tuple[Path, RedactionPlan, Path], tmp_path: Path) -> None:
    source, plan, output = made
    other = tmp_path / "other.mp4"
    rewritten(output, other, lambda number, data: None if number == 33 else data)
    assert {"frames_differ"} <= codes(check(source, plan, other))


def test_bytes_between_and_behind_samples_are_found(
    made: tuple[Path, RedactionPlan, Path], tmp_path: Path
) -> None:
    source, plan, output = made
    content = output.read_bytes()
    other = tmp_path / "other.mp4"
    last = content.rindex(b"mdat") - 4
    (size,) = struct.unpack_from(">I", content, last)
    other.write_bytes(content[:last] + struct.pack(">I", size + 9) + content[last + 4 :] + b"telemetry")
    assert codes(check(source, plan, other)) == {"bytes_between_samples"}
    other.write_bytes(content + struct.pack(">I4s", 17, b"free") + b"telemetry")
    assert codes(check(source, plan, other)) == {"box_not_allowed"}
    other.write_bytes(content + b"GPS")
    assert "bytes_between_samples" in codes(check(source, plan, other))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_output_that_is_cut_or_no_footage_is_a_finding_not_a_crash(
    made: tuple[Path, RedactionPlan, Path], tmp_path: Path, share: float
) -> None:
    source, plan, output = made
    other = tmp_path / "other.mp4"
    content = output.read_bytes()
    other.write_bytes(content[: int(len(content) * share)])
    assert codes(check(source, plan, other))


def test_sound_that_should_be_muted_is_found(made: tuple[Path, RedactionPlan, Path]) -> None:
    source, plan, output = made
    for kind in ("silence", "tone"):
        change = {
            "op": "mute",
            "from_us": 500_000,
            "to_us": 900_000,
            "stream": None,
            "kind": kind,
            "reason": "minor",
        }
        muted = amend(plan, [change], "account-7")
        assert codes(check(source, muted, output)) == {"sound_not_replaced"}


def test_attenuated_sound_is_not_muted(made: tuple[Path, RedactionPlan, Path], tmp_path: Path) -> None:
    source, plan, output = made
    change = {
        "op": "mute",
        "from_us": 500_000,
        "to_us": 900_000,
        "stream": 0,
        "kind": "silence",
        "reason": "minor",
    }
    muted = amend(plan, [change], "account-7")
    quiet = tmp_path / "quiet.mp4"
    ffmpeg("-i", output, "-c:v", "copy", "-af", "volume=-40dB", quiet)
    assert "sound_not_replaced" in codes(check(source, muted, quiet))


def test_kept_sound_that_was_changed_is_found(made: tuple[Path, RedactionPlan, Path], tmp_path: Path) -> None:
    source, plan, output = made
    louder = tmp_path / "louder.mp4"
    ffmpeg("-i", output, "-c:v", "copy", "-af", "volume=1.1", louder)
    assert "sound_differs" in codes(check(source, plan, louder, made=of_our_sound(source)))


def test_sound_that_a_recorder_coded_is_neither_taken_over_nor_changed(
    made: tuple[Path, RedactionPlan, Path], tmp_path: Path
) -> None:
    source, plan, output = made
    carried, quieter = tmp_path / "carried.mp4", tmp_path / "quieter.mp4"
    ffmpeg("-i", output, "-i", source, "-map", "0:v", "-map", "1:a", "-c", "copy", carried)
    assert "sound_carried" in codes(check(source, plan, carried))
    ffmpeg("-i", output, "-c:v", "copy", "-af", "volume=0.5", quieter)
    found = codes(check(source, plan, quieter))
    # FFmpeg's own encoder begins with an element that holds its name.
    assert {"sound_differs", "sound_carried"} <= found


def test_findings_are_said_in_two_languages(made: tuple[Path, RedactionPlan, Path]) -> None:
    source, plan, _ = made
    finding = check(source, plan, source)["findings"][0]
    assert finding["zh"]
    assert finding["en"].isascii()


def letting_through(share: float) -> Callable[[Canvas, Sequence[Region]], None]:
    """A painter whose fill is not opaque; 1 paints nothing."""

    def paint(canvas: Canvas, regions: Sequence[Region]) -> None:
        for box, _ in regions:
            for plane, level, step in (
                (canvas.y, FILL[0], 1),
                (canvas.u, FILL[1], 2),
                (canvas.v, FILL[2], 2),
            ):
                part = plane[box.y0 // step : box.y1 // step, box.x0 // step : box.x1 // step]
                part[:] = np.round(part * share + level * (1 - share)).astype(np.uint8)

    return paint


def portrait(path: Path, *, dark: bool) -> Path:
    """A photograph that slides by, dark enough for no level to stand out when asked."""
    still = cv2.resize(read_photo(sample("astronaut.png")), (320, 320), interpolation=cv2.INTER_AREA)[60:240]
    shown = still * 0.12 + 18 if dark else still.astype(float)
    frames = [np.roll(shown.astype(np.uint8), number // 2, axis=1) for number in range(16)]
    encode(path, b"".join(frame.tobytes() for frame in frames), sound=("anullsrc=r=48000",), seconds=16 / 25)
    return path


def masked_by_hand(source: Path, folder: Path, side_px: int) -> RedactionPlan:
    pts = [time for time, _ in picture_times(source)]
    empty = replace(propose(source, folder, **QUICK), tracks=())
    keys = [[at, 100, 4, 100 + side_px, 4 + side_px, 0] for at in (pts[0], pts[-1])]
    return amend(
        empty, [{"op": "add_box", "shape": "rectangle", "reason": "privacy", "keys": keys}], "account-7"
    )


@pytest.mark.parametrize("dark", [False, True])
def test_what_shows_through_a_mask_is_found_at_every_size_and_honest_masks_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dark: bool
) -> None:
    source = portrait(tmp_path / "source.mp4", dark=dark)
    output = tmp_path / "out.mp4"
    # A twentieth of a dark picture is less than half a level: coding leaves more.
    shares = (0.15, 1.0) if dark else (0.05, 0.15)
    for side_px in (16, 24, 40, 80, 172):
        plan = masked_by_hand(source, tmp_path, side_px)
        render(source, plan, output)
        # A small mask leaves most of the face in daylight, which is a finding of another kind.
        bare = {"face_left"} if side_px <= 40 and not dark else set()
        assert codes(check(source, plan, output)) <= bare, side_px
        for share in shares:
            with monkeypatch.context() as patched:
                patched.setattr(redaction.render, "paint", letting_through(share))
                render(source, plan, output)
            assert "mask_transparent" in codes(check(source, plan, output)), (side_px, share)
