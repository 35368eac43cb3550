"""What containers and photos say of time, place and device becomes claims, each with its clock."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from PIL import Image

from media.probe import probe
from tests.support import media

STARTED = ("device_started_at", "device")
LOCAL = ("device_local_time", "device")
CREATED = ("-metadata", "creation_time=2026-03-01T08:00:00.125Z")
APPLE = (
    "-movflags", "use_metadata_tags", "-timecode", "10:00:00:05",
    "-metadata", "com.apple.quicktime.creationdate=2026-03-01T16:00:00+0800",
    "-metadata", "com.apple.quicktime.make=Apple",
    "-metadata", "com.apple.quicktime.software=18.1",
    "-metadata", "com.apple.quicktime.location.ISO6709=+30.25+120.16+012/",
)  # fmt: skip
SOUND = ("-vn", "-c:a")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "plain.mp4"
    media.make_plain(path, seconds=1)
    return path


def claims(path: Path) -> set[tuple[str, str, str]]:
    return {(said["field"], said["value"], said["clock"]) for said in probe(path, depth="header").claims}


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("a.mkv", CREATED, {(STARTED[0], "2026-03-01T08:00:00.125000Z", STARTED[1])}),
        ("a.mp4", CREATED, {(STARTED[0], "2026-03-01T08:00:00.000000Z", STARTED[1])}),
        ("a.flv", CREATED, {(STARTED[0], "2026-03-01T08:00:00.125000Z", STARTED[1])}),
        ("b.mp4", ("-metadata", "location=+30.2500+120.1600/"), {("location", "+30.2500+120.1600/", "")}),
        (
            "a.mov",
            APPLE,
            {
                (STARTED[0], "2026-03-01T16:00:00+0800", STARTED[1]),
                ("timecode", "10:00:00:05", "device"),
                ("device_make", "Apple", ""),
                ("device_firmware", "18.1", ""),
                ("location", "+30.25+120.16+012/", ""),
            },
        ),
        (
            "a.mp3",
            (*SOUND, "libmp3lame", "-metadata", "date=2026-03-01T16:00:00"),
            {(LOCAL[0], "2026-03-01T16:00:00", LOCAL[1])},
        ),
        (
            "a.wav",
            (
                *SOUND, "pcm_s16le", "-write_bext", "1",
                "-metadata", "origination_date=2026-03-01", "-metadata", "origination_time=16:00:00",
            ),
            {(LOCAL[0], "2026-03-01T16:00:00", LOCAL[1])},
        ),
    ],
)  # fmt: skip
def test_what_a_container_says(
    plain: Path, tmp_path: Path, name: str, options: tuple[str, ...], expected: set[tuple[str, str, str]]
) -> None:
    coding = () if "-vn" in options else ("-c", "copy")
    media.ffmpeg("-i", plain, "-map_metadata", "-1", *coding, *options, tmp_path / name)
    assert claims(tmp_path / name) == expected


def test_the_date_of_an_avi_names_no_zone_and_is_a_reading(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    media.ffmpeg("-i", plain, "-map_metadata", "-1", "-c", "copy", path)
    data = path.read_bytes()
    said = b"Sun Mar 01 16:00:00 2026\n\0"
    chunk = b"IDIT" + struct.pack("<I", len(said)) + said
    at = data.index(b"LIST", 12)
    (size,) = struct.unpack_from("<I", data, at + 4)
    end = at + 8 + size
    grown = bytearray(data[:end] + chunk + data[end:])
    struct.pack_into("<I", grown, at + 4, size + len(chunk))
    struct.pack_into("<I", grown, 4, len(grown) - 8)
    path.write_bytes(grown)
    assert claims(path) == {(LOCAL[0], "2026-03-01 16:00:00", LOCAL[1])}


def photo(path: Path) -> Path:
    picture = Image.new("RGB", (64, 48), (200, 60, 40))
    exif = picture.getexif()
    exif[0x010F], exif[0x0131] = "Huawei", "V1.2"
    exif.get_ifd(0x8769).update(
        {0x9003: "2026:03:01 16:00:00", 0x9011: "+08:00", 0x9291: "25", 0xA431: "SN0042"}
    )
    exif.get_ifd(0x8825).update(
        {
            1: "S",
            2: (30.0, 15.0, 0.0),
            3: "W",
            4: (120.0, 9.0, 36.0),
            7: (8.0, 0.0, 5.5),
            29: "2026:03:01",
        }
    )
    picture.save(path, "JPEG", exif=exif)
    return path


def test_what_a_photo_says(tmp_path: Path) -> None:
    assert claims(photo(tmp_path / "a.jpg")) == {
        (STARTED[0], "2026-03-01T16:00:00.25+08:00", STARTED[1]),
        ("device_make", "Huawei", ""),
        ("device_firmware", "V1.2", ""),
        ("device_serial", "SN0042", ""),
        ("location", "-30.25000-120.16000/", ""),
        ("gps_started_at", "2026-03-01T08:00:05.500000Z", "gps"),
    }
