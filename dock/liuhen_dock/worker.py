"""One camera from plugging in to done: identify, upload, wait for receipts, free."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Semaphore

from liuhen_dock import card
from liuhen_dock.board import Board
from liuhen_dock.card import Camera, Footage
from liuhen_dock.clock import Clock
from liuhen_dock.config import Config, read_token
from liuhen_dock.driver import CameraDriver, driver_for
from liuhen_dock.errors import (
    CardGone,
    ConfigError,
    DockError,
    FileChanged,
    NotAllowed,
    TryAgain,
)
from liuhen_dock.freeing import free, may_be_freed
from liuhen_dock.journal import Entry, FileKey, Journal, Phase
from liuhen_dock.meeting import meet
from liuhen_dock.mounts import Volume, is_there
from liuhen_dock.names import shown
from liuhen_dock.profiles import Profile
from liuhen_dock.receipts import ReceiptFolder
from liuhen_dock.transfer import Progress, Stopped, Transfer
from liuhen_dock.tus import TusClient
from liuhen_dock.wording import State

log = logging.getLogger(__name__)

TOKEN_LOOK_S = 30.0
WAKE_LOOK_S = 0.2
RETRY_FAULTS_S = 300.0
"""A file the card could not give is tried again after this long, or when the card is put in anew."""

MAX_CHANGES = 4
"""A file that changed this often under its upload needs a person; it is still tried, seldom."""

UNFINISHED = frozenset({State.IDENTIFYING, State.UPLOADING, State.PAUSED, State.HELD_UP, State.FREEING})
UPLOADED = frozenset({Phase.SENT, Phase.RECEIPTED, Phase.FREED})


@dataclass(frozen=True)
class Bench:
    """What all workers share."""

    config: Config
    journal: Journal
    receipts: ReceiptFolder
    transfer: Transfer
    board: Board
    clock: Clock
    stop: Event
    places: Semaphore
    tls: ssl.SSLContext | None
    drivers: Callable[[Volume, Profile], CameraDriver] = driver_for


class _Shown(Progress):
    """Puts a transfer on the board."""

    def __init__(self, board: Board, name: str) -> None:
        self._board = board
        self._name = name
        self._last: int | None = None

    def moved(self, offset_bytes: int) -> None:
        if self._last is not None and offset_bytes > self._last:
            self._board.acknowledged(offset_bytes - self._last)
            self._board.server(None)
        self._last = offset_bytes
        self._board.update(self._name, state=State.UPLOADING, current_sent_bytes=offset_bytes)

    def held_up(self, trouble: DockError, delay_s: float) -> None:
        log.warning("%s; again in %.1f s", trouble.message, delay_s)
        self._board.server(trouble)
        self._board.update(self._name, state=State.HELD_UP)

    def paused(self) -> None:
        self._board.update(self._name, state=State.PAUSED)


@dataclass
class Worker:
    """Serves one camera until it is pulled or the agent ends."""

    bench: Bench
    volume: Volume
    profile: Profile
    wake: Event = field(default_factory=Event)
    """Set when a receipt came."""
    device: str = ""
    """What the journal calls the camera, once it is known."""
    is_settled: bool = False
    """Nothing is left to do for this camera but wait: for receipts, a person, or the next file."""
    _read_now: set[FileKey] = field(default_factory=set)
    _faulty: dict[FileKey, float] = field(default_factory=dict)
    """Files that could not be sent, and when it is tried again."""
    _kept: dict[FileKey, float] = field(default_factory=dict)
    """Files that could not be freed, and when it is tried again."""
    _restless: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Files that changed under their upload, by path: how often, and when they are looked at again."""
    _freed: int = 0
    ended_at: float | None = None
    """When the worker gave this camera up, by the monotonic clock."""

    @property
    def is_busy(self) -> bool:
        """Whether it has something to do that needs nobody else."""
        return self.wake.is_set() or not self.is_settled

    @property
    def name(self) -> str:
        """What the board calls it."""
        return shown(str(self.volume.root))

    def run(self) -> None:
        """The thread."""
        bench = self.bench
        bench.board.panel(self.name, shown(self.volume.label))
        bench.board.update(self.name, profile=self.profile.name)
        try:
            self._serve()
        except CardGone as error:
            log.warning("%s", error.message)
            if bench.board.states()[self.name] in UNFINISHED:
                bench.board.problem(self.name, error)
                bench.board.update(self.name, state=State.GONE)
            else:
                bench.board.remove(self.name)
        except Stopped:
            pass
        except DockError as error:
            log.error("%s: %s", self.name, error.message)  # noqa: TRY400 - one clear line
            self._give_up(error)
        except Exception as error:
            # A bug costs this card's round and is shown at its slot; the other cards go on.
            log.exception("%s: the agent failed inside", self.name)
            self._give_up(DockError(f"{type(error).__name__}: {error}"))

    def _give_up(self, error: DockError) -> None:
        self.bench.board.problem(self.name, error)
        self.bench.board.update(self.name, state=State.ATTENTION)
        self.ended_at = self.bench.clock.monotonic()
        self.is_settled = True

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the places for cameras that are worked on; kept only while there is work."""
        bench = self.bench
        if not bench.places.acquire(blocking=False):
            if not self.is_settled:
                bench.board.update(self.name, state=State.QUEUED)
            while not bench.places.acquire(timeout=WAKE_LOOK_S):
                if bench.stop.is_set():
                    raise Stopped
                if not is_there(self.volume.root):
                    raise CardGone(f"{self.name}: expected the card, found it gone")
        try:
            yield
        finally:
            bench.places.release()

    def _serve(self) -> None:
        with self._place():
            camera = self._meet()
        while True:
            try:
                # Read each time: a token that was refused may have been replaced meanwhile.
                token = read_token(self.bench.config)
                with TusClient(self.bench.config, token, self.bench.tls) as client:
                    self._serve_with(camera, client)
            except (NotAllowed, ConfigError) as error:
                log.error("%s", error.message)  # noqa: TRY400 - one clear line
                self.bench.board.server(error)
                self.bench.board.update(self.name, state=State.ATTENTION, current_file=None)
                self.is_settled = True
                self._pause(camera, TOKEN_LOOK_S)

    def _serve_with(self, camera: Camera, client: TusClient) -> None:
        while True:
            if self.wake.is_set():
                # In this order: between the two, whoever waits for quiet must still see one of them.
                self.is_settled = False
                self.wake.clear()
            with self._place():
                self._pass_over(camera, client)
            self._pause(camera, self.bench.config.poll_s)

    def _pause(self, camera: Camera, seconds: float) -> None:
        until = self.bench.clock.monotonic() + seconds
        while not self.wake.is_set() and (left := until - self.bench.clock.monotonic()) > 0:
            if self.bench.clock.wait(min(left, WAKE_LOOK_S), self.bench.stop):
                break
        if self.bench.stop.is_set():
            raise Stopped
        if not camera.is_there():
            raise CardGone(f"{self.name}: expected the card, found it gone")

    def _meet(self) -> Camera:
        bench = self.bench
        bench.board.update(self.name, state=State.IDENTIFYING)
        driver = bench.drivers(self.volume, self.profile)
        camera = meet(self.volume, self.profile, driver, bench.clock, set_clock=bench.config.set_clock)
        self.device = camera.device
        bench.board.update(
            self.name,
            device_no=camera.device_no,
            officer_no=camera.officer_no,
            clock_offset_s=camera.clock_offset_s,
            battery_percent=camera.battery_percent,
            firmware=camera.firmware,
        )
        for note in camera.notes:
            log.info("%s: %s", self.name, note.message)
            bench.board.problem(self.name, note)
        return camera

    def _pass_over(self, camera: Camera, client: TusClient) -> None:
        """Upload what is new, free what may go, and say how it stands."""
        footage = card.scan(camera)
        sent_files, sent_bytes = self._show(footage)
        for each in card.newest_key_files_first(self._to_send(footage)):
            self.is_settled = False
            if self._send(camera, each, client):
                sent_files, sent_bytes = sent_files + 1, sent_bytes + each.size_bytes
                self.bench.board.update(self.name, files_sent=sent_files, bytes_sent=sent_bytes)
        self.bench.board.update(self.name, current_file=None)
        if self.bench.config.free_after_receipt:
            footage = self._free(camera, footage, client)
        self._conclude(footage)

    def _to_send(self, footage: Iterable[Footage]) -> list[Footage]:
        now = self.bench.clock.monotonic()
        return [
            each
            for each in footage
            if not self._is_uploaded(each)
            and self._faulty.get(each.key, 0) <= now
            and self._restless.get(each.key.path, (0, 0.0))[1] <= now
        ]

    def _is_uploaded(self, footage: Footage) -> bool:
        entry = self.bench.journal.get(footage.key)
        return entry is not None and entry.phase in UPLOADED

    def _send(self, camera: Camera, footage: Footage, client: TusClient) -> bool:
        """Send one file; whether the server has it whole."""
        board, name = self.bench.board, shown(footage.key.path)
        board.update(
            self.name, state=State.UPLOADING, current_file=name,
            current_size_bytes=footage.size_bytes, current_sent_bytes=0,
        )  # fmt: skip
        try:
            self.bench.transfer.send(camera, footage, client, _Shown(board, self.name))
        except (CardGone, NotAllowed):
            raise
        except FileChanged as error:
            # A later look sees it as it is then, and it starts anew. Something that keeps writing
            # is looked at more and more seldom.
            times = self._restless.get(footage.key.path, (0, 0.0))[0] + 1
            pause_s = min(RETRY_FAULTS_S, self.bench.config.poll_s * 2.0 ** min(times - 1, 16))
            self._restless[footage.key.path] = (times, self.bench.clock.monotonic() + pause_s)
            log.warning("%s", error.message)
            board.problem(self.name, error, name)
        except DockError as error:
            log.error("%s: %s", self.name, error.message)  # noqa: TRY400 - one clear line
            self._faulty[footage.key] = self.bench.clock.monotonic() + RETRY_FAULTS_S
            board.problem(self.name, error, name)
        else:
            self._faulty.pop(footage.key, None)
            self._kept.pop(footage.key, None)
            self._read_now.add(footage.key)
            self._restless.pop(footage.key.path, None)
            board.solved(self.name, name)
            log.info("%s: %s is whole on the server", self.name, name)
            return True
        return False

    def _free(self, camera: Camera, footage: list[Footage], client: TusClient) -> list[Footage]:
        bench = self.bench
        left = []
        waiting = sum(not self._is_receipted(other) for other in footage)
        for each in card.key_files_last(footage):
            entry = bench.journal.get(each.key)
            is_kept = self._kept.get(each.key, 0) > bench.clock.monotonic()
            if entry is None or is_kept or not may_be_freed(entry, each, waiting):
                left.append(each)
                continue
            bench.board.update(self.name, state=State.FREEING)
            name = shown(each.key.path)
            try:
                free(
                    camera, each, entry, journal=bench.journal, receipts=bench.receipts,
                    keys=bench.config.receipt_keys, was_read_now=each.key in self._read_now, client=client,
                )  # fmt: skip
            except (CardGone, NotAllowed):
                raise
            except TryAgain as error:
                bench.board.server(error)
                left.append(each)
            except DockError as error:
                left.append(each)
                self._kept[each.key] = bench.clock.monotonic() + RETRY_FAULTS_S
                log.error("%s: not freed: %s", self.name, error.message)  # noqa: TRY400 - one clear line
                bench.board.problem(self.name, error, name)
            else:
                self._freed += 1
                bench.board.solved(self.name, name)
                log.info("%s: %s freed by its receipt", self.name, name)
        return left

    def _is_receipted(self, footage: Footage) -> bool:
        entry = self.bench.journal.get(footage.key)
        return entry is not None and entry.phase in {Phase.RECEIPTED, Phase.FREED}

    def _conclude(self, footage: list[Footage]) -> None:
        self._show(footage)
        to_send = [each for each in footage if not self._is_uploaded(each)]
        if not all(self._is_given_up(each) for each in to_send):
            # A file changed meanwhile, or came: it is next.
            self.is_settled = False
            self.bench.board.update(self.name, state=State.HELD_UP)
            return
        if to_send:
            state = State.ATTENTION
        elif not all(self._is_receipted(each) for each in footage):
            state = State.AWAITING
        else:
            state = State.DONE
        self.bench.board.update(self.name, state=state)
        self.is_settled = True

    def _is_given_up(self, footage: Footage) -> bool:
        """Whether a file needs a person: it cannot be sent, or never rests."""
        return footage.key in self._faulty or self._restless.get(footage.key.path, (0, 0.0))[0] >= MAX_CHANGES

    def _show(self, footage: list[Footage]) -> tuple[int, int]:
        """Put the counts on the board; files and bytes that the server has."""
        sent = [each for each in footage if self._is_uploaded(each)]
        sent_bytes = sum(each.size_bytes for each in sent)
        self.bench.board.update(
            self.name,
            files_total=len(footage),
            files_sent=len(sent),
            files_receipted=sum(self._is_receipted(each) for each in footage),
            files_freed=self._freed,
            bytes_total=sum(each.size_bytes for each in footage),
            bytes_sent=sent_bytes,
        )
        return len(sent), sent_bytes

    def receipt_trouble(self, entry: Entry, error: DockError) -> None:
        """A receipt for one of this camera's files is no good."""
        self.bench.board.problem(self.name, error, shown(entry.key.path))
