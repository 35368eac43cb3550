"""A stream that browsers do not play is watched live by one encode that all who look share."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import av
import pytest
from sqlalchemy import select

from config.rooms import RoomSettings, StreamSettings
from evidence.clock import SystemClock
from ingest.daemon.rooms import Rooms
from media.footage import read_frame_number
from media.live.journal import read
from storage.db.tables import StoredObject
from tests.support.databases import laid_url
from tests.support.hls import MediaPlaylist, Piece, read_media
from tests.support.media import make_plain
from tests.support.rooms import recorded_for_real
from tests.support.scene import Live, Scene, served
from transcode import live_encodes

FPS = 10
API = "/api/v1"
WHY = {"purpose": "supervision", "reason": "现场督导"}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, Rooms]]:
    folder = tmp_path_factory.mktemp("encoded")
    camera = folder / "camera.mp4"
    make_plain(camera, seconds=14, fps=FPS, codec="mjpeg")
    streams = [StreamSettings(name="main", url=f"file://{camera}")]
    scene = Scene(
        folder, laid_url("sqlite", folder), RoomSettings(room_no="R-1", name="一号", streams=streams)
    )
    # The recorder's process tells the time of the host.
    scene.storage = replace(scene.storage, clock=SystemClock())
    try:
        with served(scene) as live, recorded_for_real(scene.settings, scene.storage, folder) as rooms:
            yield live, rooms
    finally:
        scene.close()


def call(live: Live, name: str, method: str, path: str, status: int = 200, **body: Any) -> Any:
    answer = live.as_(name).request(method, API + path, **({"json": body} if method == "POST" else {}))
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def until(is_so: Callable[[], Any], patience_s: float = 20) -> Any:
    deadline = time.monotonic() + patience_s
    while not (found := is_so()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def listed(live: Live, shown: dict[str, Any]) -> MediaPlaylist | None:
    answer = live.anyone.get(shown["streams"][0]["playlist_url"])
    assert answer.status_code in {200, 404}, answer.text
    return read_media(answer.text) if answer.status_code == 200 else None


def with_files(found: MediaPlaylist | None, count: int) -> MediaPlaylist | None:
    return found if found is not None and len({each.url for each in found.pieces}) >= count else None


def numbers_of(live: Live, found: MediaPlaylist, piece: Piece) -> list[int | None]:
    """The burnt-in numbers of the pictures of a segment."""
    head = next(each.head for each in found.pieces if each.url == piece.url and each.head is not None)
    data = b""
    for first, size in ((0, head[1]), (piece.first, piece.size)):
        answer = live.anyone.get(piece.url, headers={"Range": f"bytes={first}-{first + size - 1}"})
        assert answer.status_code == 206, answer.text
        data += answer.content
    with av.open(io.BytesIO(data)) as opened:
        assert {each.codec_context.name for each in opened.streams} == {"h264", "aac"}
        return [read_frame_number(each.to_ndarray(format="gray")) for each in opened.decode(video=0)]


def encodes_of(scene: Scene) -> list[Path]:
    return sorted(path.parent for path in scene.storage.scratch.glob("live/*/R-1/main/*/journal.jsonl"))


def test_one_encode_is_shared_and_begun_again_when_it_dies(
    room: tuple[Live, Rooms], monkeypatch: pytest.MonkeyPatch
) -> None:
    live, rooms = room
    scene = live.scene
    monkeypatch.setattr(live_encodes, "IDLE_S", 10.0)
    begun = call(live, "officer", "POST", "/room-sessions", 201, room_no="R-1", facts={"case_no": "无号"})
    path = f"/room-sessions/{begun['id']}"
    run = until(lambda: [each for each in scene.storage.recorder.glob("*/R-1/main/*") if marks(each)])[0]
    asked_s = time.monotonic()
    shown = call(live, "archivist", "POST", f"{path}/live-grants", 201, **WHY)
    assert shown["streams"][0]["encode"] in {"starting", "running"} and shown["streams"][0]["codecs"] == [
        "mjpeg",
        "aac",
    ]
    first = until(lambda: listed(live, shown))
    assert time.monotonic() - asked_s < 6

    # Each picture stands at the wall time at which the recorder took it.
    begins = datetime.fromtimestamp(marks(run)[0]["from_utc_us"] / 1e6, UTC)
    (number, *_), dated = numbers_of(live, first, first.pieces[0]), first.pieces[0].dated_at
    assert number is not None and dated is not None
    assert abs(dated - begins - timedelta(seconds=number / FPS)) < timedelta(milliseconds=60)
    assert datetime.now(UTC) - dated < timedelta(seconds=9)
    assert len(scene.leaves(begun["id"], "live:issued")) == 1

    # Whoever comes later shares it.
    other = call(live, "legal_reviewer", "POST", f"{path}/live-grants", 201, **WHY)
    both = until(lambda: listed(live, other))
    assert both.pieces[0].url.rpartition("/")[2] == first.pieces[0].url.rpartition("/")[2]
    (encode,) = encodes_of(scene)

    # A file ends, the encode dies: what was told stays, and it goes on behind that.
    rooms._rooms[0].streams[0].cut()
    cut = until(lambda: with_files(listed(live, shown), 2))
    monkeypatch.setattr(live_encodes, "IDLE_S", 1.5)
    os.kill(read(encode)[0][0]["pid"], signal.SIGKILL)
    again = until(lambda: with_files(listed(live, shown), 3))
    assert cut.pieces[: len(first.pieces)] == first.pieces and again.pieces[: len(cut.pieces)] == cut.pieces
    dates = [each.dated_at for each in again.pieces if each.dated_at is not None]
    assert dates == sorted(dates) and len(encodes_of(scene)) == 2
    lengths = [each.duration_us for each in again.pieces]
    assert max(lengths) <= 3_400_000

    # What somebody hides is left out for all who did not ask to see it; custody says who did.
    hidden = call(
        live, "officer", "POST", f"{path}/masks", 201, reason="minor", statement="未成年人", hides="sound",
        from_at=begun["started_at"], to_at=datetime.now(UTC).isoformat(),
    )  # fmt: skip
    assert hidden["items"] == [] and hidden["to_at"] is not None
    covered = listed(live, shown)
    assert covered is None or again.pieces[0] not in covered.pieces
    head = {"Range": f"bytes={first.pieces[0].first}-{first.pieces[0].first + 9}"}
    assert live.anyone.get(first.pieces[0].url, headers=head).status_code in {403, 404}
    seen = call(live, "archivist", "POST", f"{path}/live-grants", 201, **WHY, unmasked=True)
    assert (shown["unmasked"], seen["unmasked"]) == (False, True)
    uncovered = listed(live, seen)
    assert uncovered is not None and len(uncovered.pieces) >= len(first.pieces)
    said = [each["facts"]["unmasked"] for each in scene.leaves(begun["id"], "grant:issued")]
    assert said == [False, False, True]
    lasting = call(live, "officer", "POST", f"{path}/masks", 201, reason="privacy", statement="更衣")
    state = call(live, "archivist", "GET", f"/live-grants/{shown['grant_id']}")
    assert lasting["to_at"] is None and state["masked_since"] == lasting["from_at"]
    call(live, "handler2", "POST", f"{path}/masks/{lasting['id']}/end", 403)
    call(live, "officer", "POST", f"{path}/masks/{lasting['id']}/end")
    call(live, "officer", "POST", f"{path}/masks/{lasting['id']}/end", 409)
    call(live, "officer", "POST", f"{path}/masks/{begun['id']}/end", 404)
    found = call(live, "legal_reviewer", "GET", f"{path}/masks")
    assert [each["reason"] for each in found] == ["minor", "privacy"] and found[1]["to_at"] is not None

    # Nobody may be told of what comes after the end; then the list ends, and the recording is as it was.
    call(live, "officer", "POST", f"{path}/stop")
    last = until(lambda: (found := listed(live, seen)) and found.is_ended and found)
    assert last.pieces[: len(uncovered.pieces)] == uncovered.pieces
    assert (
        call(live, "archivist", "GET", f"/live-grants/{shown['grant_id']}")["streams"][0]["state"] == "over"
    )
    until(lambda: read(encodes_of(scene)[-1])[0][-1] == {"kind": "ended", "why": "unwatched"})
    for each in kept(scene):
        with av.open(io.BytesIO(each)) as original:
            assert original.streams.video[0].codec_context.name == "mjpeg"


def marks(run: Path) -> list[dict[str, Any]]:
    return [line for line in read(run)[0] if line["kind"] == "mark" and "from_utc_us" in line]


def kept(scene: Scene) -> list[bytes]:
    with scene.storage.database.read() as session:
        keys = session.scalars(select(StoredObject.store_key).order_by(StoredObject.stored_at)).all()
    paths = [scene.storage.objects.path(key) for key in keys]
    return [path.read_bytes() for path in paths if path is not None]
