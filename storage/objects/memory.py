"""Objects in memory: a small working store for tests of everything above it."""

from __future__ import annotations

import builtins
import io
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from evidence.errors import FixityError, NotFound
from evidence.fixity import compare, compare_size, hash_stream
from storage.objects.base import (
    DisposalOrder,
    Namespace,
    StoredObject,
    object_key,
    parse_key,
    require_deletable,
)
from storage.objects.durable import require_space


class MemoryObjectStore:
    """An `ObjectStore` whose objects are gone with the process."""

    def __init__(self, staging_dir: Path, *, capacity_bytes: int = 1 << 30, floor_bytes: int = 0) -> None:
        self._staging_dir = staging_dir
        self._capacity_bytes = capacity_bytes
        self._floor_bytes = floor_bytes
        self._objects: dict[str, bytes] = {}
        self._aside: dict[str, builtins.list[bytes]] = {}

    @property
    def staging_dir(self) -> Path:
        return self._staging_dir

    def adopt(
        self,
        staged: Path,
        sha256: bytes,
        size: int,
        agency: str,
        namespace: Namespace = Namespace.ORIGINAL,
    ) -> StoredObject:
        key = object_key(agency, namespace, sha256)
        held = self._objects.get(key)
        if not staged.exists() and not staged.is_symlink():
            if held is None:
                raise NotFound(
                    f"object {key}: expected a staged file or the object, found neither; "
                    "the sender must send again",
                    code="staged_file_missing",
                    key=key,
                )
            compare_size(size, len(held), f"object {key}")
            return StoredObject(key, size, reused=True)
        if not stat.S_ISREG(staged.lstat().st_mode):
            raise FixityError(f"object {key}: expected a regular staged file, found another kind", key=key)
        compare_size(size, staged.stat().st_size, f"staged file of object {key}")
        reused = held is not None and hash_stream([held]).sha256 == sha256
        if not reused:
            require_space(self.free_bytes(), 0, size, "memory store")
            content = staged.read_bytes()
            if held is not None:
                compare(sha256, hash_stream([content]).sha256, f"staged file of object {key}")
                self._aside.setdefault(key, []).append(held)
            self._objects[key] = content
        staged.unlink()
        return StoredObject(key, size, reused)

    def open(self, key: str) -> BinaryIO:
        return io.BytesIO(self._held(key))

    def path(self, key: str) -> Path | None:
        self._held(key)
        return None

    def size(self, key: str) -> int:
        return len(self._held(key))

    def exists(self, key: str) -> bool:
        parse_key(key)
        return key in self._objects

    def delete(self, key: str, *, order: DisposalOrder | None = None) -> None:
        require_deletable(key, order)
        self._objects.pop(key, None)

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        for key in sorted(self._objects):
            if key.startswith(prefix):
                yield key, len(self._objects[key])

    def read_back(self, key: str, chunk_bytes: int = 1 << 20, at: int = 0) -> Iterator[memoryview]:
        held = memoryview(self._held(key))
        for start in range(at, len(held), chunk_bytes):
            yield held[start : start + chunk_bytes]

    def kept_aside(self, key: str) -> builtins.list[str]:
        return [f"{key.rsplit('/', 1)[-1]}.{number}" for number in range(len(self._aside.get(key, [])))]

    def reserve(self, size: int) -> None:
        require_space(self.free_bytes(), self._floor_bytes, size, "memory store")

    def free_bytes(self) -> int:
        return self._capacity_bytes - sum(map(len, self._objects.values()))

    def damage(self, key: str, content: bytes) -> None:
        """Put other bytes under a key, as a failing disk would: for tests of fixity."""
        self._held(key)
        self._objects[key] = content

    def _held(self, key: str) -> bytes:
        parse_key(key)
        if key not in self._objects:
            raise NotFound(f"object {key}: expected it in the store, found none", key=key)
        return self._objects[key]
