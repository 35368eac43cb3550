"""What browsers play is copied, everything else is encoded, the small rung first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from config.settings import EncodingSettings, RungSettings
from media.report import ProbeReport
from tests.unit.transcode.reports import report
from transcode.ladder import fitted, ladder


def names(found: ProbeReport, **options: Any) -> list[str]:
    return [rung.name for rung in ladder(found, **options)]


def test_what_browsers_play_is_copied_once() -> None:
    (rung,) = ladder(report({}, {}))
    assert (rung.name, rung.copies_video, rung.copies_audio) == ("copy", True, True)
    assert names(report({})) == ["copy"]


@pytest.mark.parametrize(
    "foreign",
    [
        {"codec": "hevc"},
        {"profile": "High 10", "pix_fmt": "yuv420p10le"},
        {"profile": "High 4:4:4 Predictive", "pix_fmt": "yuv444p"},
        {"is_interlaced": True},
        {"rotation_deg": 90},
        {"starts_with_keyframe": False},
        {"missing_pts_count": 3},
        {"hidden_count": 38},
        {"jump_count": 1},
        {"decode_errors": 2},
        {"width_px": 1919},
        {"is_reordered": True, "packet_count": 3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_foreign_or_damaged_picture_is_encoded_small_first(foreign: dict[str, Any]) -> None:
    assert names(report(foreign, {})) == ["360p", "720p", "1080p"]


def test_reordered_pictures_are_copied_where_no_decoder_holds_all_of_them() -> None:
    assert names(report({"is_reordered": True, "packet_count": 17}, {})) == ["copy"]
    assert names(report({"is_reordered": False, "packet_count": 3}, {})) == ["copy"]
    of_header = {"is_reordered": True, "packet_count": None, "declared_frame_count": 3}
    assert names(report(of_header, {})) == ["360p", "720p", "1080p"]


def test_foreign_sound_leaves_the_picture_alone() -> None:
    (rung,) = ladder(report({}, {"codec": "pcm_alaw", "profile": None}))
    assert (rung.copies_video, rung.copies_audio) == (True, False)


def test_trimmed_sound_is_encoded_and_priming_is_no_trim() -> None:
    assert ladder(report({}, {"hidden_count": 60}))[0].copies_audio is False
    assert ladder(report({}, {"hidden_count": 2}))[0].copies_audio is True


def test_sound_alone_has_one_rung() -> None:
    assert names(report(None, {})) == ["audio"]


def test_nothing_that_decodes_has_no_rung() -> None:
    assert names(report({"can_decode": False})) == []


def test_a_cover_is_not_the_recording() -> None:
    assert names(report({"is_cover": True}, {})) == ["audio"]


def test_a_copy_that_failed_is_not_tried_again() -> None:
    rungs = ladder(report({}, {}), may_copy=False)
    assert [(rung.name, rung.copies_video, rung.copies_audio) for rung in rungs] == [
        ("360p", False, False),
        ("720p", False, False),
        ("1080p", False, False),
    ]


def test_a_small_source_has_one_rung() -> None:
    assert names(report({"codec": "mpeg4", "width_px": 640, "height_px": 360})) == ["360p"]


@pytest.mark.parametrize(
    ("size", "rungs"),
    [
        ((1024, 576), [("360p", 640, 360), ("720p", 1024, 576)]),
        ((1280, 720), [("360p", 640, 360), ("720p", 1280, 720)]),
        ((1920, 1080), [("360p", 640, 360), ("720p", 1280, 720), ("1080p", 1920, 1080)]),
        ((3840, 2160), [("360p", 640, 360), ("720p", 1280, 720), ("1080p", 1920, 1080)]),
        ((176, 144), [("360p", 176, 144)]),
    ],
)
def test_nothing_is_enlarged_and_the_first_rung_not_exceeded_ends_the_ladder(
    size: tuple[int, int], rungs: list[tuple[str, int, int]]
) -> None:
    found = ladder(report({"codec": "hevc", "width_px": size[0], "height_px": size[1]}))
    assert [(rung.name, rung.width_px, rung.height_px) for rung in found] == rungs


def test_rungs_are_what_the_settings_say() -> None:
    policy = EncodingSettings(rungs=[RungSettings(height_px=240, crf=30), RungSettings(height_px=480)])
    found = ladder(report({"codec": "hevc"}), policy)
    assert [(rung.name, rung.crf, rung.max_kbps) for rung in found] == [
        ("240p", 30, None),
        ("480p", 23, None),
    ]


def test_a_heavy_copy_gets_a_small_rung_beside_it_where_the_settings_say_so() -> None:
    heavy = replace(report({}, {}), size_bytes=10_000_000)
    assert names(heavy) == ["copy"]
    assert names(heavy, policy=EncodingSettings(small_beside_copy_above_kbps=7_999)) == ["copy", "360p"]
    assert names(heavy, policy=EncodingSettings(small_beside_copy_above_kbps=8_000)) == ["copy"]


@pytest.mark.parametrize("heights", [[720, 360], [360, 360]])
def test_rungs_out_of_order_are_refused(heights: list[int]) -> None:
    with pytest.raises(ValidationError, match="from small to large"):
        EncodingSettings(rungs=[RungSettings(height_px=height) for height in heights])


@pytest.mark.parametrize(
    ("change", "size"),
    [
        ({}, (1920, 1080)),
        ({"width_px": 3840, "height_px": 2160}, (1920, 1080)),
        ({"width_px": 641, "height_px": 361}, (640, 360)),
        ({"width_px": 720, "height_px": 576, "sample_aspect": "64/45"}, (1024, 576)),
        ({"width_px": 1920, "height_px": 1080, "rotation_deg": 90}, (1080, 1920)),
        ({"width_px": 7680, "height_px": 1080}, (1920, 270)),
        ({"width_px": 2, "height_px": 2}, (2, 2)),
    ],
)
def test_the_largest_rung_is_upright_square_even_and_within_1080p(
    change: dict[str, Any], size: tuple[int, int]
) -> None:
    video = report(change).video
    assert video is not None
    assert fitted(video, RungSettings(height_px=1080)) == size
