"""`ZFY_INFO`, the record recorders keep of themselves and their holder (rule D9).

94 packed bytes, five fields of fixed width, each ended by NUL. The text is likely GBK
(unconfirmed); UTF-8 is tried first, because GBK text is hardly ever valid UTF-8.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from liuhen_dock.errors import DockError

WIDTHS_BYTES = {"serial": 8, "user_no": 7, "user_name": 33, "unit_no": 13, "unit_name": 33}
SIZE_BYTES = sum(WIDTHS_BYTES.values())


@dataclass(frozen=True)
class ZfyInfo:
    """Serial number, officer, unit. Serial and officer number are required by the layout's users."""

    serial: str = ""
    user_no: str = ""
    user_name: str = ""
    unit_no: str = ""
    unit_name: str = ""
    raw: bytes = field(default=b"", compare=False, repr=False)
    """The record as the camera gave it, when it did."""

    @classmethod
    def parse(cls, raw: bytes) -> ZfyInfo:
        """Read the record; what lies behind a field's NUL is not part of it.

        Raises:
            DockError: Code ``zfy_unreadable``: not 94 bytes, or a field that is no text.
        """
        if len(raw) != SIZE_BYTES:
            raise DockError(f"ZFY_INFO: expected {SIZE_BYTES} bytes, found {len(raw)}", code="zfy_unreadable")
        fields: dict[str, str] = {}
        at = 0
        for name, width in WIDTHS_BYTES.items():
            fields[name] = _text(name, raw[at : at + width])
            at += width
        return cls(**fields, raw=raw)

    def packed(self) -> bytes:
        """The 94 bytes, text in GBK.

        Raises:
            DockError: Code ``zfy_unreadable``: a field does not fit with its NUL.
        """
        parts = []
        for name, width in WIDTHS_BYTES.items():
            text: str = getattr(self, name)
            try:
                value = text.encode("gbk")
            except UnicodeEncodeError as error:
                raise DockError(f"ZFY_INFO {name}: expected GBK text", code="zfy_unreadable") from error
            if len(value) >= width or b"\0" in value:
                raise DockError(
                    f"ZFY_INFO {name}: expected at most {width - 1} bytes without NUL, found {len(value)}",
                    code="zfy_unreadable",
                )
            parts.append(value.ljust(width, b"\0"))
        return b"".join(parts)


def _text(name: str, content: bytes) -> str:
    raw = content.split(b"\0", 1)[0]
    for encoding in ("utf-8", "gb18030"):
        try:
            text = raw.decode(encoding).strip()
        except UnicodeDecodeError:
            continue
        if text.isprintable():
            return text
    raise DockError(f"ZFY_INFO {name}: expected text, found other bytes", code="zfy_unreadable")
