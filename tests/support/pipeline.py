"""The pipeline in one process: real tasks, real children, real FFmpeg, and no broker in between."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from sqlalchemy import select

from config.settings import Settings
from evidence.events import Event
from evidence.fixity import hash_file
from evidence.ids import new_id
from evidence.kinds import ClaimSource
from ingest.daemon.holding import hold
from ingest.facts import statements_from
from ingest.intake import Accepted
from ingest.sources.base import StagedFile
from messaging.jobs import QUEUES
from storage.db.tables import Agency, Item, Job
from storage.open import Storage
from tests.support.samples import models_dir
from workers.runner import Runner
from workers.tasks import TASKS

# Work for people in long recordings; the tests that are about it ask for it by name.
WAYFINDING = {"continuity", "scenes", "thumbnails", "waveform"}


class Silence:
    """Stands where events and messages would go: nobody listens in these tests."""

    def publish(self, event: Event) -> None:
        """Nobody hears it."""

    def announce_all(self, due: object) -> int:
        """The tests look for themselves."""
        return len(list(due))  # type: ignore[call-overload]


@dataclass
class Pipeline:
    """Takes files in and works until nothing is left to do."""

    storage: Storage
    settings: Settings
    listener: Silence = field(default_factory=Silence)
    """Who hears of what is done."""

    @property
    def agency(self) -> Agency:
        with self.storage.database.read() as session:
            return session.scalars(select(Agency)).one()

    def take(self, path: Path, name: str | bytes | None = None, **metadata: str) -> Accepted:
        """Take a copy of a file in, as a dock's upload is."""
        raw = name.encode() if isinstance(name, str) else name
        staged_path = self.storage.objects.staging_dir / str(new_id())
        staged_path.write_bytes(path.read_bytes())
        digests = hash_file(staged_path)
        staged = StagedFile(
            path=staged_path,
            size_bytes=digests.size_bytes,
            sha256=digests.sha256,
            original_name_raw=path.name.encode() if raw is None else raw,
            source="tus",
            reception_key=metadata.pop("reception_key", f"tus:{new_id()}"),
            actor="dock:D1",
            metadata=metadata,
            claims=tuple(statements_from(metadata, ClaimSource.DOCK)),
            dock_no="D1",
            declared_sha256=bytes.fromhex(metadata["sha256"]) if "sha256" in metadata else None,
        )
        return self.accept(staged)

    def accept(self, staged: StagedFile) -> Accepted:
        """Adopt and commit, as the daemon does."""
        return hold(self.storage, self.agency.id, staged)

    def work(self, *, only: set[str] | None = None) -> None:
        """Do every job there is, but those that only help to find one's way; or all of some kinds."""
        runner = Runner(
            self.storage,
            self.settings,
            TASKS,
            QUEUES,
            self.listener,  # type: ignore[arg-type]
            Silence(),  # type: ignore[arg-type]
        )
        self.leave_out(only)
        while runner.look():
            self.leave_out(only)

    def leave_out(self, only: set[str] | None) -> None:
        """Call off what `work` would not do."""
        is_out = Job.kind.in_(WAYFINDING) if only is None else Job.kind.not_in(only)
        with self.storage.database.transaction() as session:
            for job in session.scalars(select(Job).where(is_out, Job.state == "ready")):
                job.state = "cancelled"

    def item(self, item_id: UUID) -> Item:
        with self.storage.database.read() as session:
            return session.scalars(select(Item).where(Item.id == item_id)).one()

    def items(self) -> list[Item]:
        with self.storage.database.read() as session:
            return list(session.scalars(select(Item).order_by(Item.id)))

    def flags(self, item_id: UUID) -> set[str]:
        return {flag["code"] for flag in self.item(item_id).flags}


def pipeline_settings(settings: Settings) -> Settings:
    """The same settings with the weights of this checkout."""
    redaction = settings.redaction.model_copy(update={"models_dir": models_dir()})
    return settings.model_copy(update={"redaction": redaction})
