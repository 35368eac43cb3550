"""A host without docks to fetch from, or that push, carries none of the libraries for them."""

from __future__ import annotations

import subprocess
import sys


def test_the_daemon_loads_no_dock_library_of_its_own_accord() -> None:
    look = "import sys, ingest.daemon.main; print(*({'asyncssh', 'aioftp', 'httpx'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
