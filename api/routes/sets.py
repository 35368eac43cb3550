"""Grant sets: the files of one recording as one playlist, sources of a case side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Path, Request, Response

from api.auth.capability import Use, unfold
from api.auth.gate import Gate, Open
from api.auth.seat import DeskOf
from api.captions import track_of
from api.desk import Installation, InstallationOf, Work
from api.fairness import Shares
from api.issuing import Variant
from api.resolving import settling
from api.routes.playlists import (
    CAPTIONS,
    PLAYLIST,
    CaptionsResponse,
    PieceNo,
    PlaylistResponse,
    RungName,
    Sliced,
    Token,
    answer_captions,
    answer_playlist,
    no_captions,
    note_playlists,
    variants_of,
)
from api.schemas.viewing import (
    AlignedGrant,
    AlignedRequest,
    AlignedSource,
    AlignedStretch,
    LeftOut,
    RecordingGrant,
    RecordingRequest,
    SetMember,
)
from api.sets import (
    MIXED,
    MOST_LANES,
    MOST_MEMBERS,
    Lane,
    Member,
    Seen,
    Wanted,
    aligned_of,
    have_to_tell,
    issue_set,
    lane_of,
    lane_url,
    revoke_set,
    seen_of,
    side_by_side,
    tell_lane,
)
from api.telling import started_at_of
from evidence.access import Act, may
from evidence.errors import NotFound, NotPermitted
from ingest.grouping import recording_of
from ingest.timeline import lane_of_item, timeline_of_case
from storage.db import accounts, cases, grants, items
from storage.db.tables import Grant, GrantSet
from transcode.captions import Captions, pieces_of
from transcode.multivariant import Variant as PlaylistVariant
from transcode.multivariant import multivariant_playlist
from transcode.playlist import SAFE_LIMIT_S, iframe_playlist, media_playlist
from transcode.synchrony import Aligned

gate = Gate("调阅 Viewing")
_at_work = Shares(2 * MOST_MEMBERS, "members in playlists", code="set_busy")
"""Each member costs a few queries: one address must not keep every thread busy with playlists of it."""
LaneNo = Annotated[int, Path(ge=0, lt=MOST_LANES)]
FileName = Annotated[
    str, Path(pattern=r"^(index|variants|(rung|keyframes|marks)-[A-Za-z0-9_]{1,24})$", max_length=34)
]


@gate.post(
    "/items/{item_id}/recording/grants",
    Act.SEE_REDACTED,
    status_code=201,
    problems=(404, 409),
    summary="申请调阅同次录制 Ask to see a recording",
)
def ask_for_recording(item_id: UUID, body: RecordingRequest, desk: DeskOf) -> RecordingGrant:
    """同次录制的各文件合为一个播放列表;逐件判断权限,无权的不列入并注明,空档不作为影像播放。

    The files of one press of the button as one playlist. Each is decided by the right to it; what is not
    permitted is left out and listed. Time between files is stated by date and never shown as footage.
    """
    with desk.writing() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id)
        case = cases.case_by_id(work.session, work.agency_id, body.case_id) if body.case_id else None
        members = [Member(row.id) for row in recording_of(work.session, item).members]
        wanted = Wanted(body.variant, body.purpose, body.reason, case)
        return _shown(work, desk.installation, issue_set(work, "recording", members, wanted))


@gate.post(
    "/cases/{case_id}/aligned",
    Act.SEE_REDACTED,
    status_code=201,
    problems=(404, 409),
    summary="多路同步调阅 Ask to see sources side by side",
)
def ask_for_aligned(case_id: UUID, body: AlignedRequest, desk: DeskOf) -> AlignedGrant:
    """最多 8 路,各一播放列表;`stretches` 给出每段影像的时刻与位置,无影像时停在下一段开头等候。

    Up to eight sources, a playlist each. `stretches` says when each piece of footage shows and at which
    position: start at `seek_to_s`, and hold a player where the next stretch begins until its time comes.
    """
    with desk.writing() as work:
        case = cases.case_by_id(work.session, work.agency_id, case_id)
        window = (body.from_at.astimezone(UTC), body.to_at.astimezone(UTC))
        found = timeline_of_case(work.session, work.agency_id, case.id, work.now)
        members = side_by_side(found, window, body.lanes)
        wanted = Wanted(body.variant, body.purpose, body.reason, case)
        row = issue_set(work, "aligned", members, wanted, window)
        return _aligned(work, desk.installation, row)


@gate.get(
    "/grant-sets/{set_id}",
    Act.SEE_REDACTED,
    problems=(404, 410, 503),
    summary="多件合一的调阅授权 A grant set",
)
def get_set(set_id: UUID, desk: DeskOf) -> RecordingGrant | AlignedGrant:
    """本人的授权,含各件当前状态。One's own, each member as it stands now."""
    with desk.reading() as work:
        row = grants.set_in_force(work.session, work.agency_id, set_id, work.now)
        _require_own(work, row)
        show = _aligned if row.kind == "aligned" else _shown
        # As for its playlists, and for the same reason.
        held = grants.grants_of_set(work.session, work.agency_id, row.id)
        with _at_work.taken(row.id, len(held)):
            return show(work, desk.installation, row)


