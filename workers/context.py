"""What a task gets, and what it gives back."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from config.settings import Settings
from evidence.canonical import canonical_json
from evidence.events import Event, Topic
from evidence.fixity import hash_file
from media.sandbox import Limits
from storage.db.jobs import Lease
from storage.db.tables import Agency
from storage.objects.base import Namespace
from storage.open import Storage
from transcode.encoders import SOFTWARE, Encoder

WORKER = "worker"
QUICK = "quick"
"""The queue of what makes new footage playable; it never waits behind an encoding or a redaction."""
ASKED = "asked"
"""The queue of what somebody waits for and is made in minutes."""
BACKGROUND_NICENESS = 10
PORTION_US, PORTION_FRAMES = 30 * 60 * 1_000_000, 45_000
"""The footage a child's limits are meant for: half an hour, or its pictures at 25 a second."""
MOST_PORTIONS = 96
"""Two days. What claims more is not believed."""


@dataclass
class Outcome:
    """What a task wants written, in one transaction with the fence check and the job's end.

    Attributes:
        commit: Writes rows, leaves and follow-on jobs; it runs only if the fence still holds.
        events: Told after the commit.
    """

    commit: Callable[[Session, Agency], None]
    events: list[tuple[Topic, str, str, Mapping[str, Any]]] = field(default_factory=list)


@dataclass(frozen=True)
class Made:
    """A derivative's bytes, durable in the object store, without a row yet."""

    sha256: bytes
    size_bytes: int
    store_key: str


@dataclass(frozen=True)
class JobContext:
    """One leased job at work.

    Attributes:
        scratch: Folder of this lease alone; gone afterwards.
        progress: Tell how far it is, 0 to 1.
        is_cancelled: True once the lease is lost or the worker stops; children are killed then.
        encoder: What this worker encodes with, where nothing else was agreed on for the recording.
        portions: How many times the footage is as long as the limits of a child are meant for.
    """

    lease: Lease
    agency: Agency
    storage: Storage
    settings: Settings
    scratch: Path
    progress: Callable[[float], None]
    is_cancelled: Callable[[], bool]
    encoder: Encoder = SOFTWARE
    portions: int = 1

    @property
    def limits(self) -> Limits:
        """What a child of this job may use: of time and room more for what is longer, never of memory."""
        media = self.settings.media
        return Limits(
            cpu_s=media.child_cpu_s * self.portions,
            memory_bytes=media.child_memory_bytes,
            wall_s=media.child_wall_s * self.portions,
            stall_s=media.child_stall_s,
            file_size_bytes=media.child_file_bytes * self.portions,
            niceness=0 if self.lease.queue in {QUICK, ASKED} else BACKGROUND_NICENESS,
        )

    def local_path(self, store_key: str) -> Path:
        """A file with the object's bytes: the store's own, or a copy in scratch."""
        path = self.storage.objects.path(store_key)
        if path is not None:
            return path
        copy = self.scratch / store_key.rsplit("/", 1)[-1]
        with self.storage.objects.open(store_key) as source, copy.open("wb") as target:
            while chunk := source.read(1 << 20):
                target.write(chunk)
        return copy

    def keep_derivative(self, made: Path) -> Made:
        """Digest a finished file and give it to the object store: bytes before rows (invariant 4)."""
        self.storage.objects.reserve(made.stat().st_size)
        digests = hash_file(made)
        stored = self.storage.objects.adopt(
            made, digests.sha256, digests.size_bytes, self.lease.agency_id.hex, Namespace.DERIVATIVE
        )
        return Made(digests.sha256, stored.size_bytes, stored.key)


def portions_of(duration_us: int, frame_count: int) -> int:
    """How many times the limits of a child are given to work on so much footage."""
    needed = max(-(-duration_us // PORTION_US), -(-frame_count // PORTION_FRAMES))
    return min(max(1, needed), MOST_PORTIONS)


def params_digest(params: Mapping[str, Any]) -> bytes:
    """Digest of canonical parameters, as in derivative and job rows."""
    return hashlib.sha256(canonical_json(dict(params))).digest()


def event(context: JobContext, topic: Topic, what: str, facts: Mapping[str, Any]) -> Event:
    """An event about the job's subject, now."""
    return Event(
        topic,
        context.agency.code,
        str(context.lease.subject_id),
        what,
        context.storage.clock.now(),
        json.loads(json.dumps(dict(facts), default=str)),
    )


def worker_label() -> str:
    """Name of this process in leases: host and process id."""
    return f"{os.uname().nodename}:{os.getpid()}"
