"""Recordings with a real face on a known path, made by FFmpeg as renditions are, and what is done to them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from evidence.fixity import hash_file
from media.decode import read_photo
from redaction.check import check_entry
from redaction.detect import propose_entry
from redaction.plan import RedactionPlan
from redaction.plan_json import plan_from_json
from redaction.render import render_entry
from tests.support.samples import models_dir, sample

WIDTH, HEIGHT, FPS = 320, 180, 25
FACE_PX = 56
# The face within the pasted square, as shares of its side, by eye: eyebrows to chin, ear to ear.
FACE_WITHIN = (0.28, 0.20, 0.70, 0.78)
# Half the size at which pictures are looked at otherwise: enough for this face, and four times as fast.
QUICK = {"long_side_px": 320}
FRAGMENTS = "+frag_keyframe+empty_moov+default_base_moof"

Picture = NDArray[np.uint8]
Path2D = Callable[[int], tuple[int, int] | None]


@dataclass(frozen=True)
class Footage:
    """A rendition and where the face is in each of its frames."""

    path: Path
    faces: tuple[tuple[int, int, int, int] | None, ...]
    """x0, y0, x1, y1 in pixels; None where the frame shows no face."""


@cache
def face() -> Picture:
    """RGB24, (56, 56, 3): head and shoulders of the astronaut."""
    part = read_photo(sample("astronaut.png"))[30:230, 125:325]
    return cv2.resize(part, (FACE_PX, FACE_PX), interpolation=cv2.INTER_AREA).astype(np.uint8)


def background(frame: int, *, seed: int = 1) -> Picture:
    """A textured wall that slides by one pixel in four frames: RGB24, (180, 320, 3)."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(60, 200, (12, 24, 3)).astype(np.uint8)
    wall = cv2.resize(coarse, (WIDTH + 64, HEIGHT), interpolation=cv2.INTER_CUBIC)
    shift = frame // 4 % 64
    return np.ascontiguousarray(wall[:, shift : shift + WIDTH]).astype(np.uint8)


def sliding(frame: int) -> tuple[int, int]:
    """A path across the picture and back, up to six pixels a frame."""
    across = (WIDTH - FACE_PX) / 2 * (1 - np.cos(frame / 22))
    down = 40 + 30 * np.sin(frame / 9)
    return int(across), int(down)


def make_footage(
    path: Path,
    *,
    frame_count: int = 100,
    path_of: Path2D = sliding,
    hidden: Sequence[int] = (),
    cut_at: int | None = None,
    sound: Sequence[str] = ("aevalsrc=0.4*random(0)-0.2:s=48000",),
    options: Sequence[str] = (),
) -> Footage:
    """Write a rendition.

    Args:
        path: Where.
        frame_count: At 25 a second.
        path_of: Top left corner of the pasted square by frame; None pastes nothing.
        hidden: Frames in which the face is turned into wall, for the detector to miss.
        cut_at: From this frame on the wall is another and there is no face.
        sound: One FFmpeg source for each sound track.
        options: More FFmpeg output options.
    """
    faces: list[tuple[int, int, int, int] | None] = []
    frames = bytearray()
    for frame in range(frame_count):
        is_after_cut = cut_at is not None and frame >= cut_at
        picture = 255 - background(frame, seed=2) // 3 if is_after_cut else background(frame)
        at = None if is_after_cut else path_of(frame)
        if at is not None:
            x, y = at
            if frame not in hidden:
                picture[y : y + FACE_PX, x : x + FACE_PX] = face()
            left, top, right, bottom = (round(share * FACE_PX) for share in FACE_WITHIN)
            faces.append((x + left, y + top, x + right, y + bottom))
        else:
            faces.append(None)
        frames += picture.tobytes()
    encode(path, bytes(frames), sound=sound, seconds=frame_count / FPS, options=options)
    return Footage(path, tuple(faces))


def encode(
    path: Path, frames: bytes, *, sound: Sequence[str], seconds: float, options: Sequence[str] = ()
) -> None:
    """Code raw RGB24 frames and sound sources into a fragmented MP4 with B-frames and AAC."""
    sources = [part for one in sound for part in ("-f", "lavfi", "-t", str(seconds), "-i", one)]
    maps = [part for number in range(len(sound) + 1) for part in ("-map", str(number))]
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24",
        "-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS), "-i", "-", *sources, *maps,
        "-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-g", "50", "-pix_fmt", "yuv420p",
        "-c:a", "aac", *options, "-movflags", FRAGMENTS, str(path),
    ]  # fmt: skip
    subprocess.run(command, input=frames, check=True)


def make_sound(path: Path, source: str = "aevalsrc=0.4*random(0)-0.2:s=44100", seconds: float = 5) -> None:
    """Write a rendition of sound alone."""
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-f", "lavfi", "-t", str(seconds), "-i", source,
        "-c:a", "aac", "-movflags", FRAGMENTS, "-f", "mp4", str(path),
    ]  # fmt: skip
    subprocess.run(command, check=True)


def silent(_: float) -> None:
    """Nobody listens to the progress."""


def propose(source: Path, folder: Path, **parameters: int) -> RedactionPlan:
    destination = folder / "plan.json"
    request = {
        "source": str(source),
        "destination": str(destination),
        "item_id": "item-1",
        "models_dir": str(models_dir()),
        "threads": 2,
        "parameters": parameters,
    }
    propose_entry(request, silent)
    return plan_from_json(json.loads(destination.read_bytes()))


def of_our_sound(source: Path) -> dict[str, Any]:
    """The record of a rendition whose sound we coded and whose picture was copied."""
    params = {"rung": {"copies_video": True, "copies_audio": False}, "arguments": ["-c:a", "aac"]}
    return {"sha256": hash_file(source).sha256.hex(), "params": params}


def render(source: Path, plan: RedactionPlan, output: Path, **options: Any) -> dict[str, object]:
    request = {"source": str(source), "plan": plan.to_json(), "destination": str(output), **options}
    return render_entry(request, silent)


def check(source: Path, plan: RedactionPlan, output: Path, **options: Any) -> dict[str, Any]:
    request = {
        "source": str(source),
        "plan": plan.to_json(),
        "output": str(output),
        "models_dir": str(models_dir()),
        **options,
    }
    return check_entry(request, silent)
