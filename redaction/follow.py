"""Follow through the picture what no detector saw for long, from both of its sightings, and cover that too.

Who turns away walks on, and may come back from elsewhere than the straight way between two sightings goes.
For a second `redaction.track` covers going on and coming back; beyond, the picture knows more than two boxes
do. So where a gap is longer, its frames are decoded once more and small pieces of the picture inside the box
are followed from one to the next (Lucas and Kanade, "An iterative image registration technique", 1981; in
pyramids, Bouguet, 2001): on from the sighting before, and back from the one after. The masks of the gap then
cover both ways as well, unless another track covers what is followed there. They only grow: where nothing can
be followed any more, or the wrong thing is, what they covered before stays covered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from media.decode import open_video
from redaction.track import FoundTrack, Gap, covered_too

Grey = NDArray[np.uint8]
Boxes = NDArray[np.float64]

LONG_SIDE_PX = 320
FRAMES_MOST = 1000
"""Of a gap; longer ones are covered as they are. Each frame is held as grey, `LONG_SIDE_PX` long."""
POINTS = 6
"""To a side of the grid that is laid over a box."""
FOUND_LEAST = 0.34
"""With a smaller share of its points found again, a box is lost."""
WINDOW_PX, LEVELS = 15, 3
DRIFT = 0.125
"""How far a box may have drifted from what it holds, as a share of its size."""


@dataclass(eq=False)
class _Waiting:
    """A gap whose frames go by."""

    track: FoundTrack
    gap: Gap
    greys: list[Grey] = field(default_factory=list)


def follow(
    source: Path,
    tracks: Iterable[FoundTrack],
    *,
    threads: int,
    alive: Callable[[], None] = lambda: None,
) -> int:
    """Widen the masks of tracks over their long gaps by where the picture says they went.

    Args:
        source: The recording in which they were found.
        tracks: Of one pass over it, of any class.
        threads: Of the decoder.
        alive: Called with each frame that is decoded.

    Returns:
        How many gaps were followed; where there is none, nothing is decoded.
    """
    tracks = list(tracks)
    gaps = [_Waiting(track, gap) for track in tracks for gap in track.gaps]
    gaps = [one for one in gaps if one.gap.after - one.gap.before < FRAMES_MOST]
    waiting = sorted(gaps, key=lambda one: one.gap.before, reverse=True)
    if not waiting:
        return 0
    open_gaps: list[_Waiting] = []
    with open_video(source, threads=threads) as video:
        width, height = video.shape.width_px, video.shape.height_px
        scale = min(1.0, LONG_SIDE_PX / max(width, height))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        per_pixel = np.array([size[0] / width, size[1] / height] * 2)
        for frame in video:
            alive()
            while waiting and waiting[-1].gap.before == frame.index:
                open_gaps.append(waiting.pop())
            if not open_gaps:
                continue
            grey = cv2.resize(frame.planes()[0], size, interpolation=cv2.INTER_AREA).astype(np.uint8)
            for one in open_gaps:
                one.greys.append(grey)
            for one in [one for one in open_gaps if one.gap.after == frame.index]:
                open_gaps.remove(one)
                _cover(one, per_pixel, [track for track in tracks if track is not one.track])
            if not (waiting or open_gaps):
                break
    return len(gaps)


def _cover(one: _Waiting, per_pixel: Boxes, others: Sequence[FoundTrack]) -> None:
    gap, greys = one.gap, one.greys
    onward = followed(greys, gap.box_before * per_pixel)
    back = followed(greys[::-1], gap.box_after * per_pixel)
    # The sightings themselves are covered already; from here on frames count from the first one unseen.
    between = len(greys) - 2
    # Each way drifts as it goes: it is for the half next to its sighting, and on to where the other was lost.
    half = (between + 1) // 2
    onward, back = onward[: max(half, between - len(back))], back[: max(half, between - len(onward))]
    ways = [(gap.before + 1 + at, box / per_pixel) for at, box in enumerate(onward[:between])]
    ways += [(gap.after - 1 - at, box / per_pixel) for at, box in enumerate(back[:between])]
    for frame, box in ways:
        # What another track covers is most often the same, sighted meanwhile as somebody else.
        inner = box + np.tile(box[2:] - box[:2], 2) * [DRIFT, DRIFT, -DRIFT, -DRIFT]
        if not any(other.covers(frame, inner) for other in others):
            covered_too(one.track, frame, box)


def followed(greys: Sequence[Grey], box: Boxes) -> list[Boxes]:
    """Where what a box holds in the first picture is in each of those after it, until it is lost.

    Args:
        greys: Pictures one after the other, ``(height, width)``, uint8.
        box: ``(4,)`` in their pixels; it keeps its size.

    Returns:
        A box for each picture from the second on.
    """
    found: list[Boxes] = []
    height, width = greys[0].shape
    for before, after in pairwise(greys):
        if box[2] <= 0 or box[3] <= 0 or box[0] >= width or box[1] >= height:
            break
        across, down = (np.linspace(box[i], box[i + 2], POINTS + 2)[1:-1] for i in (0, 1))
        points = np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 1, 2).astype(np.float32)
        there, states, _ = cv2.calcOpticalFlowPyrLK(
            before, after, points, np.empty_like(points), winSize=(WINDOW_PX, WINDOW_PX), maxLevel=LEVELS
        )
        is_found = states.ravel() > 0
        if is_found.mean() < FOUND_LEAST:
            break
        moved = np.median((there - points).reshape(-1, 2)[is_found], axis=0)
        box = box + np.tile(moved, 2)
        found.append(box)
    return found
