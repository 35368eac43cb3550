"""Groups without a mask are kept as our encoder coded them, to the bit; in any doubt nothing is kept."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from evidence.fixity import hash_file
from evidence.masks import Reason
from media.avc import Configuration
from media.decode import CodedReader, open_video, picture_times
from media.fmp4 import index_fragments
from media.footage import read_frame_number
from media.mux import FragmentFile, Sample, VideoTrack
from media.painting import FILL
from media.run import packaged_ffmpeg
from redaction.amend import amend
from redaction.keeping import GROUP_MAX_S, decide
from redaction.plan import Key, Picture, RedactionPlan, State, Track, WholeFrameSpan
from tests.integration.redaction_footage import FRAGMENTS, check, render
from tests.journey.chromium import watch_playlist
from tests.support.media import ffmpeg, make_plain, probe
from tests.support.media import render as make_ladder
from tests.support.samples import REPOSITORY
from tests.unit.redaction.plans import face, plan_of
from transcode.plan import KEYFRAME_EVERY_S, plan_renditions
from transcode.playlist import Part, media_playlist
from transcode.slices import in_slices, slice_of

HLS_JS = REPOSITORY / ".cache" / "node" / "node_modules" / "hls.js" / "dist" / "hls.min.js"
FPS, SECONDS, GROUP = 10, 10, 20
FRAMES = FPS * SECONDS
# Odd sides, as some recorders have: the rendition's are even, and fill no macroblock.
DRAWN = f"testsrc2=s=191x107:r={FPS}:d={SECONDS}"
BOX = (40, 20, 120, 80)
INSET_PX = 8


@dataclass(frozen=True)
class Ours:
    """A rendition that the ladder encoded, and the record of its making."""

    path: Path
    made: dict[str, Any]
    times: tuple[int, ...]
    size: tuple[int, int]
    plan: RedactionPlan
    """Hides nothing."""

    def masked(self, *spans: tuple[int, int]) -> RedactionPlan:
        """A box in the pictures from a number to a number, both included."""
        return replace(self.plan, tracks=tuple(self.box(*span) for span in spans))

    def box(self, first: int, last: int) -> Track:
        return face(f"from-{first}", *(Key(self.times[at], *BOX) for at in sorted({first, last})))


def described(path: Path, params: dict[str, Any]) -> Ours:
    with open_video(path) as video:
        shape = video.shape
    times = tuple(pts for pts, _ in picture_times(path))
    base = (shape.time_base.numerator, shape.time_base.denominator)
    picture = Picture(shape.width_px, shape.height_px, base, len(times), times[0], times[-1])
    made = {"sha256": hash_file(path).sha256.hex(), "params": params}
    return Ours(path, made, times, (shape.width_px, shape.height_px), plan_of(picture=picture))


def made_by_ladder(folder: Path, *source: object) -> Ours:
    path = folder / "source.mkv"
    ffmpeg(*source, "-c:v", "mpeg4", "-q:v", 3, path)
    report = probe(path, folder)
    (plan,) = plan_renditions(report)
    (result,) = make_ladder(path, report, folder)
    return described(result.path, plan.params())


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Ours:
    """Five groups of two seconds, with sound."""
    sound = ("-f", "lavfi", "-i", f"sine=440:r=48000:d={SECONDS}", "-c:a", "aac")
    return made_by_ladder(tmp_path_factory.mktemp("ours"), "-f", "lavfi", "-i", DRAWN, *sound)


@pytest.fixture(scope="module")
def mixed(ours: Ours, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second group of five is masked, a little of it."""
    output = tmp_path_factory.mktemp("mixed") / "out.mp4"
    render(ours.path, ours.masked((25, 30)), output, made=ours.made)
    return output


def pictures(path: Path) -> list[str]:
    """The digest of every picture as FFmpeg decodes it, which must have nothing to complain of."""
    command = [packaged_ffmpeg(), "-v", "warning", "-i", str(path), "-map", "0:v", "-f", "framemd5", "-"]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert done.stderr == ""
    return [line.split(",")[-1].strip() for line in done.stdout.splitlines() if not line.startswith("#")]


