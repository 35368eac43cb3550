"""`make bench-custody N= EVERY=`: verifying and exporting a long custody log, in time and memory.

The log is written at once, as true as the sequencer's: ``N`` leaves (1,000,000), a signed checkpoint after
every ``EVERY`` of them (10), which is what a busy installation makes in months. Then the commands people use
run on it as processes of their own: `liuhen verify`, `liuhen custody export`, and the stand-alone verifier on
that export. Their limit is SQLite's own reading of the same rows.
"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.support import ROOT, Figure, print_figures, whole, write_results

VERIFIER = ROOT / "cli" / "verifier.py"


def run(*command: object) -> tuple[float, float]:
    """Seconds and mebibytes at most of a command that must succeed."""
    begun = time.monotonic()
    child = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{command}: expected exit status 0, found {child.returncode}")
    return time.monotonic() - begun, usage.ru_maxrss / 1024


def bare(path: Path) -> float:
    """Seconds SQLite takes to read the same rows."""
    begun = time.monotonic()
    with sqlite3.connect(path) as connection:
        joined = (
            "SELECT s.leaf_index, s.leaf_hash, l.body FROM custody_sequence s JOIN custody_leaf l "
            "ON l.id = s.leaf_id ORDER BY s.leaf_index"
        )
        for query in (joined, "SELECT note, frontier FROM custody_checkpoint ORDER BY tree_size"):
            for _ in connection.execute(query):
                pass
    return time.monotonic() - begun


def fill(folder: str, count: int, every: int) -> None:
    """An installation in that folder with a log as long as asked."""
    from storage.open import found
    from tests.support.installations import AGENCY, settings_for
    from tests.support.long_log import grow_log

    settings = settings_for(Path(folder), f"sqlite:///{Path(folder, 'data', 'liuhen.db')}")
    storage = found(settings, AGENCY)
    grow_log(storage, count, every)
    storage.database.dispose()


def main() -> int:
    count, every = whole("N", 1_000_000), whole("EVERY", 10)
    with tempfile.TemporaryDirectory(prefix="liuhen-bench-") as folder:
        database = Path(folder, "data", "liuhen.db")
        # In a process of its own: a child's peak begins with the size of its parent.
        filling = multiprocessing.get_context("spawn").Process(target=fill, args=(folder, count, every))
        filling.start()
        filling.join()
        export = Path(folder, "export.jsonl")
        liuhen = (sys.executable, "-m", "cli.main")
        data = ("--data", Path(folder, "data"))
        os.environ["LIUHEN_DATA__FREE_FLOOR_BYTES"] = "0"
        read_s = bare(database)
        export_s, export_mib = run(*liuhen, "custody", "export", export, *data)
        verify_s, verify_mib = run(*liuhen, "verify", *data)
        alone_s, alone_mib = run(sys.executable, "-I", VERIFIER, export)
        size_mib = database.stat().st_size / 2**20
    figures = {
        "export": Figure(export_s, "s", limit=read_s),
        "verify, live": Figure(verify_s, "s", limit=read_s),
        "verify, alone": Figure(alone_s, "s", limit=read_s),
        "export, memory": Figure(export_mib, "MiB"),
        "verify, live, memory": Figure(verify_mib, "MiB"),
        "verify, alone, memory": Figure(alone_mib, "MiB"),
        "database": Figure(size_mib, "MiB"),
    }
    print(f"{count} leaves, {count // every} checkpoints")
    print_figures(figures)
    print(write_results("custody", figures, leaves=count, leaves_per_checkpoint=every))
    return 0


if __name__ == "__main__":
    sys.exit(main())
