"""Streams that are watched live by an encode that all who watch share: what browsers do not play, and masked.

What an encode has made is named and told as the recorder's own files are (`api.live`); the two meet here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from api.desk import Installation
from api.live_masks import NOBODY_KNOWS_US
from evidence.clock import to_micros
from evidence.errors import Unavailable
from evidence.live_masks import LiveMask, LiveRules
from evidence.masks import Mask
from ingest.recorder.places import room_folder
from ingest.recorder.watching import Recorded
from media.live.boots import boot_id
from media.supervise import Limits
from storage.db.room_tables import RoomSession
from storage.open import Storage
from transcode.live_encodes import Bounds, EncodeNow, Kind, LiveEncodes, Told, piece_of, pieces

log = structlog.get_logger()


def source_of(row: RoomSession, stream: str) -> Path:
    """A stream's folder, as seen from that of the recorders: no two agencies share one."""
    return room_folder(Path(), row.agency_id, row.room_no) / stream


def lane_of(row: RoomSession, stream: str, kind: Kind = Kind.PLAIN) -> Path:
    """Where its encodes lie, as seen from those of that kind; masks are of one session."""
    source = source_of(row, stream)
    return source if kind is Kind.PLAIN else source.with_name(f"{stream}.{row.id.hex}")


def encodes_of(installation: Installation, kind: Kind = Kind.PLAIN) -> LiveEncodes:
    """The encodes of this host, as its settings bound them, all kinds together."""
    media = installation.settings.media
    limits = Limits(
        cpu_s=media.child_cpu_s, memory_bytes=media.child_memory_bytes, file_size_bytes=media.child_file_bytes
    )
    # Footage comes first: an encode ends while a recorder still has room.
    floor_bytes = 2 * installation.settings.data.free_floor_bytes
    bounds = Bounds(media.live_encodes, limits, floor_bytes, media.grant_s)
    return LiveEncodes(installation.storage.scratch, installation.storage.recorder, bounds, kind)


def is_encoded(installation: Installation, files: Sequence[Recorded]) -> bool:
    """Whether what is recorded now can be watched by an encode alone, and there may be one."""
    return bool(files) and not files[-1].plays and installation.settings.media.live_encodes > 0


def encoded(
    storage: Storage,
    row: RoomSession,
    stream: str,
    files: Sequence[Recorded],
    keep_s: float,
    kind: Kind = Kind.PLAIN,
) -> list[Recorded]:
    """What encodes made of a session's stream, as files of it; each is as sure of its times as its file."""
    known = {(file.run, file.number): file for file in files}
    begins_us = to_micros(row.started_at)
    ends_us = None if row.ended_at is None else to_micros(row.ended_at)
    return [
        _as_file(each, known.get(each.file))
        for each in pieces(storage.scratch, lane_of(row, stream, kind), keep_s, kind)
        if (each.to_us is None or each.to_us > begins_us) and (ends_us is None or each.from_us < ends_us)
    ]


def encoded_piece(
    storage: Storage,
    row: RoomSession,
    stream: str,
    encode: str,
    number: int,
    file_of: Callable[[tuple[str, int]], Recorded | None],
    kind: Kind = Kind.PLAIN,
) -> Recorded | None:
    """One of them, by its name; None: there is none."""
    piece = piece_of(storage.scratch, lane_of(row, stream, kind), encode, number, kind)
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


def want(
    installation: Installation, row: RoomSession, streams: Sequence[str], kind: Kind = Kind.PLAIN
) -> dict[str, EncodeNow]:
    """Somebody looks at these streams of a session that runs: have them encoded."""
    encodes = encodes_of(installation, kind)
    return {stream: encodes.want(lane_of(row, stream, kind), source_of(row, stream)) for stream in streams}


@dataclass(frozen=True)
class Read:
    """What the rows said of a session's live masks at one moment, for the encodes that keep to them."""

    row: RoomSession
    masks: Sequence[LiveMask]
    hidden: Sequence[Mask]
    slack_us: int
    """How far the host's clock was set while its streams were recorded."""
    read_ns: int
    """The host's monotonic clock before any of it was read."""


def tell_rules(installation: Installation, read: Read, streams: Sequence[str]) -> None:
    """Have the masked encodes of these streams keep to what was read, where they were told long ago.

    Whoever asks for a list does so, twice a second on the page. Where it fails, or nobody asks, nothing that
    is recorded since is made: the view stands still.
    """
    encodes, boot = encodes_of(installation, Kind.MASKED), boot_id()
    for stream in streams:
        lane = lane_of(read.row, stream, Kind.MASKED)
        if not encodes.are_rules_old(lane):
            continue
        # After its end nothing more is recorded that could be shown.
        masks = read.masks if read.row.ended_at is None else ()
        rules = LiveRules.of(
            masks, read.hidden, stream, boot=boot, read_ns=read.read_ns, slack_us=read.slack_us
        )
        try:
            encodes.tell_rules(lane, rules.to_json())
        except OSError as error:
            log.warning("live_rules_not_told", stream=stream, error=str(error))


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
