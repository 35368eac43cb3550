"""A session is watched while it is recorded: who may, what its lists say, and that its bytes are the original."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from config.settings import RoomSettings, StreamSettings
from evidence.clock import SystemClock
from evidence.kinds import Role
from ingest.daemon.rooms import Rooms
from storage.db.tables import Item, StoredObject
from tests.support.databases import laid_url
from tests.support.hls import MediaPlaylist, read_media
from tests.support.media import frame_numbers, make_plain
from tests.support.rooms import recorded_for_real
from tests.support.scene import CASE_A, Live, Scene, served

API = "/api/v1"
WHY = {"purpose": "supervision", "reason": "现场督导"}


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    path = tmp_path_factory.mktemp("room") / "camera.mp4"
    make_plain(path, seconds=16, keyframe_every=25)
    return {"main": path, "room": path}


@contextmanager
def room_of(folder: Path, footage: dict[str, Path], **more: Any) -> Iterator[tuple[Live, Rooms]]:
    streams = [StreamSettings(name=name, url=f"file://{path}") for name, path in footage.items()]
    room = RoomSettings(room_no="R-1", name="一号询问室", streams=streams, **more)
    scene = Scene(folder, laid_url("sqlite", folder), room)
    # The recorder's process tells the time of the host.
    scene.storage = replace(scene.storage, clock=SystemClock())
    try:
        with served(scene) as live, recorded_for_real(scene.settings, scene.storage, folder) as rooms:
            yield live, rooms
    finally:
        scene.close()


@pytest.fixture(scope="module")
def recorded(
    tmp_path_factory: pytest.TempPathFactory, footage: dict[str, Path]
) -> Iterator[tuple[Live, Rooms]]:
    with room_of(tmp_path_factory.mktemp("live"), footage) as found:
        yield found


def call(live: Live, name: str, method: str, path: str, status: int = 200, **body: Any) -> Any:
    given = {"json": body} if method == "POST" else {"params": body}
    answer = live.as_(name).request(method, API + path, **given)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def until(is_so: Callable[[], Any], patience_s: float = 20) -> Any:
    deadline = time.monotonic() + patience_s
    while not (found := is_so()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def listed(live: Live, shown: dict[str, Any], lane: int = 0, least: int = 1) -> MediaPlaylist:
    """The list of a stream, once it has so many pieces."""

    def look() -> MediaPlaylist | None:
        answer = live.anyone.get(shown["streams"][lane]["playlist_url"])
        assert answer.status_code in {200, 404}, answer.text
        found = read_media(answer.text) if answer.status_code == 200 else None
        return found if found is not None and len(found.pieces) >= least else None

    found: MediaPlaylist = until(look)
    return found


def bytes_of(live: Live, url: str, first: int, size: int) -> bytes:
    answer = live.anyone.get(url, headers={"Range": f"bytes={first}-{first + size - 1}"})
    assert answer.status_code == 206, answer.text
    return answer.content


def test_a_session_is_watched_and_its_files_are_the_same_bytes(
    recorded: tuple[Live, Rooms], tmp_path: Path
) -> None:
    live, rooms = recorded
    scene = live.scene
    begun = call(live, "officer", "POST", "/room-sessions", 201, room_no="R-1", facts={"case_no": CASE_A})
    path = f"/room-sessions/{begun['id']}"
    until(lambda: list((scene.storage.recorder / "R-1" / "main").glob("*/*.part")))
    for name in (*(set(Role) - {Role.LEGAL_REVIEWER, Role.ARCHIVIST, Role.HANDLER}), "handler2"):
        call(live, str(name), "POST", f"{path}/live-grants", 403, **WHY)
    call(live, "handler", "POST", f"{path}/live-grants", 422, purpose="supervision")
    asked_s = time.monotonic()
    shown = call(live, "handler", "POST", f"{path}/live-grants", 201, **WHY)
    first = [listed(live, shown, lane) for lane in (0, 1)]
    print("first list after", time.monotonic() - asked_s)
    for each in first:
        assert (each.kind, each.target_s, each.is_ended) == ("EVENT", 4, False)
    rooms._rooms[0].streams[0].cut()
    # While it grows: what was told stays, and more than one file is told.
    grown = listed(live, shown, least=6)
    assert grown.pieces[: len(first[0].pieces)] == first[0].pieces
    assert len({piece.url for piece in grown.pieces}) > 1
    behind = datetime.now(tz=grown.pieces[0].dated_at.tzinfo) - (
        max(p.dated_at for p in grown.pieces if p.dated_at)
    )
    print(behind, [(p.duration_us, p.dated_at, p.url[-12:]) for p in grown.pieces])
    url, head = grown.pieces[0].url, grown.pieces[0].head
    bytes_of(live, url, 0, head[1])
    print(call(live, "handler", "GET", f"/live-grants/{shown['grant_id']}"))
    call(live, "officer", "POST", f"{path}/stop")
    last = until(lambda: (found := listed(live, shown)).is_ended and found)
    print(len(last.pieces))
