"""What a container says about itself: texts made safe, and the claims among them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from av.container import InputContainer

MAX_TAGS = 64
MAX_TAG_CHARACTERS = 300
STARTED, LOCAL_TIME = "device_started_at", "device_local_time"
"""An instant, and a clock's reading that names none because no zone stands with it."""
FIRMWARE, SERIAL = "device_firmware", "device_serial"
CLAIM_TAGS = {
    "creation_time": (STARTED, "device"),
    "com.apple.quicktime.creationdate": (STARTED, "device"),
    "date": (STARTED, "device"),
    "timecode": ("timecode", "device"),
    "make": ("device_make", ""),
    "com.apple.quicktime.make": ("device_make", ""),
    "com.android.manufacturer": ("device_make", ""),
    "model": ("device_model", ""),
    "com.apple.quicktime.model": ("device_model", ""),
    "com.android.model": ("device_model", ""),
    "firmware": (FIRMWARE, ""),
    "com.apple.quicktime.software": (FIRMWARE, ""),
    "serial_number": (SERIAL, ""),
    "location": ("location", ""),
    "com.apple.quicktime.location.iso6709": ("location", ""),
}

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIME_OF_DAY = re.compile(r"\d{2}:\d{2}:\d{2}")


def plain_text(value: str) -> str:
    """A tag as text: UTF-8, else GBK as older recorders write it, without control characters."""
    raw = str(value)[: MAX_TAG_CHARACTERS * 4].encode("utf-8", "surrogateescape")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("gb18030", "replace")
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", text).strip()[:MAX_TAG_CHARACTERS]


def tags_of(container: InputContainer) -> dict[str, str]:
    """Container tags first, then those of each stream that say something new."""
    found: dict[str, str] = {}
    for holder in (container, *container.streams):
        for name, value in holder.metadata.items():
            if len(found) >= MAX_TAGS:
                return found
            if text := plain_text(value):
                found.setdefault(plain_text(name).lower(), text)
    return found


def claims_of(tags: dict[str, str]) -> Iterator[dict[str, str]]:
    said = set()
    for name, value in _joined(tags).items():
        # Tags can carry a language: location-eng.
        field_name, clock = CLAIM_TAGS.get(name) or CLAIM_TAGS.get(name.split("-")[0], ("", ""))
        if field_name == STARTED and not names_an_instant(value):
            field_name = LOCAL_TIME
        if field_name and (field_name, value) not in said:
            said.add((field_name, value))
            yield {"field": field_name, "value": value, "clock": clock}


def _joined(tags: dict[str, str]) -> dict[str, str]:
    """The tags, a date and a time of day that stand apart (Broadcast Wave) as one."""
    date, clock = tags.get("date", ""), tags.get("creation_time", "")
    if _DATE.fullmatch(date) and _TIME_OF_DAY.fullmatch(clock):
        rest = {name: value for name, value in tags.items() if name not in {"date", "creation_time"}}
        return {**rest, "creation_time": f"{date}T{clock}"}
    return tags


def names_an_instant(text: str) -> bool:
    """Whether a time is ISO 8601 with a zone."""
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
