"""A recorder's process: one stream, from its start to the end of the connection.

Started by `ingest.recorder.process` with one JSON object on standard input. It belongs to nobody: a daemon
that dies leaves it recording, and the next one finds it by its folder. It ends by itself when the source
does, is silent, or the disk is full; SIGTERM ends the file in order.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
from pathlib import Path

from media.live.opening import Address, opened
from media.live.recording import Bounds, Recording, stop_on_signals

MEMORY_BYTES = 1 << 30
OPEN_FILES = 256


def main() -> int:
    """Record; what came of it stands in the journal."""
    told = json.load(sys.stdin)
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_DATA, MEMORY_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
    ):
        _, ceiling = resource.getrlimit(what)
        least = most if ceiling == resource.RLIM_INFINITY else min(most, ceiling)
        resource.setrlimit(what, (least, least))
    # Nothing here makes rings; what was loaded stays.
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    address = Address(told["url"], told["transport"], told["options"])
    recording = Recording(
        Path(told["folder"]),
        lambda tell: opened(address, told["carrier"], tell),
        Bounds(**told["bounds"]),
        waits=address.waits,
        lock=told["lock"],
    )
    stop_on_signals(recording)
    recording.run()
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # The reading thread may be in FFmpeg for ever.
    os._exit(code)
