"""Removing a place's copy: the one thing here that cannot be taken back.

A listing does not say which bytes a file has: a camera whose clock stands still, or a dock that tells minutes
alone, comes to another recording of equal name, size and time. The rules, in order:

1. Our signed receipt for that very reception and digest is there, and is asked for again at the end. A copy
   on a disk of ours that earns none is given up once the stored bytes were read back: it is nobody's card.
2. The copy is set aside first: renamed in its folder to a name of ours. What is written under the device's
   name from then on is another file and is never touched. Where a place does not rename, or does not show
   what was renamed, the copy stays where it is, and there is a moment between the last two rules.
3. It is read whole and comes to the digest of the receipt. Only a file that can have no other bytes
   (`RemoteFile.is_immutable`) is not read again.
4. A last look shows size and time of before the reading. A custody leaf is written, what speaks of the file
   alone goes, then the file.
5. What speaks of it goes only in the very bytes that were read, once what they say is in custody with the
   recording. What came or changed since the recording was taken is waited for until it rests, read, and
   handed in with it once more. What cannot be understood is in custody byte for byte
   (`ingest.sources.companions`), and goes like the rest.

A copy that comes to another digest is another recording: it stays and is taken like any other. It is not
given its old name back, since on FTP a rename replaces what may have appeared there; it is listed, and taken,
under the name its device gave it. So is whatever a crash left set aside: at the worst the same bytes are
taken once more, as one more reception of the same item, and freed on that one's receipt.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from uuid import UUID

import structlog

from evidence.errors import EvidenceError
from evidence.filenames import display_name
from evidence.fixity import StreamingDigest
from ingest.sources.companions import Companions, Said, arrival_key
from ingest.sources.journal import Seen
from ingest.sources.remote import RemoteFile, RemoteFolder, Stopped, aside_path, changed, cut
from ingest.sources.settling import Listing

log = structlog.get_logger(__name__)

MayFree = Callable[[UUID, str, bytes], bool]


class Fate(Enum):
    """What became of a copy."""

    FREED = "removed, on our receipt"
    GIVEN_UP = "ours, and removed without one: the stored bytes were read back"
    REPLACED = "other bytes than were taken: it stays, and is to be taken"
    KEPT = "not to be removed yet, or not what was listed"


@dataclass(frozen=True)
class Taken:
    """What is in custody of a file: by which arrival, and what it came to."""

    agency_id: UUID
    seen_key: str
    """Under which it is in the journal."""
    sha256: bytes
    said: frozenset[str] = frozenset()
    """What was read beside it by then."""

    @property
    def reception_key(self) -> str:
        """Under which it was handed in."""
        return arrival_key(self.seen_key, self.said)

    @property
    def arrival(self) -> tuple[UUID, str, bytes]:
        """What `MayFree` asks for."""
        return self.agency_id, self.reception_key, self.sha256


@dataclass
class _Proof:
    """A copy being read again; one that is set aside is gone on with after a cut line."""

    taken: Taken
    state: object = None
    digest: StreamingDigest = field(default_factory=StreamingDigest)
    is_noted: bool = False

    def begin(self, state: object) -> None:
        self.state, self.digest, self.is_noted = state, StreamingDigest(), False

    @property
    def have_bytes(self) -> int:
        return self.digest.size_bytes


class Freeing:
    """Frees the files of one place.

    Args:
        has_receipt: Whether our signed receipt is there; asked before anything is read again.
        may_free: The same, asked right before the copy is removed; makes a note of it.
        give_up: Removes a copy that is ours and not the dock's; None where the copies are the place's.
        is_read_back: Whether the bytes are in custody for good: then such a copy needs no receipt.
        companions: Reads what lies beside files.
        hear: Hands a file in once more with what was said of it since; the same words twice are one arrival.
    """

    def __init__(
        self,
        place: str,
        remote: RemoteFolder,
        seen: Seen,
        has_receipt: MayFree,
        may_free: MayFree,
        give_up: Callable[[RemoteFile], None] | None,
        is_read_back: MayFree,
        *,
        companions: Companions,
        hear: Callable[[RemoteFile, Taken, Said], None],
    ) -> None:
        self._place = place
        self._remote = remote
        self._seen = seen
        self._has_receipt = has_receipt
        self._may_free = may_free
        self._give_up = give_up
        self._is_read_back = is_read_back
        self._companions = companions
        self._hear = hear
        self._aside: dict[bytes, _Proof] = {}
        """By the path it was given; of this process alone."""
        self._renames = True

    def begin(self, listing: Listing) -> None:
        """Note a new listing: what it does not show is no longer waited for."""
        shown = {file.path for file in listing.recordings}
        self._aside = {path: proof for path, proof in self._aside.items() if path in shown}

    def taken_of(self, file: RemoteFile) -> Taken | None:
        """What is in custody of a file that this process set aside."""
        proof = self._aside.get(file.path)
        return None if proof is None else proof.taken

    def free(
        self,
        file: RemoteFile,
        taken: Taken,
        listing: Listing,
        stop: threading.Event | None,
        *,
        is_at_rest: bool,
    ) -> Fate:
        """Remove a copy whose bytes are in custody.

        Args:
            is_at_rest: Whether it and what lies beside it have rested.

        Raises:
            Conflict: It changed meanwhile (``source_changed``); it stays.
            Unavailable: As the place's methods.
            Stopped: Told to stop.
        """
        remove: Callable[[RemoteFile], None]
        if self._has_receipt(*taken.arrival):
            may, remove, fate = self._may_free, self._remote.remove, Fate.FREED
        elif self._give_up is not None and self._is_read_back(*taken.arrival):
            may, remove, fate = self._is_read_back, self._give_up, Fate.GIVEN_UP
        else:
            return Fate.KEPT
        if self._state_of(file) != file.state:
            return Fate.KEPT
        if not is_at_rest and len(listing.words_of(file)) > len(taken.said):
            return Fate.KEPT
        # Listed under the name it had, so that what speaks of it is still found.
        copy = self._set_aside(file, taken)
        proof = self._aside.get(copy.path) or _Proof(taken)
        if not copy.is_immutable and not self._has_same_bytes(copy, proof, stop):
            self._let_be(copy, taken)
            return Fate.REPLACED
        is_spoken_of = self._is_spoken_of(copy)
        said = self._companions.read(file, listing) if is_spoken_of else Said()
        if is_spoken_of and len(said.used) < len(listing.words_of(file)):
            raise changed(file)  # Longer than it was listed: not all of it is here.
        is_late = not said.used <= taken.said
        if (is_late or said.unread) and not is_at_rest:
            return Fate.KEPT
        if is_late:
            self._hear(file, taken, said)
        if not proof.is_noted and not may(*taken.arrival):
            return Fate.KEPT
        proof.is_noted = True
        if is_spoken_of and self._is_spoken_of(copy):
            self._let_go(listing.let_go(file), remove)
        remove(copy)
        self._aside.pop(copy.path, None)
        # What appears under the same name, size and time from now on is another recording.
        self._seen.forget(taken.seen_key)
        log.info(
            "source:freed",
            source=self._place,
            name=display_name(file.name),
            sha256=taken.sha256.hex(),
            receipt=fate is Fate.FREED,
        )
        return fate

    def _set_aside(self, file: RemoteFile, taken: Taken) -> RemoteFile:
        """The file under a name of ours; as it is where that cannot be."""
        path = None if file.is_set_aside or file.is_immutable or not self._renames else aside_path(file)
        if path is None:
            return file
        copy = replace(file, path=path, is_set_aside=True)
        # Noted before it is done: the answer may be lost with the line.
        self._aside[path] = _Proof(taken)
        if not self._remote.rename(file, path):
            del self._aside[path]
            return file
        if self._remote.look(copy) is None and self._remote.look(file) is None:
            # Not shown, so that nobody would find it after a crash: it gets its own name back.
            log.warning("source:hides_renamed", source=self._place, name=display_name(file.name))
            self._renames = False
            del self._aside[path]
            if not self._remote.rename(copy, file.path):
                raise changed(file)
            return file
        self._seen.forget(taken.seen_key)
        return copy

    def _has_same_bytes(self, copy: RemoteFile, proof: _Proof, stop: threading.Event | None) -> bool:
        state = self._state_of(copy)
        if state != proof.state or not copy.is_set_aside:
            proof.begin(state)
        had_bytes = proof.have_bytes
        try:
            self._read(copy, proof, stop)
        except EvidenceError as error:
            error.facts["has_moved_on"] = copy.is_set_aside and proof.have_bytes > had_bytes
            raise
        if proof.have_bytes == copy.size_bytes and proof.digest.digests().sha256 == proof.taken.sha256:
            if self._state_of(copy) != state:
                self._aside.pop(copy.path, None)
                raise changed(copy)
            return True
        return False

    def _read(self, copy: RemoteFile, proof: _Proof, stop: threading.Event | None) -> None:
        if proof.have_bytes >= copy.size_bytes > 0:
            return
        with contextlib.closing(self._remote.read(copy, proof.have_bytes)) as chunks:
            for chunk in chunks:
                proof.digest.update(chunk)
                if proof.have_bytes > copy.size_bytes:
                    return
                if stop is not None and stop.is_set():
                    raise Stopped
        if proof.have_bytes < copy.size_bytes:
            raise cut(
                f"file {display_name(copy.name)}",
                f"{proof.have_bytes} of {copy.size_bytes} bytes and no more",
            )

    def _let_be(self, copy: RemoteFile, taken: Taken) -> None:
        """It is another recording: nothing of it is known from now on, so that it is taken."""
        self._aside.pop(copy.path, None)
        self._seen.forget(taken.seen_key)
        log.warning(
            "source:replaced",
            source=self._place,
            name=display_name(copy.name),
            detail="equal size and time, other bytes than the receipt; it is kept and taken",
        )

    def _is_spoken_of(self, copy: RemoteFile) -> bool:
        """Whether what lies beside it speaks of it: not if a file has come under its name since."""
        named = copy.folder + b"/" + copy.name
        return not copy.is_set_aside or self._remote.look(replace(copy, path=named)) is None

    def _let_go(self, beside: list[RemoteFile], remove: Callable[[RemoteFile], None]) -> None:
        # Before the file: left behind, it could pass for a recording, or speak of the next one.
        for each in beside:
            if self._state_of(each) == each.state:  # Else it speaks of another one.
                remove(each)

    def _state_of(self, file: RemoteFile) -> tuple[int, int | None, str] | None:
        now = self._remote.look(file)
        return None if now is None else now.state
