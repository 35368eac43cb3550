"""What of a session's streams is recorded by now, wherever its files are: in a run's folder, or handed over.

For whoever shows it while it is recorded. Nothing here writes, takes a lock, or waits for a recorder:
journals are read as far as they go, and a file is known by its run and number, whatever its name and place.

A file goes from ``NAME.part`` to ``NAME`` to the object store, and is always looked for in this order, so
that one that moves meanwhile is found behind.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evidence.clock import to_micros
from evidence.masks import slack_us
from evidence.session import stretches
from ingest.recorder.clocks import Readings
from ingest.recorder.places import room_folder
from media.live.arrivals import monotonic_us
from media.live.container import BROWSER_PICTURES, BROWSER_SOUNDS, SUFFIXES
from media.live.journal import NAME, read
from media.live.recording import OPEN_SUFFIX
from storage.db.room_tables import RoomSession, SessionNote, SessionPart
from storage.db.session_masks import pauses_of

RUNS_KEPT = 512
"""Journals that are remembered, so that each reading goes on where the one before ended."""
LONG_US = 86_400_000_000
"""No file is longer, and no clock was set by more."""
CONTAINER = "mp4"


@dataclass(frozen=True)
class Recorded:
    """A file of a stream."""

    run: str
    number: int
    from_us: int
    """UTC, as far as is known by now."""
    to_us: int
    is_whole: bool
    is_held: bool
    """It is in custody, and tied to the session."""
    sha256: bytes | None = None
    """None: not whole, or nobody here knows."""
    codecs: tuple[str, ...] | None = None
    """None: nobody here knows any more."""
    plays: bool = True
    zero_us: int | None = None
    """UTC at the zero of its clock, where it is known so; else that of its first fragment is ``from_us``."""
    is_new: bool = True
    """Whoever was not told of it yet may be."""
    slack_us: int = 0
    """How much earlier in it than its wall time says a moment may lie."""
    moved_us: int = 0
    """By how much ``zero_us`` is told too early."""

    @property
    def key(self) -> str:
        """Of its reception, as `ingest.recorder.stream.Finished` has it."""
        return self.key_of(self.run, self.number)

    @staticmethod
    def key_of(run: str, number: int) -> str:
        """Of the reception of a file of that name."""
        return f"recorder:{run}:{number}"


@dataclass
class _File:
    container: str
    codecs: tuple[str, ...]
    from_us: int | None = None
    to_us: int | None = None
    sha256: bytes | None = None
    slack_us: int = 0
    """The most that was told: what a list left out it goes on to leave out."""


@dataclass
class _Journal:
    read_to: int = 0
    files: dict[int, _File] = field(default_factory=dict)
    clock: Readings = field(default_factory=Readings)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def follow(self, folder: Path) -> None:
        with self.lock:
            said, self.read_to = read(folder, self.read_to)
            for line in said:
                self._note(line)

    def _note(self, line: dict[str, Any]) -> None:
        self.clock.note(line)
        if line["kind"] == "file":
            codecs = tuple(str(each["codec"]) for each in line["streams"])
            self.files[line["file"]] = _File(line["container"], codecs)
        elif line["kind"] in {"mark", "closed"} and line.get("file") in self.files:
            known = self.files[line["file"]]
            known.from_us, known.to_us = line["from_utc_us"], line["to_utc_us"]
            media_us = line["end_us"] if line["kind"] == "mark" else line["duration_us"]
            # A recorder that was begun before this was told does not say it: all may be open.
            open_us = line.get("open_us", media_us) + line.get("silent_us", 0)
            known.slack_us = max(known.slack_us, slack_us(known.from_us, known.to_us, media_us, open_us))
            if line["kind"] == "closed":
                known.sha256 = bytes.fromhex(line["sha256"])


class Journals:
    """The journals of this host's runs, read as far as they go."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Path, _Journal] = OrderedDict()
        self._lock = threading.Lock()

    def of_stream(self, folder: Path, since_us: int | None = None) -> Iterator[Recorded]:
        """Every file of a stream that lies on this host, or did while its run is not over.

        Args:
            since_us: UTC; those that ended long before it need not be told. A run may last for weeks.
        """
        for run in _runs(folder):
            files = self._journal(run).files
            for number in sorted(files, reverse=True):
                found = _told(run, number, files[number])
                if found is not None:
                    if since_us is not None and found.is_whole and found.to_us < since_us - LONG_US:
                        break
                    yield found

    def file(self, run: Path, number: int) -> Recorded | None:
        """One of them; None: nobody tells of it, or not yet when it was."""
        if not (run / NAME).exists():
            return None
        known = self._journal(run).files.get(number)
        return None if known is None else _told(run, number, known)

    def stepped_us(self, folder: Path) -> int:
        """How far the host's clock was set while a stream was recorded here, within the last day."""
        return sum(self._journal(run).clock.stepped_us(monotonic_us()) for run in _runs(folder))

    def _journal(self, run: Path) -> _Journal:
        with self._lock:
            found = self._kept.setdefault(run, _Journal())
            self._kept.move_to_end(run)
            while len(self._kept) > RUNS_KEPT:
                self._kept.popitem(last=False)
        found.follow(run)
        return found


