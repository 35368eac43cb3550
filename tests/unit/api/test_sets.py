"""Lists over several files only grow, whatever turns out to follow."""

from __future__ import annotations

import pytest

from api.routes.sets import _written
from api.sets import MIXED, Lane, Listed
from media.fmp4 import Fragment, FragmentIndex, Track
from tests.support.hls import goes_on
from transcode.playlist import Part

FRAGMENTS = (
    Fragment(1000, 5000, 0, 2000, 50, True, 0, 0, 900, 0),
    Fragment(6000, 5000, 2000, 2000, 50, True, 0, 160, 900, 0),
)
FILE = Part(FragmentIndex(1000, (Track(1, "video", 1000, "avc1.64001F", 1280, 720),), 80, FRAGMENTS), "a.mp4")


@pytest.mark.parametrize("name", ["rung-mixed", "keyframes-mixed"])
def test_what_was_told_before_another_file_came_stays_though_none_comes(name: str) -> None:
    def listed(*, more_follows: bool, was_open: bool = True) -> str:
        return _written(Lane({MIXED: Listed([FILE], more_follows)}, (MIXED,), [], was_open), name)

    assert goes_on(listed(more_follows=True), listed(more_follows=False)).is_ended
    assert goes_on("", listed(more_follows=False, was_open=False)).is_independent
