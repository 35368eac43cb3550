"""The whole dock: looks for volumes, gives each camera a worker, collects receipts, ends cleanly."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Semaphore, Thread

from liuhen_dock import card
from liuhen_dock.board import Board
from liuhen_dock.clock import Clock, SystemClock
from liuhen_dock.collector import Collector
from liuhen_dock.config import Config, read_token
from liuhen_dock.driver import CameraDriver, driver_for
from liuhen_dock.errors import DockError
from liuhen_dock.journal import Entry, Journal, Phase
from liuhen_dock.lock import only_one
from liuhen_dock.mounts import Volume, volumes
from liuhen_dock.names import shown
from liuhen_dock.pace import Governor, RateLimit
from liuhen_dock.profiles import Profile
from liuhen_dock.receipts import ReceiptFolder
from liuhen_dock.transfer import Transfer
from liuhen_dock.tus import TusClient, tls_context
from liuhen_dock.worker import RETRY_FAULTS_S, Bench, Worker

log = logging.getLogger(__name__)

COLLECT_EVERY_S = 0.25
STOP_WAIT_S = 15.0
QUIET_LOOKS = 2
"""How many looks in a row must find nothing new before `until_quiet` believes it."""


class Station:
    """A dock at work.

    Args:
        config: What it was told.
        clock: The machine's, or one a test moves.
        drivers: Makes the driver of a volume; the profile's own unless a test hands in another.
        jitter: A number from 0 to 1 each time.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        drivers: Callable[[Volume, Profile], CameraDriver] = driver_for,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.board = Board(self.clock)
        self.stop = Event()
        self.receipts = ReceiptFolder(config.state_dir / "receipts")
        self.journal = Journal(config.state_dir / "journal.jsonl")
        self.limit = RateLimit(config.hours, self.clock, config.zone)
        self.governor = Governor(self.limit, self.clock, self.stop, slots=config.parallel_pieces)
        transfer = Transfer(
            self.journal, self.governor, self.clock, self.stop, config.request_bytes, jitter=jitter
        )
        self._bench = Bench(
            config, self.journal, self.receipts, transfer, self.board, self.clock, self.stop,
            Semaphore(config.max_cameras), tls_context(config), drivers,
        )  # fmt: skip
        self.collector = Collector(
            self.journal, self.receipts, config.receipt_keys, self.clock, self.stop, self._told
        )
        self._workers: dict[Path, tuple[Worker, Thread]] = {}
        if self.journal.damaged_lines:
            log.warning("journal: %d damaged lines left out", self.journal.damaged_lines)

    def run(self) -> None:
        """Work until `stop` is set."""
        with self._collecting():
            while not self.stop.is_set():
                self.look()
                self.stop.wait(self.config.poll_s)

    def until_quiet(self, wait_s: float) -> bool:
        """Work until nothing is left to do for the cameras that are in; whether every file has its receipt.

        Args:
            wait_s: How long to wait for receipts, once every byte is sent.
        """
        quiet, awaited_since = 0, None
        with self._collecting():
            while not self.stop.is_set():
                self.look()
                busy = any(thread.is_alive() and worker.is_busy for worker, thread in self._workers.values())
                waiting = bool(self.journal.in_phase(Phase.SENT))
                if busy:
                    quiet, awaited_since = 0, None
                elif waiting:
                    awaited_since = self.clock.monotonic() if awaited_since is None else awaited_since
                    if self.clock.monotonic() - awaited_since > wait_s:
                        break
                elif (quiet := quiet + 1) > QUIET_LOOKS:
                    break
                self.stop.wait(min(self.config.poll_s, 0.5))
        return self.is_clean()

    def is_clean(self) -> bool:
        """Whether every file of every camera that is in has its receipt, and nothing is wrong."""
        panels = self.board.snapshot()["cameras"]
        return not self.journal.in_phase(Phase.SENT, Phase.OPEN) and all(
            panel["state"] == "done" for panel in panels
        )

    def look(self) -> None:
        """See which volumes are there; start a worker for each camera that has none."""
        self.board.limit_bytes_per_s = self.limit.bytes_per_s()
        ignored: dict[str, str] = {}
        seen = volumes(self.config.mount_roots, self.config.slots)
        self._forget_absent({volume.root for volume in seen})
        for volume in seen:
            running = self._workers.get(volume.root)
            if running is not None and running[1].is_alive():
                continue
            if running is not None and self._has_given_up(running[0], volume):
                continue
            profile = self._profile_of(volume)
            if profile is None:
                ignored[shown(str(volume.root))] = shown(volume.label)
                continue
            self._start(Worker(self._bench, volume, profile))
        self.board.ignored(ignored)

    def close(self) -> None:
        """Stop every worker, and let go of the journal."""
        self.stop.set()
        self.governor.wake()
        for worker, thread in self._workers.values():
            worker.wake.set()
            thread.join(STOP_WAIT_S)
        self.journal.close()

    def _forget_absent(self, present: set[Path]) -> None:
        """A camera that was taken out and comes back is met afresh, whatever became of it before."""
        for root, (worker, thread) in list(self._workers.items()):
            if root not in present and not thread.is_alive():
                if worker.ended_at is not None:
                    self.board.remove(worker.name)
                del self._workers[root]

    def _has_given_up(self, worker: Worker, volume: Volume) -> bool:
        """A worker that failed for good is started again for a new volume, or after a good while."""
        if worker.ended_at is None or worker.volume != volume:
            return False
        return self.clock.monotonic() - worker.ended_at < RETRY_FAULTS_S

    def _profile_of(self, volume: Volume) -> Profile | None:
        if volume.slot_profile is not None:
            return self.config.all_profiles[volume.slot_profile]
        try:
            return card.profile_of(volume, self.config.profiles)
        except OSError as error:
            log.warning("%s: cannot be looked at: %s", shown(str(volume.root)), error.strerror)
            return None

    def _start(self, worker: Worker) -> None:
        thread = Thread(target=worker.run, name=f"camera {worker.name}", daemon=True)
        self._workers[worker.volume.root] = (worker, thread)
        thread.start()

    @contextmanager
    def _collecting(self) -> Iterator[None]:
        """Ask for receipts beside the uploads: of cards that are in and of cards that are not."""
        ends = Event()
        thread = Thread(target=self._collect, args=(ends,), name="receipts", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join(STOP_WAIT_S)

    def _collect(self, ends: Event) -> None:
        while not (ends.is_set() or self.stop.is_set()):
            try:
                token = read_token(self.config)
                with TusClient(self.config, token, self._bench.tls) as client:
                    while not (ends.is_set() or self.stop.is_set()):
                        self.collector.look(client)
                        ends.wait(COLLECT_EVERY_S)
            except DockError as error:
                log.warning("receipts: %s", error.message)
                self.board.server(error)
                ends.wait(self.config.poll_s)
            except Exception:
                # Whatever it was, uploads go on and the next round asks again.
                log.exception("receipts: the agent failed inside")
                ends.wait(self.config.poll_s)

    def _told(self, entry: Entry, error: DockError | None) -> None:
        name = shown(entry.key.path)
        if error is None:
            log.info("%s %s: %s", entry.key.device, name, entry.phase)
        else:
            log.error("%s %s: %s", entry.key.device, name, error.message)
        for worker, _ in list(self._workers.values()):
            if worker.device == entry.key.device:
                if error is not None:
                    worker.receipt_trouble(entry, error)
                worker.wake.set()


@contextmanager
def station(config: Config) -> Iterator[Station]:
    """The one station of a state folder, closed at the end."""
    with only_one(config.state_dir):
        made = Station(config)
        try:
            yield made
        finally:
            made.close()