def _told(run: Path, number: int, file: _File) -> Recorded | None:
    # Without a mark nobody knows when it was; there will be one within a second.
    if file.from_us is None or file.to_us is None:
        return None
    return Recorded(
        run.name,
        number,
        file.from_us,
        file.to_us,
        is_whole=file.sha256 is not None,
        is_held=False,
        sha256=file.sha256,
        codecs=file.codecs,
        plays=file.container == CONTAINER and set(file.codecs) <= BROWSER_PICTURES | BROWSER_SOUNDS,
        slack_us=file.slack_us,
    )


def _runs(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if (path / NAME).exists())
    except FileNotFoundError:
        return []


def recorded(
    journals: Journals, folder: Path, row: RoomSession, stream: str, parts: Sequence[SessionPart]
) -> list[Recorded]:
    """The files of a session's stream, oldest first: those in custody, and those this host has.

    Args:
        folder: Of this host's recorders.
        parts: Of the session, of any stream.
    """
    begins_us = to_micros(row.started_at)
    ends_us = None if row.ended_at is None else to_micros(row.ended_at)
    here = {
        each.key: each
        for each in journals.of_stream(room_folder(folder, row.agency_id, row.room_no) / stream, begins_us)
        if (not each.is_whole or each.to_us > begins_us) and (ends_us is None or each.from_us < ends_us)
    }
    for part in parts:
        if part.stream != stream:
            continue
        here[part.reception_key] = of_part(part, here.get(part.reception_key))
    return sorted(here.values(), key=lambda each: (each.from_us, each.run, each.number))


def of_part(part: SessionPart, known: Recorded | None) -> Recorded:
    """A file that is tied to a session.

    Args:
        known: What its run's journal tells of it, while that is there.
    """
    from_us, to_us = to_micros(part.from_at), to_micros(part.to_at)
    return Recorded(
        part.run,
        part.file_no,
        from_us,
        to_us,
        is_whole=True,
        is_held=True,
        slack_us=slack_us(from_us, to_us, part.media_us, part.open_us),
        codecs=known.codecs if known is not None else None,
        plays=known is None or known.plays,
    )


def shown_windows(row: RoomSession, notes: Sequence[SessionNote]) -> list[tuple[int, int | None]]:
    """The stretches of a session that may be watched, UTC: not before it, not in a pause, not after it."""
    ends_us = None if row.ended_at is None else to_micros(row.ended_at)
    return stretches(to_micros(row.started_at), ends_us, pauses_of(notes, ends_us))


def places_of(stream_folder: Path, run: str, number: int) -> tuple[Path, Path]:
    """Where a file that plays may lie on this host, in the order it goes from one to the next."""
    whole = stream_folder / run / f"{number:06d}.{SUFFIXES[CONTAINER]}"
    return whole.with_name(whole.name + OPEN_SUFFIX), whole
