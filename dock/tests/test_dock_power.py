"""The plug is pulled, on either side: the agent and the real ingest daemon, killed by SIGKILL."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dock_support import Card, docked, write_config
from sqlalchemy import select

from config.settings import Settings
from ingest import docks
from liuhen_dock.journal import Journal, Phase
from liuhen_dock.tus import TusClient
from storage.db.tables import Agency, Claim, Item, Reception, StoredObject
from storage.keys import Purpose
from storage.open import Storage, found
from tests.integration.tus_server import free_port, wait_for_port
from tests.support.installations import AGENCY, settings_for
from tests.support.pipeline import Pipeline

DOCK = Path(__file__).resolve().parents[1]
SLOW = '[[rate]]\nhours = "00:00-00:00"\nlimit_mbit_s = 24\n'


@dataclass
class Installation:
    """A founded installation, and its ingest daemon as a process to be killed."""

    settings: Settings
    storage: Storage
    token: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def key(self) -> str:
        public = self.storage.keys.public(Purpose.RECEIPT)
        return base64.b64encode(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()

    def start(self, *words: str, log: Path, **variables: str) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=output,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def start_ingest(self) -> subprocess.Popen[bytes]:
        process = self.start(
            "ingest.daemon.main",
            log=self.settings.data.dir / "ingest.log",
            LIUHEN_DATA__DIR=str(self.settings.data.dir),
            LIUHEN_DATA__FREE_FLOOR_BYTES="0",
            LIUHEN_INGEST__PORT=str(self.settings.ingest.port),
            LIUHEN_CONFIG=str(self.settings.data.dir.parent / "empty.toml"),
        )
        wait_for_port(self.settings.ingest.port)
        return process

    def start_agent(self, config: Path) -> subprocess.Popen[bytes]:
        return self.start(
            "liuhen_dock",
            "run",
            "--config",
            str(config),
            log=config.parent / "agent.log",
            PYTHONPATH=str(DOCK),
        )

    def part_bytes(self) -> int:
        """What open uploads hold on the server's disk."""
        total = 0
        for path in (self.settings.data.dir / "uploads").rglob("*.part"):
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    def wait_for_parts(self, least: int, agent: subprocess.Popen[bytes] | None = None) -> None:
        deadline = time.monotonic() + 30
        while self.part_bytes() < least:
            assert agent is None or agent.poll() is None, "the agent ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    settings = settings_for(
        tmp_path, f"sqlite:///{tmp_path / 'data' / 'liuhen.db'}", ingest__port=free_port()
    )
    storage = found(settings, AGENCY)
    with storage.database.transaction() as session:
        token, _ = docks.issue_token(
            session, session.scalars(select(Agency)).one(), dock_no="DOCK1", device_no=None, life=None,
            actor="test", now=storage.clock.now(),
        )  # fmt: skip
    made = Installation(settings, storage, token)
    yield made
    for process in made.processes:
        process.kill()
        process.wait(10)
    storage.database.dispose()


def test_agent_and_server_killed_in_mid_upload_double_and_lose_nothing(
    tmp_path: Path, installation: Installation
) -> None:
    cards = [Card(tmp_path / f"card-{number}", f"DSJ0{number}") for number in (1, 2)]
    for card in cards:
        card.record(1, 2_000_000)
        card.record(2, 1_000_000, key=True)

    def configured(more: str = "") -> Path:
        path = write_config(
            tmp_path, installation.settings.ingest_url, installation.key, *(card.root for card in cards),
            more=more, free_after_receipt=True,
        )  # fmt: skip
        (tmp_path / "token").write_text(installation.token)
        return path

    ingest = installation.start_ingest()
    agent = installation.start_agent(configured(SLOW))
    installation.wait_for_parts(700_000, agent)
    agent.kill()
    agent.wait(10)
    journal = Journal(tmp_path / "state" / "journal.jsonl")
    begun = {entry.key: entry.location for entry in journal.in_phase(Phase.OPEN)}
    journal.close()
    assert begun, "an upload was under way when the agent was killed"

    with docked(configured(SLOW)) as station:
        thread = threading.Thread(target=station.until_quiet, args=(0.1,))
        thread.start()
        installation.wait_for_parts(installation.part_bytes() + 400_000)
        ingest.kill()
        ingest.wait(10)
        installation.start_ingest()
        thread.join(60)
        assert all(card.left() == set(card.files) for card in cards), "no worker has signed a receipt yet"
        ended = {entry.key: entry.location for entry in station.journal.in_phase(Phase.SENT)}
        assert begun.items() <= ended.items(), "what had begun went on under its address"
        Pipeline(installation.storage, installation.settings).work(only={"verify"})
        assert station.until_quiet(30)
        with TusClient(station.config, installation.token, None) as client:
            digest = station.journal.in_phase(Phase.FREED)[0].sha256
            assert [each["may_erase"] for each in client.receptions(digest)] == [True]
            assert client.receptions("0" * 64) == []
    assert all(card.left() == set() for card in cards)

    sent = {**cards[0].files, **cards[1].files}
    with installation.storage.database.read() as session:
        assert len(session.scalars(select(Item)).all()) == len(sent)
        names = [bytes(each.original_name_raw).decode() for each in session.scalars(select(Reception))]
        digests = {bytes(each.sha256) for each in session.scalars(select(StoredObject))}
        keys = session.scalars(select(Claim).where(Claim.field == "key_file")).all()
    assert sorted(names) == sorted(sent), "each arrived once"
    assert digests == {hashlib.sha256(content).digest() for content in sent.values()}
    assert keys


def test_server_that_is_not_there_is_waited_for(tmp_path: Path, installation: Installation) -> None:
    card = Card(tmp_path / "card")
    card.record(1, 1000)
    url = f"http://127.0.0.1:{free_port()}"
    agent = installation.start_agent(write_config(tmp_path, url, installation.key, card.root))
    log, deadline = tmp_path / "agent.log", time.monotonic() + 20
    while "expected an answer, found ConnectError" not in log.read_text():
        assert agent.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    agent.terminate()
    assert agent.wait(20) == 0
    assert card.left() == set(card.files)
