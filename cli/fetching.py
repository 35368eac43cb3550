"""Taking away what a worker makes: waiting for it, fetching it, holding it against its digest."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile

import httpx

from cli.seat import TIMEOUT_S, Json, Seat, refusal, unreachable
from evidence.errors import Conflict, FixityError, Unavailable
from storage.objects.durable import fsync_directory

POLL_S = 0.5
PLACED_WAIT_S = 60.0
MOST_CUTS = 5
"""How often in a row a line may be cut with nothing new come over it."""
Tell = Callable[[float, str], None]
"""Told how far it is: a number, and words."""
Wait = Callable[[float], object]
"""Waits for so many seconds; true: somebody said stop."""


def wait_made(
    seat: Seat,
    path: str,
    asked: Json,
    *,
    wait: Wait,
    tell: Tell | None = None,
    timeout_s: float | None = None,
) -> Json:
    """Wait until a clip, a picture or a set is made.

    Args:
        path: Where it is told of.
        asked: As it was told of when it was asked for.
        tell: Told the thousandths that are done.
        timeout_s: None: as long as it takes.

    Raises:
        Unavailable: It failed, was taken back or not made in time, or somebody said stop.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while asked["state"] != "ready":
        is_late = deadline is not None and time.monotonic() > deadline
        if asked["state"] in {"failed", "withdrawn"} or is_late:
            raise Unavailable(
                f"clip: expected it made, found it {asked['state']}; look at the alarms, or ask again",
                code="clip_not_cut",
            )
        if tell is not None:
            tell(asked["progress_permille"], "")
        if wait(POLL_S):
            raise Unavailable("clip: expected it made, found this stopped before", code="clip_not_cut")
        asked = seat.get(path)
    if tell is not None:
        tell(1000, "")
    return asked


def require_free(*paths: Path) -> None:
    """Raise before anything is asked for unless every name is free.

    Raises:
        Conflict: Something is there (``output_exists``).
        FileNotFoundError: Its folder is not there: what was made would be a leaf in custody, and lost.
    """
    for path in paths:
        path.parent.resolve(strict=True)
        if os.path.lexists(path):
            raise Conflict(
                f"{path}: expected no file there, found one; name another with -o", code="output_exists"
            )


def download(
    seat: Seat, made: Json, path: Path, tell: Tell | None = None, *, beside: Mapping[Path, str] | None = None
) -> None:
    """Fetch what was made and put it in its place once its digest is the one the API says.

    A line that is cut is gone on with where it was cut. Where the file is, all that belongs beside it is on
    disk: a power cut may leave a sheet without its file, never the other way round.

    Args:
        made: With `file_url`, `sha256` and `size_bytes`.
        tell: Told the bytes that are here.
        beside: Its sheets, by where they go; put there just before the file is.

    Raises:
        FixityError: What came is not what the API says (``clip_digest_differs``); nothing is left of it.
        Conflict: Something was put in its place meanwhile (``output_exists``).
        Unavailable: The media listener cannot be reached.
    """
    digest = hashlib.sha256()
    written: list[Path] = []
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False) as file:
        part = Path(file.name)
        try:
            with httpx.Client(timeout=TIMEOUT_S, trust_env=False, verify=seat.verify) as client:
                for chunk in _chunks(client, made["file_url"], made["size_bytes"]):
                    digest.update(chunk)
                    file.write(chunk)
                    if tell is not None:
                        tell(file.tell(), "")
            if digest.hexdigest() != made["sha256"]:
                raise FixityError(
                    f"clip: expected sha256 {made['sha256']}, found {digest.hexdigest()}; fetch it again",
                    code="clip_digest_differs",
                )
            file.flush()
            os.fsync(file.fileno())
            require_free(path, *(beside or {}))
            for sheet, text in (beside or {}).items():
                write_new(sheet, text)
                written.append(sheet)
            fsync_directory(path.parent)
            part.rename(path)
        except BaseException:
            for left in (part, *written):
                left.unlink(missing_ok=True)
            raise
    fsync_directory(path.parent)


def _chunks(client: httpx.Client, url: str, size_bytes: int) -> Iterator[bytes]:
    have, cuts = 0, 0
    while have < size_bytes:
        headers = {"Range": f"bytes={have}-"} if have else {}
        try:
            with client.stream("GET", url, headers=headers) as answer:
                if answer.status_code != (httpx.codes.PARTIAL_CONTENT if have else httpx.codes.OK):
                    answer.read()
                    raise refusal(answer)
                # As it comes: what is gathered into larger pieces is lost with the line.
                for chunk in answer.iter_raw():
                    yield chunk
                    have, cuts = have + len(chunk), 0
        except httpx.TransportError as error:
            cuts += 1
            if cuts == MOST_CUTS:
                raise unreachable(url, error) from error
            time.sleep(POLL_S * cuts)


def sheets_beside(path: Path) -> tuple[Path, Path]:
    """Where the sheet of a file lies: as data, and to print."""
    return path.with_name(f"{path.name}.sheet.json"), path.with_name(f"{path.name}.sheet.html")


def wait_placed(seat: Seat, at: str, *, wait: Wait, timeout_s: float = PLACED_WAIT_S) -> bool:
    """Wait until the leaf of a clip or picture has its place in the log, so that its sheet can say where.

    Args:
        at: Where what was made is told of.
        timeout_s: The log is signed within seconds; whoever waits longer has a relay that stands still.

    Returns:
        False: it has none yet, and the sheet says so.
    """
    deadline = time.monotonic() + timeout_s
    while (leaf := seat.get(f"{at}/sheet")["leaf"]) is not None and leaf["leaf_index"] is None:
        if time.monotonic() > deadline or wait(POLL_S):
            return False
    return True


def sheets_of(seat: Seat, at: str, path: Path) -> dict[Path, str]:
    """The sheet of what was made, as data and to print, by where each goes beside the file.

    Args:
        at: Where what was made is told of.
        path: The file.
    """
    data, page = sheets_beside(path)
    told = json.dumps(seat.get(f"{at}/sheet"), ensure_ascii=False, indent=2)
    return {data: f"{told}\n", page: seat.text(f"{at}/sheet", form="html")}


def write_new(path: Path, text: str) -> None:
    """A new file on disk that nobody else reads, as the footage beside it; all of it or none."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink()
        raise
