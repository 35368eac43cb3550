"""Previews of plan versions: a child draws over the few fragments around a moment while somebody waits."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from uuid import UUID

from api.desk import Installation, Work
from api.issuing import Variant
from evidence.errors import InvalidInput, NotPermitted, Unavailable
from media import sandbox
from media.fmp4 import FragmentIndex
from media.sandbox import Limits
from redaction.plan import RedactionPlan
from storage.db import grants
from storage.db.tables import Derivative, Grant, Item
from storage.objects.base import ObjectStore
from storage.passing import passing_folder

SECOND_US = 1_000_000
# Of a look that took longer nobody is left who waits.
WALL_S = 20.0
FILE_BYTES = 256 << 20
AT_ONCE = 2
WAIT_S = 5.0
_places = threading.BoundedSemaphore(AT_ONCE)


@dataclass(frozen=True)
class Preview:
    """What a look shows."""

    data: bytes
    content_type: str


def require_own_original(work: Work, item: Item, grant_id: UUID, *, lock: bool = True) -> Grant:
    """The actor's own grant to all of the item's original, locked unless it is only looked at.

    Raises:
        NotFound: There is none of that id, or it has ended.
        NotPermitted: It is somebody else's, or to something else (``preview_grant``).
    """
    grant = grants.grant_in_force(work.session, work.agency_id, grant_id, work.now, lock=lock)
    is_own = grant.account_id == work.actor.account_id and grant.item_id == item.id
    if not is_own or grant.variant != Variant.ORIGINAL or grant.span_from_us is not None:
        raise NotPermitted(
            "preview: expected a grant of one's own to all of this original, found another; ask for one",
            code="preview_grant",
        )
    return grant


def make_preview(
    installation: Installation, source: Derivative, plan: RedactionPlan, at_us: int, length_us: int | None
) -> Preview:
    """What a plan hides at one moment, or on a stretch of seconds.

    Raises:
        InvalidInput: The plan is for sound alone, or nothing is shown there (``plan_invalid``).
        Unavailable: Others look already (``preview_busy``).
        MediaError: The rendition cannot be read.
    """
    picture = plan.picture
    if picture is None:
        raise InvalidInput("preview: expected a plan for pictures, found one for sound", code="plan_invalid")
    objects, scratch = installation.storage.objects, installation.storage.scratch
    with _place(), passing_folder(scratch) as folder:
        piece, made = folder / "piece", folder / "made"
        request: dict[str, object] = {"source": str(piece), "plan": plan.to_json(), "destination": str(made)}
        if source.kind == "photo":
            _copy(objects, source.store_key, [(0, objects.size(source.store_key))], piece)
            entry, is_video = "redaction.render:redact_photo_entry", False
        else:
            index = FragmentIndex.from_json(source.info["index"])
            _copy(objects, source.store_key, _ranges(index, at_us, length_us or 0), piece)
            entry, is_video = "redaction.preview:preview_entry", length_us is not None
            ticks = Fraction(picture.time_base[1], picture.time_base[0] * SECOND_US)
            request["from_pts"] = picture.first_pts + int(at_us * ticks)
            request["to_pts"] = picture.first_pts + int((at_us + (length_us or 0)) * ticks)
            request["form"] = "video" if is_video else "picture"
        limits = Limits(
            memory_bytes=installation.settings.media.child_memory_bytes, wall_s=WALL_S, stall_s=WALL_S,
            file_size_bytes=FILE_BYTES, niceness=0,
        )  # fmt: skip
        sandbox.call(entry, request, limits=limits, scratch=folder)
        return Preview(made.read_bytes(), "video/mp4" if is_video else "image/jpeg")


def frame_times(installation: Installation, source: Derivative) -> list[int]:
    """When each frame of a rendition, or of a still, is shown, in its video's time base.

    Raises:
        Unavailable: Others look already (``preview_busy``).
        MediaError: The rendition cannot be read.
    """
    if source.kind == "photo":
        return [0]
    objects, scratch = installation.storage.objects, installation.storage.scratch
    with _place(), passing_folder(scratch) as folder:
        path, made = objects.path(source.store_key), folder / "times"
        if path is None:
            path = folder / "whole"
            _copy(objects, source.store_key, [(0, objects.size(source.store_key))], path)
        request: dict[str, object] = {"source": str(path.resolve()), "destination": str(made)}
        limits = Limits(memory_bytes=installation.settings.media.child_memory_bytes, wall_s=300.0, niceness=0)
        sandbox.call("redaction.preview:times_entry", request, limits=limits, scratch=folder)
        return [int(pts) for pts in json.loads(made.read_bytes())]


@contextmanager
def _place() -> Iterator[None]:
    if not _places.acquire(timeout=WAIT_S):
        raise Unavailable(
            f"preview: expected fewer than {AT_ONCE} at once, found as many; try again", code="preview_busy"
        )
    try:
        yield
    finally:
        _places.release()


def _ranges(index: FragmentIndex, at_us: int, length_us: int) -> list[tuple[int, int]]:
    """First byte and length of a rendition's head, and of the fragments to decode for a stretch."""
    first = index.at(Fraction(at_us, SECOND_US))
    last = index.at(Fraction(at_us + length_us, SECOND_US))
    # Where pictures lead the keyframe of an open group, the group before is needed as well.
    while first and (not index.fragments[first].starts_with_keyframe or index.fragments[first].keyframe_pts):
        first -= 1
    wanted = index.fragments[first : last + 1]
    if not wanted:
        raise InvalidInput("preview: expected a time inside the recording, found none", code="plan_invalid")
    return [
        (0, index.init_size_bytes),
        *((fragment.offset_bytes, fragment.size_bytes) for fragment in wanted),
    ]


def _copy(objects: ObjectStore, key: str, ranges: list[tuple[int, int]], target: Path) -> None:
    with objects.open(key) as source, target.open("wb") as copy:
        for offset, size in ranges:
            source.seek(offset)
            left = size
            while left and (chunk := source.read(min(left, 1 << 20))):
                copy.write(chunk)
                left -= len(chunk)
