"""Which worker does what: nothing that is made in moments stands behind what takes hours."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cli.programs import worker_programs
from config.settings import Settings
from evidence.ids import new_id
from messaging.jobs import QUEUES
from storage.db.jobs import Wanted, wanted_by_people

MINUTE = timedelta(minutes=1)


def wanted(footage: timedelta) -> Wanted:
    return wanted_by_people("clip", new_id(), bytes(32), {}, footage)


def test_every_queue_has_a_worker_that_takes_no_long_work_but_the_long_one() -> None:
    served = {each.name: set(each.argv) & set(QUEUES) for each in worker_programs(Settings())}
    assert set().union(*served.values()) == set(QUEUES)
    for queue in set(QUEUES) - {"media"}:
        assert {queue} in served.values()
    media = [queues for name, queues in served.items() if name.startswith("worker-media")]
    assert media == [{"quick", "asked", "media"}] * 2


@pytest.mark.parametrize(
    ("footage", "queue", "priority"),
    [
        (timedelta(), "asked", 20),
        (59 * timedelta(seconds=1), "asked", 20),
        (10 * MINUTE, "asked", 30),
        (10 * MINUTE + timedelta(microseconds=1), "media", 30),
        (480 * MINUTE, "media", 30),
    ],
)
def test_what_somebody_waits_for_goes_shortest_first_and_long_work_with_long_work(
    footage: timedelta, queue: str, priority: int
) -> None:
    found = wanted(footage)
    assert (found.queue, found.priority) == (queue, priority)
