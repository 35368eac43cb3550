"""The API as one account: signing in, asking, and what it refuses as errors of this program."""

from __future__ import annotations

import argparse
import getpass
import os
import ssl
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import urlsplit

import httpx

from cli.shell import Parser, add_common, settings_of
from evidence.errors import (
    Conflict,
    EvidenceError,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    Unavailable,
)

Json = dict[str, Any]
TIMEOUT_S = 60.0
TOKEN_VARIABLE = "LIUHEN_TOKEN"  # noqa: S105 - a name, no secret
KINDS: dict[int, type[EvidenceError]] = {
    400: InvalidInput,
    401: NotAuthenticated,
    403: NotPermitted,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    413: InvalidInput,
    422: InvalidInput,
}
"""By status; every other means that it may be had later."""


class Seat:
    """One account at the API.

    Args:
        api_url: Where the API is.
        verify: The certificates that are believed; True: those of the system.
    """

    def __init__(self, api_url: str, verify: ssl.SSLContext | bool = True) -> None:
        self.verify = verify
        self._client = httpx.Client(
            base_url=f"{api_url}/api/v1", timeout=TIMEOUT_S, trust_env=False, verify=verify
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def hold(self, token: str) -> Self:
        """Ask with this token from now on."""
        self._client.headers["Authorization"] = f"Bearer {token}"
        return self

    def sign_in(self, username: str, password: str, agency: str | None = None) -> Self:
        """Open a session and ask in it from now on."""
        body = {"username": username, "password": password, **({"agency": agency} if agency else {})}
        return self.hold(str(self.post("/sessions", body)["token"]))

    def sign_out(self) -> None:
        """End the session."""
        self._ask("DELETE", "/sessions/current")

    def get(self, path: str, **query: object) -> Any:
        """A JSON answer."""
        return json_of(self._ask("GET", path, params=_texts(query)))

    def text(self, path: str, **query: object) -> str:
        """An answer that is a page."""
        return self._ask("GET", path, params=_texts(query)).text

    def post(self, path: str, body: Json) -> Any:
        """A JSON answer to a JSON question."""
        return json_of(self._ask("POST", path, json=body))

    def send(self, path: str, file: BinaryIO, headers: Mapping[str, str], **query: object) -> Any:
        """A JSON answer to a file, which is read while it is sent."""
        more = {"content": file, "headers": dict(headers), "params": _texts(query)}
        return json_of(self._ask("POST", path, **more))

    def content(self, method: str, path: str, body: Json | None = None) -> bytes:
        """An answer that is a file."""
        return self._ask(method, path, **({} if body is None else {"json": body})).content

    def pages(self, path: str, **query: object) -> list[Json]:
        """Every entry of a paged list."""
        found: list[Json] = []
        cursor: str | None = None
        while True:
            page = self.get(path, **query, **({"cursor": cursor} if cursor else {}))
            found += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **more)
        except httpx.TransportError as error:
            raise unreachable(str(self._client.base_url), error) from error
        if not answer.is_success:
            raise refusal(answer)
        return answer


def json_of(answer: httpx.Response) -> Any:
    """What an answer says; another server than ours answers otherwise."""
    try:
        return answer.json()
    except ValueError as error:
        raise Unavailable(
            "API: expected JSON, found something else; look at --url", code="api_refused"
        ) from error


def _texts(query: Json) -> dict[str, str]:
    return {name: str(value) for name, value in query.items()}


def unreachable(address: str, error: Exception) -> Unavailable:
    """Nobody answers there."""
    place = "{0.scheme}://{0.netloc}".format(urlsplit(address))
    return Unavailable(f"{place}: expected an answer, found: {error}", code="api_unreachable")


def refusal(answer: httpx.Response) -> EvidenceError:
    """What an answer that is no success says, in the words and by the code of the API."""
    body: Any = None
    if answer.headers.get("content-type", "").startswith("application/problem+json"):
        body = answer.json()
    kind = KINDS.get(answer.status_code, Unavailable)
    if isinstance(body, dict) and "detail" in body and "code" in body:
        return kind(str(body["detail"]), code=str(body["code"]))
    return kind(f"API: expected success, found {answer.status_code}", code="api_refused")


def add_seat(parser: Parser) -> None:
    """The options of a command that asks the API as an account."""
    group = parser.add_argument_group("登录 / signing in")
    group.add_argument(
        "--url", metavar="URL", help="接口地址,默认本机 / where the API is; default this machine's (api.*)"
    )
    group.add_argument("--user", metavar="NAME", help=f"用户名,或设 / user name; or set {TOKEN_VARIABLE}")
    group.add_argument(
        "--password-stdin", action="store_true", help="从标准输入读口令 / read the password from stdin"
    )
    group.add_argument(
        "--ca", type=Path, metavar="FILE", help="本单位根证书(PEM)/ the agency's own root certificate"
    )
    add_common(parser)


@contextmanager
def seated(options: argparse.Namespace) -> Iterator[Seat]:
    """A seat as the options say; a session that was opened for it ends with it.

    Raises:
        InvalidInput: Nobody was named, the password would go in the clear, or nobody is there to type it.
        NotAuthenticated: Wrong user name or password, or the token has ended or is none.
    """
    url = str(options.url or settings_of(options).api_url).rstrip("/")
    _require_safe(url)
    verify = ssl.create_default_context(cafile=options.ca) if options.ca is not None else True
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if options.user is None and not token:
        raise InvalidInput(
            f"--user: expected whose account to ask as, found none; name one or set {TOKEN_VARIABLE}",
            code="user_missing",
        )
    with Seat(url, verify) as seat:
        if options.user is None:
            yield seat.hold(_sendable(token))
            return
        seat.sign_in(options.user, _password(options), options.agency)
        try:
            yield seat
        finally:
            seat.sign_out()


def _sendable(token: str) -> str:
    """A token as it is; what no header can carry would be told of whole, in words that are printed."""
    if not (token.isascii() and token.isprintable()):
        raise NotAuthenticated(
            f"{TOKEN_VARIABLE}: expected a token, found other characters in it", code="session_unknown"
        )
    return token


def _require_safe(url: str) -> None:
    """Off this machine a password goes over TLS or not at all."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidInput(
            "--url: expected http:// or https:// and a host, found another", code="url_invalid"
        )
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise InvalidInput(
            "--url: expected https:// for another machine, found http://; a password would be readable",
            code="url_insecure",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _password(options: argparse.Namespace) -> str:
    if options.password_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise InvalidInput(
            f"口令 / password of {options.user}: expected a terminal to ask at, found none; give it by "
            f"--password-stdin, or set {TOKEN_VARIABLE} and leave --user out",
            code="password_missing",
        )
    return getpass.getpass(f"口令 / password of {options.user}: ")
