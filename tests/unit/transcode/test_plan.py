"""Command lines as data."""

from __future__ import annotations

from fractions import Fraction

from media.report import ProbeReport
from tests.unit.transcode.reports import report
from transcode.plan import plan_renditions


def value_after(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1]


def command(found: ProbeReport, number: int = 0) -> list[str]:
    return plan_renditions(found)[number].command("/objects/a", "/derived/b")


def test_a_copy_copies_and_strips() -> None:
    arguments = command(report({}, {}))
    assert value_after(arguments, "-c:v") == "copy"
    assert value_after(arguments, "-c:a") == "copy"
    assert value_after(arguments, "-map_metadata") == "-1"
    assert value_after(arguments, "-map_chapters") == "-1"
    assert {"-dn", "-sn"} <= set(arguments)
    assert [arguments[at + 1] for at, word in enumerate(arguments) if word == "-map"] == ["0:0", "0:1"]


def test_the_source_is_opened_with_whitelists_and_as_a_file() -> None:
    arguments = command(report({"codec": "hevc"}, {}))
    before_input = arguments[: arguments.index("-i")]
    assert value_after(before_input, "-protocol_whitelist") == "file,pipe"
    assert "hls" not in value_after(before_input, "-format_whitelist").split(",")
    assert "-max_pixels" in before_input
    assert value_after(arguments, "-i") == "file:/objects/a"
    assert "file:/derived/b" in arguments


def test_a_path_like_an_option_stays_a_path() -> None:
    arguments = plan_renditions(report({}))[0].command("-y", "|rm")
    assert "file:-y" in arguments
    assert "file:|rm" in arguments


def test_encoding_keeps_the_clock_of_the_source() -> None:
    arguments = command(report({"codec": "hevc"}, {}))
    assert value_after(arguments, "-fps_mode:v") == "passthrough"
    assert value_after(arguments, "-enc_time_base:v") == "demux"
    assert value_after(arguments, "-force_key_frames") == "expr:gte(t,n_forced*2)"
    assert value_after(arguments, "-filter:v").startswith("scale=640:360")


def test_interlaced_pictures_are_joined_one_for_one() -> None:
    arguments = command(report({"is_interlaced": True}))
    assert value_after(arguments, "-filter:v").startswith("yadif=mode=send_frame")


def test_fragments_start_at_keyframes_and_are_bounded() -> None:
    arguments = command(report({}, {}))
    assert "frag_keyframe" in value_after(arguments, "-movflags")
    assert value_after(arguments, "-min_frag_duration") == "1000000"
    assert value_after(arguments, "-frag_duration") == "15000000"
    assert value_after(command(report(None, {})), "-frag_duration") == "2000000"


def test_expectations_of_a_copy_are_those_of_its_packets() -> None:
    plan = plan_renditions(report({"corrupt_count": 1}, {}))[0]
    assert plan.expected_frames == 249
    assert plan.expected_duration == Fraction(10)
    assert Fraction(1, 25) <= plan.tolerance < Fraction(2, 25)


def test_expectations_of_an_encoding_are_its_decoded_frames_where_all_were_decoded() -> None:
    whole = {"codec": "mpeg4", "decode_coverage": "full", "decoded_frames": 248}
    assert plan_renditions(report(whole))[0].expected_frames == 248
    assert plan_renditions(report({"codec": "mpeg4"}))[0].expected_frames is None
    assert plan_renditions(report({"codec": "hevc"}))[0].expected_frames == 250


def test_parameters_name_no_path() -> None:
    params = plan_renditions(report({}, {}))[0].params()
    assert "{source}" in str(params["arguments"])
    assert params == plan_renditions(report({}, {}))[0].params()
