"""The local page: what the board shows, for a screen beside the dock. Loopback only, read only."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from threading import Thread
from typing import Any

from liuhen_dock.errors import ConfigError

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
READ_TIMEOUT_S = 10
FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class _Handler(BaseHTTPRequestHandler):
    server_version = "liuhen-dock"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = READ_TIMEOUT_S
    server: PageServer

    def do_GET(self) -> None:
        # A name that was made to point here must not read the page through a browser (DNS rebinding).
        if self.headers.get("Host", "").rpartition(":")[0] not in {HOST, "localhost"}:
            self._answer(HTTPStatus.FORBIDDEN, b"", "text/plain")
        elif self.path == "/state.json":
            body = json.dumps(self.server.snapshot(), ensure_ascii=False).encode("utf-8", "replace")
            self._answer(HTTPStatus.OK, body, "application/json")
        elif self.path in FILES:
            name, kind = FILES[self.path]
            body = resources.files("liuhen_dock").joinpath("assets").joinpath(name).read_bytes()
            self._answer(HTTPStatus.OK, body, kind)
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"", "text/plain")

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)


class PageServer(ThreadingHTTPServer):
    """The page's server."""

    daemon_threads = True

    def __init__(self, port: int, snapshot: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__((HOST, port), _Handler)
        self.snapshot = snapshot


@contextmanager
def page(port: int, snapshot: Callable[[], Mapping[str, Any]]) -> Iterator[PageServer]:
    """Serve the page until the block ends.

    Raises:
        ConfigError: Code ``page_port_taken``.
    """
    try:
        server = PageServer(port, snapshot)
    except OSError as error:
        raise ConfigError(
            f"page.port {port}: expected a free port, found: {error.strerror}", code="page_port_taken"
        ) from error
    thread = Thread(target=server.serve_forever, args=(0.1,), name="page", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
