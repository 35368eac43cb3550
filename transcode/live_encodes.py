"""Shared encodes of what browsers do not play live: begun when somebody looks, one for all who do.

    SCRATCH/live/ROOM/STREAM/wanted           touched by whoever looks; not touched, an encode ends
                            /lock             held by the encode of this stream, so that there is one
                            /ID/000000.mp4 …  its pieces, a journal, how it stands, a lock that says it lives
    SCRATCH/live-slots/0 …                    held by the encodes of this host, so that they are bounded
    SCRATCH/live-masked/ROOM/STREAM.SESSION/  likewise, drawn over by that session's live masks
                            /rules.json       what whoever looks read last of those (`evidence.live_masks`)

The folders are all there is to know: any process of this host begins an encode, finds one, or reads what it
made. Locks are handed on to the process and let go by the kernel at its end. What an encode made stays until
every grant under which it was told has ended.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import structlog

from evidence.errors import MediaError
from media.fmp4 import index_fragments
from media.live.journal import LOCK, NAME, is_held, read
from media.supervise import Limits, python_environment

log = structlog.get_logger()
ENTRY = "media.live.encoder"
SLOTS, WANTED, WORDS, STATE = "live-slots", "wanted", "stderr", "state.json"
RULES = "rules.json"
RULES_EVERY_S = 0.25
"""Whoever looks writes rules anew that are older."""
UNWATCHED, DISK_FLOOR = "unwatched", "disk_floor"
"""Why an encode ends in its time, as `media.live.encoding` says it."""
COUNT_DIGITS = 8
_NAME = re.compile(r"[0-9a-f]{32}")
GONE = "gone-"
"""Before the name of one that is being removed: whoever lists encodes does not see it any more."""
IDLE_S = 30.0
AGAIN_S = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
"""How long after its death the next is begun, by how many died one after the other."""
COUNTED = len(AGAIN_S)
"""So many deaths are looked at, and so many encodes that told nothing are kept for it."""
COUNTED_S = COUNTED * AGAIN_S[-1]
"""Longer ago, those that told nothing count no more."""
CLEAR_EVERY_S = 600.0
JOURNALS_KEPT = 512
"""Of encodes, in memory: what each told of its pieces."""
LIVED_S = 120.0
"""One that lived so long is not counted among those that died one after the other."""


class Kind(StrEnum):
    """Which encodes, and the folder in scratch that they lie in."""

    PLAIN = "live"
    """Of what browsers do not play."""
    MASKED = "live-masked"
    """For people without the right to originals; a lane for each session."""


class EncodeNow(StrEnum):
    """How the encode of a stream stands."""

    RUNNING = "running"
    STARTING = "starting"
    """Nothing of it can be shown yet."""
    REDUCED = "reduced"
    """The host does not keep up: the picture is smaller than it could be."""
    RESTARTING = "restarting"
    """It ended before its time; the next one is begun soon."""
    BUSY = "busy"
    """As many encodes as this host may have are in use."""
    FULL = "full"
    """The disk is; footage comes first."""
    IDLE = "idle"
    """Nobody asked for it."""


@dataclass(frozen=True)
class Bounds:
    """What the encodes of this host keep to."""

    most: int
    """How many there may be; 0: none."""
    limits: Limits
    floor_bytes: int
    keep_s: float
    """How long what was made stays after somebody looked: as long as a grant lives."""


@dataclass(frozen=True)
class Told:
    """A piece of an encode."""

    encode: str
    number: int
    zero_us: int
    """UTC at the zero of the file's clock."""
    from_us: int
    to_us: int | None
    """None: nothing says so."""
    is_whole: bool
    """It gets no more."""
    is_new: bool
    """A grant may be told of it: it stays as long as one that begins now."""
    file: tuple[str, int]
    """Run and number of the recorder's file that it was made of."""
    file_us: int
    """UTC at that file's beginning, as it was known when this was placed."""


@dataclass(frozen=True)
class Standing:
    """How an encode stands, for whoever watches."""

    now: EncodeNow
    height_px: int | None
    """Lines of the encoded picture; None: it is copied, or there is none yet."""


