"""One picture to take away: exactly the one asked for, in the colours and the way up a player shows it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evidence.errors import InvalidInput
from media.fmp4 import FragmentIndex, index_fragments
from media.footage import read_frame_number
from media.still import exact_picture_entry
from tests.support import media as footage
from transcode.excerpt import write_excerpt
from transcode.mark import MarkLine, mark_image
from transcode.picture import ShownPicture, picture_at, picture_of_number, shows_any, take_picture
from transcode.segment import RunOptions

MARK = [MarkLine("京市监罚〔2026〕12号", "JSJF-2026-12")]
FPS = 25


def indexed(source: Path, *options: str) -> tuple[Path, FragmentIndex]:
    """The file in fragments, as renditions are."""
    made = source.with_name("fragments.mp4")
    flags = "frag_keyframe+empty_moov+default_base_moof"
    footage.ffmpeg("-i", source, "-c", "copy", *options, "-movflags", flags, made)
    index = index_fragments(made)
    assert index is not None
    return made, index


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FragmentIndex]:
    """Pictures left out at random, so that numbers and times are not each other's multiples; B-frames."""
    source = tmp_path_factory.mktemp("pictures") / "source.mp4"
    footage.make_plain(source, seconds=5, b_frames=True, variable_rate=True, audio=False)
    return indexed(source)


