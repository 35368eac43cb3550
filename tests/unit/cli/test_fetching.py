"""Fetching what was made: a line that is cut is gone on with, and other bytes than told of leave nothing."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli import fetching
from cli.fetching import download, require_free, wait_made, write_new
from cli.seat import Seat, json_of
from evidence.errors import Conflict, FixityError, Unavailable

BODY = bytes(range(256)) * 64


class Cutting(BaseHTTPRequestHandler):
    """Sends half of what is left, then the line is gone; the rest of the last 4 KiB at once."""

    def __init__(self, asked: list[str | None], *arguments: Any) -> None:
        self.asked = asked
        super().__init__(*arguments)

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        left = BODY[first:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(left)))
        self.end_headers()
        self.wfile.write(left if len(left) <= 4096 else left[: len(left) // 2])

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str | None]]]:
    """An address, and the ranges that were asked for."""
    monkeypatch.setattr(fetching, "POLL_S", 0.001)
    asked: list[str | None] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Cutting, asked))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_cut_line_is_gone_on_with(cut: tuple[str, list[str | None]], tmp_path: Path) -> None:
    url, asked = cut
    made = {"file_url": url, "sha256": sha256(BODY).hexdigest(), "size_bytes": len(BODY)}
    seen: list[float] = []
    with Seat(url) as seat:
        download(seat, made, tmp_path / "clip.mp4", lambda done, _: seen.append(done))
    assert (tmp_path / "clip.mp4").read_bytes() == BODY
    assert asked[0] is None and asked[1] is not None and asked[1].startswith("bytes=")
    assert seen[-1] == len(BODY)


def test_other_bytes_than_told_of_leave_nothing(cut: tuple[str, list[str | None]], tmp_path: Path) -> None:
    url, _ = cut
    made = {"file_url": url, "sha256": "0" * 64, "size_bytes": len(BODY)}
    with Seat(url) as seat, pytest.raises(FixityError) as refused:
        download(seat, made, tmp_path / "clip.mp4")
    assert refused.value.code == "clip_digest_differs"
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_in_its_place_only_beside_its_sheets(
    cut: tuple[str, list[str | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails on the way, also the disk between the two sheets, leaves neither file nor sheet."""
    url, _ = cut
    made = {"file_url": url, "sha256": sha256(BODY).hexdigest(), "size_bytes": len(BODY)}
    place, beside = tmp_path / "clip.mp4", {tmp_path / "clip.sheet.json": "{}", tmp_path / "clip.html": "<p>"}
    seen: list[set[str]] = []

    def full(path: Path, text: str) -> None:
        seen.append({each.name for each in tmp_path.iterdir() if not each.name.startswith(".")})
        if path.suffix == ".html":
            raise OSError(28, "No space left on device")
        write_new(path, text)

    with Seat(url) as seat:
        with monkeypatch.context() as patched:
            patched.setattr(fetching, "write_new", full)
            with pytest.raises(OSError, match="No space"):
                download(seat, made, place, beside=beside)
        assert seen == [set(), {"clip.sheet.json"}] and list(tmp_path.iterdir()) == []
        with pytest.raises(FixityError):
            download(seat, {**made, "sha256": "0" * 64}, place, beside=beside)
        assert list(tmp_path.iterdir()) == []
        download(seat, made, place, beside=beside)
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4", "clip.sheet.json", "clip.html"}


@pytest.mark.parametrize("state", ["failed", "withdrawn"])
def test_what_will_not_be_made_is_not_waited_for(state: str) -> None:
    asked = {"state": state, "progress_permille": 0}
    with Seat("http://127.0.0.1:9") as seat, pytest.raises(Unavailable, match=state):
        wait_made(seat, "/clips/1", asked, wait=lambda _: False)


def test_what_came_to_its_place_meanwhile_stays(cut: tuple[str, list[str | None]], tmp_path: Path) -> None:
    url, _ = cut
    made = {"file_url": url, "sha256": sha256(BODY).hexdigest(), "size_bytes": len(BODY)}
    place = tmp_path / "clip.mp4"

    def tell(*_: object) -> None:
        place.write_bytes(b"another's")

    with Seat(url) as seat, pytest.raises(Conflict):
        download(seat, made, place, tell)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"clip.mp4": b"another's"}


def test_a_folder_that_is_not_there_is_told_before_anything_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        require_free(tmp_path / "nowhere" / "clip.mp4")


def test_no_link_is_written_through(tmp_path: Path) -> None:
    sheet = tmp_path / "clip.mp4.sheet.json"
    sheet.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Conflict):
        require_free(sheet)
    with pytest.raises(FileExistsError):
        write_new(sheet, "{}")
    assert not (tmp_path / "elsewhere").exists()


def test_another_server_than_ours_is_said_in_a_line() -> None:
    with pytest.raises(Unavailable, match="--url") as refused:
        json_of(httpx.Response(200, text="<!doctype html>"))
    assert refused.value.code == "api_refused"
