"""Footage with positions, for tests: a GPMF track built box by box, and sentences as subtitles."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path

from tests.support.boxes import box, full_box
from tests.support.media import ffmpeg

TIMESCALE = 1000
TRACK_ID = 77
WALK_STARTED_AT = datetime(2026, 3, 1, 8, 0, 5, tzinfo=UTC)
"""By the satellites; five seconds after what the clips' own clock says."""


@dataclass(frozen=True)
class Step:
    """A place on a walk."""

    latitude: float
    longitude: float
    altitude_m: float = 12.5


def walk(count: int) -> list[Step]:
    """Places in Hangzhou, some metres apart."""
    return [Step(30.25 + number * 0.0001, 120.16 + number * 0.0002) for number in range(count)]


def entry(letters: str, kind: str, size: int, samples: bytes) -> bytes:
    """A GPMF entry, padded to four bytes."""
    kind_byte = ord(kind) if kind else 0
    head = struct.pack(">4sBBH", letters.encode(), kind_byte, size, len(samples) // size)
    return head + samples + bytes(-len(samples) % 4)


def gps5(steps: list[Step], utc: datetime, *, fix: int = 3) -> bytes:
    """One packet of an older camera."""
    rows = b"".join(
        struct.pack(
            ">5i", round(s.latitude * 1e7), round(s.longitude * 1e7), round(s.altitude_m * 1000), 0, 0
        )
        for s in steps
    )
    stream = (
        entry("STNM", "c", 1, b"GPS (Lat., Long., Alt., 2D speed, 3D speed)")
        + entry("GPSF", "L", 4, struct.pack(">I", fix))
        + entry("GPSU", "U", 16, f"{utc:%y%m%d%H%M%S}.000".encode())
        + entry("SCAL", "l", 4, struct.pack(">5i", 10_000_000, 10_000_000, 1000, 1000, 100))
        + entry("GPS5", "l", 20, rows)
    )
    return _device(stream)


def gps9(steps: list[Step], utc: datetime, *, fix: int = 3) -> bytes:
    """One packet of a newer camera: each sample has its own time and fix."""
    day = datetime(2000, 1, 1, tzinfo=UTC)
    rows = b""
    for number, step in enumerate(steps):
        since = utc + timedelta(milliseconds=100 * number) - day
        rows += struct.pack(
            ">7i2H", round(step.latitude * 1e7), round(step.longitude * 1e7), round(step.altitude_m * 1000),
            0, 0, since.days, since.seconds * 1000 + since.microseconds // 1000, 150, fix,
        )  # fmt: skip
    scales = struct.pack(">9i", 10_000_000, 10_000_000, 1000, 1000, 100, 1, 1000, 100, 1)
    form = entry("TYPE", "c", 1, b"lllllllSS")
    return _device(entry("SCAL", "l", 4, scales) + form + entry("GPS9", "?", 32, rows))


def _device(stream: bytes) -> bytes:
    name = entry("DVNM", "c", 1, b"Test")
    return entry("DEVC", "", 1, name + entry("STRM", "", 1, stream))


def add_track(path: Path, packets: list[bytes], *, each_ms: int = 1000) -> None:
    """Add a ``gpmd`` track to an MP4 whose moov is its last box."""
    data = path.read_bytes()
    at = _moov_at(data)
    moov = data[at + 8 :]
    samples_at = at + 8 + len(moov) + len(_trak(packets, each_ms, 0)) + 8
    whole = box("moov", moov, _trak(packets, each_ms, samples_at))
    path.write_bytes(data[:at] + whole + box("mdat", *packets))


def _moov_at(data: bytes) -> int:
    at = 0
    while data[at + 4 : at + 8] != b"moov":
        size = int.from_bytes(data[at : at + 4], "big")
        at += size if size != 1 else int.from_bytes(data[at + 8 : at + 16], "big")
    return at


def _trak(packets: list[bytes], each_ms: int, offset: int) -> bytes:
    length = each_ms * len(packets)
    tkhd = full_box("tkhd", struct.pack(">8xI4xI60x", TRACK_ID, length), flags=3)
    mdhd = full_box("mdhd", struct.pack(">8xIIHH", TIMESCALE, length, 0x55C4, 0))
    hdlr = full_box("hdlr", struct.pack(">4x4s12x", b"meta"), b"\0")
    stsd = full_box("stsd", struct.pack(">I", 1), box("gpmd", struct.pack(">6xHI", 1, 0)))
    stts = full_box("stts", struct.pack(">III", 1, len(packets), each_ms))
    stsc = full_box("stsc", struct.pack(">IIII", 1, 1, len(packets), 1))
    sizes = b"".join(struct.pack(">I", len(packet)) for packet in packets)
    stsz = full_box("stsz", struct.pack(">II", 0, len(packets)), sizes)
    stco = full_box("stco", struct.pack(">II", 1, offset))
    stbl = box("stbl", stsd, stts, stsc, stsz, stco)
    return box("trak", tkhd, box("mdia", mdhd, hdlr, box("minf", full_box("nmhd"), stbl)))


def sentence(text: str) -> str:
    """An NMEA sentence with its checksum."""
    return f"${text}*{reduce(lambda total, byte: total ^ byte, text.encode(), 0):02X}"


def rmc(step: Step, utc: datetime, *, valid: bool = True) -> str:
    """The place, time and validity."""
    return sentence(
        f"GNRMC,{utc:%H%M%S}.00,{'A' if valid else 'V'},{_angle(step.latitude, 2)},N,"
        f"{_angle(step.longitude, 3)},E,0.1,90.0,{utc:%d%m%y},,,A"
    )


def gga(step: Step, utc: datetime) -> str:
    """The place and height."""
    return sentence(
        f"GNGGA,{utc:%H%M%S}.00,{_angle(step.latitude, 2)},N,{_angle(step.longitude, 3)},E,1,09,0.9,"
        f"{step.altitude_m:.1f},M,7.1,M,,"
    )


def _angle(degrees: float, digits: int) -> str:
    whole = int(degrees)
    return f"{whole:0{digits}d}{(degrees - whole) * 60:08.5f}"


def add_subtitles(source: Path, destination: Path, lines: list[str], scratch: Path) -> None:
    """Copy footage and add one subtitle a second, each with a text of its own."""
    blocks = [
        f"{number + 1}\n00:00:{number:02d},000 --> 00:00:{number:02d},900\n{text}\n"
        for number, text in enumerate(lines)
    ]
    written = scratch / "positions.srt"
    written.write_text("\n".join(blocks), encoding="ascii")
    coding = "mov_text" if destination.suffix == ".mp4" else "srt"
    ffmpeg("-i", source, "-i", written, "-map", "0", "-map", "1", "-c", "copy", "-c:s", coding, destination)
