"""Where a recording was made, second by second: positions from telemetry, sentences and timed points.

`track_entry` runs in a child (`media.sandbox`). It reads the data and subtitle streams of one file, and
nothing of its picture or sound, and writes a GeoJSON line with the times of each point: media time in
microseconds, and the satellites' time where the recorder kept it. A route says where people went, so what
it writes is unmasked: for holders of the right to the original.

Source: RFC 7946; `coordTimes` as common converters write it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import av.error
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard

from evidence.clock import rfc3339
from evidence.geography import is_on_earth, read_point, write_point
from media import gpmf, nmea
from media.counting import ratio
from media.errors import is_out_of_memory
from media.trial import open_container

MAX_POINTS = 50_000
"""Twice as many are thinned to every other one, again and again, so that a day still fits."""
MAX_PACKET_BYTES = 1 << 20
MAX_PACKETS = 5_000_000
SOURCES = ("gpmf", "nmea", "iso6709")


@dataclass(frozen=True)
class Point:
    """A position at a media time."""

    at: Fraction
    """Seconds of the file's own clock."""
    latitude: float
    longitude: float
    altitude_m: float | None
    utc: datetime | None
    source: str


def track_entry(request: dict[str, object], progress: Callable[[float], None]) -> dict[str, object]:
    """Write the track of one file.

    Args:
        request: ``path`` (absolute), ``destination`` of the GeoJSON, ``origin``: seconds of the file's own
            clock that are media time 0, as a fraction.
        progress: Hears 0 to 1.

    Returns:
        ``point_count`` (0: nothing was written), ``thinned_by``, ``sources``, and the ``claims`` it makes.
    """
    path = Path(str(request["path"]))
    origin = Fraction(str(request["origin"]))
    size = max(1, path.stat().st_size)
    track = Track()
    with open_container(path) as container:
        for packet in _packets(container):
            track.add(points_of(packet))
            if packet.pos:
                progress(min(1.0, packet.pos / size))
    if not track.points:
        return {"point_count": 0, "thinned_by": 1, "sources": [], "claims": []}
    feature = geojson(track.points, origin)
    Path(str(request["destination"])).write_text(json.dumps(feature, separators=(",", ":")), encoding="ascii")
    return {
        "point_count": len(track.points),
        "thinned_by": track.stride,
        "sources": sorted({point.source for point in track.points}),
        "claims": list(claims_of(track, origin)),
    }


class Track:
    """Points as they come, never more than `MAX_POINTS` of them for long."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.stride = 1
        self.last: Point | None = None
        self._seen = 0

    def add(self, found: list[Point]) -> None:
        for point in found:
            if self._seen % self.stride == 0:
                self.points.append(point)
            self._seen += 1
            self.last = point
        if len(self.points) >= 2 * MAX_POINTS:
            self.points = self.points[::2]
            self.stride *= 2


def points_of(packet: Packet[Any]) -> list[Point]:
    """The positions in a packet, by whichever form it has."""
    base = ratio(packet.time_base)
    if packet.pts is None or base is None or packet.size > MAX_PACKET_BYTES:
        return []
    at = packet.pts * Fraction(base)
    length = (packet.duration or 0) * Fraction(base)
    body = bytes(packet)
    found = [
        Point(at + length * sample.share[0] / sample.share[1], sample.latitude, sample.longitude,
              sample.altitude_m, sample.utc, "gpmf")
        for sample in gpmf.positions(body)
    ]  # fmt: skip
    if not found:
        found = _merged(
            Point(at, said.latitude, said.longitude, said.altitude_m, said.utc, "nmea")
            for said in nmea.sentences(body)
        )
    if not found and len(body) <= 256:
        # A subtitle of MP4 begins with the length of its text.
        text = body[2:] if body[:2] == (len(body) - 2).to_bytes(2, "big") else body
        point = read_point(text.decode("ascii", "replace"))
        found = [Point(at, *point, None, None, "iso6709")] if point else []
    return [point for point in found if is_on_earth(point.latitude, point.longitude)]


def _merged(points: Iterator[Point]) -> list[Point]:
    """RMC and GGA of one instant as one point: the time of one, the height of the other."""
    found: list[Point] = []
    for point in points:
        before = found[-1] if found else None
        if before and (before.latitude, before.longitude) == (point.latitude, point.longitude):
            height = before.altitude_m if point.altitude_m is None else point.altitude_m
            found[-1] = replace(before, altitude_m=height, utc=before.utc or point.utc)
        else:
            found.append(point)
    return found


def geojson(points: list[Point], origin: Fraction) -> dict[str, object]:
    """A line, or a point where there is only one, with the times of each of its places."""
    places = [
        [round(point.longitude, 7), round(point.latitude, 7)]
        + ([] if point.altitude_m is None else [round(point.altitude_m, 2)])
        for point in points
    ]
    geometry: dict[str, object] = (
        {"type": "LineString", "coordinates": places}
        if len(places) > 1
        else {"type": "Point", "coordinates": places[0]}
    )
    properties = {
        "media_us": [_media_us(point, origin) for point in points],
        "coordTimes": [rfc3339(point.utc) if point.utc else None for point in points],
        "clock": "gps",
    }
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def claims_of(track: Track, origin: Fraction) -> Iterator[dict[str, str]]:
    """First and last place, the box around all, and when media time 0 was by the satellites."""
    points = track.points
    first, last = points[0], track.last or points[-1]
    south, north = min(p.latitude for p in points), max(p.latitude for p in points)
    west, east = min(p.longitude for p in points), max(p.longitude for p in points)
    yield _claim("location", write_point(first.latitude, first.longitude))
    yield _claim("location_last", write_point(last.latitude, last.longitude))
    yield _claim("location_bounds", write_point(south, west) + write_point(north, east))
    timed = next((point for point in points if point.utc is not None), None)
    if timed is not None and timed.utc is not None:
        with suppress(OverflowError):
            started = timed.utc - timedelta(microseconds=_media_us(timed, origin))
            yield _claim("gps_started_at", rfc3339(started), "gps")


def _claim(field: str, value: str, clock: str = "") -> dict[str, str]:
    return {"field": field, "value": value, "clock": clock}


def _media_us(point: Point, origin: Fraction) -> int:
    return round((point.at - origin) * 1_000_000)


def _packets(container: InputContainer) -> Iterator[Packet[Any]]:
    wanted = [stream for stream in container.streams if stream.type in {"data", "subtitle"}]
    if not wanted:
        return
    for stream in container.streams:
        if stream not in wanted:
            # Gigabytes of picture are skipped, not read, where the container has tables.
            stream.discard = Discard.all
    try:
        for number, packet in enumerate(container.demux(wanted)):
            if number == MAX_PACKETS:
                return
            if packet.size:
                yield packet
    except av.error.FFmpegError as error:
        if is_out_of_memory(error):
            raise MemoryError from error
        # A file that is cut off has a track up to there.
