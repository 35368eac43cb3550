"""Changes to one track or two: a key set or taken out, split, joined, extended to the whole recording.

Each gives new tracks and leaves those given as they are. None that splits, joins or extends hides less than
before: what is not on a whole pixel is rounded so that more is hidden (`redaction.revealing` looks again).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from redaction.geometry import between, between_inward, is_empty
from redaction.plan import Key, Picture, Track
from redaction.plan_json import LINEAGE_MAX, invalid_plan


def with_key(track: Track, key: Key) -> Track:
    """The track with one key more, or another one at that time."""
    keys = [other for other in track.keys if other.pts != key.pts]
    return replace(track, keys=tuple(sorted([*keys, key], key=lambda other: other.pts)))


def without_key(track: Track, pts: int) -> Track:
    """The track without its key of that time; the last key stays: delete the track."""
    keys = tuple(key for key in track.keys if key.pts != pts)
    if len(keys) == len(track.keys) or not keys:
        raise invalid_plan("pts", "a key of the track, and another one that stays", f"{pts}")
    return replace(track, keys=keys)


def split(track: Track, pts: int, tail_id: str) -> tuple[Track, Track]:
    """Two tracks that together hide what the one hid; both hide at ``pts``.

    Args:
        track: What is split.
        pts: After its first key and before its last; of an ellipse or a polygon, the time of a key.
        tail_id: Of the second one.
    """
    if not track.keys[0].pts < pts < track.keys[-1].pts:
        raise invalid_plan("pts", f"between {track.keys[0].pts} and {track.keys[-1].pts}", f"{pts}")
    cut = _key_at(track, pts)
    lineage = _lineage(track)
    head = [key for key in track.keys if key.pts < pts]
    tail = [key for key in track.keys if key.pts > pts]
    return (
        replace(track, keys=(*head, cut), lineage=lineage),
        replace(track, id=tail_id, keys=(cut, *tail), lineage=lineage),
    )


def _key_at(track: Track, pts: int) -> Key:
    at = next((key for key in track.keys if key.pts == pts), None)
    if at is not None:
        return at
    here = max((key for key in track.keys if key.pts < pts), key=lambda key: key.pts)
    after = min((key for key in track.keys if key.pts > pts), key=lambda key: key.pts)
    if here.outside or after.outside:
        return here._replace(pts=pts)
    if track.shape not in {"rectangle", "all_but"}:
        # Rounded to whole pixels it would leave out some of what it covers now.
        expected = "the time of one of its keys; set one first"
        raise invalid_plan(f"pts in a track of shape {track.shape}", expected, f"{pts}")
    elapsed, whole = pts - here.pts, after.pts - here.pts
    box = between(here.box, after.box, elapsed=elapsed, whole=whole)
    if track.shape == "all_but":
        box = between_inward(here.box, after.box, elapsed=elapsed, whole=whole)
    if is_empty(box):
        raise invalid_plan("pts", "where the box that stays bare holds a pixel; set a key first", f"{pts}")
    return Key(pts, *box)


def join(first: Track, second: Track) -> Track:
    """One track that hides what two hid, and what lies between them.

    Args:
        first: Its id stays.
        second: Of the same shape, and begins when the first ends or later; a key of both is of one box.
    """
    if first.shape != second.shape or not (first.state.hides and second.state.hides):
        raise invalid_plan("tracks", "two of one shape that both hide", f"{first.shape} {first.state} and "
                           f"{second.shape} {second.state}")  # fmt: skip
    last, begins = first.keys[-1], second.keys[0]
    if begins.pts < last.pts:
        raise invalid_plan("tracks", f"the second to begin at {last.pts} or later", f"{begins.pts}")
    if begins.pts == last.pts and begins != last:
        raise invalid_plan(
            "tracks", f"one box for the key at {last.pts} that both have", "two; move one first"
        )
    keys = (*first.keys, *(key for key in second.keys if key.pts > last.pts))
    return replace(
        first, keys=keys, lineage=_lineage(first, second), score_permille=max(first.score_permille,
                                                                             second.score_permille),
    )  # fmt: skip


def extend(track: Track, picture: Picture) -> Track:
    """The track from the first frame to the last; where its object was outside, the last known box stays."""
    keys = list(track.keys)
    if track.shape != "all_but":
        keys = _always_inside(keys)
    first, last = keys[0], keys[-1]
    if first.pts > picture.first_pts:
        keys.insert(0, first._replace(pts=picture.first_pts))
    if last.pts < picture.last_pts:
        keys.append(last._replace(pts=picture.last_pts))
    return replace(track, keys=tuple(keys))


def _always_inside(keys: Sequence[Key]) -> list[Key]:
    known = next((key for key in keys if not key.outside), None)
    if known is None:
        raise invalid_plan("track", "a key at which its object is in the picture", "none")
    held = []
    for key in keys:
        known = known if key.outside else key
        held.append(known._replace(pts=key.pts))
    return held


def _lineage(*tracks: Track) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name for track in tracks for name in (*track.lineage, track.id)))
    if len(names) > LINEAGE_MAX:
        raise invalid_plan("track", f"one made of at most {LINEAGE_MAX} others", f"{len(names)}")
    return names
