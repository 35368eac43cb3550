"""Footage on which redaction tends to fail, with the exact place of every face in every frame.

For scoring and for tests; it needs no footage of anyone. One portrait is pasted on known paths: rotated,
dark, blurred, tiny, across cuts and borders of groups of pictures, out of the detector's sight for a while,
behind a pillar, past another face, in at an edge, there for a moment. The truth is written beside each clip
in the form that `redaction.score` reads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Pixels = NDArray[np.uint8]
FPS = 25
# Head and shoulders within the portrait, and the face within those as shares of their side, by eye:
# eyebrows to chin, ear to ear.
HEAD = (125, 30, 325, 230)
FACE_CENTRE = (0.49, 0.49)
FACE_HALF = (0.21, 0.29)
# Of a face that is hidden or outside by more than this, nothing is asked.
HIDDEN_SHARE = 0.5
DROP_OUTS = (1, 2, 3, 5, 8, 15)


@dataclass(frozen=True)
class Pose:
    """A face in one frame: its centre and height in pixels, and what has been done to it."""

    x: float
    y: float
    height_px: float = 34
    angle: float = 0.0
    """Degrees counter-clockwise."""
    blur: float = 0.0
    """Standard deviation as a share of the face's height."""
    is_mirrored: bool = False

    def box(self) -> tuple[int, int, int, int]:
        """The upright box around the turned face: x0, y0, x1, y1 in pixels."""
        side = self.height_px / (2 * FACE_HALF[1])
        across, down = (share * side for share in FACE_HALF)
        turn = math.radians(self.angle)
        half_width = math.hypot(across * math.cos(turn), down * math.sin(turn))
        half_height = math.hypot(across * math.sin(turn), down * math.cos(turn))
        return (
            round(self.x - half_width),
            round(self.y - half_height),
            round(self.x + half_width),
            round(self.y + half_height),
        )


Poses = Callable[[int], Sequence[Pose | None]]
"""For each frame the pose of each person, always in the same order; None for one who is not there."""


@dataclass(frozen=True)
class Hazard:
    """One clip to make."""

    name: str
    shows: str
    """In Chinese and English."""
    poses: Poses
    frame_count: int = 75
    width_px: int = 320
    height_px: int = 180
    cuts: tuple[int, ...] = ()
    """Frames at which the wall becomes another."""
    light: float = 1.0
    pillar: tuple[int, int] | None = None
    """Columns in front of everybody."""
    keyframe_every: int = 50
    is_still: bool = False
    """The camera stands; otherwise the wall slides by a pixel in four frames."""


def _alone(pose: Callable[[int], Pose | None]) -> Poses:
    return lambda frame: (pose(frame),)


def _sway(frame: int, **facts: Any) -> Pose:
    """Across the picture and back, up to six pixels a frame."""
    return Pose(160 - 120 * math.cos(frame / 20), 90 + 30 * math.sin(frame / 9), **facts)


def _in_scenes(frame: int) -> Pose | None:
    if 30 <= frame < 45:
        return None
    return Pose(70 + frame, 80) if frame < 30 else Pose(250 - frame, 110, 44)


def _dropping_out(frame: int) -> Pose:
    at, is_blind = 12, False
    for length in DROP_OUTS:
        is_blind = is_blind or at <= frame < at + length
        at += length + 12
    return _sway(frame, blur=0.45 if is_blind else 0.0)


def _turning_round(frame: int) -> Pose:
    """Back again in the time in which nobody sees it."""
    x = 40 + 6 * frame if frame < 30 else 40 + 6 * (60 - frame)
    return Pose(x, 90, blur=0.45 if 23 <= frame < 37 else 0.0)


def _turned_away(frame: int) -> Pose:
    return Pose(60 + 1.2 * frame, 90, blur=0.45 if 40 <= frame < 115 else 0.0)


