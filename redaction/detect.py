"""Find what has to be hidden, and propose the first version of a plan.

`redaction.look` shows the frames of a recording to detectors, `redaction.track` follows what they saw, and
`redaction.listen` finds speech. Here they are chosen and put together: which classes, with which weights, and
what the plan may say was treated. A frame that cannot be decoded is proposed to be hidden whole. What is
more than a plan holds is fitted into it (`redaction.fitting`).

The entries run in a child of `media.sandbox`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from itertools import chain
from math import ceil, floor
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from evidence.canonical import canonical_json
from evidence.errors import InvalidInput
from evidence.ids import new_id
from evidence.masks import Reason
from media.decode import AudioReader, count_streams, read_photo
from redaction.detectors.centerface import CenterFace
from redaction.detectors.own import OwnModel, open_own
from redaction.detectors.plates import Plates
from redaction.detectors.speech import Silero, SpeechParameters
from redaction.detectors.text import Text
from redaction.fitting import fitted
from redaction.follow import follow
from redaction.geometry import even_sided
from redaction.listen import SpeechDetector, speech_spans
from redaction.look import Detector, Progress, Sightings, Watch, look, look_at_photo
from redaction.passes import PassParameters
from redaction.plan import (
    DoubtfulSpan,
    Key,
    MutedSpan,
    Picture,
    RedactionPlan,
    State,
    Track,
    WholeFrameSpan,
    coverage_of,
)
from redaction.plan_json import plan_from_json
from redaction.render import origin_of
from redaction.track import FoundTrack, TrackParameters, join, key_boxes

MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class DetectParameters(PassParameters):
    """How pictures are looked at, and which; whole numbers, because they are part of the plan."""

    long_side_px: int = 640
    """The longer side at which frames are looked at for faces; small pictures are at most doubled."""
    fine_long_side_px: int = 1280
    """The longer side of the finer look for faces, at large pictures."""
    fine_from_px: int = 1600
    """Pictures whose longer side is at least this get the finer look, once in the time a mask reaches."""
    fine_often_from_px: int = 1600
    """Pictures whose longer side is at least this get it every `fine_every` frames."""
    fine_every: int = 5
    """Every how many frames at most; 0 never. Tracks carry what it finds through the frames between."""
    follow: int = 1
    """Whether the picture is followed through gaps of more than a second: 0 or 1."""
    weak_permille: int = 100
    """Sightings below the tracker's strong score, down to this, only continue a track."""
    turned_every: int = 6
    """Where no face is seen upright, every how many frames a picture is looked at turned; 0 never."""
    turned_long_side_px: int = 320
    plate_every: int = 6
    """Every how many frames plates are looked for; 0 never. Tracks carry them through the frames between."""
    plate_long_side_px: int = 960
    plate_permille: int = 500
    """Plates of at least this score are masked."""
    text_every: int = 0
    """Every how many frames written words are looked for; 0 never."""
    text_long_side_px: int = 960
    text_permille: int = 500
    speech: int = 0
    """Whether somebody listens, and speech is muted: 0 or 1."""


def propose_entry(request: dict[str, Any], progress: Progress) -> dict[str, object]:
    """Make version 1 of the plan of one item, from a rendition.

    Args:
        request: ``source``, ``destination`` (of the plan's canonical JSON), ``item_id``, ``models_dir``, and
            optionally ``number`` and ``parent`` (of the version), ``threads``, ``own_models`` (each the
            fields of `redaction.detectors.own.OwnModel`), and any field of `DetectParameters`,
            `SpeechParameters` and `redaction.track.TrackParameters` by name under ``parameters``.
        progress: Hears the share of frames done.

    Returns:
        ``track_count``, ``doubtful_count``, ``unreadable_count``, ``frame_count``, ``cut_count``,
        ``wall_ms``.
    """
    started = monotonic()
    chosen = _Chosen.of(request)
    threads = int(request.get("threads") or os.cpu_count() or 1)
    source = Path(request["source"])
    watches: list[Watch] = []
    sightings = None
    streams = count_streams(source)
    if streams.get("video", 0):
        watches = open_watches(request, chosen, intra_op_threads=1)
        sightings = look(source, watches, threads=threads, progress=progress)
    plan = _propose(request, chosen, watches, sightings, alive=lambda: progress(0.99))
    if chosen.looking.speech and streams.get("audio", 0) and sightings is not None:
        listener = Silero(Path(request["models_dir"]), chosen.listening)
        plan = with_speech_muted(plan, source, listener)
    return _store_plan(request, fitted(plan), {
        "frame_count": 0 if sightings is None else len(sightings.pts),
        "cut_count": 0 if sightings is None else len(sightings.cuts),
        "wall_ms": round((monotonic() - started) * 1000),
    })  # fmt: skip


