"""A long recording made in chunks is the recording: every frame, at its time, with its sound."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from config.settings import EncodingSettings, RungSettings
from evidence.errors import MediaError
from media.fmp4 import index_fragments
from media.report import ProbeReport, StreamReport
from tests.support import media as footage
from tests.support.graphics import encoders_here
from tests.support.media import first_times, shown_at
from transcode.chunks import ChunkFile, chunk_count, cuts, join, why_whole
from transcode.encoders import SOFTWARE, Encoder
from transcode.plan import RenditionPlan, chunk_plan, plan_renditions, sound_plan
from transcode.segment import RenditionResult, RunOptions, make_renditions

POLICY = EncodingSettings(
    rungs=[RungSettings(height_px=90), RungSettings(height_px=180)], chunk_s=2, chunk_above_s=4
)


def in_chunks(
    source: Path,
    report: ProbeReport,
    folder: Path,
    policy: EncodingSettings = POLICY,
    may_copy: bool = True,
    encoder: Encoder = SOFTWARE,
) -> tuple[list[RenditionPlan], list[list[ChunkFile]], Path | None]:
    """The plans, each rung's chunks, and the sound, as workers would make them."""
    assert report.video is not None
    base = report.video.time_base_fraction
    plans = list(plan_renditions(report, policy, may_copy=may_copy, encoder=encoder))
    planned = cuts(report.video, chunk_count(report, plans, policy))
    run = RunOptions(scratch=folder, limits=footage.LIMITS)
    lanes: list[list[ChunkFile]] = [[] for _ in plans]
    # The last first: no chunk may need what another left behind.
    for number, cut in reversed(list(enumerate(planned))):
        place = folder / f"chunk{number}"
        place.mkdir(exist_ok=True)
        chunked = [chunk_plan(plan, cut, base) for plan in plans]
        made = make_renditions(source, report, chunked, place, run=run).results
        for lane, result in zip(lanes, made, strict=True):
            lane.insert(0, ChunkFile(number, cut.span, result.path, result.index))
    sound = None
    if report.audio is not None:
        (heard,) = make_renditions(source, report, [sound_plan(plans[0], report)], folder, run=run).results
        sound = heard.path
    return plans, lanes, sound


def joined(
    report: ProbeReport, plan: RenditionPlan, chunks: list[ChunkFile], sound: Path | None, folder: Path
) -> RenditionResult:
    assert report.video is not None
    run = RunOptions(scratch=folder, limits=footage.LIMITS)
    planned = cuts(report.video, len(chunks))
    return join(plan, report, chunks, planned, sound, folder, run=run)


def test_chunks_join_to_every_frame_at_its_time(tmp_path: Path) -> None:
    source = tmp_path / "variable.mp4"
    truth = footage.make_plain(source, seconds=7, codec="hevc", variable_rate=True, keyframe_every=35)
    report = footage.probe(source, tmp_path)
    for encoder in encoders_here():
        plans, lanes, sound = in_chunks(source, report, tmp_path, encoder=encoder)
        assert [len(lane) for lane in lanes] == [4, 4]
        starts = []
        for plan, chunks in zip(plans, lanes, strict=True):
            result = joined(report, plan, chunks, sound, tmp_path)
            assert footage.frame_numbers(result.path) == truth.frame_numbers
            assert all(
                abs(a - b) < Fraction(1, 1000)
                for a, b in zip(shown_at(result.path), truth.shown_at, strict=True)
            )
            assert result.index == index_fragments(result.path)
            assert all(part.starts_with_keyframe for part in result.index.fragments)
            starts.append([part.start_pts for part in result.index.fragments])
            (whole,) = make_renditions(
                source, report, [plan], tmp_path, run=RunOptions(tmp_path, footage.LIMITS)
            ).results
            assert result.index.codecs == whole.index.codecs
            assert abs(result.index.duration - whole.index.duration) < Fraction(1, 25)
        assert starts[0] == starts[1]