def _there_and_back(frame: int) -> Pose:
    """Walks to the right, on for two seconds in which nobody sees it, and back for two more."""
    unseen = frame - 20
    if not 0 <= unseen < 100:
        return Pose(60 + 5 * frame, 90) if unseen < 0 else Pose(160 - 5 * (unseen - 100), 90)
    return Pose(160 + 2.6 * min(unseen, 100 - unseen), 90, blur=0.45)


def _in_and_out(frame: int) -> Pose:
    return Pose(-30 + 3 * frame, 60, 44) if frame < 60 else Pose(150 - 9 * (frame - 60), 120, 40)


HAZARDS = (
    Hazard("moving", "移动 moving", _alone(_sway)),
    Hazard(
        "long", "较长 longer, to and fro", _alone(lambda frame: _sway(frame, height_px=40)), frame_count=400
    ),
    Hazard(
        "fast", "快速 fast, 9 px a frame", _alone(lambda frame: Pose(-20 + 9 * frame, 90)), frame_count=45
    ),
    Hazard(
        "rotated", "倾斜 head rolls, 50°", _alone(lambda frame: _sway(frame, angle=50 * math.sin(frame / 10)))
    ),
    Hazard("dark", "昏暗 dark and noisy", _alone(_sway), light=0.12),
    Hazard("blurred", "模糊 out of focus", _alone(lambda frame: _sway(frame, blur=0.07))),
    Hazard(
        "tiny", "极小 12 px high",
        _alone(lambda frame: Pose(200 + 2 * frame, 160 + frame / 2, 12)), width_px=640, height_px=360,
    ),
    Hazard("cuts", "镜头切换 across cuts", _alone(_in_scenes), cuts=(30, 45)),
    Hazard(
        "groups", "跨画面组 nearing across groups of 10",
        _alone(lambda frame: Pose(60 + 2 * frame, 80 + frame / 4, 20 + frame * 0.7)), keyframe_every=10,
    ),
    Hazard("drop-outs", "漏检 unseen for 1 to 15 frames", _alone(_dropping_out), frame_count=120),
    Hazard(
        "turning", "漏检中折返 turns round unseen", _alone(_turning_round), frame_count=60,
    ),
    Hazard(
        "away", "背身行走三秒 walks turned away for 3 s", _alone(_turned_away), frame_count=150,
    ),
    Hazard(
        "there-and-back", "背身往返四秒 goes and comes back turned away, 4 s", _alone(_there_and_back),
        frame_count=140,
    ),
    Hazard("lying", "横躺 lying, 90°", _alone(lambda frame: Pose(160 + frame / 2, 90, 44, angle=90))),
    Hazard(
        "pillar", "遮挡 behind a pillar",
        _alone(lambda frame: Pose(20 + 4 * frame, 90)), pillar=(130, 190),
    ),
    Hazard(
        "crossing", "交错 two cross",
        lambda frame: (Pose(30 + 3.5 * frame, 86), Pose(290 - 3.5 * frame, 94, is_mirrored=True)),
    ),
    Hazard(
        "edges", "进出画面 in and out at the edges",
        _alone(_in_and_out), frame_count=90,
    ),
    Hazard(
        "moment", "一闪而过 there for 4 frames only",
        _alone(lambda frame: Pose(200, 80, 40) if 33 <= frame < 37 else None), is_still=True,
    ),
)  # fmt: skip


def make_hazard(hazard: Hazard, portrait: Path, folder: Path) -> Path:
    """Write one clip, an MP4 of H.264 without sound, and its truth beside it.

    Args:
        hazard: What to make.
        portrait: The astronaut of the samples.
        folder: Where; the files are named after the hazard.

    Returns:
        The clip.
    """
    clip = folder / f"{hazard.name}.mp4"
    with Image.open(portrait) as opened:
        head = opened.convert("RGB").crop(HEAD)
    frames = []
    random = np.random.default_rng(len(hazard.name))
    with av.open(str(clip), "w") as container:
        options = {"preset": "veryfast", "crf": "18", "threads": "2"}
        stream: Any = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = hazard.width_px, hazard.height_px, "yuv420p"
        stream.codec_context.time_base = Fraction(1, FPS)
        stream.codec_context.gop_size = hazard.keyframe_every
        for number in range(hazard.frame_count):
            poses = hazard.poses(number)
            pixels = _drawn(hazard, number, poses, head, random)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
            faces = [_truth(hazard, person, pose) for person, pose in enumerate(poses) if pose is not None]
            frames.append({"frame": number, "t": number / FPS, "faces": [face for face in faces if face]})
        container.mux(stream.encode(None))
    truth = {
        "clip": clip.name,
        "size": [hazard.width_px, hazard.height_px],
        "fps": FPS,
        "note": "generated; every frame, every face",
        "frames": frames,
    }
    clip.with_suffix(".faces.json").write_text(json.dumps(truth), encoding="utf-8")
    return clip


