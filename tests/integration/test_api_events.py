"""Live events: one's own agency, as server-sent events, until the session ends."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from api.routes import events as events_route
from evidence.events import Event, Topic
from messaging.events import EventPublisher, Forwarder
from tests.support.scene import Live, live_scene


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("events")) as live:
        yield live


@pytest.fixture
def publisher(live: Live) -> Iterator[EventPublisher]:
    settings = live.scene.settings
    forwarder = Forwarder(settings.events_publish_url, settings.events_subscribe_url)
    forwarder.start()
    publisher = EventPublisher(settings.events_publish_url)
    yield publisher
    publisher.close()
    forwarder.stop()


def tell(live: Live, publisher: EventPublisher, agency: str, topic: Topic, what: str) -> None:
    publisher.publish(Event(topic, agency, "subject", what, live.scene.clock.now(), {}))


def heard(lines: Iterator[str], until: str) -> list[dict[str, object]]:
    """Events up to the one called `until`."""
    found = []
    for line in lines:
        if line.startswith("data: "):
            found.append(json.loads(line.removeprefix("data: ")))
            if found[-1]["what"] == until:
                break
    return found


def keep_telling(live: Live, publisher: EventPublisher, stop: threading.Event) -> None:
    # A subscription takes a moment to reach the bus; what was told before is nobody's loss but the test's.
    while not stop.wait(0.05):
        tell(live, publisher, "other", Topic.ITEM, "secret")
        tell(live, publisher, "demo", Topic.ITEM, "verified")
        tell(live, publisher, "demo", Topic.JOB, "done")


@pytest.mark.parametrize(("name", "topics"), [("reviewer", {"item", "job"}), ("system_admin", {"job"})])
def test_listeners_hear_their_own_agency_as_far_as_their_role_goes(
    live: Live, publisher: EventPublisher, name: str, topics: set[str]
) -> None:
    stop = threading.Event()
    teller = threading.Thread(target=keep_telling, args=(live, publisher, stop))
    teller.start()
    try:
        with live.as_(name).stream("GET", "/api/v1/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            found = [event for _ in range(3) for event in heard(lines, "done")]
    finally:
        stop.set()
        teller.join()
    assert {event["topic"] for event in found} == topics
    assert {event["agency"] for event in found} == {"demo"}


def test_auditors_hear_nothing(live: Live) -> None:
    assert live.as_("auditor").get("/api/v1/events").status_code == 403


def test_the_stream_ends_with_the_session(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_route, "HEARTBEAT_S", 0.2)
    with live.as_("handler").stream("GET", "/api/v1/events", timeout=httpx.Timeout(20)) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith(":")
        assert any(line == ": ping" for line in lines)
        live.as_("handler").delete("/api/v1/sessions/current")
        began = time.monotonic()
        for _ in lines:
            assert time.monotonic() - began < 10
