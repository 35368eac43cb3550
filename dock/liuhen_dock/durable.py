"""Files that survive a power cut: written beside, synced, renamed, and the folder synced too."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file as a whole; either the old or the new content is there after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable. Windows has no such call; NTFS journals its names."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
