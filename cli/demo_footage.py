"""The demonstration's shift: a dozen files as two body cameras might leave them in a dock.

Names follow the device profile (D7), so that some facts come from the name alone. What each file is
there to show stands beside it.
"""

from __future__ import annotations

import math
import struct
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from PIL import Image

from evidence.clock import rfc3339
from media.footage import make_clip

FPS = 12
SECONDS = 3.0
WIDTH_PX, HEIGHT_PX = 640, 360
SAMPLE_RATE_HZ = 16_000
DEVICE_NAMES = {"0000001": "330101", "0000002": "330102"}
FIRST, SECOND = DEVICE_NAMES
CAMERA_ZONE = ZoneInfo("Asia/Shanghai")
CASE_1, CASE_2 = "示执罚〔2026〕17号", "示执检〔2026〕5号"
# As a tired officer types it: full-width digits, other brackets.
CASE_2_TYPED = "示执检[２０２６] 5 号"
MIN_BYTES_LEFT = 1000


@dataclass(frozen=True)
class ShiftFile:
    """A file in the dock and what the dock says of it."""

    path: Path
    metadata: dict[str, str]
    shows: str
    shows_face: bool = False


def make_shift(
    folder: Path, samples: Path, now: datetime, progress: Callable[[int, str], None]
) -> list[ShiftFile]:
    """Write the shift.

    Args:
        folder: Where the files go.
        samples: Folder with the sample pictures; files that need a missing one are made without it.
        now: The shift ends two hours before.
        progress: Told how many files are done, and what the last one shows.
    """
    made: list[ShiftFile] = []
    for one in _Shift(folder, samples, now - timedelta(hours=6)).files():
        made.append(one)
        progress(len(made), one.shows)
    return made


def own_shift(root: Path) -> list[ShiftFile]:
    """The user's own files, all for the first case and the first camera."""
    paths = (
        [root]
        if root.is_file()
        else sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    )
    return [
        ShiftFile(path, {"device_no": FIRST, "case_no": CASE_1}, "自有影像 / your own", shows_face=True)
        for path in paths
    ]


@dataclass
class _Shift:
    folder: Path
    samples: Path
    at: datetime

    def files(self) -> Iterator[ShiftFile]:
        yield from self._split_recording()
        yield self._face()
        yield self._carphone()
        yield self._clip("领用设备,未报案号 / no case named, device issued", FIRST, {}, seed=6)
        avi = {"case_no": CASE_2_TYPED}
        yield self._clip("MPEG-4 AVI,须转码 / needs encoding", SECOND, avi, ".avi", codec="mpeg4", seed=7)
        yield self._clip("含 B 帧 / with B-frames", SECOND, {"case_no": CASE_2}, b_frames=True, seed=8)
        yield self._photo()
        yield self._audio_note()
        yield self._clip("无从关联 / nobody can bind it", SECOND, {}, seed=11)
        yield self._damaged()

    def _name(self, device_no: str, suffix: str) -> Path:
        self.at += timedelta(minutes=7)
        stamp = self.at.astimezone(CAMERA_ZONE).strftime("%Y%m%d_%H%M%S")
        return self.folder / f"DSJ_{device_no}_{DEVICE_NAMES[device_no]}_{stamp}{suffix}"

    def _said(self, device_no: str, seconds: float, more: dict[str, str]) -> dict[str, str]:
        return {
            "device_no": device_no,
            "captured_from": rfc3339(self.at),
            "captured_to": rfc3339(self.at + timedelta(seconds=seconds)),
            **more,
        }

    def _clip(
        self,
        shows: str,
        device_no: str,
        more: dict[str, str],
        suffix: str = ".mp4",
        *,
        seconds: float = SECONDS,
        first_frame: int = 0,
        codec: str = "h264",
        b_frames: bool = False,
        face: Path | None = None,
        seed: int,
    ) -> ShiftFile:
        path = self._name(device_no, suffix)
        make_clip(
            path,
            seconds=seconds,
            fps=FPS,
            width_px=WIDTH_PX,
            height_px=HEIGHT_PX,
            device_no=device_no,
            officer_no=DEVICE_NAMES[device_no],
            # The clock in the picture and the one in the name are the camera's.
            started_at=self.at.astimezone(CAMERA_ZONE),
            first_frame=first_frame,
            codec=codec,
            b_frames=b_frames,
            face=face,
            seed=seed,
        )
        return ShiftFile(path, self._said(device_no, seconds, more), shows, face is not None)

    def _split_recording(self) -> Iterator[ShiftFile]:
        """One press of the button in three files."""
        for number in range(3):
            more = {
                "case_no": CASE_1,
                "recording": "REC-0001",
                "sequence_no": str(number + 1),
                "place": "人民路12号",
                "object_of_proof": "占道经营现场",
            }
            shows = f"一次录制的第{number + 1}段 / part {number + 1} of one recording"
            yield self._clip(
                shows,
                FIRST,
                more,
                first_frame=round(number * SECONDS * FPS),
                seed=1 if number == 0 else 1 + number,
            )

    def _face(self) -> ShiftFile:
        portrait = self.samples / "astronaut.png"
        more = {"case_no": CASE_1, "place": "人民路12号", "object_of_proof": "现场询问", "key_file": "1"}
        face = portrait if portrait.is_file() else None
        return self._clip("真人脸移动 / a real face, moving", FIRST, more, seconds=4.0, face=face, seed=4)

    def _carphone(self) -> ShiftFile:
        """A real recording of a person, its bytes as they came."""
        source = self.samples / "carphone.mp4"
        more = {"case_no": CASE_1, "place": "人民路12号", "object_of_proof": "现场询问"}
        if not source.is_file():
            return self._clip("替代片 / in place of a sample", FIRST, more, seed=5)
        path = self._name(FIRST, ".mp4")
        path.write_bytes(source.read_bytes())
        return ShiftFile(path, self._said(FIRST, 4.0, more), "真实人像 / a real person", shows_face=True)

    def _photo(self) -> ShiftFile:
        portrait = self.samples / "astronaut.png"
        path = self._name(SECOND, ".jpg")
        picture = (
            Image.open(portrait).convert("RGB")
            if portrait.is_file()
            else Image.new("RGB", (640, 480), "teal")
        )
        picture.save(path, quality=90)
        said = self._said(SECOND, 0, {"case_no": CASE_2})
        return ShiftFile(path, said, "照片 / a photo", shows_face=portrait.is_file())

    def _audio_note(self) -> ShiftFile:
        path = self._name(SECOND, ".wav")
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE_HZ)
            for at in range(int(SECONDS * SAMPLE_RATE_HZ)):
                loudness = 9000 * abs(math.sin(at / SAMPLE_RATE_HZ * math.tau * 2))
                value = int(loudness * math.sin(at / SAMPLE_RATE_HZ * math.tau * 300))
                file.writeframesraw(struct.pack("<h", value))
        return ShiftFile(path, self._said(SECOND, SECONDS, {"case_no": CASE_1}), "录音 / an audio note")

    def _damaged(self) -> ShiftFile:
        """As after a power cut: the end of the file, and with it the index, never reached the card."""
        whole = self._clip("断电残片 / cut off by a power failure", SECOND, {"case_no": CASE_2}, seed=12)
        content = whole.path.read_bytes()
        whole.path.write_bytes(content[: max(MIN_BYTES_LEFT, len(content) * 3 // 5)])
        return whole
