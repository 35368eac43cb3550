"""Tiles are few and evenly spread, their track is exact, and peaks of any length fit into memory."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from media.contact import tile_corner
from media.fmp4 import Fragment, FragmentIndex, Track
from media.waveform import Peaks
from transcode.names import SUFFIXES, address_name
from transcode.wayfinding import choose_tiles, fitted, step_of, thumbnails_track

HOUR_S = 3600


def index_of(seconds: int, every_s: int = 2) -> FragmentIndex:
    """A rendition with a keyframe every so often, in milliseconds."""
    track = Track(1, "video", 1000, "avc1.64001F", 1280, 720)
    parts = [
        Fragment(1000 + at, 1, at * 1000, every_s * 1000, 25 * every_s, True)
        for at in range(0, seconds, every_s)
    ]
    return FragmentIndex(1000, (track,), 0, tuple(parts))


@pytest.mark.parametrize(("seconds", "step_s"), [(60, 2), (20 * 60, 5), (HOUR_S, 15), (8 * HOUR_S, 120)])
def test_a_long_recording_has_no_more_tiles_than_a_person_can_look_at(seconds: int, step_s: int) -> None:
    assert step_of(Fraction(seconds), 300) == step_s
    tiles = choose_tiles(index_of(seconds), step_s)
    assert seconds / step_s / 2 <= len(tiles) <= 300
    assert all(b.start_pts - a.start_pts >= step_s * 1000 for a, b in pairwise(tiles))


def test_a_year_of_recording_is_still_few_tiles() -> None:
    assert step_of(Fraction(366 * 24 * HOUR_S), 300) * 300 >= 366 * 24 * HOUR_S


def test_only_fragments_with_a_keyframe_and_a_picture_are_tiles() -> None:
    index = index_of(12)
    parts = [
        part._replace(starts_with_keyframe=number != 1, frame_count=0 if number == 3 else part.frame_count)
        for number, part in enumerate(index.fragments)
    ]
    chosen = choose_tiles(FragmentIndex(1000, index.tracks, 0, tuple(parts)), 2)
    assert [part.start_pts for part in chosen] == [0, 4000, 8000, 10_000]


def test_each_cue_lasts_until_the_next_picture_and_names_its_place() -> None:
    index = index_of(7)
    text = thumbnails_track(index, choose_tiles(index, 2), (160, 90), ["sheet-00.jpg"])
    assert text.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:02.000\nsheet-00.jpg#xywh=0,0,160,90\n\n")
    assert text.endswith("00:00:06.000 --> 00:00:08.000\nsheet-00.jpg#xywh=480,0,160,90\n")


def test_the_hundred_and_first_tile_is_the_first_of_the_second_sheet() -> None:
    index = index_of(202)
    text = thumbnails_track(index, choose_tiles(index, 2), (160, 90), ["a.jpg", "b.jpg"])
    assert "00:03:18.000 --> 00:03:20.000\na.jpg#xywh=1440,810,160,90\n" in text
    assert "00:03:20.000 --> 00:03:22.000\nb.jpg#xywh=0,0,160,90\n" in text
    assert tile_corner(99, (160, 90)) == (1440, 810)


def test_a_tile_keeps_the_shape_of_its_picture() -> None:
    assert fitted(1920, 1080, 160) == (160, 90)
    assert fitted(720, 1280, 160) == (90, 160)
    assert fitted(100, 50, 160) == (100, 50)


def test_a_name_carries_the_digest_and_every_masked_kind_has_one() -> None:
    assert address_name("redacted_sheet", bytes(range(32))) == "redacted_sheet-0001020304050607.jpg"
    unmasked = [kind for kind in SUFFIXES if not kind.startswith("redacted")]
    assert all(f"redacted_{kind}" in SUFFIXES for kind in unmasked)


def test_peaks_of_a_day_have_as_many_pixels_as_those_of_a_minute() -> None:
    assert Peaks(48_000, Fraction(24 * HOUR_S), 1000).length <= 1000
    assert Peaks(48_000, Fraction(24 * HOUR_S), 1000).samples_per_pixel == 4_147_200
    short = Peaks(48_000, Fraction(60), 100_000)
    assert (short.samples_per_pixel, short.length) == (960, 3000)


def test_peaks_stand_where_they_were_heard_and_a_gap_is_silence() -> None:
    peaks = Peaks(1000, Fraction(1), 100)
    # 20 samples a pixel; the first block begins 10 samples before media time 0.
    peaks.add(-10, np.full((2, 30), 0.5, np.float32))
    peaks.add(90, np.array([[0.25] * 20, [-1.0] * 20], np.float32))
    peaks.add(990, np.full((1, 500), 2.0, np.float32))
    low, high = peaks.levels()
    assert (peaks.samples_per_pixel, peaks.length) == (20, 50)
    assert (low[0], high[0], low[1], high[1]) == (64, 64, 0, 0)
    assert (low[4], high[4], low[5], high[5]) == (-128, 32, -128, 32)
    assert (low[49], high[49]) == (127, 127)
