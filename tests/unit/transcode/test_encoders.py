"""Every encoder is told the same thing in its own words."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from config.settings import EncodingSettings, RungSettings
from media.fmp4 import Fragment, FragmentIndex, Track
from tests.unit.transcode.reports import report
from transcode.chunks import cuts
from transcode.encoder_trial import findings
from transcode.encoders import HARDWARE, SOFTWARE, Encoder
from transcode.plan import RenditionPlan, chunk_plan, command, plan_renditions, sound_plan

FOREIGN = report({"codec": "hevc"}, {})


def planned(encoder: Encoder, policy: EncodingSettings | None = None) -> tuple[RenditionPlan, ...]:
    return plan_renditions(FOREIGN, policy or EncodingSettings(), encoder=encoder)


def values(arguments: list[str], option: str) -> list[str]:
    return [arguments[at + 1] for at, word in enumerate(arguments) if word == option]


@pytest.mark.parametrize("encoder", HARDWARE, ids=lambda one: one.name)
def test_all_rungs_have_the_same_groups_limits_and_profile_whoever_encodes(encoder: Encoder) -> None:
    plans, by_x264 = planned(encoder), planned(SOFTWARE)
    arguments = command(plans, "/a", ["/b", "/c", "/d"])
    assert values(arguments, "-c:v") == ["libx264", encoder.codec, encoder.codec]
    assert arguments.count("-i") == 1
    soft = command(by_x264, "/a", ["/b", "/c", "/d"])
    for option in ("-force_key_frames", "-maxrate:v", "-bufsize:v", "-profile:v", "-fps_mode:v"):
        assert values(arguments, option) == values(soft, option), option
    assert values(arguments, "-bf") == ["0", "0", "0"]
    # One frees every keyframe of what came before it: the option, or the distance of those that do.
    assert values(arguments, "-forced-idr") + values(arguments, "-forced_idr") + values(
        arguments, "-idr_interval"
    ) in (["1", "1"], ["0", "0"])
    assert values(arguments, "-crf") == ["26"]
    qualities = (values(arguments, name) for name in ("-cq", "-global_quality:v", "-qvbr_quality_level"))
    assert ["24", "23"] in list(qualities)
    assert [plan.is_hardware for plan in plans] == [False, True, True]
    assert [plan.codec for plan in plans] == values(arguments, "-c:v")


@pytest.mark.parametrize("encoder", HARDWARE, ids=lambda one: one.name)
def test_without_a_limit_quality_alone_counts(encoder: Encoder) -> None:
    policy = EncodingSettings(rungs=[RungSettings(height_px=90), RungSettings(height_px=180, crf=0)])
    words = command(planned(encoder, policy), "/a", ["/b", "/c"])
    assert not values(words, "-maxrate:v")
    assert values(words, "-b:v") == (["0"] if encoder.name == "nvenc" else [])
    assert "0" not in values(words, "-cq") + values(words, "-global_quality:v")


def test_pictures_are_brought_to_the_device_that_is_named() -> None:
    plans = planned(next(one for one in HARDWARE if one.name == "vaapi"))
    arguments = command(plans, "/a", ["/b", "/c", "/d"], render_node="/dev/dri/renderD129")
    assert arguments[:2] == ["-init_hw_device", "vaapi=gpu:/dev/dri/renderD129"]
    assert values(arguments, "-filter_complex")[0].count("hwupload") == 2
    # Which of its processors a machine used is no part of what came out.
    assert "renderD129" not in str(plans[1].params())
    assert values(plans[1].params()["arguments"], "-c:v") == ["h264_vaapi"]
    assert not values(command(plans[:1], "/a", ["/b"]), "-init_hw_device")


def test_the_encoder_is_part_of_the_parameters_of_a_rung_and_of_its_chunks() -> None:
    video = FOREIGN.video
    assert video is not None
    cut = cuts(video, 2)[0]
    told = set()
    for encoder in (SOFTWARE, *HARDWARE):
        small, large = planned(encoder)[0], planned(encoder)[2]
        assert small.params() == planned(SOFTWARE)[0].params()
        told |= {str(large.params()), str(chunk_plan(large, cut, Fraction(1, 12_800)).params())}
        # Sound is the same beside any of them.
        expected = sound_plan(planned(SOFTWARE)[0], FOREIGN).params()
        assert sound_plan(large, FOREIGN).params() == expected
    assert len(told) == 2 * (1 + len(HARDWARE))


def test_a_trial_tells_all_that_is_not_as_it_was_told() -> None:
    track = Track(1, "video", 10, "avc1.640028", 640, 360)
    shown = [Fragment(at, 1, at * 10, 20, count, True) for at, count in ((0, 10), (2, 10), (4, 5))]
    good = FragmentIndex(100, (track,), 0, tuple(shown))
    assert findings(good) == []
    late = replace(good, fragments=(shown[0], shown[1]._replace(starts_with_keyframe=False), shown[2]))
    assert findings(late) == ["keyframes_s: expected [0.0, 2.0, 4.0], found [0.0, 2.0, 4.0]"]
    wrong = FragmentIndex(100, (replace(track, codec="avc1.42C028", height_px=368),), 0, (shown[0],))
    assert [line.partition(":")[0] for line in findings(wrong)] == ["frames", "coding", "size", "keyframes_s"]
