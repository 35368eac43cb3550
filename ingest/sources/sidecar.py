"""What a file beside a recording says about it: claims, never more.

``X.mp4.json``, ``.xml`` or ``.csv``, or the same with the stem alone, beside ``X.mp4``; or one table for a
whole folder (`TABLES`) with a column of file names. Fields are found under the names of
`config.profiles.SidecarFields`. A sidecar that cannot be used is a finding on the recording, which is taken
all the same; how each form is read is in `ingest.sources.sidecar_forms`.

Names are bytes, as on the device: the same rules hold for a card and for a dock that is fetched from.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from config.profiles import SidecarFields, load_sidecar_fields
from evidence.errors import InvalidInput
from evidence.filenames import decode_name
from evidence.fixity import parse_sha256
from evidence.kinds import ClaimSource
from ingest.facts import Statement, statements_from
from ingest.sources.sidecar_forms import Row, plain_name, read_csv, read_json, read_xml

MAX_SIDECAR_BYTES = 64 << 10
MAX_TABLE_BYTES = 4 << 20
SUFFIXES = (b".json", b".JSON", b".xml", b".XML", b".csv", b".CSV")
"""In the order they are looked for."""
TABLES = tuple(
    (stem + suffix).encode(coding)
    for stem, coding in (("files", "ascii"), ("FILES", "ascii"), ("Files", "ascii"),
                         ("index", "ascii"), ("INDEX", "ascii"), ("Index", "ascii"),
                         ("manifest", "ascii"), ("MANIFEST", "ascii"), ("Manifest", "ascii"),
                         ("清单", "utf-8"), ("清单", "gb18030"))
    for suffix in (".csv", ".CSV")
)  # fmt: skip
"""Names of a table that speaks of every recording of its folder; such a file is never a recording."""
TABLE_PATIENCE = 10
"""A table that never rests is waited for so many times as long as a recording must rest, and no longer."""
UNREADABLE = "sidecar_unreadable"
TIMES = ("captured_from", "captured_to", "device_clock", "dock_clock")
TIME_FORMS = ("%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%Y%m%d%H%M%S", "%Y-%m-%dT%H:%M:%S")


@dataclass(frozen=True)
class Sidecar:
    """What was read, and what was wrong with it."""

    metadata: dict[str, str] = field(default_factory=dict)
    """Every field under the name it was written with; one that no claim can be made of as JSON."""
    findings: tuple[tuple[str, str], ...] = ()
    declared_sha256: bytes | None = None
    known: Mapping[str, str] = field(default_factory=dict)
    """The fields claims are made of, under our names."""

    @property
    def is_readable(self) -> bool:
        """Whether all it says is here."""
        return not any(code == UNREADABLE for code, _ in self.findings)

    @property
    def claims(self) -> tuple[Statement, ...]:
        """Its fields as claims."""
        return tuple(statements_from(self.known, ClaimSource.SIDECAR))


def sidecar_of(recording: bytes, is_there: Callable[[bytes], bool]) -> bytes | None:
    """The sidecar of a recording: the one with its whole name, else the one with its stem.

    Args:
        is_there: Whether a regular file of that name is in the recording's folder.
    """
    for suffix in SUFFIXES:
        for name in (recording + suffix, stem_of(recording) + suffix):
            if name != recording and not is_table(name) and is_there(name):
                return name
    return None


def table_of(recording: bytes, is_there: Callable[[bytes], bool]) -> bytes | None:
    """The table of the recording's folder."""
    return next((name for name in TABLES if name != recording and is_there(name)), None)


def is_table(name: bytes) -> bool:
    """Whether a file of that name speaks of its whole folder."""
    return name in TABLES


def is_companion(name: bytes, size_bytes: int, spoken_of: Collection[bytes]) -> bool:
    """Whether a file speaks of others of its folder, and is therefore no recording of its own.

    Args:
        spoken_of: As `spoken_of` found it for the folder.
    """
    if is_table(name):
        return True
    if not name.endswith(SUFFIXES) or size_bytes > MAX_SIDECAR_BYTES:
        return False
    return stem_of(name) in spoken_of


def spoken_of(names: Collection[bytes]) -> set[bytes]:
    """What names of sidecars in a folder begin with: `X.mp4` and, without a sidecar `X.mp4.json`, `X`.

    A sidecar may be copied before its recording: by the time it has settled the recording, finished or
    not, has appeared beside it. So `X.mp4.part` counts as well.
    """
    found: set[bytes] = set()
    for name in names:
        if name.endswith(SUFFIXES):
            continue
        found.add(name)
        if not any(name + suffix in names for suffix in SUFFIXES):
            found.update(name[:at] for at in range(len(name)) if name[at : at + 1] == b".")
    return found


def stem_of(name: bytes) -> bytes:
    """A name without its last ending."""
    stem, dot, _ = name.rpartition(b".")
    return stem if dot and stem else name


