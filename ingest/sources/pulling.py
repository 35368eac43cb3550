"""Fetching whole files from a remote place: one engine for SFTP, FTP, HTTP and what docks pushed to us.

The rules, in order:

1. A file is whole as `ingest.sources.settling` says. Only whole files are fetched.
2. It is fetched into staging with its digest made while it arrives. A cut line or a killed process keeps
   what came; the next try goes on from there (`ingest.sources.fetching`). Where the place's copy stays, and
   neither a declared digest nor the place tells that it is still the same file, what came over an earlier
   line is read once more: a file replaced in between is not spliced.
3. It counts if it has exactly the listed size and a second look shows it unchanged; else it settles anew.
   A declared digest that it does not come to, or that cannot be read, makes it wait too, until rest says that
   no more will come: then it is taken, and intake quarantines what comes to another digest.
4. Handed in, then journalled. A crash in between hands in again under the same key.
5. The place's copy is removed only if told to, after everything was taken that can be, and only as
   `ingest.sources.freeing` allows: on our receipt, and after it was read again.
6. One file that cannot be fetched waits twice as long each time and never holds up the others. A full disk or
   a busy database ends the look. A place that is gone is waited for; its absence means nothing.
7. No name of a place is part of a path of ours.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import structlog

from config.profiles import SidecarFields
from evidence.clock import rfc3339
from evidence.errors import (
    EvidenceError,
    FixityError,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    Unavailable,
)
from evidence.filenames import decode_name, display_name
from evidence.kinds import ClaimSource
from ingest.facts import Statement
from ingest.sources.base import ScanResult, StagedFile
from ingest.sources.companions import Companions, Said, arrival_key
from ingest.sources.fetching import Fetching
from ingest.sources.freeing import Fate, Freeing, MayFree, Taken
from ingest.sources.journal import Seen
from ingest.sources.partial import Partial
from ingest.sources.remote import (
    CUT,
    GONE,
    UNREACHABLE,
    UNREADABLE,
    Origin,
    RemoteFile,
    RemoteFolder,
    Stopped,
)
from ingest.sources.settling import Listing, Skipped, Watched

log = structlog.get_logger(__name__)

PARTIAL_LIFE_S = 7 * 86400.0
"""What is left of a file that never came back is kept this long."""
_OF_THE_PLACE = {CUT, UNREACHABLE}
_OF_ONE_FILE = {GONE, UNREADABLE}
LATE_REST_S = 30.0
"""What comes beside a taken file must rest so long before it counts, where nothing else is said."""
SAID_LATE = (
    "said_late",
    "sidecar: expected before its recording was taken, found after it; what it says stands among the claims, "
    "compare it with the facts",
)
UNPROVEN = (
    "whole_unproven",
    "file: expected a rename, size or digest that proves it whole, found only that it rested; "
    "compare with its sender",
)


@dataclass(frozen=True)
class PullRules:
    """When files are whole, and what becomes of the place's copy."""

    kind: str
    """The word for `StagedFile.source`."""
    place: str
    """Which place it is, for keys: another place, another reception."""
    settle_s: float | None = 30.0
    """None: rest proves nothing."""
    scan_every_s: float = 15.0
    marker_suffix: str | None = None
    frees: bool = False
    """Whether the place's copy is removed on our receipt."""
    max_file_bytes: int = 64 << 30
    rest_is_a_finding: bool = False
    """Whether a file that is whole by rest alone says so."""


