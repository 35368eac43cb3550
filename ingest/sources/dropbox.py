"""What docks pushed to this host: who may do what with which file, and what proves a file whole.

When is a pushed file whole? Neither SFTP nor FTP says that a transfer is all there: an interrupted OpenSSH
``put`` closes its half file politely, a cut FTP line looks like its end. So a close alone proves nothing:

1. It was renamed after its transfer was closed in order: ``put a.part``, ``rename a.part a``.
2. Its size is the one declared beforehand (FTP ``ALLO``).
3. A digest pushed beside it (``a.sha256``) is that of its bytes (`ingest.sources.settling`).
4. Only where the settings say so: it was closed in order and rested; then it is flagged.

A reply that a transfer is done is given after the bytes are synced. A whole file is never written again: the
next transfer under its name is another file. What came of a broken transfer stays, to be gone on with. A file
without proof may be sent again at any moment, in the same second and to the same size: so each counts the
transfers begun into it, and none is freed for what an earlier one brought. A folder's table is never
whole: it is never taken, so its dock may write it anew or remove it.

Nobody waits for the disk with the lock in hand. A file that is being written, or that somebody renames or
removes in this moment, is *busy*: whoever else wants it is told so at once, and every other file is free.

A name leaves a dock's listing only by the dock's own doing or with the bytes' receipt: a file in custody that
earns none gives up its bytes and keeps its name (`keep_name`), so that a dock which takes vanishing for a
receipt wipes nothing for it. A dock with too many names here is told so, and none goes to make room. Only
what a broken transfer left without a byte goes after a day: it holds nothing, and nobody was told it does.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import structlog

from evidence.errors import Conflict, NotFound, NotPermitted, Unavailable
from evidence.filenames import display_name
from evidence.ids import new_id
from ingest.sources.dropbox_shelf import (
    CLOSED,
    IN_CUSTODY,
    OPEN,
    TORN,
    Dock,
    Pushed,
    Shelf,
    checked_folder,
    checked_name,
)
from ingest.sources.incoming import Incoming
from ingest.sources.partial import boot
from ingest.sources.remote import GONE
from ingest.sources.settling import is_unfinished
from ingest.sources.sidecar import is_table

log = structlog.get_logger(__name__)

MAX_NAMES = 10_000
EMPTY_LIFE_S = 86_400
_NOT_LISTED = {IN_CUSTODY, OPEN}


class Dropbox:
    """All that was pushed to this host.

    Args:
        folder: Where it lies.
        reserve: Raises Unavailable when there is no room for that many bytes.
        max_file_bytes: Larger files are refused while they arrive.
        max_dock_bytes: What the files of one dock may come to; more is refused while it arrives.
        sync: Makes the bytes behind a descriptor durable.
    """

    def __init__(
        self,
        folder: Path,
        reserve: Callable[[int], None],
        max_file_bytes: int,
        max_dock_bytes: int,
        sync: Callable[[int], None] = os.fdatasync,
    ) -> None:
        self._shelf = Shelf(folder, sync)
        self._reserve = reserve
        self.max_file_bytes = max_file_bytes
        self._max_dock_bytes = max_dock_bytes
        self._lock = threading.Lock()
        """Held for memory alone."""
        self._files: dict[str, Pushed] = {}
        self._sizes: dict[str, int] = {}
        """How many bytes of each lie here now."""
        self._held: Counter[str] = Counter()
        """How many bytes of each dock."""
        self._busy: set[str] = set()
        self._folders: dict[str, set[bytes]] = {}
        for found in self._shelf.load():
            self._put(found)

    # --- what a dock may do -----------------------------------------------------------------------

    def begin(
        self, dock: Dock, name: bytes, protocol: str, *, truncate: bool, offset_bytes: int = 0
    ) -> Incoming:
        """Open a file for writing: a new one, or what an earlier transfer left under that name.

        Args:
            truncate: Cut what is there to the offset: what comes is the rest of the file, and nothing of
                an older transfer lies behind it.

        Raises:
            Conflict: Another connection is writing it (``push_busy``).
            InvalidInput: No name that can be kept, or an offset beyond what is here.
            Unavailable: No room.
        """
        clean = checked_name(name)
        self._reserve(0)
        with self._lock:
            before = self._find(dock, clean)
            if before is not None and before.is_whole:
                before = None
            if before is not None:
                self._require_idle(before)
            if before is None:
                self._require_place(dock, clean)
            spent = self._spent(dock, clean)
            earlier = before or _unknown(dock, clean)
            synced = earlier.size_bytes
            begun = replace(
                earlier,
                state=OPEN, proof=None, protocol=protocol, actor=dock.actor, device_no=dock.device_no,
                size_bytes=min(synced, offset_bytes) if truncate else synced, boot=boot(), hole_at=None,
                transfers=earlier.transfers + 1,
            )  # fmt: skip
            # From here on it is busy for all others; nothing is told before it is on disk.
            self._put(begun, synced)
            self._busy.update(each.id for each in spent)
        try:
            descriptor = self._shelf.open(begun, before, offset_bytes=offset_bytes, truncate=truncate)
            self._give_up(spent)
            incoming = Incoming(self, begun, descriptor)
        except BaseException:
            with self._lock:
                self._drop(begun) if before is None else self._put(before)
            raise
        finally:
            self._release(*spent)
        with self._lock:
            self._put(begun, incoming.size_bytes)
        return incoming

    def rename(self, dock: Dock, old: bytes, new: bytes) -> None:
        """Give a file its name; after an orderly close that proves it whole.

        Raises:
            NotFound, Conflict, NotPermitted: No such file, one that is being written, one that is whole.
        """
        clean_old, clean = checked_name(old), checked_name(new)
        with self._lock:
            found = self._required(dock, clean_old)
            self._require_idle(found)
            if found.is_whole:
                raise NotPermitted("file: whole files keep their names", code="push_whole")
            given_up = self._spent(dock, clean)
            before = self._find(dock, clean)
            if before is not None and before.id != found.id and not before.is_whole:
                # Were it being written: its sender will be told that its bytes are here.
                self._require_idle(before)
                given_up.append(before)
            self._busy.update(each.id for each in (found, *given_up))
        try:
            proof = "renamed" if found.state == CLOSED and _may_be_whole(clean) else None
            renamed = replace(found, name_hex=clean.hex(), proof=proof)
            # The new name first: a crash in between leaves one file more, not one less.
            self._shelf.save(renamed)
            with self._lock:
                self._put(renamed)
            self._give_up(given_up)
        finally:
            self._release(found, *given_up)

    def discard(self, dock: Dock, name: bytes) -> None:
        """Drop at its dock's wish what is not whole, or is a name of bytes in custody.

        Raises:
            NotFound, Conflict, NotPermitted: As `rename`.
        """
        clean = checked_name(name)
        with self._lock:
            found = self._required(dock, clean)
            self._require_idle(found)
            if found.proof is not None and found.state != IN_CUSTODY:
                raise NotPermitted("file: whole files are not a dock's to remove", code="push_whole")
            self._busy.add(found.id)
        try:
            self._forget(found)
        finally:
            self._release(found)

    def find(self, dock: Dock, name: bytes) -> Pushed | None:
        """The dock's file of that name, sizes as of now: what can still be written, else the newest."""
        clean = checked_name(name)
        with self._lock:
            found = self._find(dock, clean)
            return None if found is None else self._sized(found)

    def within(self, dock: Dock, folder: bytes) -> tuple[list[Pushed], set[bytes]]:
        """The dock's files and folders right in one of its folders."""
        clean = checked_folder(folder)
        prefix = clean + b"/" if clean else b""
        with self._lock:
            inside = [each for each in self._own(dock) if each.name.startswith(prefix)]
            files = {each.name: each for each in inside if b"/" not in each.name[len(prefix) :]}
            known = [each.name for each in inside] + [
                name + b"/" for name in self._folders.get(dock.key, set())
            ]
            folders = {
                name[len(prefix) :].split(b"/")[0]
                for name in known
                if name.startswith(prefix) and b"/" in name[len(prefix) :]
            }
            return [self._sized(each) for each in files.values()], folders

    def has_folder(self, dock: Dock, name: bytes) -> bool:
        """Whether a dock may go into it: the root, one it made, or one with files of its own in it."""
        clean = checked_folder(name)
        if not clean:
            return True
        with self._lock:
            made = self._folders.get(dock.key, set())
            own = (each.name for each in self._own(dock))
            return any(each == clean or each.startswith(clean + b"/") for each in (*made, *own)) and (
                self._find(dock, clean) is None
            )

    def make_folder(self, dock: Dock, name: bytes) -> None:
        """Remember a folder for this run: folders are part of names and lie nowhere."""
        clean = checked_name(name)
        with self._lock:
            made = self._folders.setdefault(dock.key, set())
            if len(made) >= MAX_NAMES:
                raise Unavailable("dock: expected fewer folders, found too many", code="push_limit")
            made.add(clean)

    # --- for Incoming -----------------------------------------------------------------------------

    def require_room(self, more_bytes: int) -> None:
        """Raises Unavailable when there is none."""
        self._reserve(more_bytes)

    def grow(self, found: Pushed, size_bytes: int) -> None:
        """Count a file as that long.

        Raises:
            Unavailable: Its dock would then have too much here (``push_full``).
        """
        with self._lock:
            held = self._held[found.dock_key] - self._sizes[found.id] + size_bytes
            if size_bytes > self._sizes[found.id] and held > self._max_dock_bytes:
                raise Unavailable(
                    f"dock: expected at most {self._max_dock_bytes} bytes of it waiting here, found more; "
                    "wait until they are taken, or remove what is not whole",
                    code="push_full",
                )
            self._held[found.dock_key], self._sizes[found.id] = held, size_bytes

    def note_hole(self, found: Pushed, at_bytes: int) -> Pushed:
        """Note, durably, from where on an open file may have holes."""
        noted = replace(found, hole_at=at_bytes)
        self._shelf.save(noted)
        with self._lock:
            self._put(noted, self._sizes[found.id])
        return noted

    def note_cut(self, found: Pushed, size_bytes: int) -> Pushed:
        """Note, durably, that no more than so much of an open file counts."""
        if size_bytes >= found.size_bytes:
            return found
        noted = replace(found, size_bytes=size_bytes)
        self._shelf.save(noted)
        with self._lock:
            self._put(noted, self._sizes[found.id])
        return noted

    def sync(self, found: Pushed, descriptor: int, whole_to: int | None) -> Pushed:
        """Sync what came so far, and note how much that is."""
        synced = self._shelf.sync(found, descriptor, whole_to)
        with self._lock:
            self._put(synced, self._sizes[found.id])
        return synced

    def settle(
        self, found: Pushed, descriptor: int, *, in_order: bool, is_sound: bool, declared_bytes: int | None
    ) -> Pushed:
        """End a transfer: sync the bytes, then say how it ended; whatever fails, its name is free again."""
        ended = replace(found, state=TORN, mtime_s=int(time.time()), hole_at=None)
        try:
            try:
                size = self._shelf.settle(found, descriptor, is_sound=is_sound)
            except Unavailable:
                with contextlib.suppress(Unavailable):  # The dock is told of the first failure.
                    self._shelf.save(ended)
                raise
            finally:
                os.close(descriptor)
            ended = replace(ended, size_bytes=size)
            if in_order and is_sound:
                is_declared = declared_bytes is not None and declared_bytes == size
                proof = "declared_size" if is_declared and _may_be_whole(found.name) else None
                closed = replace(ended, state=CLOSED, proof=proof)
            else:
                closed = ended
            self._shelf.save(closed)
            ended = closed
        finally:
            with self._lock:
                self._put(ended)
            # Here, since nobody may be there any more to be told of it.
            log.info(
                "push:ended",
                listener=ended.protocol,
                dock=ended.dock_no,
                name=display_name(ended.name),
                state=ended.state,
                proof=ended.proof,
                size_bytes=ended.size_bytes,
            )
        return ended

    # --- for the engine ---------------------------------------------------------------------------

    def listed(self) -> list[Pushed]:
        """Everything whose bytes lie here and that no transfer is writing, oldest first."""
        with self._lock:
            return [each for each in self._files.values() if each.state not in _NOT_LISTED]

    def drop_empty(self) -> None:
        """Forget what broken transfers left without a byte, once nobody has gone on with it for a day."""
        before_s = int(time.time()) - EMPTY_LIFE_S
        with self._lock:
            empty = [
                each
                for each in self._files.values()
                if each.state == TORN and not each.size_bytes and each.mtime_s < before_s
                if each.id not in self._busy
            ]
            self._busy.update(each.id for each in empty)
        try:
            for each in empty:
                log.info("push:empty_dropped", dock=each.dock_no, name=display_name(each.name))
            self._give_up(empty)
        finally:
            self._release(*empty)

    def by_id(self, identity: str) -> Pushed | None:
        """Such a file."""
        with self._lock:
            found = self._files.get(identity)
            return found if found is not None and found.state not in _NOT_LISTED else None

    def opened(self, identity: str) -> int:
        """A descriptor of its bytes."""
        found = self.by_id(identity)
        if found is None:
            raise _gone()
        return self._shelf.reading(found)

    def free(self, identity: str, transfers: int) -> None:
        """Remove a file that is in custody, with its receipt signed.

        Args:
            transfers: How many had been begun into it when it was taken.

        Raises:
            Unavailable: A transfer was begun into it since, ended or not (``source_gone``): it is another
                file.
        """
        with self._taken(identity, transfers) as found:
            self._forget(found)

    def keep_name(self, identity: str, transfers: int) -> None:
        """Remove the bytes of a file that is in custody and earns no receipt; its dock still sees its name.

        Raises:
            Unavailable: As `free`.
        """
        with self._taken(identity, transfers) as found:
            kept = self._shelf.keep_name(found)
            with self._lock:
                self._put(kept, 0)

    # --- inside: whose turn it is -----------------------------------------------------------------

    @contextlib.contextmanager
    def _taken(self, identity: str, transfers: int) -> Iterator[Pushed]:
        with self._lock:
            found = self._files.get(identity)
            if found is None or found.state in _NOT_LISTED or found.id in self._busy:
                raise _gone()
            if found.transfers != transfers:
                raise _gone()
            self._busy.add(identity)
        try:
            yield found
        finally:
            self._release(found)

    def _release(self, *files: Pushed) -> None:
        with self._lock:
            self._busy.difference_update(each.id for each in files)

    def _require_idle(self, found: Pushed) -> None:
        if found.state == OPEN or found.id in self._busy:
            raise Conflict("file: expected it free, found another transfer writing it", code="push_busy")

    def _spent(self, dock: Dock, name: bytes) -> list[Pushed]:
        """Kept names that a file of the same name takes over."""
        return [
            each
            for each in self._own(dock)
            if each.name == name and each.state == IN_CUSTODY and each.id not in self._busy
        ]

    def _require_place(self, dock: Dock, name: bytes) -> None:
        if len(self._own(dock)) - len(self._spent(dock, name)) >= MAX_NAMES:
            raise Unavailable(
                f"dock: expected fewer than {MAX_NAMES} names of it here, found no room for one more; wait "
                "until files are taken, or remove names without a receipt and what is not whole",
                code="push_limit",
            )

    # --- inside: the index ------------------------------------------------------------------------

    def _own(self, dock: Dock) -> list[Pushed]:
        whose = (dock.agency_id.hex, dock.dock_no)
        return [each for each in self._files.values() if (each.agency_id, each.dock_no) == whose]

    def _find(self, dock: Dock, name: bytes) -> Pushed | None:
        found = [each for each in self._own(dock) if each.name == name]
        return next((each for each in reversed(found) if not each.is_whole), found[-1] if found else None)

    def _required(self, dock: Dock, name: bytes) -> Pushed:
        found = self._find(dock, name)
        if found is None:
            raise NotFound("file: expected one of that name, found none", code="push_not_found")
        return found

    def _sized(self, found: Pushed) -> Pushed:
        return replace(found, size_bytes=self._sizes[found.id]) if found.state == OPEN else found

    def _put(self, found: Pushed, here_bytes: int | None = None) -> None:
        if here_bytes is None:
            here_bytes = 0 if found.state == IN_CUSTODY else found.size_bytes
        self._held[found.dock_key] += here_bytes - self._sizes.get(found.id, 0)
        self._files[found.id], self._sizes[found.id] = found, here_bytes

    def _drop(self, found: Pushed) -> None:
        self._files.pop(found.id, None)
        self._held[found.dock_key] -= self._sizes.pop(found.id, 0)

    def _forget(self, found: Pushed) -> None:
        self._shelf.forget(found)
        with self._lock:
            self._drop(found)

    def _give_up(self, files: list[Pushed]) -> None:
        """Forget what another file took the place of; what the disk will not let go stays, and is seen."""
        for each in files:
            try:
                self._forget(each)
            except Unavailable as error:
                log.warning("push:not_given_up", id=each.id, code=error.code, detail=error.message)


def _may_be_whole(name: bytes) -> bool:
    """Whether a file of that name is ever written for the last time, as a folder's table is not."""
    last = name.rpartition(b"/")[2]
    return not is_unfinished(last) and not is_table(last)


def _unknown(dock: Dock, name: bytes) -> Pushed:
    return Pushed(
        id=new_id().hex,
        name_hex=name.hex(),
        agency_id=dock.agency_id.hex,
        dock_no=dock.dock_no,
        device_no=None,
        actor="",
        protocol="",
        state=OPEN,
    )


def _gone() -> Unavailable:
    return Unavailable("pushed file: expected it where it was, found it gone", code=GONE)
