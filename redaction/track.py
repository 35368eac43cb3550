"""Join what a detector saw in single frames into tracks, and give each track a mask in every frame.

Rules, in order of weight (docs/design/redaction.md):

1. A mask is never less than the detection it stands for (invariant 9).
2. Between a track's first and last sighting every frame has a mask.
3. A track ends at a scene cut: what was there before says nothing about what is there after.
4. What is not known is covered more widely: the longer since a sighting and the faster it moved,
   the larger the mask. A long gap is covered by the union of both ends and reported as doubtful.

Pure: numbers in, numbers out. Frames are counted from 0 and timed in microseconds.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from redaction.geometry import Box, between, outward

Boxes = NDArray[np.float64]
MICROSECONDS = 1_000_000
# How far a face may have moved between two sightings, in face sizes: at once, per second, and at most.
REACH_AT_ONCE = 0.6
REACH_PER_S = 1.5
REACH_MAX = 2.0
SIZE_CHANGE_MAX = 2.2
# The same for one who comes back after long, turned away meanwhile: never less than one size, more with time.
RETURN_AT_LEAST = 1.0
RETURN_PER_S = 1.5
RETURN_MAX = 4.0
# How fast an unseen mask grows, in face sizes per second, and how far.
GROWTH_PER_S = 1.0
GROWTH_MAX = 0.5
VELOCITY_SIGHTINGS = 5
VELOCITY_SPAN_US, VELOCITY_SPAN_ALONE_US = 400_000, 1_000_000
TURNING_SPAN_US = 1_000_000
KEY_REACH = 64


@dataclass(frozen=True)
class TrackParameters:
    """How sightings become masks."""

    strong_permille: int = 200
    """A sighting of at least this score is masked, whatever stands around it."""
    gap_us: int = 2_000_000
    """Two sightings no further apart than this are one track; the gap is filled by interpolation."""
    long_gap_us: int = 10_000_000
    """A track seen again within this, and within reach, is one track; the gap is doubtful."""
    pad_us: int = 500_000
    """How long a mask stands before the first and after the last sighting."""
    margin_permille: int = 180
    """Share of a face's width and height added on each side."""


@dataclass(frozen=True)
class Gap:
    """A time between two sightings of a track that is longer than going on and coming back are covered."""

    before: int
    after: int
    """The frames of the sightings."""
    box_before: Boxes
    box_after: Boxes
    """What was seen there, ``(4,)``."""


@dataclass
class FoundTrack:
    """One object followed through frames; arrays have one row per frame from ``first_frame`` on."""

    first_frame: int
    masks: Boxes
    """``(n, 4)``: what to hide."""
    needed: Boxes
    """``(n, 4)``: what simplification may never uncover; inside ``masks``."""
    sighted: NDArray[np.bool_]
    score: float
    """The best of its sightings."""
    doubtful: list[tuple[int, int]] = field(default_factory=list)
    """Spans of frames, both ends included, where a long gap was bridged."""
    gaps: list[Gap] = field(default_factory=list)
    """Where more may be covered, by whoever can look at the picture (`redaction.follow`)."""
    margin: float = 0.0
    """Share of a sighting's width and height that its mask is larger by on each side."""

    @property
    def last_frame(self) -> int:
        return self.first_frame + len(self.masks) - 1

    def covers(self, frame: int, box: Boxes) -> bool:
        """Whether what simplification never uncovers holds a box, ``(4,)``, in a frame."""
        if not self.first_frame <= frame <= self.last_frame:
            return False
        needed = self.needed[frame - self.first_frame]
        return bool((needed[:2] <= box[:2]).all() and (needed[2:] >= box[2:]).all())


