"""What the streams of a room are doing, for people who watch: a row each, and news when it changes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from evidence.events import Event, Topic
from ingest.daemon.second_copies import Copier
from ingest.recorder.places import room_folder
from ingest.recorder.stream import Phase, StreamRecorder


class RoomState:
    """What was said of the streams of one room.

    Args:
        agency: Its id and its code.
        host: Who records it.
        floor_bytes: Of the disk; what lies above it is room to record.
        copier: Who keeps its second store up; None: it has none.
    """

    def __init__(
        self,
        agency: tuple[UUID, str],
        room_no: str,
        host: str,
        floor_bytes: int,
        copier: Copier | None = None,
    ) -> None:
        self._copier = copier
        self._agency_id, self._agency_code = agency
        self._own = room_folder(Path(), self._agency_id, room_no)
        self._room_no, self._host, self._floor_bytes = room_no, host, floor_bytes
        self._since: dict[str, tuple[Phase, datetime]] = {}

    def rows(self, streams: list[StreamRecorder], now: datetime) -> list[Mapping[str, Any]]:
        """The rows of `storage.db.room_streams`, as of now."""
        return [self._row(stream, now) for stream in streams]

    def news(self, streams: list[StreamRecorder], now: datetime) -> list[Event]:
        """What changed since this was asked last."""
        found = []
        for stream in streams:
            phase = stream.state.phase
            known = self._since.get(stream.name)
            if known is not None and known[0] is phase:
                continue
            self._since[stream.name] = (phase, now)
            if known is not None:
                facts = {"stream": stream.name, "why": stream.state.why if phase is Phase.WAITING else None}
                found.append(Event(Topic.ROOM, self._agency_code, self._room_no, str(phase), now, facts))
        return found

    def _row(self, stream: StreamRecorder, now: datetime) -> Mapping[str, Any]:
        state = stream.state
        is_connected = state.phase is Phase.RECORDING
        known = self._since.get(stream.name)
        return {
            "agency_id": self._agency_id,
            "room_no": self._room_no,
            "stream": stream.name,
            "host": self._host,
            "phase": str(state.phase),
            "since": known[1] if known is not None and known[0] is state.phase else now,
            "why": state.why,
            "silent_ms": round(state.silent_s * 1000)
            if is_connected and state.silent_s is not None
            else None,
            "bytes_s": state.bytes_s if is_connected else 0,
            "pictures_s": state.pictures_s if is_connected else 0.0,
            "waiting_bytes": state.waiting_bytes if is_connected else 0,
            "restarts": state.restarts,
            "free_bytes": max(0, _free_bytes(stream.folder) - self._floor_bytes),
            "tracks": list(state.streams),
            "copy_lag_bytes": self._copier.lag_bytes(self._own, stream.name) if self._copier else None,
            "copy_why": self._copier.why if self._copier else None,
            "told_at": now,
        }


def _free_bytes(folder: Path) -> int:
    try:
        disk = os.statvfs(folder)
    except OSError:
        # A disk that does not even answer has no room.
        return 0
    return disk.f_bavail * disk.f_frsize
