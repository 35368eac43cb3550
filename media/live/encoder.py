"""The process of a shared live encode: `transcode.live_encodes` starts it, `media.live.encoding` is its work.

It belongs to nobody and ends by itself: when nobody has looked for a while, when the disk gets full, and by
the kernel where a decoder hangs or takes more than it may. Its locks are handed on to it, and say that it
lives.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from media.child import confine

if TYPE_CHECKING:
    from media.live.covering import Covering


def main() -> int:
    """Encode; what came of it stands in the journal."""
    told = json.load(sys.stdin)
    confine(told["limits"])
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # What is loaded from here on opens footage.
    from media.live.encoding import LiveEncode, Orders

    orders = Orders(
        stream_folder=Path(told["stream_folder"]),
        folder=Path(told["folder"]),
        wanted=Path(told["wanted"]),
        idle_s=told["idle_s"],
        floor_bytes=told["floor_bytes"],
        after_us=told["after_us"],
    )
    LiveEncode(orders, _covering(told["rules"])).run()
    return 0


def _covering(rules: str | None) -> Covering | None:
    """What a masked encode is covered by; loaded only where there is one."""
    if rules is None:
        return None
    from media.live.covering import Covering

    return Covering(Path(rules))


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Threads of a decoder may not let go.
    os._exit(code)
