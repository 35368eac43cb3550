"""Logs as JSON lines on standard error, the same for every process.

An address of media is a secret, and an exception may carry one in its words: whatever is as long as the token
of one, and made of its characters, is left out of every line. So are the tokens of sessions, docks and
triggers, which are shorter, by how they begin. Tracebacks are text without the values of variables.
"""

from __future__ import annotations

import json
import logging
import re
import sys

import structlog

# Longer than a SHA-256 in hexadecimal; the token of an address has 106 characters. An escape of JSON before
# it is no part of it. Those of sessions, docks and triggers (`storage.db.credentials`,
# `storage.db.triggers`) have 47.
_SECRET = re.compile(r"(\\(?:u[0-9a-f]{4}|.))?[A-Za-z0-9_-]{72,}|lh[sut]_[A-Za-z0-9_-]{43}")
WITHHELD = "[withheld]"


def withhold(line: str) -> str:
    """A line of JSON without what opens anything."""
    return _SECRET.sub(lambda found: (found[1] or "") + WITHHELD, line)


class JsonLines(logging.Formatter):
    """What libraries log, in the same form."""

    def format(self, record: logging.LogRecord) -> str:
        said = {"log": record.name, "level": record.levelname.lower(), "event": record.getMessage()}
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return withhold(json.dumps(said, ensure_ascii=False))


def set_up_logging(process: str) -> None:
    """Configure structlog and the standard library's logging for this process."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(ensure_ascii=False),
        lambda _, __, line: withhold(str(line)),
    ]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
