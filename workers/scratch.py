"""Scratch folders: one a lease, gone with it; and what dead attempts left is cleared away.

A worker that was killed could not clean up. Whoever starts, or takes a lease back, does it: a folder whose
job is not leased under the folder's fence belongs to nobody. The folders are listed before the jobs are
read, and a folder is made after its lease was won, so a living attempt is never taken for a dead one.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from uuid import UUID

import structlog

from storage.db import jobs
from storage.db.jobs import Lease
from storage.open import Storage
from storage.passing import clear_passed

log = structlog.get_logger()


def scratch_folder(root: Path, lease: Lease) -> Path:
    """Where an attempt works."""
    return root / f"{lease.job_id}-{lease.fence}"


def clear_abandoned(storage: Storage) -> int:
    """Remove the folders of attempts that are over, how many there were; and of previews whose API died.

    Raises:
        Unavailable: The database does not answer; nothing of an attempt was removed.
    """
    clear_passed(storage.scratch)
    found = {path: _named(path.name) for path in storage.scratch.iterdir() if path.is_dir()}
    claimed = {path: named for path, named in found.items() if named is not None}
    with storage.database.read() as session:
        living = jobs.leases_in_force(session, [job_id for job_id, _ in claimed.values()])
    dead = [path for path, named in claimed.items() if named not in living]
    for path in dead:
        shutil.rmtree(path, ignore_errors=True)
    if dead:
        log.info("scratch_cleared", count=len(dead))
    return len(dead)


def _named(name: str) -> tuple[UUID, int] | None:
    """Job and fence of a folder; None for what is not ours to remove."""
    job, _, fence = name.rpartition("-")
    try:
        return UUID(job), int(fence)
    except ValueError:
        return None
