"""Find what has to be hidden: run detectors on every frame, and propose the first version of a plan.

A detector knows pictures and nothing of time; `redaction.track` knows time and nothing of pictures. Here the
two meet: frames are decoded once, scaled by the decoder's thread to the size the detector sees, and looked at
by as many threads as there are cores to use. A frame that cannot be decoded is proposed to be hidden whole.

The entries run in a child of `media.sandbox`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from evidence.errors import InvalidInput
from evidence.ids import new_id
from evidence.masks import Reason
from media.decode import AudioReader, DecodedFrame, count_streams, open_video, read_photo
from redaction.detectors.centerface import CenterFace
from redaction.detectors.network import input_size, one_of_each
from redaction.geometry import even_sided
from redaction.plan import (
    FACES_ONLY,
    DoubtfulSpan,
    Key,
    MutedSpan,
    Picture,
    RedactionPlan,
    State,
    Track,
    WholeFrameSpan,
)
from redaction.track import CutFinder, FoundTrack, TrackParameters, join, key_boxes

MICROSECONDS = 1_000_000
LUMA_STEP = 8
LUMA_OF_RGB = np.array([66, 129, 25], dtype=np.uint16)

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
class DetectParameters:
    """How pictures are looked at; whole numbers, because they are part of the plan."""

    long_side_px: int = 640
    """The longer side at which every frame is looked at; small pictures are at most doubled."""
    fine_long_side_px: int = 1280
    """The longer side of the second look, at large pictures."""
    fine_from_px: int = 1600
    """Pictures whose longer side is at least this get the second look."""
    fine_every: int = 5
    """Every how many frames; 0 never. Tracks carry what it finds through the frames between."""
    weak_permille: int = 100
    """Sightings below the tracker's strong score, down to this, only continue a track."""

    def seen_long_side(self, width_px: int, height_px: int) -> int:
        """The longer side of the first look at a picture of some size."""
        return min(self.long_side_px, 2 * max(width_px, height_px))


@dataclass
class Sightings:
    """Everything one pass over a recording brought."""

    picture: Picture
    detections: list[Detections]
    """For each frame ``(k, 5)``, float32: source pixels as coded, score."""
    pts: list[int]
    times_us: NDArray[np.int64]
    cuts: list[int]
    unreadable: list[int]
    """Frames that the decoder could not vouch for."""


def propose_entry(request: dict[str, Any], progress: Progress) -> dict[str, object]:
    """Make version 1 of the plan of one item, from a rendition.

    Args:
        request: ``source``, ``destination`` (of the plan's canonical JSON), ``item_id``, ``models_dir``, and
            optionally ``number`` and ``parent`` (of the version), ``threads``, and any field of
            `DetectParameters` and `redaction.track.TrackParameters` by name under ``parameters``.
        progress: Hears the share of frames done.

    Returns:
        ``track_count``, ``doubtful_count``, ``unreadable_count``, ``frame_count``, ``cut_count``,
        ``wall_ms``.
    """
    started = monotonic()
    looking, tracking = _parameters(request.get("parameters", {}))
    threads = int(request.get("threads") or os.cpu_count() or 1)
    source = Path(request["source"])
    detector = None
    sightings = None
    if count_streams(source).get("video", 0):
        detector = open_detector(Path(request["models_dir"]), looking, intra_op_threads=1)
        sightings = look(source, detector, looking, threads=threads, progress=progress)
    plan = _propose(request, detector, sightings, looking, tracking)
    return _store_plan(request, plan, {
        "frame_count": 0 if sightings is None else len(sightings.pts),
        "cut_count": 0 if sightings is None else len(sightings.cuts),
        "wall_ms": round((monotonic() - started) * 1000),
    })  # fmt: skip


def propose_photo_entry(request: dict[str, Any], progress: Progress) -> dict[str, object]:
    """Make version 1 of the plan of one still; the request is that of `propose_entry`."""
    started = monotonic()
    looking, tracking = _parameters(request.get("parameters", {}))
    rgb = even_sided(read_photo(Path(request["source"])))
    detector = open_detector(
        Path(request["models_dir"]), looking, intra_op_threads=int(request.get("threads") or 0)
    )
    found = look_at_photo(rgb, detector, looking)
    height, width = rgb.shape[:2]
    sightings = Sightings(
        Picture(width, height, (1, 1), 1, 0, 0), [found], [0], np.zeros(1, dtype=np.int64), [], []
    )
    plan = _propose(request, detector, sightings, looking, tracking)
    progress(1.0)
    return _store_plan(request, plan, {"frame_count": 1, "wall_ms": round((monotonic() - started) * 1000)})


