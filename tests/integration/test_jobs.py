"""The queue of record: one commit a job, whatever is lost, doubled, frozen or dead."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func, select

from evidence.errors import Conflict
from evidence.ids import new_id
from storage.db import jobs, leadership
from storage.db.jobs import Lease, Wanted
from storage.db.tables import Agency, Job
from storage.open import Storage, found
from tests.support.clocks import SettableClock, let_pass
from tests.support.databases import laid_url
from tests.support.installations import AGENCY, settings_for

LEASE = timedelta(seconds=30)
DIGEST = bytes(range(32))


def agency_id(storage: Storage) -> UUID:
    with storage.database.read() as session:
        return session.scalars(select(Agency.id)).one()


def want(storage: Storage, subject: UUID, **changes: object) -> None:
    wanted = Wanted("verify", "io", subject, DIGEST)
    with storage.database.transaction() as session:
        jobs.want(session, agency_id(storage), Wanted(**{**vars(wanted), **changes}), storage.clock.now())  # type: ignore[arg-type]


def lease(storage: Storage, owner: str = "w1", queues: tuple[str, ...] = ("io", "media")) -> Lease | None:
    with storage.database.transaction() as session:
        return jobs.take_next_lease(session, queues, owner, storage.clock.now(), LEASE)


def commit(storage: Storage, held: Lease) -> None:
    with storage.database.transaction() as session:
        jobs.hold_fence(session, held)
        jobs.finish(session, held, storage.clock.now())


def state_of(storage: Storage, subject: UUID) -> Job:
    with storage.database.read() as session:
        return session.scalars(select(Job).where(Job.subject_id == subject)).one()


def sweep(storage: Storage, max_deaths: int = 5, isolate: int = 3) -> int:
    now = storage.clock.now()
    with storage.database.transaction() as session:
        taken = [
            jobs.take_back(session, *each, now, max_deaths=max_deaths, isolate_after_deaths=isolate)
            for each in jobs.silent(session, now)
        ]
    return sum(job is not None for job in taken)


def test_wanting_twice_makes_one_job(storage: Storage) -> None:
    subject = new_id()
    want(storage, subject)
    want(storage, subject)
    with storage.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 1


def test_a_job_that_was_let_go_comes_back_when_it_is_wanted(storage: Storage, clock: SettableClock) -> None:
    subject = new_id()
    want(storage, subject)
    held = lease(storage)
    assert held is not None
    with storage.database.transaction() as session:
        jobs.put_back(session, held, clock.now(), reason="x", counts=True, max_attempts=3)
        jobs.cancel_ready(session, agency_id(storage), subject, {"verify"})
    assert state_of(storage, subject).state == "cancelled"
    want(storage, subject)
    again = lease(storage)
    assert again is not None
    assert (again.job_id, again.attempt, again.fence) == (held.job_id, 0, held.fence + 1)
    commit(storage, again)
    want(storage, subject)
    assert state_of(storage, subject).state == "done"


def test_other_parameters_make_another_job(storage: Storage) -> None:
    subject = new_id()
    want(storage, subject, params={"rung": "360p"})
    want(storage, subject, params={"rung": "1080p"})
    with storage.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 2


def test_a_rolled_back_want_leaves_no_job(storage: Storage) -> None:
    with pytest.raises(RuntimeError), storage.database.transaction() as session:
        jobs.want(session, agency_id(storage), Wanted("verify", "io", new_id()), storage.clock.now())
        raise RuntimeError("power cut")
    with storage.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 0


def test_most_urgent_job_comes_first(storage: Storage) -> None:
    late, urgent = new_id(), new_id()
    want(storage, late, priority=50)
    want(storage, urgent, priority=10)
    held = lease(storage)
    assert held is not None
    assert held.subject_id == urgent


def test_a_job_that_steps_back_is_taken_when_its_time_has_come(
    storage: Storage, clock: SettableClock
) -> None:
    later, now = new_id(), new_id()
    want(storage, later, priority=10, after_s=2)
    want(storage, now, priority=50)
    first = lease(storage)
    assert first is not None
    assert first.subject_id == now
    assert lease(storage) is None
    let_pass(storage, clock, 2.1)
    second = lease(storage)
    assert second is not None
    assert second.subject_id == later


def test_a_leased_job_is_nobody_elses(storage: Storage) -> None:
    want(storage, new_id())
    assert lease(storage, "w1") is not None
    assert lease(storage, "w2") is None


def test_twelve_workers_win_six_jobs_once_each(storage: Storage) -> None:
    for _ in range(6):
        want(storage, new_id())
    won: list[Lease] = []
    lock = threading.Lock()

    def work(name: str) -> None:
        while (held := lease(storage, name)) is not None:
            with lock:
                won.append(held)
            commit(storage, held)

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 6
    assert len({held.job_id for held in won}) == 6


def test_a_worker_that_wakes_up_late_commits_nothing(storage: Storage, clock: SettableClock) -> None:
    subject = new_id()
    want(storage, subject)
    frozen = lease(storage, "frozen")
    assert frozen is not None
    let_pass(storage, clock, 60)
    assert sweep(storage) == 1
    second = lease(storage, "second")
    assert second is not None
    assert second.fence == frozen.fence + 1
    commit(storage, second)
    with pytest.raises(Conflict) as refused:
        commit(storage, frozen)
    assert refused.value.code == "lease_lost"
    assert state_of(storage, subject).state == "done"


def test_heartbeat_keeps_a_long_job(storage: Storage, clock: SettableClock) -> None:
    want(storage, new_id())
    held = lease(storage)
    assert held is not None
    for _ in range(5):
        let_pass(storage, clock, 20)
        with storage.database.transaction() as session:
            assert jobs.extend_lease(session, held, clock.now(), LEASE, 100)
        assert sweep(storage) == 0


def test_deaths_isolate_then_quarantine(storage: Storage, clock: SettableClock) -> None:
    subject = new_id()
    want(storage, subject)
    for death in range(1, 6):
        queues = ("io",) if death <= 3 else ("isolated",)
        assert lease(storage, f"victim{death}", queues) is not None
        let_pass(storage, clock, 60)
        assert sweep(storage) == 1
        job = state_of(storage, subject)
        assert job.deaths == death
        assert job.attempt == 0
        assert job.queue == ("isolated" if death >= 3 else "io")
    assert state_of(storage, subject).state == "quarantined"
    assert lease(storage, "w", ("io", "media", "isolated")) is None


def test_failures_back_off_and_end_in_quarantine(storage: Storage, clock: SettableClock) -> None:
    subject = new_id()
    want(storage, subject)
    for attempt in range(1, 4):
        held = lease(storage)
        assert held is not None
        with storage.database.transaction() as session:
            state = jobs.put_back(session, held, clock.now(), reason="broken", counts=True, max_attempts=3)
        assert state == ("quarantined" if attempt == 3 else "ready")
        assert lease(storage) is None
        let_pass(storage, clock, 600)
    assert state_of(storage, subject).last_error == "broken"


def test_the_surroundings_fault_is_no_attempt(storage: Storage, clock: SettableClock) -> None:
    subject = new_id()
    want(storage, subject)
    for _ in range(10):
        held = lease(storage)
        assert held is not None
        with storage.database.transaction() as session:
            jobs.put_back(session, held, clock.now(), reason="disk full", counts=False, max_attempts=3)
        let_pass(storage, clock, 10)
    assert state_of(storage, subject).attempt == 0


def test_requeue_gives_fresh_attempts(storage: Storage, clock: SettableClock) -> None:
    subject = new_id()
    want(storage, subject)
    held = lease(storage)
    assert held is not None
    with storage.database.transaction() as session:
        jobs.put_back(session, held, clock.now(), reason="bad", counts=True, max_attempts=3, quarantine=True)
    with storage.database.transaction() as session:
        jobs.requeue(session, held.agency_id, held.job_id, clock.now())
    again = lease(storage)
    assert again is not None
    assert again.attempt == 0


def test_only_a_quarantined_job_is_requeued(storage: Storage, clock: SettableClock) -> None:
    want(storage, new_id())
    held = lease(storage)
    assert held is not None
    with pytest.raises(Conflict), storage.database.transaction() as session:
        jobs.requeue(session, held.agency_id, held.job_id, clock.now())


def test_lost_messages_are_sent_again(storage: Storage, clock: SettableClock) -> None:
    want(storage, new_id())

    def due() -> int:
        with storage.database.transaction() as session:
            return len(jobs.to_announce(session, clock.now(), timedelta(seconds=15), "io"))

    assert due() == 1
    assert due() == 0
    let_pass(storage, clock, 20)
    assert due() == 1


def test_a_long_backlog_is_told_in_few_messages(storage: Storage, clock: SettableClock) -> None:
    for _ in range(100):
        want(storage, new_id())
    told = 0
    for _ in range(10):
        with storage.database.transaction() as session:
            told += len(jobs.to_announce(session, clock.now(), timedelta(seconds=15), "io"))
    assert told == 32


def test_a_clock_stepped_back_loses_no_job(storage: Storage, clock: SettableClock) -> None:
    subject = new_id()
    want(storage, subject)
    held = lease(storage)
    assert held is not None
    clock.advance(-3600)
    commit(storage, held)
    assert state_of(storage, subject).state == "done"


@pytest.fixture
def ahead_and_behind(tmp_path: Path) -> Iterator[tuple[Storage, Storage]]:
    """Two hosts of one PostgreSQL, whose clocks are ten minutes ahead of and behind the database's."""
    settings = settings_for(tmp_path, laid_url("postgresql", tmp_path))
    now = datetime.now(UTC)
    ahead = SettableClock(now + timedelta(minutes=10))
    storage = replace(found(settings, AGENCY, ahead), clock=ahead)
    yield storage, replace(storage, clock=SettableClock(now - timedelta(minutes=10)))
    storage.database.dispose()


