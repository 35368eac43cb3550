"""A shift of small files of every sort, and the docks that upload it and never give up."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from media.footage import make_clip
from tests.support.cluster import DEVICE_NO, METADATA, OFFICER_NO, Cluster, Shipped
from tests.support.media import cut_off, overwrite_middle, write_photo, write_wav

REVIEWABLE, UNPLAYABLE, QUARANTINED = "reviewable", "unplayable", "quarantined"
OTHER_DEVICE = "DSJ02"
SECONDS, FPS, WIDTH_PX, HEIGHT_PX = 2, 10, 320, 180


@dataclass
class ShiftFile:
    """A file of the shift.

    Attributes:
        ends: What its item may end as.
        metadata: What the dock says about it.
        shipped: Set once its dock saw every byte acknowledged.
    """

    path: Path
    ends: tuple[str, ...] = (REVIEWABLE,)
    metadata: dict[str, str] = field(default_factory=dict)
    shipped: Shipped | None = None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def device_no(self) -> str:
        return self.metadata["device_no"]


def make_shift(folder: Path, seed: int, count: int = 30) -> list[ShiftFile]:
    """Thirty files of two seconds: footage, photos, a sound, damaged ones, and the same bytes again."""
    folder.mkdir(parents=True, exist_ok=True)
    files: list[ShiftFile] = []

    def add(path: Path, ends: tuple[str, ...] = (REVIEWABLE,), **said: str) -> None:
        files.append(ShiftFile(path, ends, {"filename": path.name, **METADATA, **said}))

    clips = max(4, count - 12)
    for number in range(clips):
        add(_clip(folder / f"clip{number:02}.mp4", seed * 100 + number))
    for number in range(2):
        add(_clip(folder / f"card{number}.avi", seed * 100 + 50 + number, codec="mpeg4"))
        photo = folder / f"photo{number}.jpg"
        write_photo(photo, width_px=320 + 16 * number, height_px=240)
        add(photo)
    write_wav(folder / "note.wav", SECONDS)
    add(folder / "note.wav")
    cut = _copy(files[0].path, folder / "cut.mp4")
    cut_off(cut, 0.6)
    add(cut, (REVIEWABLE, UNPLAYABLE))
    noisy = _copy(files[1].path, folder / "noisy.mp4")
    overwrite_middle(noisy)
    add(noisy, (REVIEWABLE, UNPLAYABLE))
    text = folder / "text.mp4"
    text.write_text("not footage\n" * 400)
    add(text, (UNPLAYABLE,))
    lied = _copy(files[2].path, folder / "declared.mp4")
    lied.write_bytes(lied.read_bytes() + b"\0" * 8)
    add(lied, (QUARANTINED,), sha256="0" * 64)
    add(_copy(files[0].path, folder / "again0.mp4"))
    add(_copy(files[1].path, folder / "again1.mp4"))
    add(_copy(files[2].path, folder / "other-camera.mp4"), device_no=OTHER_DEVICE)
    return files


def _clip(path: Path, seed: int, codec: str = "h264") -> Path:
    make_clip(
        path,
        seconds=SECONDS,
        fps=FPS,
        width_px=WIDTH_PX,
        height_px=HEIGHT_PX,
        device_no=DEVICE_NO,
        officer_no=OFFICER_NO,
        started_at=datetime(2026, 3, 4, 2, seed % 60, tzinfo=UTC),
        codec=codec,
        seed=seed,
    )
    return path


def _copy(source: Path, target: Path) -> Path:
    shutil.copyfile(source, target)
    return target


class Dock(threading.Thread):
    """Uploads its files one after another; a lost connection is resumed until the last byte is in.

    Args:
        spread_s: The time one file should take, so that servers die in the middle of requests.
        streams: Send what is left in one slow request, instead of tuspy's many short ones.
        sending: Counts the requests that are under way now, for whoever kills.
    """

    def __init__(self, cluster: Cluster, files: list[ShiftFile], *, spread_s: float, streams: bool) -> None:
        super().__init__(name="dock", daemon=True)
        self._cluster = cluster
        self._files = files
        self._spread_s = spread_s
        self._streams = streams
        self.is_sending = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            for file in self._files:
                if self._streams:
                    file.shipped = self._stream(file)
                else:
                    pieces = 20
                    file.shipped = self._cluster.upload(
                        file.path,
                        file.metadata,
                        chunk_bytes=max(1, -(-file.path.stat().st_size // pieces)),
                        pause_s=self._spread_s / pieces,
                        timeout_s=600,
                    )
        except BaseException as error:
            self.failure = error
            raise

    def _stream(self, file: ShiftFile) -> Shipped:
        """A tus client that sends everything that is left as one request, piece by piece."""
        size, url, lost, deadline = file.path.stat().st_size, None, 0, time.monotonic() + 600
        while True:
            try:
                url = url or self._create(file, size)
                offset = self._offset(url)
                if offset == size:
                    return Shipped(url, file.path, lost)
                self._patch(url, file, offset)
            except (requests.RequestException, LookupError):
                lost += 1
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _create(self, file: ShiftFile, size: int) -> str:
        from tusclient.client import TusClient

        with file.path.open("rb") as stream:
            encoder: Any = TusClient("").uploader(file_stream=stream, metadata=file.metadata)
            said = ",".join(encoder.encode_metadata())
        answer = requests.post(
            f"{self._cluster.settings.ingest_url}/uploads/",
            headers={**self._headers(), "Upload-Length": str(size), "Upload-Metadata": said},
            timeout=30,
        )
        if answer.status_code != 201:
            raise LookupError(answer.text)
        return self._cluster.settings.ingest_url + answer.headers["Location"].removeprefix(
            self._cluster.settings.ingest_url
        )

    def _offset(self, url: str) -> int:
        answer = requests.head(url, headers=self._headers(), timeout=30)
        if "Upload-Offset" not in answer.headers:
            raise LookupError(str(answer.status_code))
        return int(answer.headers["Upload-Offset"])

    def _patch(self, url: str, file: ShiftFile, offset: int) -> None:
        headers = {
            **self._headers(),
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
        }
        self.is_sending.set()
        with contextlib.ExitStack() as stack:
            stack.callback(self.is_sending.clear)
            answer = requests.patch(url, data=self._pieces(file, offset), headers=headers, timeout=60)
        if answer.status_code != 204:
            raise LookupError(f"{answer.status_code} {answer.text[:200]}")

    def _pieces(self, file: ShiftFile, offset: int) -> Iterator[bytes]:
        data = file.path.read_bytes()[offset:]
        size = max(1, -(-file.path.stat().st_size // 20))
        for at in range(0, len(data), size):
            yield data[at : at + size]
            time.sleep(self._spread_s / 20)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._cluster.token}", "Tus-Resumable": "1.0.0"}
