"""Make the next version of a redaction plan; the version it starts from stays as it is.

`redaction.revealing` says whether the next one shows anything that the one in force hides. Whoever asks it
decides who must agree before the picture is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from evidence.errors import Conflict, NotFound
from evidence.ids import new_id
from evidence.masks import Reason
from redaction import edits
from redaction.plan import TRACK_CLASSES, MutedSpan, RedactionPlan, State, Track, WholeFrameSpan
from redaction.plan_json import invalid_plan, plan_from_json, read_keys, read_text, read_word
from redaction.revealing import reveals

__all__ = ["amend", "restore", "reveals"]

CHANGES_MAX = 1_000
Given = Mapping[str, Any]


def amend(plan: RedactionPlan, changes: Sequence[Given], author: str) -> RedactionPlan:
    """The next version of a plan.

    Args:
        plan: The version to start from; it stays as it is.
        changes: In order, each ``{"op": …}`` with the fields of that operation (`OPERATIONS`, in words in
            docs/ref/api.md). Deleting, unmuting and unmasking refuse; the refused one is kept.
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
        if not isinstance(op, str) or op not in OPERATIONS:
            raise invalid_plan("changes", f"an op of {', '.join(sorted(OPERATIONS))}", repr(op)[:40])
        operation = OPERATIONS[op]
        given = {name: value for name, value in change.items() if name != "op"}
        if operation.needs - given.keys() or given.keys() - operation.needs - operation.may:
            wanted = f"the fields {sorted(operation.needs)}"
            wanted += f" and maybe {sorted(operation.may)}" if operation.may else ""
            raise invalid_plan(f"change {op}", wanted, f"{sorted(map(str, given))}"[:200])
        amended = operation.apply(amended, given, author)
    return next_version(plan, amended, author)


def restore(plan: RedactionPlan, older: RedactionPlan, author: str) -> RedactionPlan:
    """The next version, hiding what an older one hid: undoing all that was changed since.

    Raises:
        Conflict: The older one is of another item or picture (``plan_does_not_fit``).
    """
    if (older.item_id, older.picture) != (plan.item_id, plan.picture):
        raise Conflict(
            f"plan {older.number}: expected one for the item and picture of plan {plan.number}, "
            "found one for another; choose another version",
            code="plan_does_not_fit",
        )
    return next_version(plan, older, author)


def next_version(plan: RedactionPlan, amended: RedactionPlan, author: str) -> RedactionPlan:
    """What was made of a plan, numbered as its next version and checked as one from outside."""
    numbered = replace(amended, number=plan.number + 1, parent=plan.number, author=author)
    return plan_from_json(numbered.to_json())


def why(given: Given) -> dict[str, Any]:
    """The reason of a change, with its text: the reason ``other`` alone says nothing."""
    reason = read_word(given["reason"], "reason", Reason)
    text = read_text(given["text"], "text") if given.get("text") is not None else ""
    if reason is Reason.OTHER and not text:
        raise invalid_plan("reason other", "a text that says which", "none")
    return {"reason": reason, "reason_text": text}


def refused(author: str) -> dict[str, Any]:
    """What a track or span becomes that somebody refuses: it stands under their name."""
    return {"state": State.REFUSED, "by": author, "origin": "account"}


def _add_box(plan: RedactionPlan, given: Given, author: str) -> RedactionPlan:
    track = Track(
        id=str(new_id()), track_class=_class_of(given), origin="account", by=author, state=State.ACCEPTED,
        shape=given["shape"], keys=read_keys(given["keys"], "keys", str(given["shape"])), **why(given),
    )  # fmt: skip
    return replace(plan, tracks=(*plan.tracks, track))


def _class_of(given: Given) -> str:
    name = given.get("class", "manual")
    if not isinstance(name, str) or name not in TRACK_CLASSES:
        raise invalid_plan("class", f"one of {', '.join(TRACK_CLASSES)}", repr(name)[:40])
    return name


