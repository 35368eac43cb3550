"""One agent per state folder: two would upload everything twice and fight over the journal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from liuhen_dock.errors import ConfigError


@contextmanager
def only_one(state_dir: Path) -> Iterator[None]:
    """Hold the folder; the lock ends with the process, however it ends.

    Raises:
        ConfigError: Code ``already_running`` or ``state_unwritable``.
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (state_dir / "lock").open("a+")
    except OSError as error:
        raise ConfigError(f"state_dir {state_dir}: {error.strerror}", code="state_unwritable") from error
    with file:
        try:
            _take(file)
        except OSError as error:
            raise ConfigError(
                f"state_dir {state_dir}: expected no other agent, found one running", code="already_running"
            ) from error
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _take(file: IO[str]) -> None:
    if sys.platform == "win32":
        import msvcrt

        # Far past the text, so that the process id stays readable for whoever looks.
        file.seek(1 << 20)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
