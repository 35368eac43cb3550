"""One pass over a recording: every frame decoded once, and shown to each detector as often as it asks.

A detector knows pictures and nothing of time; `redaction.track` knows time and nothing of pictures. Here
frames are decoded, scaled by the decoder's thread to the sizes the detectors see, and looked at by as many
threads as there are cores to use.

Faces are looked for on every frame, since a face between two frames looked at would be bare. What costs more
than it must, plates and text, is looked for on every n-th, and tracks carry it through the frames between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from media.decode import DecodedFrame, VideoShape, open_video
from redaction.detectors.network import input_size, merged
from redaction.plan import Picture
from redaction.track import CutFinder

MICROSECONDS = 1_000_000
LUMA_STEP = 8
LUMA_OF_RGB = np.array([66, 129, 25], dtype=np.uint16)
TURNS = (90, 270)

Detections = NDArray[np.float32]
Progress = Callable[[float], None]


class Detector(Protocol):
    """Finds things of one kind in single pictures; the suite in `tests/contract` is its contract."""

    family: str
    """Name of its kind of network; a check of the output is worth more from another family."""
    finds: str
    """What it finds: a class of `redaction.plan.TRACK_CLASSES`."""
    model_digest: str
    """SHA-256 of the weights that look, lowercase hex."""

    def detect(self, frames: NDArray[np.uint8]) -> list[Detections]:
        """Find things in pictures of one size; safe to call from several threads at once.

        Args:
            frames: RGB24, ``(n, height, width, 3)``, uint8, upright.

        Returns:
            For each picture ``(k, 5)``, float32: x0, y0, x1, y1 inside the picture, in its pixels, and a
            score of 0 to 1.
        """
        ...


@dataclass(frozen=True)
class Watch:
    """A detector, and when it is shown what; whole numbers, because they are part of the plan."""

    detector: Detector
    strong_permille: int
    """Sightings from this score on are masked, whatever stands around them."""
    long_side_px: int
    """The longer side at which it looks; small pictures are at most doubled."""
    every: int = 1
    """Every how many frames."""
    fine_long_side_px: int = 0
    """The longer side of a second look."""
    fine_from_px: int = 0
    """Pictures whose longer side is at least this get the second look."""
    fine_every: int = 0
    """Every how many frames; 0 never."""
    turned_every: int = 0
    """Where nothing is seen, every how many frames a picture is looked at turned; 0 never."""
    turned_long_side_px: int = 0
    turned_permille: int = 700
    """A turned sighting counts from this score on, until there was one; an upright one of less is doubted."""

    def sides(self, width_px: int, height_px: int, index: int) -> list[int]:
        """The longer sides at which frame ``index`` is looked at upright."""
        if index % self.every:
            return []
        sides = [min(self.long_side_px, 2 * max(width_px, height_px))]
        is_large = max(width_px, height_px) >= self.fine_from_px
        if is_large and self.fine_every and index % self.fine_every == 0:
            sides.append(self.fine_long_side_px)
        return sides


class TurnFinder:
    """Which way a camera lies, told from where faces are found.

    Every frame is looked at upright. While that finds nothing for sure, one frame in a few is looked at
    turned too, to the left and to the right by turns. A turn that finds something is looked at on every frame
    for as long as it goes on. A turned look adds; it never takes one away.
    """

    LASTS_FRAMES = 50

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._is_bare = True
        self._turn = 0
        self._last_seen = 0
        self._probes = 0

    def sides(self, width_px: int, height_px: int, index: int) -> list[tuple[int, int]]:
        """How else to look at frame ``index``: degrees counter-clockwise, and longer side."""
        watch = self._watch
        most = 2 * max(width_px, height_px)
        if self._turn:
            return [(self._turn, min(watch.long_side_px, most))]
        if not watch.turned_every or not self._is_bare or index % watch.turned_every:
            return []
        self._probes += 1
        return [(TURNS[self._probes % len(TURNS)], min(watch.turned_long_side_px, most))]

    def hear(self, index: int, looks: Sequence[tuple[int, Detections]]) -> list[Detections]:
        """Hear what each look at a frame found, oldest frame first.

        Args:
            index: The frame.
            looks: The turn of each look, and its boxes.

        Returns:
            Of each look, what counts.
        """
        strong, sure = self._watch.strong_permille / 1000, self._watch.turned_permille / 1000
        upright = [boxes for turn, boxes in looks if turn == 0]
        if upright:
            self._is_bare = not any((boxes[:, 4] >= sure).any() for boxes in upright)
        counts = []
        for turn, boxes in looks:
            is_probe = turn not in (0, self._turn)
            counted = boxes[boxes[:, 4] >= sure] if is_probe else boxes
            if is_probe and len(counted) and not self._turn:
                self._turn, self._last_seen = turn, index
            elif turn and not is_probe and (boxes[:, 4] >= strong).any():
                self._last_seen = index
            counts.append(counted)
        if self._turn and index - self._last_seen > self.LASTS_FRAMES:
            self._turn = 0
        return counts


@dataclass
class Sightings:
    """Everything one pass over a recording brought."""

    picture: Picture
    detections: list[list[Detections]]
    """For each watch, for each frame ``(k, 5)``, float32: source pixels as coded, score."""
    pts: list[int]
    times_us: NDArray[np.int64]
    cuts: list[int] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)
    """Frames that the decoder could not vouch for."""


@dataclass(frozen=True)
class _View:
    """One picture for one watch to look at."""

    watch: int
    turn: int
    """Degrees counter-clockwise beyond the upright."""
    rgb: NDArray[np.uint8]
    """As coded, scaled."""


def look(
    source: Path,
    watches: Sequence[Watch],
    *,
    threads: int,
    progress: Progress = lambda _: None,
) -> Sightings:
    """Show every frame of a recording to each detector whose turn it is; the first looks at every frame.

    Decoding and scaling stay in the calling thread; only pixels of our own go to the others.
    """
    with open_video(source, threads=threads) as video, ThreadPoolExecutor(threads) as pool:
        shape = video.shape
        cuts = CutFinder()
        turns = [TurnFinder(watch) for watch in watches]
        pts: list[int] = []
        unreadable: list[int] = []
        detections: list[list[Detections]] = [[] for _ in watches]
        under_way: deque[Future[list[tuple[_View, Detections]]]] = deque()
        promised = shape.frame_count or _frames_in(shape.duration * shape.time_base, shape.rate)

        def take() -> None:
            index = len(pts) - len(under_way)
            looks = under_way.popleft().result()
            for number, finder in enumerate(turns):
                own = [(view.turn, boxes) for view, boxes in looks if view.watch == number]
                counts = finder.hear(index, own)
                detections[number].append(merged(counts) if counts else np.empty((0, 5), np.float32))

        for frame in video:
            if frame.corrupt:
                unreadable.append(frame.index)
            views = list(_views(frame, watches, turns))
            cuts.add(_small_luma(views[0].rgb))
            pts.append(frame.pts)
            under_way.append(pool.submit(_look_at, watches, views, shape))
            # Few frames ahead are enough to keep every thread busy, and bound what is held in memory.
            while len(under_way) > 2 * threads:
                take()
            progress(min(0.99, len(pts) / promised) if promised else 0.0)
        while under_way:
            take()
    base = shape.time_base
    times = [time * base.numerator * MICROSECONDS // base.denominator for time in pts]
    return Sightings(
        picture=Picture(
            shape.width_px, shape.height_px, (base.numerator, base.denominator), len(pts), pts[0], pts[-1]
        ),
        detections=detections,
        pts=pts,
        times_us=np.array(times, dtype=np.int64),
        cuts=cuts.finish(),
        unreadable=unreadable,
    )


def look_at_photo(rgb: NDArray[np.uint8], watches: Sequence[Watch]) -> list[Detections]:
    """Show one still to each detector at both sizes, and turned where nothing is seen upright.

    Args:
        rgb: ``(height, width, 3)``, uint8.
        watches: The detectors.

    Returns:
        For each ``(k, 5)``, float32.
    """
    height, width = rgb.shape[:2]
    shape = (width, height)
    found = []
    for watch in watches:
        most = 2 * max(shape)
        sides = {min(watch.long_side_px, most), min(watch.fine_long_side_px or watch.long_side_px, most)}
        looks = [_boxes(watch.detector, _scaled(rgb, side), 0, shape) for side in sorted(sides)]
        if watch.turned_every and not any((one[:, 4] >= watch.turned_permille / 1000).any() for one in looks):
            seen = _scaled(rgb, min(watch.long_side_px, most))
            turned = [_boxes(watch.detector, seen, turn, shape) for turn in TURNS]
            looks += [one[one[:, 4] >= watch.turned_permille / 1000] for one in turned]
        found.append(merged(looks))
    return found


def _scaled(rgb: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    size = input_size(rgb.shape[1], rgb.shape[0], side)
    how = cv2.INTER_AREA if size[0] < rgb.shape[1] else cv2.INTER_LINEAR
    return cv2.resize(rgb, size, interpolation=how).astype(np.uint8, copy=False)


def _views(frame: DecodedFrame, watches: Sequence[Watch], turns: Sequence[TurnFinder]) -> Iterator[_View]:
    """The pictures of a frame that detectors are shown; each size is scaled once."""
    made: dict[tuple[int, int], NDArray[np.uint8]] = {}
    for number, (watch, finder) in enumerate(zip(watches, turns, strict=True)):
        size_px = (frame.width_px, frame.height_px)
        upright = [(0, side) for side in watch.sides(*size_px, frame.index)]
        for turn, side in [*upright, *finder.sides(*size_px, frame.index)]:
            size = input_size(*size_px, side)
            if size not in made:
                made[size] = frame.rgb(*size)
            yield _View(number, turn, made[size])


def _look_at(
    watches: Sequence[Watch], views: Sequence[_View], shape: VideoShape
) -> list[tuple[_View, Detections]]:
    """What is found in each view, in pixels of the picture as coded."""
    size_px = (shape.width_px, shape.height_px)
    return [
        (view, _boxes(watches[view.watch].detector, view.rgb, shape.rotation + view.turn, size_px))
        for view in views
    ]


def _boxes(detector: Detector, rgb: NDArray[np.uint8], rotation: int, size_px: tuple[int, int]) -> Detections:
    """What a detector finds in a picture turned counter-clockwise, in pixels of one of ``size_px``."""
    upright = np.ascontiguousarray(np.rot90(rgb, rotation // 90))
    boxes = _turned_back(detector.detect(upright[None])[0], rotation % 360, *upright.shape[1::-1])
    seen_height, seen_width = rgb.shape[:2]
    width_px, height_px = size_px
    boxes[:, 0:4:2] = (boxes[:, 0:4:2] * (width_px / seen_width)).clip(0, width_px)
    boxes[:, 1:4:2] = (boxes[:, 1:4:2] * (height_px / seen_height)).clip(0, height_px)
    return boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]


def _turned_back(boxes: Detections, rotation: int, width: int, height: int) -> Detections:
    """Boxes of a picture that was turned counter-clockwise, in the picture as it was."""
    for _ in range(rotation // 90):
        x0, y0, x1, y1, score = boxes.T
        boxes = np.stack([height - y1, x0, height - y0, x1, score], axis=1)
        width, height = height, width
    return boxes


def _small_luma(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    few = rgb[::LUMA_STEP, ::LUMA_STEP].astype(np.uint16)
    return ((few @ LUMA_OF_RGB) >> 8).astype(np.uint8)


def _frames_in(seconds: Fraction, rate: Fraction | None) -> int:
    return int(seconds * rate) if rate else 0