class CutFinder:
    """Finds scene cuts while frames go by.

    A cut changes both the histogram and the picture itself, and lasts: a flash or a blink of the
    exposure control comes back to the old picture and is none. Missing a cut only masks more.
    """

    BINS = 32
    HISTOGRAM_CHANGE = 0.25
    PICTURE_CHANGE = 22.0
    LASTS_FRAMES = 4

    def __init__(self) -> None:
        self._index = -1
        self._recent: deque[NDArray[np.float32]] = deque(maxlen=self.LASTS_FRAMES)
        self._shares: NDArray[np.float64] | None = None
        self._candidates: deque[tuple[int, NDArray[np.float32]]] = deque()
        self._cuts: list[int] = []

    def add(self, luma: NDArray[np.uint8]) -> None:
        """Look at the next frame; ``luma`` is ``(h, w)``, uint8, small, of one size throughout."""
        self._index += 1
        picture = luma.astype(np.float32)
        shares = np.bincount((luma >> 3).ravel(), minlength=self.BINS) / luma.size
        while self._candidates and self._index - self._candidates[0][0] >= self.LASTS_FRAMES:
            self._decide(picture)
        if self._shares is not None:
            change = float(np.abs(shares - self._shares).sum()) / 2
            # Unlike all recent pictures, or it is the end of a flash.
            if change >= self.HISTOGRAM_CHANGE and all(
                _differs(picture, earlier, self.PICTURE_CHANGE) for earlier in self._recent
            ):
                self._candidates.append((self._index, self._recent[-1]))
        self._recent.append(picture)
        self._shares = shares

    def finish(self) -> list[int]:
        """The frames that begin a new scene, ascending; never frame 0."""
        while self._candidates:
            self._decide(self._recent[-1])
        return self._cuts

    def _decide(self, now: NDArray[np.float32]) -> None:
        index, reference = self._candidates.popleft()
        if _differs(now, reference, self.PICTURE_CHANGE):
            self._cuts.append(index)


def _differs(first: NDArray[np.float32], second: NDArray[np.float32], least: float) -> bool:
    return float(np.abs(first - second).mean()) >= least


@dataclass
class _Tracklet:
    """Sightings that belong together, none further from the next than the gap."""

    frames: list[int]
    boxes: list[Boxes]
    scores: list[float]
    bridged: list[tuple[int, int]] = field(default_factory=list)

    def velocity(
        self, times_us: NDArray[np.int64], *, before: int | None = None, after: int | None = None
    ) -> NDArray[np.float64]:
        """Mean motion of the centre near one sighting, in pixels per second, ``(2,)``.

        Args:
            times_us: When each frame is shown.
            before: The sighting, by its place, whose past is meant.
            after: The one whose future is meant.
        """
        if before is not None:
            span = slice(max(0, before + 1 - VELOCITY_SIGHTINGS), before + 1)
        else:
            span = slice(after, (after or 0) + VELOCITY_SIGHTINGS)
        frames, boxes = self.frames[span], self.boxes[span]
        anchor = times_us[frames[0 if before is None else -1]]
        apart_us = [abs(int(times_us[frame] - anchor)) for frame in frames]
        near = [i for i, apart in enumerate(apart_us) if apart <= VELOCITY_SPAN_US]
        if len(near) == 1:
            # Looks that are farther apart: the one sighting next to it says at least something.
            near = [i for i, apart in enumerate(apart_us) if apart <= VELOCITY_SPAN_ALONE_US]
            near = near[-2:] if before is not None else near[:2]
        first, last = near[0], near[-1]
        elapsed = int(times_us[frames[last]] - times_us[frames[first]])
        if elapsed <= 0:
            return np.zeros(2)
        moved: NDArray[np.float64] = _centres(boxes[last][None])[0] - _centres(boxes[first][None])[0]
        return moved * (MICROSECONDS / elapsed)


def join(
    detections: Sequence[NDArray[np.float32]],
    times_us: NDArray[np.int64],
    cuts: Sequence[int],
    parameters: TrackParameters | None = None,
) -> list[FoundTrack]:
    """Follow every detection through time.

    Args:
        detections: For each frame ``(k, 5)``: x0, y0, x1, y1 in source pixels, score 0 to 1. Those under
            the strong score count only where they continue a track that has a strong sighting.
        times_us: When each frame is shown, ascending.
        cuts: Frames that begin a new scene, ascending.
        parameters: How sightings become masks.

    Returns:
        Tracks in order of their first frame. Every detection of at least the strong score is inside
        the mask of one of them in its frame.
    """
    parameters = parameters or TrackParameters()
    frame_count = len(detections)
    found: list[FoundTrack] = []
    borders = [0, *cuts, frame_count]
    for first, end in itertools.pairwise(borders):
        if first >= end:
            continue
        tracklets = _associate(detections, times_us, first, end, parameters)
        strong = parameters.strong_permille / 1000
        kept = [tracklet for tracklet in tracklets if max(tracklet.scores) >= strong]
        for tracklet in _bridge(kept, times_us, parameters):
            found.append(_masked(tracklet, times_us, first, end, parameters))
    return sorted(found, key=lambda track: (track.first_frame, track.last_frame))


