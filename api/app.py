"""The HTTP API: builds the application and serves it (`liuhen api`).

Errors become problem details in `api.problems`, who may call what is declared at each route
(`api.auth.gate`), queries live in `storage.db`. One request is one transaction.
"""

from __future__ import annotations

import threading
from urllib.parse import urlsplit

from fastapi import FastAPI
from granian.constants import Interfaces

from api import problems, serving
from api.auth.calling import Calls
from api.auth.gate import Gate
from api.auth.throttle import Throttle
from api.desk import Installation
from api.hardening import Hardening, Metrics
from api.live_sharing import encodes_of
from api.news import NewsRoom, cases_in
from api.room_metrics import RoomMetrics
from api.routes import (
    accounts,
    alarms,
    bindings,
    cases,
    clip_sets,
    clips,
    conduct,
    continuity,
    custody,
    devices,
    events,
    grants,
    items,
    jobs,
    ledger,
    live,
    live_masks,
    playlists,
    receipts,
    redaction,
    releases,
    reports,
    reviews,
    rooms,
    scheduling,
    session_masks,
    sessions,
    sets,
    system,
)
from config.load import SettingsError, load_settings
from config.logs import set_up_logging
from config.settings import Settings
from evidence.errors import EvidenceError
from storage.open import Storage, open_storage
from storage.passing import clear_passed
from transcode.live_encodes import Kind

GATES: tuple[Gate, ...] = (
    sessions.gate,
    cases.gate,
    items.gate,
    continuity.gate,
    bindings.gate,
    grants.gate,
    playlists.gate,
    sets.gate,
    clips.gate,
    clip_sets.gate,
    redaction.gate,
    reviews.gate,
    releases.gate,
    custody.gate,
    devices.gate,
    ledger.gate,
    reports.gate,
    rooms.gate,
    scheduling.gate,
    conduct.gate,
    session_masks.gate,
    live.gate,
    live_masks.gate,
    accounts.gate,
    jobs.gate,
    receipts.gate,
    alarms.gate,
    events.gate,
    system.gate,
)

DESCRIPTION = """\
行政执法音像记录:按案件编号查找、调阅脱敏件、取走片段;流转可验证。

Audio-visual records of administrative law enforcement: find by case number, watch what is masked, take
clips away; custody can be verified. Sign in at `POST /api/v1/sessions` and send the token as
`Authorization: Bearer …`. Lists page by `cursor`. Errors are problem details (RFC 9457) with a stable
`code`.
"""


def create_app(storage: Storage, settings: Settings) -> FastAPI:
    """The application over an opened installation."""
    app = FastAPI(
        title="留痕 Liuhen",
        version="1",
        description=DESCRIPTION,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.installation = Installation(storage, settings)
    app.state.metrics = Metrics()
    app.state.metrics.registry.register(RoomMetrics(storage, settings.recorder.rooms))
    app.state.throttle = Throttle()
    app.state.calls = Calls()
    app.state.news = NewsRoom(settings.events_subscribe_url, cases_in(storage))
    problems.install(app)
    for gate in GATES:
        app.include_router(gate.router)
    app.add_middleware(
        Hardening,
        metrics=app.state.metrics,
        media_origin=origin_of(settings.media_url),
        cvat_body_bytes=settings.api.cvat_body_bytes,
    )
    return app


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, as content security policies name it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def main() -> None:
    """Serve the API until SIGTERM.

    Raises:
        InvalidInput: The listener would not be private.
        Unavailable: There is no installation, or the port is taken.
    """
    set_up_logging("api")
    settings = load_settings()
    listener = serving.listener_of("api", settings.api)
    listener.require_private()
    storage = open_storage(settings)
    clear_passed(storage.scratch)
    app = create_app(storage, settings)
    stop = threading.Event()
    for kind in Kind:
        keep_clear = encodes_of(app.state.installation, kind).keep_clear
        threading.Thread(target=keep_clear, args=(stop,), name=f"{kind}-clear", daemon=True).start()
    try:
        serving.run(app, listener, Interfaces.ASGI)
    finally:
        stop.set()


if __name__ == "__main__":
    try:
        main()
    except (EvidenceError, SettingsError) as error:
        raise SystemExit(f"liuhen api: {error}") from error
