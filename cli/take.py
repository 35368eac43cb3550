"""`liuhen take FILES…`: files from this machine, through the same intake as an upload.

The source is only read. Each file is copied beside the object store with its digest made while
reading, synced, adopted, and entered in one transaction; a file that cannot be taken is named and
the others go on.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.progress import Meter
from cli.shell import Desk, Parser, add_common, add_json, at_desk, operator, print_json, print_table
from evidence.errors import EvidenceError, InvalidInput
from evidence.filenames import display_name
from evidence.ids import new_id
from evidence.kinds import ClaimSource
from ingest.daemon.holding import hold
from ingest.facts import statements_from
from ingest.intake import Accepted
from ingest.naming import Vocabulary
from ingest.sources.base import StagedFile
from ingest.sources.copying import copy_whole

SAID = ("case_no", "device_no", "officer_no", "place", "object_of_proof", "captured_from", "captured_to")


def arguments(parser: Parser, _name: str) -> None:
    add_common(parser)
    add_json(parser)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILES", help="文件或目录 / files or folders")
    texts = {
        "--case": ("case_no", "NO", "案号 / case number"),
        "--device": ("device_no", "NO", "设备编号 / device number"),
        "--officer": ("officer_no", "NO", "采集人编号 / officer number"),
        "--place": ("place", "TEXT", "地点 / place"),
        "--object-of-proof": ("object_of_proof", "TEXT", "证明对象 / what it proves"),
        "--from": ("captured_from", "TIME", "采集起 / captured from, ISO 8601 with a zone"),
        "--to": ("captured_to", "TIME", "采集止 / captured to"),
    }
    for option, (name, metavar, text) in texts.items():
        parser.add_argument(option, dest=name, metavar=metavar, help=text)
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Taken:
    """What became of one file."""

    name: str
    accepted: Accepted | None
    error: EvidenceError | None


def run(options: argparse.Namespace) -> int:
    paths = list(_expanded(options.files))
    if not paths:
        raise InvalidInput("files: expected at least one, found none", code="no_files")
    said = {name: value for name in SAID if (value := getattr(options, name)) is not None}
    with at_desk(options) as desk:
        taken = take_all(desk, paths, said)
    for one in taken:
        if one.error is not None:
            print(f"{one.name}: {one.error.message} [{one.error.code}]", file=sys.stderr)
    rows = [
        {
            "name": one.name,
            "item": str(one.accepted.item_id),
            "sha256": one.accepted.sha256.hex(),
            "size_bytes": one.accepted.size_bytes,
            "custody": one.accepted.custody,
            "new": one.accepted.is_new,
        }
        for one in taken
        if one.accepted is not None
    ]
    if options.json:
        print_json(rows)
    else:
        heads = ("文件 file", "音像 item", "摘要 sha256", "字节 bytes", "保管 custody", "新 new")
        print_table(
            heads,
            [(*list(row.values())[:2], str(row["sha256"])[:16], *list(row.values())[3:]) for row in rows],
        )
    return 0 if len(rows) == len(taken) else 6


def _expanded(paths: list[Path]) -> Iterator[Path]:
    """Files as named, and the regular files below folders; links are not followed."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for folder, names, files in os.walk(path):
            names.sort()
            yield from (
                Path(folder) / name for name in sorted(files) if not (Path(folder) / name).is_symlink()
            )


def take_all(desk: Desk, paths: list[Path], said: dict[str, str]) -> list[Taken]:
    """Take files one by one."""
    taken = []
    sizes = {path: path.stat().st_size if path.is_file() else 0 for path in paths}
    with Meter("收入 / taking", sum(sizes.values())) as meter:
        done = 0
        for path in paths:
            name = display_name(os.fsencode(path.name))
            try:
                with _watched(desk.storage.objects.staging_dir, meter, done, name) as staged:
                    taken.append(Taken(name, take_file(desk, path, staged, said), None))
            except EvidenceError as error:
                taken.append(Taken(name, None, error))
            done += sizes[path]
            meter.to(done, name)
    return taken


@contextmanager
def _watched(folder: Path, meter: Meter, done: int, name: str) -> Iterator[Path]:
    """A name for a staged file; the meter follows its growth from a thread."""
    staged = folder / f"{new_id().hex}.take"
    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(0.2):
            if staged.exists():
                meter.to(done + _size(staged), name)

    thread = threading.Thread(target=follow, name="take-progress", daemon=True)
    thread.start()
    try:
        yield staged
    finally:
        stop.set()
        thread.join()
        # After an adoption there is nothing here; after a failure the copy is of no use to anyone.
        staged.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # Adopted meanwhile.
        return 0


def take_file(desk: Desk, source: Path, staged: Path, said: dict[str, str]) -> Accepted:
    """Copy, adopt and enter one file.

    Raises:
        EvidenceError: It cannot be read, changed while it was read, or there is no room.
    """
    storage = desk.storage
    copied = copy_whole(source, staged, reserve=storage.objects.reserve)
    arrived = StagedFile(
        path=staged,
        size_bytes=copied.size_bytes,
        sha256=copied.sha256,
        original_name_raw=os.fsencode(source.name),
        source="take",
        reception_key=f"take:{new_id()}",
        actor=operator(),
        metadata=said,
        claims=tuple(statements_from(said, ClaimSource.PERSON)),
    )
    return hold(storage, desk.agency.id, arrived, Vocabulary.of(desk.settings.ingest))
