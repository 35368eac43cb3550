"""Plans for the tests to start from."""

from __future__ import annotations

from evidence.masks import Reason
from redaction.plan import FACES_ONLY, Key, Picture, RedactionPlan, State, Track

DIGEST = "ab" * 32


def face(track_id: str, *keys: Key, shape: str = "rectangle") -> Track:
    return Track(track_id, "face", "model", DIGEST, Reason.PRIVACY, State.PROPOSED, shape, keys, 900)


def plan_of(*tracks: Track, picture: Picture | None = None, sound_alone: bool = False) -> RedactionPlan:
    shown = picture or Picture(320, 180, (1, 12800), 100, 0, 99 * 512)
    return RedactionPlan(
        item_id="item-1",
        number=1,
        parent=None,
        author="model",
        coverage=FACES_ONLY,
        models={"centerface": DIGEST},
        parameters={"pad_us": 500_000},
        picture=None if sound_alone else shown,
        tracks=tracks,
    )
