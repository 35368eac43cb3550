"""The relay: announces jobs, takes back dead leases, sequences and signs custody, tells of bindings, wants
what is due.

One at a time by a lease in the table `leadership`; a second relay waits. Even two at once do no
harm: announcing twice is noise, sweeping locks rows, and the primary key of `custody_sequence` lets
only one sequencer's batch in.
"""

from __future__ import annotations

import signal
import threading
import time
from datetime import date, timedelta
from uuid import UUID

import structlog

from config.load import load_settings
from config.logs import set_up_logging
from config.settings import Settings
from evidence.errors import Conflict, CustodyError, EvidenceError
from messaging.events import EventPublisher, Forwarder
from messaging.jobs import Announcer
from storage.db import agencies, leadership
from storage.open import Storage, open_storage
from storage.sequencer import sequence_agency
from workers.bindings import BindingNews
from workers.cadence import Cadence
from workers.context import worker_label
from workers.runner import announce_due
from workers.schedule import check_absence, tell_unkept_plans, want_rereads
from workers.sweep import Sweep

LEADERSHIP = "relay"
LEAD_S = 6.0
SCHEDULE_EVERY_S = 60.0
log = structlog.get_logger()


class Relay:
    """The relay's loop and its single steps, which tests call one by one."""

    def __init__(
        self, storage: Storage, settings: Settings, announcer: Announcer, publisher: EventPublisher
    ) -> None:
        self._storage = storage
        self._settings = settings
        self._announcer = announcer
        self._publisher = publisher
        self._sweep = Sweep(storage, settings.worker, publisher)
        self._bindings = BindingNews(storage, publisher)
        self._owner = worker_label()
        self._renew_at = 0.0
        worker = settings.worker
        self._signing = Cadence(
            worker.checkpoint_every_s, worker.checkpoint_busy_every_s, now_s=time.monotonic()
        )
        self._scheduled_at = time.monotonic() - SCHEDULE_EVERY_S
        self._checked_days: dict[UUID, date] = {}

    def wait_for_lead(self, stop: threading.Event) -> bool:
        """Wait until this relay leads; False when told to stop before."""
        while not stop.is_set():
            try:
                if self._leads():
                    return True
            except EvidenceError as error:
                log.warning("relay_waits", reason=error.message)
            stop.wait(1.0)
        return False

    def run(self, stop: threading.Event) -> None:
        """Round after round until told to stop, or until another relay leads.

        A failing round is logged and the next one tried. A relay that lost the lead, because it was frozen
        for long, ends; its supervisor starts it again and it waits.
        """
        pause = self._settings.worker.relay_every_s
        while not stop.wait(pause):
            try:
                if not self.round():
                    log.warning("relay_lost_lead")
                    break
            except EvidenceError as error:
                log.warning("relay_round_failed", reason=error.message)
            except Exception:
                # A bug in one round must not end the relay: without it no job is announced or taken back.
                log.exception("relay_round_failed")
        with self._storage.database.transaction() as session:
            leadership.resign(session, LEADERSHIP, self._owner)

    def round(self) -> bool:
        """One round; False when another relay leads."""
        if not self._leads():
            return False
        self.sweep()
        announce_due(self._storage, self._announcer, self._settings.worker.announce_again_s)
        if self._signing.is_due(time.monotonic()):
            placed = self.sequence()
            self._signing.took(placed, time.monotonic())
        if time.monotonic() - self._scheduled_at >= SCHEDULE_EVERY_S:
            # Before, so that a schedule that fails waits for its next time instead of filling every round.
            self._scheduled_at = time.monotonic()
            self.schedule()
        # Last, so that nothing but people waits for news that cannot be told.
        self._bindings.round()
        return True

    def schedule(self) -> None:
        """Want what is due by the clock."""
        wanted = want_rereads(self._storage, timedelta(days=self._settings.worker.reread_days))
        if wanted:
            log.info("rereads_wanted", count=wanted)
        if told := tell_unkept_plans(self._storage):
            log.warning("plans_unkept", count=told)
        for event in check_absence(self._storage, self._checked_days):
            self._publisher.publish(event)

    def _leads(self) -> bool:
        """Hold the lead; the row is written only when a third of it has run out."""
        if time.monotonic() < self._renew_at:
            return True
        with self._storage.database.transaction() as session:
            leads = leadership.lead(
                session, LEADERSHIP, self._owner, self._storage.clock.now(), timedelta(seconds=LEAD_S)
            )
        self._renew_at = time.monotonic() + LEAD_S / 3 if leads else 0.0
        return leads

    def sweep(self) -> int:
        """Take back the leases of workers that fell silent; the number taken back."""
        return self._sweep.round()

    def sequence(self) -> int:
        """Give waiting leaves their places and sign a checkpoint for each agency; the number placed."""
        with self._storage.database.read() as session:
            ids = [row.id for row in agencies.agencies(session)]
        placed = 0
        for agency_id in ids:
            try:
                placed += sequence_agency(self._storage, agency_id)
            except (CustodyError, Conflict) as error:
                # A log that contradicts itself is not signed on; the other agencies' logs go on.
                log.error("sequence_failed", agency=str(agency_id), code=error.code, reason=error.message)  # noqa: TRY400
        return placed


def main() -> None:
    """Run the relay and the event forwarder until SIGTERM."""
    settings = load_settings()
    set_up_logging("relay")
    storage = open_storage(settings)
    publisher = EventPublisher(settings.events_publish_url)
    relay = Relay(storage, settings, Announcer(settings.broker_url), publisher)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    log.info("relay_ready")
    if relay.wait_for_lead(stop):
        # Only the leader holds the bus: a second relay would take its addresses away.
        forwarder = Forwarder(settings.events_publish_url, settings.events_subscribe_url)
        forwarder.start()
        relay.run(stop)
        forwarder.stop()
    publisher.close()


if __name__ == "__main__":
    main()