def codes(report: dict[str, Any]) -> set[str]:
    return {finding["code"] for finding in report["findings"]}


@pytest.mark.parametrize(
    ("spans", "touched"),
    [
        ([], set()),
        ([(25, 30)], {1}),
        ([(0, 0)], {0}),
        ([(FRAMES - 1, FRAMES - 1)], {4}),
        ([(GROUP - 1, GROUP)], {0, 1}),
        ([(5, 6), (45, 50), (90, 95)], {0, 2, 4}),
        ([(0, FRAMES - 1)], {0, 1, 2, 3, 4}),
    ],
)
def test_groups_without_a_mask_are_the_source_s_and_all_others_hide(
    ours: Ours, tmp_path: Path, spans: list[tuple[int, int]], touched: set[int]
) -> None:
    plan, output = ours.masked(*spans), tmp_path / "out.mp4"
    facts = render(ours.path, plan, output, made=ours.made)
    kept = [number for number in range(FRAMES) if number // GROUP not in touched]
    assert (facts["why_whole"], facts["kept_frame_count"], facts["frame_count"]) == (None, len(kept), FRAMES)
    report = check(ours.path, plan, output, made=ours.made)
    assert (report["findings"], report["kept_frame_count"]) == ([], len(kept))
    assert picture_times(output) == picture_times(ours.path)
    before, after = pictures(ours.path), pictures(output)
    assert [number for number in range(FRAMES) if before[number] == after[number]] == kept
    hidden = {number for first, last in spans for number in range(first, last + 1)}
    with open_video(output) as video:
        for frame in video:
            x0, y0, x1, y1 = BOX
            part = frame.planes()[0][y0 + INSET_PX : y1 - INSET_PX, x0 + INSET_PX : x1 - INSET_PX]
            is_fill = bool((np.abs(part.astype(int) - FILL[0]) < 24).all())
            assert is_fill is (frame.index in hidden), frame.index
    assert b"x264" not in output.read_bytes()


def test_mask_that_is_refused_again_leaves_nothing_of_the_masked_rendition(
    ours: Ours, mixed: Path, tmp_path: Path
) -> None:
    before = ours.masked((25, 30))
    plan = amend(before, [{"op": "delete_box", "track": before.tracks[0].id}], "account-7")
    output = tmp_path / "out.mp4"
    assert render(ours.path, plan, output, made=ours.made)["kept_frame_count"] == FRAMES
    assert pictures(output) == pictures(ours.path) != pictures(mixed)


def test_frames_hidden_whole_or_shown_by_decision_are_encoded(ours: Ours, tmp_path: Path) -> None:
    at = ours.times[45]
    for state in (State.PROPOSED, State.REFUSED):
        span = WholeFrameSpan("whole-1", at, at, "model", "ab" * 32, Reason.PRIVACY, state)
        plan, output = replace(ours.plan, whole_frame_spans=(span,)), tmp_path / "out.mp4"
        assert render(ours.path, plan, output, made=ours.made)["kept_frame_count"] == FRAMES - GROUP
        assert check(ours.path, plan, output, made=ours.made)["findings"] == []


@pytest.mark.browser
def test_kept_and_encoded_groups_play_one_after_the_other_in_chromium(tmp_path: Path) -> None:
    source, output, fps = tmp_path / "source.mkv", tmp_path / "out.mp4", 5
    truth = make_plain(source, seconds=6, fps=fps, codec="mpeg4")
    report = probe(source, tmp_path)
    (plan,) = plan_renditions(report)
    (result,) = make_ladder(source, report, tmp_path)
    numbered = described(result.path, plan.params())
    facts = render(numbered.path, numbered.masked((13, 14)), output, made=numbered.made)
    assert facts["kept_frame_count"] == 20
    index = index_fragments(output)
    assert index is not None
    playlist = in_slices(media_playlist([Part(index, "/out.mp4")]))
    content = output.read_bytes()
    files = {"/list.m3u8": ("application/vnd.apple.mpegurl", playlist.encode())}
    for address in re.findall(r"/out\.mp4/\d+-\d+\.mp4", playlist):
        _, first, last = slice_of(address.removeprefix("/")) or ("", 0, 0)
        files[address] = ("video/mp4", content[first : last + 1])
    seen = watch_playlist("/list.m3u8", fps, HLS_JS, files).pictures[: truth.frame_count]
    assert [read_frame_number(picture) for picture in seen] == truth.frame_numbers
    x0, y0, x1, y1 = BOX
    inside = slice(y0 + INSET_PX, y1 - INSET_PX), slice(x0 + INSET_PX, x1 - INSET_PX)
    flat = [float(picture[inside].std()) for picture in seen]
    assert [number for number, spread in enumerate(flat) if spread < 2] == [13, 14]


def test_sound_is_muted_beside_kept_pictures(ours: Ours, tmp_path: Path) -> None:
    mute = {"op": "mute", "from_us": 1_000_000, "to_us": 2_500_000, "stream": None, "kind": "silence",
            "reason": "privacy"}  # fmt: skip
    plan, output = amend(ours.masked((25, 30)), [mute], "account-7"), tmp_path / "out.mp4"
    facts = render(ours.path, plan, output, made=ours.made)
    assert (facts["muted_streams"], facts["kept_frame_count"]) == ([0], FRAMES - GROUP)
    assert check(ours.path, plan, output, made=ours.made)["findings"] == []


def test_uneven_times_and_groups_of_one_picture_without_sound_are_kept_to_the_tick(tmp_path: Path) -> None:
    # After seven seconds without a picture, keyframes that were due come one after the other.
    gap = ("-vf", "select='not(between(n,23,92))*not(eq(mod(n,7),3))'", "-fps_mode", "vfr")
    uneven = made_by_ladder(tmp_path, "-f", "lavfi", "-i", f"testsrc2=s=64x48:r={FPS}:d=12", *gap)
    steps = {two - one for one, two in zip(uneven.times, uneven.times[1:], strict=False)}
    assert len(steps) > 2
    alone = next(
        number for number in range(20, 40) if uneven.times[number] - uneven.times[number - 1] == max(steps)
    )
    plan, output = uneven.masked((alone, alone)), tmp_path / "out.mp4"
    facts = render(uneven.path, plan, output, made=uneven.made)
    assert facts["kept_frame_count"] == len(uneven.times) - 1
    assert check(uneven.path, plan, output, made=uneven.made)["findings"] == []
    assert picture_times(output) == picture_times(uneven.path)
    same = [one == two for one, two in zip(pictures(uneven.path), pictures(output), strict=True)]
    assert [number for number, is_same in enumerate(same) if not is_same] == [alone]


def test_rotation_flag_stays(ours: Ours, tmp_path: Path) -> None:
    turned, output = tmp_path / "turned.mp4", tmp_path / "out.mp4"
    ffmpeg("-display_rotation", 90, "-i", ours.path, "-an", "-c", "copy", "-movflags", FRAGMENTS, turned)
    lying = described(turned, ours.made["params"])
    assert render(turned, lying.masked((25, 30)), output, made=lying.made)["kept_frame_count"] == 80
    assert check(turned, lying.masked((25, 30)), output, made=lying.made)["findings"] == []
    with open_video(output) as video:
        assert video.shape.rotation == 90


def altered(record: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A record that says something else of the rung, or of FFmpeg's arguments."""
    params = record["params"]
    arguments = list(params["arguments"])
    for name, value in changes.pop("told", {}).items():
        arguments[arguments.index(name) + 1] = value
    return {**record, "params": {"rung": {**params["rung"], **changes}, "arguments": arguments}}


@pytest.mark.parametrize(
    ("why", "record"),
    [
        ("no record of its making", lambda _: None),
        ("no record of its making", lambda made: {**made, "params": {}}),
        ("a picture that was copied", lambda made: altered(made, copies_video=True)),
        ("another file than the recorded one", lambda made: {**made, "sha256": "00" * 32}),
        ("the rate factor", lambda made: altered(made, crf=21)),
        ("the size of the pictures", lambda made: altered(made, width_px=188)),
        (
            "another encoder, or one that was told otherwise",
            lambda made: altered(made, told={"-c:v": "h264_nvenc"}),
        ),
        (
            "another encoder, or one that was told otherwise",
            lambda made: altered(made, told={"-x264-params": "open-gop=1"}),
        ),
    ],
)
def test_what_is_not_recorded_as_ours_is_encoded_whole(
    ours: Ours, why: str, record: Callable[[dict[str, Any]], dict[str, Any] | None]
) -> None:
    assert decide(ours.path, record(ours.made), ours.size, lambda _: False, alive=list).why_whole == why


def test_whole_encoding_is_what_it_was(ours: Ours, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    facts = render(ours.path, ours.plan, output)
    assert (facts["why_whole"], facts["kept_frame_count"]) == ("no record of its making", 0)
    report = check(ours.path, ours.plan, output, made=ours.made)
    assert (report["findings"], report["kept_frame_count"]) == ([], 0)


def rewritten(
    source: Path,
    into: Path,
    change: Callable[[int, bytes], bytes | None] = lambda _, data: data,
    avcc: Callable[[bytes], bytes] = lambda held: held,
) -> Path:
    """The pictures of a file in another one by our own muxer, each as it is or changed or left out."""
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        held = avcc(context.extradata or b"")
        file = FragmentFile(
            into, VideoTrack(context.width, context.height, stream.time_base.denominator, held), []
        )
        for number, packet in enumerate(container.demux(stream)):
            data = change(number, bytes(packet)) if packet.pts is not None else None
            if packet.pts is not None and data is not None:
                file.add_picture(Sample(packet.pts, packet.duration or 0, data, packet.is_keyframe))
        file.finish()
    return into


def behind(unit: bytes) -> bytes:
    return len(unit).to_bytes(4, "big") + unit


def at_30(change: Callable[[bytes], bytes | None]) -> Callable[[int, bytes], bytes | None]:
    return lambda number, data: change(data) if number == 30 else data


def with_sets(
    sequence: Callable[[bytes], bytes] = bytes, picture: Callable[[bytes], bytes] = bytes, tail: bytes = b""
) -> Callable[[bytes], bytes]:
    def changed(held: bytes) -> bytes:
        found = Configuration.from_bytes(held)
        sets = tuple(map(sequence, found.sequence_sets)), tuple(map(picture, found.picture_sets))
        return replace(found, sequence_sets=sets[0], picture_sets=sets[1], tail=found.tail + tail).to_bytes()

    return changed


# What a file may hold that goes by the record of a rendition of ours.
LIES: dict[str, dict[str, Any]] = {
    "bytes behind a sequence parameter set": {"avcc": with_sets(lambda unit: unit + b"GPS!")},
    "the profile": {"avcc": with_sets(lambda unit: unit[:2] + b"\x20" + unit[3:])},
    "a sequence parameter set that is cut off": {"avcc": with_sets(lambda unit: unit[:8])},
    "bytes behind a picture parameter set": {"avcc": with_sets(picture=lambda unit: unit + b"GPS!")},
    "the avcC": {"avcc": with_sets(tail=b"GPS!")},
    "another number of units in a picture": {"change": at_30(lambda data: data + data)},
    "a picture that is cut off": {"change": at_30(lambda data: b"\0\0\xff\xff" + data[4:])},
    "a picture that is not referred to": {"change": at_30(lambda data: data[:4] + b"\x01" + data[5:])},
    "the type of a slice": {"change": at_30(lambda data: data[:5] + b"\x9f" + data[6:])},
    "a slice that begins within its picture": {"change": at_30(lambda data: data[:5] + b"\x5f" + data[6:])},
    "the numbering of pictures": {"change": lambda number, data: data if number != 30 else None},
}


@pytest.mark.parametrize("why", LIES)
def test_what_claims_to_be_ours_and_is_not_to_the_bit_is_encoded_whole(
    ours: Ours, tmp_path: Path, why: str
) -> None:
    other = rewritten(ours.path, tmp_path / "other.mp4", **LIES[why])
    made = {**ours.made, "sha256": hash_file(other).sha256.hex()}
    assert decide(other, made, ours.size, lambda _: False, alive=list).why_whole == why


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["-bf", "2", "-x264-params", "open-gop=0"], "the order of pictures"),
        (["-bf", "2", "-x264-params", "open-gop=1"], "the order of pictures"),
        (["-bf", "0", "-g", "80", "-force_key_frames", "0"], "a group that is longer than ours"),
        (["-bf", "0", "-x264-params", "intra-refresh=1"], "the kind of a picture"),
        (["-bf", "0", "-x264-params", "slices=2"], "another number of units in a picture"),
        (
            ["-bf", "0", "-maxrate", "1M", "-bufsize", "2M", "-x264-params", "nal-hrd=vbr"],
            "a reference decoder or the structure of pictures",
        ),
    ],
)
def test_other_coding_is_encoded_whole(ours: Ours, tmp_path: Path, options: Sequence[str], why: str) -> None:
    other, output = tmp_path / "other.mp4", tmp_path / "out.mp4"
    width, height = ours.size
    told = [
        "-profile:v",
        "high",
        "-preset",
        "veryfast",
        "-crf",
        26,
        "-g",
        20,
        *options,
        "-pix_fmt",
        "yuv420p",
    ]
    drawn = ["-f", "lavfi", "-i", f"testsrc2=s={width}x{height}:r={FPS}:d=6"]
    ffmpeg(*drawn, "-c:v", "libx264", *told, "-movflags", FRAGMENTS, other)
    theirs = described(other, ours.made["params"])
    plan = theirs.masked((25, 30))
    facts = render(other, plan, output, made=theirs.made)
    assert (facts["why_whole"], facts["kept_frame_count"]) == (why, 0)
    assert check(other, plan, output, made=theirs.made)["findings"] == []


