"""A place, a store, and what was handed in: fetching without intake's rows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from config.profiles import SidecarFields
from config.settings import FolderSettings
from evidence.errors import Unavailable
from ingest.sources.base import ScanResult, Source, StagedFile
from ingest.sources.folder import FolderSource
from ingest.sources.journal import TakenJournal
from ingest.sources.pulling import PullRules, PullSource
from ingest.sources.remote import Origin, RemoteFolder
from storage.objects.local import LocalObjectStore
from tests.support.places import (
    FtpPlace,
    FtpsPlace,
    HttpPlace,
    Place,
    PushedFtpPlace,
    PushedPlace,
    SftpPlace,
)

AGENCY = UUID("0190a000-0000-7000-8000-0000000000aa")
BIG = os.urandom(1 << 20) * 3
SETTLE_S = 10.0


class Died(BaseException):
    """The process is gone; nothing in it may go on."""


class Mortal:
    """A `RemoteFolder` whose process dies at a step: before or after the place did what was asked."""

    def __init__(self, remote: RemoteFolder) -> None:
        self._remote = remote
        self.dies: tuple[str, str] | None = None
        """``before`` or ``after``, and the method's name."""

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._remote, name)

        def called(*args: object) -> object:
            if self.dies == ("before", name):
                raise Died
            answer = method(*args)
            if self.dies == ("after", name):
                raise Died
            return answer

        return called


class FolderPlace(Place):
    """A folder of this machine, or a mount of another."""

    kind = "folder"
    can_free = False

    def serve(self) -> None:
        if not self.folder.exists():
            (self.folder.parent / "away").rename(self.folder)

    def stop(self) -> None:
        self.folder.rename(self.folder.parent / "away")


PLACES: list[type[Place]] = [FolderPlace, SftpPlace, FtpPlace, FtpsPlace, HttpPlace]
REMOTE = [SftpPlace, FtpPlace, HttpPlace]
"""FTPS differs from FTP by its handshake alone, which the tests over all places see."""
PUSHED: list[type[Place]] = [PushedPlace, PushedFtpPlace]


@dataclass
class Desk:
    """A place, a store, and what was handed in: intake without its rows."""

    tmp_path: Path
    place: Place
    store: LocalObjectStore = field(init=False)
    accepted: list[StagedFile] = field(default_factory=list)
    failing: list[Exception] = field(default_factory=list)
    receipts: set[bytes] = field(default_factory=set)
    told: list[str] = field(default_factory=list)
    free_bytes: int | None = None
    now_s: float = 1000.0
    source: Source = field(init=False)
    remote: Mortal | None = None
    after_accept: Callable[[], object] | None = None
    fields: SidecarFields | None = None

    def __post_init__(self) -> None:
        self.store = LocalObjectStore.create(self.tmp_path / "objects")
        self.restart()

    def restart(self, **rules: object) -> None:
        """A new process: nothing but disk is left of the old one."""
        seen = TakenJournal(self.tmp_path / "taken.jsonl")
        if self.place.kind == "folder":
            self.source = FolderSource(
                FolderSettings(path=self.place.folder, settle_s=SETTLE_S, **rules),  # type: ignore[arg-type]
                staging_dir=self.store.staging_dir,
                seen=seen,
                accept=lambda staged: self.accept(AGENCY, staged),
                reserve=self.require_room,
                sidecar_fields=self.fields,
                monotonic_s=lambda: self.now_s,
            )
            return
        if self.remote is not None:
            self.remote.disconnect()
        self.remote = Mortal(self.place.remote())
        self.source = PullSource(
            PullRules(
                self.place.kind,
                f"{self.place.kind}:place",
                None if isinstance(self.place, PushedPlace) else SETTLE_S,
                **rules,  # type: ignore[arg-type]
            ),
            self.remote,
            origin=Origin(AGENCY, "source:place", "D-1", None),
            staging_dir=self.store.staging_dir,
            seen=seen,
            accept=self.accept,
            has_receipt=self.is_receipted,
            may_free=self.is_receipted,
            reserve=self.require_room,
            sidecar_fields=self.fields,
            monotonic_s=lambda: self.now_s,
            tell=lambda code, _line: self.told.append(code),
        )

    def require_room(self, size: int) -> None:
        self.reserve(size)

    def reserve(self, size: int) -> None:
        if self.free_bytes is not None and size > self.free_bytes:
            raise Unavailable("disk: full", code="disk_full")

    def is_receipted(self, _agency: UUID, key: str, sha256: bytes) -> bool:
        """Whether there is one for this very arrival."""
        arrivals = {(staged.reception_key, staged.sha256) for staged in self.accepted}
        return sha256 in self.receipts and (key, sha256) in arrivals

    def accept(self, agency_id: UUID, staged: StagedFile) -> None:
        if self.failing:
            raise self.failing.pop(0)
        self.store.adopt(staged.path, staged.sha256, staged.size_bytes, agency_id.hex)
        self.accepted.append(staged)
        if self.after_accept is not None:
            self.after_accept()

    def look(self) -> ScanResult:
        """One look, a pause long enough, another look."""
        self.source.scan_once()
        self.now_s += SETTLE_S
        return self.source.scan_once()

    def scans(self) -> list[str]:
        """What two looks with a pause between them took."""
        first = self.source.scan_once().taken
        self.now_s += SETTLE_S
        return sorted([*first, *self.source.scan_once().taken])

    def held(self) -> list[bytes]:
        """The contents of every file at the place, whatever it is called."""
        return sorted(path.read_bytes() for path in self.place.folder.rglob("*") if path.is_file())

    def digests(self) -> list[str]:
        return sorted(staged.sha256.hex() for staged in self.accepted)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def desk_at(kind: type[Place], tmp_path: Path) -> Iterator[Desk]:
    folder = tmp_path / "dock"
    folder.mkdir()
    place = kind(folder)
    place.serve()
    desk = Desk(tmp_path, place)
    yield desk
    if desk.remote is not None:
        desk.remote.disconnect()
        place.stop()
