"""Live events: one's own agency, as server-sent events, until the session ends."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from uuid import UUID

import httpx
import pytest

from api.news import STREAMS_MOST, CasesOf, Listener, NewsRoom, cases_in
from api.routes import events as events_route
from evidence.errors import Unavailable
from evidence.events import Event, Topic
from evidence.ids import new_id
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
        tell(live, publisher, "demo", Topic.REPORT, "found")
        tell(live, publisher, "demo", Topic.ROOM, "recording")
        tell(live, publisher, "demo", Topic.JOB, "done")


@pytest.mark.parametrize(
    ("name", "topics"),
    [
        ("reviewer", {"item", "job"}),
        ("archivist", {"item", "job", "report", "room"}),
        ("system_admin", {"job", "room"}),
    ],
)
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


def test_the_stream_ends_with_the_session_however_much_there_is_to_tell(
    live: Live, publisher: EventPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_route, "HEARTBEAT_S", 1.0)
    stop = threading.Event()
    teller = threading.Thread(target=keep_telling, args=(live, publisher, stop))
    teller.start()
    try:
        with live.as_("archivist").stream("GET", "/api/v1/events") as answer:
            lines = answer.iter_lines()
            assert heard(lines, "done")
            live.as_("archivist").delete("/api/v1/sessions/current")
            began = time.monotonic()
            for _ in lines:
                assert time.monotonic() - began < 10
    finally:
        stop.set()
        teller.join()


def no_case(_agency_id: UUID, _item_id: str) -> frozenset[UUID]:
    return frozenset()


def away(_agency_id: UUID, _item_id: str) -> frozenset[UUID]:
    raise Unavailable("database: away")


@pytest.mark.parametrize("is_away", [False, True])
def test_who_has_a_case_open_hears_of_its_items_alone(
    live: Live, publisher: EventPublisher, is_away: bool
) -> None:
    scene = live.scene
    own = scene.record(case=scene.case_a)
    other = scene.record(case=scene.case_b)
    told = {str(own.item_id): "own", str(other.item_id): "other", str(new_id()): "none"}
    cases_of: CasesOf = away if is_away else cases_in(scene.storage)
    room, loop = NewsRoom(scene.settings.events_subscribe_url, cases_of), asyncio.new_event_loop()
    topics = frozenset({str(Topic.ITEM), str(Topic.CLIP)})
    of_case, of_all = (
        Listener("demo", scene.agency.id, new_id(), topics, loop, case) for case in (scene.case_a.id, None)
    )
    room.join(of_case)
    room.join(of_all)

    async def until_heard() -> tuple[set[str], set[str]]:
        for _ in range(100):
            for subject, what in told.items():
                publisher.publish(Event(Topic.ITEM, "demo", subject, what, scene.clock.now(), {}))
            for case, what in ((scene.case_a, "left"), (scene.case_b, "left_other")):
                facts = {"case": str(case.id)}
                publisher.publish(
                    Event(Topic.ITEM, "demo", str(other.item_id), what, scene.clock.now(), facts)
                )
            tell(live, publisher, "demo", Topic.CLIP, "ready")
            await asyncio.sleep(0.02)
            heard_now = [
                {str(event["what"]) for event in listener.queue._queue}  # type: ignore[attr-defined]
                for listener in (of_case, of_all)
            ]
            if len(heard_now[1]) == 6 and "ready" in heard_now[0]:
                return heard_now[0], heard_now[1]
        raise AssertionError(heard_now)

    try:
        of_one, of_every = loop.run_until_complete(until_heard())
    finally:
        room.leave(of_case)
        room.leave(of_all)
        loop.close()
    assert of_every == {"own", "other", "none", "left", "left_other", "ready"}
    # What leaves the case is told too, though it is tied to another by now.
    assert of_one == (of_every if is_away else {"own", "left", "ready"})


def readers(agency: str) -> int:
    return sum(thread.name == f"events-{agency}" for thread in threading.enumerate())


def test_one_reader_serves_an_agency_however_often_people_come_and_go(live: Live) -> None:
    room, loop = NewsRoom(live.scene.settings.events_subscribe_url, no_case), asyncio.new_event_loop()
    try:
        for _ in range(20):
            listener = Listener("come-and-go", new_id(), new_id(), frozenset(), loop)
            room.join(listener)
            assert readers("come-and-go") == 1
            room.leave(listener)
        deadline = time.monotonic() + 10
        while readers("come-and-go"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        listener = Listener("come-and-go", new_id(), new_id(), frozenset(), loop)
        room.join(listener)
        assert readers("come-and-go") == 1
        room.leave(listener)
    finally:
        loop.close()


def test_an_account_listens_five_times_at_most(live: Live) -> None:
    client = live.as_("legal_reviewer")
    with ExitStack() as stack:
        # Kept, because a stream closes with its iterator.
        open_lines = []
        for _ in range(STREAMS_MOST):
            answer = stack.enter_context(client.stream("GET", "/api/v1/events"))
            open_lines.append(answer.iter_lines())
            assert next(open_lines[-1]).startswith(":")
        refused = client.get("/api/v1/events", timeout=10)
        assert (refused.status_code, refused.json()["code"]) == (429, "streams_too_many")
        with live.as_("officer").stream("GET", "/api/v1/events") as other:
            assert other.status_code == 200
    deadline = time.monotonic() + 10
    while True:
        with client.stream("GET", "/api/v1/events") as answer:
            if answer.status_code == 200:
                break
        assert time.monotonic() < deadline
        time.sleep(0.1)
