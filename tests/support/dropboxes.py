"""A dropbox of one dock, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from ingest.sources.dropbox import Dropbox
from ingest.sources.dropbox_folder import DropboxFolder
from ingest.sources.dropbox_shelf import Dock

DOCK = Dock(UUID("0190a000-0000-7000-8000-0000000000aa"), "D-1", None, "token:1")


def opened(folder: Path, **told: Any) -> Dropbox:
    return Dropbox(folder, lambda _: None, 1 << 30, told.pop("max_dock_bytes", 1 << 40), **told)


def pushed(box: Dropbox, name: bytes, content: bytes, *, in_order: bool = True) -> None:
    incoming = box.begin(DOCK, name, "sftp", truncate=True)
    incoming.write(content, 0)
    incoming.end(in_order=in_order)


def whole(box: Dropbox, name: bytes, content: bytes) -> str:
    """A file proved whole by its name; its id."""
    pushed(box, name + b".part", content)
    box.rename(DOCK, name + b".part", name)
    return box.listed()[-1].id


def bytes_of(box: Dropbox, name: bytes) -> bytes:
    listed = DropboxFolder(box)
    file = next(each for each in listed.files() if each.path.endswith(b"/" + name))
    return b"".join(listed.read(file, 0))
