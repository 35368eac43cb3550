"""Sentences of satellite receivers, as recorders write them into subtitles and data: RMC and GGA.

Only sentences whose checksum holds are believed; a subtitle is text anybody could have written there.

Source: NMEA 0183, sentences RMC and GGA; the checksum is the exclusive or of what stands between ``$`` and
``*``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce

MAX_PACKET_BYTES = 64 << 10
MAX_SENTENCES = 1000
_SENTENCE = re.compile(rb"\$([A-Z]{2}(?:RMC|GGA),[\x20-\x23\x25-\x29\x2b-\x7e]{10,120})\*([0-9A-Fa-f]{2})")
_CLOCK = re.compile(r"(\d{2})(\d{2})(\d{2})(?:\.(\d{1,6}))?")
_ANGLE = re.compile(r"(\d{1,3})(\d{2}\.\d{1,8})")


@dataclass(frozen=True)
class Sentence:
    """A position one sentence gives."""

    latitude: float
    longitude: float
    altitude_m: float | None
    utc: datetime | None
    """None in GGA, which has no date."""


def sentences(packet: bytes) -> list[Sentence]:
    """The valid positions in a packet, in order; RMC first of two that mean one instant."""
    found = []
    for number, match in enumerate(_SENTENCE.finditer(packet[:MAX_PACKET_BYTES])):
        if number == MAX_SENTENCES:
            break
        if reduce(lambda total, byte: total ^ byte, match[1], 0) == int(match[2], 16):
            fields = match[1].decode("ascii").split(",")
            read = _rmc(fields) if fields[0].endswith("RMC") else _gga(fields)
            if read is not None:
                found.append(read)
    return found


def _rmc(fields: list[str]) -> Sentence | None:
    if len(fields) < 10 or fields[2] != "A":
        return None
    latitude, longitude = _angle(fields[3], fields[4], "NS"), _angle(fields[5], fields[6], "EW")
    if latitude is None or longitude is None:
        return None
    return Sentence(latitude, longitude, None, _instant(fields[9], fields[1]))


def _gga(fields: list[str]) -> Sentence | None:
    if len(fields) < 10 or fields[6] in {"", "0"}:
        return None
    latitude, longitude = _angle(fields[2], fields[3], "NS"), _angle(fields[4], fields[5], "EW")
    if latitude is None or longitude is None:
        return None
    try:
        altitude = float(fields[9]) if fields[9] else None
    except ValueError:
        altitude = None
    return Sentence(latitude, longitude, altitude, None)


def _angle(text: str, mark: str, marks: str) -> float | None:
    """Degrees and minutes with their half of the earth."""
    found = _ANGLE.fullmatch(text)
    if found is None or mark not in marks or not mark or float(found[2]) >= 60:
        return None
    degrees = int(found[1]) + float(found[2]) / 60
    return -degrees if mark == marks[1] else degrees


def _instant(date: str, clock: str) -> datetime | None:
    found = _CLOCK.fullmatch(clock)
    if found is None or not re.fullmatch(r"\d{6}", date):
        return None
    fraction = (found[4] or "0").ljust(6, "0")
    try:
        return datetime.strptime(f"{date}{clock[:6]}{fraction}", "%d%m%y%H%M%S%f").replace(tzinfo=UTC)
    except ValueError:
        return None
