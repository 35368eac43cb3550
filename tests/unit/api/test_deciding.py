"""Decisions about bytes, while the database is being repaired."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from api.deciding import Decision, Decisions
from config.load import load_settings
from evidence.errors import NotFound
from storage.open import found
from tests.support.cluster import AGENCY

# As a writer that has the lock and finds the header of the index torn, and does not get on with it.
REPAIRING = """
import fcntl, os, sys
index = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(index, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 120)
os.pwrite(index, bytes(96), 0)
print(flush=True)
sys.stdin.read()
"""


def decide(token: str, name: str, is_taking: bool) -> Decision:
    raise NotFound(f"{token}/{name}: expected something, found nothing; {is_taking}")


def test_while_the_database_is_repaired_whoever_waits_for_it_holds_up_nobody_else(tmp_path: Path) -> None:
    storage = found(load_settings({"LIUHEN_DATA__DIR": str(tmp_path), "LIUHEN_CONFIG": "/dev/null"}), AGENCY)
    keeping = storage.database.engine.connect()
    keeping.exec_driver_sql("SELECT count(*) FROM agency").all()
    keeping.rollback()
    (index,) = tmp_path.rglob("*-shm")

    async def ask() -> float:
        decisions = Decisions(storage, decide)
        asking = asyncio.create_task(decisions.decide("token", "name", is_taking=True))
        began = time.monotonic()
        for _ in range(20):
            await asyncio.sleep(0.01)
        stood_still_s = time.monotonic() - began
        assert not asking.done()
        repairing.communicate()
        with pytest.raises(NotFound):
            await asking
        decisions.close()
        return stood_still_s

    argv = [sys.executable, "-I", "-c", REPAIRING, str(index)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as repairing:
        assert repairing.stdout is not None
        assert repairing.stdout.readline() == "\n"
        assert asyncio.run(ask()) < 2
    keeping.close()
    storage.database.dispose()
