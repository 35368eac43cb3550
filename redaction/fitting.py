"""Fit what was found in a long recording into what a plan may hold, never hiding less.

A plan of more tracks, keys or spans than `redaction.plan_json` reads could be kept and never be read again.
The longest tracks stay; where the others are, the frames are hidden whole, and a person is asked. Spans that
are too many grow together over the shortest pauses between them. Room is left for what people add.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evidence.ids import new_id
from evidence.masks import Reason
from redaction.plan import DoubtfulSpan, MutedSpan, RedactionPlan, State, Track, WholeFrameSpan
from redaction.plan_json import KEYS_MAX, SPANS_MAX, TRACKS_MAX

TRACKS_PROPOSED_MAX = TRACKS_MAX * 9 // 10
KEYS_PROPOSED_MAX = KEYS_MAX * 9 // 10
SPANS_PROPOSED_MAX = SPANS_MAX * 9 // 10
Span = tuple[int, int]


def fitted(plan: RedactionPlan) -> RedactionPlan:
    """A proposed plan that can be read again; the same where it is within bounds."""
    kept, merged = _told_apart(plan.tracks)
    fits = replace(plan, muted_spans=_fitted_sound(plan.muted_spans))
    if not merged and len(plan.whole_frame_spans) <= SPANS_PROPOSED_MAX:
        return fits
    spans = [(span.from_pts, span.to_pts) for span in plan.whole_frame_spans]
    spans += [(track.keys[0].pts, track.keys[-1].pts) for track in merged]
    whole = closed_up(spans, SPANS_PROPOSED_MAX)
    by = merged[0].by if merged else plan.whole_frame_spans[0].by
    ids = {track.id for track in kept}
    doubtful = [doubt for doubt in plan.doubtful if doubt.track is None or doubt.track in ids]
    doubtful += [DoubtfulSpan(None, *span, "more masks than a plan holds, masked whole") for span in whole]
    return replace(
        fits,
        tracks=tuple(kept),
        whole_frame_spans=tuple(
            WholeFrameSpan(str(new_id()), *span, "model", by, Reason.PRIVACY, State.PROPOSED)
            for span in whole
        ),
        doubtful=tuple(doubtful),
    )


def _told_apart(tracks: Sequence[Track]) -> tuple[list[Track], list[Track]]:
    """Tracks that stay, in their order, and those that do not: the shortest, in time."""
    lasting = sorted(tracks, key=lambda track: track.keys[0].pts - track.keys[-1].pts)
    ids: set[str] = set()
    keys = 0
    for track in lasting[:TRACKS_PROPOSED_MAX]:
        keys += len(track.keys)
        if keys > KEYS_PROPOSED_MAX:
            break
        ids.add(track.id)
    return [track for track in tracks if track.id in ids], [track for track in tracks if track.id not in ids]


def _fitted_sound(spans: tuple[MutedSpan, ...]) -> tuple[MutedSpan, ...]:
    if len(spans) <= SPANS_PROPOSED_MAX:
        return spans
    first = {span.stream: span for span in spans}
    return tuple(
        replace(one, id=str(new_id()), from_us=low, to_us=high)
        for stream, one in first.items()
        for low, high in closed_up(
            [(span.from_us, span.to_us) for span in spans if span.stream == stream],
            SPANS_PROPOSED_MAX // len(first),
        )
    )


def closed_up(spans: Sequence[Span], most: int) -> list[Span]:
    """At most so many spans that hold all of those given, in order, closed over the shortest pauses.

    Args:
        spans: From and to, in any order.
        most: At least 1.
    """
    apart: list[Span] = []
    for low, high in sorted(spans):
        if apart and low <= apart[-1][1]:
            apart[-1] = apart[-1][0], max(apart[-1][1], high)
        else:
            apart.append((low, high))
    pauses = sorted(range(1, len(apart)), key=lambda at: apart[at][0] - apart[at - 1][1])
    closed = set(pauses[: max(0, len(apart) - most)])
    made: list[Span] = []
    for at, (low, high) in enumerate(apart):
        if at in closed:
            made[-1] = made[-1][0], high
        else:
            made.append((low, high))
    return made
