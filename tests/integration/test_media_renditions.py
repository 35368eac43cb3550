"""Renditions show the frames of their source, all of them, at their times, and nothing else of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import ffmpeg as graph
import pytest

from config.settings import EncodingSettings, RungSettings
from evidence.errors import Conflict, MediaError, Unavailable
from media.fmp4 import FragmentIndex, index_fragments
from media.run import packaged_ffmpeg, run_ffmpeg
from media.samples import read_samples
from media.sandbox import Limits
from tests.support import media as footage
from tests.support.graphics import encoders_here
from tests.support.media import shown_at
from transcode.excerpt import write_excerpt
from transcode.plan import held_back, plan_renditions
from transcode.playlist import Part, media_playlist
from transcode.segment import RenditionResult, RunOptions, growing_file, make_renditions


def render(source: Path, folder: Path) -> list[RenditionResult]:
    report = footage.probe(source, folder)
    return footage.render(source, report, folder)


@pytest.mark.parametrize(
    "options",
    [{}, {"b_frames": True}, {"variable_rate": True, "b_frames": True}, {"audio": False}],
    ids=["plain", "reordered", "variable", "silent"],
)
def test_a_copy_shows_the_same_frames_at_the_same_times(tmp_path: Path, options: dict[str, Any]) -> None:
    source = tmp_path / "source.mp4"
    truth = footage.make_plain(source, seconds=4, first_frame=700, **options)
    (result,) = render(source, tmp_path)
    assert result.rung.name == "copy"
    assert result.findings == ()
    assert footage.frame_numbers(result.path) == truth.frame_numbers
    assert shown_at(result.path) == truth.shown_at
    assert result.index.frame_count == truth.frame_count
    assert abs(result.index.duration - 4) <= Fraction(4, 25)
    assert result.index == index_fragments(result.path)
    assert all(fragment.starts_with_keyframe for fragment in result.index.fragments)
    assert len(result.index.fragments) == 2


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("old.avi", {"codec": "mpeg4"}),
        ("dvr.avi", {"codec": "mjpeg"}),
        ("new.mp4", {"codec": "hevc", "variable_rate": True}),
    ],
)
def test_an_encoding_shows_the_same_frames_at_the_same_times(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    truth = footage.make_plain(tmp_path / name, seconds=4, **options)
    (result,) = render(tmp_path / name, tmp_path)
    assert result.rung.name == "360p"
    assert footage.frame_numbers(result.path) == truth.frame_numbers
    assert all(
        abs(a - b) < Fraction(1, 1000) for a, b in zip(shown_at(result.path), truth.shown_at, strict=True)
    )
    assert result.index.codecs.startswith("avc1.64")
    assert result.index.codecs.endswith(",mp4a.40.2")


def test_a_large_foreign_source_gets_the_small_rung_first(tmp_path: Path) -> None:
    source = tmp_path / "large.avi"
    truth = footage.make_plain(source, seconds=1, codec="mjpeg", width_px=854, height_px=480)
    small, full = render(source, tmp_path)
    assert [small.rung.name, full.rung.name] == ["360p", "720p"]
    assert (small.index.main.width_px, small.index.main.height_px) == (640, 360)
    assert (full.index.main.width_px, full.index.main.height_px) == (854, 480)
    for result in (small, full):
        assert footage.frame_numbers(result.path) == truth.frame_numbers


TINY = EncodingSettings(
    rungs=[RungSettings(height_px=90), RungSettings(height_px=136), RungSettings(height_px=180)]
)


def test_rungs_of_one_decode_have_their_keyframes_at_the_same_instants(tmp_path: Path) -> None:
    """Whoever encodes: on a machine with a graphics processor its encoders are held to it too."""
    source = tmp_path / "variable.mp4"
    truth = footage.make_plain(source, seconds=5, codec="hevc", variable_rate=True)
    report = footage.probe(source, tmp_path)
    for encoder in encoders_here():
        results = footage.render(source, report, tmp_path, TINY, encoder)
        assert [result.index.main.height_px for result in results] == [90, 136, 180]
        assert [result.info["encoder"] for result in results] == ["libx264", *[encoder.codec] * 2]
        starts = []
        for result in results:
            assert footage.frame_numbers(result.path) == truth.frame_numbers
            assert all(
                abs(a - b) < Fraction(1, 1000)
                for a, b in zip(shown_at(result.path), truth.shown_at, strict=True)
            )
            assert all(fragment.starts_with_keyframe for fragment in result.index.fragments)
            assert result.index.codecs.startswith("avc1.64")
            starts.append([(part.start_pts, part.frame_count) for part in result.index.fragments])
        assert starts[0] == starts[1] == starts[2]
        assert len(starts[0]) == 3
        gaps = [
            Fraction(b[0] - a[0], results[0].index.timescale)
            for a, b in zip(starts[0], starts[0][1:], strict=False)
        ]
        assert all(2 <= gap < Fraction(22, 10) for gap in gaps)


def test_the_smallest_rung_can_be_watched_before_the_others_begin(tmp_path: Path) -> None:
    """Of a source that comes no further than its head start, the larger encoders get too little to write."""
    source, held = tmp_path / "a.mkv", tmp_path / "held.mkv"
    truth = footage.make_plain(source, seconds=10, fps=10, codec="mpeg4", audio=False)
    report = footage.probe(source, tmp_path)
    with av.open(str(source)) as container:
        begins = [packet.pos for packet in container.demux(video=0) if packet.size]
    shown: list[tuple[FragmentIndex, bytes]] = []
    is_shown = threading.Event()

    def give() -> None:
        with held.open("wb") as line, source.open("rb") as whole:
            line.write(whole.read(begins[60]))
            line.flush()
            is_shown.wait(30)
            line.write(whole.read())

    def look(rung: str, index: FragmentIndex) -> None:
        if rung == "90p":
            shown.append((index, (tmp_path / growing_file(rung)).read_bytes()[: index.size_bytes]))
            if not is_shown.is_set():
                time.sleep(0.3)
                assert [(tmp_path / growing_file(f"{px}p")).stat().st_size for px in (136, 180)] == [0, 0]
                is_shown.set()

    os.mkfifo(held)
    giver = threading.Thread(target=give)
    giver.start()
    run = RunOptions(scratch=tmp_path, limits=footage.LIMITS)
    encoded = make_renditions(held, report, plan_renditions(report, TINY), tmp_path, run=run, on_growth=look)
    giver.join()
    assert len(shown[0][0].fragments) < len(encoded.results[0].index.fragments)
    small = encoded.results[0]
    whole = small.path.read_bytes()
    for index, seen in shown:
        assert whole.startswith(seen)
        assert index.fragments[:-1] == small.index.fragments[: len(index.fragments) - 1]
    for result in encoded.results:
        assert footage.frame_numbers(result.path) == truth.frame_numbers


def test_pictures_are_not_kept_for_a_time_that_does_not_come(tmp_path: Path) -> None:
    """The larger rungs get each picture when the clock is further; behind a step back it never is."""
    shown = graph.input("testsrc2=s=640x360:r=30:d=20,setpts='PTS+lt(N,90)*900/TB'", f="lavfi")["0"]
    parts = shown.filter_multi_output("split", 3)
    later = held_back(parts[1], parts[2], Fraction(3))
    digests = [tmp_path / "all", tmp_path / "later"]
    outputs = [
        graph.output(each, str(path), f="framemd5", fps_mode="passthrough", enc_time_base="1/1000")
        for each, path in zip((parts[0], later), digests, strict=True)
    ]
    arguments = graph.merge_outputs(*outputs).get_args()
    most_kib = 0
    with subprocess.Popen([packaged_ffmpeg(), "-v", "error", "-nostdin", *arguments]) as child:
        while child.poll() is None:
            status = Path(f"/proc/{child.pid}/status").read_text()
            most_kib = max([most_kib, *map(int, re.findall(r"VmHWM:\s+(\d+)", status))])
            time.sleep(0.01)
    assert child.returncode == 0
    assert digests[0].read_text() == digests[1].read_text()
    assert digests[0].read_text().count("\n0,") == 600
    # All that comes after the step is 176 MB of pictures.
    assert most_kib < 170_000


def test_a_rung_made_with_others_has_the_bytes_it_has_alone(tmp_path: Path) -> None:
    source = tmp_path / "a.avi"
    footage.make_plain(source, codec="mpeg4")
    report = footage.probe(source, tmp_path)
    plans = plan_renditions(report, TINY)
    run = RunOptions(scratch=tmp_path, limits=footage.LIMITS)
    together = [
        result.path.read_bytes()
        for result in make_renditions(source, report, plans, tmp_path, run=run).results
    ]
    for plan, expected in zip(plans, together, strict=True):
        (alone,) = make_renditions(source, report, [plan], tmp_path, run=run).results
        assert alone.path.read_bytes() == expected


def test_a_rung_that_differs_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    source = tmp_path / "a.avi"
    footage.make_plain(source, codec="mpeg4", seconds=1)
    report = footage.probe(source, tmp_path)
    small, middle, large = plan_renditions(report, TINY)
    assert middle.expected_frames is not None
    wrong = replace(middle, expected_frames=middle.expected_frames + 1)
    run = RunOptions(scratch=tmp_path, limits=footage.LIMITS)
    empty = replace(large, options={**large.options, "t": 0})
    encoded = make_renditions(source, report, [small, wrong, empty], tmp_path, run=run)
    assert [result.rung.name for result in encoded.results] == ["90p"]
    differs, broken = encoded.refused
    assert differs == "136p: frames: expected 26, found 25"
    assert broken.startswith("180p: ")
    assert "found none" in broken
    assert {path.name for path in tmp_path.glob("rendition-*")} == {growing_file("90p")}


def test_no_rung_loses_the_pictures_it_held_when_their_size_changes(tmp_path: Path) -> None:
    source = tmp_path / "source.ts"
    with source.open("wb") as target:
        for size in ("160x180", "320x180"):
            part = tmp_path / f"{size}.ts"
            footage.ffmpeg("-f", "lavfi", "-i", f"testsrc=s={size}:r=10:d=3", "-c:v", "libx264", part)
            target.write(part.read_bytes())
    report = footage.probe(source, tmp_path)
    plans = plan_renditions(report, TINY)
    run = RunOptions(scratch=tmp_path, limits=footage.LIMITS)
    made = make_renditions(source, report, plans, tmp_path, run=run).results
    assert [(each.rung.name, each.index.frame_count) for each in made] == [
        (plan.rung.name, 60) for plan in plans
    ]


def test_foreign_sound_is_encoded_beside_a_copied_picture(tmp_path: Path) -> None:
    footage.make_plain(tmp_path / "a.mp4")
    footage.ffmpeg("-i", tmp_path / "a.mp4", "-c:v", "copy", "-c:a", "pcm_s16le", tmp_path / "b.mov")
    (result,) = render(tmp_path / "b.mov", tmp_path)
    assert (result.rung.copies_video, result.rung.copies_audio) == (True, False)
    assert result.index.codecs.endswith("mp4a.40.2")


def test_sound_alone_becomes_audio(tmp_path: Path) -> None:
    footage.write_wav(tmp_path / "pen.wav", seconds=5)
    (result,) = render(tmp_path / "pen.wav", tmp_path)
    assert result.rung.name == "audio"
    assert abs(result.index.duration - 5) < Fraction(1, 10)
    assert len(result.index.fragments) >= 2


def test_sound_that_starts_late_stays_late(tmp_path: Path) -> None:
    footage.make_plain(tmp_path / "a.mp4", b_frames=True)
    source = tmp_path / "late.mp4"
    footage.ffmpeg("-i", tmp_path / "a.mp4", "-itsoffset", "0.5", "-i", tmp_path / "a.mp4", "-map", "0:v",
                   "-map", "1:a", "-c", "copy", source)  # fmt: skip
    before = footage.first_times(source)
    (result,) = render(source, tmp_path)
    after = footage.first_times(result.path)
    assert after["audio"] - after["video"] == pytest.approx(before["audio"] - before["video"], abs=0.001)
    assert after["audio"] - after["video"] == pytest.approx(0.5, abs=0.03)
    # The last picture stands until it has ended; the others are shown as before.
    assert result.index.fragments[-1].tail_pts == 0
    assert result.index.duration == pytest.approx(2.5, abs=0.05)
    assert shown_at(result.path) == shown_at(source)
    assert footage.frame_numbers(result.path) == footage.frame_numbers(source)
    for number, part in enumerate(result.index.fragments):
        samples = read_samples(result.path, result.index.main, [part])
        assert any(each.pts > each.dts for each in samples), number
        # By this a player places what it is fed.
        assert samples[0].dts == result.index.origin_pts + part.start_pts


@pytest.mark.parametrize("may_copy", [True, False])
@pytest.mark.parametrize("b_frames", [True, False])
def test_the_first_picture_stands_from_where_sound_begins(
    tmp_path: Path, b_frames: bool, may_copy: bool
) -> None:
    footage.make_plain(tmp_path / "a.mp4", b_frames=b_frames)
    source = tmp_path / "late.mp4"
    footage.ffmpeg("-itsoffset", "0.5", "-i", tmp_path / "a.mp4", "-i", tmp_path / "a.mp4", "-map", "0:v",
                   "-map", "1:a", "-c", "copy", source)  # fmt: skip
    report = footage.probe(source, tmp_path, depth="header")
    assert report.lead == pytest.approx(0.5, abs=0.03)
    assert footage.probe(source, tmp_path).lead_us == report.lead_us
    plan = plan_renditions(report, may_copy=may_copy)[0]
    (result,) = make_renditions(
        source, report, [plan], tmp_path, run=RunOptions(tmp_path, footage.LIMITS)
    ).results
    starts = footage.first_times(result.path)
    assert abs(starts["video"] - starts["audio"]) < 0.03
    assert result.index.duration == pytest.approx(2.5, abs=0.05)
    assert footage.frame_numbers(result.path) == footage.frame_numbers(source)
    assert result.index.fragments[0].duration_pts <= plan.segment_limit_s * result.index.timescale
    first, *others = shown_at(source)
    assert shown_at(result.path)[1:] == [at + report.lead for at in others]
    assert (first, result.index.fragments[0].first_pts >= -2048) == (0, True)


def test_no_picture_but_the_first_stands_before_its_time_where_the_source_changes_its_size(
    tmp_path: Path,
) -> None:
    for name, height_px in (("a.ts", 90), ("b.ts", 180)):
        footage.make_plain(
            tmp_path / name, seconds=2, fps=10, width_px=height_px * 16 // 9, height_px=height_px
        )
    (tmp_path / "list").write_text("file 'a.ts'\nfile 'b.ts'\n")
    source = tmp_path / "both.ts"
    footage.ffmpeg("-f", "concat", "-itsoffset", "0.5", "-i", tmp_path / "list", "-f", "lavfi", "-i",
                   "sine=440:d=5", "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac",
                   source)  # fmt: skip
    report = footage.probe(source, tmp_path)
    assert report.lead > 0
    plan = plan_renditions(report, may_copy=False)[0]
    (result,) = make_renditions(
        source, report, [plan], tmp_path, run=RunOptions(tmp_path, footage.LIMITS)
    ).results
    assert footage.frame_numbers(result.path) == [*range(20), *range(20)]
    times = shown_at(result.path)
    assert (times == sorted(times), len(set(times))) == (True, 40)


@pytest.mark.parametrize("suffix", ["ts", "mkv"])
def test_a_first_picture_that_others_are_shown_before_stays_at_its_time(tmp_path: Path, suffix: str) -> None:
    group = "open-gop=1:keyint=20:min-keyint=20:scenecut=0:bframes=3:b-adapt=0"
    footage.ffmpeg("-f", "lavfi", "-i", "testsrc2=s=160x90:r=10:d=6", "-c:v", "libx264", "-x264-params",
                   group, "-pix_fmt", "yuv420p", tmp_path / "whole.ts")  # fmt: skip
    footage.ffmpeg("-ss", 2, "-i", tmp_path / "whole.ts", "-c", "copy", "-copyts", "-avoid_negative_ts",
                   "disabled", tmp_path / "cut.ts")  # fmt: skip
    source = tmp_path / f"late.{suffix}"
    footage.ffmpeg("-itsoffset", "0.5", "-i", tmp_path / "cut.ts", "-f", "lavfi", "-i", "sine=440:d=6",
                   "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac", source)  # fmt: skip
    for depth in ("header", "packets"):
        report = footage.probe(source, tmp_path, depth=depth)
        assert report.lead_us == 0
    (result,) = footage.render(source, report, tmp_path)
    assert (result.rung.name, result.findings) == ("copy", ())


@pytest.mark.parametrize("depth", ["header", "packets"])
def test_what_an_edit_list_hides_stays_hidden(tmp_path: Path, depth: str) -> None:
    footage.make_plain(tmp_path / "a.mp4", seconds=4)
    source = tmp_path / "trimmed.mp4"
    footage.ffmpeg("-ss", "1.5", "-i", tmp_path / "a.mp4", "-c", "copy", source)
    shown = footage.frame_numbers(source)
    assert shown[0] != 0
    report = footage.probe(source, tmp_path, depth=depth)
    (result,) = footage.render(source, report, tmp_path)
    assert footage.frame_numbers(result.path) == shown
    starts = footage.first_times(result.path)
    assert abs(starts["video"] - starts["audio"]) < 0.1


def test_a_turned_picture_is_encoded_upright(tmp_path: Path) -> None:
    footage.make_plain(tmp_path / "a.mp4", seconds=1)
    source = tmp_path / "turned.mp4"
    footage.ffmpeg("-display_rotation", "90", "-i", tmp_path / "a.mp4", "-c", "copy", source)
    (result,) = render(source, tmp_path)
    assert (result.index.main.width_px, result.index.main.height_px) == (180, 320)


def test_nothing_of_the_source_follows_but_picture_and_sound(tmp_path: Path) -> None:
    footage.make_plain(tmp_path / "a.mp4", seconds=1)
    source = tmp_path / "tagged.mp4"
    footage.ffmpeg("-i", tmp_path / "a.mp4", "-c", "copy", "-metadata", "location=+39.9042+116.4074/",
                   "-metadata", "title=SECRET-NAME", "-metadata", "comment=SECRET-NAME", source)  # fmt: skip
    assert b"SECRET-NAME" in source.read_bytes()
    (result,) = render(source, tmp_path)
    data = result.path.read_bytes()
    for secret in (b"SECRET-NAME", b"116.4074", b"2026", b"Lavf"):
        assert secret not in data
    with av.open(str(result.path)) as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}


def test_a_source_without_keyframes_is_cut_all_the_same(tmp_path: Path) -> None:
    """A single group of pictures must not pile up in memory, nor be held back from playing."""
    source = tmp_path / "endless.mp4"
    truth = footage.make_plain(source, seconds=20, fps=5, keyframe_every=1000)
    (result,) = render(source, tmp_path)
    assert [fragment.starts_with_keyframe for fragment in result.index.fragments] == [True, False]
    assert result.index.frame_count == truth.frame_count
    assert "INDEPENDENT" in media_playlist([Part(result.index, "r.mp4")])


def test_a_damaged_source_is_rendered_and_its_findings_are_kept(tmp_path: Path) -> None:
    source = tmp_path / "damaged.mp4"
    footage.make_plain(source)
    footage.overwrite_middle(source)
    (result,) = render(source, tmp_path)
    assert result.rung.name == "360p"
    numbers = footage.frame_numbers(result.path)
    assert numbers[0] == 0
    assert len(numbers) == result.index.frame_count


def test_a_cut_source_is_copied_up_to_its_last_whole_packet(tmp_path: Path) -> None:
    footage.make_plain(tmp_path / "a.mp4")
    source = tmp_path / "cut.mp4"
    footage.ffmpeg("-i", tmp_path / "a.mp4", "-c", "copy", "-movflags", "+faststart", source)
    footage.cut_off(source, 0.6)
    (result,) = render(source, tmp_path)
    numbers = footage.frame_numbers(result.path)
    assert numbers == list(range(len(numbers)))
    assert len(numbers) == result.index.frame_count > 10


def test_a_rendition_plays_while_it_grows(tmp_path: Path) -> None:
    source = tmp_path / "long.avi"
    footage.make_plain(source, seconds=12, codec="mpeg4", audio=False)
    report = footage.probe(source, tmp_path)
    (plan,) = plan_renditions(report)
    seen: list[FragmentIndex] = []
    early = tmp_path / "early.mp4"

    def look(_rung: str, index: FragmentIndex) -> None:
        if not seen:
            write_excerpt(tmp_path / "rendition-360p.mp4", index, Fraction(0), Fraction(1), early)
        seen.append(index)

    run = RunOptions(scratch=tmp_path, limits=footage.LIMITS)
    (result,) = make_renditions(source, report, [plan], tmp_path, run=run, on_growth=look).results
    assert len(seen[0].fragments) < len(result.index.fragments)
    for one in seen:
        # The last one's length may still be corrected when the next arrives; bytes never move.
        assert one.fragments[:-1] == result.index.fragments[: len(one.fragments) - 1]
    numbers = footage.frame_numbers(early)
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 50


def test_a_cancelled_rendition_leaves_no_file(tmp_path: Path) -> None:
    source = tmp_path / "long.avi"
    footage.make_plain(source, seconds=20, fps=25, codec="mjpeg", width_px=640, height_px=360, audio=False)
    report = footage.probe(source, tmp_path)
    (plan,) = plan_renditions(report)
    stop = threading.Event()
    threading.Timer(0.4, stop.set).start()
    started = time.monotonic()
    run = RunOptions(scratch=tmp_path, limits=footage.LIMITS)
    with pytest.raises(Conflict) as caught:
        make_renditions(source, report, [plan], tmp_path, run=run, cancelled=stop.is_set)
    assert caught.value.code == "cancelled"
    assert time.monotonic() - started < 5
    assert not list(tmp_path.glob("rendition-*"))


def test_a_copy_that_differs_leaves_no_file(tmp_path: Path) -> None:
    """A report that promises other frames than the copy holds: nobody may see that copy."""
    source = tmp_path / "source.mp4"
    footage.make_plain(source)
    other = tmp_path / "other.mp4"
    footage.make_plain(other, seconds=1)
    report = footage.probe(source, tmp_path)
    with pytest.raises(MediaError) as caught:
        footage.render(other, report, tmp_path)
    assert caught.value.code == "rendition_differs"
    assert caught.value.rung == "copy"
    assert not list(tmp_path.glob("rendition-*"))


def test_an_output_past_its_limit_is_stopped(tmp_path: Path) -> None:
    source = tmp_path / "a.avi"
    footage.make_plain(source, codec="mjpeg", audio=False)
    report = footage.probe(source, tmp_path)
    (plan,) = plan_renditions(report)
    run = RunOptions(scratch=tmp_path, limits=Limits(cpu_s=60, wall_s=60, file_size_bytes=10_000))
    with pytest.raises(MediaError) as caught:
        make_renditions(source, report, [plan], tmp_path, run=run)
    assert caught.value.code in {"output_too_large", "ffmpeg_failed"}
    assert not list(tmp_path.glob("rendition-*"))


def test_ffmpeg_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a film")
    with pytest.raises(MediaError) as caught:
        run_ffmpeg(["-i", str(tmp_path / "text.mp4"), "-f", "null", "-"], scratch=tmp_path)
    assert caught.value.code == "ffmpeg_failed"
    assert "text.mp4" in str(caught.value.stderr_tail)


def test_a_missing_binary_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        run_ffmpeg(["-version"], scratch=tmp_path, binary="/nonexistent/ffmpeg")
    assert caught.value.code == "ffmpeg_missing"


def test_a_playlist_inside_an_allowed_container_reaches_nothing(tmp_path: Path) -> None:
    """The command line refuses what the first bytes already gave away."""
    secret = tmp_path / "secret.mp4"
    footage.make_plain(secret, seconds=1)
    trap = tmp_path / "trap.mp4"
    footage.write_playlist(trap, secret)
    good = footage.probe(secret, tmp_path)
    (plan,) = plan_renditions(good)
    run = RunOptions(scratch=tmp_path, limits=footage.LIMITS)
    with pytest.raises(MediaError) as caught:
        make_renditions(trap, good, [plan], tmp_path, run=run)
    assert caught.value.code == "ffmpeg_failed"


@pytest.mark.parametrize(
    ("name", "fps", "count"), [("a.avi", 1, 3), ("a.avi", 240, 60), ("a.mp4", 25, 1), ("a.avi", 25, 1)]
)
def test_slow_fast_and_single_pictures_are_all_shown(tmp_path: Path, name: str, fps: int, count: int) -> None:
    codec = "h264" if name.endswith("mp4") else "mjpeg"
    footage.make_plain(tmp_path / name, seconds=count / fps, fps=fps, codec=codec, audio=False)
    (result,) = render(tmp_path / name, tmp_path)
    assert result.findings == ()
    assert footage.frame_numbers(result.path) == list(range(count))
    assert shown_at(result.path) == [Fraction(number, fps) for number in range(count)]
    assert result.index.duration == Fraction(count, fps)
    media_playlist([Part(result.index, "a.mp4")])


def test_a_coding_that_changes_midway_is_told(tmp_path: Path) -> None:
    """FFmpeg reads a stream of a transport stream by one codec: what is of another is not shown."""
    footage.make_plain(tmp_path / "a.ts", seconds=1)
    footage.make_plain(tmp_path / "b.mp4", seconds=1, first_frame=25)
    footage.ffmpeg(
        "-i", tmp_path / "b.mp4", "-c:v", "mpeg2video", "-q:v", "3", "-c:a", "aac", tmp_path / "b.ts"
    )
    (tmp_path / "glued.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    report = footage.probe(tmp_path / "glued.ts", tmp_path)
    assert report.has_flag("corrupt")
    (result,) = footage.render(tmp_path / "glued.ts", report, tmp_path)
    assert any(finding.startswith("duration_s") for finding in result.findings)


def test_two_glued_recordings_keep_all_their_frames(tmp_path: Path) -> None:
    first = footage.make_plain(tmp_path / "a.ts")
    second = footage.make_plain(tmp_path / "b.ts", first_frame=50)
    glued = tmp_path / "glued.ts"
    with glued.open("wb") as target:
        for part in ("a.ts", "b.ts"):
            with (tmp_path / part).open("rb") as source:
                shutil.copyfileobj(source, target)
    report = footage.probe(glued, tmp_path)
    assert report.has_flag("timestamps_jump")
    (result,) = render(glued, tmp_path)
    assert footage.frame_numbers(result.path) == first.frame_numbers + second.frame_numbers
