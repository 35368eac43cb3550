"""What runs on a machine, how each is started, and when it counts as ready."""

from __future__ import annotations

import http.client
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

from cli.supervise import Program
from config.settings import Settings
from messaging import broker

PROBE_TIMEOUT_S = 1.0
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where such a listener is asked

BROKER, RELAY, WORKERS, LISTENERS = range(4)

# `-P`: a folder called `api` where somebody happens to stand is not our program.
PYTHON = (sys.executable, "-P", "-m")


def all_programs(settings: Settings) -> list[Program]:
    """Everything `liuhen up` runs."""
    found = []
    path = broker.socket_path(settings.broker_url)
    if settings.broker.url is None and path is not None:
        found.append(
            Program("broker", broker.command(path), BROKER, lambda _log, _start: broker.is_answering(path))
        )
    found.append(Program("relay", (*PYTHON, "workers.relay"), RELAY, says(b"relay_ready")))
    found += worker_programs(settings)
    ingest, api, media = settings.ingest, settings.api, settings.media
    found += [
        Program("ingest", (*PYTHON, "ingest.daemon.main"), LISTENERS,
                answers(ingest.host, ingest.port, "/readyz", ingest.tls_cert is not None)),
        Program("api", (*PYTHON, "api.app"), LISTENERS,
                answers(api.host, api.port, "/readyz", api.tls_cert is not None)),
        Program("media", (*PYTHON, "api.listener"), LISTENERS,
                answers(media.host, media.port, "/healthz", media.tls_cert is not None)),
    ]  # fmt: skip
    return found


def worker_programs(settings: Settings) -> list[Program]:
    """One process each for reading back, for what makes new footage playable, for what somebody waits for,
    and for jobs that must run alone; the others for media, who help with both while they have nothing longer
    to do."""
    names: dict[str, tuple[str, ...]] = {
        "worker-io": ("io",),
        "worker-quick": ("quick",),
        "worker-asked": ("asked",),
        "worker-isolated": ("isolated",),
    }
    media = range(1, settings.worker.processes + 1)
    names |= {f"worker-media-{number}": ("quick", "asked", "media") for number in media}
    return [
        Program(name, (*PYTHON, "workers.app", *queues), WORKERS, says(b"worker_ready"), needs="broker")
        for name, queues in names.items()
    ]


def says(word: bytes) -> Callable[[Path | None, int], bool]:
    """Ready once the word stands in the log; without a log, at once."""

    def look(log: Path | None, start: int) -> bool:
        if log is None:
            return True
        with log.open("rb") as file:
            file.seek(start)
            return word in file.read(1 << 20)

    return look


def answers(host: str, port: int, path: str, is_tls: bool) -> Callable[[Path | None, int], bool]:
    """Ready once the listener answers 200."""

    def ask(_log: Path | None, _start: int) -> bool:
        address = ANY_ADDRESS.get(host, host)
        connection: http.client.HTTPConnection
        if is_tls:
            # Only whether it lives: nothing is sent, and the certificate names the outside address.
            context = ssl._create_unverified_context()  # noqa: S323
            connection = http.client.HTTPSConnection(address, port, timeout=PROBE_TIMEOUT_S, context=context)
        else:
            connection = http.client.HTTPConnection(address, port, timeout=PROBE_TIMEOUT_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return ask
