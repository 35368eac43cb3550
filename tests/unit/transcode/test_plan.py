"""Command lines as data."""

from __future__ import annotations

from fractions import Fraction

from media.report import ProbeReport
from tests.unit.transcode.reports import report
from transcode.plan import command, plan_renditions


def value_after(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1]


def first(found: ProbeReport) -> list[str]:
    return command(plan_renditions(found)[:1], "/objects/a", ["/derived/b"])


def test_a_copy_copies_and_strips() -> None:
    arguments = first(report({}, {}))
    assert value_after(arguments, "-c:v") == "copy"
    assert value_after(arguments, "-c:a") == "copy"
    assert value_after(arguments, "-map_metadata") == "-1"
    assert value_after(arguments, "-map_chapters") == "-1"
    assert {"-dn", "-sn"} <= set(arguments)
    assert [arguments[at + 1] for at, word in enumerate(arguments) if word == "-map"] == ["0:0", "0:1"]


def test_the_source_is_opened_with_whitelists_and_as_a_file() -> None:
    arguments = first(report({"codec": "hevc"}, {}))
    before_input = arguments[: arguments.index("-i")]
    assert value_after(before_input, "-protocol_whitelist") == "file,pipe"
    assert "hls" not in value_after(before_input, "-format_whitelist").split(",")
    assert "-max_pixels" in before_input
    assert value_after(arguments, "-i") == "file:/objects/a"
    assert "file:/derived/b" in arguments


def test_a_path_like_an_option_stays_a_path() -> None:
    arguments = command(plan_renditions(report({})), "-y", ["|rm"])
    assert "file:-y" in arguments
    assert "file:|rm" in arguments


def test_encoding_keeps_the_clock_of_the_source() -> None:
    arguments = first(report({"codec": "hevc"}, {}))
    assert value_after(arguments, "-fps_mode:v") == "passthrough"
    assert value_after(arguments, "-enc_time_base:v") == "demux"
    assert value_after(arguments, "-force_key_frames") == "expr:gte(t,n_forced*2)"
    assert "scale=640:360" in value_after(arguments, "-filter_complex")


def test_one_decode_feeds_every_rung_and_all_force_the_same_keyframes() -> None:
    plans = plan_renditions(report({"codec": "hevc"}, {}))
    arguments = command(plans, "/objects/a", ["/a", "/b", "/c"])
    assert arguments.count("-i") == 1
    graph = value_after(arguments, "-filter_complex")
    assert graph.count("[0:0]") == 1
    assert "split=3" in graph
    places = [at for at, word in enumerate(arguments) if word.startswith("-force_key_frames")]
    assert len(places) == 3
    assert len({arguments[at + 1] for at in places}) == 1
    assert [arguments[at + 1] for at, word in enumerate(arguments) if word == "-crf"] == ["26", "24", "23"]
    assert [arguments[at + 1] for at, word in enumerate(arguments) if word == "-maxrate:v"] == [
        "1000k", "4000k", "8000k",
    ]  # fmt: skip


def test_interlaced_pictures_are_joined_one_for_one() -> None:
    arguments = first(report({"is_interlaced": True}))
    assert "[0:0]yadif=deint=interlaced:mode=send_frame" in value_after(arguments, "-filter_complex")


def test_fragments_start_at_keyframes_and_are_bounded() -> None:
    arguments = first(report({}, {}))
    assert "frag_keyframe" in value_after(arguments, "-movflags")
    assert value_after(arguments, "-min_frag_duration") == "1000000"
    assert value_after(arguments, "-frag_duration") == "15000000"
    assert value_after(first(report(None, {})), "-frag_duration") == "2000000"


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


def test_a_target_is_known_before_there_is_a_segment() -> None:
    """A group of two seconds, what is joined to it, and the longest picture; of a copy nobody knows."""

    def limit_s(found: ProbeReport) -> int:
        return plan_renditions(found)[0].segment_limit_s

    assert limit_s(report({"codec": "hevc", "longest_step": 512})) == 4
    assert limit_s(report({"codec": "hevc", "longest_step": 12_800 * 7})) == 10
    assert limit_s(report(None, {})) == 4
    assert limit_s(report({"codec": "hevc"})) == limit_s(report({"longest_step": 512})) == 16
