"""Become a program that dies with its supervisor: ``python -I -S tether.py PARENT_PID PROGRAM ARGS…``.

PR_SET_PDEATHSIG is asked for here and not between fork and exec, where running Python deadlocks in a
process with threads; the request survives the exec. The parent may have died before it was made, so
its id is compared afterwards.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(0)
    # Python ignores these two, and an ignored signal stays ignored across an exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - that is what this is for


if __name__ == "__main__":
    main()