class LiveEncodes:
    """The encodes of this host.

    Args:
        scratch: Of the installation.
        recorder: Where this host's recorders write.
        bounds: What they keep to, of all kinds together.
        kind: Which these are.
    """

    def __init__(self, scratch: Path, recorder: Path, bounds: Bounds, kind: Kind = Kind.PLAIN) -> None:
        self._scratch, self._root, self._slots = scratch, scratch / kind, scratch / SLOTS
        self._recorder = recorder
        self.bounds, self.kind = bounds, kind

    def want(self, stream: Path, source: Path | None = None) -> EncodeNow:
        """Say that somebody looks, and have the stream encoded if it is not.

        Args:
            stream: Its lane, the place of its encodes.
            source: Its folder, as seen from that of this host's recorders; None: of the lane's name.

        Returns:
            `EncodeNow.STARTING` where one was begun, ``RUNNING`` where there was one, or why there is none.
        """
        try:
            return self._want(stream, source or stream)
        except OSError as error:
            # The other streams of its session have nothing to do with it.
            log.warning("live_encode_not_begun", stream=str(stream), error=str(error))
            is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            return EncodeNow.FULL if is_full else EncodeNow.RESTARTING

    def tell_rules(self, stream: Path, rules: Mapping[str, Any]) -> None:
        """Write what the masked encode of a stream has to keep to, whole or not at all.

        Raises:
            OSError: It cannot be written; the encode then makes nothing of what is recorded since.
        """
        folder = self._root / stream
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / RULES
        beside = path.with_name(f"{RULES}.{os.getpid()}-{threading.get_ident()}")
        beside.write_text(json.dumps(rules, separators=(",", ":")), encoding="utf-8")
        beside.rename(path)

    def are_rules_old(self, stream: Path) -> bool:
        """Whether rules are due to be read again; a clock that was set back makes them so."""
        since_s = time.time() - _mtime_of(self._root / stream / RULES)
        return not 0 <= since_s < RULES_EVERY_S

    def _want(self, stream: Path, source: Path) -> EncodeNow:
        folder = self._root / stream
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WANTED).touch()
        with ExitStack() as held:
            lock = _locked(folder / LOCK, held)
            if lock is None:
                return EncodeNow.RUNNING
            deaths, since_s = _deaths(folder)
            if since_s < AGAIN_S[min(deaths, len(AGAIN_S) - 1)]:
                return EncodeNow.RESTARTING
            if _free_bytes(folder) < self.bounds.floor_bytes:
                return EncodeNow.FULL
            slot = self._slot(held)
            if slot is None:
                return EncodeNow.BUSY
            self._begin(stream, source, (lock, slot), held)
        return EncodeNow.STARTING

    def _slot(self, held: ExitStack) -> int | None:
        self._slots.mkdir(exist_ok=True)
        for number in range(self.bounds.most):
            slot = _locked(self._slots / str(number), held)
            if slot is not None:
                return slot
        return None

    def _begin(self, stream: Path, source: Path, locks: tuple[int, int], held: ExitStack) -> None:
        folder, before = self._root / stream, self.pieces(stream)
        last = before[-1] if before else None
        _shed(folder)
        after_us = _end_of(folder / last.encode / f"{last.number:06d}.mp4", last) if last else 0
        own = folder / _next_name(folder)
        own.mkdir()
        lock = os.open(own / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        held.callback(os.close, lock)
        # Whoever asks about it holds it for a moment.
        fcntl.flock(lock, fcntl.LOCK_EX)
        limits = self.bounds.limits
        told = {
            "limits": dict(_pair(each) for each in limits.for_child().split(",")),
            "stream_folder": str((self._recorder / source).resolve()),
            "folder": str(own.resolve()),
            "wanted": str((folder / WANTED).resolve()),
            "idle_s": IDLE_S,
            "floor_bytes": self.bounds.floor_bytes,
            "after_us": after_us,
            "rules": str((folder / RULES).resolve()) if self.kind is Kind.MASKED else None,
        }
        with (own / WORDS).open("wb") as words:
            process = subprocess.Popen(
                [sys.executable, "-m", ENTRY],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=words,
                cwd=Path(__file__).parents[1],
                env=python_environment(own),
                pass_fds=(*locks, lock),
                start_new_session=True,
            )
        if process.stdin is not None:
            # One that died at once says so by its lock.
            with suppress(BrokenPipeError):
                process.stdin.write(json.dumps(told).encode())
                process.stdin.close()
        log.info("live_encode_begun", room_no=source.parent.name, stream=source.name, kind=str(self.kind))
        # It holds a place of the host while it lives, so there are no more of these than of those.
        threading.Thread(target=_see_off, args=(process,), name="live-encode", daemon=True).start()

    def keep_clear(self, stop: threading.Event) -> None:
        """Clear now and every ten minutes until told to stop: whoever made it, before a restart or since."""
        while True:
            try:
                self.clear()
            except OSError:
                log.exception("live_encodes_not_cleared")
            if stop.wait(CLEAR_EVERY_S):
                return

    def clear(self) -> int:
        """Remove what no grant can name any more; how many encodes' it was."""
        for half in self._root.glob(f"*/*/*/{GONE}*"):
            _empty_out(half)
        # By their names: what was cut off while it was made or removed may have nothing in it.
        found = [path for path in self._root.glob("*/*/*/*") if _NAME.fullmatch(path.name)]
        count = sum(_removed(each) for each in found if self._is_past(each))
        if self.kind is Kind.MASKED:
            for lane in self._root.glob("*/*/*"):
                self._clear_lane(lane)
        return count

    def _clear_lane(self, lane: Path) -> None:
        """Remove the lane of a session that nobody has looked at for long, and that holds no encode."""
        is_past = time.time() - _mtime_of(lane / WANTED) > 2 * self.bounds.keep_s + IDLE_S
        if not is_past or _encodes(lane):
            return
        with ExitStack() as held:
            # Whoever begins an encode there meanwhile finds its folder gone, and asks again.
            if _locked(lane / LOCK, held) is not None and not _encodes(lane):
                _empty_out(lane)

    def _is_past(self, encode: Path) -> bool:
        try:
            if is_held(encode / LOCK):
                return False
            if _ended_at(encode) > time.time():
                _date_anew(encode)
            # No grant names what told nothing.
            kept_s = 2 * self.bounds.keep_s + IDLE_S if _has_told(encode) else COUNTED_S
            return _ended_at(encode) < time.time() - kept_s
        except OSError as error:
            log.warning("live_encode_unreadable", encode=str(encode), error=str(error))
            return False

    def pieces(self, stream: Path) -> list[Told]:
        """What there is of a stream, in the order it was made."""
        return pieces(self._scratch, stream, self.bounds.keep_s, self.kind)

    def standing(self, stream: Path) -> Standing:
        """How the encode of a stream stands, without beginning one."""
        try:
            return self._standing(self._root / stream)
        except OSError as error:
            log.warning("live_encode_unreadable", stream=str(stream), error=str(error))
            return Standing(EncodeNow.RESTARTING, None)

    def _standing(self, folder: Path) -> Standing:
        encodes = _encodes(folder)
        if not encodes or not is_held(encodes[-1] / LOCK):
            return Standing(self._why_none(folder), None)
        state = _state(encodes[-1])
        if state is None:
            return Standing(EncodeNow.STARTING, None)
        now = EncodeNow.REDUCED if state["is_reduced"] else EncodeNow.RUNNING
        return Standing(now, state["height_px"])

    def _why_none(self, folder: Path) -> EncodeNow:
        if _deaths(folder)[0]:
            return EncodeNow.RESTARTING
        if folder.exists() and _free_bytes(folder) < self.bounds.floor_bytes:
            return EncodeNow.FULL
        slots = [self._slots / str(number) for number in range(self.bounds.most)]
        return EncodeNow.BUSY if all(is_held(slot) for slot in slots) else EncodeNow.IDLE


def pieces(scratch: Path, stream: Path, keep_s: float, kind: Kind = Kind.PLAIN) -> list[Told]:
    """What there is of a stream, in the order it was made.

    Args:
        scratch: Of the installation.
        stream: Its lane.
        keep_s: How long whoever is told of one may go on to ask for it.
    """
    found: list[Told] = []
    for encode in _encodes(scratch / kind / stream):
        try:
            found += _pieces(encode, keep_s)
        except OSError as error:
            log.warning("live_encode_unreadable", encode=str(encode), error=str(error))
    return found


def piece_of(scratch: Path, stream: Path, encode: str, number: int, kind: Kind = Kind.PLAIN) -> Told | None:
    """A piece by its name; None: there is none."""
    folder = scratch / kind / stream / encode
    if not (folder / NAME).exists():
        return None
    said = _journal_of(folder)
    if number not in said.pieces:
        return None
    return _told(folder, said, number, is_over=not is_held(folder / LOCK), is_new=False)


def place_of(scratch: Path, stream: Path, encode: str, number: int, kind: Kind = Kind.PLAIN) -> Path:
    """Where a piece lies, if there is one of that name."""
    return scratch / kind / stream / encode / f"{number:06d}.mp4"


def _pair(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    return name, int(value)


def _locked(path: Path, held: ExitStack) -> int | None:
    """A lock, held until ``held`` is left and by whoever inherits it; None: another holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    held.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return descriptor


def _encodes(folder: Path) -> list[Path]:
    """Those of a stream, in the order they were begun."""
    try:
        return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
    except FileNotFoundError:
        return []


def _next_name(folder: Path) -> str:
    """Counts, because a clock may be set back; and never the same again, because addresses are made of it."""
    last = int(_encodes(folder)[-1].name[:COUNT_DIGITS], 16) if _encodes(folder) else 0
    return f"{last + 1:0{COUNT_DIGITS}x}{os.urandom(12).hex()}"


def _shed(folder: Path) -> None:
    """Remove those that told nothing and are not needed to count deaths; the stream's lock is held."""
    for encode in _encodes(folder)[: 1 - COUNTED]:
        if not _has_told(encode):
            _removed(encode)


def _has_told(encode: Path) -> bool:
    try:
        said, _ = read(encode)
    except OSError as error:
        log.warning("live_encode_unreadable", encode=str(encode), error=str(error))
        return True
    return any(line["kind"] == "piece" for line in said)


def _removed(encode: Path) -> bool:
    """Take an encode that is over away, at once for whoever looks; False: another process does."""
    gone = encode.with_name(GONE + encode.name)
    try:
        encode.rename(gone)
    except FileNotFoundError:
        return False
    except OSError as error:
        log.warning("live_encode_stays", encode=str(encode), error=str(error))
        return False
    _empty_out(gone)
    return True


def _empty_out(gone: Path) -> None:
    shutil.rmtree(gone, ignore_errors=True)
    if gone.exists():
        # Another process may be at it; what is left is looked for at each clearing.
        log.info("live_encode_half_removed", folder=str(gone))


def _see_off(process: subprocess.Popen[bytes]) -> None:
    log.info("live_encode_ended", code=process.wait())


def _mtime_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _ended_at(encode: Path) -> float:
    """When an encode that is over last did something."""
    return max(_mtime_of(path) for path in _dated(encode))


def _dated(encode: Path) -> tuple[Path, ...]:
    return encode / NAME, encode / STATE, encode


def _date_anew(encode: Path) -> None:
    """The clock was set back: it ages from now on, or it would stay until the clock is there again."""
    for path in _dated(encode):
        with suppress(FileNotFoundError):
            os.utime(path)


def _lived_s(encode: Path) -> float:
    """How long it did something; its lock is made first, and never written to."""
    began_s = _mtime_of(encode / LOCK)
    return _ended_at(encode) - began_s if began_s else 0.0


def _ended_early(encode: Path) -> bool:
    said, _ = read(encode)
    why = next((str(line["why"]) for line in said if line["kind"] == "ended"), "died")
    return why not in {UNWATCHED, DISK_FLOOR}


def _deaths(folder: Path) -> tuple[int, float]:
    """How many ended before their time one after the other until now, and seconds since the last."""
    encodes = _encodes(folder)[-COUNTED:]
    count = 0
    for encode in reversed(encodes):
        if not _ended_early(encode):
            break
        count += 1
        if _lived_s(encode) > LIVED_S:
            break
    since_s = time.time() - _ended_at(encodes[-1]) if encodes else math.inf
    # A clock that was set back says nothing of how long ago it was.
    return count, since_s if since_s >= 0 else math.inf


def _state(encode: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((encode / STATE).read_text())
    except FileNotFoundError:
        return None
    return found


@dataclass
class _Journal:
    """What an encode says of its pieces, read as far as it went."""

    read_to: int = 0
    pieces: dict[int, dict[str, Any]] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def follow(self, encode: Path) -> None:
        with self.lock:
            said, self.read_to = read(encode, self.read_to)
            for line in said:
                if line["kind"] == "piece":
                    self.pieces[line["piece"]] = line
                elif line["kind"] == "closed":
                    self.ends[line["piece"]] = line["to_utc_us"]


_journals: OrderedDict[Path, _Journal] = OrderedDict()
"""By the encode, whose name is never another's; each reading goes on where the one before ended."""
_journals_lock = threading.Lock()


def _journal_of(encode: Path) -> _Journal:
    with _journals_lock:
        found = _journals.setdefault(encode, _Journal())
        _journals.move_to_end(encode)
        while len(_journals) > JOURNALS_KEPT:
            _journals.popitem(last=False)
    found.follow(encode)
    return found


def _pieces(encode: Path, keep_s: float) -> list[Told]:
    # Asked first: what is read after it was over is all there is.
    is_over = not is_held(encode / LOCK)
    is_new = not is_over or time.time() - _ended_at(encode) < keep_s
    said = _journal_of(encode)
    return [_told(encode, said, number, is_over=is_over, is_new=is_new) for number in sorted(said.pieces)]


def _told(encode: Path, said: _Journal, number: int, *, is_over: bool, is_new: bool) -> Told:
    line = said.pieces[number]
    return Told(
        encode.name,
        number,
        line["zero_utc_us"],
        line["from_utc_us"],
        said.ends.get(number),
        is_whole=is_over or number in said.ends,
        is_new=is_new,
        file=(line["run"], line["file"]),
        file_us=line["file_utc_us"],
    )


def _end_of(path: Path, piece: Told) -> int:
    """UTC up to where a piece can be shown."""
    try:
        index = index_fragments(path)
    except (FileNotFoundError, MediaError):
        # Removed, or what a power cut left of it.
        index = None
    if index is None or not index.fragments:
        return piece.from_us
    last = index.origin_pts + index.fragments[-1].end_pts
    return piece.zero_us + last * 1_000_000 // index.timescale


def _free_bytes(folder: Path) -> int:
    free = os.statvfs(folder)
    return free.f_bavail * free.f_frsize
