"""Cards, a configuration, a clock that is moved, and the real upload listener with somebody who signs."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evidence.canonical import canonical_json
from liuhen_dock.config import Config, load_config
from liuhen_dock.station import Station
from tests.integration.tus_server import LIMITS, Register, Running, running

ENDS_AFTER_S = 120.0
TOKEN = "dock-1-secret"
NAME = "DSJ_{device}_123456_202403{day:02d}_091530{key}.mp4"


class Content(bytes):
    """Bytes of a file, told apart by digest: millions of them, compared line by line, explain nothing."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes {hashlib.sha256(self).hexdigest()[:12]}>"


def footage(size_bytes: int, seed: int = 0) -> Content:
    """Bytes that no other seed gives."""
    block = hashlib.sha512(b"footage %d" % seed).digest()
    return Content((block * (size_bytes // len(block) + 1))[:size_bytes])


@dataclass
class Card:
    """A folder that stands for a camera's card."""

    root: Path
    device: str = "0000001"
    files: dict[str, bytes] = field(default_factory=dict)

    def record(self, day: int, size_bytes: int = 300_000, *, key: bool = False, name: str = "") -> Path:
        """One file, newer with each day."""
        name = name or NAME.format(device=self.device, day=day, key="_IMP" if key else "")
        return self.write(name, footage(size_bytes, hash((self.device, name)) & 0xFFFF), day)

    def write(self, name: str | bytes, content: bytes, day: int = 1) -> Path:
        folder = self.root / "DCIM"
        folder.mkdir(parents=True, exist_ok=True)
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + os.fsencode(name)))
        path.write_bytes(content)
        at = datetime(2024, 3, day, 9, tzinfo=UTC).timestamp()
        os.utime(path, (at, at))
        self.files[path.name] = Content(content)
        return path

    def left(self) -> set[str]:
        """Names still on the card."""
        return {path.name for path in (self.root / "DCIM").iterdir()}


class FakeClock:
    """Time passes only where somebody waits for it. For one thread at a time, or for none that race."""

    def __init__(self, at: datetime = datetime(2026, 3, 4, 9, tzinfo=UTC)) -> None:
        self._start = at
        self.passed_s = 0.0
        self.waits: set[float] = set()
        """What was waited for, each length once: who waits for ever fills no memory."""
        self._lock = threading.Lock()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.passed_s)

    def monotonic(self) -> float:
        return self.passed_s

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        with self._lock:
            self.passed_s += max(0.0, seconds)
            self.waits.add(seconds)
        # A breath, so that a loop of waits lets the others work.
        return stop.wait(0.002)


class Issuer(dict[str, str]):
    """Signs a receipt for every upload that is whole, as the worker does; tests spoil it on purpose."""

    def __init__(self, register: Register) -> None:
        super().__init__()
        self.key = Ed25519PrivateKey.generate()
        self._register = register
        self.is_open = True
        self.spoil: Callable[[dict[str, Any]], None] = lambda body: None
        self.signing_key = self.key

    @property
    def public_key(self) -> str:
        raw = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return base64.b64encode(raw).decode()

    def get(self, upload_id: str, default: Any = None) -> Any:
        found = next((each for each in self._register.finished if each.upload_id == upload_id), None)
        if found is None or not self.is_open:
            return default
        item = self._register.seal(found)
        body: dict[str, Any] = {
            "version": "liuhen-receipt/1", "agency": "CG01", "item": str(item.item_id),
            "reception": str(item.reception_id), "sha256": found.sha256.hex(), "sm3": None,
            "size_bytes": found.size_bytes, "received_at": "2026-03-04T09:00:00Z", "may_erase": True,
        }  # fmt: skip
        self.spoil(body)
        signature = self.signing_key.sign(canonical_json(body))
        return canonical_json(
            {**body, "key": "receipt-1", "signature": base64.b64encode(signature).decode()}
        ).decode()


@dataclass
class Server:
    """The upload listener, and who signs for it."""

    run: Running
    issuer: Issuer

    def forget(self) -> None:
        """Begin anew: nothing has arrived, and receipts are as they should be."""
        self.run.register.finished.clear()
        for path in (self.run.data / "items").iterdir():
            path.unlink()
        self.run.register.receipts = self.issuer = Issuer(self.run.register)

    @property
    def arrived(self) -> dict[str, bytes]:
        """Original name to bytes, of everything that became an item."""
        return {
            each.staged().original_name_raw.decode("utf-8", "surrogateescape"): self.content(each)
            for each in self.run.register.finished
        }

    def content(self, finished: Any) -> bytes:
        key = next(
            item["key"]
            for item in self.run.register.items()
            if bytes.fromhex(item["sha256"]) == finished.sha256
        )
        return Content(b"".join(map(bytes, self.run.objects.read_back(key))))

    def said(self, name: str) -> Mapping[str, str]:
        """The metadata of a file."""
        return next(each.metadata for each in self.run.register.finished if each.metadata["filename"] == name)

    def order(self) -> list[str]:
        """Names in the order of arrival."""
        return [each.metadata["filename"] for each in self.run.register.finished]


@contextmanager
def server(folder: Path, **options: Any) -> Iterator[Server]:
    folder.mkdir(exist_ok=True)
    with running(folder, **{"limits": LIMITS, **options}) as run:
        issuer = Issuer(run.register)
        run.register.receipts = issuer
        yield Server(run, issuer)


def write_config(folder: Path, url: str, key: str, *cards: Path, more: str = "", **dock: Any) -> Path:
    """A configuration with a slot for each card."""
    token = folder / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    settings = "\n".join(f"{name} = {json.dumps(value)}" for name, value in dock.items())
    slots = "\n".join(f"[[slot]]\nfolder = {str(card)!r}" for card in cards)
    path = folder / "dock.toml"
    path.write_text(
        f"""
[server]
url = "{url}"
token_file = "token"
receipt_keys = ["{key}"]
[dock]
state_dir = "state"
{settings}
[watch]
mount_roots = []
poll_s = 0.05
[upload]
request_mib = 1
[page]
port = 0
{slots}
{more}
""",
        encoding="utf-8",
    )
    return path


@contextmanager
def docked(path: Path, **options: Any) -> Iterator[Station]:
    """A station in this process. One that gets nowhere is ended: with a clock that is moved it would try
    again hundreds of times a second, and each try is kept with the log of the test."""
    config: Config = load_config(path, {})
    made = Station(config, jitter=lambda: 0.0, **options)
    ending = threading.Timer(ENDS_AFTER_S, made.stop.set)
    ending.daemon = True
    ending.start()
    try:
        yield made
    finally:
        ending.cancel()
        made.close()


def panel(made: Station, root: Path) -> dict[str, Any]:
    """What the board shows of a card."""
    return next(each for each in made.board.snapshot()["cameras"] if each["name"] == str(root))


def codes(made: Station, root: Path) -> set[str]:
    """What is said to be wrong with a card, beyond what no mass-storage camera can tell."""
    plain = {"clock_unreadable", "clock_not_set"}
    return {problem["code"] for problem in panel(made, root)["problems"]} - plain