def propose_photo_entry(request: dict[str, Any], progress: Progress) -> dict[str, object]:
    """Make version 1 of the plan of one still; the request is that of `propose_entry`."""
    started = monotonic()
    chosen = _Chosen.of(request)
    rgb = even_sided(read_photo(Path(request["source"])))
    watches = open_watches(request, chosen, intra_op_threads=int(request.get("threads") or 0))
    found = look_at_photo(rgb, watches)
    height, width = rgb.shape[:2]
    picture = Picture(width, height, (1, 1), 1, 0, 0)
    sightings = Sightings(picture, [[boxes] for boxes in found], [0], np.zeros(1, dtype=np.int64))
    plan = _propose(request, chosen, watches, sightings)
    progress(1.0)
    return _store_plan(
        request, fitted(plan), {"frame_count": 1, "wall_ms": round((monotonic() - started) * 1000)}
    )


@dataclass(frozen=True)
class _Chosen:
    """What a request asks for."""

    looking: DetectParameters
    tracking: TrackParameters
    listening: SpeechParameters
    own: tuple[OwnModel, ...]

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> _Chosen:
        given = request.get("parameters", {})
        kinds = (DetectParameters, TrackParameters, SpeechParameters)
        known = {f.name for kind in kinds for f in fields(kind)}
        unknown = sorted(set(given) - known)
        if unknown or not all(type(value) is int and value >= 0 for value in given.values()):
            raise InvalidInput(
                f"parameters: expected whole numbers for any of {sorted(known)}, found {given}"
            )
        looking, tracking, listening = (
            {f.name: given[f.name] for f in fields(kind) if f.name in given} for kind in kinds
        )
        own = tuple(OwnModel.from_json(plain) for plain in request.get("own_models", ()))
        return cls(
            DetectParameters(**looking), TrackParameters(**tracking), SpeechParameters(**listening), own
        )


def open_watches(request: Mapping[str, Any], chosen: _Chosen, *, intra_op_threads: int) -> list[Watch]:
    """The detectors that propose, their weights verified: faces, then what else is looked for."""
    looking, models_dir = chosen.looking, Path(request["models_dir"])
    shared: dict[str, Any] = {"long_side_px": None, "intra_op_threads": intra_op_threads}
    apart_us = chosen.tracking.pad_us
    faces = CenterFace(models_dir, score_min=looking.weak_permille / 1000, **shared)
    watches = [
        Watch(
            faces,
            chosen.tracking.strong_permille,
            looking.long_side_px,
            apart_us=apart_us,
            passes=looking,
            fine_long_side_px=looking.fine_long_side_px,
            fine_from_px=looking.fine_from_px,
            fine_often_from_px=looking.fine_often_from_px,
            fine_every=looking.fine_every,
            turned_every=looking.turned_every,
            turned_long_side_px=looking.turned_long_side_px,
        )
    ]
    if looking.plate_every:
        plates = Plates(models_dir, score_min=looking.plate_permille / 2000, **shared)
        watches.append(
            Watch(plates, looking.plate_permille, looking.plate_long_side_px, looking.plate_every, apart_us)
        )
    if looking.text_every:
        text = Text(models_dir, score_min=looking.text_permille / 2000, **shared)
        watches.append(
            Watch(text, looking.text_permille, looking.text_long_side_px, looking.text_every, apart_us)
        )
    for model in chosen.own:
        own = open_own(model, score_min=model.score_permille / 2000, intra_op_threads=intra_op_threads)
        watches.append(Watch(own, model.score_permille, model.long_side_px, model.every, apart_us))
    return watches


