"""What a sender says a body comes to, and what it does: ``Upload-Checksum`` of tus, digest fields of HTTP.

A checksum stands in the head of a request. One that follows the body, as a trailer, is not offered:
the listener is not told of trailers.

Source: https://tus.io/protocols/resumable-upload#checksum; RFC 9530, sections 2 and 3.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping

from evidence.errors import FixityError, InvalidInput

CHECKSUM_ALGORITHMS = ("sha256", "sha512", "sha1", "md5")
DIGEST_FIELDS = ("repr-digest", "content-digest")
"""Of a whole body that is sent without a content coding both say the same."""
_FIELD_ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512"}
_FIELD_MEMBER = re.compile(r"([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):")


class Checksum:
    """One or more digests a body has to come to."""

    def __init__(self, algorithm: str, expected: bytes, also: Checksum | None = None) -> None:
        self.algorithm = algorithm
        self._expected = expected
        self._found = hashlib.new(algorithm, usedforsecurity=False)
        self._also = also

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> Checksum | None:
        """The ``Upload-Checksum`` a request announces, None when it announces none.

        Raises:
            InvalidInput: An algorithm we do not offer (``bad_checksum_algorithm``), or no base64.
        """
        header = headers.get("upload-checksum")
        if header is None:
            return None
        algorithm, _, encoded = header.partition(" ")
        if algorithm not in CHECKSUM_ALGORITHMS:
            raise InvalidInput(
                f"Upload-Checksum: expected one of {', '.join(CHECKSUM_ALGORITHMS)}, "
                f"found {algorithm[:40]!a}",
                code="bad_checksum_algorithm",
            )
        return cls(algorithm, _decoded("Upload-Checksum", encoded))

    @classmethod
    def read_fields(cls, headers: Mapping[str, str]) -> Checksum | None:
        """What ``Repr-Digest`` and ``Content-Digest`` announce, None when neither is there.

        Algorithms we do not know are passed over, as RFC 9530 asks, but not if no other is left:
        who sends a digest wants it checked.

        Raises:
            InvalidInput: Not of the form ``sha-256=:BASE64:``, or only of other algorithms.
        """
        wanted: Checksum | None = None
        named = [name for name in DIGEST_FIELDS if name in headers]
        for name in named:
            for member in headers[name].split(","):
                match = _FIELD_MEMBER.fullmatch(member.strip())
                if match is None:
                    raise InvalidInput(
                        f"{name.title()}: expected sha-256=:BASE64:, found {member.strip()[:40]!a}",
                        code="bad_checksum",
                    )
                if algorithm := _FIELD_ALGORITHMS.get(match[1]):
                    wanted = cls(algorithm, _decoded(name.title(), match[2]), wanted)
        if named and wanted is None:
            raise InvalidInput(
                f"digest: expected one of {', '.join(_FIELD_ALGORITHMS)}, found others only",
                code="bad_checksum_algorithm",
            )
        return wanted

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the body."""
        self._found.update(data)
        if self._also is not None:
            self._also.update(data)

    def require_match(self) -> None:
        """Require the body to be what was announced.

        Raises:
            FixityError: Code ``checksum_mismatch``, answered with 460.
        """
        if not hmac.compare_digest(self._found.digest(), self._expected):
            raise FixityError(
                f"body: expected {self.algorithm} {self._expected.hex()}, found {self._found.hexdigest()}; "
                "none of it was kept, send it again",
                code="checksum_mismatch",
            )
        if self._also is not None:
            self._also.require_match()


def _decoded(name: str, encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except ValueError as error:
        raise InvalidInput(f"{name}: expected base64, found something else", code="bad_checksum") from error