def open_detector(models_dir: Path, looking: DetectParameters, *, intra_op_threads: int) -> CenterFace:
    """The detector that proposes, its weights verified."""
    return CenterFace(
        models_dir,
        score_min=looking.weak_permille / 1000,
        long_side_px=None,
        intra_op_threads=intra_op_threads,
    )


def look(
    source: Path,
    detector: Detector,
    looking: DetectParameters,
    *,
    threads: int,
    progress: Progress = lambda _: None,
) -> Sightings:
    """Run a detector on every frame of a recording.

    Decoding and scaling stay in the calling thread; only pixels of our own go to the others.
    """
    with open_video(source, threads=threads) as video, ThreadPoolExecutor(threads) as pool:
        shape = video.shape
        cuts = CutFinder()
        pts: list[int] = []
        unreadable: list[int] = []
        detections: list[Detections] = []
        under_way: deque[Future[Detections]] = deque()
        promised = shape.frame_count or _frames_in(shape.duration * shape.time_base, shape.rate)
        for frame in video:
            pts.append(frame.pts)
            if frame.corrupt:
                unreadable.append(frame.index)
            views = list(_views(frame, shape.rotation, looking))
            cuts.add(_small_luma(views[0]))
            under_way.append(
                pool.submit(_look_at, detector, views, shape.rotation, frame.width_px, frame.height_px)
            )
            # Few frames ahead are enough to keep every thread busy, and bound what is held in memory.
            while len(under_way) > 2 * threads:
                detections.append(under_way.popleft().result())
            progress(min(0.99, len(pts) / promised) if promised else 0.0)
        detections += [one.result() for one in under_way]
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


def look_at_photo(rgb: NDArray[np.uint8], detector: Detector, looking: DetectParameters) -> Detections:
    """Run a detector on one still at both sizes; ``rgb`` is ``(height, width, 3)``, uint8."""
    height, width = rgb.shape[:2]
    views = []
    for long_side in (looking.seen_long_side(width, height), looking.fine_long_side_px):
        if long_side <= 2 * max(width, height):
            size = input_size(width, height, long_side)
            shrinks = size[0] < width
            views.append(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))
    return _look_at(detector, [view.astype(np.uint8, copy=False) for view in views], 0, width, height)


def _views(frame: DecodedFrame, rotation: int, looking: DetectParameters) -> Iterator[NDArray[np.uint8]]:
    """The pictures of a frame that a detector is shown, upright."""
    sides = [looking.seen_long_side(frame.width_px, frame.height_px)]
    is_large = max(frame.width_px, frame.height_px) >= looking.fine_from_px
    if is_large and looking.fine_every and frame.index % looking.fine_every == 0:
        sides.append(looking.fine_long_side_px)
    for side in sides:
        width, height = input_size(frame.width_px, frame.height_px, side)
        yield np.rot90(frame.rgb(width, height), rotation // 90)


def _look_at(
    detector: Detector, views: Sequence[NDArray[np.uint8]], rotation: int, width_px: int, height_px: int
) -> Detections:
    """What a detector finds in any view, in pixels of the picture as coded; one box for each thing."""
    found = []
    for view in views:
        boxes = detector.detect(np.ascontiguousarray(view)[None])[0]
        seen_height, seen_width = view.shape[:2]
        boxes = _turned_back(boxes, rotation, seen_width, seen_height)
        if rotation % 180:
            seen_width, seen_height = seen_height, seen_width
        boxes[:, 0:4:2] = (boxes[:, 0:4:2] * (width_px / seen_width)).clip(0, width_px)
        boxes[:, 1:4:2] = (boxes[:, 1:4:2] * (height_px / seen_height)).clip(0, height_px)
        found.append(boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])])
    if len(found) == 1:
        return found[0]
    together = np.concatenate(found)
    return together[one_of_each(together)]


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


