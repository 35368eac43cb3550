"""Make the next version of a redaction plan; the version it starts from stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from evidence.errors import NotFound
from evidence.ids import new_id
from redaction.plan import MutedSpan, Reason, RedactionPlan, State, Track, WholeFrameSpan
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
