"""Profiles: how a volume is known to be a camera, and what a file's name says, as data."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from liuhen_dock.errors import ConfigError
from liuhen_dock.names import decoded

MASS_STORAGE = "mass_storage"


@dataclass(frozen=True)
class NameFacts:
    """What a file's name says; each may be missing. The server reads the name again by itself."""

    device_no: str | None = None
    officer_no: str | None = None
    started_at: datetime | None = None
    """By the camera's clock, in the profile's zone."""
    is_key: bool = False
    is_known: bool = False


@dataclass(frozen=True)
class Profile:
    """One kind of camera. See ``assets/profiles.toml`` for what each field means."""

    name: str
    title_zh: str
    title_en: str
    files: tuple[str, ...]
    folders: tuple[str, ...] = ("",)
    skip: tuple[str, ...] = ()
    label: re.Pattern[str] | None = None
    needs_named: bool = False
    zfy_file: str | None = None
    name_pattern: re.Pattern[str] | None = None
    key_pattern: re.Pattern[str] | None = None
    timezone: ZoneInfo | None = None
    driver: str = MASS_STORAGE

    def is_footage(self, name: str) -> bool:
        """Whether a file of this name is footage and not a companion."""
        text = decoded(name).lower()
        if any(fnmatchcase(text, pattern) for pattern in self.skip):
            return False
        return any(fnmatchcase(text, pattern) for pattern in self.files)

    def read_name(self, name: str) -> NameFacts:
        """What the name says."""
        text = decoded(name)
        is_key = self.key_pattern is not None and self.key_pattern.search(text) is not None
        match = self.name_pattern.search(text) if self.name_pattern is not None else None
        if match is None:
            return NameFacts(is_key=is_key)
        groups = {group: value for group, value in match.groupdict().items() if value}
        return NameFacts(
            device_no=groups.get("device_no"),
            officer_no=groups.get("officer_no"),
            started_at=self._instant(groups.get("date"), groups.get("time")),
            is_key=is_key or "key" in groups,
            is_known=True,
        )

    def _instant(self, date: str | None, time: str | None) -> datetime | None:
        if date is None or time is None or self.timezone is None:
            return None
        try:
            return datetime.strptime(date + time, "%Y%m%d%H%M%S").replace(tzinfo=self.timezone)
        except ValueError:  # a date on no calendar is no fact; the name itself is sent as it is
            return None


def load_profiles(folder: Path | None = None) -> dict[str, Profile]:
    """The built-in profiles, and those of a folder, which replace built-in ones of the same name.

    Raises:
        ConfigError: Code ``profile_invalid``.
    """
    texts = [("built-in", resources.files("liuhen_dock").joinpath("assets/profiles.toml").read_text("utf-8"))]
    if folder is not None:
        try:
            paths = sorted(folder.glob("*.toml"))
            texts += [(path.name, path.read_text("utf-8")) for path in paths]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"profiles {folder}: {error}", code="profile_invalid") from error
        if not paths:
            raise ConfigError(f"profiles {folder}: expected *.toml, found none", code="profile_invalid")
    found: dict[str, Profile] = {}
    for origin, text in texts:
        for profile in parse_profiles(text, origin):
            found[profile.name] = profile
    return found


def chosen(profiles: Mapping[str, Profile], names: Iterable[str]) -> list[Profile]:
    """The profiles of these names, in this order.

    Raises:
        ConfigError: Code ``profile_unknown``.
    """
    picked = []
    for name in names:
        if name not in profiles:
            raise ConfigError(
                f"profile: expected one of {', '.join(sorted(profiles))}, found {name!r}",
                code="profile_unknown",
            )
        picked.append(profiles[name])
    return picked


def parse_profiles(text: str, origin: str) -> list[Profile]:
    """The profiles of one file.

    Raises:
        ConfigError: Code ``profile_invalid``; the message names file, profile and field.
    """
    try:
        rows = tomllib.loads(text).get("profile", [])
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"profiles {origin}: expected TOML: {error}", code="profile_invalid") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"profiles {origin}: expected [[profile]]", code="profile_invalid")
    return [_profile(row, f"profiles {origin}, {row.get('name', 'without a name')}") for row in rows]


_FIELDS: dict[str, type] = {
    "name": str, "title_zh": str, "title_en": str, "label": str, "folders": list, "needs_named": bool,
    "zfy_file": str, "files": list, "skip": list, "name_pattern": str, "key_pattern": str, "timezone": str,
    "driver": str,
}  # fmt: skip


def _profile(row: Mapping[str, Any], where: str) -> Profile:
    for field, value in row.items():
        if field not in _FIELDS:
            raise ConfigError(f"{where}: {field} is unknown", code="profile_invalid")
        if not isinstance(value, _FIELDS[field]):
            raise ConfigError(f"{where}: {field}: expected {_FIELDS[field].__name__}", code="profile_invalid")
    for field in ("name", "files"):
        if not row.get(field):
            raise ConfigError(f"{where}: expected {field}", code="profile_invalid")
    if row.get("needs_named") and "name_pattern" not in row:
        raise ConfigError(f"{where}: needs_named expects name_pattern", code="profile_invalid")
    folders = _texts(row, "folders", where) or ("",)
    for folder in (*folders, row.get("zfy_file", "")):
        if Path(folder).is_absolute() or ".." in Path(folder).parts or "\\" in folder:
            raise ConfigError(f"{where}: {folder!r}: expected a path inside the volume, with /",
                              code="profile_invalid")  # fmt: skip
    try:
        zone = ZoneInfo(row["timezone"]) if "timezone" in row else None
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(f"{where}: timezone: expected an IANA name", code="profile_invalid") from error
    return Profile(
        name=row["name"],
        title_zh=row.get("title_zh", row["name"]),
        title_en=row.get("title_en", row["name"]),
        files=_lower(_texts(row, "files", where)),
        folders=folders,
        skip=_lower(_texts(row, "skip", where)),
        label=_regex(row, "label", where),
        needs_named=row.get("needs_named", False),
        zfy_file=row.get("zfy_file"),
        name_pattern=_regex(row, "name_pattern", where),
        key_pattern=_regex(row, "key_pattern", where),
        timezone=zone,
        driver=row.get("driver", MASS_STORAGE),
    )


def _texts(row: Mapping[str, Any], field: str, where: str) -> tuple[str, ...]:
    values: Sequence[Any] = row.get(field, ())
    if not all(isinstance(value, str) for value in values):
        raise ConfigError(f"{where}: {field}: expected a list of texts", code="profile_invalid")
    return tuple(values)


def _lower(patterns: Iterable[str]) -> tuple[str, ...]:
    return tuple(pattern.lower() for pattern in patterns)


def _regex(row: Mapping[str, Any], field: str, where: str) -> re.Pattern[str] | None:
    pattern = row.get(field)
    if pattern is None:
        return None
    # \Z and not $: "$" would let one trailing newline through.
    pattern = pattern.removesuffix("$") + r"\Z" if pattern.endswith("$") else pattern
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{where}: {field}: {error}", code="profile_invalid") from error
