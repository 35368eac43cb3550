"""HLS playlists under a capability. Their media lies at the media listener, under a capability of its own.

The playlist is made anew at each request from the fragments there are; the first one under a grant is
custody, the refreshes of a player are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Path, Response
from sqlalchemy.orm import Session

from api.auth.capability import TOKEN_CHARS, Use, mint, unfold
from api.auth.gate import Gate, Open
from api.desk import Installation, InstallationOf
from api.issuing import Once, note_issued
from api.resolving import Ladder, Rung, ladder_of, shown_span
from evidence.custody import Action
from evidence.errors import NotFound
from storage.db import agencies, grants, items
from storage.db.tables import Grant, Item
from transcode.playlist import Variant as PlaylistVariant
from transcode.playlist import media_playlist, multivariant_playlist

gate = Gate("调阅 Viewing")
MEDIA_TYPE = "application/vnd.apple.mpegurl"
_noted = Once()

Token = Annotated[str, Path(min_length=TOKEN_CHARS, max_length=TOKEN_CHARS, pattern=r"^[A-Za-z0-9_-]+$")]
RungName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,24}$", max_length=24)]
_PLAYLIST = {200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}, "description": "HLS"}}


class PlaylistResponse(Response):
    """An HLS playlist; other origins may read it, the address itself is the secret."""

    media_type = MEDIA_TYPE


@dataclass(frozen=True)
class _Opened:
    """A playlist capability that is in force, and what it shows."""

    grant: Grant
    item: Item
    ladder: Ladder
    media_url: str

    def playlist(self, rung: Rung) -> str:
        span = shown_span(self.grant)
        return media_playlist(
            rung.index,
            f"{self.media_url}/{rung.file_name}",
            span,
            strict=span is not None,
            started_at=self.item.captured_from,
            is_growing=rung.is_growing,
        )


@gate.get(
    "/playlists/{token}/index.m3u8",
    Open.CAPABILITY,
    problems=(404, 409, 410),
    response_class=PlaylistResponse,
    responses=_PLAYLIST,
    summary="播放列表 Playlist",
)
def index(token: Token, installation: InstallationOf) -> Response:
    """多档时为主列表,否则为媒体列表。限定时段时首尾向内取整。

    Multivariant when there is more than one rung. The edges of a span are rounded inward.
    """

    def write(opened: _Opened) -> str:
        if opened.ladder.rung_count == 1:
            return opened.playlist(opened.ladder.rungs[0])
        return multivariant_playlist(
            [PlaylistVariant.of(f"rung-{rung.name}.m3u8", rung.index) for rung in opened.ladder.rungs]
        )

    return _answer(installation, token, write)


@gate.get(
    "/playlists/{token}/rung-{name}.m3u8",
    Open.CAPABILITY,
    problems=(404, 409, 410),
    response_class=PlaylistResponse,
    responses=_PLAYLIST,
    summary="一档的播放列表 Playlist of one rung",
)
def rung(token: Token, name: RungName, installation: InstallationOf) -> Response:
    """生成中的为 EVENT 列表。An EVENT playlist while the rendition is being made."""

    def write(opened: _Opened) -> str:
        for each in opened.ladder.rungs:
            if each.name == name:
                return opened.playlist(each)
        raise NotFound(f"rung {name}: expected one that is there, found none", code="rendition_missing")

    return _answer(installation, token, write)


def _answer(installation: Installation, token: str, write: Callable[[_Opened], str]) -> Response:
    storage = installation.storage
    now = storage.clock.now()
    capability = unfold(storage.keys, token, now)
    if capability.use is not Use.PLAYLIST:
        raise NotFound("address: expected one of a playlist, found another", code="capability_unknown")
    with storage.database.read() as session:
        grant = grants.grant_in_force(session, capability.agency_id, capability.subject_id, now)
        opened = _open(session, installation, grant)
    text = write(opened)
    if not _noted.is_noted(grant.id, Action.PLAYLIST_ISSUED):
        _note(installation, opened)
    return PlaylistResponse(text, headers={"Access-Control-Allow-Origin": "*"})


def _open(session: Session, installation: Installation, grant: Grant) -> _Opened:
    storage = installation.storage
    item = items.item_by_id(session, grant.agency_id, grant.item_id)
    media = mint(storage.keys, Use.MEDIA, grant.agency_id, grant.id, grant.expires_at)
    ladder = ladder_of(session, storage, grant)
    return _Opened(grant, item, ladder, f"{installation.settings.media_url}/m/{media}")


def _note(installation: Installation, opened: _Opened) -> None:
    """One leaf for the playlist of a grant, however often it is fetched."""
    storage = installation.storage
    now = storage.clock.now()
    with storage.database.transaction() as session:
        grant = grants.grant_in_force(session, opened.grant.agency_id, opened.grant.id, now, lock=True)
        agency = agencies.agency_by_id(session, grant.agency_id)
        facts = {
            "rungs": [rung.name for rung in opened.ladder.rungs],
            "sha256": [rung.sha256.hex() for rung in opened.ladder.rungs if rung.sha256 is not None],
        }
        note_issued(session, agency, grant, Action.PLAYLIST_ISSUED, facts, now)
    _noted.remember(opened.grant.id, Action.PLAYLIST_ISSUED)