@gate.delete(
    "/grant-sets/{set_id}", Act.SEE_REDACTED, status_code=204, problems=(404,), summary="撤销 Revoke a set"
)
def revoke(set_id: UUID, desk: DeskOf) -> Response:
    """本人、法制审核或档案人员可撤销,其中各件立即失效。Each grant in it ends at once."""
    with desk.writing() as work:
        row = grants.set_by_id(work.session, work.agency_id, set_id, lock=True)
        _require_own(work, row, also=Act.SEE_ORIGINAL)
        revoke_set(work, row, "revoked")
    return Response(status_code=204)


@gate.get(
    "/playlists/{token}/lane-{lane}/{name}.m3u8",
    Open.CAPABILITY,
    problems=(404, 409, 410, 503),
    response_class=PlaylistResponse,
    responses=PLAYLIST,
    summary="多件合一的播放列表 Playlist over several items",
)
def playlist(
    token: Token,
    lane: LaneNo,
    name: FileName,
    request: Request,
    installation: InstallationOf,
    sliced: Sliced = False,
) -> Response:
    """`index`、`variants`、`rung-…`、`keyframes-…`、`marks-…`,含义同单件。As for a single item."""
    return answer_playlist(_read(installation, token, lane, partial(_text, name)), request, sliced=sliced)


@gate.get(
    "/playlists/{token}/lane-{lane}/marks-{name}-{number}.vtt",
    Open.CAPABILITY,
    problems=(404, 409, 410, 503),
    response_class=CaptionsResponse,
    responses=CAPTIONS,
    summary="多件合一的一段标记 Markers of a stretch over several items",
)
def marks_of(
    token: Token, lane: LaneNo, name: RungName, number: PieceNo, installation: InstallationOf
) -> Response:
    """WebVTT,时间为播放列表内的位置。Times are positions of the list."""
    return answer_captions(_read(installation, token, lane, lambda made: made.captions(name).piece(number)))


def _read(installation: Installation, token: str, lane: int, write: Callable[[_Made], str]) -> str:
    storage = installation.storage
    now = storage.clock.now()
    capability = unfold(storage.keys, token, now)
    if capability.use is not Use.SET:
        raise NotFound("address: expected one of a grant set, found another", code="capability_unknown")
    with storage.database.read() as session:
        row = grants.set_in_force(session, capability.agency_id, capability.subject_id, now)
        held = grants.grants_of_set(session, row.agency_id, row.id, lane=lane)
    with _at_work.taken(row.id, len(held)):
        made = _made(installation, row, held, now)
        text = write(made)
    note_playlists(installation, dict(made.lane.shown))
    return text


@dataclass(frozen=True)
class _Made:
    """The lists of a lane, on the clock of a window where the set has one."""

    lane: Lane
    aligned: Aligned | None = None

    def captions(self, rung: str) -> Captions:
        if not self.lane.has_captions:
            raise no_captions()
        if self.aligned is not None and rung == MIXED:
            return Captions(pieces_of(self.aligned.shown))
        listed = self.lane.lists.get(rung)
        if self.aligned is not None or listed is None or not listed.parts:
            raise _no_rung(rung)
        if listed.is_settling:
            raise settling()
        limit_s = SAFE_LIMIT_S if self.lane.was_open else None
        return Captions.beside(listed.parts, limit_s=limit_s, more_follows=listed.more_follows)


def _text(name: str, made: _Made) -> str:
    kind, _, rung = name.partition("-")
    if kind == "marks":
        return made.captions(rung).playlist(name)
    return _written(made.lane, name) if made.aligned is None else _of_window(made, made.aligned, name)


def _of_window(made: _Made, aligned: Aligned, name: str) -> str:
    if name == "index" or not aligned.stretches:
        return aligned.playlist()
    if name != "variants":
        raise NotFound(
            "playlist: expected index or variants, found another; one rung is aligned", code="nothing_here"
        )
    shown = [part for part, _ in aligned.shown]
    rung = PlaylistVariant.of("index.m3u8", *shown)
    return multivariant_playlist(
        [replace(rung, captions=track_of(MIXED)) if made.lane.has_captions else rung]
    )


def _made(installation: Installation, row: GrantSet, held: Sequence[Grant], now: datetime) -> _Made:
    storage = installation.storage
    with storage.database.read() as session:
        seen = seen_of(session, storage, held, now)
    if row.kind == "recording" and have_to_tell(seen):
        with storage.database.transaction() as session:
            items.lock_items(session, row.agency_id, [grant.item_id for grant in held])
            held = grants.grants_of_set(session, row.agency_id, row.id, lane=held[0].lane, lock=True)
            seen = seen_of(session, storage, held, now)
            tell_lane(seen)
    if row.kind == "aligned":
        aligned, found = aligned_of(installation, row, seen)
        return _Made(found, aligned)
    return _Made(lane_of(installation, seen))


