"""Threads for the watched folders of this host."""

from __future__ import annotations

import hashlib
import os
import threading

from config.profiles import load_sidecar_fields
from config.settings import FolderSettings, Settings
from ingest.daemon.holding import Holder
from ingest.sources.folder import FolderSource
from ingest.sources.journal import TakenJournal
from storage.db import agencies
from storage.open import Storage


def start_folders(
    settings: Settings, storage: Storage, holder: Holder, stop: threading.Event
) -> list[threading.Thread]:
    """One thread a watched folder; none when none is set.

    Raises:
        NotFound: A folder is set for an agency that is not there.
    """
    threads: list[threading.Thread] = []
    for folder in settings.ingest.folders:
        source = _source(folder, settings, storage, holder)
        thread = threading.Thread(target=source.run, args=(stop,), name=f"folder-{len(threads)}", daemon=True)
        thread.start()
        threads.append(thread)
    return threads


def _source(folder: FolderSettings, settings: Settings, storage: Storage, holder: Holder) -> FolderSource:
    with storage.database.read() as session:
        if folder.agency is not None:
            agency_id = agencies.agency_by_code(session, folder.agency).id
        else:
            agency_id = agencies.agencies(session)[0].id
    # What was taken is remembered apart for each folder, under a name that says nothing of its path.
    name = hashlib.sha256(os.fsencode(folder.path)).hexdigest()[:16]
    host_id = settings.ingest.host_id
    # `/media/card` of one host is not that of another.
    journals = settings.data.dir / "folders" / (host_id or "")
    journals.mkdir(mode=0o700, parents=True, exist_ok=True)
    return FolderSource(
        folder,
        staging_dir=storage.objects.staging_dir,
        seen=TakenJournal(journals / f"{name}.jsonl"),
        accept=lambda staged: holder.hold(agency_id, staged),
        reserve=storage.objects.reserve,
        host=host_id or "",
        sidecar_fields=load_sidecar_fields(settings.ingest.sidecar_fields),
    )