def _associate(
    detections: Sequence[NDArray[np.float32]],
    times_us: NDArray[np.int64],
    first: int,
    end: int,
    parameters: TrackParameters,
) -> list[_Tracklet]:
    """Link detections of one scene from frame to frame, nearest pairs first."""
    done: list[_Tracklet] = []
    live: list[_Tracklet] = []
    for frame in range(first, end):
        ended = [t for t in live if times_us[frame] - times_us[t.frames[-1]] > parameters.gap_us]
        done += ended
        live = [t for t in live if times_us[frame] - times_us[t.frames[-1]] <= parameters.gap_us]
        seen = detections[frame].astype(np.float64)
        if not len(seen):
            continue
        taken: set[int] = set()
        extended: set[int] = set()
        costs = _costs(live, seen[:, :4], times_us, frame)
        for flat in np.argsort(costs, axis=None, kind="stable"):
            row, column = divmod(int(flat), len(seen))
            if costs[row, column] >= 1.0:
                break
            if row in extended or column in taken:
                continue
            extended.add(row)
            taken.add(column)
            live[row].frames.append(frame)
            live[row].boxes.append(seen[column, :4])
            live[row].scores.append(float(seen[column, 4]))
        live += [
            _Tracklet([frame], [seen[column, :4]], [float(seen[column, 4])])
            for column in range(len(seen))
            if column not in taken
        ]
    return done + live


def _costs(live: list[_Tracklet], seen: Boxes, times_us: NDArray[np.int64], frame: int) -> Boxes:
    """How unlikely each detection continues each tracklet, ``(tracklets, detections)``; 1 is too unlikely."""
    if not live:
        return np.ones((0, len(seen)))
    last = np.stack([tracklet.boxes[-1] for tracklet in live])
    elapsed_s = np.array([int(times_us[frame] - times_us[t.frames[-1]]) for t in live]) / MICROSECONDS
    moved = (
        np.stack([tracklet.velocity(times_us, before=len(tracklet.frames) - 1) for tracklet in live])
        * elapsed_s[:, None]
    )
    centres = _centres(seen)
    resting = np.linalg.norm(centres[None] - _centres(last)[:, None], axis=2)
    moving = np.linalg.norm(centres[None] - (_centres(last) + moved)[:, None], axis=2)
    size, seen_size = _sizes(last)[:, None], _sizes(seen)[None]
    reach = np.minimum(REACH_MAX, REACH_AT_ONCE + REACH_PER_S * elapsed_s)[:, None] * np.maximum(
        size, seen_size
    )
    cost = np.minimum(resting, moving) / reach
    ratio = np.maximum(size / seen_size, seen_size / size)
    return np.where(ratio <= SIZE_CHANGE_MAX, cost, 1.0)


def _bridge(
    tracklets: list[_Tracklet], times_us: NDArray[np.int64], parameters: TrackParameters
) -> list[_Tracklet]:
    """Join tracklets of one scene across long gaps where the object comes back within its reach.

    Who turns away walks on unseen: the longer the gap, the farther the place of coming back may be.
    """
    joined: list[_Tracklet] = []
    for tracklet in sorted(tracklets, key=lambda one: one.frames[0]):
        best: _Tracklet | None = None
        nearest = 1.0
        for earlier in joined:
            gap_us = int(times_us[tracklet.frames[0]] - times_us[earlier.frames[-1]])
            if not 0 < gap_us <= parameters.long_gap_us:
                continue
            ends = np.stack([earlier.boxes[-1], tracklet.boxes[0]])
            sizes = _sizes(ends)
            reach = min(RETURN_MAX, max(RETURN_AT_LEAST, RETURN_PER_S * gap_us / MICROSECONDS))
            cost = float(np.linalg.norm(np.subtract(*_centres(ends)))) / float(sizes.max()) / reach
            if cost < nearest and sizes.max() <= SIZE_CHANGE_MAX * sizes.min():
                best, nearest = earlier, cost
        if best is None:
            joined.append(tracklet)
            continue
        if tracklet.frames[0] - best.frames[-1] > 1:
            best.bridged.append((best.frames[-1] + 1, tracklet.frames[0] - 1))
        best.frames += tracklet.frames
        best.boxes += tracklet.boxes
        best.scores += tracklet.scores
    return joined


