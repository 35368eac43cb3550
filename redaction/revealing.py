"""Whether a version of a plan shows anything that another one hides; whenever that is not certain, it does.

Each thing hidden in the old version is looked for in the new one under its own id, or in what it was split
or joined into (`Track.lineage`), so one mask is never taken for another that happens to lie above it.
What lineage says only chooses what is compared: that it covers is looked at, at every key and between.

A track that does not hide is a decision to show what is there, by which the check passes it over. One that
the old version does not have just so is a new decision, and reveals, whatever it lies on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from redaction.plan import Key, MutedSpan, RedactionPlan, Track

# Nothing of the source is left in these; in the others something is.
NOTHING_LEFT = frozenset({"silence", "tone"})


def reveals(old: RedactionPlan, new: RedactionPlan) -> bool:
    """Whether ``new`` may show or let hear anything that ``old`` hides; True when that is not certain."""
    lessened = any(new.coverage.get(name) != said for name, said in old.coverage.items())
    if old.picture != new.picture or lessened:
        return True
    hiding = [track for track in new.tracks if track.state.hides]
    sounds = {span.id: span for span in new.muted_spans if span.state.hides}
    frames = {span.id: span for span in new.whole_frame_spans if span.state.hides}
    # A span that does not hide shows frames the decoder could not vouch for.
    shown_before = {span.id: span for span in old.whole_frame_spans if not span.state.hides}
    by_name: dict[str, list[Track]] = {}
    for track in hiding:
        for name in {track.id, *track.lineage}:
            by_name.setdefault(name, []).append(track)
    # A track that does not hide silences the check where it lies.
    left_bare = {track.id: (track.shape, track.keys) for track in old.tracks if not track.state.hides}
    if any(left_bare.get(t.id) != (t.shape, t.keys) for t in new.tracks if not t.state.hides):
        return True
    return not (
        all(_is_covered(track, by_name) for track in old.tracks if track.state.hides)
        and all(
            (sound := sounds.get(span.id)) is not None and _mutes(sound, span)
            for span in old.muted_spans
            if span.state.hides
        )
        and all(
            (whole := frames.get(span.id)) is not None
            and whole.from_pts <= span.from_pts
            and whole.to_pts >= span.to_pts
            for span in old.whole_frame_spans
            if span.state.hides
        )
        and all(
            (before := shown_before.get(span.id)) is not None
            and before.from_pts <= span.from_pts
            and before.to_pts >= span.to_pts
            for span in new.whole_frame_spans
            if not span.state.hides
        )
    )


def _mutes(new: MutedSpan, old: MutedSpan) -> bool:
    return (
        new.from_us <= old.from_us
        and new.to_us >= old.to_us
        and new.stream in {None, old.stream}
        and (new.kind == old.kind or new.kind in NOTHING_LEFT)
    )


def _is_covered(old: Track, by_name: dict[str, list[Track]]) -> bool:
    """Whether what a track became hides all that it hid, at every time.

    Edges move evenly between keys, so what holds at both ends of a stretch without keys holds inside it.
    """
    kin = {track.id: track for name in (old.id, *old.lineage) for track in by_name.get(name, [])}.values()
    if any(new.shape == old.shape and new.keys == old.keys for new in kin):
        return True
    times = sorted({key.pts for track in (old, *kin) for key in track.keys})
    moments = [(time, time) for time in times] + list(pairwise(times))
    return all(any(_holds(new, old, since, until) for new in kin) or _shows(old, since, until)
               for since, until in moments)  # fmt: skip


def _shows(old: Track, since: int, until: int) -> bool:
    """Whether a track hides nothing on a stretch."""
    stretch = _stretch(old.keys, since, until)
    return stretch is None or (stretch[0].outside and old.shape != "all_but")


def _holds(new: Track, old: Track, since: int, until: int) -> bool:
    """Whether one track hides, from ``since`` to ``until``, all that another hides there."""
    hidden, hides = _stretch(old.keys, since, until), _stretch(new.keys, since, until)
    if hidden is None or hides is None:
        return hidden is None
    if new.shape == old.shape and _is_same(hidden, hides):
        return True
    if new.shape == "all_but":
        # Outside: everything is hidden.
        return hides[0].outside or (
            old.shape == "all_but" and not hidden[0].outside and _all_hold(hidden, hides, since, until)
        )
    if new.shape != "rectangle" or old.shape == "all_but":
        # A wider ellipse leaves out corners of a narrower one.
        return False
    return not hides[0].outside and _all_hold(hides, hidden, since, until)


def _is_same(one: tuple[Key, Key], other: tuple[Key, Key]) -> bool:
    if one[0] is one[1] and other[0] is other[1]:
        return one[0]._replace(pts=0) == other[0]._replace(pts=0)
    return one == other


def _all_hold(wide: tuple[Key, Key], narrow: tuple[Key, Key], since: int, until: int) -> bool:
    """Whether the one box contains the other at both ends of a stretch."""
    return all(
        low <= high
        for at in (since, until)
        for low, high in zip(_edges(wide, at), _edges(narrow, at), strict=True)
    )


def _stretch(keys: Sequence[Key], since: int, until: int) -> tuple[Key, Key] | None:
    """The key in force from ``since`` on and the one its box is on the way to; None: there is none."""
    if not keys[0].pts <= since <= until <= keys[-1].pts:
        return None
    place = bisect_right(keys, since, key=lambda key: key.pts) - 1
    here = keys[place]
    if until == here.pts or here.outside:
        return here, here
    after = keys[place + 1]
    # Leaving for the outside, the last known box stays until it is gone.
    stays = after.outside or (after.box, after.points) == (here.box, here.points)
    return here, here if stays else after


def _edges(stretch: tuple[Key, Key], at: int) -> tuple[Fraction, ...]:
    """The edges of the box at one time of a stretch, the far ones negated."""
    here, target = stretch
    if here.points != target.points:
        # All that a polygon ever is on the way lies in both boxes, and both may be hidden all the way.
        ends = [(min(a, b),) * 2 for a, b in zip(here[1:3], target[1:3], strict=True)]
        ends += [(-max(a, b),) * 2 for a, b in zip(here[3:5], target[3:5], strict=True)]
    else:
        ends = [(here.x0, target.x0), (here.y0, target.y0), (-here.x1, -target.x1), (-here.y1, -target.y1)]
    share = Fraction(0) if target is here else Fraction(at - here.pts, target.pts - here.pts)
    return tuple(first + share * (last - first) for first, last in ends)
