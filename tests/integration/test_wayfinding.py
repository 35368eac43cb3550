"""Tiles show the frame that their cue names, and a waveform what its rendition sounds like."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from config.settings import WayfindingSettings
from media.footage import read_frame_number
from tests.support import media as footage
from transcode.segment import RenditionResult
from transcode.wayfinding import (
    ChildOptions,
    ContactSheets,
    Waveform,
    make_sheets,
    make_waveform,
    thumbnails_track,
)


def rendition_of(source: Path) -> RenditionResult:
    return footage.render(source, footage.probe(source, source.parent), source.parent)[-1]


SETTINGS = WayfindingSettings(tile_side_px=320, most_tiles=10)


def sheets_of(rendition: RenditionResult, folder: Path) -> ContactSheets:
    folder.mkdir(exist_ok=True)
    run = ChildOptions(folder, footage.LIMITS)
    return make_sheets(rendition.path, rendition.index, settings=SETTINGS, run=run)


def waveform_of(rendition: RenditionResult, folder: Path) -> Waveform:
    folder.mkdir(exist_ok=True)
    run = ChildOptions(folder, footage.LIMITS)
    return make_waveform(rendition.path, rendition.index, settings=SETTINGS, run=run)


@pytest.fixture(scope="module")
def rendition(tmp_path_factory: pytest.TempPathFactory) -> RenditionResult:
    """Fifteen seconds with reordered pictures and a tone that ends after five."""
    folder = tmp_path_factory.mktemp("wayfinding")
    footage.make_plain(folder / "picture.mp4", seconds=15, fps=10, b_frames=True, audio=False)
    footage.ffmpeg(
        "-i", folder / "picture.mp4", "-f", "lavfi", "-i", "sine=440:d=15",
        "-af", "volume=enable='gt(t,5)':volume=0",
        "-c:v", "copy", "-c:a", "aac", folder / "source.mp4",
    )  # fmt: skip
    return rendition_of(folder / "source.mp4")


@pytest.fixture(scope="module")
def sheets(rendition: RenditionResult, tmp_path_factory: pytest.TempPathFactory) -> ContactSheets:
    return sheets_of(rendition, tmp_path_factory.mktemp("sheets"))


@pytest.fixture(scope="module")
def waveform(rendition: RenditionResult, tmp_path_factory: pytest.TempPathFactory) -> Waveform:
    return waveform_of(rendition, tmp_path_factory.mktemp("waveform"))


def test_each_tile_shows_the_frame_its_cue_begins_with(
    rendition: RenditionResult, sheets: ContactSheets
) -> None:
    (sheet,) = sheets.paths
    pixels = np.asarray(Image.open(sheet).convert("L"))
    text = thumbnails_track(rendition.index, sheets.tiles, sheets.tile_px, ["sheet.jpg"])
    cues = re.findall(r"00:00:(\d+\.\d+) --> 00:00:(\d+\.\d+)\nsheet.jpg#xywh=(\d+),(\d+),(\d+),(\d+)", text)
    assert (sheets.step_s, len(cues), sheets.undecodable_count) == (2, 8, 0)
    for begin, _, *box in cues:
        x, y, width, height = map(int, box)
        assert read_frame_number(pixels[y : y + height, x : x + width]) == round(float(begin) * 10)
    assert all(one[1] == two[0] for one, two in pairwise(cues))
    assert float(cues[-1][1]) == pytest.approx(15)


def test_the_waveform_is_in_the_second_format_of_audiowaveform(waveform: Waveform) -> None:
    told = json.loads(waveform.data.read_text())
    shape = {name: told[name] for name in ("version", "channels", "bits", "sample_rate", "samples_per_pixel")}
    assert shape == {"version": 2, "channels": 1, "bits": 8, "sample_rate": 44_100, "samples_per_pixel": 882}
    assert len(told["data"]) == 2 * told["length"] == 2 * 750
    lows, highs = np.array(told["data"][::2]), np.array(told["data"][1::2])
    loud = 5 * 50
    # FFmpeg's tone has an eighth of full scale.
    assert set(highs[5 : loud - 5]) <= {14, 15, 16, 17}
    assert set(lows[5 : loud - 5]) <= {-18, -17, -16, -15}
    assert (lows[loud + 5 :].any(), highs[loud + 5 :].any()) == (False, False)


def test_the_picture_of_the_waveform_shows_where_there_was_sound(waveform: Waveform) -> None:
    ink = np.asarray(Image.open(waveform.image)) < 128
    assert ink.shape == (128, 1800)
    heights = ink.sum(axis=0)
    assert heights[100:500].min() > 10
    assert heights[700:].max() == 1


def test_made_again_it_is_the_same_to_the_bit(
    rendition: RenditionResult, sheets: ContactSheets, waveform: Waveform, tmp_path: Path
) -> None:
    again, once_more = sheets_of(rendition, tmp_path), waveform_of(rendition, tmp_path)
    before = [*sheets.paths, waveform.data, waveform.image]
    after = [*again.paths, once_more.data, once_more.image]
    assert [path.read_bytes() for path in after] == [path.read_bytes() for path in before]


def test_a_damaged_place_is_a_grey_tile_and_costs_no_other(
    rendition: RenditionResult, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    content = bytearray(rendition.path.read_bytes())
    part = rendition.index.fragments[1]
    content[part.offset_bytes + 4 : part.offset_bytes + 8] = b"free"
    broken.write_bytes(content)
    run = ChildOptions(tmp_path, footage.LIMITS)
    found = make_sheets(broken, rendition.index, settings=WayfindingSettings(), run=run)
    assert found.undecodable_count == 1
    tiles = np.asarray(Image.open(found.paths[0]).convert("L"))
    assert abs(float(tiles[:90, 160:320].mean()) - 128) < 2
    assert tiles[:90, 160:320].std() < 2 < tiles[:90, 320:480].std()


def test_sound_without_a_picture_has_a_waveform(tmp_path: Path) -> None:
    footage.write_wav(tmp_path / "note.wav", seconds=1)
    found = waveform_of(rendition_of(tmp_path / "note.wav"), tmp_path / "sound")
    assert Fraction(found.shape["length"], 50) == pytest.approx(1, abs=0.1)
