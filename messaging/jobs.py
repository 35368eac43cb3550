"""Telling workers by name that there is work: a message says "look", the database says what.

Lost, doubled, late or reordered messages change nothing but the time of day (invariant 5).
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import structlog
from celery import Celery
from kombu.entity import Queue
from kombu.exceptions import OperationalError

from evidence.errors import Unavailable

log = structlog.get_logger()
LOOK = "liuhen.look"
QUEUES = ("io", "quick", "asked", "media", "isolated")


def make_app(broker_url: str) -> Celery:
    """The Celery application, the same for those who announce and those who look."""
    app = Celery("liuhen", broker=broker_url)
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        task_ignore_result=True,
        task_queues=[Queue(name) for name in QUEUES],  # type: ignore[no-untyped-call]
        task_create_missing_queues=False,
        task_default_queue="media",
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            # Redelivery is the relay's work; a message held longer than this is only noise.
            "visibility_timeout": 3600,
            "socket_connect_timeout": 5,
            "socket_timeout": 30,
            "retry_on_timeout": True,
            "health_check_interval": 10,
        },
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    return app


class Announcer:
    """Sends "look at job N".

    Args:
        broker_url: Where the broker is.
    """

    def __init__(self, broker_url: str) -> None:
        self._app = make_app(broker_url)

    def announce(self, job_id: UUID, queue: str) -> None:
        """Send one message.

        Raises:
            Unavailable: The broker does not answer; the relay announces again later.
        """
        try:
            self._app.send_task(
                LOOK, args=[str(job_id)], queue=queue, retry=False, expires=3600, ignore_result=True
            )
        except (OperationalError, OSError) as error:
            raise Unavailable(
                f"broker: expected an answer, found {type(error).__name__}; jobs wait in the database",
                code="broker_unavailable",
            ) from error

    def announce_all(self, due: Iterable[tuple[UUID, str]]) -> int:
        """Send one message a job until the broker falls silent, which is logged; the number sent."""
        sent = 0
        for job_id, queue in due:
            try:
                self.announce(job_id, queue)
            except Unavailable as error:
                log.warning("broker_unavailable", reason=error.message)
                break
            sent += 1
        return sent

    def close(self) -> None:
        """Let go of connections."""
        self._app.close()
