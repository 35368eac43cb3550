"""Photos: what they are, and the derivative without anything but the picture.

Pillow decodes; a picture larger than the limit is refused by its header. Runs in a child only.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from evidence.clock import rfc3339
from evidence.errors import MediaError
from evidence.kinds import MediaKind
from media import formats
from media.errors import media_error, reason
from media.report import ProbeReport
from media.tags import FIRMWARE, LOCAL_TIME, SERIAL, STARTED, names_an_instant

DECODERS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")
MAX_VALUE_CHARACTERS = 300
TIMES = (ExifTags.Base.DateTimeOriginal, ExifTags.Base.DateTime)
EXIF_CLAIMS = {
    ExifTags.Base.Make: "device_make",
    ExifTags.Base.Model: "device_model",
    ExifTags.Base.BodySerialNumber: SERIAL,
    ExifTags.Base.Software: FIRMWARE,
}


def probe_photo(path: Path, container: str, size_bytes: int) -> ProbeReport:
    """Report on a photo; one that cannot be decoded is a photo all the same."""
    report = ProbeReport(MediaKind.PHOTO, container, size_bytes, False, None)
    try:
        with open_photo(path) as picture:
            upright = ImageOps.exif_transpose(picture)
            found = replace(
                report,
                decodable=True,
                width_px=upright.width,
                height_px=upright.height,
                claims=tuple(_claims(picture)),
            )
            return replace(found, flags=(reason("truncated"),)) if _is_cut(path) else found
    except MediaError as error:
        return replace(report, reason=reason(error.code))


@contextmanager
def open_photo(path: Path) -> Iterator[Image.Image]:
    """Open and decode a photo; what is missing at its end stays grey.

    Raises:
        MediaError: ``huge_dimensions``, ``unknown_codec`` or ``nothing_decodes``.
    """
    Image.MAX_IMAGE_PIXELS = formats.MAX_PICTURE_PX
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=DECODERS) as picture:
                if formats.is_huge(*picture.size):
                    raise media_error("huge_dimensions", f"{picture.width}x{picture.height}")
                picture.load()
                yield picture
        except Image.DecompressionBombError as error:
            raise media_error("huge_dimensions", str(error)) from error
        except UnidentifiedImageError as error:
            raise media_error("unknown_codec") from error
        except (OSError, ValueError, SyntaxError, EOFError, ZeroDivisionError) as error:
            raise media_error("nothing_decodes", str(error)) from error


def write_photo_derivative(
    source: Path, destination: Path, *, max_side_px: int, quality: int
) -> tuple[int, int]:
    """Write a JPEG that holds the picture, upright, and nothing else of its source.

    Returns:
        Width and height.
    """
    with open_photo(source) as picture:
        upright = ImageOps.exif_transpose(picture)
        flat = _flattened(upright)
        flat.thumbnail((max_side_px, max_side_px), Image.Resampling.LANCZOS)
        # A new image from the pixels alone: nothing of the source's segments can follow it.
        bare = Image.frombytes("RGB", flat.size, flat.tobytes())
        bare.save(destination, "JPEG", quality=quality, optimize=False)
        return bare.size


def _flattened(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16") or picture.mode == "I":
        return picture.point(lambda value: value / 256).convert("L").convert("RGB")
    if "A" in picture.getbands() or "transparency" in picture.info:
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")


def _is_cut(path: Path) -> bool:
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(path, formats=DECODERS) as picture:
            picture.load()
    except (OSError, ValueError, SyntaxError, EOFError):
        return True
    return False


def _claims(picture: Image.Image) -> Iterator[dict[str, str]]:
    exif = picture.getexif()
    values = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    asked = (*EXIF_CLAIMS, *TIMES, ExifTags.Base.OffsetTimeOriginal, ExifTags.Base.SubsecTimeOriginal)
    said = {tag: _said(values.get(tag)) for tag in asked}
    taken = next((said[tag] for tag in TIMES if said[tag]), "")
    if taken:
        # 2026:03:01 16:00:00, and the zone in a tag of its own that few devices write.
        part = said[ExifTags.Base.SubsecTimeOriginal]
        clock = f"{taken[11:19]}.{part}" if part.isdecimal() and len(part) <= 6 else taken[11:19]
        moment = f"{taken[:10].replace(':', '-')}T{clock}{said[ExifTags.Base.OffsetTimeOriginal]}"
        name = STARTED if names_an_instant(moment) else LOCAL_TIME
        yield {"field": name, "value": moment, "clock": "device"}
    for tag, name in EXIF_CLAIMS.items():
        if said[tag]:
            yield {"field": name, "value": said[tag], "clock": ""}
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    if position := _position(gps):
        yield {"field": "location", "value": position, "clock": ""}
    if by_satellites := _moment(gps):
        yield {"field": "gps_started_at", "value": by_satellites, "clock": "gps"}


def _said(value: object) -> str:
    return str(value or "").replace("\0", " ").strip()[:MAX_VALUE_CHARACTERS]


def _moment(gps: dict[int, object]) -> str | None:
    """The satellites' date and time, which EXIF keeps in UTC; None when they are not whole."""
    date, clock = gps.get(ExifTags.GPS.GPSDateStamp), gps.get(ExifTags.GPS.GPSTimeStamp)
    if not isinstance(clock, tuple) or len(clock) != 3:
        return None
    try:
        hours, minutes, seconds = (float(part) for part in clock)
        day = datetime.strptime(_said(date), "%Y:%m:%d").replace(tzinfo=UTC)
        return rfc3339(day + timedelta(hours=hours, minutes=minutes, seconds=seconds))
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None


def _position(gps: dict[int, object]) -> str | None:
    """Latitude and longitude as ISO 6709, None when EXIF has no usable ones."""
    parts = []
    for value_tag, mark_tag, digits in ((2, 1, 2), (4, 3, 3)):
        value, mark = gps.get(value_tag), gps.get(mark_tag)
        if not isinstance(value, tuple) or len(value) != 3:
            return None
        try:
            degrees = float(value[0]) + float(value[1]) / 60 + float(value[2]) / 3600
        except (TypeError, ValueError, ZeroDivisionError):
            return None
        sign = "-" if mark in {"S", "W"} else "+"
        parts.append(f"{sign}{degrees:0{digits + 6}.5f}")
    return "".join(parts) + "/"