def _written(lane: Lane, name: str) -> str:
    kind, _, rung = name.partition("-")
    asked = lane.lists.get(rung) if rung else lane.lists[MIXED]
    if asked is not None and asked.is_settling and (rung or not asked.parts):
        raise settling()
    if not any(listed.parts for listed in lane.lists.values()):
        raise NotFound(
            "renditions: expected one of any item of the set, found none yet; ask again",
            code="rendition_missing",
        )
    is_choice = len(lane.offered) > 1 or lane.was_open or lane.has_captions
    if kind == "variants" or (kind == "index" and is_choice):
        offered = {each: lane.lists[each].parts for each in lane.offered if lane.lists[each].parts}
        return multivariant_playlist(variants_of(offered, has_captions=lane.has_captions))
    listed = lane.lists.get(lane.offered[0] if kind == "index" else rung)
    if listed is None or not listed.parts:
        raise _no_rung(rung)
    write = iframe_playlist if kind == "keyframes" else media_playlist
    limit_s = SAFE_LIMIT_S if lane.was_open else None
    is_known = not lane.was_open
    return write(listed.parts, limit_s=limit_s, more_follows=listed.more_follows, is_known=is_known)


def _no_rung(rung: str) -> NotFound:
    return NotFound(f"rung {rung}: expected one that is there, found none", code="rendition_missing")


def _require_own(work: Work, row: GrantSet, also: Act | None = None) -> None:
    if row.account_id != work.actor.account_id and not (also is not None and may(work.actor, also)):
        raise NotPermitted("grant set: expected your own, found another's", code="grant_not_yours")


def _shown(work: Work, installation: Installation, row: GrantSet) -> RecordingGrant:
    held = grants.grants_of_set(work.session, work.agency_id, row.id)
    return RecordingGrant(
        set_id=row.id,
        variant=Variant(row.variant),
        expires_at=row.expires_at,
        playlist_url=lane_url(installation, row, 0, "index"),
        variants_url=lane_url(installation, row, 0, "variants"),
        members=members_shown(seen_of(work.session, work.storage, held, work.now)),
        left_out=left_out_of(row),
    )


def _aligned(work: Work, installation: Installation, row: GrantSet) -> AlignedGrant:
    held = grants.grants_of_set(work.session, work.agency_id, row.id)
    seen = seen_of(work.session, work.storage, held, work.now)
    rows = items.items_by_id(work.session, work.agency_id, [grant.item_id for grant in held])
    devices = accounts.device_numbers(
        work.session, work.agency_id, [item.device_id for item in rows.values() if item.device_id is not None]
    )
    sources = []
    for lane, group in groupby(seen, key=lambda each: each.grant.lane or 0):
        members = list(group)
        item = rows[members[0].grant.item_id]
        aligned, _ = aligned_of(installation, row, members)
        sources.append(
            AlignedSource(
                lane=lane_of_item(item.device_id, item.captured_place),
                device_no=devices.get(item.device_id) if item.device_id else None,
                place=item.captured_place,
                playlist_url=lane_url(installation, row, lane, "index") if aligned.map else None,
                variants_url=lane_url(installation, row, lane, "variants") if aligned.map else None,
                seek_to_us=aligned.seek_us,
                seek_to_s=aligned.seek_us / 1_000_000,
                shown_us=aligned.shown_us,
                stretches=[
                    AlignedStretch(from_us=each.from_us, to_us=each.to_us, position_us=each.position_us)
                    for each in aligned.map
                ],
                members=members_shown(members),
            )
        )
    return AlignedGrant(
        set_id=row.id,
        variant=Variant(row.variant),
        from_at=row.window_from or row.issued_at,
        to_at=row.window_to or row.issued_at,
        expires_at=row.expires_at,
        sources=sources,
        left_out=left_out_of(row),
    )


def members_shown(seen: Sequence[Seen]) -> list[SetMember]:
    """Each member as it stands."""
    return [
        SetMember(
            grant_id=each.grant.id,
            item_id=each.grant.item_id,
            span_us=None
            if each.grant.span_from_us is None
            else (each.grant.span_from_us, each.grant.span_to_us or 0),
            starts_at=started_at_of(each.grant, each.placement),
            state=_state(each),
            why=each.why,
        )
        for each in seen
    ]


def _state(each: Seen) -> Literal["ready", "growing", "pending", "ended"]:
    if each.why == "grant_ended":
        return "ended"
    if each.ladder is None:
        return "pending"
    return "growing" if all(rung.is_growing for rung in each.ladder.rungs) else "ready"


def left_out_of(row: GrantSet) -> list[LeftOut]:
    """What was asked for and not granted."""
    return [LeftOut(item_id=UUID(entry["item_id"]), why=entry["why"]) for entry in row.left_out]