def _propose(
    request: Mapping[str, Any],
    chosen: _Chosen,
    watches: Sequence[Watch],
    sightings: Sightings | None,
    *,
    alive: Callable[[], None] = lambda: None,
) -> RedactionPlan:
    detectors = [watch.detector for watch in watches]
    plan = RedactionPlan(
        item_id=str(request["item_id"]),
        number=int(request.get("number", 1)),
        parent=request.get("parent"),
        author="model",
        coverage=coverage_of(detector.finds for detector in detectors),
        models={detector.family: detector.model_digest for detector in detectors},
        parameters={**asdict(chosen.looking), **asdict(chosen.tracking), **asdict(chosen.listening)},
        picture=None if sightings is None else sightings.picture,
    )
    if sightings is None:
        return with_everything_muted(plan, Path(request["source"]))
    found = [
        join(
            detections,
            sightings.times_us,
            sightings.cuts,
            replace(chosen.tracking, strong_permille=watch.strong_permille),
        )
        for watch, detections in zip(watches, sightings.detections, strict=True)
    ]
    if chosen.looking.follow:
        threads = int(request.get("threads") or os.cpu_count() or 1)
        follow(Path(request["source"]), chain.from_iterable(found), threads=threads, alive=alive)
    for watch, tracks in zip(watches, found, strict=True):
        plan = with_tracks(plan, tracks, sightings, watch.detector)
    return with_unreadable_hidden(plan, sightings, detectors[0].model_digest)


def with_speech_muted(plan: RedactionPlan, source: Path, listener: SpeechDetector) -> RedactionPlan:
    """The plan with the speech of every sound stream muted."""
    by = listener.model_digest
    spans = [
        MutedSpan(str(new_id()), low, high, number, "silence", "model", by, Reason.PRIVACY, State.PROPOSED)
        for number, low, high in speech_spans(source, origin_of(plan, source), listener)
    ]
    return replace(
        plan,
        muted_spans=(*plan.muted_spans, *spans),
        coverage={**plan.coverage, "voices": "treated"},
        models={**plan.models, listener.family: by},
    )


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
    """The plan with what one detector found."""
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
    return replace(plan, tracks=(*plan.tracks, *tracks), doubtful=(*plan.doubtful, *doubtful))


def with_unreadable_hidden(plan: RedactionPlan, sightings: Sightings, by: str) -> RedactionPlan:
    """The plan with the frames that could not be read hidden whole."""
    spans, doubtful = [], []
    for low, high in _runs(sightings.unreadable):
        first, last = sightings.pts[low], sightings.pts[high]
        spans.append(WholeFrameSpan(str(new_id()), first, last, "model", by, Reason.PRIVACY, State.PROPOSED))
        doubtful.append(DoubtfulSpan(None, first, last, "could not be decoded, masked whole"))
    return replace(plan, whole_frame_spans=tuple(spans), doubtful=(*plan.doubtful, *doubtful))


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Consecutive numbers as spans, both ends included."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _store_plan(request: dict[str, Any], plan: RedactionPlan, facts: dict[str, object]) -> dict[str, object]:
    # What nobody could read again is not kept.
    plain = plan.to_json()
    plan_from_json(plain)
    Path(request["destination"]).write_bytes(canonical_json(plain))
    counts = {
        "track_count": len(plan.tracks),
        "doubtful_count": len(plan.doubtful),
        "unreadable_count": len(plan.whole_frame_spans),
    }
    return {**facts, **counts}