def _move_box(plan: RedactionPlan, given: Given, author: str) -> RedactionPlan:
    shape = given.get("shape", _track(plan, given["track"]).shape)
    keys = read_keys(given["keys"], "keys", str(shape))
    return _drawn(plan, given, author, replace(_track(plan, given["track"]), shape=shape, keys=keys))


def _set_key(plan: RedactionPlan, given: Given, author: str) -> RedactionPlan:
    track = _track(plan, given["track"])
    (key,) = read_keys([given["key"]], "key", track.shape)
    return _drawn(plan, given, author, edits.with_key(track, key))


def _delete_key(plan: RedactionPlan, given: Given, author: str) -> RedactionPlan:
    return _drawn(plan, given, author, edits.without_key(_track(plan, given["track"]), given["pts"]))


def _drawn(plan: RedactionPlan, given: Given, author: str, track: Track) -> RedactionPlan:
    """The plan with a track as a person drew it, under their name."""
    return _with_track(plan, given, shape=track.shape, keys=track.keys, lineage=track.lineage,
                       origin="account", by=author, state=State.ACCEPTED)  # fmt: skip


def _split(plan: RedactionPlan, given: Given, author: str) -> RedactionPlan:
    pts = given["pts"]
    if not isinstance(pts, int) or isinstance(pts, bool):
        raise invalid_plan("pts", "a whole number", repr(pts)[:40])
    track = _track(plan, given["track"])
    pieces = [replace(piece, by=author, origin="account") for piece in edits.split(track, pts, str(new_id()))]
    return _instead(plan, {track.id: pieces})


def _join(plan: RedactionPlan, given: Given, author: str) -> RedactionPlan:
    names = given["tracks"]
    if not isinstance(names, list | tuple) or len(names) != 2 or names[0] == names[1]:
        raise invalid_plan("tracks", "[the one, the other]", repr(names)[:80])
    first, second = (_track(plan, name) for name in names)
    joined = replace(edits.join(first, second), by=author, origin="account", state=State.ACCEPTED)
    joined_plan = _instead(plan, {first.id: [joined], second.id: []})
    # Where the machine was not sure of what was joined, it is not sure of what it became.
    doubtful = [replace(each, track=first.id) if each.track == second.id else each for each in plan.doubtful]
    return replace(joined_plan, doubtful=tuple(doubtful))


def _instead(plan: RedactionPlan, pieces: Mapping[str, Sequence[Track]]) -> RedactionPlan:
    return replace(plan, tracks=tuple(new for track in plan.tracks for new in pieces.get(track.id, [track])))


def _extend(plan: RedactionPlan, given: Given, author: str) -> RedactionPlan:
    track = _track(plan, given["track"])
    if plan.picture is None:
        raise invalid_plan("plan", "one for pictures", "one for sound alone")
    if not track.state.hides:
        raise invalid_plan("track", "one that hides; accept it first", str(track.state))
    return _with_track(plan, given, keys=edits.extend(track, plan.picture).keys, by=author, origin="account")


def _keep_visible(plan: RedactionPlan, given: Given, author: str) -> RedactionPlan:
    text = read_text(given["text"], "text")
    return _with_track(plan, given, state=State.KEPT_VISIBLE, reason_text=text, by=author, origin="account")


def _track(plan: RedactionPlan, name: object) -> Track:
    found = next((track for track in plan.tracks if track.id == name), None)
    if found is None:
        raise _not_there("track", name)
    return found


def _with_track(plan: RedactionPlan, given: Given, **facts: Any) -> RedactionPlan:
    return replace(plan, tracks=_exchanged(plan.tracks, given["track"], "track", **facts))


def _mute(plan: RedactionPlan, given: Given, author: str) -> RedactionPlan:
    span = MutedSpan(
        id=str(new_id()), from_us=given["from_us"], to_us=given["to_us"], stream=given["stream"],
        kind=given["kind"], origin="account", by=author, state=State.ACCEPTED, **why(given),
    )  # fmt: skip
    return replace(plan, muted_spans=(*plan.muted_spans, span))