def _masked(
    tracklet: _Tracklet,
    times_us: NDArray[np.int64],
    first: int,
    end: int,
    parameters: TrackParameters,
) -> FoundTrack:
    """Masks for every frame from the pad before the first sighting to the pad after the last."""
    seen_at = np.array(tracklet.frames)
    boxes = np.stack(tracklet.boxes)
    seen_us = times_us[seen_at]
    inside = times_us[first:end]
    start = first + int(np.searchsorted(inside, seen_us[0] - parameters.pad_us, side="left"))
    stop = first + int(np.searchsorted(inside, seen_us[-1] + parameters.pad_us, side="right"))
    frames = np.arange(start, stop)
    now_us = times_us[start:stop]

    straight = np.stack([np.interp(now_us, seen_us, boxes[:, side]) for side in range(4)], axis=1)
    path = straight.copy()
    newest = len(boxes) - 1
    for outside, edge, at_end in ((now_us < seen_us[0], 0, False), (now_us > seen_us[-1], newest, True)):
        away_s = (now_us[outside] - seen_us[edge]) / MICROSECONDS
        velocity = (
            tracklet.velocity(times_us, before=edge) if at_end else tracklet.velocity(times_us, after=edge)
        )
        path[outside] = _cover(straight[outside], straight[outside] + _shifts(velocity, away_s))
    speed = _speed(path, now_us)
    for low, high in tracklet.bridged:
        ends = straight[[low - 1 - start, high + 1 - start]]
        path[low - start : high + 1 - start] = _cover(ends[0], ends[1])
    for place in np.nonzero(np.diff(seen_at) > 1)[0].tolist():
        _cover_turning(path, tracklet, place, times_us, start)

    # Of the face, not of the box that covers all the places where it may be.
    spans = np.clip(straight[:, 2:] - straight[:, :2], 1.0, None)
    sizes = np.sqrt(np.prod(spans, axis=1))
    unseen_s = _since_sighting(now_us, seen_us)
    frame_s = np.gradient(now_us.astype(np.float64)) / MICROSECONDS if len(now_us) > 1 else np.zeros(1)
    extra = (
        sizes * np.minimum(GROWTH_MAX, GROWTH_PER_S * unseen_s)
        + speed * np.minimum(unseen_s, 0.25) * 0.5
        + np.minimum(speed * np.abs(frame_s) * 0.5, sizes)
    )
    margin = parameters.margin_permille / 1000
    return FoundTrack(
        first_frame=start,
        masks=_grown(path, spans * margin + extra[:, None]),
        needed=_grown(path, (spans * margin + extra[:, None]) / 2),
        sighted=np.isin(frames, seen_at),
        score=max(tracklet.scores),
        doubtful=list(tracklet.bridged),
        gaps=[
            Gap(tracklet.frames[at], tracklet.frames[at + 1], tracklet.boxes[at], tracklet.boxes[at + 1])
            for at in np.nonzero(np.diff(seen_us) > TURNING_SPAN_US)[0].tolist()
        ],
        margin=margin,
    )


def covered_too(track: FoundTrack, frame: int, box: Boxes) -> None:
    """Let the mask of one frame also cover a box, ``(4,)``, where its thing may be; masks only grow.

    As nobody saw it there, it is grown by `GROWTH_MAX` of its size besides the margin.
    """
    row = frame - track.first_frame
    span = np.clip(box[2:] - box[:2], 1.0, None)
    by = span * track.margin + np.sqrt(np.prod(span)) * GROWTH_MAX / 2
    for masks, share in ((track.masks, 1.0), (track.needed, 0.5)):
        masks[row] = _cover(masks[row], _grown(box[None], by[None] * share)[0])


