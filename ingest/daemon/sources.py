"""Every way files come to this host besides the upload listener: started together, stopped together."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

import structlog

from config.settings import Settings
from ingest.daemon.folders import start_folders
from ingest.daemon.holding import Holder
from ingest.recorder.handover import NAME
from storage.open import Storage

if TYPE_CHECKING:
    from ingest.daemon.pushed import PushListeners

log = structlog.get_logger(__name__)

STOP_WAIT_S = 10.0


class Sources:
    """Watched folders, fetched docks and the listeners for docks that push; a context.

    Entering raises NotFound, InvalidInput or Unavailable, in one clear line, where a source or listener
    cannot work as it is set; then nothing is left running.
    """

    def __init__(self, settings: Settings, storage: Storage, holder: Holder) -> None:
        self._told = (settings, storage, holder)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listeners: PushListeners | None = None

    def __enter__(self) -> Sources:
        try:
            self._threads += start_folders(*self._told, self._stop)
            self._start_docks(self._told[0])
            self._start_rooms(self._told[0])
        except BaseException:
            self._close()
            raise
        return self

    def _start_docks(self, settings: Settings) -> None:
        """The SSH, FTP and HTTP libraries are memory that a host without such docks does not spend."""
        if settings.ingest.sources:
            from ingest.daemon.pulled import start_pulled

            self._threads += start_pulled(*self._told, self._stop)
        has_been_on = (settings.data.dir / "pushed").exists()
        if settings.ingest.sftp.enabled or settings.ingest.ftp.enabled or has_been_on:
            from ingest.daemon.pushed import start_pushed

            self._listeners, threads = start_pushed(*self._told, self._stop)
            self._threads += threads

    def _start_rooms(self, settings: Settings) -> None:
        if settings.recorder.rooms:
            from ingest.daemon.rooms import start_rooms

            self._threads += start_rooms(*self._told, self._stop)
        if (settings.recorder_dir / NAME).exists():
            from ingest.daemon.rooms_gone import start_rooms_gone

            self._threads += start_rooms_gone(settings, self._told[1], self._stop)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._threads)

    def _close(self) -> None:
        self._stop.set()
        if self._listeners is not None:
            self._listeners.close()
        # One wait for all: a mount that hangs must not make the others' turn come too late.
        until_s = time.monotonic() + STOP_WAIT_S
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))
            if thread.is_alive():
                log.warning("source:hangs", source=thread.name)