def test_our_encoder_is_told_what_is_looked_for(ours: Ours) -> None:
    assert GROUP_MAX_S == KEYFRAME_EVERY_S
    assert decide(ours.path, ours.made, ours.size, lambda _: False, alive=list).why_whole is None


def test_check_finds_kept_pictures_that_are_not_the_source_s(ours: Ours, mixed: Path, tmp_path: Path) -> None:
    plan, other = ours.masked((25, 30)), tmp_path / "other.mp4"
    silent = replace(ours, path=rewritten(ours.path, tmp_path / "source.mp4"))
    bare = rewritten(mixed, tmp_path / "bare.mp4")
    assert codes(check(silent.path, plan, bare)) == set()
    # Masked after all, by the plan that counts.
    report = check(silent.path, ours.masked((25, 30), (50, 51)), bare)
    assert {"kept_differs", "mask_missing"} <= codes(report)
    # One bit of a kept slice, or pictures of one group in the place of another's.
    held = samples(mixed)
    flipped = rewritten(mixed, other, lambda number, data: data[:-9] + bytes([data[-9] ^ 4]) + data[-8:]
                        if number == 50 else data)  # fmt: skip
    assert "kept_differs" in codes(check(silent.path, plan, flipped))
    moved = rewritten(mixed, other, lambda number, data: held[number - 20] if 60 <= number < 80 else data)
    assert "kept_differs" in codes(check(silent.path, plan, moved))
    # An encoded picture within a kept group.
    among = rewritten(mixed, other, lambda number, data: held[35] if number == 50 else data)
    found = [each for each in check(silent.path, plan, among)["findings"] if each["code"] == "kept_differs"]
    assert "not whole groups" in {each["cause"] for each in found}


def samples(path: Path) -> list[bytes]:
    with CodedReader(path) as reader:
        return [picture.data for picture in reader.pictures()]


@pytest.mark.parametrize(
    "avcc", [with_sets(lambda unit: unit + b"GPS!"), with_sets(picture=lambda unit: unit + b"GPS!"),
             with_sets(tail=b"GPS!")],
)  # fmt: skip
def test_check_finds_more_in_the_parameter_sets(
    ours: Ours, mixed: Path, tmp_path: Path, avcc: Callable[[bytes], bytes]
) -> None:
    other = rewritten(mixed, tmp_path / "other.mp4", avcc=avcc)
    assert "sets_not_allowed" in codes(check(ours.path, ours.masked((25, 30)), other))
