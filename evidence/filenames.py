"""What a file's name says, and how to show a name that was made to deceive.

A name is evidence of the weakest kind: whoever holds the card can change it. What a profile
reads from it becomes claims beside those of container, dock and picture, never merged into
them (rule D7). A name no profile knows is accepted all the same. No name, nor any part of
one, is ever part of a path of ours.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

MAX_DISPLAY_CHARS = 255


@dataclass(frozen=True)
class NameClaim:
    """One thing a file name says."""

    field: str
    value: str
    clock: str | None = None
    """Whose time ``value`` is, when it is a time; None for everything else."""


@dataclass(frozen=True)
class NameProfile:
    """One vendor's way of naming files, as data.

    Named groups of ``pattern`` become claims of the same name, except ``date`` with ``time``,
    which become ``device_started_at`` in ``timezone``, and those in ``flags``, which become
    the claim named there with the value ``true`` when they are present.
    """

    name: str
    pattern: str
    timezone: str
    flags: dict[str, str] = field(default_factory=dict)
    clock: str = "device"


UNDERSCORE_V1 = NameProfile(
    name="underscore_v1",
    pattern=(
        r"^(?P<prefix>[A-Za-z0-9]+)_(?P<device_no>[A-Za-z0-9]+)_(?P<officer_no>[A-Za-z0-9]{6})"
        r"_(?P<date>[0-9]{8})_(?P<time>[0-9]{6})(?P<key>_IMP)?(?P<enc>_enc)?\.(?P<ext>mp4|jpg|aac|m4a)$"
    ),
    timezone="Asia/Shanghai",
    flags={"key": "key_file", "enc": "encrypted"},
)
"""Seen in current body-camera firmware: ``DSJ_0000001_123456_20240304_091530_IMP.mp4``."""

PROFILES: tuple[NameProfile, ...] = (UNDERSCORE_V1,)


def parse(name: bytes | str, profiles: tuple[NameProfile, ...] = PROFILES) -> list[NameClaim]:
    """What the first profile that knows this name reads from it.

    Args:
        name: The last component of the name, as it was on the device.
        profiles: The profiles to try, in order.

    Returns:
        The claims, ``name_profile`` first; empty when no profile knows the name. A date that
        is on no calendar is claimed as ``device_started_text``, as written.
    """
    text = decode_name(name)
    for profile in profiles:
        match = _compiled(profile.pattern).match(text)
        if match is not None:
            return _claims(profile, {k: v for k, v in match.groupdict().items() if v})
    return []


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    # \Z and not $: "$" would let one trailing newline through.
    return re.compile(pattern.removesuffix("$") + r"\Z" if pattern.endswith("$") else pattern)


def _claims(profile: NameProfile, groups: dict[str, str]) -> list[NameClaim]:
    claims = [NameClaim("name_profile", profile.name)]
    date, time = groups.pop("date", None), groups.pop("time", None)
    for group, value in groups.items():
        flag = profile.flags.get(group)
        claims.append(NameClaim(flag, "true") if flag else NameClaim(group, value))
    if date and time:
        try:
            local = datetime.strptime(date + time, "%Y%m%d%H%M%S").replace(tzinfo=ZoneInfo(profile.timezone))
            claims.append(NameClaim("device_started_at", local.isoformat(), profile.clock))
        except ValueError:
            claims.append(NameClaim("device_started_text", f"{date}_{time}", profile.clock))
    return claims


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
