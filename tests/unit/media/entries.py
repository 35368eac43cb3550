"""What a sandboxed child can do wrong, each as an entry point."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from evidence.errors import InvalidInput
from media.errors import media_error

Progress = Callable[[float], None]
Request = dict[str, object]


def echo(request: Request, progress: Progress) -> dict[str, object]:
    progress(0.5)
    print("a library that prints to standard output")
    return {"got": request, "pid": os.getpid(), "nice": os.nice(0), "environment": dict(os.environ)}


def large(request: Request, progress: Progress) -> dict[str, object]:
    return {"text": "x" * int(str(request["characters"]))}


def segfault(request: Request, progress: Progress) -> dict[str, object]:
    ctypes.string_at(8)
    return {}


def bug(request: Request, progress: Progress) -> dict[str, object]:
    raise ZeroDivisionError("a bug of ours")


def refuse(request: Request, progress: Progress) -> dict[str, object]:
    raise media_error("encrypted", "sample entry encv", stream=1)


def refuse_input(request: Request, progress: Progress) -> dict[str, object]:
    raise InvalidInput("span: expected from < to, found 3 and 2", code="span_empty")


def sleep(request: Request, progress: Progress) -> dict[str, object]:
    Path(str(request["pid_file"])).write_text(str(os.getpid()))
    time.sleep(600)
    return {}


def keep_talking(request: Request, progress: Progress) -> dict[str, object]:
    while True:
        progress(0.1)
        time.sleep(0.05)


def spin(request: Request, progress: Progress) -> dict[str, object]:
    while True:
        progress(0.1)


def eat_memory(request: Request, progress: Progress) -> dict[str, object]:
    kept = []
    while True:
        kept.append(bytearray(16 << 20))


def eat_disk(request: Request, progress: Progress) -> dict[str, object]:
    with Path("big").open("wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
    return {}


def leave_a_grandchild(request: Request, progress: Progress) -> dict[str, object]:
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(str(request["pid_file"])).write_text(str(grandchild.pid))
    return {"grandchild": grandchild.pid}


def supervise_sleep(request: Request, progress: Progress) -> dict[str, object]:
    """A child that runs a command through `media.run`, as renderers do."""
    from media.run import run_command

    program = "import os,sys,time; open(sys.argv[1],'w').write(str(os.getpid())); time.sleep(600)"
    run_command([sys.executable, "-c", program, str(request["pid_file"])], scratch=Path.cwd())
    return {}


def import_the_heavy(request: Request, progress: Progress) -> dict[str, object]:
    import av
    import cv2
    import numpy as np
    import onnxruntime

    square = np.ones((1024, 1024), dtype=np.float32)
    return {
        "product": float((square @ square)[0, 0]),
        "threads": cv2.getNumThreads(),
        "versions": [av.__version__, onnxruntime.__version__],
    }
