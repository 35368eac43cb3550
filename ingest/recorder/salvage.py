"""What a recorder that died left behind: every whole fragment, and what is known of its times.

Procedure, for each file that was open (there is one at most):

1. Find where the last whole fragment ends. After a boot in between, a fragment beyond what the journal says
   was synced is whole only where no sector of it is zeroed: its length may be sound, and its bytes gone.
2. Cut the file there and sync it. Nothing before is touched; what is cut off had never been readable.
3. Rename it, sync the folder, and write its line into the journal, as its recorder would have.

Each step can be done twice. What cannot be cut at a fragment (Matroska, MPEG-TS) is kept as it is: readers
resynchronise. How long it is, the journal knows: as of the last mark behind which something was written,
because what waited in the muxer at that mark was written with it. So it is never said to hold more than it
does, and at most a second and a fragment less.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evidence.errors import MediaError
from media import boxes
from media.fmp4 import index_fragments
from media.live.journal import Journal, read
from media.live.recording import OPEN_SUFFIX, boot_id
from storage.objects.durable import fsync_directory

FRAGMENTED = frozenset({"mp4", "mov"})
SECTOR_BYTES = 4096
WHY = "salvaged"
"""Why the file ended, in the journal."""


@dataclass(frozen=True)
class Left:
    """What one dead run left."""

    salvaged: tuple[str, ...]
    """Names of files that were open, and hold something."""
    cut_bytes: int
    """What had to be cut off."""


def salvage(folder: Path) -> Left:
    """Finish what a dead recorder left open. The caller knows that nobody records into the folder.

    Raises:
        OSError: A file holds something that the journal does not tell of; it stays, and so does the rest.
    """
    said, _ = read(folder)
    booted = next((line.get("boot") for line in said if line["kind"] == "begun"), None)
    names, cut = [], 0
    files = [line for line in said if line["kind"] == "file"]
    closed = {line["file"] for line in said if line["kind"] == "closed"}
    # A file has its name before the line that says it is finished.
    unsaid = [folder / line["name"] for line in files if line["file"] not in closed]
    for path in sorted([*folder.glob(f"*{OPEN_SUFFIX}"), *(each for each in unsaid if each.exists())]):
        about = next((line for line in files if path.name.startswith(line["name"])), None)
        if about is None:
            if path.stat().st_size:
                raise OSError(f"expected the journal to tell of {path.name}, found no line of it")
            # Its line is written before the file is made: without it nothing was.
            path.unlink()
            continue
        marks = [line for line in said if line["kind"] == "mark" and line.get("file") == about["file"]]
        size = path.stat().st_size
        end = _whole_end(path, about["container"], marks, is_same_boot=booted == boot_id())
        cut += size - end
        if _finish(folder, path, about, marks, end):
            names.append(about["name"])
    return Left(tuple(names), cut)


def _whole_end(path: Path, container: str, marks: Sequence[Mapping[str, Any]], *, is_same_boot: bool) -> int:
    size = path.stat().st_size
    synced = max((int(mark["synced_bytes"]) for mark in marks), default=0)
    if container not in FRAGMENTED:
        return size if is_same_boot else max(synced, _before_zeroes(path, size))
    end, moof = 0, False
    try:
        with path.open("rb") as file:
            for box in boxes.top_level(file, size):
                if not box.is_whole or (
                    not is_same_boot and box.end > synced and _has_zeroed_sector(file, box)
                ):
                    break
                if box.kind == "moov" or (box.kind == "mdat" and moof):
                    end = box.end
                moof = box.kind == "moof"
    except MediaError:
        # A header that cannot be one is where the footage ends.
        return end
    return end


def _has_zeroed_sector(file: Any, box: boxes.Box) -> bool:
    """Coded pictures and telephone sound hold no run of zeroes as long as a sector of the disk."""
    blank = bytes(SECTOR_BYTES)
    first = -(-box.offset // SECTOR_BYTES) * SECTOR_BYTES
    for offset in range(first, box.end - SECTOR_BYTES + 1, SECTOR_BYTES):
        file.seek(offset)
        if file.read(SECTOR_BYTES) == blank:
            return True
    file.seek(box.end - min(64, box.size))
    return not any(file.read(min(64, box.size)))


def _before_zeroes(path: Path, size: int) -> int:
    with path.open("rb") as file:
        while size > 0:
            at = max(0, size - SECTOR_BYTES)
            file.seek(at)
            kept = file.read(size - at).rstrip(b"\0")
            if kept:
                return at + len(kept)
            size = at
    return 0


def _finish(
    folder: Path, path: Path, about: Mapping[str, Any], marks: Sequence[Mapping[str, Any]], end: int
) -> bool:
    """Cut, name and enter a file; says whether there was footage in it."""
    with path.open("r+b") as file:
        file.truncate(end)
        os.fsync(file.fileno())
    facts = _facts(path, about, marks)
    if facts is None:
        path.unlink()
        fsync_directory(folder)
        return False
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    path.rename(folder / about["name"])
    fsync_directory(folder)
    journal = Journal(folder)
    try:
        journal.write(
            "closed",
            sync=True,
            file=about["file"],
            name=about["name"],
            run=about["run"],
            why=WHY,
            size_bytes=end,
            sha256=digest.hexdigest(),
            playable_from_us=None,
            **facts,
        )
    finally:
        journal.close()
    return True


def _facts(path: Path, about: Mapping[str, Any], marks: Sequence[Mapping[str, Any]]) -> dict[str, int] | None:
    """Duration, pictures, and where the file stands in wall time; None: there is nothing in it."""
    size = path.stat().st_size
    if not size:
        return None
    if about["container"] in FRAGMENTED:
        index = index_fragments(path)
        if index is None or not index.fragments:
            return None
        mark = marks[-1] if marks else None
        duration_us, pictures = int(index.duration * 1_000_000), index.frame_count
    else:
        mark = next((each for each in reversed(marks) if each["synced_bytes"] < size), None)
        duration_us, pictures = (
            (int(mark["end_us"]), int(mark.get("pictures", 0))) if mark is not None else (0, 0)
        )
    if mark is None:
        # Less than a second of it came: it begins when its first packet did.
        begins = int(about["arrived_utc_us"])
        ends = begins + duration_us
    else:
        # Pauses of the source are in wall time, and not in its duration.
        begins = int(mark["from_utc_us"])
        ends = max(begins, int(mark["to_utc_us"]) + duration_us - int(mark["end_us"]))
    return {
        "duration_us": duration_us,
        "pictures": pictures,
        "from_utc_us": begins,
        "to_utc_us": ends,
        # What came behind the last mark may have come after all the silence that it told of.
        "open_us": max(
            (int(each.get("open_us", each["end_us"])) + int(each["silent_us"]) for each in marks), default=0
        ),
    }
