"""Pictures of two fields, joined: a frame for a frame, at its own time, whatever comes between."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest
from av.video.frame import VideoFrame

from media.live.fields import FieldJoiner
from tests.support.media import ffmpeg

BASE = Fraction(1, 1000)


@pytest.fixture(scope="module")
def woven(tmp_path_factory: pytest.TempPathFactory) -> list[VideoFrame]:
    """Six pictures of two fields each."""
    path = tmp_path_factory.mktemp("woven") / "woven.mkv"
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=s=64x48:r=20:d=0.6", "-vf", "interlace", "-c:v", "mpeg2video",
        "-flags", "+ilme+ildct", path,
    )  # fmt: skip
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def plain(at_ms: int, width_px: int = 64) -> VideoFrame:
    frame = VideoFrame(width_px, 48, "yuv420p")
    frame.pts, frame.time_base = at_ms, BASE
    return frame


def at_ms(frame: VideoFrame) -> Fraction:
    assert frame.pts is not None and frame.time_base is not None
    return 1000 * frame.pts * Fraction(frame.time_base)


def test_a_source_without_fields_goes_through_as_it_is() -> None:
    joiner = FieldJoiner(BASE)
    frames = [plain(0), plain(40), plain(40, width_px=128)]
    assert [each for frame in frames for each in joiner.join(frame)] == frames
    assert list(joiner.drain()) == []


def test_each_picture_comes_once_at_its_own_time_also_where_the_source_changes(
    woven: list[VideoFrame],
) -> None:
    joiner = FieldJoiner(BASE)
    assert all(frame.interlaced_frame for frame in woven)
    # Fields, then none of them, then a picture of another size, which nobody promised would not come.
    frames = [plain(-40), *woven, plain(600), plain(640, width_px=128), plain(680, width_px=128)]
    found = [each for frame in frames for each in joiner.join(frame)]
    found += joiner.drain()
    assert [at_ms(each) for each in found] == [at_ms(each) for each in frames]
    assert [each.width for each in found] == [each.width for each in frames]
    assert not any(each.interlaced_frame for each in found)
