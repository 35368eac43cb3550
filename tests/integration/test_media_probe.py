"""Whatever the bytes are, probing ends in facts or in one clear reason, and opens nothing else."""

from __future__ import annotations

import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evidence.kinds import MediaKind
from media.footage import ClipTruth
from media.report import ProbeReport
from tests.support import media as footage


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ClipTruth]:
    path = tmp_path_factory.mktemp("plain") / "plain.mp4"
    return path, footage.make_plain(path)


def copy_of(plain: tuple[Path, ClipTruth], folder: Path, name: str = "copy.mp4") -> Path:
    return Path(shutil.copy(plain[0], folder / name))


def flags(report: ProbeReport) -> set[str]:
    return {flag["code"] for flag in report.flags}


def test_facts_of_an_ordinary_recording(plain: tuple[Path, ClipTruth], tmp_path: Path) -> None:
    report = footage.probe(plain[0], tmp_path)
    video, audio = report.video, report.audio
    assert video is not None
    assert audio is not None
    assert report.media_kind is MediaKind.VIDEO
    assert report.decodable
    assert flags(report) == set()
    assert (video.codec, video.width_px, video.height_px) == ("h264", 320, 180)
    assert video.packet_count == video.decoded_frames == plain[1].frame_count == 50
    assert video.avg_frame_rate == "25/1"
    assert report.duration_us == 2_000_000
    assert (audio.codec, audio.profile, audio.sample_rate_hz, audio.channels) == ("aac", "LC", 48_000, 1)
    assert {
        "field": "device_started_at",
        "value": "2026-03-01T08:00:00.000000Z",
        "clock": "device",
    } in report.claims
    assert ProbeReport.from_json(report.to_json()) == report


def test_headers_alone_say_enough_to_copy(plain: tuple[Path, ClipTruth], tmp_path: Path) -> None:
    report = footage.probe(plain[0], tmp_path, depth="header")
    assert report.decodable
    assert report.video is not None
    assert report.video.packet_count is None
    assert report.video.declared_frame_count == 50


@pytest.mark.parametrize(
    ("name", "options", "codec"),
    [
        ("old.avi", {"codec": "mpeg4"}, "mpeg4"),
        ("dvr.avi", {"codec": "mjpeg"}, "mjpeg"),
        ("new.mp4", {"codec": "hevc"}, "hevc"),
        ("stream.ts", {}, "h264"),
        ("silent.mkv", {"audio": False}, "h264"),
        ("reordered.mp4", {"b_frames": True}, "h264"),
    ],
)
def test_every_frame_is_counted_in_every_container(
    tmp_path: Path, name: str, options: dict[str, Any], codec: str
) -> None:
    truth = footage.make_plain(tmp_path / name, **options)
    report = footage.probe(tmp_path / name, tmp_path)
    assert report.video is not None
    assert report.video.codec == codec
    assert report.video.packet_count == truth.frame_count
    assert report.duration_us == 2_000_000
    assert (report.audio is None) == (name == "silent.mkv")


def test_variable_frame_rate_keeps_its_duration(tmp_path: Path) -> None:
    truth = footage.make_plain(tmp_path / "vfr.mp4", variable_rate=True)
    report = footage.probe(tmp_path / "vfr.mp4", tmp_path)
    assert report.video is not None
    assert report.video.packet_count == truth.frame_count < 50
    assert report.duration_us is not None
    assert 1_800_000 < report.duration_us <= 2_000_000


def test_sound_alone_is_audio(tmp_path: Path) -> None:
    footage.write_wav(tmp_path / "pen.wav")
    report = footage.probe(tmp_path / "pen.wav", tmp_path)
    assert report.media_kind is MediaKind.AUDIO
    assert report.duration_us == 3_000_000


def write_zero(path: Path) -> None:
    path.write_bytes(b"")


def write_text(path: Path) -> None:
    path.write_text("现场检查笔录\n" * 20)


def write_noise(path: Path) -> None:
    path.write_bytes(bytes(range(1, 256)) * 200)


def write_passwd_playlist(path: Path) -> None:
    footage.write_playlist(path, Path("/etc/passwd"))


def write_passwd_script(path: Path) -> None:
    footage.write_concat_script(path, Path("/etc/passwd"))


@pytest.mark.parametrize(
    ("write", "kind", "reason"),
    [
        (write_zero, MediaKind.UNKNOWN, "empty"),
        (write_text, MediaKind.DOCUMENT, "document"),
        (write_noise, MediaKind.UNKNOWN, "not_media"),
        (footage.write_zip, MediaKind.UNKNOWN, "archive"),
        (write_passwd_playlist, MediaKind.UNKNOWN, "playlist"),
        (write_passwd_script, MediaKind.UNKNOWN, "playlist"),
        (footage.write_png_bomb, MediaKind.PHOTO, "huge_dimensions"),
    ],
)
def test_what_is_no_footage_gets_one_clear_reason(
    tmp_path: Path, write: Callable[[Path], None], kind: MediaKind, reason: str
) -> None:
    path = tmp_path / "claims-to-be.mp4"
    write(path)
    report = footage.probe(path, tmp_path)
    assert report.media_kind is kind
    assert not report.decodable
    assert report.reason is not None
    assert report.reason["code"] == reason
    assert report.reason["zh"]
    assert report.reason["en"]
    assert ("name_disagrees" in flags(report)) == (kind is not MediaKind.PHOTO and reason != "empty")


def without_moov(path: Path) -> None:
    footage.cut_off(path, 0.5)


def with_encrypted_entries(path: Path) -> None:
    footage.mark_encrypted(path)


