"""People without the right to originals watch a room live only where a live mask is set: what it leaves.

The camera burns a number into each picture, so that when each was recorded can be read off it. Every picture
that was ever encoded for them is decoded, whether a list tells of it or not.
"""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from config.rooms import RoomSettings, StreamSettings
from evidence.clock import SystemClock, to_micros
from evidence.masks import MARGIN_US
from media.footage import read_frame_number
from media.live.journal import read
from media.painting import FILL
from tests.support.databases import laid_url
from tests.support.hls import MediaPlaylist, read_media
from tests.support.media import make_plain
from tests.support.rooms import recorded_for_real
from tests.support.scene import CASE_A, Live, Scene, served
from transcode import live_encodes

FPS = 5
WIDTH, HEIGHT = 320, 180
API = "/api/v1"
WHY = {"purpose": "supervision", "reason": "现场督导"}
LEFT, TOP = (0, 0, 120, 60), (0, 0, WIDTH, 100)
NEAR_US = 100_000
"""So well a number tells when its picture was recorded: sound begins a little before the first."""
SURE_PX = 4
"""So far inside of an area nothing of what lies beside it is left by a coder."""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("masked")
    camera = folder / "camera.mp4"
    make_plain(camera, seconds=80, fps=FPS, keyframe_every=FPS, width_px=WIDTH, height_px=HEIGHT)
    streams = [StreamSettings(name=name, url=f"file://{camera}") for name in ("main", "room")]
    scene = Scene(
        folder, laid_url("sqlite", folder), RoomSettings(room_no="R-1", name="一号", streams=streams)
    )
    scene.storage = replace(scene.storage, clock=SystemClock())
    try:
        with served(scene) as live, recorded_for_real(scene.settings, scene.storage, folder):
            yield live
    finally:
        scene.close()


def call(live: Live, name: str, method: str, path: str, status: int = 200, **body: Any) -> Any:
    answer = live.as_(name).request(
        method, API + path, **({"json": body} if method in {"POST", "PATCH"} else {})
    )
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def until(is_so: Callable[[], Any], patience_s: float = 20) -> Any:
    deadline = time.monotonic() + patience_s
    while not (found := is_so()):
        assert time.monotonic() < deadline
        time.sleep(0.25)
    return found


def listed(live: Live, shown: dict[str, Any]) -> MediaPlaylist | None:
    answer = live.anyone.get(shown["streams"][0]["playlist_url"])
    assert answer.status_code in {200, 404}, answer.text
    return read_media(answer.text) if answer.status_code == 200 else None


