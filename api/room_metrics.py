"""What the streams of rooms do, as Prometheus reads it: looked up when it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from config.rooms import RoomSettings
from evidence.errors import Unavailable
from ingest.recorder import registry
from ingest.recorder.registry import StreamNow
from ingest.recorder.stream import Phase
from storage.db import agencies
from storage.db.room_tables import RoomStream
from storage.open import Storage

LABELS = ("agency", "room", "stream")
SAID: tuple[tuple[str, str, Callable[[RoomStream], float | None]], ...] = (
    ("bytes_per_second", "Bytes that come", lambda said: said.bytes_s),
    ("pictures_per_second", "Pictures that come", lambda said: said.pictures_s),
    ("silence_seconds", "Since the last packet", lambda said: said.silent_ms and said.silent_ms / 1000),
    ("waiting_bytes", "Received and not written yet", lambda said: said.waiting_bytes),
    ("restarts", "Connections lost since its host began to watch", lambda said: said.restarts),
    ("free_bytes", "Room on its disk above the floor", lambda said: said.free_bytes),
    ("copy_lag_bytes", "Recorded and not in the second store yet", lambda said: said.copy_lag_bytes),
)
log = structlog.get_logger()


class RoomMetrics(Collector):
    """Gauges of every stream of the settings.

    Args:
        rooms: Of the settings of this host.
    """

    def __init__(self, storage: Storage, rooms: list[RoomSettings]) -> None:
        self._storage, self._rooms = storage, rooms

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: whoever registers this must not ask the database for it."""
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One family each; none while the database is away."""
        try:
            found = self._found()
        except Unavailable as error:
            log.warning("room_metrics_unknown", reason=error.message)
            return
        yield _family("up", "Whether it is being recorded", found, lambda each: each.phase is Phase.RECORDING)
        yield _family(
            "away", "Whether people were told that it is wanted and away", found, lambda each: each.is_away
        )
        for name, words, value in SAID:
            yield _family(name, words, found, partial(_as_said, value))

    def _found(self) -> list[tuple[tuple[str, str, str], StreamNow]]:
        found = []
        now = self._storage.clock.now()
        with self._storage.database.read() as session:
            for agency in agencies.agencies(session):
                rooms = registry.rooms_of(session, agency, self._rooms)
                for room_no, streams in registry.streams_now(session, agency, rooms, now).items():
                    found += [((agency.code, room_no, each.name), each) for each in streams]
        return found


def _as_said(value: Callable[[RoomStream], float | None], stream: StreamNow) -> float | None:
    # Of what nobody has said anything lately, the last rates would look like recording.
    return None if stream.said is None or stream.phase is None else value(stream.said)


def _family(
    name: str,
    words: str,
    found: list[tuple[tuple[str, str, str], StreamNow]],
    value: Callable[[StreamNow], float | None],
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"liuhen_room_stream_{name}", words, labels=LABELS)
    for labels, each in found:
        known = value(each)
        if known is not None:
            family.add_metric(labels, float(known))
    return family
