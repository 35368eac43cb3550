"""What a source hands to the intake: a whole file in staging, its digest, and what was said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class StagedFile:
    """A complete file, closed and synced, ready for the object store.

    Attributes:
        path: In the store's staging folder, or an upload's part file on the same file system.
        sha256: Made while the bytes arrived, before any parsing.
        original_name_raw: The name's bytes as the sender wrote them; never part of a path.
        source: tus, folder or take.
        reception_key: Unique for this arrival: accepting it twice is accepting it once.
        metadata: What the sender wrote (upload metadata or sidecar), verbatim.
        dock_no: Dock it came through; None when there was none.
        declared_sha256: Digest the sender declared; None when it declared none.
        actor: Custody label of who brought it when it was no dock.
    """

    path: Path
    size_bytes: int
    sha256: bytes
    original_name_raw: bytes
    source: str
    reception_key: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    dock_no: str | None = None
    declared_sha256: bytes | None = None
    actor: str = "system"
