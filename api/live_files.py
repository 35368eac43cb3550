"""Files of live lists: where each is by now, what its fragments are, and what a list says of it.

Nothing here is looked for among all files of a session. A file is found by its run and number; which
stretches of the session touch it, by where it begins and ends (`api.live_masks`); and what was said of a file
that is whole is kept by what of it may be shown. So a pause, a mask or the end costs the files it touches.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from api.live_masks import MayShow, wall_at_zero
from api.live_sharing import encoded_piece, lane_of
from api.resolving import local_path
from evidence.errors import MediaError, Unavailable
from ingest.recorder.places import room_folder
from ingest.recorder.watching import Journals, Recorded, of_part, places_of
from media.fmp4 import FragmentIndex, index_fragments
from storage.db import sessions
from storage.db.live_grants import received
from storage.db.room_tables import RoomSession
from storage.objects.base import Namespace, object_key
from storage.open import Storage
from transcode.live import Window, live_runs
from transcode.live_encodes import Kind, place_of
from transcode.playlist import Run

INDEXES_KEPT = 2048
"""Of files: a day of twelve rooms with two streams, at a file in five minutes, some 250 MB at most."""
RUNS_KEPT = 2 * INDEXES_KEPT
"""Of files as lists have them; more than files, because two who watch may not see the same of one."""
LOOKS = 3
"""For a file that moves: it does so twice, from its first name into the store."""
BROWSER_ENTRIES = frozenset({"avc1", "avc3", "av01", "vp09", "mp4a", ".mp3", "Opus", "fLaC"})
"""Sample entries of what `ingest.recorder.watching` takes for played."""


@dataclass(frozen=True)
class _Whole:
    """A file that is whole, and what was said of it last: most who ask are told the same."""

    index: FragmentIndex
    asked: tuple[Recorded, int, MayShow]
    runs: list[Run]


journals = Journals()
_indexes: OrderedDict[tuple[str, int], FragmentIndex] = OrderedDict()
_wholes: OrderedDict[tuple[UUID, str, int], _Whole] = OrderedDict()
"""Files that are whole: nothing of them is looked for again."""
_runs: OrderedDict[Hashable, list[Run]] = OrderedDict()
"""What lists say of those, by what of them may be shown."""
_lock = threading.Lock()


@dataclass(frozen=True)
class Shown:
    """A file as a list has it."""

    file: Recorded
    at_us: int
    """UTC at its first picture, as it was told."""
    index: FragmentIndex
    runs: list[Run]


def folder_of(storage: Storage, row: RoomSession) -> Path:
    """Where the recorders of a session's room write."""
    return room_folder(storage.recorder, row.agency_id, row.room_no)


def shown_file(
    session: Session,
    storage: Storage,
    row: RoomSession,
    stream: str,
    file: Recorded,
    may_show: MayShow,
    at_us: int | None,
    kind: Kind = Kind.PLAIN,
) -> Shown | None:
    """What a list says of a file; None: nothing, and it was not told of.

    Args:
        at_us: UTC at its first picture, as it was told; None: it was not.
        kind: Where it is looked for.

    Raises:
        Unavailable: It was told of, and is just changing places (``live_settling``).
    """
    key = (row.agency_id, file.run, file.number)
    whole: _Whole | None = _kept(_wholes, key) if file.is_whole else None
    if whole is not None and at_us is not None and whole.asked == (file, at_us, may_show):
        return Shown(file, at_us, whole.index, whole.runs)
    index = None if whole is None else whole.index
    if index is None:
        try:
            index = read(session, storage, row, stream, file.run, file.number, kind)[1]
        except MediaError:
            if file.codecs is not None:
                raise
            # Its journal is gone, and it is of no container that browsers play.
            return None
        if index is not None and file.codecs is None and file.zero_us is None and not _is_played(index):
            return None
        if index is None or not index.fragments:
            if at_us is not None:
                raise settling()
            return None
    if at_us is None:
        at_us = wall_at_zero(file, index)
    windows = may_show.of(file, index, at_us)
    if not file.is_whole:
        return Shown(file, at_us, index, live_runs(index, windows, is_whole=False))
    runs = _runs_of(key, index, windows)
    _keep(_wholes, key, _Whole(index, (file, at_us, may_show), runs), INDEXES_KEPT)
    return Shown(file, at_us, index, runs)