def _cover_turning(
    path: Boxes, tracklet: _Tracklet, place: int, times_us: NDArray[np.int64], start: int
) -> None:
    """Cover in a gap, besides the straight way, going on as before it and coming as after it.

    Who turns round unseen is not on the straight way between the two sightings. Each half of the gap follows
    the sighting next to it, for no longer than `TURNING_SPAN_US`.

    Args:
        path: Boxes of the track's frames; those of the gap are made larger.
        tracklet: The sightings.
        place: The sighting before the gap.
        times_us: When each frame is shown.
        start: The frame of the first row of ``path``.
    """
    last, following = tracklet.frames[place], tracklet.frames[place + 1]
    frames = np.arange(last + 1, following)
    since, until = times_us[frames] - times_us[last], times_us[following] - times_us[frames]
    onward = tracklet.velocity(times_us, before=place)
    incoming = tracklet.velocity(times_us, after=place + 1)
    for near, elapsed_us, box, velocity in (
        ((since <= until) & (since <= TURNING_SPAN_US), since, tracklet.boxes[place], onward),
        ((until < since) & (until <= TURNING_SPAN_US), -until, tracklet.boxes[place + 1], incoming),
    ):
        rows = frames[near] - start
        path[rows] = _cover(path[rows], box[None] + _shifts(velocity, elapsed_us[near] / MICROSECONDS))


def key_boxes(track: FoundTrack, pts: Sequence[int]) -> list[tuple[int, Box]]:
    """Few boxes whose interpolation covers what the track needs in every frame.

    Between two keys the plan interpolates (`redaction.geometry.between`). The farthest next key is
    taken for which every frame on the way stays covered, so a still face costs two keys a run.

    Args:
        track: The track.
        pts: Time of every frame of the recording.

    Returns:
        ``(pts, box)``, ascending, the track's first and last frame among them.
    """
    times = list(pts[track.first_frame : track.last_frame + 1])
    masks = [outward(*row) for row in track.masks.tolist()]
    needed = [outward(*row) for row in track.needed.tolist()]
    keys = [(times[0], masks[0])]
    at = 0
    while at < len(masks) - 1:
        reach = min(len(masks) - 1, at + KEY_REACH)
        while reach > at + 1 and not _covers(masks, needed, times, at, reach):
            # Halving looks at few candidates; a nearer key than the farthest possible hides as much.
            reach = at + max(1, (reach - at) // 2)
        keys.append((times[reach], masks[reach]))
        at = reach
    return keys


def _covers(masks: list[Box], needed: list[Box], times: list[int], at: int, reach: int) -> bool:
    whole = times[reach] - times[at]
    return all(
        between(masks[at], masks[reach], elapsed=times[i] - times[at], whole=whole).contains(needed[i])
        for i in range(at + 1, reach)
    )


def _centres(boxes: Boxes) -> Boxes:
    return (boxes[:, :2] + boxes[:, 2:4]) / 2


def _sizes(boxes: Boxes) -> NDArray[np.float64]:
    sizes: NDArray[np.float64] = np.sqrt(np.prod(np.clip(boxes[:, 2:4] - boxes[:, :2], 1.0, None), axis=1))
    return sizes


def _cover(first: Boxes, second: Boxes) -> Boxes:
    """The smallest boxes over both, along the last axis."""
    low = np.minimum(first[..., :2], second[..., :2])
    high = np.maximum(first[..., 2:], second[..., 2:])
    return np.concatenate([low, high], axis=-1)


def _grown(path: Boxes, by: Boxes) -> Boxes:
    # One pixel more than asked, so that no box, however thin, comes out without one.
    return np.concatenate([path[:, :2] - by - 1.0, path[:, 2:] + by + 1.0], axis=1)


def _shifts(velocity: NDArray[np.float64], elapsed_s: NDArray[np.float64]) -> Boxes:
    """How far each side of a box moves, ``(n, 4)``."""
    return np.tile(elapsed_s[:, None] * velocity[None], 2)


def _since_sighting(now_us: NDArray[np.int64], seen_us: NDArray[np.int64]) -> NDArray[np.float64]:
    """Seconds to the nearest sighting, of every frame."""
    after = np.searchsorted(seen_us, now_us)
    to_next = np.abs(seen_us[np.minimum(after, len(seen_us) - 1)] - now_us)
    to_last = np.abs(now_us - seen_us[np.maximum(after - 1, 0)])
    nearest: NDArray[np.float64] = np.minimum(to_next, to_last) / MICROSECONDS
    return nearest


def _speed(path: Boxes, now_us: NDArray[np.int64]) -> NDArray[np.float64]:
    """Pixels per second of the centre, of every frame."""
    if len(path) < 2:
        return np.zeros(len(path))
    centres = _centres(path)
    step = np.linalg.norm(np.diff(centres, axis=0), axis=1) * MICROSECONDS / np.maximum(np.diff(now_us), 1)
    speed: NDArray[np.float64] = np.maximum(np.append(step, 0.0), np.insert(step, 0, 0.0))
    return speed
