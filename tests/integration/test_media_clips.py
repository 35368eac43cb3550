"""Clips are cut to the frame, marked, bare, and the same each time; stills show only what they stand for."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from evidence.errors import InvalidInput, MediaError
from media.fonts import find_font
from media.growing import GrowingRendition
from tests.support import media as footage
from transcode.clip import ClipResult, cut_clip
from transcode.mark import MarkLine, clock_options, draw_mark
from transcode.plan import MOVFLAGS
from transcode.segment import RenditionResult, RunOptions
from transcode.stills import make_photo_derivative, make_poster

MARK = (
    MarkLine("Reviewer-07  2026-03-02 09:15:00Z  case_file_review", "Reviewer-07"),
    MarkLine("京市监罚〔2026〕12号", "JSJF-2026-12"),
)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "reordered"])
def rendition(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RenditionResult:
    folder = tmp_path_factory.mktemp("rendition")
    source = folder / "source.mp4"
    footage.make_plain(source, seconds=8, b_frames=request.param)
    report = footage.probe(source, folder)
    (result,) = footage.render(source, report, folder)
    return result


def cut(
    rendition: RenditionResult, folder: Path, from_us: int, to_us: int, name: str = "clip.mp4"
) -> ClipResult:
    run = RunOptions(scratch=folder, limits=footage.LIMITS)
    return cut_clip(rendition.path, rendition.index, from_us, to_us, folder / name, mark=MARK, run=run)


@pytest.mark.parametrize(
    ("from_us", "to_us", "first", "last"),
    [
        (0, 1_000_000, 0, 24),
        (1_000_000, 3_500_000, 25, 87),
        (2_990_000, 3_030_000, 75, 75),
        (3_010_000, 5_000_000, 76, 124),
        (7_000_000, 99_000_000, 175, 199),
    ],
)
def test_a_clip_holds_exactly_the_frames_of_its_span(
    rendition: RenditionResult, tmp_path: Path, from_us: int, to_us: int, first: int, last: int
) -> None:
    result = cut(rendition, tmp_path, from_us, to_us)
    assert result.frame_count == last - first + 1
    with av.open(str(result.path)) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
        assert len(frames) == result.frame_count
    with av.open(str(rendition.path)) as container:
        wanted = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)][first : last + 1]
    for got, want in zip(frames, wanted, strict=True):
        # The upper half carries no mark; an encoding away, it is the same picture.
        half = got.shape[0] // 2
        assert np.abs(got[:half].astype(int) - want[:half].astype(int)).mean() < 4


def test_of_sound_alone_no_mark_is_claimed(tmp_path: Path) -> None:
    source = tmp_path / "sound.mp4"
    footage.ffmpeg("-f", "lavfi", "-i", "sine=d=2", "-c:a", "aac", "-movflags", MOVFLAGS, source)
    index = GrowingRendition(source).finish()
    run = RunOptions(scratch=tmp_path, limits=footage.LIMITS)
    made = cut_clip(source, index, 0, 1_000_000, tmp_path / "clip.mp4", mark=MARK, run=run)
    assert (made.params["mark"], made.params["font_sha256"]) == ([], None)


def test_the_sound_is_cut_with_the_picture(rendition: RenditionResult, tmp_path: Path) -> None:
    result = cut(rendition, tmp_path, 1_500_000, 4_000_000)
    with av.open(str(result.path)) as container:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert abs(len(samples) - 2.5 * 48_000) <= 2048
    # Each second starts with a beep of 60 ms: here after half a second.
    levels = [float(np.abs(samples[at : at + 480]).mean()) for at in range(0, 96_000, 480)]
    spectrum = [float(np.abs(np.fft.rfft(samples[at : at + 4800]))[100]) for at in range(0, 96_000, 2400)]
    assert max(levels) > 0
    assert int(np.argmax(spectrum)) in {9, 10, 29, 30}


def test_the_mark_is_in_every_picture(rendition: RenditionResult, tmp_path: Path) -> None:
    marked = cut(rendition, tmp_path, 0, 1_000_000)
    run = RunOptions(scratch=tmp_path, limits=footage.LIMITS)
    bare = cut_clip(rendition.path, rendition.index, 0, 1_000_000, tmp_path / "bare.mp4", run=run)
    with av.open(str(marked.path)) as one, av.open(str(bare.path)) as two:
        for got, want in zip(one.decode(video=0), two.decode(video=0), strict=True):
            difference = np.abs(got.to_ndarray(format="gray").astype(int) - want.to_ndarray(format="gray"))
            assert difference[90:].max() > 60


def test_the_time_of_day_is_right_in_every_picture(tmp_path: Path) -> None:
    """The second turns at the picture it turns at, and reads as the same text drawn without a clock."""
    source = tmp_path / "grey.mp4"
    picture = "color=gray:s=320x180:r=5:d=3"
    footage.ffmpeg("-f", "lavfi", "-i", picture, "-c:v", "libx264", "-g", "5", "-pix_fmt", "yuv420p", source)
    (made,) = footage.render(source, footage.probe(source, tmp_path), tmp_path)
    run = RunOptions(scratch=tmp_path, limits=footage.LIMITS)
    # 23:59:58.3 at media time 0; the clip begins at 1 s, and midnight comes 0.7 s later.
    clock_us = 1_772_582_398_300_000
    clips = [
        cut_clip(
            made.path, made.index, 1_000_000, 3_000_000, tmp_path / f"{n}.mp4", clock_us=clock_us, run=run
        )
        for n in range(2)
    ]
    assert clips[0].path.read_bytes() == clips[1].path.read_bytes()
    assert clips[0].params["clock_us"] == clock_us
    with av.open(str(clips[0].path)) as container:
        shown = [frame.to_ndarray(format="gray").astype(int) for frame in container.decode(video=0)]
    font = find_font(None)
    assert font is not None
    wanted = []
    for text in ("2026-03-03 23.59.59", "2026-03-04 00.00.00", "2026-03-04 00.00.01"):
        still = tmp_path / "still.png"
        options = clock_options(0, font, 180) | {"text": text.replace(".", "\\:")}
        drawn = ":".join(f"{name}='{value}'" for name, value in options.items())
        footage.ffmpeg("-f", "lavfi", "-i", f"{picture},drawtext={drawn}", "-frames:v", "1", still)
        with Image.open(still) as opened:
            wanted.append(np.asarray(opened.convert("L")).astype(int))
    read = [int(np.argmin([np.abs(frame - each).mean() for each in wanted])) for frame in shown]
    assert read == [0, 0, 0, 0, 1, 1, 1, 1, 1, 2]


def test_the_same_request_gives_the_same_bytes(rendition: RenditionResult, tmp_path: Path) -> None:
    one = cut(rendition, tmp_path, 500_000, 2_500_000, "one.mp4")
    two = cut(rendition, tmp_path, 500_000, 2_500_000, "two.mp4")
    assert one.path.read_bytes() == two.path.read_bytes()
    assert one.params == two.params


def test_a_clip_carries_no_name_of_its_maker_and_starts_with_its_index(
    rendition: RenditionResult, tmp_path: Path
) -> None:
    data = cut(rendition, tmp_path, 0, 1_000_000).path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert b"Lavf" not in data
    assert b"Reviewer-07" not in data


def test_a_span_outside_the_recording_is_refused(rendition: RenditionResult, tmp_path: Path) -> None:
    nothing = [
        (9_000_000, 10_000_000),
        (3_000_000, 3_000_000),
        (5_000_000, 1_000_000),
        (3_000_001, 3_000_003),
    ]
    for span in nothing:
        with pytest.raises(InvalidInput) as caught:
            cut(rendition, tmp_path, *span)
        assert caught.value.code == "span_empty"
    assert list(tmp_path.iterdir()) == []


def test_without_a_font_the_latin_fallback_is_drawn(tmp_path: Path) -> None:
    lines = [MarkLine("张三", "A-17")]
    draw_mark(lines, tmp_path / "a.png", width_px=320, height_px=180, font=None)
    draw_mark([MarkLine("A-17", "A-17")], tmp_path / "b.png", width_px=320, height_px=180, font=None)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert find_font(tmp_path / "missing.ttf") != tmp_path / "missing.ttf"


def test_a_long_mark_is_wrapped_and_stays_inside(tmp_path: Path) -> None:
    draw_mark([MarkLine("x" * 300, "x")], tmp_path / "a.png", width_px=320, height_px=180, font=None)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (320, 180)
        assert picture.getbbox() is not None


def test_a_poster_shows_the_rendition(rendition: RenditionResult, tmp_path: Path) -> None:
    still = make_poster(
        rendition.path, rendition.index, tmp_path / "poster.jpg", scratch=tmp_path, limits=footage.LIMITS
    )
    with Image.open(still.path) as picture:
        assert picture.format == "JPEG"
        assert picture.size == (320, 180) == (still.width_px, still.height_px)
        assert not picture.getexif()
    assert [path.name for path in tmp_path.iterdir()] == ["poster.jpg"]


def test_a_poster_passes_over_black(tmp_path: Path) -> None:
    source = tmp_path / "dark.mp4"
    picture = "color=black:s=320x180:r=5:d=8[a];testsrc=s=320x180:r=5:d=8[b];[a][b]concat"
    footage.ffmpeg("-f", "lavfi", "-i", picture, "-c:v", "libx264", "-g", "10", "-pix_fmt", "yuv420p", source)
    report = footage.probe(source, tmp_path)
    (result,) = footage.render(source, report, tmp_path)
    still = make_poster(
        result.path, result.index, tmp_path / "poster.jpg", scratch=tmp_path, limits=footage.LIMITS
    )
    assert still.at_us >= 8_000_000
    with Image.open(still.path) as shown:
        assert np.asarray(shown).mean() > 30


def test_a_photo_derivative_is_upright_and_bare(tmp_path: Path) -> None:
    footage.write_photo(tmp_path / "photo.jpg", width_px=4000, height_px=3000)
    still = make_photo_derivative(
        tmp_path / "photo.jpg", tmp_path / "bare.jpg", scratch=tmp_path, limits=footage.LIMITS
    )
    assert (still.width_px, still.height_px) == (1920, 2560)
    data = still.path.read_bytes()
    for secret in (b"Exif", b"Huawei", b"secret remark", b"2026:03:01"):
        assert secret not in data


def test_a_photo_bomb_is_refused(tmp_path: Path) -> None:
    footage.write_png_bomb(tmp_path / "bomb.png")
    with pytest.raises(MediaError) as caught:
        make_photo_derivative(
            tmp_path / "bomb.png", tmp_path / "bare.jpg", scratch=tmp_path, limits=footage.LIMITS
        )
    assert caught.value.code == "huge_dimensions"
    assert not (tmp_path / "bare.jpg").exists()
