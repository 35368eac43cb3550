"""`make bench-seek`: open, lay out and seek in an eight-hour recording of four cameras, through the API.

A case holds four recordings of eight hours side by side, and more and more items around them. Each look is
a person's: the first page of the case's timeline, a grant set over the four, their playlists, one grant and
its playlist, and a seek: the bytes of the segment that shows an instant. Times are to the last byte of each
answer, over a kept-alive connection to `liuhen api` and the media listener. Rows are written as in
`bench-lookup`; the renditions are real files of a few seconds with the fragment index of eight hours, so a
seek reads real bytes.

Options: ``ITEMS`` in the case, in steps from 10 (1,000); ``LOOKS`` at each size (40); ``SEED``.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from benchmarks.support import Figure, percentile, print_figures, whole, write_results
from evidence.ids import new_id
from ingest import binding, register
from media.fmp4 import FragmentIndex
from storage.db import agencies
from storage.db.tables import Agency, Case, Claim, Derivative, Device, Item, StoredObject
from storage.objects.base import Namespace
from tests.support.cluster import Cluster
from tests.support.databases import fresh_postgres_url
from tests.support.scene import reel

HOURS = 8
CAMERAS = 4
STARTED = datetime(2026, 3, 3, tzinfo=UTC)
LIMIT_MS = 300.0


@dataclass
class Looks:
    """Milliseconds of each step, by its name."""

    taken: dict[str, list[float]] = field(default_factory=dict)

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        found = work()
        self.taken.setdefault(name, []).append((time.perf_counter() - began) * 1000)
        return found


class CaseOfHours:
    """The case, and what is written into it."""

    def __init__(self, cluster: Cluster) -> None:
        self._storage = cluster.storage
        self._film = reel(1)
        self._index = eight_hours(self._film.index, len(self._film.rendition))
        self.item_ids: list[UUID] = []
        self._count = 0
        now = self._storage.clock.now()
        with self._storage.database.transaction() as session:
            self._agency: Agency = agencies.agencies(session)[0]
            new = register.NewCase("渝执〔2026〕8号", opened_at=now - timedelta(days=30))
            self.case: Case = register.open_case(session, self._agency, new, actor="system", now=now)
            self._devices = [self._device(session, number, now) for number in range(CAMERAS)]
            for device in self._devices:
                self.item_ids.append(self._item(session, device, STARTED, HOURS * 3600, is_long=True))

    def fill(self, count: int) -> None:
        """Short items of the same cameras until the case holds so many."""
        with self._storage.database.transaction() as session:
            while self._count < count:
                device = self._devices[self._count % CAMERAS]
                begins = STARTED + timedelta(days=1, seconds=self._count * 90)
                self._item(session, device, begins, 300, is_long=False)

    def _device(self, session: Any, number: int, now: datetime) -> Device:
        row = Device(
            agency_id=self._agency.id, device_no=f"SEEK-{number}", kind="body_cam", state="registered",
            created_at=now,
        )  # fmt: skip
        session.add(row)
        session.flush()
        return row

    def _item(self, session: Any, device: Device, begins: datetime, length_s: int, *, is_long: bool) -> UUID:
        self._count += 1
        now = self._storage.clock.now()
        digest = hashlib.sha256(new_id().bytes).digest()
        held = StoredObject(
            agency_id=self._agency.id, sha256=digest, size_bytes=1, store_key=f"none/{digest.hex()}",
            stored_at=now, verified_at=now,
        )  # fmt: skip
        session.add(held)
        session.flush()
        item = Item(
            id=new_id(), agency_id=self._agency.id, object_id=held.id, device_id=device.id,
            identity_key=digest.hex(), source_kind="body_cam", media_kind="video",
            original_name=f"{device.device_no}_{self._count}.mp4", custody="verified", media="rendered",
            binding="unbound", redaction="checked", held=False, key_file=False, flags=[],
            captured_from=begins, captured_to=begins + timedelta(seconds=length_s),
            duration_us=length_s * 1_000_000, frame_count=length_s * 25, received_at=now,
        )  # fmt: skip
        session.add(item)
        session.flush()
        session.add(
            Claim(
                agency_id=self._agency.id, item_id=item.id, field="captured_from", value=begins.isoformat(),
                source="dock", clock="device", made_at=now,
            )
        )  # fmt: skip
        binding.bind(
            session, self._agency, item, self.case, author="system", reason="named", now=now, span_us=None
        )
        if is_long:
            session.add(self._masked(item, now))
        return item.id

    def _masked(self, item: Item, now: datetime) -> Derivative:
        body = self._film.rendition + item.id.bytes
        digest = hashlib.sha256(body).digest()
        staged = self._storage.objects.staging_dir / str(new_id())
        staged.write_bytes(body)
        stored = self._storage.objects.adopt(
            staged, digest, len(body), self._agency.id.hex, Namespace.DERIVATIVE
        )
        info = {**self._film.info, "rung": "redacted", "index": self._index.to_json(), "coverage": {}}
        return Derivative(
            agency_id=self._agency.id, item_id=item.id, kind="redacted", source_sha256=digest,
            params_digest=digest, params={}, sha256=digest, size_bytes=len(body), store_key=stored.key,
            content_type="video/mp4", masked=True, info=info, made_at=now,
        )  # fmt: skip


def eight_hours(index: FragmentIndex, size_bytes: int) -> FragmentIndex:
    """The index of eight hours in two-second fragments, over the bytes of a short file again and again."""
    step = 2 * index.timescale
    fragments = tuple(
        index.fragments[number % len(index.fragments)]._replace(
            start_pts=number * step, duration_pts=step, frame_count=50, lead_pts=0, tail_pts=number % 7
        )
        for number in range(HOURS * 1800)
    )
    assert all(fragment.end_bytes <= size_bytes for fragment in fragments)
    return FragmentIndex(index.init_size_bytes, index.tracks, index.origin_pts, fragments)


def look(client: httpx.Client, rows: CaseOfHours, looks: Looks, chance: random.Random) -> None:
    """What a person does, once."""
    case = rows.case.id

    def get(url: str, **headers: str) -> httpx.Response:
        return client.get(url, headers=headers).raise_for_status()

    looks.time("timeline, first page", lambda: get(f"/api/v1/cases/{case}/timeline?limit=200"))
    at_s = chance.randrange(600, HOURS * 3600 - 3600)
    window = {
        "from_at": (STARTED + timedelta(seconds=at_s)).isoformat(),
        "to_at": (STARTED + timedelta(seconds=at_s + 1800)).isoformat(),
        "purpose": "case_handling",
    }
    opened = looks.time(
        "four sources, half an hour: grant",
        lambda: client.post(f"/api/v1/cases/{case}/aligned", json=window).raise_for_status().json(),
    )
    sources = opened["sources"]
    assert len(sources) == CAMERAS
    looks.time("four sources: their playlists", lambda: [get(each["playlist_url"]) for each in sources])
    item = chance.choice(rows.item_ids)
    asked = {"purpose": "case_handling", "case_id": str(case)}

    def to_playlist() -> str:
        grant = client.post(f"/api/v1/items/{item}/grants", json=asked).raise_for_status().json()
        return get(grant["playlist_url"]).text

    text = looks.time("eight hours: grant to playlist", to_playlist)
    lines = text.splitlines()
    ranges = [at for at, line in enumerate(lines) if line.startswith("#EXT-X-BYTERANGE")]
    chosen = ranges[chance.randrange(len(ranges))]
    size, offset = map(int, lines[chosen].partition(":")[2].split("@"))
    wanted = f"bytes={offset}-{offset + size - 1}"
    sent = looks.time("eight hours: seek", lambda: get(lines[chosen + 1], Range=wanted))
    assert len(sent.content) == size


def measure(
    name: str, folder: Path, url: str | None, sizes: list[int], looks: int, seed: int
) -> dict[str, Figure]:
    """All sizes over one database."""
    figures: dict[str, Figure] = {}
    with Cluster(folder, database_url=url) as cluster:
        cluster.populate()
        rows = CaseOfHours(cluster)
        cluster.start("api", "media")
        with cluster.sign_in() as client:
            for size in sizes:
                rows.fill(size)
                taken, chance = Looks(), random.Random(seed)
                look(client, rows, Looks(), chance)
                for _ in range(looks):
                    look(client, rows, taken, chance)
                for step, samples in taken.taken.items():
                    for share in (0.5, 0.95):
                        figures[f"{name}, {size} items: {step} p{share * 100:.0f}"] = Figure(
                            round(percentile(samples, share), 2), "ms",
                            limit=LIMIT_MS if share > 0.5 else None,
                            samples=[round(each, 2) for each in samples] if share == 0.5 else [],
                        )  # fmt: skip
                print(f"{time.strftime('%H:%M:%S')} {name}: {size} items", file=sys.stderr, flush=True)
    return figures


def main() -> None:
    items, looks, seed = whole("ITEMS", 1000), whole("LOOKS", 40), whole("SEED", 1)
    sizes = [size for size in (10, 100) if size < items] + [items]
    figures: dict[str, Figure] = {}
    folder = Path(tempfile.mkdtemp(prefix="liuhen-seek-"))
    try:
        for name in ("sqlite", "postgresql"):
            url = fresh_postgres_url() if name == "postgresql" else None
            figures |= measure(name, folder / name, url, sizes, looks, seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_figures(figures)
    print(f"written: {write_results('seek', figures, items=items, looks=looks, seed=seed)}")


if __name__ == "__main__":
    main()