def _runs_of(key: tuple[UUID, str, int], index: FragmentIndex, windows: list[Window]) -> list[Run]:
    """What a list says of a file that is whole; a stretch that goes beyond it is as good as any such."""
    first_us, last_us = index.extent_us
    settled = tuple(
        Window(
            max(each.from_us, first_us),
            None if each.to_us is None or each.to_us >= last_us else each.to_us,
        )
        for each in windows
    )
    known: list[Run] | None = _kept(_runs, (key, settled))
    if known is None:
        known = live_runs(index, settled, is_whole=True)
        _keep(_runs, (key, settled), known, RUNS_KEPT)
    return known


def _is_played(index: FragmentIndex) -> bool:
    return all(track.codec.partition(".")[0] in BROWSER_ENTRIES for track in index.tracks)


def _kept(kept: OrderedDict[Any, Any], key: Hashable) -> Any:
    with _lock:
        found = kept.get(key)
        if found is not None:
            kept.move_to_end(key)
        return found


def _keep(kept: OrderedDict[Any, Any], key: Hashable, found: object, most: int) -> None:
    """Remember, and forget what was not asked for longest."""
    with _lock:
        kept[key] = found
        kept.move_to_end(key)
        while len(kept) > most:
            kept.popitem(last=False)


def file_of(
    session: Session,
    storage: Storage,
    row: RoomSession,
    stream: str,
    run: str,
    number: int,
    kind: Kind = Kind.PLAIN,
) -> Recorded | None:
    """What is known of a file, or of a piece of an encode, and of how sure its times are; None: nothing."""
    if kind is Kind.PLAIN:
        known = _recorded(session, storage, row, stream, run, number)
        if known is not None:
            return known

    def of(file: tuple[str, int]) -> Recorded | None:
        return _recorded(session, storage, row, stream, *file)

    return encoded_piece(storage, row, stream, run, number, of, kind)


def _recorded(
    session: Session, storage: Storage, row: RoomSession, stream: str, run: str, number: int
) -> Recorded | None:
    known = journals.file(folder_of(storage, row) / stream / run, number)
    key = Recorded.key_of(run, number)
    part = sessions.part_by_key(session, row.agency_id, row.id, key)
    return known if part is None else of_part(part, known)


def find(
    session: Session,
    storage: Storage,
    row: RoomSession,
    stream: str,
    run: str,
    number: int,
    kind: Kind = Kind.PLAIN,
) -> Path | None:
    """Where a file is, in the order it goes from one place to the next; None: on its way, or nowhere.

    Of what is masked only encodes of that kind are looked at: nothing that was recorded is ever found so.
    """
    made = place_of(storage.scratch, lane_of(row, stream, kind), run, number, kind)
    if kind is Kind.MASKED:
        return made if made.exists() else None
    folder = folder_of(storage, row) / stream
    for path in (*places_of(folder, run, number), made):
        if path.exists():
            return path
    held = received(session, row.agency_id, Recorded.key_of(run, number))
    if held is not None:
        return local_path(storage, held.store_key)
    # Adopted, and its rows are being written.
    file = journals.file(folder / run, number)
    if file is None or file.sha256 is None:
        return None
    key = object_key(row.agency_id.hex, Namespace.ORIGINAL, file.sha256)
    return local_path(storage, key) if storage.objects.exists(key) else None


def read(
    session: Session,
    storage: Storage,
    row: RoomSession,
    stream: str,
    run: str,
    number: int,
    kind: Kind = Kind.PLAIN,
) -> tuple[Path | None, FragmentIndex | None]:
    """Where a file is, and its fragments as they are there now; looked for again where it moved meanwhile.

    What was known of it before is never enough: it may lack the last fragments, and a list would end there.

    Raises:
        Unavailable: It is just changing places (``live_settling``).
    """
    for _ in range(LOOKS):
        path = find(session, storage, row, stream, run, number, kind)
        if path is None:
            return None, None
        try:
            return path, index_of(path, (run, number))
        except FileNotFoundError:
            continue
    raise settling()


def index_of(path: Path, key: tuple[str, int]) -> FragmentIndex | None:
    """The fragments of a file, read on from where the reading before ended.

    Raises:
        FileNotFoundError: It moved this moment.
    """
    known = _kept(_indexes, key)
    if known is not None and path.stat().st_size < known.size_bytes:
        # What a power cut left was cut back.
        known = None
    found = index_fragments(path, known)
    if found is not None:
        _keep(_indexes, key, found, INDEXES_KEPT)
    return found


def settling() -> Unavailable:
    """What whoever asks for a file that moves at this moment is told."""
    return Unavailable("file: expected its bytes, found them moving; ask again", code="live_settling")
