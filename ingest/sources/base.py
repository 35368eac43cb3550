"""What every way of taking files in has in common: a file that is whole, staged and described.

A source decides when a file is complete and copies it beside the object store, with its
digest made while reading. What it means that we hold it is intake's business.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ingest.facts import Statement


@dataclass(frozen=True)
class StagedFile:
    """A whole file on the object store's own disk, synced, ready to be adopted."""

    path: Path
    """The staged bytes. After a crash between adoption and rows it may be gone while the store
    holds the object; `ObjectStore.adopt` knows that case."""
    size_bytes: int
    sha256: bytes
    """Made while the bytes arrived."""
    original_name_raw: bytes
    """The name as the sender's file system or client wrote it; hostile, for claims and display only."""
    source: str
    """The way it came, such as ``tus``, ``put``, ``folder`` or ``sftp``."""
    reception_key: str
    """The same for each try to hand in this arrival, and for no other arrival."""
    actor: str
    """On whose authority it came, such as ``token:<id>``; never a person's name."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The sender's own words, kept as received."""
    claims: tuple[Statement, ...] = ()
    """What dock, sidecar or person said; claims of the file name are intake's to add."""
    assumed: tuple[Statement, ...] = ()
    """What is taken for granted where nobody says otherwise, such as the device a folder belongs to: each
    becomes a claim only if neither the sender nor the file's name speaks of that field."""
    findings: tuple[tuple[str, str], ...] = ()
    """What was wrong on the way in: stable code and one line each; flags, never refusals."""
    dock_no: str | None = None
    declared_sha256: bytes | None = None
    """What the sender says the whole file comes to."""
    earns_receipt: bool = True
    """False: it is kept like any other, but nobody may wipe a card for it."""


@dataclass
class ScanResult:
    """What one look at a source came to; names as they may be shown."""

    is_gone: bool = False
    taken: list[str] = field(default_factory=list)
    settling: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    """Links, specials and names of unfinished files."""
    failed: dict[str, str] = field(default_factory=dict)
    """Name to stable code."""
    freed: list[str] = field(default_factory=list)
    """Removed at the source, on our receipt."""
    given_up: list[str] = field(default_factory=list)
    """Copies of ours that earn no receipt: removed, because the store's were read back."""
    replaced: list[str] = field(default_factory=list)
    """Found to have other bytes than those of their receipt; kept, and taken by a later look."""
    stopped: str | None = None
    """Code of what would have held up every file."""


class Source(Protocol):
    """Something files come from."""

    def run(self, stop: threading.Event) -> None:
        """Take files in until ``stop`` is set; a source that is gone is waited for."""
        ...

    def scan_once(self, stop: threading.Event | None = None) -> ScanResult:
        """Look once at every file and take those that are whole; never raises for what is out there."""
        ...
