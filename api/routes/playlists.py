"""HLS playlists under a capability. Their media lies at the media listener, under a capability of its own.

The playlist is made anew at each request from the fragments there are; the first one under a grant is
custody, the refreshes of a player are not.

While a rendition is being made its playlist is read again and again, and may only grow (RFC 8216 section
6.2.1). How it was begun is written into the grant: the date, the target duration, that it is an EVENT list,
and that a preview was shown, whose bytes are held as long and which the finished rung goes on from.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

from fastapi import Path, Query, Request, Response
from sqlalchemy.orm import Session

from api.auth.capability import TOKEN_CHARS, Use, unfold
from api.auth.gate import Gate, Open
from api.captions import captions_of, track_of
from api.desk import Installation, InstallationOf
from api.issuing import Once, note_issued
from api.resolving import ladder_of, parts_of, settling
from api.telling import Ladder, has_to_tell, limits_told, started_at_of, tell
from evidence.custody import Action
from evidence.errors import NotFound
from ingest.placement import placements_of
from storage.db import agencies, grants, items
from storage.db.tables import Grant
from transcode.captions import MEDIA_TYPE as CAPTIONS_TYPE
from transcode.captions import Captions
from transcode.multivariant import Variant as PlaylistVariant
from transcode.multivariant import multivariant_playlist
from transcode.playlist import Part, iframe_playlist, media_playlist
from transcode.slices import in_slices

gate = Gate("调阅 Viewing")
MEDIA_TYPE = "application/vnd.apple.mpegurl"
LONG_BYTES = 32 << 10
"""Longer playlists are sent compressed to whoever takes that: one of eight hours is 3 MB of like lines."""
NOTED = Action.PLAYLIST_ISSUED
_noted = Once()

Token = Annotated[str, Path(min_length=TOKEN_CHARS, max_length=TOKEN_CHARS, pattern=r"^[A-Za-z0-9_-]+$")]
RungName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,24}$", max_length=24)]
PieceNo = Annotated[int, Path(ge=0, lt=1_000_000)]
CAPTIONS = {200: {"content": {CAPTIONS_TYPE: {"schema": {"type": "string"}}}, "description": "WebVTT"}}
Sliced = Annotated[
    bool,
    Query(
        description="每段各有地址,不用字节范围 / "
        "Each segment at an address of its own, for players that do not keep to byte ranges"
    ),
]
PLAYLIST = {200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}, "description": "HLS"}}


class PlaylistResponse(Response):
    """An HLS playlist; other origins may read it, the address itself is the secret."""

    media_type = MEDIA_TYPE


class CaptionsResponse(Response):
    """WebVTT; other origins may read it."""

    media_type = CAPTIONS_TYPE


@dataclass(frozen=True)
class _Opened:
    """A playlist capability that is in force, and what it shows."""

    grant: Grant
    ladder: Ladder
    started_at: datetime | None
    parts: dict[str, list[Part]]
    """What can be played of each rung."""
    has_captions: bool

    def media(self, name: str) -> str:
        return media_playlist(self._parts(name), limit_s=limits_told(self.grant).get(name))

    def keyframes(self, name: str) -> str:
        return iframe_playlist(self._parts(name), limit_s=limits_told(self.grant).get(name))

    def captions(self, name: str) -> Captions:
        if not self.has_captions:
            raise no_captions()
        return Captions.beside(self._parts(name), limit_s=limits_told(self.grant).get(name))

    def _parts(self, name: str) -> list[Part]:
        if name not in self.parts and name in self.ladder.names:
            raise settling()
        if name not in self.parts:
            raise NotFound(f"rung {name}: expected one that is there, found none", code="rendition_missing")
        return self.parts[name]

    def first(self) -> str:
        """One rung that is whole, and always was, and nothing to read beside it: its playlist. Else all."""
        is_one = self.grant.told is None and not self.ladder.is_coming and len(self.parts) == 1
        if is_one and not self.has_captions:
            return self.media(next(iter(self.parts)))
        return self.variants()

    def variants(self) -> str:
        """The multivariant playlist: every rung, what is read beside it, its keyframes where it has any."""
        offered = {rung.name: self.parts[rung.name] for rung in self.ladder.offered}
        return multivariant_playlist(variants_of(offered, has_captions=self.has_captions))


@gate.get(
    "/playlists/{token}/index.m3u8",
    Open.CAPABILITY,
    problems=(404, 409, 410),
    response_class=PlaylistResponse,
    responses=PLAYLIST,
    summary="播放列表 Playlist",
)
def index(token: Token, request: Request, installation: InstallationOf, sliced: Sliced = False) -> Response:
    """多档或仍在生成时为主列表,否则为媒体列表。限定时段时首尾向内取整。

    Multivariant when there is more than one rung, or more to come. The edges of a span are rounded inward.
    """
    return _answer(installation, request, token, sliced, _Opened.first)


@gate.get(
    "/playlists/{token}/variants.m3u8",
    Open.CAPABILITY,
    problems=(404, 409, 410),
    response_class=PlaylistResponse,
    responses=PLAYLIST,
    summary="主列表 Multivariant playlist",
)
def variants(
    token: Token, request: Request, installation: InstallationOf, sliced: Sliced = False
) -> Response:
    """始终为主列表:各档,以及供快速浏览的关键帧列表。

    Always multivariant: every rung, and the I-frame playlists of those whose keyframes are indexed.
    """
    return _answer(installation, request, token, sliced, _Opened.variants)


@gate.get(
    "/playlists/{token}/rung-{name}.m3u8",
    Open.CAPABILITY,
    problems=(404, 409, 410),
    response_class=PlaylistResponse,
    responses=PLAYLIST,
    summary="一档的播放列表 Playlist of one rung",
)
def rung(
    token: Token, name: RungName, request: Request, installation: InstallationOf, sliced: Sliced = False
) -> Response:
    """生成中的为 EVENT 列表,只增不改。An EVENT playlist, which only grows, while it is being made."""
    return _answer(installation, request, token, sliced, lambda opened: opened.media(name))


@gate.get(
    "/playlists/{token}/keyframes-{name}.m3u8",
    Open.CAPABILITY,
    problems=(404, 409, 410),
    response_class=PlaylistResponse,
    responses=PLAYLIST,
    summary="一档的关键帧列表 Keyframes of one rung",
)
def keyframes(
    token: Token, name: RungName, request: Request, installation: InstallationOf, sliced: Sliced = False
) -> Response:
    """仅关键帧,字节范围精确,供快进快退。I-frames alone, by exact byte ranges, for scrubbing."""
    return _answer(installation, request, token, sliced, lambda opened: opened.keyframes(name))


@gate.get(
    "/playlists/{token}/marks-{name}.m3u8",
    Open.CAPABILITY,
    problems=(404, 409, 410),
    response_class=PlaylistResponse,
    responses=PLAYLIST,
    summary="一档的标记列表 Markers beside one rung",
)
def marks(token: Token, name: RungName, request: Request, installation: InstallationOf) -> Response:
    """录制时所作标记(WebVTT 字幕),须有查阅该会话的权限。What was marked while it was recorded, as WebVTT.

    For those who may read the session; others find nothing.
    """
    return _answer(
        installation, request, token, False, lambda opened: opened.captions(name).playlist(f"marks-{name}")
    )


@gate.get(
    "/playlists/{token}/marks-{name}-{number}.vtt",
    Open.CAPABILITY,
    problems=(404, 409, 410),
    response_class=CaptionsResponse,
    responses=CAPTIONS,
    summary="一段标记 Markers of a stretch",
)
def marks_of(token: Token, name: RungName, number: PieceNo, installation: InstallationOf) -> Response:
    """WebVTT,时间为播放列表内的位置。Times are positions of the list."""
    return answer_captions(_read(installation, token, lambda opened: opened.captions(name).piece(number)))


def variants_of(offered: Mapping[str, Sequence[Part]], *, has_captions: bool) -> list[PlaylistVariant]:
    """The lists of each rung, as a multivariant playlist offers them."""
    rungs = [PlaylistVariant.of(f"rung-{name}.m3u8", *parts) for name, parts in offered.items()]
    if has_captions:
        rungs = [replace(rung, captions=track_of(name)) for rung, name in zip(rungs, offered, strict=True)]
    keyframes = (
        PlaylistVariant.of_keyframes(f"keyframes-{name}.m3u8", *parts) for name, parts in offered.items()
    )
    return [*rungs, *(found for found in keyframes if found is not None)]


def no_captions() -> NotFound:
    """There is nothing to read, or not for who asks: who may not is not told which."""
    return NotFound("markers: expected some that may be read, found none", code="nothing_here")


def answer_captions(text: str) -> Response:
    """Captions; other origins may read them, as the playlists that name them."""
    return CaptionsResponse(text, headers={"Access-Control-Allow-Origin": "*"})


def answer_playlist(text: str, request: Request, *, sliced: bool = False) -> Response:
    """A playlist, in the form that was asked for, compressed where it is long and the player takes that."""
    text = in_slices(text) if sliced else text
    headers = {"Access-Control-Allow-Origin": "*", "Vary": "Accept-Encoding"}
    body = text.encode()
    if len(body) > LONG_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
        body = gzip.compress(body, 1, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return PlaylistResponse(body, headers=headers)


def _answer(
    installation: Installation, request: Request, token: str, sliced: bool, write: Callable[[_Opened], str]
) -> Response:
    return answer_playlist(_read(installation, token, write), request, sliced=sliced)


def _read(installation: Installation, token: str, write: Callable[[_Opened], str]) -> str:
    storage = installation.storage
    now = storage.clock.now()
    capability = unfold(storage.keys, token, now)
    if capability.use is not Use.PLAYLIST:
        raise NotFound("address: expected one of a playlist, found another", code="capability_unknown")
    with storage.database.read() as session:
        grant = grants.grant_in_force(session, capability.agency_id, capability.subject_id, now)
        opened = _open(session, installation, grant, now)
    if has_to_tell(grant, opened.ladder):
        with storage.database.transaction() as session:
            # Who joins chunks holds the item: either the preview is told and held, or it is gone by now.
            items.item_by_id(session, grant.agency_id, grant.item_id, lock=True)
            grant = grants.grant_in_force(session, grant.agency_id, grant.id, now, lock=True)
            opened = _open(session, installation, grant, now)
            tell(grant, opened.ladder, opened.started_at)
    text = write(opened)
    note_playlists(installation, {grant: opened.ladder})
    return text


def _open(session: Session, installation: Installation, grant: Grant, now: datetime) -> _Opened:
    (item,) = items.items_by_id(session, grant.agency_id, [grant.item_id]).values()
    ladder = ladder_of(session, installation.storage, grant, item)
    placed = placements_of(session, grant.agency_id, [item], now).get(item.id)
    started_at = started_at_of(grant, placed)
    captions = captions_of(session, [grant], now).get(grant.id, ())
    parts = {rung.name: parts_of(installation, grant, rung, started_at, captions) for rung in ladder.rungs}
    return _Opened(grant, ladder, started_at, parts, bool(captions))


def note_playlists(installation: Installation, shown: Mapping[Grant, Ladder]) -> None:
    """One leaf for the playlist of each grant, however often it is fetched."""
    new = {grant: rungs for grant, rungs in shown.items() if not _noted.is_noted(grant.id, NOTED)}
    if not new:
        return
    storage = installation.storage
    now = storage.clock.now()
    with storage.database.transaction() as session:
        for known, ladder in sorted(new.items(), key=lambda each: each[0].id):
            grant = grants.grant_in_force(session, known.agency_id, known.id, now, lock=True)
            agency = agencies.agency_by_id(session, grant.agency_id)
            facts = {
                "rungs": [rung.name for rung in ladder.rungs],
                "sha256": [rung.sha256.hex() for rung in ladder.rungs if rung.sha256 is not None],
            }
            note_issued(session, agency, grant, NOTED, facts, now)
    for grant in new:
        _noted.remember(grant.id, NOTED)
