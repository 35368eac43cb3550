"""Work on hostile bytes in a child process that has limits, a watchdog and no secrets.

Footage comes from outside, and demuxers and decoders are large programs in C. So nothing parses it in
a process that holds keys, database connections or other people's work. A child has the limits of
`Limits`, a scratch folder and a short life (`media.supervise`).

`media.child` documents how a child comes to die with its parent, however the parent dies.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evidence import errors as kinds
from evidence.errors import EvidenceError
from media.errors import media_error
from media.supervise import Ended, Limits, death_of, raise_if_stopped, supervise

__all__ = ["CHILD", "Limits", "call"]

CHILD = Path(__file__).with_name("child.py")
RESERVED_FACTS = {"message", "code"}


def call(
    entry: str,
    request: dict[str, object],
    *,
    limits: Limits,
    on_progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    scratch: Path,
) -> dict[str, object]:
    """Run ``entry`` on ``request`` in a child and return its result.

    Args:
        entry: ``package.module:function``; imported in the child only. Its signature is
            ``def f(request: dict, progress: Callable[[float], None]) -> dict``.
        request: Plain JSON.
        limits: What the child may use.
        on_progress: Hears each progress line, 0 to 1.
        cancelled: Asked several times a second; true ends the child.
        scratch: An existing folder: the child's working folder, ``HOME`` and ``TMPDIR``.

    Raises:
        MediaError: ``decoder_crashed``, ``decoder_hung``, ``decoder_over_memory``, ``decoder_over_time``,
            ``output_too_large``, or what the entry itself raised.
        Conflict: ``cancelled``.
        EvidenceError: Any other deliberate error of the entry, of the same kind and code.
    """
    last: dict[str, Any] = {}

    def heard(line: bytes) -> bool:
        try:
            message = json.loads(line)
            fraction = float(message["progress"]) if "progress" in message else None
        except (ValueError, TypeError) as error:
            raise media_error("decoder_crashed", "it answered in a form that was not asked for") from error
        if fraction is None:
            last.update(message)
        elif on_progress is not None:
            on_progress(fraction)
        return True

    with tempfile.TemporaryFile(dir=scratch) as stdin:
        stdin.write(json.dumps({"sys_path": _search_path(), "request": request}).encode())
        stdin.seek(0)
        argv = [sys.executable, "-I", str(CHILD), "call", str(os.getpid()), limits.for_child(), entry]
        ended = supervise(
            argv, stdin=stdin, scratch=scratch, limits=limits, on_line=heard, cancelled=cancelled
        )
    raise_if_stopped(ended)
    if "error" in last:
        raise _as_error(last["error"], ended)
    if "result" not in last or ended.returncode != 0:
        raise death_of(ended)
    result: dict[str, object] = last["result"]
    return result


def _search_path() -> list[str]:
    # The child runs isolated, so that neither its working folder nor PYTHONPATH can bring a module in.
    return [str(Path(place).resolve()) for place in sys.path if place]


def _as_error(told: dict[str, Any], ended: Ended) -> EvidenceError:
    kind = getattr(kinds, str(told.get("kind")), None)
    if not (isinstance(kind, type) and issubclass(kind, EvidenceError)):
        kind = kinds.MediaError
    facts = {
        key: value for key, value in dict(told.get("facts") or {}).items() if key not in {"message", "code"}
    }
    facts.setdefault("stderr_tail", ended.stderr_tail)
    return kind(str(told.get("message")), code=str(told.get("code")), **facts)
