"""``ZFY_INFO``: what a recorder holds of itself and of who carries it, as drivers hand it over (D9).

94 bytes, packed, five fields that end at their first NUL. Read in the kits of several makers and not in
the standard itself, so layout is secondary and the coding of its text unconfirmed: UTF-8 where it is
that, else GB 18030, of which GBK and GB 2312 are parts. What is read becomes claims of the device.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from evidence.errors import InvalidInput

FIELDS = (("device_no", 8), ("officer_no", 7), ("officer_name", 33), ("unit_no", 13), ("unit_name", 33))
"""Claim and bytes of cSerial, userNo, userName, unitNo and unitName, in their order."""
SIZE_BYTES = sum(size for _, size in FIELDS)
MAX_BASE64_CHARS = 256


@dataclass(frozen=True)
class ZfyInfo:
    """What one recorder said; empty where it said nothing."""

    device_no: str
    officer_no: str
    officer_name: str
    unit_no: str
    unit_name: str

    def claims(self) -> dict[str, str]:
        """The fields that say something."""
        return {name: value for name, _ in FIELDS if (value := str(getattr(self, name)))}


def parse_zfy(raw: bytes) -> ZfyInfo:
    """Read the record.

    Raises:
        InvalidInput: It has another size, or a field is no text.
    """
    if len(raw) != SIZE_BYTES:
        raise InvalidInput(
            f"ZFY_INFO: expected {SIZE_BYTES} bytes, found {len(raw)}", code="zfy_info_invalid"
        )
    values = {}
    at = 0
    for name, size in FIELDS:
        values[name] = _text(name, raw[at : at + size])
        at += size
    return ZfyInfo(**values)


def parse_zfy_base64(text: str) -> ZfyInfo:
    """Read the record as metadata and sidecars carry it.

    Raises:
        InvalidInput: It is no base64, or as `parse_zfy`.
    """
    try:
        raw = base64.b64decode(text.strip()[:MAX_BASE64_CHARS], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(
            f"ZFY_INFO: expected base64 of {SIZE_BYTES} bytes, found other text", code="zfy_info_invalid"
        ) from error
    return parse_zfy(raw)


def _text(name: str, field: bytes) -> str:
    """A field up to its first NUL, without the spaces and unset flash (0xFF) some firmware pads with."""
    said = field.split(b"\0", 1)[0].rstrip(b"\xff")
    for encoding in ("utf-8", "gb18030"):
        try:
            text = said.decode(encoding).strip()
        except UnicodeDecodeError:
            continue
        if all(character.isprintable() for character in text):
            return text
    raise InvalidInput(
        f"ZFY_INFO {name}: expected UTF-8 or GB 18030 text, found bytes {said.hex()}", code="zfy_info_invalid"
    )
