"""One file from the card to the server, however often the line, the server or the agent dies.

The order, which makes every cut repeatable:

1. An upload is made; its address is in the journal before a byte goes.
2. The server is asked where it stands. What lies before that is read and digested, never sent
   again. After a restart the beginning must have the digest the journal has for it.
3. Bytes go in requests of bounded length, in pieces the governor gives leave for, each checked
   against a change of the file. The journal learns how far it came after each request.
4. The server names its digest; it must be ours. Only then the file counts as sent.

An empty file is an item as soon as its upload is made: an agent that dies in that very moment
makes a second one. No other moment doubles anything.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Event

from liuhen_dock.card import Camera, Footage
from liuhen_dock.clock import Clock
from liuhen_dock.errors import CardGone, DockError, FileChanged, Refused, TryAgain, UploadGone
from liuhen_dock.journal import Entry, Journal, Phase
from liuhen_dock.names import name_bytes, shown
from liuhen_dock.pace import Governor
from liuhen_dock.reading import CardFile
from liuhen_dock.tus import Told, TusClient

FIRST_DELAY_S = 0.5
MOST_DELAY_S = 60.0
MAX_NEW_UPLOADS = 3
"""How often one file may be begun anew before a person must look."""
PAUSE_LOOK_S = 5.0


class Stopped(Exception):
    """The agent ends; everything acknowledged is in the journal."""


class Progress:
    """Told how a file is getting on. Does nothing; the board listens instead."""

    def moved(self, offset_bytes: int) -> None:
        """The server has this much on its disk."""

    def held_up(self, trouble: DockError, delay_s: float) -> None:
        """It is tried again after a while."""

    def paused(self) -> None:
        """The hours allow nothing now."""


class BackOff:
    """Waits that grow, with jitter, so that a room of docks does not come back in one moment."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._failures = 0

    def reset(self) -> None:
        """Something moved."""
        self._failures = 0

    def next_s(self, asked_s: float | None = None) -> float:
        """How long to wait now: never less than the server asked for."""
        grown = min(MOST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(self._failures, 16))
        self._failures += 1
        # Between half and whole of it; what the server asks for is a floor, with a little spread.
        own = grown * (0.5 + 0.5 * self._jitter())
        return own if asked_s is None else max(own, asked_s * (1 + 0.1 * self._jitter()))


