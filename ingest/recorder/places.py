"""Where a host's recorders keep what is nobody's yet: a folder for each run, told of by its agency and room.

    RECORDER/AGENCY/ROOM/STREAM/RUN

Before agencies had folders of their own it was RECORDER/ROOM/STREAM/RUN. What lies there stays there, because
a recorder that still writes to it knows it by its whole name; the agency's folder of that room is a link to
it then. Where two agencies have a room of that number nobody knows whose it is, and nobody takes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from media.live.journal import LOCK


def room_folder(recorder: Path, agency_id: UUID, room_no: str) -> Path:
    """Of an agency's room; it may not be there."""
    return recorder / agency_id.hex / room_no


def take_up_before(recorder: Path, agency_id: UUID, room_no: str) -> None:
    """Make what was recorded of a room before agencies had folders this agency's; again, it changes nothing.

    Raises:
        OSError: No link can be made.
    """
    own, before = room_folder(recorder, agency_id, room_no), recorder / room_no
    if before.is_dir() and not own.exists():
        own.parent.mkdir(parents=True, exist_ok=True)
        own.symlink_to(Path("..") / room_no)


def nobodys(recorder: Path, room_no: str) -> list[Path]:
    """Runs of a room from before agencies had folders that no agency took up.

    Raises:
        OSError: They cannot be looked for.
    """
    before = recorder / room_no
    if any(own.resolve() == before.resolve() for own in recorder.glob(f"*/{room_no}")):
        return []
    try:
        return [run for stream in before.iterdir() if stream.is_dir() for run in stream.iterdir()]
    except FileNotFoundError:
        return []


def runs_of(recorder: Path, agency_id: UUID | None = None, room_no: str | None = None) -> Iterator[Path]:
    """Every run of this host, or of one agency's room of it, also of one that is in no settings any more."""
    locks = [*recorder.glob(f"*/*/*/{LOCK}"), *recorder.glob(f"*/*/*/*/{LOCK}")]
    found = {lock.resolve().parent for lock in locks}
    if agency_id is None or room_no is None:
        yield from sorted(found)
        return
    rooms = {room_folder(recorder, agency_id, room_no).resolve()}
    rooms.update(run.resolve().parent.parent for run in nobodys(recorder, room_no))
    yield from sorted(run for run in found if run.parent.parent in rooms)
