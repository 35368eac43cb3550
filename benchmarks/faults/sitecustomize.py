"""Disk errors on demand, inside the real daemon: loaded by Python itself when the torture asks for it.

The torture puts one line into the file `LIUHEN_FAULTS` names: which call, on which kind of file, fails how
often with which error. Calls of `os` that make bytes and names durable look there first. Nothing of the
product knows of this; without the variable nothing is changed.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

_ORDER = os.environ.get("LIUHEN_FAULTS", "")
_lock = threading.Lock()


def _due(call: str, subject: object) -> int:
    """The error this call is to fail with now; 0 for none."""
    if not os.path.exists(_ORDER):  # noqa: PTH110 - on the way of every write
        return 0
    with _lock:
        try:
            order = json.loads(Path(_ORDER).read_text())
        except (OSError, ValueError):
            return 0  # Taken away, or not yet whole.
        if order["call"] != call or not _name(subject).endswith(order["ends"]) or order["times"] < 1:
            return 0
        order["times"] -= 1
        order["hit"] = order.get("hit", 0) + 1
        fresh = Path(f"{_ORDER}.new")
        fresh.write_text(json.dumps(order))
        _replace(fresh, _ORDER)
        return int(order["errno"])


def _name(subject: object) -> str:
    if isinstance(subject, int):
        try:
            return os.readlink(f"/proc/self/fd/{subject}")  # noqa: PTH115
        except OSError:
            return ""
    return str(subject)


def _failing(call: str) -> Any:
    real = getattr(os, call)

    def wrapped(subject: Any, *rest: Any, **named: Any) -> Any:
        number = _due(call, subject)
        if number:
            raise OSError(number, os.strerror(number))
        return real(subject, *rest, **named)

    return wrapped


_replace = os.replace
if _ORDER:
    for _call in ("pwritev", "fdatasync", "fsync", "link", "ftruncate", "rename", "replace", "pwrite"):
        setattr(os, _call, _failing(_call))
