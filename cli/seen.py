"""Whether pictures of a room come, for whoever has just begun a session in it."""

from __future__ import annotations

import sys
import time

from cli.room import WORDS
from cli.shell import Desk
from config.rooms import RoomSettings
from ingest.recorder import registry
from ingest.recorder.registry import StreamNow

WAIT_S = 10.0
"""An idle room connects, waits for its first keyframe and says so within that."""
LOOK_EVERY_S = 0.3


def wait_for_pictures(desk: Desk, room: RoomSettings, wait_s: float = WAIT_S) -> list[str]:
    """Wait until pictures of every stream are recorded; not for long, nor where no host records the room.

    Returns:
        Each stream of which none are, and what is said of it.
    """
    until, is_told = time.monotonic() + wait_s, False
    while True:
        unseen = [each for each in _streams(desk, room) if not each.is_seen]
        hoped = [each for each in unseen if each.phase is not None and not each.is_away]
        if not hoped or time.monotonic() >= until:
            return [_said(each) for each in unseen]
        if not is_told:
            is_told = True
            most = f"{wait_s:.0f}"
            words = f"等待画面,最多 {most} 秒 / it has begun; waiting for pictures, at most {most} s"
            print(words, file=sys.stderr, flush=True)
        time.sleep(LOOK_EVERY_S)


def _streams(desk: Desk, room: RoomSettings) -> list[StreamNow]:
    with desk.read() as session:
        return registry.streams_now(session, desk.agency, [room], desk.now())[room.room_no]


def _said(stream: StreamNow) -> str:
    why = "" if stream.said is None or stream.phase is None or not stream.said.why else f": {stream.said.why}"
    return f"{stream.name} ({WORDS[stream.phase]}{why})"
