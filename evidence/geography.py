"""Points on the earth as claims write them: ISO 6709, and how far two are apart."""

from __future__ import annotations

import math
import re

EARTH_RADIUS_M = 6_371_008.8
MAX_TEXT_CHARS = 100
_POINT = re.compile(
    r"([+-]\d{1,2}(?:\.\d{1,12})?)([+-]\d{1,3}(?:\.\d{1,12})?)([+-]\d{1,6}(?:\.\d{1,6})?)?(?:CRS[\w:]{1,20})?/?"
)

LatLon = tuple[float, float]


def write_point(latitude: float, longitude: float) -> str:
    """A point in degrees as ISO 6709 annex H, to a tenth of a metre or so."""
    return f"{latitude:+010.6f}{longitude:+011.6f}/"


def read_point(text: str) -> LatLon | None:
    """Latitude and longitude in degrees; None where the text is no ISO 6709 in decimal degrees."""
    found = _POINT.fullmatch(text.strip()[:MAX_TEXT_CHARS])
    if found is None:
        return None
    latitude, longitude = float(found[1]), float(found[2])
    return (latitude, longitude) if is_on_earth(latitude, longitude) else None


def is_on_earth(latitude: float, longitude: float) -> bool:
    return (
        math.isfinite(latitude) and math.isfinite(longitude) and abs(latitude) <= 90 and abs(longitude) <= 180
    )


def distance_m(one: LatLon, other: LatLon) -> float:
    """Metres along the great circle of a spherical earth."""
    (lat1, lon1), (lat2, lon2) = (tuple(map(math.radians, point)) for point in (one, other))
    half = (
        math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(half)))