class PullSource:
    """A `Source` over a `RemoteFolder`.

    Args:
        rules: What counts and what happens afterwards.
        remote: The place.
        origin: Whose its files are, unless a file says otherwise itself.
        staging_dir: Where copies are made: on the object store's file system.
        seen: What was taken before.
        accept: Takes a staged file in for an agency: adopts it and commits its rows.
        has_receipt: Whether our signed receipt is there for a reception key and digest of an agency; asked
            before the place's copy is read again.
        may_free: The same, asked right before the place's copy is removed; makes a note of it.
        give_up: Removes a copy that is ours and not the dock's; None where the copies are the place's.
        is_read_back: Whether the bytes of a reception key and digest of an agency are in custody for good:
            then such a copy is given up without a receipt.
        reserve: Raises Unavailable when there is no room for that many bytes.
        sidecar_fields: What fields of sidecars may be called; what is shipped when omitted.
        monotonic_s: For tests of settling.
        tell: Told once of what a person must look at: stable code and one line.
    """

    def __init__(
        self,
        rules: PullRules,
        remote: RemoteFolder,
        *,
        origin: Origin | None,
        staging_dir: Path,
        seen: Seen,
        accept: Callable[[UUID, StagedFile], object],
        has_receipt: MayFree = lambda _agency, _key, _sha256: False,
        may_free: MayFree = lambda _agency, _key, _sha256: False,
        give_up: Callable[[RemoteFile], None] | None = None,
        is_read_back: MayFree = lambda _agency, _key, _sha256: False,
        reserve: Callable[[int], None] = lambda _: None,
        sidecar_fields: SidecarFields | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
        tell: Callable[[str, str], None] = lambda _code, _line: None,
    ) -> None:
        self._rules = rules
        self._remote = remote
        self._origin = origin
        self._staging_dir = staging_dir
        self._seen = seen
        self._accept = accept
        self._fetching = Fetching(rules.place, remote, reserve)
        self._companions = Companions(remote, sidecar_fields)
        self._freeing = Freeing(
            rules.place, remote, seen, has_receipt, may_free, give_up, is_read_back,
            companions=self._companions, hear=self._hear,
        )  # fmt: skip
        self._monotonic_s = monotonic_s
        self._tell = tell
        self._watched = Watched(rules.settle_s)
        self._skipped = Skipped()
        self._gone_code: str | None = None
        self._prefix = f"pull-{hashlib.sha256(rules.place.encode()).hexdigest()[:16]}-"

    @property
    def is_gone(self) -> bool:
        """Whether the place was not there at the last look."""
        return self._gone_code is not None

    def run(self, stop: threading.Event) -> None:
        """Look until told to stop."""
        try:
            while not stop.is_set():
                try:
                    self.scan_once(stop)
                except Exception:
                    # A bug costs this look, not the thread: the dock's next files are still fetched.
                    log.exception("source:scan_failed", source=self._rules.place)
                stop.wait(self._rules.scan_every_s)
        finally:
            self._disconnect()

    def scan_once(self, stop: threading.Event | None = None) -> ScanResult:
        """Look once at every file and take those that are whole."""
        result = ScanResult()
        try:
            listing = Listing(self._remote.files(), self._rules.marker_suffix)
        except EvidenceError as error:
            self._gone(error, result)
            return result
        self._back()
        now_s = self._monotonic_s()
        self._watched.begin(listing, now_s)
        self._freeing.begin(listing)
        self._companions.begin()
        held: list[tuple[RemoteFile, Taken]] = []
        for file in listing.skipped:
            self._skip(file, now_s, result)
        for file in listing.recordings:
            if stop is not None and stop.is_set():
                return result
            taken = self._taken_of(file)
            if taken is not None:
                held.append((file, taken))
            elif not self._one(file, listing, now_s, stop, result):
                return result
        if self._rules.frees:
            # What is not here yet comes before what is here already.
            for file, taken in held:
                if not self._free(file, taken, listing, now_s, stop, result):
                    return result
        self._sweep(listing)
        return result

    # --- one file ---------------------------------------------------------------------------------

    def _one(
        self,
        file: RemoteFile,
        listing: Listing,
        now_s: float,
        stop: threading.Event | None,
        result: ScanResult,
    ) -> bool:
        """Take it or leave it; False when the look must end."""
        shown = display_name(file.name)
        if self._watched.is_backing_off(file):
            return True
        try:
            # What spoke of a file that is set aside may be gone: it was whole once, and rests. One with its
            # marker that rests and still does not come to its digest is taken, and quarantined.
            has_marker = not self._rules.marker_suffix or listing.marker_of(file) is not None
            rest_counts = file.is_set_aside or has_marker
            settled = self._watched.has_settled(file, now_s) and rest_counts
            if not self._is_whole(file, listing, settled=settled):
                result.settling.append(shown)
                return True
            self._take(file, listing, settled, stop)
        except Stopped:
            return False
        except EvidenceError as error:
            return self._failed(file, shown, error, result)
        except Exception:
            # Logged with its trace; one file must not keep those behind it from being taken.
            return self._failed_inside(file, shown, result)
        self._watched.unsettle(file)
        result.taken.append(shown)
        return True

    def _is_whole(self, file: RemoteFile, listing: Listing, *, settled: bool) -> bool:
        return (
            file.proof is not None
            or file.declared_sha256 is not None
            or listing.digest_of(file) is not None
            or listing.marker_of(file) is not None
            or settled
        )

    def _take(self, file: RemoteFile, listing: Listing, settled: bool, stop: threading.Event | None) -> None:
        if file.size_bytes > self._rules.max_file_bytes:
            raise InvalidInput(
                f"file {display_name(file.name)}: expected at most {self._rules.max_file_bytes} bytes, found "
                f"{file.size_bytes}; raise the limit or fetch it by hand",
                code="source_too_large",
            )
        partial = Partial(self._stem(file), file.identity(self._rules.place))
        sha256 = self._fetching.fetch(file, partial, stop)
        said = self._companions.read(file, listing)
        declared = said.declared_sha256 or file.declared_sha256
        has_marker = listing.marker_of(file) is not None
        if not (settled or file.proof is not None):
            self._require_proved(file, sha256, said, declared, partial, has_marker=has_marker)
        if not (self._rules.frees or file.is_immutable or declared == sha256):
            self._fetching.compare(file, partial, stop)
        is_unproven = file.proof is None and declared is None and not has_marker
        findings = [UNPROVEN] if self._rules.rest_is_a_finding and is_unproven else []
        staged = self._described(file, partial.path, sha256, said, findings)
        try:
            self._accept(self._origin_of(file).agency_id, staged)
        except NotFound:
            # Marked whole, but the bytes are neither here nor in the store: fetch them again.
            partial.drop()
            raise
        self._seen.remember(self._key(file), sha256, said.used)
        partial.drop()

    def _require_proved(
        self,
        file: RemoteFile,
        sha256: bytes,
        said: Said,
        declared: bytes | None,
        partial: Partial,
        *,
        has_marker: bool,
    ) -> None:
        """Raises FixityError where a digest is what makes a file count as whole, and it does not."""
        if said.digest_error is not None and file.declared_sha256 is None and not has_marker:
            # It may have been cut like the file that it is to prove whole.
            raise FixityError(
                f"file {display_name(file.name)}: expected a digest beside it, found none that can be "
                "read; it will be read again",
                code="declared_digest_unreadable",
            ) from said.digest_error
        if declared is not None and declared != sha256:
            partial.drop()
            raise FixityError(
                f"file {display_name(file.name)}: expected sha256 {declared.hex()[:16]}… as declared, found "
                f"{sha256.hex()[:16]}…; it will be fetched again",
                code="declared_digest_missed",
            )

    def _described(
        self,
        file: RemoteFile,
        path: Path,
        sha256: bytes,
        said: Said,
        findings: list[tuple[str, str]],
    ) -> StagedFile:
        origin, device_no = self._origin_of(file), self._origin_of(file).device_no
        metadata = {
            "source_path": decode_name(file.path)[:1000],
            **file.metadata,
            **said.sidecar.metadata,
            **said.unread,
        }
        if file.mtime_ns is not None:
            with contextlib.suppress(OverflowError, ValueError, OSError):  # A time on no calendar.
                metadata["source_modified_at"] = rfc3339(datetime.fromtimestamp(file.mtime_ns / 1e9, UTC))
        declared = said.declared_sha256 or file.declared_sha256 or said.sidecar.declared_sha256
        return StagedFile(
            path=path,
            size_bytes=file.size_bytes,
            sha256=sha256,
            original_name_raw=file.name,
            source=self._rules.kind,
            reception_key=arrival_key(self._key(file), said.used),
            actor=origin.actor,
            metadata=metadata,
            claims=said.sidecar.claims,
            assumed=(Statement("device_no", device_no, ClaimSource.DOCK),) if device_no is not None else (),
            findings=(*findings, *said.findings),
            dock_no=origin.dock_no,
            declared_sha256=declared,
        )

    # --- freeing ----------------------------------------------------------------------------------

    def _taken_of(self, file: RemoteFile) -> Taken | None:
        key = self._key(file)
        entry = self._seen.entry_of(key)
        if entry is None:
            return self._freeing.taken_of(file)
        return Taken(self._origin_of(file).agency_id, key, entry.sha256, entry.said)

    def _hear(self, file: RemoteFile, taken: Taken, said: Said) -> None:
        """Hand a file in once more, for what was said of it since: its bytes are in the store."""
        no_bytes = self._stem(file).with_suffix(".said")
        findings = [SAID_LATE] if said.sidecar.known else []
        staged = self._described(file, no_bytes, taken.sha256, said, findings)
        reception_key = arrival_key(taken.seen_key, said.used)
        self._accept(self._origin_of(file).agency_id, replace(staged, reception_key=reception_key))

    def _free(
        self,
        file: RemoteFile,
        taken: Taken,
        listing: Listing,
        now_s: float,
        stop: threading.Event | None,
        result: ScanResult,
    ) -> bool:
        """Free it or leave it; False when the look must end."""
        shown = display_name(file.name)
        if self._watched.is_backing_off(file):
            return True
        try:
            rest_s = LATE_REST_S if self._rules.settle_s is None else self._rules.settle_s
            is_at_rest = self._watched.has_rested(file, now_s, rest_s)
            fate = self._freeing.free(file, taken, listing, stop, is_at_rest=is_at_rest)
        except Stopped:
            return False
        except EvidenceError as error:
            return self._failed(file, shown, error, result)
        except Exception:
            # As for taking; a file that was not freed lies there still.
            return self._failed_inside(file, shown, result)
        if fate is Fate.REPLACED:
            self._watched.unsettle(file)
            result.replaced.append(shown)
        elif fate is not Fate.KEPT:
            (result.freed if fate is Fate.FREED else result.given_up).append(shown)
        return True

    # --- what went wrong --------------------------------------------------------------------------

    def _failed(self, file: RemoteFile, shown: str, error: EvidenceError, result: ScanResult) -> bool:
        result.failed[shown] = error.code
        log.warning(
            "source:not_taken", source=self._rules.place, name=shown, code=error.code, detail=error.message
        )
        if error.code == "source_changed":
            self._watched.unsettle(file)
            return True
        self._watched.failed(file, has_moved_on=bool(error.facts.get("has_moved_on")))
        if error.code in _OF_THE_PLACE or isinstance(error, NotAuthenticated):
            self._disconnect()
            result.stopped = error.code
            return False
        if isinstance(error, Unavailable) and error.code not in _OF_ONE_FILE:
            result.stopped = error.code
            return False
        return True

    def _failed_inside(self, file: RemoteFile, shown: str, result: ScanResult) -> bool:
        self._watched.failed(file)
        result.failed[shown] = "internal"
        log.exception("source:not_taken", source=self._rules.place, name=shown)
        return True

    def _gone(self, error: EvidenceError, result: ScanResult) -> None:
        self._disconnect()
        self._watched.forget_all()
        result.is_gone = True
        result.stopped = error.code
        if self._gone_code != error.code:
            log.warning("source:gone", source=self._rules.place, code=error.code, detail=error.message)
            if isinstance(error, NotAuthenticated):
                try:
                    self._tell(error.code, error.message)
                except EvidenceError as untold:
                    # Told again by the next look: the code is not noted as known yet.
                    log.warning("source:not_told", source=self._rules.place, code=untold.code)
                    return
        self._gone_code = error.code

    def _back(self) -> None:
        if self._gone_code is not None:
            log.info("source:back", source=self._rules.place)
        self._gone_code = None

    def _disconnect(self) -> None:
        try:
            self._remote.disconnect()
        except Exception:
            # Three libraries part in their own ways; there is nothing left to save of this line.
            log.exception("source:disconnect_failed", source=self._rules.place)

    def _skip(self, file: RemoteFile, now_s: float, result: ScanResult) -> None:
        shown = display_name(file.name)
        result.skipped.append(shown)
        level = self._skipped.level(file.path, now_s)
        if level is not None:
            log.log(level, "source:not_taken", source=self._rules.place, name=shown, code="skipped")

    def _sweep(self, listing: Listing) -> None:
        """Drop what is left of files that went away long ago."""
        wanted = {self._stem(file).name for file in listing.recordings}
        before_s = time.time() - PARTIAL_LIFE_S
        for mark in self._staging_dir.glob(f"{self._prefix}*.mark"):
            if mark.stem not in wanted and mark.stat().st_mtime < before_s:
                log.warning("source:partial_dropped", source=self._rules.place, partial=mark.stem)
                mark.with_suffix(".part").unlink(missing_ok=True)
                mark.unlink(missing_ok=True)

    # --- names of ours ----------------------------------------------------------------------------

    def _key(self, file: RemoteFile) -> str:
        return f"{self._rules.kind}:{file.identity(self._rules.place)}"

    def _stem(self, file: RemoteFile) -> Path:
        return self._staging_dir / f"{self._prefix}{file.identity(self._rules.place)[:32]}"

    def _origin_of(self, file: RemoteFile) -> Origin:
        origin = file.origin or self._origin
        if origin is None:
            raise ValueError(f"{self._rules.place}: expected an origin for each file, found none")
        return origin
