"""Hold a plan against the truth about a clip: who is hidden, who is bare, what is hidden in vain.

The truth lies beside a clip as ``NAME.faces.json`` or ``NAME.plates.json``: ``frames[]`` with ``frame`` (from
0, in the order shown) and ``faces[]`` or ``plates[]`` with ``box`` (x0, y0, x1, y1 in pixels of the frame as
coded) and ``tier``: *must* is clearly to be seen, *hard* is real but tiny, turned or blurred, *ignore* is not
asked. Where every frame is known, as in `media.hazards`, ``person`` tells one person's boxes from another's.

A frame that is listed is scored; one that is not says nothing. What hides a box does not matter, nor why.

The entry runs in a child of `media.sandbox`.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from evidence.errors import InvalidInput
from media.decode import picture_times
from redaction.detect import propose_entry
from redaction.geometry import Box, clip, painted
from redaction.plan import Masks, RedactionPlan
from redaction.plan_json import plan_from_json

KINDS = ("faces", "plates")
TIERS = ("must", "hard", "ignore")
COVERED, WELL_COVERED = 0.60, 0.95
TRUTH_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Truth:
    """One thing that a frame shows."""

    frame: int
    box: Box
    tier: str
    person: int | None = None


@dataclass
class Score:
    """What a plan did to one clip; whole numbers but for shares, so that clips can be added up."""

    frames: int = 0
    """Scored: those the truth lists."""
    must: int = 0
    must_covered: int = 0
    """At least 60 % of the box hidden."""
    must_well_covered: int = 0
    """At least 95 % of it."""
    hard: int = 0
    hard_covered: int = 0
    persons: int = 0
    """Followed through every frame; 0 where the truth knows no persons."""
    persons_bare: int = 0
    """Of those, bare in at least one frame: a *must* box not covered."""
    longest_bare_frames: int = 0
    masked_px: int = 0
    """In scored frames."""
    over_masked_px: int = 0
    """Of those, in no box of any tier."""
    picture_px: int = 0
    cpu_s: float = 0.0
    """Processor seconds of finding and planning, all threads."""
    footage_s: float = 0.0
    bare_frames: list[tuple[int, int]] = field(default_factory=list)
    """The frames of each bare spell of a person, both ends included."""

    def add(self, other: Score) -> None:
        """Take another clip in."""
        for name, value in vars(other).items():
            if name == "longest_bare_frames":
                self.longest_bare_frames = max(self.longest_bare_frames, value)
            elif name != "bare_frames":
                setattr(self, name, getattr(self, name) + value)

    @property
    def recall(self) -> float | None:
        """Share of *must* boxes covered; None where there is none."""
        return self.must_covered / self.must if self.must else None

    @property
    def recall_95(self) -> float | None:
        """Share of *must* boxes covered by 95 %."""
        return self.must_well_covered / self.must if self.must else None

    @property
    def over_masked(self) -> float:
        """Share of the picture that is hidden without a box that asks for it."""
        return self.over_masked_px / self.picture_px if self.picture_px else 0.0

    @property
    def cpu_s_per_min(self) -> float:
        """Processor seconds a minute of footage."""
        return 60 * self.cpu_s / self.footage_s if self.footage_s else 0.0

    def to_json(self) -> dict[str, Any]:
        """Counts, and the shares that follow from them."""
        return {
            **vars(self),
            "recall": self.recall,
            "recall_95": self.recall_95,
            "over_masked": self.over_masked,
            "cpu_s_per_min": self.cpu_s_per_min,
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Score:
        """The same, from `to_json`."""
        counts = {one.name: plain[one.name] for one in fields(cls)}
        return cls(**counts | {"bare_frames": [(first, last) for first, last in plain["bare_frames"]]})


def truth_beside(clip_path: Path) -> list[Path]:
    """The truth files of a clip, faces before plates; empty when it has none."""
    found = [clip_path.with_suffix(f".{kind}.json") for kind in KINDS]
    return [path for path in found if path.is_file()]


def read_truth(path: Path) -> tuple[set[int], list[Truth]]:
    """The frames a truth file lists, and what they show.

    Raises:
        InvalidInput: It is not of the form the module describes.
    """
    try:
        if path.stat().st_size > TRUTH_MAX_BYTES:
            raise ValueError(f"more than {TRUTH_MAX_BYTES} bytes")
        listed = json.loads(path.read_bytes())["frames"]
        frames = {int(entry["frame"]) for entry in listed}
        truths = [
            _truth(int(entry["frame"]), one)
            for entry in listed
            for kind in KINDS
            for one in entry.get(kind, ())
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput(
            f"{path.name}: expected frames[] with frame and faces[] or plates[] of box and tier, "
            f"found {type(error).__name__} {error}",
            code="truth_invalid",
        ) from error
    return frames, truths


def _truth(frame: int, one: dict[str, Any]) -> Truth:
    box = Box(*(round(side) for side in one["box"]))
    if one["tier"] not in TIERS or box.x0 >= box.x1 or box.y0 >= box.y1 or frame < 0:
        raise ValueError(f"tier {one['tier']!r:.20}, box {tuple(box)} in frame {frame}")
    person = one.get("person")
    return Truth(frame, box, one["tier"], None if person is None else int(person))


def score(plan: RedactionPlan, pts: Sequence[int], frames: Iterable[int], truths: Sequence[Truth]) -> Score:
    """Hold a plan against the truth.

    Args:
        plan: What is hidden.
        pts: Time of every frame of the clip.
        frames: Which of them the truth lists.
        truths: What those show.

    Raises:
        InvalidInput: The truth names a frame that the clip does not have, or the plan is for sound alone.
    """
    if plan.picture is None:
        raise InvalidInput("clip: expected a picture, found sound alone", code="truth_invalid")
    masks, made = Masks(plan), Score()
    shown: dict[int, list[Truth]] = defaultdict(list)
    for truth in truths:
        shown[truth.frame].append(truth)
    persons: dict[int, list[tuple[int, bool]]] = defaultdict(list)
    for frame in sorted(frames):
        if frame >= len(pts):
            raise InvalidInput(
                f"truth: expected frames below {len(pts)}, found {frame}; is it of another clip?",
                code="truth_invalid",
            )
        hidden = painted(masks.at(pts[frame]), plan.picture.width_px, plan.picture.height_px)
        made.frames += 1
        made.picture_px += hidden.size
        made.masked_px += int(hidden.sum())
        over = hidden.copy()
        for truth in shown[frame]:
            box = clip(truth.box, width_px=plan.picture.width_px, height_px=plan.picture.height_px)
            area = (slice(box.y0, box.y1), slice(box.x0, box.x1))
            over[area] = False
            share = float(hidden[area].mean()) if hidden[area].size else 1.0
            made.hard += truth.tier == "hard"
            made.hard_covered += truth.tier == "hard" and share >= COVERED
            if truth.tier == "must":
                made.must += 1
                made.must_covered += share >= COVERED
                made.must_well_covered += share >= WELL_COVERED
                if truth.person is not None:
                    persons[truth.person].append((frame, share < COVERED))
        made.over_masked_px += int(over.sum())
    made.persons = len(persons)
    for sightings in persons.values():
        spells = _spells(sightings)
        made.persons_bare += bool(spells)
        made.bare_frames += spells
    made.longest_bare_frames = max((last - first + 1 for first, last in made.bare_frames), default=0)
    return made


def _spells(sightings: Sequence[tuple[int, bool]]) -> list[tuple[int, int]]:
    """Runs of frames in which one person is bare."""
    spells: list[tuple[int, int]] = []
    was_bare = False
    for frame, is_bare in sightings:
        if is_bare and was_bare:
            spells[-1] = (spells[-1][0], frame)
        elif is_bare:
            spells.append((frame, frame))
        was_bare = is_bare
    return spells


def score_entry(request: dict[str, Any], progress: Callable[[float], None]) -> dict[str, object]:
    """Find, plan and score one clip.

    Args:
        request: ``source``, ``truth`` (paths), and what `redaction.detect.propose_entry` takes.
        progress: Hears the share of frames done.

    Returns:
        `Score.to_json`.
    """
    listed = [read_truth(Path(path)) for path in request["truth"]]
    began = time.process_time()
    propose_entry(request, progress)
    cpu_s = time.process_time() - began
    plan = plan_from_json(json.loads(Path(request["destination"]).read_bytes()))
    times = picture_times(Path(request["source"]))
    frames = set().union(*(frames for frames, _ in listed))
    made = score(plan, [pts for pts, _ in times], frames, [truth for _, truths in listed for truth in truths])
    if plan.picture is not None:
        numerator, denominator = plan.picture.time_base
        made.footage_s = (times[-1][0] + times[-1][1] - times[0][0]) * numerator / denominator
    made.cpu_s = cpu_s
    return made.to_json()
