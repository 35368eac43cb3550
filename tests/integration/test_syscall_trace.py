"""What really reaches the kernel, and in which order, when the daemon acknowledges and a receipt is given.

The listener and the task run as they do in service, under `tests.support.syscalls`; only the order in the
trace is judged. R31, invariants 1, 3 and 4.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from cli.programs import all_programs
from tests.support.cluster import Cluster, accepts, wait_for
from tests.support.syscalls import PAGE_BYTES, Call, read_trace, text_at

FOOTAGE = os.urandom(1 << 20) * 2 + b"the end"
SHA256 = hashlib.sha256(FOOTAGE).hexdigest()
RECEIPT = "liuhen-receipt/1"
CUTS = (0, 700_001, 1_400_002, len(FOOTAGE))
DONTNEED = 4
WORK = """
from config.load import load_settings
from storage.open import open_storage
from tests.support.pipeline import Silence
from workers.runner import Runner
from workers.tasks import TASKS

settings = load_settings()
storage = open_storage(settings)
assert Runner(storage, settings, TASKS, ("io",), Silence(), Silence()).look()
"""


@dataclass(frozen=True)
class Traced:
    """What the daemon and the worker asked of the kernel, by return."""

    daemon: list[Call]
    worker: list[Call]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    folder = tmp_path_factory.mktemp("trace")
    with Cluster(folder / "host") as cluster:
        token = cluster.populate()
        environment = {**os.environ, **cluster.variables}
        ingest = next(one for one in all_programs(cluster.settings) if one.name == "ingest")
        daemon = folder / "daemon.jsonl"
        with subprocess.Popen(_under_trace(daemon, SHA256, *("--", *ingest.argv)), env=environment) as run:
            try:
                wait_for(lambda: accepts(cluster.settings.ingest.port), 60, "the listener accepts")
                _upload(cluster.settings.ingest_url, token)
            finally:
                run.send_signal(signal.SIGTERM)
                run.wait(30)
        worker = folder / "worker.jsonl"
        command = ("--", sys.executable, "-c", WORK)
        subprocess.run(_under_trace(worker, RECEIPT, *command), env=environment, check=True, timeout=60)
    return Traced(read_trace(daemon), read_trace(worker))


def _under_trace(out: Path, mark: str, *command: str) -> list[str]:
    return [sys.executable, "-m", "tests.support.syscalls", str(out), mark, *command]


def _upload(url: str, token: str) -> None:
    """Three requests, so that offsets are told in the middle of a file as well."""
    headers = {"Authorization": f"Bearer {token}", "Tus-Resumable": "1.0.0"}
    with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
        made = client.post("/uploads/", headers={"Upload-Length": str(len(FOOTAGE))})
        location = made.raise_for_status().headers["location"]
        for start, end in pairwise(CUTS):
            said = {"Upload-Offset": str(start), "Content-Type": "application/offset+octet-stream"}
            told = client.patch(location, headers=said, content=FOOTAGE[start:end]).raise_for_status()
            assert told.headers["upload-offset"] == str(end)


def acknowledgements(calls: list[Call]) -> Iterator[tuple[int, Call]]:
    """Offsets told to the sender of bytes, each with the call that told it."""
    for call in calls:
        found = re.match(r"HTTP/1.1 204.*?^upload-offset: (\d+)", call.text, re.S | re.M | re.I)
        if found:
            yield int(found[1]), call


def between(calls: list[Call], name: str, path: str, after: Call, before: Call) -> list[Call]:
    """Calls of that name on that file that began after one call had returned and returned before another."""
    return [
        call
        for call in calls
        if call.name == name
        and call.path == path
        and call.began > after.ended
        and call.ended < before.began
        and call.result >= 0
    ]


def test_every_acknowledged_byte_was_synced_before_its_offset_was_told(traced: Traced) -> None:
    told = list(acknowledgements(traced.daemon))
    assert [offset for offset, _ in told] == list(CUTS[1:])
    for offset, answer in told:
        writes = [
            call
            for call in traced.daemon
            if call.path.endswith(".part") and call.name in {"pwritev", "pwritev2", "write"}
            and call.offset < offset
        ]  # fmt: skip
        assert sum(call.result for call in writes) >= offset
        for write in writes:
            assert between(traced.daemon, "fdatasync", write.path, write, answer), (offset, write)


def test_the_watermark_was_synced_after_the_bytes_and_before_the_offset_was_told(traced: Traced) -> None:
    for offset, answer in acknowledgements(traced.daemon):
        synced = [
            call
            for call in traced.daemon
            if call.name == "fdatasync" and call.path.endswith(".part") and call.ended < answer.began
        ][-1]
        marks = [
            call
            for call in traced.daemon
            if call.name.startswith("pwrite")
            and call.path.endswith(".mark")
            and synced.ended < call.began < answer.began
        ]
        assert marks, offset
        assert between(traced.daemon, "fdatasync", marks[-1].path, marks[-1], answer), offset


def test_file_and_directory_were_synced_before_a_row_named_the_object(traced: Traced) -> None:
    (link,) = [
        call
        for call in traced.daemon
        if call.name in {"link", "linkat"} and call.to.endswith(SHA256) and call.result == 0
    ]
    row = next(call for call in traced.daemon if call.path.endswith("-wal") and SHA256 in call.marks)
    key = Path(link.to)
    synced = [call for call in traced.daemon if call.name == "fsync" and call.ended < link.began]
    assert any(call.path.endswith(".part") for call in synced)
    assert between(traced.daemon, "fsync", str(key.parent), link, row)
    for directory in (key.parents[1], key.parents[2], key.parents[3], key.parents[4]):
        assert any(call.path == str(directory) for call in synced), directory


def test_the_row_was_synced_before_the_last_offset_was_told(traced: Traced) -> None:
    *_, (_, answer) = acknowledgements(traced.daemon)
    rows = [call for call in traced.daemon if call.path.endswith("-wal") and SHA256 in call.marks]
    syncs = [
        call
        for name in ("fsync", "fdatasync")
        for call in between(traced.daemon, name, rows[0].path, rows[0], answer)
    ]
    assert syncs


def test_the_object_was_read_past_the_page_cache_before_the_receipt(traced: Traced) -> None:
    receipt = next(call for call in traced.worker if call.path.endswith("-wal") and RECEIPT in call.marks)
    on_object = [call for call in traced.worker if call.path.endswith(SHA256) and call.ended < receipt.began]
    flushed = next(call for call in on_object if call.name == "fsync")
    dropped = next(call for call in on_object if call.name == "fadvise64" and call.flags == DONTNEED)
    reads = [call for call in on_object if call.name in {"preadv", "preadv2", "pread64", "read"}]
    assert flushed.ended < dropped.began
    assert all(dropped.ended < read.began for read in reads)
    assert sum(read.result for read in reads) == len(FOOTAGE)
    # Where a file system has no O_DIRECT, reading after the pages were dropped is what there is.
    assert any(call.name == "openat" and call.flags & os.O_DIRECT for call in on_object)


def test_a_path_across_the_edge_of_a_page_is_read_whole() -> None:
    held = ctypes.create_string_buffer(3 * PAGE_BYTES)
    edge = (ctypes.addressof(held) // PAGE_BYTES + 2) * PAGE_BYTES
    path = b"/data/objects/" + SHA256.encode()
    ctypes.memmove(edge - 20, path + b"\0", len(path) + 1)
    assert text_at(os.getpid(), edge - 20) == path.decode()
