"""Streams that browsers do not play, as they are watched live: by the encode that all who watch share.

What an encode has made is named and told as the recorder's own files are (`api.live`); the two meet here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from api.desk import Installation
from api.live_masks import NOBODY_KNOWS_US
from evidence.clock import to_micros
from evidence.errors import Unavailable
from ingest.recorder.places import room_folder
from ingest.recorder.watching import Recorded
from media.supervise import Limits
from storage.db.room_tables import RoomSession
from storage.open import Storage
from transcode.live_encodes import Bounds, EncodeNow, LiveEncodes, Told, piece_of, pieces


def lane_of(row: RoomSession, stream: str) -> Path:
    """A stream's folder, as seen from that of the recorders or of the encodes: no two agencies share one."""
    return room_folder(Path(), row.agency_id, row.room_no) / stream


def encodes_of(installation: Installation) -> LiveEncodes:
    """The encodes of this host, as its settings bound them."""
    media = installation.settings.media
    limits = Limits(
        cpu_s=media.child_cpu_s, memory_bytes=media.child_memory_bytes, file_size_bytes=media.child_file_bytes
    )
    # Footage comes first: an encode ends while a recorder still has room.
    floor_bytes = 2 * installation.settings.data.free_floor_bytes
    bounds = Bounds(media.live_encodes, limits, floor_bytes, media.grant_s)
    return LiveEncodes(installation.storage.scratch, installation.storage.recorder, bounds)


def is_encoded(installation: Installation, files: Sequence[Recorded]) -> bool:
    """Whether what is recorded now can be watched by an encode alone, and there may be one."""
    return bool(files) and not files[-1].plays and installation.settings.media.live_encodes > 0


def encoded(
    storage: Storage, row: RoomSession, stream: str, files: Sequence[Recorded], keep_s: float
) -> list[Recorded]:
    """What encodes made of a session's stream, as files of it; each is as sure of its times as its file."""
    known = {(file.run, file.number): file for file in files}
    begins_us = to_micros(row.started_at)
    ends_us = None if row.ended_at is None else to_micros(row.ended_at)
    return [
        _as_file(each, known.get(each.file))
        for each in pieces(storage.scratch, lane_of(row, stream), keep_s)
        if (each.to_us is None or each.to_us > begins_us) and (ends_us is None or each.from_us < ends_us)
    ]


def encoded_piece(
    storage: Storage,
    row: RoomSession,
    stream: str,
    encode: str,
    number: int,
    file_of: Callable[[tuple[str, int]], Recorded | None],
) -> Recorded | None:
    """One of them, by its name; None: there is none."""
    piece = piece_of(storage.scratch, lane_of(row, stream), encode, number)
    return None if piece is None else _as_file(piece, file_of(piece.file))


def _as_file(piece: Told, of: Recorded | None) -> Recorded:
    return Recorded(
        piece.encode,
        piece.number,
        piece.from_us,
        piece.to_us or piece.from_us,
        is_whole=piece.is_whole,
        is_held=False,
        zero_us=piece.zero_us,
        is_new=piece.is_new,
        slack_us=of.slack_us if of is not None else NOBODY_KNOWS_US,
        moved_us=of.from_us - piece.file_us if of is not None else 0,
    )


def want(installation: Installation, row: RoomSession, streams: Sequence[str]) -> dict[str, EncodeNow]:
    """Somebody looks at these streams of a session that runs: have them encoded."""
    encodes = encodes_of(installation)
    return {stream: encodes.want(lane_of(row, stream)) for stream in streams}


def nothing_yet(stream: str, now: EncodeNow) -> Unavailable | None:
    """Why nothing of a stream can be shown, where waiting alone does not help."""
    if now is EncodeNow.BUSY:
        return Unavailable(
            f"stream {stream}: expected a live encode of its own, found all of this host in use; "
            "ask again when another stream is watched no more",
            code="live_busy",
        )
    if now is EncodeNow.FULL:
        return Unavailable(
            f"stream {stream}: expected room on the disk for a live encode, found it is kept for footage; "
            "free some space",
            code="live_disk",
        )
    return None