@dataclass(frozen=True)
class Transfer:
    """Sends files. One for all cameras; it keeps nothing of its own."""

    journal: Journal
    governor: Governor
    clock: Clock
    stop: Event
    request_bytes: int
    jitter: Callable[[], float] = random.random

    def send(self, camera: Camera, footage: Footage, client: TusClient, progress: Progress) -> Entry:
        """Send one file until the server holds it whole; returns its entry, in `Phase.SENT`.

        Raises:
            CardGone, ReadFault, FileChanged, Refused, NotAllowed: As they say.
            Stopped: The agent ends.
        """
        entry = self.journal.get(footage.key) or Entry(footage.key, Phase.DROPPED)
        back_off, begun = BackOff(self.jitter), 0
        with CardFile(camera, footage) as file, self.governor.sending(camera.device):
            while True:
                try:
                    if entry.phase is not Phase.OPEN:
                        begun += 1
                        entry = self._begin(camera, footage, entry, client)
                    entry, told = self._to_the_end(camera, footage, entry, file, client, progress, back_off)
                    if told.sha256 == (sha256 := file.sha256()):
                        return self.journal.advance(entry, Phase.SENT, sha256=sha256, item=told.item)
                    entry = self.journal.advance(entry, Phase.DROPPED, sha256=sha256)
                    if begun >= MAX_NEW_UPLOADS:
                        raise Refused(
                            f"{shown(footage.name)}: expected the server to hold sha256 {sha256}, "
                            f"found {told.sha256}", code="digest_differs",
                        )  # fmt: skip
                except UploadGone:
                    entry = self.journal.advance(entry, Phase.DROPPED)
                    if begun >= MAX_NEW_UPLOADS:
                        raise
                except FileChanged:
                    if entry.phase is Phase.OPEN:
                        with suppress(DockError):  # it expires by itself
                            client.terminate(entry.location)
                        self.journal.advance(entry, Phase.DROPPED, sha256="")
                    raise
                except TryAgain as trouble:
                    self._hold_up(camera, trouble, back_off, progress)

    def _begin(self, camera: Camera, footage: Footage, entry: Entry, client: TusClient) -> Entry:
        location = client.create(footage.size_bytes, metadata_of(camera, footage, entry.sha256))
        return self.journal.put(
            replace(
                entry,
                phase=Phase.OPEN,
                location=location,
                item="",
                device_no=camera.device_no or "",
                is_key=footage.facts.is_key,
                prefix_bytes=0,
                prefix_sha256="",
            )
        )

    def _to_the_end(
        self,
        camera: Camera,
        footage: Footage,
        entry: Entry,
        file: CardFile,
        client: TusClient,
        progress: Progress,
        back_off: BackOff,
    ) -> tuple[Entry, Told]:
        told = client.head(client.require_ours(entry.location))
        progress.moved(told.offset_bytes)
        if file.digested_bytes < entry.prefix_bytes and (
            file.digest_of_prefix(entry.prefix_bytes) != entry.prefix_sha256
        ):
            raise FileChanged(f"{shown(footage.name)}: expected the beginning as it was sent, found another")
        while told.offset_bytes < footage.size_bytes:
            self._wait_out_pause(camera, progress)
            self._digest_until(file, told.offset_bytes)
            length = min(self.request_bytes, footage.size_bytes - told.offset_bytes)
            with closing(self._pieces(camera, file, told.offset_bytes, length)) as body:
                answer = client.patch(entry.location, told.offset_bytes, length, body)
            if answer is None:
                answer = client.head(entry.location)
            if answer.offset_bytes > told.offset_bytes:
                back_off.reset()
            elif answer.offset_bytes == told.offset_bytes:
                raise TryAgain("server: expected the upload to move on, found it standing",
                               code="server_unreadable")  # fmt: skip
            told = answer
            progress.moved(told.offset_bytes)
            if told.offset_bytes == file.digested_bytes < footage.size_bytes:
                prefix = file.digest_of_prefix(told.offset_bytes)
                entry = self.journal.advance(
                    entry, Phase.OPEN, prefix_bytes=told.offset_bytes, prefix_sha256=prefix
                )
        if not (told.sha256 and told.item):
            raise TryAgain("server: expected the item, found the bytes alone", code="server_sealing")
        return entry, told

    def _pieces(self, camera: Camera, file: CardFile, offset: int, length: int) -> Generator[bytes]:
        end = offset + length
        while offset < end:
            if self.stop.is_set():
                raise Stopped
            if self.governor.limit.is_paused:
                # Better a request that ends than one that idles until the server cuts it.
                raise TryAgain("hours: expected leave to send, found a pause", code="paused", after_s=0.0)
            size = min(self.governor.limit.piece_bytes(), end - offset)
            with self.governor.piece(camera.device, size):
                yield file.read(offset, size)
            offset += size

    def _digest_until(self, file: CardFile, offset: int) -> None:
        while file.digested_bytes < offset:
            if self.stop.is_set():
                raise Stopped
            file.digest_of_prefix(min(offset, file.digested_bytes + (16 << 20)))

    def _wait_out_pause(self, camera: Camera, progress: Progress) -> None:
        while self.governor.limit.is_paused:
            progress.paused()
            self._wait(camera, PAUSE_LOOK_S)

    def _hold_up(self, camera: Camera, trouble: TryAgain, back_off: BackOff, progress: Progress) -> None:
        if trouble.code == "paused":
            return
        delay_s = back_off.next_s(trouble.after_s)
        progress.held_up(trouble, delay_s)
        self._wait(camera, delay_s)

    def _wait(self, camera: Camera, seconds: float) -> None:
        if self.clock.wait(seconds, self.stop):
            raise Stopped
        if not camera.is_there():
            raise CardGone(f"{shown(str(camera.root))}: expected the card, found it gone")


def metadata_of(camera: Camera, footage: Footage, sha256: str = "") -> list[tuple[str, bytes]]:
    """What is said of a file, by the keys of docs/guide/integrate.md; what is not known is left out.

    Args:
        sha256: The digest, where an earlier reading of the whole file found it.
    """
    space = camera.space()
    facts = footage.facts
    said = {
        "device_no": camera.device_no,
        "officer_no": facts.officer_no or camera.officer_no,
        "key_file": "true" if facts.is_key else None,
        "captured_from": facts.started_at.isoformat() if facts.started_at is not None else None,
        "device_clock": _millis(camera.device_clock),
        "dock_clock": _millis(camera.dock_clock),
        "clock_set": "true" if camera.clock_was_set else None,
        "battery_percent": camera.battery_percent,
        "capacity_bytes": space[0] if space is not None else None,
        "free_bytes": space[1] if space is not None else None,
        "firmware": camera.firmware,
        "zfy_info": base64.b64encode(camera.info.raw).decode() if camera.info and camera.info.raw else None,
        "sha256": sha256 or None,
    }
    pairs = [(key, str(value).encode("utf-8")) for key, value in said.items() if value is not None]
    return [("filename", name_bytes(footage.name)), *pairs]


def _millis(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat(timespec="milliseconds")
