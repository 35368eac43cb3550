"""Synthetic footage: what a body camera might record, with the truth about every frame known.

For the demonstration and for tests; nothing else imports it. Each picture carries a wall clock, device and
officer in plain text, and its frame number as a strip of black and white cells along the lower edge
that survives scaling and transcoding. So whoever cuts, copies or encodes can prove which frames are
still there. A picture of a face can be pasted on a known path, to prove that it is hidden.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]

SYNC_START, SYNC_END = (1, 0, 1), (0, 1, 0)
NUMBER_BITS, CHECK_BITS = 24, 4
CELLS = len(SYNC_START) + NUMBER_BITS + CHECK_BITS + len(SYNC_END)
STRIP_SHARE = 16
"""Picture heights to one strip."""
SAMPLE_RATE_HZ = 48_000
SYLLABLES_PER_S = 4
BEEP_S = 0.06
FACE_SHARE = 3
"""Picture heights to the height of a pasted face."""

ENCODERS = {
    "h264": ("libx264", {"preset": "ultrafast", "crf": "26"}),
    "hevc": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none"}),
    "mpeg4": ("mpeg4", {"b:v": "1200k"}),
    "mjpeg": ("mjpeg", {"q:v": "5"}),
}


@dataclass(frozen=True)
class ClipTruth:
    """What a clip really shows."""

    frame_count: int
    face_boxes: list[Box | None]
    """Where the pasted face is in each frame: x0, y0, x1, y1 in pixels."""
    frame_numbers: list[int] = field(default_factory=list)
    """The numbers in the strips, in the order shown."""
    shown_at: list[Fraction] = field(default_factory=list)
    """Seconds at which each frame starts to be shown."""


def make_clip(
    path: Path,
    *,
    seconds: float,
    fps: int = 25,
    width_px: int = 640,
    height_px: int = 360,
    audio: bool = True,
    device_no: str,
    officer_no: str,
    started_at: datetime,
    first_frame: int = 0,
    codec: str = "h264",
    b_frames: bool = False,
    variable_rate: bool = False,
    keyframe_every: int | None = None,
    face: Path | None = None,
    seed: int = 0,
) -> ClipTruth:
    """Write a clip; the container follows from the name of ``path``.

    Args:
        path: ``.mp4``, ``.mov``, ``.avi``, ``.mkv`` or ``.ts``.
        started_at: Wall time of the first frame: in its own zone written into the picture, as a camera shows
            its clock, and in UTC as ``creation_time``.
        first_frame: Number in the first strip; runs on across split files.
        codec: ``h264``, ``mpeg4``, ``hevc`` or ``mjpeg``.
        b_frames: Let the encoder reorder pictures.
        variable_rate: Leave out about a third of the frames, never the first.
        keyframe_every: Frames from one keyframe to the next; two seconds when omitted.
        face: A picture to paste on a path through the clip.
        seed: Everything that looks random comes from it.
    """
    total = round(seconds * fps)
    kept = _kept_frames(total, seed) if variable_rate else list(range(total))
    scene = _Scene(width_px, height_px, device_no, officer_no, face, seed)
    name, options = ENCODERS[codec]
    options = dict(options)
    if codec == "h264" and b_frames:
        # ultrafast switches B-frames off; a reordering stream needs them back.
        options |= {"preset": "veryfast", "x264-params": "bframes=2:b-adapt=0:force-cfr=1"}
    boxes: list[Box | None] = []
    with av.open(str(path), "w") as container:
        container.metadata["creation_time"] = started_at.astimezone(UTC).isoformat()
        picture: Any = container.add_stream(name, rate=fps, options=options)
        picture.width, picture.height = width_px, height_px
        picture.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        picture.codec_context.time_base = Fraction(1, fps)
        picture.codec_context.gop_size = keyframe_every or 2 * fps
        sound: Any = None
        if audio:
            sound = container.add_stream("pcm_s16le" if path.suffix == ".avi" else "aac", rate=SAMPLE_RATE_HZ)
            sound.layout = "mono"
        chunks = _sound(seconds, seed) if audio else iter(())
        for number in kept:
            wall = started_at + timedelta(seconds=number / fps)
            pixels, box = scene.draw(first_frame + number, number / fps, wall)
            boxes.append(box)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(picture.encode(frame))
            _mux_sound_until(container, sound, chunks, (number + 1) / fps)
        container.mux(picture.encode(None))
        _mux_sound_until(container, sound, chunks, math.inf)
        if sound is not None:
            container.mux(sound.encode(None))
    return ClipTruth(
        len(kept),
        boxes,
        [first_frame + number for number in kept],
        [Fraction(number, fps) for number in kept],
    )


def read_frame_number(gray: Pixels) -> int | None:
    """The number in a picture's strip; None when there is none that can be read.

    Args:
        gray: Luma, ``(height, width)``, uint8, of the whole picture at any size.
    """
    height, width = gray.shape
    row = height - max(1, height // STRIP_SHARE) // 2
    half = max(1, height // STRIP_SHARE // 5)
    band = gray[row - half : row + half + 1].mean(axis=0)
    edges = [round(cell * width / CELLS) for cell in range(CELLS + 1)]
    levels = [band[a + (b - a) // 4 : b - (b - a) // 4].mean() for a, b in pairwise(edges)]
    bits = [int(level > 127) for level in levels]
    if tuple(bits[:3]) != SYNC_START or tuple(bits[-3:]) != SYNC_END:
        return None
    number = _as_number(bits[3 : 3 + NUMBER_BITS])
    check = _as_number(bits[3 + NUMBER_BITS : -3])
    return number if check == _check(number) else None


def _check(number: int) -> int:
    folded = 0
    while number:
        folded ^= number & 0xF
        number >>= 4
    return folded ^ 0b1001


def _as_number(bits: list[int]) -> int:
    return int("".join(map(str, bits)), 2)


def _kept_frames(total: int, seed: int) -> list[int]:
    chance = np.random.default_rng(seed).random(total)
    return [number for number in range(total) if number == 0 or chance[number] > 1 / 3]


class _Scene:
    """Draws one picture after another."""

    def __init__(
        self, width_px: int, height_px: int, device_no: str, officer_no: str, face: Path | None, seed: int
    ) -> None:
        self.width, self.height = width_px, height_px
        self.label = f"{device_no}  {officer_no}"
        self.street = _street(width_px * 2, height_px, seed)
        self.font = ImageFont.load_default(max(10, height_px // 20))
        self.face = _face_pixels(face, height_px // FACE_SHARE) if face is not None else None
        self._label_for = ""
        self._label: Pixels = np.zeros((1, 1), np.uint8)

    def draw(self, number: int, seconds: float, wall_time: datetime) -> tuple[Pixels, Box | None]:
        """RGB24, ``(height, width, 3)``, uint8, and where the face is."""
        shift = int((0.5 + 0.5 * math.sin(seconds / 3)) * self.width)
        pixels = self.street[:, shift : shift + self.width].copy()
        box = self._paste_face(pixels, seconds)
        self._write(pixels, f"{wall_time:%Y-%m-%d %H:%M:%S}  {self.label}")
        self._strip(pixels, number)
        return pixels, box

    def _paste_face(self, pixels: Pixels, seconds: float) -> Box | None:
        if self.face is None:
            return None
        height, width = self.face.shape[:2]
        room_x, room_y = self.width - width, self.height * 14 // 16 - height - self.height // 10
        x = int(room_x * (0.5 + 0.45 * math.sin(seconds * 0.9)))
        y = self.height // 10 + int(room_y * (0.5 + 0.45 * math.cos(seconds * 0.7)))
        pixels[y : y + height, x : x + width] = self.face
        return (x, y, x + width, y + height)

    def _write(self, pixels: Pixels, text: str) -> None:
        if text != self._label_for:
            plate = Image.new("L", (self.width, self.height // 12), 0)
            ImageDraw.Draw(plate).text((6, 2), text, fill=255, font=self.font)
            self._label, self._label_for = np.asarray(plate), text
        rows = self._label.shape[0]
        lit = self._label[:, :, None] > 96
        pixels[:rows] = np.where(lit, np.uint8(245), pixels[:rows] // 2)

    def _strip(self, pixels: Pixels, number: int) -> None:
        bits = [*SYNC_START, *(number >> bit & 1 for bit in reversed(range(NUMBER_BITS)))]
        bits += [_check(number) >> bit & 1 for bit in reversed(range(CHECK_BITS))]
        bits += SYNC_END
        top = self.height - max(1, self.height // STRIP_SHARE)
        for cell, bit in enumerate(bits):
            left, right = round(cell * self.width / CELLS), round((cell + 1) * self.width / CELLS)
            pixels[top:, left:right] = 235 if bit else 20


def _street(width_px: int, height_px: int, seed: int) -> Pixels:
    """A row of houses twice as wide as the picture, panned across: movement that costs few bits."""
    random = np.random.default_rng(seed)
    shades = np.linspace(205, 150, height_px, dtype=np.uint8)[:, None, None]
    sky = np.broadcast_to(shades, (height_px, width_px, 3)) - np.array([40, 18, 0], np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(sky))
    pen = ImageDraw.Draw(picture)
    ground, left = height_px * 3 // 4, 0
    while left < width_px:
        wide = int(random.integers(height_px // 4, height_px // 2))
        roof = int(random.integers(height_px // 5, height_px // 2))
        wall = [int(level) for level in random.integers(90, 150) + random.integers(-14, 15, 3)]
        pen.rectangle((left, roof, left + wide, ground), fill=tuple(wall))
        step = max(6, height_px // 14)
        for top in range(roof + step // 2, ground - step, step):
            for side in range(left + step // 2, left + wide - step // 2, step):
                lit = (226, 214, 170) if random.random() < 1 / 3 else (70, 78, 88)
                pen.rectangle((side, top, side + step // 2, top + step // 2), fill=lit)
        left += wide + max(2, height_px // 60)
    pen.rectangle((0, ground, width_px, height_px), fill=(92, 92, 94))
    pen.line((0, ground + height_px // 12, width_px, ground + height_px // 12), fill=(200, 198, 186), width=3)
    return np.asarray(picture)


def _face_pixels(path: Path, height_px: int) -> Pixels:
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    width = max(2, round(picture.width * height_px / picture.height))
    return np.asarray(picture.resize((width, height_px), Image.Resampling.LANCZOS))


def _sound(seconds: float, seed: int) -> Iterator[Any]:
    """Frames of speech-like sound: a voice in syllables, and a beep at the start of every second."""
    random = np.random.default_rng(seed)
    pitch = 110 + 40 * random.random()
    size = 1024
    for start in range(0, int(seconds * SAMPLE_RATE_HZ), size):
        count = min(size, int(seconds * SAMPLE_RATE_HZ) - start)
        t = (start + np.arange(count)) / SAMPLE_RATE_HZ
        voice = sum(np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 8))
        syllables = np.clip(np.sin(2 * np.pi * SYLLABLES_PER_S / 2 * t), 0, 1)
        beep = np.where(t % 1.0 < BEEP_S, np.sin(2 * np.pi * 1000 * t), 0.0)
        samples = (6000 * voice * syllables + 9000 * beep).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None, :], format="s16", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, start
        frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
        yield frame


def _mux_sound_until(container: Any, sound: Any, chunks: Iterator[Any], seconds: float) -> None:
    if sound is None:
        return
    for frame in chunks:
        container.mux(sound.encode(frame))
        if frame.pts / SAMPLE_RATE_HZ > seconds:
            return
