"""What is never in a log, whoever writes it."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from api.auth.capability import Use, mint
from config.logs import WITHHELD, withhold
from storage.db import triggers
from storage.db.credentials import SESSION_PREFIX, UPLOAD_PREFIX
from storage.keys import KeyRing, Purpose

PROGRAM = """
import logging, sys, structlog
from config.logs import set_up_logging
token = sys.argv[1]
set_up_logging("test")
try:
    {}[token, "rung.mp4"]
except KeyError as error:
    structlog.get_logger().error("crashed", exc_info=error, path=f"/m/{token}/rung.mp4", digest="ab" * 32)
    logging.getLogger("library").error("with %s\\n%s", f"\\t{token}", token, exc_info=error)
"""


def test_the_token_of_an_address_is_in_no_line_and_each_line_is_json(tmp_path: Path) -> None:
    keys = KeyRing(tmp_path)
    keys.create(Purpose.GRANT)
    token = mint(keys, Use.MEDIA, UUID(int=1), UUID(int=2), datetime(2030, 1, 1, tzinfo=UTC))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, token], capture_output=True, text=True, timeout=60, check=True
    )
    assert token[-43:] not in done.stderr
    ours, theirs = (json.loads(line) for line in done.stderr.splitlines())
    assert (ours["event"], ours["path"], ours["digest"]) == ("crashed", f"/m/{WITHHELD}/rung.mp4", "ab" * 32)
    assert "KeyError" in ours["exception"]
    assert theirs["event"] == f"with \t{WITHHELD}\n{WITHHELD}"
    assert "KeyError" in theirs["exception"]


@pytest.mark.parametrize("prefix", [SESSION_PREFIX, UPLOAD_PREFIX, triggers.PREFIX])
def test_the_token_of_a_session_a_dock_or_a_trigger_is_in_no_line(prefix: str) -> None:
    token = prefix + secrets.token_urlsafe(32)
    for before, after in (("Bearer ", '", "'), ("\\t", "\\n"), ("token=", "&"), ("x", "")):
        assert withhold(f"{before}{token}{after}") == f"{before}{WITHHELD}{after}"


def test_what_opens_nothing_stays() -> None:
    ids = ("a" * 64, "01a21f5c-dcd4-7267-968e-95043981b1a8", SESSION_PREFIX + "a" * 20)
    for line in (*ids, "/" * 200, '"event": "' + "b " * 60):
        assert withhold(line) == line
