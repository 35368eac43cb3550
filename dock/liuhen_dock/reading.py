"""One file of a card, read once: what is sent and what is digested are the same bytes.

Before each piece leaves, the file must still be the one that was seen: same size, time and
inode. So the last piece of a file that changed meanwhile is never sent, and a server never
holds a whole file that is half one and half another.
"""

from __future__ import annotations

import hashlib
import io
import os
from typing import Self

from liuhen_dock.card import Camera, Footage
from liuhen_dock.errors import CardGone, FileChanged, ReadFault
from liuhen_dock.names import shown

READ_BYTES = 1 << 20


class CardFile:
    """An open file of a card and the digest of what was read of it so far."""

    def __init__(self, camera: Camera, footage: Footage) -> None:
        self._camera = camera
        self._footage = footage
        self._digest = hashlib.sha256()
        self.digested_bytes = 0
        self._file: io.RawIOBase | None = None

    def __enter__(self) -> Self:
        try:
            self._file = self._camera.driver.open_file(self._footage.path)
        except OSError as error:
            raise self._fault(error) from error
        self.require_same()
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                raise self._fault(error) from error

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Bytes from an offset, all of them; digested when they were not yet.

        Raises:
            CardGone: The card was pulled.
            ReadFault: The card is there and cannot give these bytes.
            FileChanged: The file is not the one that was seen.
        """
        content = self._read(offset_bytes, size_bytes)
        self.require_same()
        new = offset_bytes + len(content) - self.digested_bytes
        if 0 < new <= len(content):
            self._digest.update(memoryview(content)[len(content) - new :])
            self.digested_bytes += new
        return content

    def digest_of_prefix(self, until_bytes: int) -> str:
        """Read and digest on to a position (no further); the digest of everything before it."""
        while self.digested_bytes < until_bytes:
            self.read(self.digested_bytes, min(READ_BYTES, until_bytes - self.digested_bytes))
        return self._digest.hexdigest()

    def sha256(self) -> str:
        """The digest of the whole file; what was not yet read is read now."""
        return self.digest_of_prefix(self._footage.size_bytes)

    def require_same(self) -> None:
        """Require the file, by its name, to be the one that was seen.

        Raises:
            CardGone: The card is not there.
            FileChanged: It is another, or gone.
        """
        try:
            found = os.lstat(self._footage.path)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and self._camera.is_there():
                raise FileChanged(f"{shown(self._footage.name)}: expected it there, found it gone") from error
            raise self._fault(error) from error
        try:
            self._footage.require_same(found, stable_inodes=self._camera.volume.has_stable_inodes)
        except FileChanged as error:
            if not self._camera.is_there():  # another card has come in under the same name
                raise CardGone(
                    f"{shown(str(self._camera.root))}: expected the card, found another"
                ) from error
            raise

    def _read(self, offset_bytes: int, size_bytes: int) -> bytes:
        if self._file is None:
            raise ValueError("the file is not open")
        parts: list[bytes] = []
        left = size_bytes
        try:
            self._file.seek(offset_bytes)
            while left:
                part = self._file.read(left)
                if not part:
                    self.require_same()
                    raise FileChanged(f"{shown(self._footage.name)}: expected {left} more bytes, found none")
                parts.append(part)
                left -= len(part)
        except OSError as error:
            raise self._fault(error) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _fault(self, error: OSError) -> CardGone | ReadFault:
        if not self._camera.is_there():
            return CardGone(f"{shown(str(self._camera.root))}: expected the card, found it gone")
        return ReadFault(f"{shown(self._footage.name)}: expected readable bytes, found: {error.strerror}")
