"""Addresses that are proof in themselves: signed, for one grant or clip, with an end.

Players cannot send an Authorization header, so what they fetch lies under a capability:
``base64url(use | agency | subject | expiry | key id | tag)``, 79 bytes in 106 characters. The tag is
HMAC-SHA-256 under the installation's grant key, whose id stands in the token, so that keys can be
changed. A capability only says *which* grant; whether that grant is in force is asked of the database
each time.
"""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from uuid import UUID

from evidence.clock import from_micros, to_micros
from evidence.errors import NotFound
from storage.keys import KeyRing

_CLAIM = struct.Struct(">c16s16sQ")
KEY_ID_BYTES = 6
TAG_BYTES = 32
TOKEN_BYTES = _CLAIM.size + KEY_ID_BYTES + TAG_BYTES
TOKEN_CHARS = -(-TOKEN_BYTES * 4 // 3)
KEY_PREFIX = "grant-"


class Use(Enum):
    """What a capability opens."""

    PLAYLIST = b"P"
    MEDIA = b"M"
    CLIP = b"C"
    CLIP_SET = b"T"
    SET = b"S"
    LIVE = b"L"


@dataclass(frozen=True)
class Capability:
    """A token taken apart, found genuine and not past its end."""

    use: Use
    agency_id: UUID
    subject_id: UUID
    """The grant; for `Use.CLIP` the clip, for `Use.CLIP_SET` its set, for `Use.SET` the grant set,
    for `Use.LIVE` the live grant, of which it opens lists and bytes."""
    expires_at: datetime
    key_id: str
    """The key that signed it; without that key it is worth nothing."""


def mint(keys: KeyRing, use: Use, agency_id: UUID, subject_id: UUID, expires_at: datetime) -> str:
    """A token for an address."""
    claim = _CLAIM.pack(use.value, agency_id.bytes, subject_id.bytes, to_micros(expires_at))
    key_id, tag = keys.mac(claim)
    raw = claim + bytes.fromhex(key_id.removeprefix(KEY_PREFIX)) + tag
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def unfold(keys: KeyRing, token: str, now: datetime) -> Capability:
    """What a token says.

    Raises:
        NotFound: It was not made here (``capability_unknown``), or its end has passed (``grant_ended``).
    """
    raw = _raw(token)
    claim, key_id, tag = raw[: _CLAIM.size], raw[_CLAIM.size : -TAG_BYTES], raw[-TAG_BYTES:]
    if not keys.check_mac(KEY_PREFIX + key_id.hex(), claim, tag):
        raise _unknown()
    use, agency, subject, micros = _CLAIM.unpack(claim)
    expires_at = from_micros(micros)
    if now >= expires_at:
        raise NotFound("grant: expected one in force, found its end passed; ask again", code="grant_ended")
    return Capability(
        Use(use), UUID(bytes=agency), UUID(bytes=subject), expires_at, KEY_PREFIX + key_id.hex()
    )


def _raw(token: str) -> bytes:
    if len(token) != TOKEN_CHARS:
        raise _unknown()
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _unknown() from error
    # Base64 has spare bits at the end; only one spelling of a token is the token.
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii") != token:
        raise _unknown()
    return raw


def _unknown() -> NotFound:
    return NotFound("address: expected one that was issued here, found another", code="capability_unknown")
