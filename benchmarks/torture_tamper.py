"""`make torture-tamper SEED=1 N=100`: as root, harm an installation N times; every harm must be named.

Each time a fresh copy of one installation is harmed in one way (a bit, a file, a row, a leaf, a place,
a checkpoint), and `verify`, with a checkpoint kept elsewhere, and `check` are asked. Prints what was
done to whom and what was missed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.support import Figure, percentile, print_figures, whole, write_results
from storage.db import custody
from storage.open import found, open_storage
from tests.support.held_shift import desk_of, play_shift
from tests.support.installations import AGENCY, settings_for
from tests.support.tampering import judge, tamper


def main() -> int:
    seed, count = whole("SEED", 1), whole("N", 100)
    missed: list[str] = []
    done: Counter[str] = Counter()
    took_s: list[float] = []
    with tempfile.TemporaryDirectory(prefix="liuhen-tamper-") as name:
        folder = Path(name)
        settings = settings_for(folder, f"sqlite:///{folder / 'data' / 'liuhen.db'}")
        storage = found(settings, AGENCY)
        desk = play_shift(settings, storage, folder, count=8)
        with desk.read() as session:
            newest = custody.newest_checkpoint(session, desk.agency.id)
        storage.database.dispose()
        assert newest is not None
        for number in range(seed, seed + count):
            harmed = folder / f"harmed-{number}"
            shutil.copytree(folder / "data", harmed / "data")
            copy = settings_for(harmed, f"sqlite:///{harmed / 'data' / 'liuhen.db'}")
            harm = tamper(copy.data.dir, number)
            desk = desk_of(copy, open_storage(copy))
            started = time.perf_counter()
            named = judge(desk, newest.note)
            took_s.append(time.perf_counter() - started)
            desk.storage.database.dispose()
            shutil.rmtree(harmed)
            done[harm.what.split(" of ")[0]] += 1
            unnamed = harm.names - named
            print(f"{number:>5} {harm.what:<44} {'MISSED ' + str(sorted(unnamed)) if unnamed else 'named'}")
            if unnamed:
                missed.append(f"{number}: {harm.what}")
    print(f"\n{count} harms, {count - len(missed)} named, {len(missed)} missed")
    figures = {
        "harms_named": Figure(count - len(missed), "of harms", limit=count),
        "verify_and_check": Figure(percentile(took_s, 0.5), "s", samples=took_s),
    }
    print_figures(figures)
    print(f"→ {write_results('tamper', figures, missed=missed, ways=dict(done))}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
