"""A composite shows every source at the right instant in every picture, and black where it has no footage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from media.footage import read_frame_number
from tests.support import media as footage
from transcode.composite import CompositeResult, Footage, Layout, compose
from transcode.mark import MarkLine
from transcode.segment import RenditionResult, RunOptions

NAMES = (MarkLine("CAM-1", "CAM-1"), MarkLine("二号机 CAM-2", "CAM-2"))
LENGTH_US = 2_010_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[RenditionResult]:
    """Two cameras: 25 pictures a second of 320x180 with sound, and 20 of 240x180 without."""
    folder = tmp_path_factory.mktemp("renditions")
    found = []
    for number, options in enumerate(
        ({"fps": 25, "keyframe_every": 10}, {"fps": 20, "width_px": 240, "audio": False, "first_frame": 500})
    ):
        source = folder / f"{number}.mp4"
        footage.make_plain(source, seconds=2, **options)
        (folder / str(number)).mkdir()
        found += footage.render(source, footage.probe(source, folder), folder / str(number))
    return found


def pieces_of(made: list[RenditionResult]) -> list[Footage]:
    """The first began 0.31 s before the window; of the second two spans, 0.257 s after it began."""
    one, two = made
    return [
        Footage("a", 0, one.path, one.index, -310_000, (0, 2_000_000)),
        Footage("b", 1, two.path, two.index, 257_000, (0, 500_000)),
        Footage("c", 1, two.path, two.index, 257_000, (1_000_000, 2_000_000)),
    ]


def composed(
    made: list[RenditionResult], folder: Path, name: str, layout: Layout, sound: int | None
) -> CompositeResult:
    run = RunOptions(scratch=folder, limits=footage.LIMITS)
    return compose(NAMES, pieces_of(made), LENGTH_US, folder / name, layout=layout, sound=sound, run=run)


def wanted_of(number: int) -> tuple[int | None, int | None]:
    """What the two cameras showed at picture `number` of 25 a second, in milliseconds of whole numbers."""
    at_ms = number * 40
    first, second = at_ms + 310, at_ms - 257
    return (
        first // 40 if first < 2000 else None,
        500 + second // 50 if 0 <= second < 500 or 1000 <= second < 2000 else None,
    )


def panes(result: CompositeResult) -> Iterator[list[NDArray[np.uint8]]]:
    with av.open(str(result.path)) as container:
        for frame in container.decode(video=0):
            gray = frame.to_ndarray(format="gray").astype(np.uint8)
            yield [gray[y : y + h, x : x + w] for x, y, w, h in result.boxes]


def test_every_picture_shows_each_source_at_its_instant(made: list[RenditionResult], tmp_path: Path) -> None:
    result = composed(made, tmp_path, "a.mp4", "side_by_side", 0)
    assert (result.rate, result.frame_count, result.size_px) == (25, 51, (640, 180))
    read = []
    for first, second in panes(result):
        # 4:3 in a pane of 16:9: black at the sides, and in its own proportions between.
        assert second[:, :36].max() < 40
        inner = second[:, 40:280]
        read.append((read_frame_number(first), read_frame_number(inner)))
    assert read == [wanted_of(number) for number in range(51)]
    again = composed(made, tmp_path, "b.mp4", "side_by_side", 0)
    assert again.path.read_bytes() == result.path.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]
    # A beep of 60 ms begins each second: 0.69 s and 1.69 s (no more footage there) after the window's start.
    with av.open(str(result.path)) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert abs(len(sound) - 2.01 * 48_000) <= 2048
    tone = [float(np.abs(np.fft.rfft(sound[at : at + 2400]))[50]) for at in range(0, 90_000, 480)]
    assert abs(int(np.argmax(tone)) - 69) <= 1
    assert float(np.abs(sound[int(1.75 * 48_000) :]).max()) < 0.01


def test_where_there_is_no_footage_is_a_placeholder_also_in_a_hole_and_over_the_large_picture(
    made: list[RenditionResult], tmp_path: Path
) -> None:
    """The index says that the first of the large one's fragments ended 0.2 s before the next began."""
    index = made[0].index
    holed = index.fragments[0]._replace(tail_pts=-index.timescale // 5)
    hole_ms = holed.end_pts * 1000 // index.timescale - 200
    damaged = replace(made[0], index=replace(index, fragments=(holed, *index.fragments[1:])))
    result = composed([damaged, made[1]], tmp_path, "a.mp4", "picture_in_picture", None)
    assert result.size_px == (320, 180)
    for number, (large, inset) in enumerate(panes(result)):
        first, second = wanted_of(number)
        if hole_ms <= number * 40 + 310 < hole_ms + 200:
            first = None
        # The strip of the large one runs beneath the inset's column; its left part is free.
        assert (large[170:, :200].mean() > 25) == (first is not None)
        assert (float(np.median(inset[12:])) > 30) == (second is not None)
    with av.open(str(result.path)) as container:
        assert not container.streams.audio