def is_plain_file(path: Path) -> bool:
    """Whether a regular file is there; a name too long to exist is not."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def read_sidecar(path: Path | None, recording: bytes = b"", fields: SidecarFields | None = None) -> Sidecar:
    """Read a sidecar or a folder's table on this machine; never raises for what is in it.

    Args:
        recording: Name of the file it is read for.
        fields: What its fields may be called; what is shipped when omitted.
    """
    if path is None:
        return Sidecar()
    name = os.fsencode(path.name)
    try:
        raw = _read_bounded(path, most_bytes(name))
    except OSError as error:
        return _unusable(f"sidecar: expected it readable, found {type(error).__name__}")
    except InvalidInput as error:
        return _unusable(error.message)
    return sidecar_from(name, raw, recording, fields)


def most_bytes(name: bytes) -> int:
    """How large a sidecar of that name may be."""
    return MAX_TABLE_BYTES if is_table(name) else MAX_SIDECAR_BYTES


def sidecar_from(
    name: bytes, raw: bytes, recording: bytes = b"", fields: SidecarFields | None = None
) -> Sidecar:
    """What a sidecar or a folder's table says of a recording; never raises for what is in it.

    Args:
        name: Of the sidecar; its ending says its form.
        raw: Its bytes, or at least one more than `most_bytes`.
        recording: Name of the file it is read for.
        fields: What its fields may be called; what is shipped when omitted.
    """
    names = fields or load_sidecar_fields()
    try:
        row = _row(name, _text(raw, most_bytes(name)), decode_name(recording), names)
    except (ValueError, RecursionError) as error:
        form = decode_name(name).rpartition(".")[2].upper()
        return _unusable(f"sidecar: expected readable {form}, found {type(error).__name__}")
    except InvalidInput as error:
        return _unusable(error.message)
    if row is None:
        return Sidecar()
    known = _known(row.values, names)
    findings = [
        (
            "sidecar_field_ignored",
            f"sidecar: expected text, number or true/false for {field_name[:40]!a}; it is kept as it was "
            "written, and no claim is made of it",
        )
        for field_name in row.ignored
    ]
    declared = None
    if known.get("sha256", "").strip():
        try:
            declared = parse_sha256(known["sha256"])
        except InvalidInput as error:
            findings.append(("declared_digest_unreadable", error.message))
    metadata = {**row.values, **row.ignored}
    if "zfy_info" in known:
        metadata["zfy_info"] = known["zfy_info"]
    return Sidecar(metadata, tuple(findings), declared, known)


def _row(name: bytes, text: str, recording: str, names: SidecarFields) -> Row | None:
    """The fields that speak of the recording; None where a folder's table has no line for it."""
    form = name.rpartition(b".")[2].lower()
    if form == b"xml":
        return read_xml(text)
    if form != b"csv":
        return read_json(text)
    rows = read_csv(text)
    columns = {plain_name(column) for column in names.file_column}
    called = {recording, recording.rsplit(".", 1)[0]} - {""}
    named = [
        row
        for row in rows
        if any(plain_name(key) in columns and value in called for key, value in row.values.items())
    ]
    if len(named) > 1:
        raise InvalidInput(f"sidecar: expected one line for {recording[:60]!a}, found {len(named)}")
    if named:
        return named[0]
    if is_table(name):
        return None
    if len(rows) != 1:
        raise InvalidInput(f"sidecar: expected one line below the heads, found {len(rows)}")
    return rows[0]


def _known(values: Mapping[str, str], names: SidecarFields) -> dict[str, str]:
    by_plain: dict[str, str] = {}
    for key, value in values.items():
        by_plain.setdefault(plain_name(key), value)
    known = {}
    for name, spellings in names.fields.items():
        for spelling in spellings:
            value = by_plain.get(plain_name(spelling), "").strip()
            if value:
                known[name] = _zoned(value, names.timezone) if name in TIMES else value
                break
    return known


def _zoned(value: str, timezone: str | None) -> str:
    """A time in ISO 8601, with the zone its writers use where one is set; else as it was written."""
    if timezone is None:
        return value
    for form in TIME_FORMS:
        try:
            local = datetime.strptime(value, form)  # noqa: DTZ007 - the zone is added here
        except ValueError:
            continue
        return local.replace(tzinfo=ZoneInfo(timezone)).isoformat()
    return value


def _unusable(line: str) -> Sidecar:
    return Sidecar(findings=((UNREADABLE, f"{line}; the recording is taken without it"),))


def _read_bounded(path: Path, at_most_bytes: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidInput("sidecar: expected a regular file, found another kind")
        return file.read(at_most_bytes + 1)


def _text(raw: bytes, at_most_bytes: int) -> str:
    if len(raw) > at_most_bytes:
        raise InvalidInput(f"sidecar: expected at most {at_most_bytes} bytes, found more")
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise InvalidInput("sidecar: expected UTF-8 or GB 18030, found other bytes")
