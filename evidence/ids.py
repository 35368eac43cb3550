"""Identifiers: UUIDv7, so that rows sort by the time they were made (RFC 9562, section 5.7)."""

from __future__ import annotations

import os
import time
from uuid import UUID


def new_id(now_ns: int | None = None) -> UUID:
    """A fresh UUIDv7: 48 bits of Unix milliseconds, 74 random bits."""
    millis = (time.time_ns() if now_ns is None else now_ns) // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = (millis & (1 << 48) - 1) << 80
    value |= 0x7 << 76 | (random >> 68 & 0xFFF) << 64
    value |= 0b10 << 62 | random & (1 << 62) - 1
    return UUID(int=value)