@dataclass(frozen=True)
class Seen:
    """A picture that somebody without the right to originals could get."""

    at_us: int | None
    """When it was recorded, by the number in it; None: there is none to be read."""
    planes: tuple[np.ndarray, np.ndarray, np.ndarray]

    def is_filled(self, area: tuple[int, int, int, int], by: int = 12) -> bool:
        left, top, right, bottom = (
            area[0] + SURE_PX, area[1] + SURE_PX, area[2] - SURE_PX, area[3] - SURE_PX
        )  # fmt: skip
        parts = zip(self.planes, FILL, (1, 2, 2), strict=True)
        return all(
            np.abs(plane[top // step : bottom // step, left // step : right // step].astype(int) - fill).max()
            <= by
            for plane, fill, step in parts
        )


def seen_in(data: bytes, zero_us: int) -> tuple[list[Seen], float]:
    """Its pictures, and the loudest of its sound."""
    pictures, loudest = [], 0.0
    with av.open(io.BytesIO(data)) as opened:
        for frame in opened.decode():
            if isinstance(frame, av.AudioFrame):
                loudest = max(loudest, float(np.abs(frame.to_ndarray()).max()))
                continue
            yuv = frame.to_ndarray(format="yuv420p")
            luma, colour = yuv[:HEIGHT], yuv[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
            number = read_frame_number(luma)
            at_us = None if number is None else zero_us + number * 1_000_000 // FPS
            pictures.append(Seen(at_us, (luma, colour[0], colour[1])))
    return pictures, loudest


def told(live: Live, found: MediaPlaylist) -> list[bytes]:
    """The segments of a list, each with its head, as anybody who has its address gets them."""
    heads = {each.url: each.head for each in found.pieces if each.head is not None}
    data = []
    for piece in found.pieces:
        parts = [(0, heads[piece.url][1]), (piece.first, piece.size)]
        answers = [
            live.anyone.get(piece.url, headers={"Range": f"bytes={first}-{first + size - 1}"})
            for first, size in parts
        ]
        assert [each.status_code for each in answers] == [206, 206]
        data.append(b"".join(each.content for each in answers))
    return data


def dated(seen: list[Seen]) -> list[int]:
    return [each.at_us for each in seen if each.at_us is not None]


def mask(live: Live, path: str, *areas: tuple[int, int, int, int], **more: Any) -> int:
    """Set a live mask; when it was."""
    cover = {"width_px": WIDTH, "height_px": HEIGHT, "areas": [list(each) for each in areas], **more}
    made = call(
        live, "handler", "POST", f"{path}/live-masks", 201, streams={"main": cover}, statement="遮挡被询问人"
    )
    return to_micros(datetime.fromisoformat(made["made_at"]))


def encodes_of(scene: Scene) -> list[Path]:
    return sorted(path.parent for path in scene.storage.scratch.glob("live-masked/*/R-1/*/*/journal.jsonl"))


def test_what_a_live_mask_leaves_is_all_that_anybody_without_originals_can_get(
    room: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, scene = room, room.scene
    monkeypatch.setattr(live_encodes, "IDLE_S", 12.0)
    begun = call(live, "officer", "POST", "/room-sessions", 201, room_no="R-1", facts={})
    path = f"/room-sessions/{begun['id']}"
    # Of no case, it is nobody's but its own people's.
    for name in ("reviewer", "officer2"):
        answer = call(live, name, "POST", f"{path}/live-grants", 403, **WHY)
        assert answer["code"] == "session_not_yours"
    call(live, "officer", "PATCH", f"{path}/facts", case_no=CASE_A)
    run = until(lambda: [each for each in scene.storage.recorder.glob("*/R-1/main/*") if marks(each)])[0]
    zero_us = marks(run)[0]["from_utc_us"]

    # No mask, no view, for whoever runs the session or sees its case; and no mask by those who may not.
    for name in ("officer", "handler2", "reviewer"):
        answer = call(live, name, "POST", f"{path}/live-grants", 403, **WHY)
        assert answer["code"] == "live_mask_needed"
    call(live, "system_admin", "POST", f"{path}/live-grants", 403, **WHY)
    cover = {"width_px": WIDTH, "height_px": HEIGHT, "areas": [list(TOP)]}
    whole = {"streams": {"main": cover}, "statement": "遮挡"}
    call(live, "officer", "POST", f"{path}/live-masks", 403, **whole)
    call(live, "handler", "POST", f"{path}/live-masks", 422, streams={"none": cover}, statement="遮挡")
    none = {"main": {**cover, "areas": []}}
    call(live, "handler", "POST", f"{path}/live-masks", 422, streams=none, statement="遮挡")
    call(live, "officer", "POST", f"{path}/live-masks/lift", 409, statement="取消")
    until(lambda: marks(run)[-1]["to_utc_us"] > zero_us + 3_000_000)

    # The sound of this one may be heard; of the room's other stream nothing is said, and nothing is made.
    first_us = mask(live, path, LEFT, heard=True)
    call(live, "officer", "POST", f"{path}/live-grants", 403, **WHY, unmasked=True)
    shown = call(live, "officer", "POST", f"{path}/live-grants", 201, **WHY)
    assert [(each["state"], each["playlist_url"] is None) for each in shown["streams"]] == [
        ("live", False), ("not_shown", True)
    ]  # fmt: skip
    other = shown["streams"][0]["playlist_url"].replace("live-0", "live-1")
    assert live.anyone.get(other).json()["code"] == "live_waiting"
    found = until(lambda: (now := listed(live, shown)) and len(now.pieces) > 1 and now)
    early = [seen_in(data, zero_us) for data in told(live, found)]
    pictures = [each for part, _ in early for each in part]
    assert min(dated(pictures)) >= first_us + MARGIN_US - NEAR_US and len(dated(pictures)) == len(pictures)
    assert all(each.is_filled(LEFT) and not each.is_filled(TOP) for each in pictures)
    assert max(loud for _, loud in early) > 0.01
    assert call(live, "reviewer", "POST", f"{path}/live-grants", 201, **WHY)["masked"]
    facts = scene.leaves(begun["id"], "grant:issued")[-1]["facts"]
    assert facts["masked"] and len(scene.leaves(begun["id"], "live:issued")) == 1

    # Nothing that was recorded can be asked for, by whatever name.
    base = found.pieces[0].url.rpartition("/")[0]
    assert live.anyone.get(f"{base}/live-0-{run.name}-000000.mp4").status_code == 404
    plain = call(live, "handler", "POST", f"{path}/live-grants", 201, **WHY)
    assert not plain["masked"] and until(lambda: listed(live, plain)).pieces[0].url.find(run.name) > 0

    # One encode for all who watch; the one that dies is followed by another that keeps to the same.
    second = call(live, "handler", "POST", f"{path}/live-grants", 201, **WHY, masked=True)
    assert until(lambda: listed(live, second)) and len(encodes_of(scene)) == 1
    wider_us = mask(live, path, TOP)
    until(lambda: (now := listed(live, shown)) and ends_at(now) > wider_us + 1_500_000)
    os.kill(read(encodes_of(scene)[0])[0][0]["pid"], signal.SIGKILL)
    until(lambda: listed(live, shown) and len(encodes_of(scene)) == 2)
    until(lambda: len({each.url for each in listed(live, shown).pieces}) == 2)  # type: ignore[union-attr]

    # Lifted: nothing more, and nothing of what was shown; whoever runs the session may.
    piece = found.pieces[0]
    lifted = call(live, "officer", "POST", f"{path}/live-masks/lift", 201, statement="位置有误")
    lifted_us = to_micros(datetime.fromisoformat(lifted["made_at"]))
    head = {"Range": f"bytes={piece.first}-{piece.first + 9}"}
    assert live.anyone.get(shown["streams"][0]["playlist_url"]).json()["code"] == "live_mask_needed"
    assert live.anyone.get(piece.url, headers=head).status_code == 403
    time.sleep(1.2)
    again_us = mask(live, path, TOP)
    later = until(lambda: (now := listed(live, shown)) and ends_at(now) > again_us + 2_500_000 and now)
    assert live.anyone.get(piece.url, headers=head).status_code in {403, 404}
    late = [seen_in(data, zero_us) for data in told(live, later)]
    pictures = [each for part, _ in late for each in part]
    assert max(loud for _, loud in late) < 0.001
    assert min(dated(pictures)) >= again_us + MARGIN_US - NEAR_US and all(
        each.is_filled(TOP) for each in pictures
    )

    # What somebody hides of the session is none of it, though a live mask is in force.
    hidden = call(live, "officer", "POST", f"{path}/masks", 201, reason="privacy", statement="更衣")
    hidden_us = to_micros(datetime.fromisoformat(hidden["from_at"]))
    until(lambda: (listed(live, shown), marks(run)[-1]["to_utc_us"] > hidden_us + 2_500_000)[1])
    call(live, "officer", "POST", f"{path}/stop")

    # Every picture that was ever made for them, told or not.
    made = sorted(each for folder in encodes_of(scene) for each in folder.glob("*.mp4"))
    every = [seen_in(each.read_bytes(), zero_us)[0] for each in made]
    bare = [each for part in every for each in part if not each.is_filled((0, 0, WIDTH, HEIGHT))]
    assert bare and None not in [each.at_us for each in bare]
    for each in bare:
        at_us = each.at_us or 0
        assert each.is_filled(LEFT)
        assert (
            first_us + MARGIN_US - NEAR_US <= at_us < lifted_us + NEAR_US
            or again_us + MARGIN_US - NEAR_US <= at_us < hidden_us + NEAR_US
        )
        assert at_us < wider_us + NEAR_US or each.is_filled(TOP)
    assert sum(len(part) for part in every) > len(bare)
    revoked = call(live, "legal_reviewer", "DELETE", f"/live-grants/{shown['grant_id']}", 204)
    assert revoked is None and live.anyone.get(later.pieces[0].url).status_code == 410


def ends_at(found: MediaPlaylist) -> int:
    """UTC at the end of a list, by its dates."""
    at_us = 0
    for each in found.pieces:
        if each.dated_at is not None:
            at_us = to_micros(each.dated_at.astimezone(UTC))
        at_us += each.duration_us
    return at_us


def marks(run: Path) -> list[dict[str, Any]]:
    return [line for line in read(run)[0] if line["kind"] == "mark" and "from_utc_us" in line]
