"""A reviewer who keeps looking while servers die: finds the case, asks, and plays."""

from __future__ import annotations

import contextlib
import re
import threading
from collections import Counter
from random import Random
from typing import Any

import httpx

from tests.support.cluster import CASE_NO, Cluster

INNER_ERROR = 500


class Reader(threading.Thread):
    """Looks at a random clip of the case, over and over. A refused connection is the torture's doing;
    a wrong answer is ours.

    Args:
        pause_s: Between two looks.
    """

    def __init__(self, cluster: Cluster, seed: int, pause_s: float = 0.5) -> None:
        super().__init__(name="reader", daemon=True)
        self._cluster = cluster
        self._random = Random(seed)
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []

    def run(self) -> None:
        client: httpx.Client | None = None
        while not self._stopping.wait(self._pause_s):
            try:
                client = client or self._cluster.sign_in()
                self._look(client)
            except httpx.HTTPStatusError as error:
                self._note(error.response)
                if error.response.status_code == 401:
                    client = None
            except httpx.HTTPError:
                self.answers["connection lost"] += 1
        if client is not None:
            client.close()

    def stop(self) -> None:
        """After the look at hand."""
        self._stopping.set()
        self.join(60)

    def _look(self, client: httpx.Client) -> None:
        found = self._get(client, "/api/v1/clips", params={"case_no": CASE_NO}).json()["items"]
        ready = [each for each in found if each["state"] == "ready" and each["duration_us"]]
        self.answers["case listed"] += 1
        if not ready:
            return
        item = self._random.choice(ready)["item_id"]
        asked = client.post(f"/api/v1/items/{item}/grants", json={"purpose": "case_handling"})
        asked.raise_for_status()
        grant: dict[str, Any] = asked.json()
        if grant["playlist_url"] is None:
            return
        playlist = self._get(client, grant["playlist_url"]).text
        self.answers["playlist"] += 1
        if part := first_segment(playlist):
            url, first, length = part
            got = self._get(client, url, headers={"Range": f"bytes={first}-{first + length - 1}"})
            if len(got.content) != length or got.status_code != 206:
                self.wrong.append(f"range of {length} bytes: {got.status_code}, {len(got.content)} bytes")
            self.answers["segment"] += 1

    def _get(self, client: httpx.Client, url: str, **options: Any) -> httpx.Response:
        answer = client.get(url, **options)
        answer.raise_for_status()
        return answer

    def _note(self, answer: httpx.Response) -> None:
        self.answers[f"status {answer.status_code}"] += 1
        if answer.status_code == INNER_ERROR:
            with contextlib.suppress(UnicodeDecodeError):
                self.wrong.append(f"{answer.request.url.path}: {answer.text[:200]}")


def first_segment(playlist: str) -> tuple[str, int, int] | None:
    """Address, first byte and length of a playlist's first segment."""
    found = re.search(r"#EXT-X-BYTERANGE:(\d+)@(\d+)\n(?:#.*\n)*(\S+)", playlist)
    return (found[3], int(found[2]), int(found[1])) if found else None
