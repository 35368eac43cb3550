"""A worker process: one Celery consumer that looks for jobs, and dies with its supervisor.

Started by `workers.supervisor` as `python -m workers.app QUEUE…`. The pool is `solo`: one process, one
job at a time, so that the death of a worker is the death of exactly one attempt.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
import threading
import time
from datetime import timedelta

import structlog
from celery.signals import worker_ready, worker_shutting_down

from config.load import load_settings
from config.logs import set_up_logging
from evidence.errors import Unavailable
from messaging.events import EventPublisher
from messaging.jobs import LOOK, QUEUES, Announcer, make_app
from storage.db import jobs
from storage.open import open_storage
from transcode.encoders import SOFTWARE
from workers.making import encoder_of_machine
from workers.runner import Runner
from workers.scratch import clear_abandoned
from workers.tasks import TASKS

PR_SET_PDEATHSIG = 1
PARENT = "LIUHEN_PARENT_PID"
DEAF_AFTER_S = 20.0
IO_NICENESS = 5
"""Reading back is bulk work; what makes footage playable at the same time goes first."""
WATCH_EVERY_S = 2.0
log = structlog.get_logger()


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its supervisor dies; leave if that already happened."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    expected = os.environ.get(PARENT)
    if expected is not None and os.getppid() != int(expected):
        raise SystemExit(0)


def main(queues: tuple[str, ...]) -> None:
    """Serve the queues until SIGTERM."""
    die_with_parent()
    settings = load_settings()
    set_up_logging("worker")
    if queues == ("io",):
        os.nice(IO_NICENESS)
    storage = open_storage(settings)
    publisher = EventPublisher(settings.events_publish_url)
    # Quick jobs agree on the encoder of long recordings; who works alone does without a driver's faults.
    encoder = SOFTWARE if {"quick", "media"}.isdisjoint(queues) else encoder_of_machine(settings)
    runner = Runner(storage, settings, TASKS, queues, publisher, Announcer(settings.broker_url), encoder)
    app = make_app(settings.broker_url)
    stopping = threading.Event()
    busy = threading.Event()

    def look(_job_id: str) -> None:
        # The message names a job, the database decides which is the most urgent now.
        busy.set()
        try:
            while runner.look():
                pass
        except Unavailable as error:
            log.warning("look_failed", reason=error.message)
        finally:
            busy.clear()

    app.task(look, name=LOOK, acks_late=True, ignore_result=True)

    def watch() -> None:
        """A consumer that went deaf (a broker that was reset) is replaced by its supervisor."""
        waiting_since: float | None = None
        cleared_at = -math.inf
        while not stopping.wait(WATCH_EVERY_S):
            try:
                if time.monotonic() - cleared_at > settings.worker.lease_s:
                    cleared_at = time.monotonic()
                    clear_abandoned(storage)
                with storage.database.read() as session:
                    waits = jobs.has_waited(
                        session, queues, storage.clock.now(), timedelta(seconds=DEAF_AFTER_S)
                    )
            except Unavailable:
                continue
            if busy.is_set() or not waits:
                waiting_since = None
            elif waiting_since is None:
                waiting_since = time.monotonic()
            elif time.monotonic() - waiting_since > DEAF_AFTER_S:
                log.error("worker_deaf", queues=queues)
                os._exit(75)

    threading.Thread(target=watch, name="deafness", daemon=True).start()
    worker_ready.connect(lambda **_: log.info("worker_ready", queues=queues), weak=False)
    worker_shutting_down.connect(lambda **_: stopping.set(), weak=False)
    worker_shutting_down.connect(lambda **_: runner.stop(), weak=False)
    app.worker_main(
        ["worker", "--pool=solo", "--without-gossip", "--without-mingle", "--without-heartbeat",
         f"--queues={','.join(queues)}", f"--hostname={queues[0]}-{os.getpid()}@%h", "--loglevel=WARNING"]
    )  # fmt: skip
    publisher.close()


if __name__ == "__main__":
    chosen = tuple(sys.argv[1:]) or QUEUES
    main(chosen)
