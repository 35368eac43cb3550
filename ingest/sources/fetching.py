"""Bringing one file of a place into staging, over as many lines as it takes.

What a dead line or process left is gone on with (`ingest.sources.partial`). A listing does not say which
bytes a file has, and a few of them compared at the seam do not say it either: a camera that fills its files
up front writes the same ones into each. So what came over an earlier line is read once more and compared byte
by byte, unless something else tells that it is of the same file (`Fetching.compare`). A resumed transfer then
costs what a new one would, but it comes to its end over a line that never holds for a whole file.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import structlog

from evidence.errors import Conflict, EvidenceError
from evidence.filenames import display_name
from ingest.sources.partial import Partial
from ingest.sources.remote import RemoteFile, RemoteFolder, Stopped, changed, cut

log = structlog.get_logger(__name__)


class Fetching:
    """Fetches files of one place.

    Args:
        reserve: Raises Unavailable when there is no room for that many bytes.
    """

    def __init__(self, place: str, remote: RemoteFolder, reserve: Callable[[int], None]) -> None:
        self._place = place
        self._remote = remote
        self._reserve = reserve

    def fetch(self, file: RemoteFile, partial: Partial, stop: threading.Event | None) -> bytes:
        """The digest of the whole file, which then lies at `partial.path`, unless it was adopted before.

        Raises:
            Conflict: It changed meanwhile (``source_changed``); nothing of it is kept.
            Unavailable: The place, the disk; what came is kept.
            Stopped: Told to stop.
        """
        partial.open()
        if partial.sha256 is not None:
            return partial.sha256
        had_bytes = partial.have_bytes
        try:
            self._reserve(file.size_bytes - had_bytes)
            self._stream(file, partial, stop)
            self._require_unchanged(file)
            return partial.finish()
        except Conflict:
            partial.drop()
            raise
        except EvidenceError as error:
            error.facts["has_moved_on"] = partial.have_bytes > had_bytes
            raise
        finally:
            partial.keep()

    def compare(self, file: RemoteFile, partial: Partial, stop: threading.Event | None) -> None:
        """Read what came over earlier lines once more, and compare it with what is here.

        Raises:
            Conflict, Unavailable, Stopped: As `fetch`; a cut comparison is gone on with.
        """
        start = at = partial.unsure_from
        if at == partial.unsure_to or not partial.path.exists():
            return  # Nothing is unsure, or it was adopted before, by who had no need to compare.
        try:
            with contextlib.closing(self._remote.read(file, at)) as chunks:
                for chunk in chunks:
                    wanted = chunk[: partial.unsure_to - at]
                    if partial.bytes_at(at, len(wanted)) != wanted:
                        raise changed(file)
                    at += len(wanted)
                    if at == partial.unsure_to:
                        break
                    if stop is not None and stop.is_set():
                        raise Stopped
            if at < partial.unsure_to:
                raise cut(f"file {display_name(file.name)}", f"{at} of {file.size_bytes} bytes and no more")
            self._require_unchanged(file)
        except Conflict:
            partial.drop()
            raise
        except EvidenceError as error:
            error.facts["has_moved_on"] = at > start
            partial.note_compared(at)
            raise
        except Stopped:
            partial.note_compared(at)
            raise
        partial.note_compared(at)

    def _stream(self, file: RemoteFile, partial: Partial, stop: threading.Event | None) -> None:
        if partial.have_bytes > file.size_bytes:
            raise changed(file)
        if partial.have_bytes == file.size_bytes > 0:
            return
        overlap = partial.tail()
        if overlap:
            log.info(
                "source:resumed",
                source=self._place,
                name=display_name(file.name),
                at_bytes=partial.have_bytes,
            )
        with contextlib.closing(self._remote.read(file, partial.resume_at)) as chunks:
            for received in chunks:
                chunk = received
                if overlap:
                    common = min(len(overlap), len(chunk))
                    if chunk[:common] != overlap[:common]:
                        raise changed(file)
                    overlap, chunk = overlap[common:], chunk[common:]
                if partial.have_bytes + len(chunk) > file.size_bytes:
                    raise changed(file)
                if chunk:
                    partial.write(chunk)
                if stop is not None and stop.is_set():
                    raise Stopped
        if partial.have_bytes != file.size_bytes:
            raise cut(
                f"file {display_name(file.name)}",
                f"{partial.have_bytes} of {file.size_bytes} bytes and no more",
            )

    def _require_unchanged(self, file: RemoteFile) -> None:
        now = self._remote.look(file)
        if now is None or now.state != file.state:
            raise changed(file)
