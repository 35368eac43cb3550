"""Make the next version of a redaction plan; the version it starts from stays as it is.

`reveals` says whether a version shows anything that another one hides. Whoever asks it decides who
must agree before the picture is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any, TypeVar

from evidence.errors import NotFound
from evidence.ids import new_id
from evidence.masks import Reason
from redaction.plan import Key, MutedSpan, RedactionPlan, State, Track, WholeFrameSpan
from redaction.plan_json import invalid_plan, plan_from_json, read_keys, read_word

CHANGES_MAX = 1_000


def amend(plan: RedactionPlan, changes: Sequence[Mapping[str, Any]], author: str) -> RedactionPlan:
    """The next version of a plan.

    Args:
        plan: The version to start from; it stays as it is.
        changes: In order, each ``{"op": …}`` with the fields of that operation:
            ``add_box`` (shape, reason, keys), ``move_box`` (track, keys), ``accept_box`` / ``delete_box``
            (track), ``set_reason`` (track, reason), ``mute`` (from_us, to_us, stream, kind, reason),
            ``unmute`` (span), ``mask_frames`` (from_pts, to_pts, reason), ``unmask_frames`` (span).
            Deleting, unmuting and unmasking refuse; the refused one is kept.
        author: Account id of who changes it.

    Raises:
        InvalidInput: A change that is not understood, or would make an invalid plan.
        NotFound: A track or span that the plan does not have.
    """
    if not 0 < len(changes) <= CHANGES_MAX:
        raise invalid_plan("changes", f"1 to {CHANGES_MAX} changes", f"{len(changes)}")
    amended = plan
    for change in changes:
        op = change.get("op") if isinstance(change, Mapping) else None
        if not isinstance(op, str) or op not in _OPERATIONS:
            raise invalid_plan("changes", f"an op of {', '.join(sorted(_OPERATIONS))}", repr(op)[:40])
        wanted, apply = _OPERATIONS[op]
        given = {name: value for name, value in change.items() if name != "op"}
        if set(given) != wanted:
            raise invalid_plan(f"change {op}", f"the fields {sorted(wanted)}", f"{sorted(given)}"[:200])
        amended = apply(amended, given, author)
    amended = replace(amended, number=plan.number + 1, parent=plan.number, author=author)
    return plan_from_json(amended.to_json())


def _add_box(plan: RedactionPlan, given: Mapping[str, Any], author: str) -> RedactionPlan:
    track = Track(
        id=str(new_id()), track_class="manual", origin="account", by=author,
        reason=read_word(given["reason"], "reason", Reason), state=State.ACCEPTED,
        shape=given["shape"], keys=read_keys(given["keys"], "keys"),
    )  # fmt: skip
    return replace(plan, tracks=(*plan.tracks, track))


def _move_box(plan: RedactionPlan, given: Mapping[str, Any], author: str) -> RedactionPlan:
    keys = read_keys(given["keys"], "keys")
    return _with_track(plan, given, keys=keys, origin="account", by=author, state=State.ACCEPTED)


def _with_track(plan: RedactionPlan, given: Mapping[str, Any], **facts: Any) -> RedactionPlan:
    return replace(plan, tracks=_exchanged(plan.tracks, given["track"], "track", **facts))


def _mute(plan: RedactionPlan, given: Mapping[str, Any], author: str) -> RedactionPlan:
    span = MutedSpan(
        id=str(new_id()), from_us=given["from_us"], to_us=given["to_us"], stream=given["stream"],
        kind=given["kind"], origin="account", by=author,
        reason=read_word(given["reason"], "reason", Reason), state=State.ACCEPTED,
    )  # fmt: skip
    return replace(plan, muted_spans=(*plan.muted_spans, span))


def _mask_frames(plan: RedactionPlan, given: Mapping[str, Any], author: str) -> RedactionPlan:
    span = WholeFrameSpan(
        id=str(new_id()), from_pts=given["from_pts"], to_pts=given["to_pts"], origin="account", by=author,
        reason=read_word(given["reason"], "reason", Reason), state=State.ACCEPTED,
    )  # fmt: skip
    return replace(plan, whole_frame_spans=(*plan.whole_frame_spans, span))


_OPERATIONS: dict[str, tuple[set[str], Callable[[RedactionPlan, Mapping[str, Any], str], RedactionPlan]]] = {
    "add_box": ({"shape", "reason", "keys"}, _add_box),
    "move_box": ({"track", "keys"}, _move_box),
    "accept_box": ({"track"}, lambda plan, given, _: _with_track(plan, given, state=State.ACCEPTED)),
    "delete_box": ({"track"}, lambda plan, given, _: _with_track(plan, given, state=State.REFUSED)),
    "set_reason": (
        {"track", "reason"},
        lambda plan, given, _: _with_track(plan, given, reason=read_word(given["reason"], "reason", Reason)),
    ),
    "mute": ({"from_us", "to_us", "stream", "kind", "reason"}, _mute),
    "unmute": (
        {"span"},
        lambda plan, given, _: replace(
            plan,
            muted_spans=_exchanged(plan.muted_spans, given["span"], "muted span", state=State.REFUSED),
        ),
    ),
    "mask_frames": ({"from_pts", "to_pts", "reason"}, _mask_frames),
    "unmask_frames": (
        {"span"},
        lambda plan, given, _: replace(
            plan,
            whole_frame_spans=_exchanged(
                plan.whole_frame_spans, given["span"], "whole-frame span", state=State.REFUSED
            ),
        ),
    ),
}

T = TypeVar("T", Track, MutedSpan, WholeFrameSpan)


def _exchanged(entries: tuple[T, ...], wanted: object, what: str, **facts: Any) -> tuple[T, ...]:
    if wanted not in [entry.id for entry in entries]:
        raise NotFound(f"{what} {str(wanted)[:40]}: expected one of the plan, found none with this id")
    return tuple([replace(entry, **facts) if entry.id == wanted else entry for entry in entries])


def reveals(old: RedactionPlan, new: RedactionPlan) -> bool:
    """Whether ``new`` may show or let hear anything that ``old`` hides; True when that is not certain.

    Each thing hidden in ``old`` is looked for under its own id in ``new``, so one mask is never taken
    for another that happens to lie above it.
    """
    lessened = any(new.coverage.get(name) != said for name, said in old.coverage.items())
    if old.picture != new.picture or lessened:
        return True
    tracks = {track.id: track for track in new.tracks if track.state is not State.REFUSED}
    sounds = {span.id: span for span in new.muted_spans if span.state is not State.REFUSED}
    frames = {span.id: span for span in new.whole_frame_spans if span.state is not State.REFUSED}
    # A refused span shows frames the decoder could not vouch for.
    shown_before = {span.id: span for span in old.whole_frame_spans if span.state is State.REFUSED}
    return not (
        all(
            (there := tracks.get(track.id)) is not None and _covers(there, track)
            for track in old.tracks
            if track.state is not State.REFUSED
        )
        and all(
            (sound := sounds.get(span.id)) is not None
            and sound.from_us <= span.from_us
            and sound.to_us >= span.to_us
            and sound.stream in {None, span.stream}
            and sound.kind == span.kind
            for span in old.muted_spans
            if span.state is not State.REFUSED
        )
        and all(
            (whole := frames.get(span.id)) is not None
            and whole.from_pts <= span.from_pts
            and whole.to_pts >= span.to_pts
            for span in old.whole_frame_spans
            if span.state is not State.REFUSED
        )
        and all(
            shown_before.get(span.id) == span for span in new.whole_frame_spans if span.state is State.REFUSED
        )
    )


def _covers(new: Track, old: Track) -> bool:
    """Whether a track hides all that another hides, at every time.

    Edges move evenly between keys, so what holds at both ends of a stretch without keys holds inside it.
    """
    if new.shape == old.shape and new.keys == old.keys:
        return True
    if new.shape != "rectangle":
        # A wider ellipse leaves out corners of a narrower one.
        return False
    times = sorted({key.pts for key in (*old.keys, *new.keys)})
    moments = [(time, time) for time in times] + list(pairwise(times))
    return all(_holds(new, old, since, until) for since, until in moments)


def _holds(new: Track, old: Track, since: int, until: int) -> bool:
    for at in (since, until):
        hidden, hides = _edges(old.keys, since, at), _edges(new.keys, since, at)
        if hidden is not None and (hides is None or any(a > b for a, b in zip(hides, hidden, strict=True))):
            return False
    return True


def _edges(keys: Sequence[Key], since: int, at: int) -> tuple[Fraction, ...] | None:
    """The edges at ``at`` on the stretch that begins at ``since``, the far ones negated; None hides nothing.

    ``at`` may be the end of the stretch: then it is where the box arrives, not what the next key says.
    """
    if not keys[0].pts <= since <= keys[-1].pts or at > keys[-1].pts:
        return None
    place = max(index for index, key in enumerate(keys) if key.pts <= since)
    here = keys[place]
    if here.outside:
        return None
    share = Fraction(0)
    target = here
    if at > here.pts:
        after = keys[place + 1]
        target = here if after.outside else after
        share = Fraction(at - here.pts, after.pts - here.pts)
    ends = ((here.x0, target.x0), (here.y0, target.y0), (-here.x1, -target.x1), (-here.y1, -target.y1))
    return tuple(first + share * (last - first) for first, last in ends)
