"""Decisions about bytes: of a slice, and while the database is being repaired."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from api.auth.capability import Capability, Use
from api.deciding import Decision, Decisions
from api.ranges import ByteRange
from api.resolving import Servable
from config.load import load_settings
from evidence.errors import NotFound, NotPermitted, Unavailable
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


def decided(use: Use = Use.MEDIA, sha256: bytes | None = None, *allowed: ByteRange) -> Decision:
    ends_at = datetime(2026, 3, 1, tzinfo=UTC)
    servable = Servable(Path("r.mp4"), 100, "video/mp4", sha256, allowed or None)
    return Decision(servable, ends_at, Capability(use, UUID(int=1), UUID(int=2), ends_at, "grant-1"))


def test_a_slice_of_what_grows_has_no_tag_and_is_waited_for() -> None:
    found = decided().cut(ByteRange(90, 99))
    assert (found.etag, found.size_bytes, b"etag" in found.described) == (None, 10, False)
    with pytest.raises(Unavailable) as refused:
        decided().cut(ByteRange(90, 100))
    assert refused.value.code == "rendition_settling"
    with pytest.raises(NotFound):
        decided(Use.MEDIA, bytes(32)).cut(ByteRange(90, 100))


def test_a_slice_is_of_footage_under_a_grant_and_wholly_in_its_span() -> None:
    for use in (Use.CLIP, Use.CLIP_SET, Use.LIVE):
        with pytest.raises(NotFound):
            decided(use).cut(ByteRange(0, 9))
    runs = ByteRange(0, 9), ByteRange(50, 59), ByteRange(60, 69)
    assert decided(Use.MEDIA, bytes(32), *runs).cut(ByteRange(50, 69)).part == ByteRange(50, 69)
    for outside in (ByteRange(0, 10), ByteRange(49, 50), ByteRange(0, 59), ByteRange(10, 10)):
        with pytest.raises(NotPermitted):
            decided(Use.MEDIA, bytes(32), *runs).cut(outside)