def test_a_host_whose_clock_is_behind_keeps_its_lease(ahead_and_behind: tuple[Storage, Storage]) -> None:
    ahead, behind = ahead_and_behind
    want(ahead, new_id())
    held = lease(behind)
    assert held is not None, "a job wanted by a host that is ahead is ready at once"
    assert sweep(ahead) == 0
    with behind.database.transaction() as session:
        assert jobs.extend_lease(session, held, behind.clock.now(), LEASE, 1)
    assert sweep(ahead) == 0
    commit(behind, held)


def test_a_host_whose_clock_is_ahead_holds_its_lease_no_longer(
    ahead_and_behind: tuple[Storage, Storage],
) -> None:
    ahead, behind = ahead_and_behind
    subject = new_id()
    want(behind, subject)
    with ahead.database.transaction() as session:
        held = jobs.take_next_lease(session, ("io",), "w1", ahead.clock.now(), timedelta(seconds=0.2))
    assert held is not None
    assert sweep(behind) == 0
    time.sleep(0.3)
    assert sweep(behind) == 1
    job = state_of(behind, subject)
    assert abs(job.run_after - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_relay_whose_clock_is_ahead_takes_no_lead(ahead_and_behind: tuple[Storage, Storage]) -> None:
    ahead, behind = ahead_and_behind

    def leads(storage: Storage, owner: str) -> bool:
        with storage.database.transaction() as session:
            return leadership.lead(session, "relay", owner, storage.clock.now(), timedelta(seconds=6))

    assert leads(behind, "first")
    assert not leads(ahead, "second")
    assert leads(behind, "first")
