"""Bytes of rooms' files between the first store and a second one: copied, read back, put back.

A copy is filled from where it ends: what was appended to it while the file was written is not sent again.
Then it is read back. Only where that is not the file are its bytes written anew, and only after the original
was read and is sound: a copy may be all that is left.

Who makes a copy may close it between any two steps, so that no handle is kept, and go on with the
same `Work`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field

from evidence.errors import FixityError, NotFound
from evidence.fixity import StreamingDigest, compare, hash_file, hash_stream
from evidence.ids import new_id
from ingest.damage import Damage
from storage.db.room_tables import SecondCopy
from storage.db.tables import StoredObject
from storage.objects.base import ObjectStore
from storage.second_copy import LIVE, SecondStore

SLICE_BYTES = 4 << 20

Steps = Generator[int, None, bytes]
"""What it yields are bytes just read from the first store, 0 for a step that read none."""


@dataclass
class Work:
    """How far the making of one copy has come; it holds nothing open."""

    copy: StreamingDigest = field(default_factory=StreamingDigest)
    """Of what was read of it so far, while it had that stamp."""
    stamp: tuple[int, int] | None = None
    original: StreamingDigest = field(default_factory=StreamingDigest)
    is_anew: bool = False
    """Whether its bytes were written anew, from an original that is sound."""


def complete(
    objects: ObjectStore, second: SecondStore, folder: str, row: SecondCopy, held: StoredObject, work: Work
) -> Steps:
    """Make one copy whole and read it back, a step at a time; returns the digest that was read.

    Where that is the file's, the copy has its name and stands in the list beside it. Cut off anywhere, it
    is done again and comes to the same.

    Args:
        folder: The room's in the second store.
        work: What was done of it before, and what is done now.

    Raises:
        FixityError: The original is damaged, and so the copy cannot be made from it.
        NotFound: It is gone.
        Unavailable: One of the stores is away, full or failing.
    """
    live, place = f"{folder}/{LIVE}/{row.live_name}", f"{folder}/{row.path}"
    if second.size(place) is not None:
        # Cut off between the name and the row.
        second.move(place, live)
    found = yield from _fill_and_read(objects, second, live, held, work)
    if found != held.sha256 and not work.is_anew:
        chunks = objects.read_back(held.store_key, at=work.original.size_bytes)
        original = yield from _digest(chunks, work.original, costs=True)
        compare(held.sha256, original, f"object {held.store_key}")
        second.cut(live, 0)
        work.is_anew = True
        found = yield from _fill_and_read(objects, second, live, held, work)
    if found == held.sha256:
        second.move(live, place)
        second.list_digest(place, found)
    return found


def _fill_and_read(
    objects: ObjectStore, second: SecondStore, live: str, held: StoredObject, work: Work
) -> Steps:
    yield from _fill(objects, second, live, held)
    stamp = second.stamp(live)
    if stamp != work.stamp:
        work.copy, work.stamp = StreamingDigest(), stamp
    return (yield from _digest(second.read_back(live, work.copy.size_bytes), work.copy, costs=False))


def _fill(
    objects: ObjectStore, second: SecondStore, live: str, held: StoredObject
) -> Generator[int, None, None]:
    size = second.size(live)
    if size is not None and size > held.size_bytes:
        # A recorder died, and what it had not brought to its own disk was cut off there.
        second.cut(live, held.size_bytes)
    elif size != held.size_bytes:
        at = size or 0
        second.cut(live, at)
        with objects.open(held.store_key) as original:
            while at < held.size_bytes:
                end = second.grow(live, original.fileno(), held.size_bytes, SLICE_BYTES)
                if end == at:
                    raise FixityError(
                        f"object {held.store_key}: expected {held.size_bytes} bytes, found {at}; "
                        "look at the disk"
                    )
                yield end - at
                at = end


def _digest(chunks: Iterable[memoryview], digest: StreamingDigest, *, costs: bool) -> Steps:
    for chunk in chunks:
        digest.update(chunk)
        yield len(chunk) if costs else 0
    return digest.digests().sha256


def put_back(
    objects: ObjectStore, second: SecondStore, folder: str, row: SecondCopy, held: StoredObject
) -> None:
    """Bring an original back from its copy; what lies damaged under its name is kept aside by the store.

    Raises:
        FixityError: The copy is not these bytes either.
        Unavailable: One of the stores is away or full.
    """
    staged = objects.staging_dir / f"{new_id().hex}.second"
    objects.reserve(held.size_bytes)
    try:
        with staged.open("xb") as sink:
            for chunk in second.read_back(f"{folder}/{row.path}"):
                sink.write(chunk)
        compare(held.sha256, hash_file(staged).sha256, f"second copy {row.path}")
        objects.adopt(staged, held.sha256, held.size_bytes, held.agency_id.hex)
    finally:
        staged.unlink(missing_ok=True)
    compare(held.sha256, hash_stream(objects.read_back(held.store_key)).sha256, f"object {held.store_key}")


def damage_of(objects: ObjectStore, held: StoredObject, *, reads_all: bool) -> Damage | None:
    """What is wrong with an original in the first store; None: it has its size, or every byte of it."""
    try:
        size = objects.size(held.store_key)
        if size != held.size_bytes:
            return Damage("other_size", f"{size} bytes")
        found = hash_stream(objects.read_back(held.store_key)).sha256 if reads_all else held.sha256
    except NotFound:
        return Damage("missing", "no file")
    return Damage(found.hex(), f"{size} bytes") if found != held.sha256 else None