def _propose(
    request: dict[str, Any],
    detector: Detector | None,
    sightings: Sightings | None,
    looking: DetectParameters,
    tracking: TrackParameters,
) -> RedactionPlan:
    empty = RedactionPlan(
        item_id=str(request["item_id"]),
        number=int(request.get("number", 1)),
        parent=request.get("parent"),
        author="model",
        coverage=FACES_ONLY,
        models={} if detector is None else {detector.family: detector.model_digest},
        parameters={**asdict(looking), **asdict(tracking)},
        picture=None if sightings is None else sightings.picture,
    )
    if sightings is None or detector is None:
        return with_everything_muted(empty, Path(request["source"]))
    found = join(sightings.detections, sightings.times_us, sightings.cuts, tracking)
    return with_tracks(empty, found, sightings, detector)


def with_everything_muted(plan: RedactionPlan, source: Path) -> RedactionPlan:
    """A plan for sound alone: no machine of ours listens, so all of it is muted until a person decides."""
    origin, first, end = None, Fraction(0), Fraction(0)
    for number in range(count_streams(source).get("audio", 0)):
        with AudioReader(source, number) as reader:
            for packet in reader.packets():
                at = packet.pts * reader.time_base
                origin = at if origin is None else origin
                first = min(first, at - origin)
                end = max(end, at - origin + packet.duration * reader.time_base)
    if origin is None:
        return plan
    # A second more than there is: what a coder fills up at the end is no exception.
    low, high = floor(first * MICROSECONDS), ceil((end + 1) * MICROSECONDS)
    span = MutedSpan(
        str(new_id()), low, high, None, "silence", "model", "default", Reason.PRIVACY, State.PROPOSED
    )
    doubt = DoubtfulSpan(None, low, high, "nobody has listened, muted whole")
    return replace(plan, muted_spans=(span,), doubtful=(doubt,))


def with_tracks(
    plan: RedactionPlan, found: Sequence[FoundTrack], sightings: Sightings, detector: Detector
) -> RedactionPlan:
    """A plan with what was found, and with the frames that could not be read hidden whole."""
    by = detector.model_digest
    tracks, doubtful = [], []
    for track in found:
        boxes = key_boxes(track, sightings.pts)
        made = Track(
            id=str(new_id()),
            track_class=detector.finds,
            origin="model",
            by=by,
            reason=Reason.PRIVACY,
            state=State.PROPOSED,
            shape="rectangle",
            keys=tuple(Key(pts, *box) for pts, box in boxes),
            score_permille=min(1000, round(track.score * 1000)),
        )
        tracks.append(made)
        doubtful += [
            DoubtfulSpan(
                made.id, sightings.pts[low], sightings.pts[high], "not seen for long, masked between"
            )
            for low, high in track.doubtful
        ]
    spans = []
    for low, high in _runs(sightings.unreadable):
        first, last = sightings.pts[low], sightings.pts[high]
        spans.append(WholeFrameSpan(str(new_id()), first, last, "model", by, Reason.PRIVACY, State.PROPOSED))
        doubtful.append(DoubtfulSpan(None, first, last, "could not be decoded, masked whole"))
    return replace(plan, tracks=tuple(tracks), whole_frame_spans=tuple(spans), doubtful=tuple(doubtful))


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Consecutive numbers as spans, both ends included."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _parameters(given: dict[str, Any]) -> tuple[DetectParameters, TrackParameters]:
    known = {f.name for kind in (DetectParameters, TrackParameters) for f in fields(kind)}
    unknown = sorted(set(given) - known)
    if unknown or not all(type(value) is int and value >= 0 for value in given.values()):
        raise InvalidInput(f"parameters: expected whole numbers for any of {sorted(known)}, found {given}")
    looking = {f.name: given[f.name] for f in fields(DetectParameters) if f.name in given}
    tracking = {f.name: given[f.name] for f in fields(TrackParameters) if f.name in given}
    return DetectParameters(**looking), TrackParameters(**tracking)


def _store_plan(request: dict[str, Any], plan: RedactionPlan, facts: dict[str, object]) -> dict[str, object]:
    Path(request["destination"]).write_bytes(plan.to_bytes())
    counts = {
        "track_count": len(plan.tracks),
        "doubtful_count": len(plan.doubtful),
        "unreadable_count": len(plan.whole_frame_spans),
    }
    return {**facts, **counts}