def _delete_box(plan: RedactionPlan, given: Given, author: str) -> RedactionPlan:
    return _with_track(plan, given, **refused(author))


def _unmute(plan: RedactionPlan, given: Given, author: str) -> RedactionPlan:
    spans = _exchanged(plan.muted_spans, given["span"], "muted span", **refused(author))
    return replace(plan, muted_spans=spans)


def _mask_frames(plan: RedactionPlan, given: Given, author: str) -> RedactionPlan:
    span = WholeFrameSpan(
        id=str(new_id()), from_pts=given["from_pts"], to_pts=given["to_pts"], origin="account", by=author,
        state=State.ACCEPTED, **why(given),
    )  # fmt: skip
    return replace(plan, whole_frame_spans=(*plan.whole_frame_spans, span))


def _unmask_frames(plan: RedactionPlan, given: Given, author: str) -> RedactionPlan:
    spans = _exchanged(plan.whole_frame_spans, given["span"], "whole-frame span", **refused(author))
    return replace(plan, whole_frame_spans=spans)


def _accept_span(plan: RedactionPlan, given: Given, _author: str) -> RedactionPlan:
    """Sound or frames that a person looked at stay hidden."""
    wanted = given["span"]
    if wanted in [span.id for span in plan.muted_spans]:
        muted = _exchanged(plan.muted_spans, wanted, "muted span", state=State.ACCEPTED)
        return replace(plan, muted_spans=muted)
    frames = _exchanged(plan.whole_frame_spans, wanted, "span", state=State.ACCEPTED)
    return replace(plan, whole_frame_spans=frames)


class Operation(NamedTuple):
    """One way to change a plan."""

    needs: frozenset[str]
    may: frozenset[str]
    apply: Callable[[RedactionPlan, Given, str], RedactionPlan]


def _operation(
    needs: str, apply: Callable[[RedactionPlan, Given, str], RedactionPlan], may: str = ""
) -> Operation:
    return Operation(frozenset(needs.split()), frozenset(may.split()), apply)


OPERATIONS: dict[str, Operation] = {
    "add_box": _operation("shape reason keys", _add_box, "class text"),
    "move_box": _operation("track keys", _move_box, "shape"),
    "set_key": _operation("track key", _set_key),
    "delete_key": _operation("track pts", _delete_key),
    "split_track": _operation("track pts", _split),
    "join_tracks": _operation("tracks", _join),
    "extend_track": _operation("track", _extend),
    "accept_box": _operation("track", lambda plan, given, _: _with_track(plan, given, state=State.ACCEPTED)),
    "delete_box": _operation("track", _delete_box),
    "keep_visible": _operation("track text", _keep_visible),
    "set_class": _operation(
        "track class", lambda plan, given, _: _with_track(plan, given, track_class=_class_of(given))
    ),
    "set_reason": _operation(
        "track reason", lambda plan, given, _: _with_track(plan, given, **why(given)), "text"
    ),
    "mute": _operation("from_us to_us stream kind reason", _mute, "text"),
    "unmute": _operation("span", _unmute),
    "mask_frames": _operation("from_pts to_pts reason", _mask_frames, "text"),
    "unmask_frames": _operation("span", _unmask_frames),
    "accept_span": _operation("span", _accept_span),
}

T = TypeVar("T", Track, MutedSpan, WholeFrameSpan)


def _exchanged(entries: tuple[T, ...], wanted: object, what: str, **facts: Any) -> tuple[T, ...]:
    if wanted not in [entry.id for entry in entries]:
        raise _not_there(what, wanted)
    return tuple([replace(entry, **facts) if entry.id == wanted else entry for entry in entries])


def _not_there(what: str, wanted: object) -> NotFound:
    return NotFound(f"{what} {str(wanted)[:40]}: expected one of the plan, found none with this id")
