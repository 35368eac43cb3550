"""One pass over a recording: every frame decoded once, and shown to each detector as often as it asks.

A detector knows pictures and nothing of time; `redaction.track` knows time and nothing of pictures. Here
frames are decoded, scaled by the decoder's thread to the sizes the detectors see, and looked at by as many
threads as there are cores to use.

Which frames are searched for faces `redaction.passes` decides: every one where something begins, ends or is
unsure. What changes less, plates and text, is looked for on every n-th, sooner where frames come slowly
(`redaction.cadence`), at the first and the last frame and at both sides of what may be a cut; tracks carry it
through those between. Each detector has its own cadence; what one finds says nothing about where another
looks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from media.decode import DecodedFrame, VideoShape, open_video
from redaction.cadence import Cadence
from redaction.detectors.network import input_size, merged
from redaction.focus import is_cut, places
from redaction.passes import APART_US, NOTHING, JumpFinder, Passes, PassParameters
from redaction.plan import Picture
from redaction.track import CutFinder
from redaction.turns import TURNS, TurnFinder

MICROSECONDS = 1_000_000
LUMA_STEP = 8
FRAMES_NO_BOUND = 1 << 30
LUMA_OF_RGB = np.array([66, 129, 25], dtype=np.uint16)

Detections = NDArray[np.float32]
Progress = Callable[[float], None]
Scaled = Callable[[int], NDArray[np.uint8]]
"""Gives a frame as coded, RGB24, by its longer side."""


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
    """Every how many frames, where they come fast enough."""
    apart_us: int = APART_US
    """How long before and after a sighting it is masked; looks are no further apart than frames allow."""
    passes: PassParameters | None = None
    """Decides which frames instead, where given."""
    fine_long_side_px: int = 0
    """The longer side of a finer look at the same frame."""
    fine_from_px: int = 0
    """Pictures whose longer side is at least this get the finer look, so often that masks join them."""
    fine_often_from_px: int = 0
    """Pictures whose longer side is at least this get it every `fine_every` frames."""
    fine_every: int = 0
    """Every how many frames at most; 0 never."""
    turned_every: int = 0
    """Where nothing is seen, every how many frames a picture is looked at turned; 0 never."""
    turned_long_side_px: int = 0
    turned_permille: int = 700
    """A turned sighting counts from this score on, until there was one; an upright one of less is doubted."""

    def side(self, width_px: int, height_px: int) -> int:
        """The longer side at which a frame is looked at upright."""
        return min(self.long_side_px, 2 * max(width_px, height_px))

    def finer_every(self, width_px: int, height_px: int) -> int:
        """Every how many frames a recording gets a finer look, if frames come fast enough; 0 never."""
        long_side_px = max(width_px, height_px)
        if not self.fine_every or long_side_px < self.fine_from_px:
            return 0
        return self.fine_every if long_side_px >= self.fine_often_from_px else FRAMES_NO_BOUND


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
class _Looked:
    """What one look at a frame found; boxes in pixels of the picture as coded."""

    coarse: Detections
    """Upright, at the size of every look."""
    fine: Detections | None
    """Upright, at a finer look."""
    turned: tuple[int, Detections] | None

    @property
    def upright(self) -> Detections:
        return self.coarse if self.fine is None else merged([self.coarse, self.fine])

    @property
    def again(self) -> Detections:
        """What another look may find again: what a finer one alone can see asks for none."""
        return self.coarse if self.turned is None else merged([self.coarse, self.turned[1]])

    @property
    def boxes(self) -> Detections:
        return self.upright if self.turned is None else merged([self.upright, self.turned[1]])


class _Watching:
    """One watch while a recording goes by: what it is shown, and what it found.

    Looks are begun in the order of the frames, but those of a second pass, and heard in the order they were
    begun in, so that the same recording is looked at the same way every time.
    """

    def __init__(self, watch: Watch, shape: VideoShape, pool: Executor) -> None:
        self._watch = watch
        self._shape = shape
        self._pool = pool
        self._turns = TurnFinder(watch.turned_every, watch.strong_permille, watch.turned_permille)
        self._passes = None if watch.passes is None else Passes(watch.passes, watch.apart_us)
        self._cadence, self._fine = Cadence(watch.apart_us), Cadence(watch.apart_us)
        self._jumps = JumpFinder()
        self._previous: tuple[int, Scaled] | None = None
        """The last frame shown, if nobody looked at it: the next one, or the end, tells whether to."""
        self._last_fine: tuple[int, Scaled] | None = None
        """The last frame shown, if nobody looked at it finer: as the last of a recording somebody does."""
        self._running: dict[int, Future[_Looked]] = {}
        """Looks that are not heard yet; what is left of the others is their boxes."""
        self._found: dict[int, Detections] = {}
        self._again: dict[int, Detections] = {}
        self._probes: dict[int, Detections] = {}
        self._unheard: deque[tuple[int, Future[_Looked]]] = deque()

    def show(self, index: int, time_us: int, luma: NDArray[np.uint8], scaled: Scaled) -> None:
        """Show the next frame."""
        watch, most = self._watch, 2 * max(self._size_px)
        if self._passes is None:
            self._show_by_cadence(index, time_us, luma, scaled)
        else:
            every = watch.finer_every(*self._size_px)
            is_fine = bool(every) and self._fine.due(index, time_us, every).this
            fine = scaled(watch.fine_long_side_px) if is_fine else None
            self._last_fine = None if is_fine or not every else (index, scaled)
            begin = partial(self._begin, index, scaled(watch.side(*self._size_px)), fine)
            self._passes.add(time_us, luma, begin, insist=is_fine)
        if turn := self._turns.probe(index):
            picture = scaled(min(watch.turned_long_side_px, most))
            self._unheard.append((index, self._pool.submit(self._look, None, None, picture, turn)))

    def hear(self, *, until_waiting: int) -> None:
        """Hear what the oldest looks found, until that many are unheard."""
        while len(self._unheard) > until_waiting:
            index, future = self._unheard.popleft()
            looked = future.result()
            if future is self._running.get(index):
                del self._running[index]
                self._found[index], self._again[index] = looked.boxes, looked.again
                self._turns.hear(index, looked.upright, looked.turned)
            elif looked.turned is not None:
                turn, boxes = looked.turned
                self._probes[index] = self._turns.sure(boxes)
                if self._turns.hear_probe(index, turn, boxes) and self._passes is not None:
                    # What lies there is looked at in full, and with it what is still held of before.
                    self._passes.insist(index)
            elif looked.fine is not None:
                self._probes[index] = looked.fine

    def finish(self, frame_count: int) -> list[Detections]:
        """What was found in each frame; nothing where nobody looked."""
        self._look_at_previous()
        if self._last_fine is not None:
            index, scaled = self._last_fine
            fine = scaled(self._watch.fine_long_side_px)
            self._unheard.append((index, self._pool.submit(self._look, None, fine, None, 0)))
        self.hear(until_waiting=0)
        if self._passes is not None:
            self._passes.finish()
            self.hear(until_waiting=0)
        found = [NOTHING] * frame_count
        for index in {*self._found, *self._probes}:
            found[index] = merged([kept[index] for kept in (self._found, self._probes) if index in kept])
        return found

    @property
    def _size_px(self) -> tuple[int, int]:
        return self._shape.width_px, self._shape.height_px

    def _show_by_cadence(self, index: int, time_us: int, luma: NDArray[np.uint8], scaled: Scaled) -> None:
        jumped, _ = self._jumps.add(luma)
        due = self._cadence.due(index, time_us, self._watch.every, insist=jumped)
        if jumped or due.previous:
            self._look_at_previous()
        self._previous = (index, scaled)
        if due.this:
            self._look_at_previous()

    def _look_at_previous(self) -> None:
        if self._previous is not None:
            index, scaled = self._previous
            self._begin(index, scaled(self._watch.side(*self._size_px)))
            self._previous = None

    def _begin(
        self,
        index: int,
        picture: NDArray[np.uint8],
        fine: NDArray[np.uint8] | None = None,
        near: Detections | None = None,
    ) -> Callable[[], Detections]:
        # The turn is that of now: frames that were held are looked at as their successors told.
        turn = self._turns.turn
        future = self._pool.submit(self._look, picture, fine, picture if turn else None, turn, near)
        self._running[index] = future
        self._unheard.append((index, future))
        return partial(self._answer, index)

    def _answer(self, index: int) -> Detections:
        running = self._running.get(index)
        return self._again[index] if running is None else running.result().again

    def _look(
        self,
        picture: NDArray[np.uint8] | None,
        fine: NDArray[np.uint8] | None,
        turned: NDArray[np.uint8] | None,
        turn: int,
        near: Detections | None = None,
    ) -> _Looked:
        see = partial(_boxes, self._watch.detector, size_px=self._size_px)
        rotation = self._shape.rotation
        coarse = NOTHING
        if picture is not None:
            around = None if turned is not None else near
            coarse = see(picture, rotation) if around is None else self._look_around(around, picture)
        return _Looked(
            coarse,
            None if fine is None else see(fine, rotation),
            None if turned is None else (turn, see(turned, rotation + turn)),
        )

    def _look_around(self, near: Detections, picture: NDArray[np.uint8]) -> Detections:
        """What is found around what was seen; in all of the picture where something reaches beyond."""
        height, width = picture.shape[:2]
        seen_px, rotation, detector = (width, height), self._shape.rotation, self._watch.detector
        found = []
        for place in places(near, self._size_px, seen_px):
            part = picture[place.y0 : place.y1, place.x0 : place.x1]
            boxes = _boxes(detector, part, rotation, (place.width_px, place.height_px))
            if is_cut(boxes, place, seen_px):
                return _boxes(detector, picture, rotation, self._size_px)
            boxes[:, :4] = (boxes[:, :4] + [place.x0, place.y0] * 2) * (
                [self._size_px[0] / width, self._size_px[1] / height] * 2
            )
            found.append(boxes)
        return np.concatenate(found)


def look(
    source: Path,
    watches: Sequence[Watch],
    *,
    threads: int,
    progress: Progress = lambda _: None,
) -> Sightings:
    """Show the frames of a recording to each detector whose turn it is; the first may look at every frame.

    Decoding and scaling stay in the calling thread; only pixels of our own go to the others.
    """
    with open_video(source, threads=threads) as video, ThreadPoolExecutor(threads) as pool:
        shape = video.shape
        cuts = CutFinder()
        watching = [_Watching(watch, shape, pool) for watch in watches]
        pts: list[int] = []
        times: list[int] = []
        unreadable: list[int] = []
        promised = shape.frame_count or _frames_in(shape.duration * shape.time_base, shape.rate)
        base = shape.time_base
        first_side = watches[0].side(shape.width_px, shape.height_px)
        for frame in video:
            if frame.corrupt:
                unreadable.append(frame.index)
            scaled = _scaler(frame)
            luma = _small_luma(scaled(first_side))
            cuts.add(luma)
            pts.append(frame.pts)
            times.append(frame.pts * base.numerator * MICROSECONDS // base.denominator)
            for one in watching:
                one.show(frame.index, times[-1], luma, scaled)
                # Few looks ahead are enough to keep every thread busy, and bound what is held in memory.
                one.hear(until_waiting=2 * threads)
            progress(min(0.99, len(pts) / promised) if promised else 0.0)
        detections = [one.finish(len(pts)) for one in watching]
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


def _scaler(frame: DecodedFrame) -> Scaled:
    """Scales a frame, to each size once."""

    @cache
    def of(size: tuple[int, int]) -> NDArray[np.uint8]:
        return frame.rgb(*size)

    return lambda side: of(input_size(frame.width_px, frame.height_px, side))


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