def test_sound_that_begins_before_chunks_do_is_seen_with_their_first_picture(tmp_path: Path) -> None:
    footage.make_plain(tmp_path / "a.mp4", seconds=7, fps=10, width_px=160, height_px=90, keyframe_every=20)
    source = tmp_path / "late.mp4"
    footage.ffmpeg("-itsoffset", "0.5", "-i", tmp_path / "a.mp4", "-i", tmp_path / "a.mp4", "-map", "0:v",
                   "-map", "1:a", "-c", "copy", source)  # fmt: skip
    report = footage.probe(source, tmp_path)
    plans, lanes, sound = in_chunks(source, report, tmp_path, SHORT, may_copy=False)
    result = joined(report, plans[0], lanes[0], sound, tmp_path)
    starts = footage.first_times(result.path)
    assert abs(starts["video"] - starts["audio"]) < 0.03
    assert footage.frame_numbers(result.path) == list(range(70))
    assert shown_at(result.path)[1:] == [at + report.lead for at in shown_at(source)[1:]]


SHORT = EncodingSettings(rungs=[RungSettings(height_px=90)], chunk_s=3, chunk_above_s=5)
"""Nine seconds are three chunks, and decoding of the last begins in the middle of the source."""
H264 = ("-c:v", "libx264", "-preset", "veryfast", "-x264-params")
HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params")
OPEN = "open-gop=1:keyint=10:bframes=3:b-adapt=0"
# Of pictures 5 a second; sound where its clock matters.
SOURCES: dict[str, tuple[object, ...]] = {
    "open.mkv": (*HEVC, f"log-level=none:{OPEN}"),
    # Thirty-three bits of a 90 kHz clock run over after 4 s.
    "wraps.ts": (*H264, OPEN, "-map", "1", "-c:a", "aac", "-output_ts_offset", 2**33 // 90_000 - 4),
    "refresh.mkv": (*H264, "intra-refresh=1:keyint=10:bframes=0"),
    "uneven.ts": (*H264, "keyint=100:scenecut=0", "-force_key_frames", "0,1,2,3,7,8"),
    "old.avi": ("-c:v", "mpeg4", "-g", 10),
    "program.mpg": ("-c:v", "mpeg2video", "-g", 50, "-bf", 2, "-q:v", 2, "-f", "vob"),
    "edited.mp4": (*HEVC, "log-level=none:keyint=10:bframes=2"),
    "variable.ts": (*H264, "keyint=10:bframes=2"),
    "raw.h264": (*H264, OPEN),
    "reordered.avi": (*H264, "keyint=10:bframes=2"),
    "untimed.mpg": (*H264, "keyint=10:bframes=2", "-f", "vob"),
    "damaged.mkv": ("-c:v", "mpeg4", "-g", 10),
}
WHOLE = {
    "raw.h264": "nothing can be sought in h264",
    "reordered.avi": "its pictures are reordered, and AVI does not say when each is shown",
    "untimed.mpg": "not every picture says when it is shown",
    "damaged.mkv": "it is damaged: corrupt",
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Numbered pictures, all of them and with holes; each is a keyframe."""
    folder = tmp_path_factory.mktemp("pictures")
    plain, holes = folder / "plain.mkv", folder / "holes.mkv"
    size = {"fps": 5, "width_px": 160, "height_px": 90, "codec": "mjpeg", "audio": False}
    footage.make_plain(plain, seconds=9, **size)
    footage.make_plain(holes, seconds=9, variable_rate=True, **size)
    return {"plain": plain, "holes": holes}


def make_source(name: str, pictures: dict[str, Path], folder: Path) -> Path:
    source = folder / name
    shown = pictures["holes" if name.startswith("variable") else "plain"]
    # MPEG-2 knows no rate as low as this one.
    passed = ("-r", 25) if name == "program.mpg" else ("-fps_mode", "passthrough")
    sound = ("-f", "lavfi", "-i", "sine=440:duration=9") if "aac" in SOURCES[name] else ()
    footage.ffmpeg("-i", shown, *sound, *passed, "-pix_fmt", "yuv420p", "-map", "0", *SOURCES[name], source)
    if name == "edited.mp4":
        trimmed = folder / "trimmed.mp4"
        footage.ffmpeg("-ss", "1.1", "-i", source, "-c", "copy", trimmed)
        return trimmed
    if name == "damaged.mkv":
        footage.overwrite_middle(source, 1000)
    return source


@pytest.mark.parametrize("name", SOURCES)
def test_chunks_of_any_footage_are_what_it_is_encoded_whole_or_it_is_not_cut(
    tmp_path: Path, pictures: dict[str, Path], name: str
) -> None:
    source = make_source(name, pictures, tmp_path)
    report = footage.probe(source, tmp_path)
    (plan,) = plan_renditions(report, SHORT, may_copy=False)
    assert why_whole(report, [plan], SHORT) == WHOLE.get(name)
    assert chunk_count(report, [plan], SHORT) == (0 if name in WHOLE else 3)
    if name == "damaged.mkv":
        return
    run = RunOptions(tmp_path, footage.LIMITS)
    (whole,) = make_renditions(source, report, [plan], tmp_path, run=run).results
    numbers, times = footage.frame_numbers(whole.path), shown_at(whole.path)
    if name in WHOLE:
        assert numbers == list(range(45))
        return
    assert set(numbers) == {*range(45)} or name in {"edited.mp4", "variable.ts"}
    assert numbers == sorted(numbers, key=lambda number: -1 if number is None else number)
    before = first_times(whole.path)
    _, (chunks,), sound = in_chunks(source, report, tmp_path, SHORT, may_copy=False)
    result = joined(report, plan, chunks, sound, tmp_path)
    assert footage.frame_numbers(result.path) == numbers
    assert all(abs(a - b) < Fraction(1, 1000) for a, b in zip(shown_at(result.path), times, strict=True))
    if sound is not None:
        after = first_times(result.path)
        assert after["audio"] - after["video"] == pytest.approx(before["audio"] - before["video"], abs=0.001)


def test_what_cannot_be_cut_well_is_encoded_whole(
    chunked: tuple[ProbeReport, list[RenditionPlan], list[list[ChunkFile]]],
) -> None:
    """One keyframe for half an hour would be decoded from the beginning by each chunk."""
    report, plans, _lanes = chunked
    video = report.video
    assert video is not None
    assert chunk_count(report, plans, POLICY) == 3
    few = replace(video, time_base=str(video.time_base_fraction * 300), keyframe_count=1)
    policy = POLICY.model_copy(update={"chunk_s": 600.0, "chunk_above_s": 700.0})
    assert chunk_count(replace_video(report, replace(few, keyframe_count=900)), plans, policy) == 3
    assert chunk_count(replace_video(report, few), plans, policy) == 0
    stands = replace(video, longest_step=int(2 / video.time_base_fraction))
    assert chunk_count(replace_video(report, stands), plans, POLICY) == 0


def replace_video(report: ProbeReport, video: StreamReport) -> ProbeReport:
    streams = [video if each.index == video.index else each for each in report.streams]
    return replace(report, streams=type(report.streams)(streams))


def test_the_longest_time_that_a_picture_stands_is_counted(tmp_path: Path) -> None:
    source = tmp_path / "hole.mp4"
    filters = "testsrc2=size=128x96:rate=5:duration=2,setpts=PTS+gte(N\\,5)*60/TB"
    footage.ffmpeg("-f", "lavfi", "-i", filters, "-fps_mode", "passthrough", "-c:v", "mpeg4", source)
    video = footage.probe(source, tmp_path).video
    assert video is not None
    assert float(video.longest_step * video.time_base_fraction) == pytest.approx(60.2, abs=0.01)


def test_decoding_begins_two_keyframes_before_a_chunk(
    chunked: tuple[ProbeReport, list[RenditionPlan], list[list[ChunkFile]]],
) -> None:
    """Each keyframe of an intra refresh begins pictures that are whole by the next one only."""
    video = chunked[0].video
    assert video is not None
    base = video.time_base_fraction * 10
    for longest_s, before_s in ((0, 2 * 47.7 / 6), (10, 20), (300, None)):
        far = replace(video, time_base=str(base), keyframe_count=6, longest_group=int(longest_s / base))
        for cut in cuts(far, 4)[2:]:
            begins = float(cut.from_pts * base)
            assert before_s is None or cut.seek is not None
            if cut.seek is not None:
                assert begins - cut.seek == pytest.approx(before_s, abs=0.1)


def test_sound_of_chunks_is_whole_and_where_it_was(tmp_path: Path) -> None:
    """No packet of sound is missing or doubled at a seam, and it starts as late as in the source."""
    footage.make_plain(tmp_path / "a.mp4", seconds=6, fps=10, codec="hevc")
    source = tmp_path / "late.mp4"
    footage.ffmpeg("-i", tmp_path / "a.mp4", "-itsoffset", "0.5", "-i", tmp_path / "a.mp4", "-map", "0:v",
                   "-map", "1:a", "-c", "copy", source)  # fmt: skip
    report = footage.probe(source, tmp_path)
    plans, lanes, sound = in_chunks(source, report, tmp_path)
    assert sound is not None
    result = joined(report, plans[0], lanes[0], sound, tmp_path)
    before, after = first_times(source), first_times(result.path)
    assert after["audio"] - after["video"] == pytest.approx(before["audio"] - before["video"], abs=0.001)
    assert sounds_of(result.path) == sounds_of(source)


def sounds_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda chunks: chunks[:-1], "expected 0 to 2 once each"),
        (lambda chunks: [chunks[1], chunks[0], chunks[2]], "expected 0 to 2 once each"),
        (lambda chunks: [chunks[0], chunks[0], chunks[2]], "expected 0 to 2 once each"),
        (lambda chunks: [chunks[0], replace(chunks[2], number=1), chunks[2]], "chunk 1: expected pts"),
        (
            lambda chunks: [
                chunks[0],
                replace(chunks[1], path=chunks[0].path, index=chunks[0].index),
                chunks[2],
            ],
            "frames: expected",
        ),
    ],
    ids=["missing", "out of order", "twice", "of another place", "with too few pictures"],
)
def test_chunks_that_are_not_the_recording_are_not_joined(
    tmp_path: Path,
    chunked: tuple[ProbeReport, list[RenditionPlan], list[list[ChunkFile]]],
    harm: Any,
    said: str,
) -> None:
    report, plans, lanes = chunked
    assert report.video is not None
    run = RunOptions(scratch=tmp_path, limits=footage.LIMITS)
    with pytest.raises(MediaError, match=said):
        join(plans[0], report, harm(lanes[0]), cuts(report.video, 3), None, tmp_path, run=run)


def test_chunks_of_another_coding_are_not_joined(
    tmp_path: Path, chunked: tuple[ProbeReport, list[RenditionPlan], list[list[ChunkFile]]]
) -> None:
    report, plans, (small, large) = chunked
    with pytest.raises(MediaError) as caught:
        joined(report, plans[0], [small[0], large[1], small[2]], None, tmp_path)
    assert caught.value.code == "chunks_do_not_join"
    assert "chunk 1: expected the coding of chunk 0" in caught.value.message


@pytest.fixture(scope="module")
def chunked(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[ProbeReport, list[RenditionPlan], list[list[ChunkFile]]]:
    """Three chunks of a recording, the first of which is shorter by a frame."""
    folder = tmp_path_factory.mktemp("chunks")
    source = folder / "a.avi"
    footage.make_plain(source, seconds=4.8, fps=13, codec="mpeg4", audio=False)
    report = footage.probe(source, folder)
    plans, lanes, _ = in_chunks(source, report, folder)
    return report, plans, lanes
