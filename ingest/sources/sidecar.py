"""What a JSON file beside a recording says about it: claims, never more.

``X.mp4.json`` or ``X.json`` beside ``X.mp4``. A sidecar that cannot be used is a finding on the
recording, which is taken all the same.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from evidence.errors import InvalidInput
from evidence.fixity import parse_sha256
from evidence.kinds import ClaimSource
from ingest.facts import Statement, statements_from

MAX_SIDECAR_BYTES = 64 << 10
SUFFIX = ".json"
SUFFIXES = (SUFFIX, SUFFIX.upper())


@dataclass(frozen=True)
class Sidecar:
    """What was read, and what was wrong with it."""

    metadata: dict[str, str] = field(default_factory=dict)
    findings: tuple[tuple[str, str], ...] = ()
    declared_sha256: bytes | None = None

    @property
    def claims(self) -> tuple[Statement, ...]:
        """Its fields as claims."""
        return tuple(statements_from(self.metadata, ClaimSource.SIDECAR))


def sidecar_of(recording: Path) -> Path | None:
    """The sidecar of a recording: the one with its whole name, else the one with its stem."""
    for suffix in SUFFIXES:
        for candidate in (recording.with_name(recording.name + suffix), recording.with_suffix(suffix)):
            if candidate != recording and is_plain_file(candidate):
                return candidate
    return None


def is_plain_file(path: Path) -> bool:
    """Whether a regular file is there; a name too long to exist is not."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def read_sidecar(path: Path | None) -> Sidecar:
    """Read a sidecar; never raises for what is in it."""
    if path is None:
        return Sidecar()
    try:
        raw = json.loads(_read_bounded(path))
        if not isinstance(raw, dict):
            raise InvalidInput("sidecar: expected a JSON object, found another value")
    except (OSError, ValueError, RecursionError) as error:
        return _unusable(f"sidecar: expected a readable JSON object, found {type(error).__name__}")
    except InvalidInput as error:
        return _unusable(error.message)
    metadata = {str(key): text for key, value in raw.items() if (text := _text_of(value)) is not None}
    findings = [
        ("sidecar_field_ignored", f"sidecar: expected text, number or true/false for {str(key)[:40]!a}")
        for key in raw
        if str(key) not in metadata
    ]
    declared = None
    if metadata.get("sha256", "").strip():
        try:
            declared = parse_sha256(metadata["sha256"])
        except InvalidInput as error:
            findings.append(("declared_digest_unreadable", error.message))
    return Sidecar(metadata, tuple(findings), declared)


def _unusable(line: str) -> Sidecar:
    return Sidecar(findings=(("sidecar_unreadable", f"{line}; the recording is taken without it"),))


def _read_bounded(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidInput("sidecar: expected a regular file, found another kind")
        raw = file.read(MAX_SIDECAR_BYTES + 1)
    if len(raw) > MAX_SIDECAR_BYTES:
        raise InvalidInput(f"sidecar: expected at most {MAX_SIDECAR_BYTES} bytes, found more")
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise InvalidInput("sidecar: expected UTF-8 or GB 18030, found other bytes")


def _text_of(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    return None
