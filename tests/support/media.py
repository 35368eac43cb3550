"""Footage for tests: the generator's clips, and each way in which a file can be damaged or a trap."""

from __future__ import annotations

import struct
import subprocess
import zipfile
import zlib
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from config.settings import EncodingSettings
from media import sandbox
from media.footage import ClipTruth, make_clip, read_frame_number
from media.report import ProbeReport
from media.run import packaged_ffmpeg
from transcode.encoders import SOFTWARE, Encoder
from transcode.ladder import SHIPPED
from transcode.plan import plan_renditions
from transcode.segment import RenditionResult, RunOptions, make_renditions

STARTED_AT = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
LIMITS = sandbox.Limits(cpu_s=60, wall_s=60, stall_s=30, file_size_bytes=1 << 30)


def make_plain(path: Path, *, seconds: float = 2, **options: Any) -> ClipTruth:
    """A small clip of device D001."""
    given: dict[str, Any] = {"width_px": 320, "height_px": 180, "device_no": "D001", "officer_no": "110023"}
    return make_clip(path, seconds=seconds, **{**given, "started_at": STARTED_AT, **options})


def ffmpeg(*arguments: object) -> None:
    """Run the packaged FFmpeg, as a recorder's firmware would."""
    command = [packaged_ffmpeg(), "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


def probe(path: Path, scratch: Path, *, name: str = "", depth: str = "packets") -> ProbeReport:
    """Probe in a child, as workers do."""
    request: dict[str, object] = {"path": str(path), "name": name or path.name, "depth": depth}
    found = sandbox.call("media.probe:probe_entry", request, limits=LIMITS, scratch=scratch)
    return ProbeReport.from_json(found)


def frame_numbers(path: Path) -> list[int | None]:
    """The numbers that the decoded pictures carry, in the order shown."""
    with av.open(str(path)) as container:
        grays = (frame.to_ndarray(format="gray").astype(np.uint8) for frame in container.decode(video=0))
        return [read_frame_number(gray) for gray in grays]


def shown_at(path: Path) -> list[Fraction]:
    """Seconds from the first picture to each, in the order shown."""
    with av.open(str(path)) as container:
        times = [
            Fraction(frame.pts or 0) * Fraction(frame.time_base or 0) for frame in container.decode(video=0)
        ]
    return [at - times[0] for at in times]


def first_times(path: Path) -> dict[str, float]:
    """Seconds at which each kind of stream starts on the file's own clock."""
    times: dict[str, float] = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.pts is not None and packet.size and not packet.is_discard:
                at = float(packet.pts * packet.time_base)
                times[packet.stream.type] = min(times.get(packet.stream.type, at), at)
    return times


def cut_off(path: Path, share: float) -> None:
    """Keep only the first part of the bytes, as after a power cut."""
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * share))


def overwrite_middle(path: Path, size: int = 6000) -> None:
    """Put noise over bytes in the middle."""
    noise = np.random.default_rng(1).bytes(size)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(noise)


def replace_bytes(path: Path, old: bytes, new: bytes) -> int:
    """Replace every occurrence of a pattern of the same length; returns how many there were."""
    assert len(old) == len(new)
    data = path.read_bytes()
    path.write_bytes(data.replace(old, new))
    return data.count(old)


def claim_huge_picture(path: Path) -> None:
    """Let the container declare 65535 x 65535, while the stream stays what it is."""
    data = bytearray(path.read_bytes())
    entry = data.index(b"avc1", data.index(b"stsd"))
    struct.pack_into(">HH", data, entry + 4 + 24, 65535, 65535)
    path.write_bytes(bytes(data))


def mark_encrypted(path: Path) -> None:
    """Let the sample entries say that the samples are encrypted."""
    replace_bytes(path, b"avc1", b"encv")
    replace_bytes(path, b"mp4a", b"enca")


def write_playlist(path: Path, target: Path) -> None:
    """A playlist that points at a file of this machine."""
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{target}\n#EXT-X-ENDLIST\n")


def write_concat_script(path: Path, target: Path) -> None:
    """FFmpeg's own script for reading other files."""
    path.write_text(f"ffconcat version 1.0\nfile '{target}'\n")


def write_zip(path: Path) -> None:
    """An archive that unpacks to much more than it holds."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(20_000_000))


def write_png_bomb(path: Path, side_px: int = 60_000) -> None:
    """A PNG of a few kilobytes that claims gigapixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 20), 9)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    path.write_bytes(png)


def write_photo(path: Path, *, width_px: int = 640, height_px: int = 400) -> None:
    """A photo as a phone takes it: turned by a tag, with time, make and place."""
    picture = Image.new("RGB", (width_px, height_px), (200, 60, 40))
    exif = picture.getexif()
    exif[0x0112] = 6
    exif[0x010F] = "Huawei"
    exif[0x0110] = "P60"
    exif.get_ifd(0x8769)[0x9003] = "2026:03:01 16:00:00"
    exif.get_ifd(0x8825).update({1: "N", 2: (39.0, 54.0, 15.12), 3: "E", 4: (116.0, 24.0, 26.64)})
    picture.save(path, "JPEG", exif=exif, comment=b"secret remark")


def write_wav(path: Path, seconds: float = 3) -> None:
    """A recorder pen's file: 8 kHz A-law."""
    ffmpeg("-f", "lavfi", "-i", f"sine=440:r=8000:d={seconds}", "-c:a", "pcm_alaw", path)


def render(
    source: Path,
    report: ProbeReport,
    folder: Path,
    policy: EncodingSettings = SHIPPED,
    encoder: Encoder = SOFTWARE,
) -> list[RenditionResult]:
    """Every rendition the ladder asks for, in the folder."""
    run = RunOptions(scratch=folder, limits=LIMITS)
    plans = plan_renditions(report, policy, encoder=encoder)
    copies = [plan for plan in plans if plan.rung.is_copy]
    encoded = [plan for plan in plans if not plan.rung.is_copy]
    return [
        result
        for part in (copies, encoded)
        if part
        for result in make_renditions(source, report, part, folder, run=run).results
    ]