@pytest.mark.parametrize(
    ("damage", "reason"), [(without_moov, "moov_missing"), (with_encrypted_entries, "encrypted")]
)
def test_footage_that_cannot_be_decoded_says_why(
    plain: tuple[Path, ClipTruth], tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    path = copy_of(plain, tmp_path)
    damage(path)
    report = footage.probe(path, tmp_path)
    assert report.media_kind is MediaKind.VIDEO
    assert not report.decodable
    assert report.reason is not None
    assert report.reason["code"] == reason


def test_a_cut_tail_is_flagged_and_the_rest_counts(plain: tuple[Path, ClipTruth], tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    footage.ffmpeg("-i", plain[0], "-c", "copy", "-movflags", "+faststart", path)
    footage.cut_off(path, 0.6)
    report = footage.probe(path, tmp_path)
    assert report.decodable
    assert "truncated" in flags(report)
    assert report.video is not None
    assert 0 < (report.video.packet_count or 0) < 50


def test_damage_in_the_middle_is_found(plain: tuple[Path, ClipTruth], tmp_path: Path) -> None:
    path = copy_of(plain, tmp_path)
    footage.overwrite_middle(path)
    report = footage.probe(path, tmp_path)
    assert report.decodable
    assert "corrupt" in flags(report)
    assert report.video is not None
    assert report.video.decode_errors > 0


def test_a_header_that_claims_65535_pixels_is_a_lie_and_not_believed(
    plain: tuple[Path, ClipTruth], tmp_path: Path
) -> None:
    path = copy_of(plain, tmp_path)
    footage.claim_huge_picture(path)
    report = footage.probe(path, tmp_path)
    assert "header_lies" in flags(report)
    assert report.video is not None
    assert (report.video.width_px, report.video.height_px) == (320, 180)


@pytest.mark.parametrize("claimed", [1, 0x7FFFFFFF])
def test_how_long_a_header_says_it_lasts_is_not_believed(
    plain: tuple[Path, ClipTruth], tmp_path: Path, claimed: int
) -> None:
    """In the movie, and in each track of it and its media: version 0 has 32 bits for a duration."""
    path = copy_of(plain, tmp_path)
    data = bytearray(path.read_bytes())
    for kind, place in ((b"mvhd", 16), (b"tkhd", 20), (b"mdhd", 16)):
        for found in re.finditer(kind, bytes(data)):
            struct.pack_into(">I", data, found.end() + place, claimed)
    path.write_bytes(bytes(data))
    report = footage.probe(path, tmp_path)
    assert report.video is not None
    assert (report.duration_us, report.video.packet_count) == (2_000_000, 50)
    assert report.decodable


def test_how_many_pictures_a_header_claims_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "lie.avi"
    footage.make_plain(path, seconds=1, codec="mjpeg", audio=False)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"avih") + 8 + 16, 0xFFFFFFFF)
    struct.pack_into("<I", data, data.index(b"strh") + 8 + 32, 0x7FFFFFFF)
    path.write_bytes(bytes(data))
    report = footage.probe(path, tmp_path)
    assert report.video is not None
    assert (report.duration_us, report.video.packet_count) == (1_000_000, 25)


def test_a_picture_that_really_is_huge_is_never_decoded(tmp_path: Path) -> None:
    path = tmp_path / "huge.mkv"
    source = "color=black:s=8192x8192:r=1:d=1"
    footage.ffmpeg("-f", "lavfi", "-i", source, "-c:v", "ffv1", "-pix_fmt", "gray", path)
    report = footage.probe(path, tmp_path)
    assert not report.decodable
    assert report.reason is not None
    assert report.reason["code"] == "huge_dimensions"


def test_claims_of_container_tags_are_kept_and_bounded(plain: tuple[Path, ClipTruth], tmp_path: Path) -> None:
    path = tmp_path / "tagged.mkv"
    tags = tmp_path / "tags.txt"
    tags.write_text(
        f";FFMETADATA1\ncreation_time=2099-01-01T00:00:00Z\nmake=执法\ncomment={'x' * 1_000_000}\n"
    )
    footage.ffmpeg("-i", plain[0], "-f", "ffmetadata", "-i", tags, "-map_metadata", "1", "-c", "copy", path)
    report = footage.probe(path, tmp_path)
    found = {(claim["field"], claim["value"], claim["clock"]) for claim in report.claims}
    assert ("device_make", "执法", "") in found
    assert any(field == "device_started_at" and value.startswith("2099") for field, value, _ in found)
    assert max(len(value) for value in report.tags.values()) <= 300


def test_a_photo_tells_time_device_and_place(tmp_path: Path) -> None:
    footage.write_photo(tmp_path / "photo.jpg")
    report = footage.probe(tmp_path / "photo.jpg", tmp_path)
    assert report.media_kind is MediaKind.PHOTO
    assert report.decodable
    assert (report.width_px, report.height_px) == (400, 640)
    claims = {claim["field"]: claim["value"] for claim in report.claims}
    assert claims["device_local_time"] == "2026-03-01T16:00:00"
    assert claims["device_model"] == "P60"
    assert claims["location"] == "+39.90420+116.40740/"


def test_a_cut_photo_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    footage.write_photo(tmp_path / "photo.jpg", width_px=2000, height_px=2000)
    footage.cut_off(tmp_path / "photo.jpg", 0.7)
    report = footage.probe(tmp_path / "photo.jpg", tmp_path)
    assert report.decodable
    assert flags(report) == {"truncated"}


def test_names_do_not_decide(plain: tuple[Path, ClipTruth], tmp_path: Path) -> None:
    for name in (
        "no_extension",
        "really.dat",
        "执法记录仪_张三.MP4",
        "two\nlines.mp4",
        "-rf.mp4",
        "a:b|c.mp4",
    ):
        report = footage.probe(copy_of(plain, tmp_path, name), tmp_path)
        assert report.decodable
        assert report.media_kind is MediaKind.VIDEO
