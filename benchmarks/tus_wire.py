"""A tus sender written by hand over plain sockets: it can stop, cut and stall at any byte it likes."""

from __future__ import annotations

import base64
import contextlib
import enum
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

TIMEOUT_S = 40.0
PIECE_BYTES = 64 * 1024


class Cut(enum.Enum):
    """What a sender does to its own request, part of the way."""

    FIN = "FIN in mid-body"
    RST = "RST in mid-body"
    STALL = "stall, then a second sender"


@dataclass(frozen=True)
class Answer:
    """A reply as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def offset(self) -> int | None:
        """The offset it tells, if it tells one."""
        text = self.headers.get("upload-offset")
        return None if text is None else int(text)


class WentBack(AssertionError):
    """An offset below one that was told before."""


@dataclass
class Transfer:
    """One file on its way, and everything that was told about it.

    Attributes:
        url: Path of the upload; None before one was made.
        told: The highest offset told.
        created: How often an upload was asked for: answers get lost.
    """

    name: str
    sha256: str
    size_bytes: int
    device_no: str
    url: str | None = None
    told: int = 0
    created: int = 0
    is_whole: bool = False
    answers: int = 0

    def hear(self, answer: Answer) -> None:
        """Take an offset in.

        Raises:
            WentBack: It is below one told before.
        """
        if answer.offset is None:
            return
        self.answers += 1
        if answer.offset < self.told:
            raise WentBack(f"{self.name}: told {self.told}, then {answer.offset} ({answer.status})")
        self.told = answer.offset
        self.is_whole = self.told == self.size_bytes


@dataclass
class Wire:
    """Requests to one upload listener, a connection each unless it is kept.

    Args:
        port: The listener's, on this machine.
    """

    port: int
    token: str
    held: list[socket.socket] = field(default_factory=list)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S)

    def create(self, transfer: Transfer, more: Mapping[str, str] | None = None) -> Answer:
        """Ask for an upload; its path goes into the transfer."""
        said = {"filename": transfer.name, "device_no": transfer.device_no, **(more or {})}
        pairs = ",".join(f"{key} {base64.b64encode(text.encode()).decode()}" for key, text in said.items())
        transfer.created += 1
        answer = self.ask(
            "POST", "/uploads/", {"Upload-Length": str(transfer.size_bytes), "Upload-Metadata": pairs}
        )
        if answer.status == 201:
            transfer.url = "/uploads/" + answer.headers["location"].rsplit("/", 1)[-1]
        return answer

    def head(self, transfer: Transfer) -> Answer:
        """Ask how far it is."""
        answer = self.ask("HEAD", str(transfer.url), {})
        transfer.hear(answer)
        return answer

    def ask(self, method: str, path: str, headers: Mapping[str, str]) -> Answer:
        """A request without a body."""
        with contextlib.closing(self.connect()) as line:
            line.sendall(self.header(method, path, {"Content-Length": "0", **headers}))
            return read_answer(line, has_body=method != "HEAD")

    def header(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        said = {
            "Host": f"127.0.0.1:{self.port}",
            "Tus-Resumable": "1.0.0",
            "Authorization": f"Bearer {self.token}",
            **headers,
        }
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in said.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def patch(
        self,
        transfer: Transfer,
        content: memoryview,
        *,
        cut: Cut | None = None,
        cut_at: float = 1.0,
        pause_s: float = 0.0,
        most_bytes: int | None = None,
        piece_bytes: int = PIECE_BYTES,
    ) -> Answer | None:
        """Send what is left, or part of it; None when the sender itself cut the line.

        Args:
            most_bytes: The largest body of one request; None sends all that is left.
            cut_at: Share of the body after which it is cut.
            pause_s: Rest between pieces, so that others can strike in the middle.
        """
        rest = content[transfer.told :][:most_bytes]
        said = {
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": str(transfer.told),
            "Content-Length": str(len(rest)),
        }
        line = self.connect()
        try:
            line.sendall(self.header("PATCH", str(transfer.url), said))
            goal = len(rest) if cut is None else int(len(rest) * cut_at)
            for piece in _pieces(rest[:goal], piece_bytes):
                line.sendall(piece)
                time.sleep(pause_s)
            if cut is None:
                answer = read_answer(line)
                transfer.hear(answer)
                return answer
            if cut is Cut.RST:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if cut is Cut.STALL:
                # The dead line stays open while another one goes on from where the server says.
                self.held.append(line)
            return None
        finally:
            if line not in self.held:
                line.close()

    def patch_at(self, transfer: Transfer, start: int, content: memoryview) -> Answer:
        """Send bytes for an offset of one's own choice, whatever the server said."""
        said = {
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": str(start),
            "Content-Length": str(len(content)),
        }
        with contextlib.closing(self.connect()) as line:
            line.sendall(self.header("PATCH", str(transfer.url), said) + content)
            answer = read_answer(line)
        transfer.hear(answer)
        return answer

    def let_go(self) -> None:
        """Close the lines that were left hanging."""
        while self.held:
            self.held.pop().close()


def _pieces(content: memoryview, size: int) -> Iterator[memoryview]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def read_answer(line: socket.socket, *, has_body: bool = True) -> Answer:
    """One reply.

    Raises:
        ConnectionError: The line ended before it did.
    """
    raw = b""
    while b"\r\n\r\n" not in raw:
        got = line.recv(65536)
        if not got:
            raise ConnectionResetError("the line ended before a reply")
        raw += got
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in rest)}
    size = int(headers.get("content-length", "0")) if has_body else 0
    while len(body) < size:
        got = line.recv(65536)
        if not got:
            raise ConnectionResetError("the line ended in a reply")
        body += got
    return Answer(int(first.split()[1]), headers, body)
