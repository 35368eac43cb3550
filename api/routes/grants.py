"""Viewing grants: asking to see an item, and taking that back."""

from __future__ import annotations

from uuid import UUID

from fastapi import Response

from api.auth.capability import Use, mint
from api.auth.gate import Gate
from api.auth.rights import is_showable
from api.auth.seat import DeskOf
from api.desk import Work
from api.issuing import Variant, issue_grant, revoke_grant
from api.presenting import coverage_of, poster_url
from api.resolving import (
    all_awaiting,
    awaiting_approval,
    ladder_of,
    masked_name,
    newest,
)
from api.schemas.viewing import GrantRequest, GrantShown, State
from evidence.access import Act, may
from evidence.errors import NotFound, NotPermitted, Unavailable
from evidence.item import Custody
from evidence.kinds import MediaKind
from storage.db import cases, grants, items, releases
from storage.db.tables import Derivative, Grant, Item
from transcode.names import MASKED_PREFIX

gate = Gate("调阅 Viewing")
PLACEHOLDER_URL = "/static/placeholder.svg"


@gate.post(
    "/items/{item_id}/grants",
    Act.SEE_REDACTED,
    status_code=201,
    problems=(404, 409),
    summary="申请调阅 Ask to see an item",
)
def ask(item_id: UUID, body: GrantRequest, desk: DeskOf) -> GrantShown:
    """脱敏件依角色;原件须有权限、目的与理由;待审核的脱敏件仅供审核人预览。地址限时有效,可随时撤销。

    The masked rendition by role; the original by right, purpose and reason; what awaits approval, in the same
    way, for whoever may approve it. The addresses end with the grant. Until the masked rendition is there,
    `state` is `pending` and only a placeholder is shown.
    """
    with desk.writing() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id, lock=True)
        case = (
            cases.case_by_id(work.session, work.agency_id, body.case_id) if body.case_id is not None else None
        )
        asked = (body.span.from_us, body.span.to_us) if body.span is not None else None
        grant = issue_grant(
            work, item, body.variant, purpose=body.purpose, reason=body.reason, case=case, asked=asked
        )
        return show(work, item, grant)


@gate.get("/grants/{grant_id}", Act.SEE_REDACTED, problems=(404,), summary="调阅授权 A grant")
def get_grant(grant_id: UUID, desk: DeskOf) -> GrantShown:
    """本人的授权,含当前状态。One's own grant, as it stands now."""
    with desk.reading() as work:
        grant = grants.grant_in_force(work.session, work.agency_id, grant_id, work.now)
        _require_own(work, grant)
        releases.require_of(work.session, grant, work.now)
        return show(work, items.item_by_id(work.session, work.agency_id, grant.item_id), grant)


@gate.delete(
    "/grants/{grant_id}", Act.SEE_REDACTED, status_code=204, problems=(404,), summary="撤销授权 Revoke"
)
def revoke(grant_id: UUID, desk: DeskOf) -> Response:
    """本人、法制审核或档案人员可撤销,立即生效。Its holder, legal review or the archive; at once."""
    with desk.writing() as work:
        grant = grants.grant_by_id(work.session, work.agency_id, grant_id, lock=True)
        _require_own(work, grant, also=Act.SEE_ORIGINAL)
        revoke_grant(work, grant, "revoked")
    return Response(status_code=204)


def _require_own(work: Work, grant: Grant, also: Act | None = None) -> None:
    if grant.account_id != work.actor.account_id and not (also is not None and may(work.actor, also)):
        raise NotPermitted("grant: expected your own, found another's", code="grant_not_yours")


def show(work: Work, item: Item, grant: Grant) -> GrantShown:
    """A grant with its addresses, as things stand."""
    keys, media_url = work.storage.keys, work.settings.media_url
    made = items.derivatives_of(work.session, work.agency_id, item.id, light=True)
    is_photo = item.media_kind == MediaKind.PHOTO
    whole = grant.span_from_us is None
    playlist = mint(keys, Use.PLAYLIST, work.agency_id, grant.id, grant.expires_at)
    media = f"{media_url}/m/{mint(keys, Use.MEDIA, work.agency_id, grant.id, grant.expires_at)}"
    state, file_name = _state(work, item, grant)
    poster = poster_url(item.id)
    if grant.variant == Variant.AWAITING:
        # Its own picture and words; those of the version in force are of another.
        made = all_awaiting(work.session, work.agency_id, item.id)
        still = next((row for row in made if row.kind == "redacted_poster"), None)
        poster = f"{media}/{masked_name(still)}" if whole and still is not None else poster
    if grant.variant == Variant.ORIGINAL and whole and any(row.kind == "poster" for row in made):
        poster = f"{media}/poster.jpg"
    elif grant.variant == Variant.ORIGINAL and whole and is_photo and state == "ready":
        poster = f"{media}/photo.jpg"
    plays = state != "pending" and not is_photo
    return GrantShown(
        grant_id=grant.id,
        item_id=item.id,
        variant=Variant(grant.variant),
        state=state,
        span_us=None if grant.span_from_us is None else (grant.span_from_us, grant.span_to_us or 0),
        expires_at=grant.expires_at,
        playlist_url=f"/api/v1/playlists/{playlist}/index.m3u8" if plays else None,
        variants_url=f"/api/v1/playlists/{playlist}/variants.m3u8" if plays else None,
        file_url=f"{media}/{file_name}" if whole and file_name else None,
        poster_url=poster,
        track_url=_track_url(grant, media, made),
        **_wayfinding(grant, media, made),
        placeholder_url=PLACEHOLDER_URL if state == "pending" else None,
        coverage=coverage_of(made),
        quarantined=item.custody == Custody.QUARANTINED,
    )


def _track_url(grant: Grant, media: str, made: list[Derivative]) -> str | None:
    """Where the route is: under a grant of the whole original alone, for it says where people went."""
    is_open = grant.variant == Variant.ORIGINAL and grant.span_from_us is None
    return f"{media}/track.geojson" if is_open and any(row.kind == "track" for row in made) else None


def _wayfinding(grant: Grant, media: str, made: list[Derivative]) -> dict[str, str | None]:
    """Where thumbnails, waveform and scenes are: of a whole item alone, for each shows all of it."""
    prefix = "" if grant.variant == Variant.ORIGINAL else MASKED_PREFIX
    newest_of = {row.kind: row for row in made if grant.span_from_us is None}
    return {
        f"{kind}_url": f"{media}/{masked_name(row)}" if row is not None else None
        for kind in ("thumbnails", "waveform", "waveform_image", "scenes")
        for row in [newest_of.get(f"{prefix}{kind}")]
    }


def _state(work: Work, item: Item, grant: Grant) -> tuple[State, str | None]:
    """How far what the grant shows is, and the name of the whole file."""
    if grant.variant != Variant.ORIGINAL:
        kind = "redacted_photo" if item.media_kind == MediaKind.PHOTO else "redacted"
        look = awaiting_approval if grant.variant == Variant.AWAITING else newest
        row = look(work.session, work.agency_id, item.id, kind)
        is_there = row is not None and row.masked and is_showable(item)
        return ("ready", masked_name(row)) if row is not None and is_there else ("pending", None)
    if item.media_kind == MediaKind.PHOTO:
        row = newest(work.session, work.agency_id, item.id, "photo")
        return "ready" if row is not None else "pending", "original"
    try:
        ladder = ladder_of(work.session, work.storage, grant, item)
    except NotFound:
        return "pending", "original"
    except Unavailable:
        return "growing", "original"
    return "growing" if all(rung.is_growing for rung in ladder.rungs) else "ready", "original"
