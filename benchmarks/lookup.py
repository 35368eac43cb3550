"""`make bench-lookup N=`: a case page through the API, in a register of a million items.

A case page is two requests: the case by its number, and the first 50 of its items. Each is timed over a
kept-alive connection to `liuhen api`, one after another; the limit is the same SQL, sent bare over the
database's own driver in the same run. SQLite and the embedded PostgreSQL.

Options: ``N`` items (1,000,000); ``LOOKUPS`` case pages a database (400); ``SEED``.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import event

from benchmarks.register_rows import ITEMS_PER_CASE, Register, fill
from benchmarks.support import Figure, percentile, print_figures, whole, write_results
from evidence.case import normalise_case_no
from storage.db import cases
from storage.open import Storage
from tests.support.cluster import Cluster
from tests.support.databases import fresh_postgres_url

PAGE = 50
WARM_UP = 20


@dataclass
class Timed:
    """Milliseconds of each look-up."""

    whole_page: list[float] = field(default_factory=list)
    by_number: list[float] = field(default_factory=list)
    items: list[float] = field(default_factory=list)
    large: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)


def measure(cluster: Cluster, register: Register, lookups: int, seed: int) -> Timed:
    """Case pages through the API and the same SQL beside them, in turns."""
    timed, chosen = Timed(), random.Random(seed)
    bare = BareSql(cluster.storage)
    with cluster.sign_in() as client:
        for number in range(lookups + WARM_UP):
            case_no = chosen.choice(register.case_nos)
            case_id, first = _ms(partial(case_by_number, client, case_no))
            page, second = _ms(partial(items_of, client, case_id))
            assert len(page["items"]) == ITEMS_PER_CASE
            _, alone = _ms(partial(bare.case_page, case_no))
            if number >= WARM_UP:
                timed.by_number.append(first)
                timed.items.append(second)
                timed.whole_page.append(first + second)
                timed.bare.append(alone)
        large_id = case_by_number(client, register.large_case_no)
        for _ in range(max(20, lookups // 8)):
            page, took = _ms(partial(items_of, client, large_id))
            assert len(page["items"]) == PAGE
            timed.large.append(took)
    return timed


class BareSql:
    """The statements of a case page as SQLAlchemy writes them, sent by the driver alone.

    Args:
        storage: Its database hears which statements those are, once.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._connection = storage.database.engine.raw_connection()
        with storage.database.read() as session:
            self._agency_id = cases_agency(session)
        self._said: list[tuple[str, Any]] = []

    def case_page(self, case_no: str) -> int:
        """Run them; the number of rows."""
        if not self._said:
            self._listen(case_no)
        cursor = self._connection.cursor()
        number, items = self._said
        key, agency = normalise_case_no(case_no), self._plain(self._agency_id)
        cursor.execute(number[0], number[1](agency, key))
        case_id = cursor.fetchall()[0][0]
        cursor.execute(items[0], items[1](agency, case_id))
        rows = len(cursor.fetchall())
        if not self._storage.database.is_sqlite:
            self._connection.rollback()
        return rows

    def _plain(self, value: Any) -> Any:
        return value.bytes if self._storage.database.is_sqlite else value

    def _listen(self, case_no: str) -> None:
        heard: list[tuple[str, Any]] = []

        def hear(_c: Any, _cursor: Any, statement: str, parameters: Any, _x: Any, _many: bool) -> None:
            heard.append((statement, parameters))

        engine = self._storage.database.engine
        event.listen(engine, "before_cursor_execute", hear)
        try:
            with self._storage.database.read() as session:
                case = cases.case_by_key(session, self._agency_id, normalise_case_no(case_no))
                assert case is not None
                cases.items_of_case(session, self._agency_id, case.id, after=None, limit=PAGE + 1)
                case_id = case.id
        finally:
            event.remove(engine, "before_cursor_execute", hear)
        asked = [entry for entry in heard if entry[0].lstrip().upper().startswith("SELECT")]
        key = normalise_case_no(case_no)
        (first, first_given), (second, second_given) = asked
        self._said = [
            (first, _filler(first_given, {key: 1, self._plain(self._agency_id): 0})),
            (second, _filler(second_given, {self._plain(case_id): 1, self._plain(self._agency_id): 0})),
        ]


def _filler(given: Any, places: dict[Any, int]) -> Callable[[Any, Any], Any]:
    """The same parameters with other values in the known places."""

    def fill_in(agency: Any, other: Any) -> Any:
        values = (agency, other)

        def one(value: Any) -> Any:
            return values[places[value]] if value in places else value

        if isinstance(given, dict):
            return {name: one(value) for name, value in given.items()}
        return tuple(one(value) for value in given)

    return fill_in


def cases_agency(session: Any) -> Any:
    from storage.db import agencies

    return agencies.agencies(session)[0].id


def case_by_number(client: httpx.Client, case_no: str) -> str:
    answer = client.get("/api/v1/cases", params={"case_no": case_no})
    answer.raise_for_status()
    return str(answer.json()["items"][0]["id"])


def items_of(client: httpx.Client, case_id: str) -> dict[str, Any]:
    answer = client.get(f"/api/v1/cases/{case_id}/items", params={"limit": PAGE})
    answer.raise_for_status()
    page: dict[str, Any] = answer.json()
    return page


def _ms(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    found = work()
    return found, (time.perf_counter() - began) * 1000


def figures_of(name: str, timed: Timed) -> dict[str, Figure]:
    """p50 and p99 of each thing, the bare SQL as the limit of a case page."""
    figures = {}
    for label, samples, limit in (
        ("case page", timed.whole_page, timed.bare),
        ("case by number", timed.by_number, None),
        ("first 50 items", timed.items, None),
        ("first 50 of a case of 2,000", timed.large, None),
    ):
        for share in (0.5, 0.99):
            figures[f"{name} {label} p{share * 100:.0f}"] = Figure(
                round(percentile(samples, share), 3),
                "ms",
                limit=round(percentile(limit, share), 3) if limit else None,
                samples=[round(sample, 3) for sample in samples] if share == 0.5 else [],
            )
    return figures


def main() -> None:
    items, lookups, seed = whole("N", 1_000_000), whole("LOOKUPS", 400), whole("SEED", 1)
    figures: dict[str, Figure] = {}
    folder = Path(tempfile.mkdtemp(prefix="liuhen-lookup-"))
    try:
        for name in ("sqlite", "postgresql"):
            url = fresh_postgres_url() if name == "postgresql" else None
            with Cluster(folder / name, database_url=url) as cluster:
                cluster.populate()
                began = time.monotonic()
                register = fill(cluster.storage.database, cluster.agency().id, items, say)
                say(f"{name}: {items} items in {len(register.case_nos) + 1} cases, "
                    f"written in {time.monotonic() - began:.0f} s")  # fmt: skip
                cluster.start("api")
                figures |= figures_of(name, measure(cluster, register, lookups, seed))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{items} items")
    print_figures(figures)
    print(f"written: {write_results('lookup', figures, items=items, lookups=lookups, seed=seed)}")


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
