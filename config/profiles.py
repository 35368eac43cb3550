"""File-name profiles and sidecar field names as data: what is shipped, and what an agency adds.

Both are TOML. The shipped ones lie in `config/presets`; the settings `ingest.name_profiles` and
`ingest.sidecar_fields` each name a file of the agency's own, which is tried first. A file that cannot
be used is refused at start with every finding, not met by the first recording of a shift.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Literal, Self, TypeVar
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError, model_validator

from config.group import Group
from config.load import SettingsError
from config.patterns import check_pattern

T = TypeVar("T", bound=Group)
PRESETS = Path(__file__).with_name("presets")
MAX_FILE_BYTES = 256 << 10
MAX_PROFILES = 100

NAME_GROUPS = frozenset(
    {
        "prefix",
        "device_no",
        "officer_no",
        "date",
        "time",
        "fraction",
        "recording_no",
        "sequence_no",
        "file_no",
        "channel_no",
        "case_no",
        "ext",
    }
)
"""What a group of a pattern may be called; each becomes a claim, date and time together one."""
FLAG_FIELDS = ("key_file", "encrypted")
"""What a mark in a name may mean."""


class NameExample(Group):
    """A name, and all that is read from it; nothing, where the profile must not know it."""

    name: str = Field(max_length=255)
    claims: dict[str, str] = Field(default_factory=dict)


class NameProfileData(Group):
    """One way of naming files, as an agency writes it down."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]{0,31}$", description="Stable name; becomes the claim name_profile"
    )
    source: str = Field(min_length=3, max_length=300, description="Where the rule was read")
    standing: Literal["confirmed", "secondary", "derived"] = Field(description="How well it is known")
    pattern: str = Field(description="Anchored regular expression with named groups")
    timezone: str | None = Field(None, description="IANA zone of date and time; none: the names do not say")
    flags: dict[str, Literal["key_file", "encrypted"]] = Field(default_factory=dict)
    ignore_case: bool = False
    examples: list[NameExample] = Field(min_length=1, description="Names it reads")
    not_examples: list[str] = Field(default_factory=list, description="Names it must leave alone")

    @model_validator(mode="after")
    def _is_usable(self) -> Self:
        groups = check_pattern(self.pattern, ignore_case=self.ignore_case)
        unknown = groups - NAME_GROUPS - set(self.flags)
        if unknown:
            raise ValueError(f"groups: expected {', '.join(sorted(NAME_GROUPS))}, found {sorted(unknown)}")
        if missing := set(self.flags) - groups:
            raise ValueError(f"flags: expected groups of the pattern, found {sorted(missing)}")
        if ("date" in groups) != ("time" in groups):
            raise ValueError("groups: expected date and time together, found one of them")
        if self.timezone is not None:
            _zone(self.timezone)
        compiled = re.compile(self.pattern, self.regex_flags)
        for example in self.examples:
            if not compiled.fullmatch(example.name):
                raise ValueError(f"examples: expected a match, found none for {example.name!r}")
        for name in self.not_examples:
            if compiled.fullmatch(name):
                raise ValueError(f"not_examples: expected no match, found one for {name!r}")
        return self

    @property
    def regex_flags(self) -> re.RegexFlag:
        return re.ASCII | (re.IGNORECASE if self.ignore_case else re.RegexFlag(0))


def _zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"timezone: expected an IANA zone, found {name!r}") from error


class _Profiles(Group):
    profile: list[NameProfileData] = Field(default_factory=list, max_length=MAX_PROFILES)

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        names = [profile.name for profile in self.profile]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"profiles: expected each name once, found {sorted(twice)} again")
        return self


class SidecarFields(Group):
    """What the fields of sidecars are called, by those who write them."""

    fields: dict[str, list[str]] = Field(description="Claim field to the names it is found under")
    timezone: str | None = Field(None, description="Zone of times that say none")
    file_column: list[str] = Field(
        default_factory=list, description="Names of the column with the file's name"
    )

    @model_validator(mode="after")
    def _is_usable(self) -> Self:
        if self.timezone is not None:
            _zone(self.timezone)
        return self


def load_name_profiles(own: Path | None = None) -> tuple[NameProfileData, ...]:
    """The agency's profiles, then the shipped ones it did not replace by name.

    Raises:
        SettingsError: The file cannot be read or holds something that cannot be used; every finding.
    """
    shipped = _shipped_profiles()
    if own is None:
        return shipped
    added = tuple(_read(own, "ingest.name_profiles", _Profiles).profile)
    names = {profile.name for profile in added}
    return (*added, *(profile for profile in shipped if profile.name not in names))


def load_sidecar_fields(own: Path | None = None) -> SidecarFields:
    """The shipped names of sidecar fields, with the agency's before them.

    Raises:
        SettingsError: As `load_name_profiles`.
    """
    shipped = _shipped_sidecar_fields()
    if own is None:
        return shipped
    added = _read(own, "ingest.sidecar_fields", SidecarFields)
    if unknown := set(added.fields) - set(shipped.fields):
        known = ", ".join(sorted(shipped.fields))
        raise SettingsError(
            f"setting ingest.sidecar_fields: expected fields {known}, found {sorted(unknown)}"
        )
    fields = {name: [*added.fields.get(name, []), *said] for name, said in shipped.fields.items()}
    return SidecarFields(
        fields=fields,
        timezone=added.timezone or shipped.timezone,
        file_column=[*added.file_column, *shipped.file_column],
    )


@cache
def _shipped_profiles() -> tuple[NameProfileData, ...]:
    return tuple(_read(PRESETS / "name_profiles.toml", "preset", _Profiles).profile)


@cache
def _shipped_sidecar_fields() -> SidecarFields:
    return _read(PRESETS / "sidecar_fields.toml", "preset", SidecarFields)


def _read(path: Path, setting: str, kind: type[T]) -> T:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise SettingsError(f"setting {setting}: expected at most {MAX_FILE_BYTES} bytes, found more")
        return kind.model_validate(tomllib.loads(raw.decode("utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"setting {setting}: {path}: expected readable TOML, found: {error}") from error
    except ValidationError as error:
        lines = [
            f"setting {setting}: {'.'.join(str(part) for part in finding['loc'])}: {finding['msg']}"
            for finding in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise SettingsError("\n".join(lines)) from error
