"""What a file's name says, and how to show a name that was made to deceive.

A name is evidence of the weakest kind: whoever holds the card can change it. What a profile
reads from it becomes claims beside those of container, dock and picture, never merged into
them (rule D7). A name no profile knows is accepted all the same. No name, nor any part of
one, is ever part of a path of ours.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

MAX_DISPLAY_CHARS = 255
MAX_NAME_CHARS = 1024
"""Of a name that profiles are tried on; file systems end at 255 bytes."""


@dataclass(frozen=True)
class NameClaim:
    """One thing a file name says."""

    field: str
    value: str
    clock: str | None = None
    """Whose time ``value`` is, when it is a time; None for everything else."""


@dataclass(frozen=True)
class NameProfile:
    """One way of naming files, as data (`config/presets/name_profiles.toml`).

    Named groups of ``pattern`` become claims of the same name, except ``date`` with ``time``
    (and ``fraction``), which become ``device_started_at`` in ``timezone``, or ``device_local_time``
    where that is None, and those in ``flags``, which become the claim named there with the value
    ``true`` when they are present.
    """

    name: str
    pattern: str
    timezone: str | None = None
    flags: dict[str, str] = field(default_factory=dict)
    clock: str = "device"
    ignore_case: bool = False


def parse(name: bytes | str, profiles: Iterable[NameProfile]) -> list[NameClaim]:
    """What the first profile that knows this name reads from it.

    Args:
        name: The last component of the name, as it was on the device.
        profiles: The profiles to try, in order.

    Returns:
        The claims, ``name_profile`` first; empty when no profile knows the name, or when it is longer
        than a name can be. A date that is on no calendar is claimed as ``device_started_text``.
    """
    text = decode_name(name)
    if len(text) > MAX_NAME_CHARS:
        return []
    for profile in profiles:
        match = _compiled(profile.pattern, profile.ignore_case).fullmatch(text)
        if match is not None:
            return _claims(profile, {k: v for k, v in match.groupdict().items() if v})
    return []


@lru_cache(maxsize=256)
def _compiled(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    # `fullmatch` and no "$": that would let one trailing newline through.
    bare = pattern.removeprefix("^").removesuffix("$")
    return re.compile(bare, re.ASCII | (re.IGNORECASE if ignore_case else re.RegexFlag(0)))


def _claims(profile: NameProfile, groups: dict[str, str]) -> list[NameClaim]:
    claims = [NameClaim("name_profile", profile.name)]
    date, time, fraction = groups.pop("date", None), groups.pop("time", None), groups.pop("fraction", "")
    for group, value in groups.items():
        flag = profile.flags.get(group)
        claims.append(NameClaim(flag, "true") if flag else NameClaim(group, value))
    if date and time:
        claims.append(_moment(profile, date, time, fraction))
    return claims


def _moment(profile: NameProfile, date: str, time: str, fraction: str) -> NameClaim:
    digits = re.sub("[^0-9]", "", date + time)
    try:
        local = datetime.strptime(digits, "%Y%m%d%H%M%S")  # noqa: DTZ007 - the zone is the profile's to say
    except ValueError:
        return NameClaim("device_started_text", f"{date}_{time}{fraction}", profile.clock)
    written = local.isoformat() + (f".{fraction}" if fraction else "")
    if profile.timezone is None:
        return NameClaim("device_local_time", written, profile.clock)
    zone = local.replace(tzinfo=ZoneInfo(profile.timezone)).isoformat()[len(local.isoformat()) :]
    return NameClaim("device_started_at", written + zone, profile.clock)


def decode_name(name: bytes | str) -> str:
    """A name as text: UTF-8, else GB 18030 as cards written in China use, else escaped bytes."""
    if isinstance(name, str):
        try:
            raw = name.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return name.encode("utf-8", "backslashreplace").decode("utf-8")
    else:
        raw = name
    for encoding in ("utf-8", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("utf-8", "backslashreplace")


def display_name(name: bytes | str) -> str:
    """A name that is safe to show: one line, nothing invisible, at most 255 characters.

    Control characters, line ends, marks that turn the direction of writing, zero-width and
    private characters are shown as ``⟨U+202E⟩``. A long name keeps its beginning and its
    ending, where the extension is. For people only; never for a path.
    """
    shown = "".join(_visible(character) for character in decode_name(name))
    if len(shown) <= MAX_DISPLAY_CHARS:
        return shown
    tail = 40
    return f"{shown[: MAX_DISPLAY_CHARS - tail - 1]}…{shown[-tail:]}"


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category.startswith("C") or category in {"Zl", "Zp"}:
        return f"⟨U+{ord(character):04X}⟩"
    return character