def drawn(path: Path, pts: int, folder: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """What the child draws, drawn here."""
    made = exact_picture_entry(
        {"path": str(path), "destination": str(folder / "rgb"), "pts": pts}, lambda _: None
    )
    pixels = np.frombuffer((folder / "rgb").read_bytes(), np.uint8)
    return pixels.reshape(int(str(made["height_px"])), int(str(made["width_px"])), 3)


def test_a_moment_and_a_number_name_the_picture_that_is_shown(
    film: tuple[Path, FragmentIndex], tmp_path: Path
) -> None:
    path, index = film
    numbers, times = footage.frame_numbers(path), footage.shown_at(path)
    assert len(numbers) < 5 * FPS
    for place in range(len(numbers)):
        begins_us = times[place] * 1_000_000
        shown = picture_of_number(path, index, place)
        assert shown.span_us[0] <= begins_us < shown.span_us[1]
        for at_us in (-(-begins_us // 1), begins_us + 30_000):
            assert picture_at(path, index, int(at_us)) == shown
    for place in (0, 1, len(numbers) // 2, len(numbers) - 1):
        shown = picture_of_number(path, index, place)
        pixels = drawn(path, shown.pts + index.origin_pts, tmp_path)
        assert read_frame_number(np.asarray(Image.fromarray(pixels).convert("L"))) == numbers[place]


def test_a_sliver_between_two_pictures_shows_none(film: tuple[Path, FragmentIndex]) -> None:
    path, index = film
    begins_us = [int(at * 1_000_000) for at in footage.shown_at(path)]
    for place in (0, len(begins_us) // 2, len(begins_us) - 1):
        at_us = begins_us[place]
        assert shows_any(path, index, (max(0, at_us - 1000), at_us + 1000))
        assert not shows_any(path, index, (at_us + 1000, at_us + 30_000))


def test_the_last_picture_stands_while_sound_goes_on(film: tuple[Path, FragmentIndex]) -> None:
    path, index = film
    last = index.fragments[-1]
    # As an encoder leaves it where the sound of a fragment comes later than its one picture.
    sound_alone = last._replace(start_pts=last.start_pts + 1, duration_pts=0, frame_count=0)
    more = replace(index, fragments=(*index.fragments, sound_alone))
    at_us = int(index.duration * 1_000_000) - 1
    assert picture_at(path, more, at_us) == picture_of_number(path, index, index.frame_count - 1)


def test_what_is_not_shown_is_refused(film: tuple[Path, FragmentIndex]) -> None:
    path, index = film
    end = int(index.duration * 1_000_000) + 1
    for look, wrong in ((picture_at, -1), (picture_at, end), (picture_of_number, index.frame_count)):
        with pytest.raises(InvalidInput) as caught:
            look(path, index, wrong)
        assert caught.value.code == "picture_outside"


def test_what_is_taken_is_the_picture_with_mark_and_clock_and_nothing_else(
    film: tuple[Path, FragmentIndex], tmp_path: Path
) -> None:
    path, index = film
    shown = picture_of_number(path, index, 40)
    run = RunOptions(scratch=tmp_path, limits=footage.LIMITS)
    made = [
        take_picture(
            path, index, shown, tmp_path / f"{n}.png", mark=MARK, clock_us=1_772_582_398_300_000, run=run
        )
        for n in range(2)
    ]
    assert made[0].path.read_bytes() == made[1].path.read_bytes()
    assert made[0].params == made[1].params
    assert sorted(each.name for each in tmp_path.iterdir()) == ["0.png", "1.png"]
    plain = drawn(path, shown.pts + index.origin_pts, tmp_path)
    with Image.open(made[0].path) as taken:
        assert (taken.format, taken.mode, taken.info) == ("PNG", "RGB", {})
        difference = np.abs(np.asarray(taken).astype(int) - plain).max(axis=2)
    height = difference.shape[0]
    assert difference[: height // 8].max() > 100
    assert difference[-height // 6 :].max() > 100
    assert difference[height // 6 : height // 2].max() == 0


def test_another_second_is_another_clock_and_the_same_mark() -> None:
    one, two = (
        np.asarray(mark_image(MARK, width_px=320, height_px=180, font=None, clock=clock)).astype(int)
        for clock in ("2026-03-03 23:59:59", "2026-03-04 00:00:00")
    )
    assert np.abs(one - two)[:20].max() > 100
    assert np.abs(one - two)[20:].max() == 0


@pytest.mark.parametrize(
    ("said", "height", "full"),
    [("bt709", 180, False), ("smpte170m", 180, True), (None, 180, False), (None, 720, False)],
)
def test_colours_are_those_the_stream_declares(
    tmp_path: Path, said: str | None, height: int, *, full: bool
) -> None:
    source, colour = tmp_path / "source.mp4", (200, 60, 40)
    matrix = said or ("smpte170m" if height < 720 else "bt709")
    picture = f"color=0x{bytes(colour).hex()}:s=320x{height}:r=5:d=0.2"
    # The pixels are made by one matrix; whether the stream says so is another matter.
    extent = "full" if full else "limited"
    made_with = f"format=gbrp,scale=out_color_matrix={matrix}:out_range={extent},format=yuv420p"
    tags = ["-colorspace", said, "-color_range", "pc" if full else "tv"] if said else []
    strip = [] if said else ["-bsf:v", "h264_metadata=matrix_coefficients=2"]
    given = ["-f", "lavfi", "-i", f"{picture},{made_with}"]
    footage.ffmpeg(*given, "-c:v", "libx264", "-qp", "4", *tags, *strip, source)
    found = drawn(source, 0, tmp_path)[height // 2, 160]
    assert np.abs(found.astype(int) - colour).max() <= 4


def test_a_picture_stands_upright_with_square_pixels(tmp_path: Path) -> None:
    plain, source = tmp_path / "plain.mp4", tmp_path / "turned.mp4"
    # Red above, blue below, as it is stored; 2:1 pixels.
    picture = "color=red:s=160x90:r=5:d=0.2[a];color=blue:s=160x90:r=5:d=0.2[b];[a][b]vstack,setsar=2"
    footage.ffmpeg("-f", "lavfi", "-i", picture, "-c:v", "libx264", "-pix_fmt", "yuv420p", plain)
    footage.ffmpeg("-display_rotation", "90", "-i", plain, "-c", "copy", source)
    pixels = drawn(source, 0, tmp_path).astype(int)
    assert pixels.shape == (320, 180, 3)
    left, right = pixels[160, 40], pixels[160, 140]
    assert left[0] > 150 > left[2]
    assert right[2] > 150 > right[0]


def test_pictures_that_lead_a_keyframe_are_whole(tmp_path: Path) -> None:
    """In an open group they are predicted from the group before, which has to be decoded too."""
    coarse, source = tmp_path / "coarse.mp4", tmp_path / "open.mp4"
    footage.make_plain(coarse, seconds=2, audio=False)
    options = "open-gop=1:bframes=3:b-adapt=0:keyint=20:min-keyint=20:scenecut=0"
    footage.ffmpeg("-i", coarse, "-c:v", "libx264", "-preset", "veryfast", "-x264-params", options, source)
    path, index = indexed(source)
    leading = next(part for part in index.fragments if part.keyframe_pts)
    shown = picture_at(path, index, leading.start_pts * 1_000_000 // index.timescale + 1)
    assert shown == ShownPicture(shown.number, leading.start_pts, index.timescale)
    begin = Fraction(shown.pts, index.timescale)
    write_excerpt(path, index, begin, begin + Fraction(1, index.timescale), tmp_path / "excerpt.mp4")
    pixels = drawn(tmp_path / "excerpt.mp4", shown.pts + index.origin_pts, tmp_path)
    assert read_frame_number(np.asarray(Image.fromarray(pixels).convert("L"))) == shown.number
