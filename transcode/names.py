"""Names of derivatives in addresses: kind, the beginning of the digest, suffix.

The digest makes a name of each content, so that what takes another's place has another address. Names also
stand inside what is served: a track of thumbnails names its sheets.
"""

from __future__ import annotations

from collections.abc import Mapping

DIGEST_CHARS = 16
MASKED_PREFIX = "redacted_"
"""Before the kind of what is made from a masked rendition."""
WAYFINDING: Mapping[str, str] = {
    "sheet": "jpg",
    "thumbnails": "vtt",
    "waveform": "json",
    "waveform_image": "png",
    "scenes": "json",
}
"""What helps to find one's way in a rendition, by kind, and how its names end."""
SUFFIXES: Mapping[str, str] = {
    "redacted": "mp4",
    "redacted_photo": "jpg",
    "redacted_poster": "jpg",
    **WAYFINDING,
    **{f"{MASKED_PREFIX}{kind}": suffix for kind, suffix in WAYFINDING.items()},
}


def address_name(kind: str, sha256: bytes) -> str:
    """The name of a derivative in an address."""
    return f"{kind}-{sha256.hex()[:DIGEST_CHARS]}.{SUFFIXES[kind]}"