def _truth(hazard: Hazard, person: int, pose: Pose) -> dict[str, object] | None:
    """What is asked of one face in one frame; None when it is wholly outside."""
    x0, y0, x1, y1 = pose.box()
    inside = (max(0, x0), max(0, y0), min(hazard.width_px, x1), min(hazard.height_px, y1))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        return None
    open_px = inside[2] - inside[0]
    if hazard.pillar is not None:
        open_px -= max(0, min(inside[2], hazard.pillar[1]) - max(inside[0], hazard.pillar[0]))
    shown = open_px * (inside[3] - inside[1]) / ((x1 - x0) * (y1 - y0))
    return {"box": list(inside), "tier": "must" if shown > HIDDEN_SHARE else "ignore", "person": person}


def _drawn(
    hazard: Hazard, number: int, poses: Sequence[Pose | None], head: Image.Image, random: np.random.Generator
) -> Pixels:
    """One picture: RGB24, ``(height, width, 3)``, uint8."""
    picture = Image.fromarray(_wall(hazard, number))
    for pose in poses:
        if pose is not None:
            _paste(picture, head, pose)
    if hazard.pillar is not None:
        left, right = hazard.pillar
        ImageDraw.Draw(picture).rectangle((left, 0, right - 1, hazard.height_px), fill=(96, 88, 80))
    pixels = np.asarray(picture)
    if hazard.light == 1.0:
        return pixels
    noise = random.normal(0, 4, pixels.shape)
    dark: Pixels = (pixels * hazard.light + noise).clip(0, 255).astype(np.uint8)
    return dark


def _wall(hazard: Hazard, number: int) -> Pixels:
    scene = sum(cut <= number for cut in hazard.cuts)
    coarse = np.random.default_rng(scene + 1).integers(60, 200, (12, 24, 3)).astype(np.uint8)
    size = (hazard.width_px + 64, hazard.height_px)
    wall = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
    shift = 0 if hazard.is_still else number // 4 % 64
    part = wall[:, shift : shift + hazard.width_px]
    return 255 - part // 3 if scene % 2 else part


def _paste(picture: Image.Image, head: Image.Image, pose: Pose) -> None:
    """Put a head into the picture, its edge fading into what is behind it."""
    side = max(4, round(pose.height_px / (2 * FACE_HALF[1])))
    pixels = head.resize((side, side), Image.Resampling.LANCZOS)
    seen = Image.new("L", (side, side), 0)
    ImageDraw.Draw(seen).ellipse((side * 0.04, 0, side * 0.94, side), fill=255)
    seen = seen.filter(ImageFilter.GaussianBlur(side * 0.03))
    if pose.is_mirrored:
        pixels = pixels.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        seen = seen.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if pose.blur:
        pixels = pixels.filter(ImageFilter.GaussianBlur(pose.blur * pose.height_px))
    # Turned about the face, which is not quite the middle.
    share = 1 - FACE_CENTRE[0] if pose.is_mirrored else FACE_CENTRE[0]
    centre = (share * side, FACE_CENTRE[1] * side)
    pixels = pixels.rotate(pose.angle, Image.Resampling.BICUBIC, center=centre)
    seen = seen.rotate(pose.angle, Image.Resampling.BICUBIC, center=centre)
    picture.paste(pixels, (round(pose.x - centre[0]), round(pose.y - centre[1])), seen)
