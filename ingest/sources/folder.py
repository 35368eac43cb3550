"""A watched folder or mounted card.

The rules, in order:

1. A file is whole when a marker says so, or, without markers, when its size, time and sidecar
   have not moved for ``settle_s``. Names that programs give to unfinished files never count.
2. It is copied with its digest, and is the same before and after; else it begins to settle anew.
3. Links, devices, pipes and sockets are not followed, opened or taken.
4. Nothing is written into the folder, unless told to move what was taken into ``done/``, which is
   then no longer looked at. A JSON file that speaks of no recording is a file like others.
5. One file that cannot be taken never holds up the others. A full disk or a busy database
   ends the scan, because it would hold up all of them; the next scan tries again.
6. A folder that is gone is waited for. Nothing is concluded from its absence.
7. What is never taken, for its name, kind or depth, is logged once; an unfinished name as a warning only when
   it stays.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from config.profiles import SidecarFields
from config.settings import FolderSettings
from evidence.errors import EvidenceError, Unavailable
from evidence.filenames import display_name
from evidence.ids import new_id
from evidence.kinds import ClaimSource
from ingest.facts import Statement
from ingest.sources.base import ScanResult, StagedFile
from ingest.sources.copying import CopiedFile, FileState, copy_whole
from ingest.sources.journal import Seen
from ingest.sources.settling import MAX_TOLD, Skipped, is_unfinished
from ingest.sources.sidecar import (
    MAX_SIDECAR_BYTES,
    TABLE_PATIENCE,
    is_companion,
    is_plain_file,
    read_sidecar,
    sidecar_of,
    spoken_of,
    table_of,
)

log = structlog.get_logger(__name__)

DONE = "done"
MAX_DEPTH = 16
RETRY_MOST_SCANS = 64
_OF_ONE_FILE = {"source_gone", "source_unreadable"}


@dataclass
class _Watch:
    """A file that was seen and not yet taken."""

    observed: tuple[FileState, FileState | None]
    since_s: float
    table: FileState | None = None
    table_since_s: float = 0.0
    failures: int = 0
    resume_at_scan: int = 0


class _FolderGone(Exception):
    """The folder itself cannot be listed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FolderSource:
    """A `Source` over one folder.

    Args:
        settings: Which folder, and when a file in it is whole.
        staging_dir: Where copies are made: on the object store's file system.
        seen: What was taken before.
        accept: Takes a staged file in: adopts it and commits its rows. After it returns the
            file is remembered; if it raises, the file is tried again.
        reserve: Raises Unavailable when there is no room for that many bytes.
        sidecar_fields: What fields of sidecars may be called; what is shipped when omitted.
        monotonic_s: For tests of settling.
        host: This host's short name, where several share the staging folder.
    """

    def __init__(
        self,
        settings: FolderSettings,
        *,
        staging_dir: Path,
        seen: Seen,
        accept: Callable[[StagedFile], object],
        reserve: Callable[[int], None] = lambda _: None,
        monotonic_s: Callable[[], float] = time.monotonic,
        host: str = "",
        sidecar_fields: SidecarFields | None = None,
    ) -> None:
        self._settings = settings
        self._sidecar_fields = sidecar_fields
        self._root = settings.path
        self._staging_dir = staging_dir
        self._seen = seen
        self._accept = accept
        self._reserve = reserve
        self._monotonic_s = monotonic_s
        self._watched: dict[Path, _Watch] = {}
        self._scans = 0
        self._was_gone = False
        self._told: set[Path] = set()
        self._unfinished = Skipped()
        place = hashlib.sha256(host.encode() + b"\0" + os.fsencode(self._root)).hexdigest()
        self._staging_prefix = f"folder-{place[:16]}-"
        for leftover in staging_dir.glob(f"{self._staging_prefix}*"):
            # Of a process that died before the file was accepted: it is still in the folder.
            leftover.unlink()

    @property
    def is_gone(self) -> bool:
        """Whether the folder was not there at the last look."""
        return self._was_gone

    def run(self, stop: threading.Event) -> None:
        """Scan until told to stop."""
        while not stop.is_set():
            try:
                self.scan_once(stop)
            except Exception:
                # A bug costs this look, not the thread: what lies there later is still taken.
                log.exception("folder:scan_failed", folder=display_name(str(self._root)))
            stop.wait(self._settings.scan_every_s)

    def scan_once(self, stop: threading.Event | None = None) -> ScanResult:
        """Look once at every file and take those that are whole."""
        result = ScanResult()
        self._scans += 1
        now_s = self._monotonic_s()
        present: set[Path] = set()
        try:
            for path, state in self._files(self._root, 0, now_s, result):
                present.add(path)
                if stop is not None and stop.is_set():
                    return result
                if self._is_whole(path, state, now_s, result) and not self._take(path, state, result):
                    break
        except _FolderGone as gone:
            return self._gone(result, gone.reason)
        if self._was_gone:
            log.info("folder:back", folder=display_name(str(self._root)))
        self._was_gone = False
        if result.stopped is None:
            self._watched = {path: watch for path, watch in self._watched.items() if path in present}
        return result

    def _gone(self, result: ScanResult, reason: str) -> ScanResult:
        if not self._was_gone:
            log.warning("folder:gone", folder=display_name(str(self._root)), detail=reason)
        self._was_gone = result.is_gone = True
        self._watched.clear()
        return result

    def _files(
        self, folder: Path, depth: int, now_s: float, result: ScanResult
    ) -> Iterator[tuple[Path, FileState]]:
        """Every file that could be a recording, in order of name."""
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            if depth == 0:
                raise _FolderGone(error.strerror or str(error)) from error
            result.failed[display_name(folder.name)] = "source_unreadable"
            log.warning("folder:unreadable", name=display_name(folder.name), detail=error.strerror)
            return
        spoken = spoken_of({os.fsencode(entry.name) for entry in entries if not self._is_marker(entry.name)})
        for entry in entries:
            path = Path(entry.path)
            try:
                state = entry.stat(follow_symlinks=False)
            except OSError:
                result.failed[display_name(entry.name)] = "source_gone"
                continue
            if stat.S_ISDIR(state.st_mode):
                if depth == 0 and entry.name == DONE and self._settings.after_take == "move":
                    continue
                if depth < MAX_DEPTH:
                    yield from self._files(path, depth + 1, now_s, result)
                else:
                    self._skip(path, "too deep", result)
            elif not stat.S_ISREG(state.st_mode):
                self._skip(path, "not a file", result)
            elif is_unfinished(os.fsencode(entry.name)):
                result.skipped.append(display_name(entry.name))
                level = self._unfinished.level(path, now_s)
                if level is not None:
                    self._tell_skipped(level, path, "name of an unfinished or hidden file")
            elif not self._is_marker(entry.name) and not is_companion(
                os.fsencode(entry.name), state.st_size, spoken
            ):
                yield path, FileState.of(state)

    def _skip(self, path: Path, reason: str, result: ScanResult) -> None:
        """Note what is not taken; into the log once, or a card of a thousand would fill it."""
        result.skipped.append(display_name(path.name))
        if path not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(path)
            self._tell_skipped(logging.WARNING, path, reason)

    def _tell_skipped(self, level: int, path: Path, reason: str) -> None:
        log.log(level, "folder:not_taken", name=display_name(path.name), code="skipped", detail=reason)

    def _is_marker(self, name: str) -> bool:
        marker = self._settings.marker_suffix or None
        return marker is not None and name.endswith(marker)

    def _is_whole(self, path: Path, state: FileState, now_s: float, result: ScanResult) -> bool:
        if self._seen.digest_of(self._key(path, state)) is not None:
            self._watched.pop(path, None)
            return False
        sidecar = _state_of(_beside(path, sidecar_of))
        table = _state_of(_beside(path, table_of)) if sidecar is None else None
        watch = self._watched.get(path)
        if watch is None or watch.observed != (state, sidecar):
            watch = self._watched[path] = _Watch((state, sidecar), now_s)
        if watch.table != table:
            watch.table, watch.table_since_s = table, now_s
        if self._scans < watch.resume_at_scan:
            return False
        marker = self._settings.marker_suffix
        if marker:
            is_whole = any(
                is_plain_file(candidate)
                for candidate in (path.with_name(path.name + marker), path.with_name(path.stem + marker))
            )
        else:
            rested_s, settle_s = now_s - watch.since_s, self._settings.settle_s
            has_table_rested = table is None or now_s - watch.table_since_s >= settle_s
            is_whole = rested_s >= settle_s and (has_table_rested or rested_s >= settle_s * TABLE_PATIENCE)
        if not is_whole:
            result.settling.append(display_name(path.name))
        return is_whole

    def _key(self, path: Path, state: FileState) -> str:
        parts = (state.device, state.inode, state.size_bytes, state.mtime_ns, state.ctime_ns)
        identity = b"\0".join([os.fsencode(path), *(b"%d" % part for part in parts)])
        return f"folder:{hashlib.sha256(identity).hexdigest()}"

    def _take(self, path: Path, state: FileState, result: ScanResult) -> bool:
        """Take one file in; False when the scan must end because nothing could be taken now."""
        shown = display_name(path.name)
        staged = self._staging_dir / f"{self._staging_prefix}{new_id().hex}"
        try:
            copied = copy_whole(path, staged, expected=state, reserve=self._reserve)
            key = self._key(path, state)
            self._accept(self._describe(path, copied, key))
            self._seen.remember(key, copied.sha256)
        except EvidenceError as error:
            self._failed(path, shown, error.code, result)
            log.warning("folder:not_taken", name=shown, code=error.code, detail=error.message)
            if isinstance(error, Unavailable) and error.code not in _OF_ONE_FILE:
                result.stopped = error.code
                return False
            return True
        except Exception:
            # One file must not keep those behind it from being taken; it is tried again.
            self._failed(path, shown, "internal", result)
            log.exception("folder:not_taken", name=shown)
            return True
        finally:
            staged.unlink(missing_ok=True)
        self._watched.pop(path, None)
        result.taken.append(shown)
        if self._settings.after_take == "move":
            self._move_to_done(path, copied.state, shown, result)
        return True

    def _failed(self, path: Path, shown: str, code: str, result: ScanResult) -> None:
        result.failed[shown] = code
        watch = self._watched[path]
        if code == "source_changed":
            del self._watched[path]
            return
        watch.failures += 1
        watch.resume_at_scan = self._scans + min(2**watch.failures, RETRY_MOST_SCANS) - 1

    def _describe(self, path: Path, copied: CopiedFile, key: str) -> StagedFile:
        raw_name = os.fsencode(path.name)
        beside = _beside(path, sidecar_of) or _beside(path, table_of)
        sidecar = read_sidecar(beside, raw_name, self._sidecar_fields)
        device_no = self._settings.device_no
        assumed = (Statement("device_no", device_no, ClaimSource.DOCK),) if device_no is not None else ()
        return StagedFile(
            path=copied.path,
            size_bytes=copied.size_bytes,
            sha256=copied.sha256,
            original_name_raw=raw_name,
            source="folder",
            reception_key=key,
            actor="folder",
            metadata=sidecar.metadata,
            claims=sidecar.claims,
            assumed=assumed,
            findings=sidecar.findings,
            dock_no=self._settings.dock_no,
            declared_sha256=sidecar.declared_sha256,
        )

    def _move_to_done(self, path: Path, state: FileState, shown: str, result: ScanResult) -> None:
        """Rename what was taken, with its sidecar and marker, never over another file.

        What has come into its place since it was copied is another recording, and stays to be taken.
        """
        done = self._root / DONE / path.parent.relative_to(self._root)
        try:
            beside = self._spoken_of_alone(path)
            done.mkdir(parents=True, exist_ok=True)
            if FileState.of(path.lstat()) != state:
                return
            moved = _rename_beside(path, done)
            # Renaming alone sets the time of change.
            now = FileState.of(moved.lstat())
            if replace(now, ctime_ns=state.ctime_ns) != state:
                _rename_beside(moved, path.parent)
                return
            for each in beside:
                _rename_beside(each, done)
        except OSError as error:
            result.failed[shown] = "not_moved"
            log.warning("folder:not_moved", name=shown, detail=error.strerror)

    def _spoken_of_alone(self, path: Path) -> list[Path]:
        """What speaks of a recording and of no other that is here still, and is none itself."""
        beside = self._beside_it(path)
        if beside:
            # A picture of the same press of the button may need the same marker, by the stem.
            siblings = [
                path.with_name(name)
                for name in os.listdir(path.parent)  # noqa: PTH208
                if f"{name}.".startswith(f"{path.stem}.") and name != path.name
            ]
            waiting = [each for each in siblings if each not in beside and is_plain_file(each)]
            needed = {each for sibling in waiting for each in self._beside_it(sibling)}
            beside = [each for each in beside if each not in needed]
        return beside

    def _beside_it(self, path: Path) -> list[Path]:
        """What speaks of a recording and is none itself, also of one that is not finished yet."""
        if is_unfinished(os.fsencode(path.name)):
            path = path.with_name(path.stem)
        marker = self._settings.marker_suffix
        found = [path.with_name(path.name + marker), path.with_name(path.stem + marker)] if marker else []
        found = [each for each in found if is_plain_file(each)]
        sidecar = _beside(path, sidecar_of)
        if sidecar is not None and sidecar.lstat().st_size <= MAX_SIDECAR_BYTES:
            found.append(sidecar)
        return list(dict.fromkeys(found))


def _beside(recording: Path, find: Callable[[bytes, Callable[[bytes], bool]], bytes | None]) -> Path | None:
    """What `find` finds in the recording's folder."""
    name = find(
        os.fsencode(recording.name), lambda each: is_plain_file(recording.with_name(os.fsdecode(each)))
    )
    return None if name is None else recording.with_name(os.fsdecode(name))


def _state_of(path: Path | None) -> FileState | None:
    try:
        return None if path is None else FileState.of(path.lstat())
    except OSError:
        return None


def _rename_beside(file: Path, folder: Path) -> Path:
    """Rename into a folder under the first name that is free there."""
    target = folder / file.name
    number = 0
    while os.path.lexists(target):
        number += 1
        target = folder / f"{file.stem}~{number}{file.suffix}"
    return file.rename(target)
