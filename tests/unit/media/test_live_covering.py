"""Pictures and sound are drawn over by what is known, and wait until it is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.packet import Packet
from av.video.frame import VideoFrame

from evidence.live_masks import Cover, LiveMask, LiveRules
from media.live import covering as covering_module
from media.live.boots import boot_id
from media.live.covering import Covering
from media.painting import FILL

S = 1_000_000
SINCE_US = 100 * S
SHOWN_US = SINCE_US + 2 * S
SECRET = np.array([255, 0, 255], np.uint8)
Tell = Callable[..., None]


@pytest.fixture
def told(tmp_path: Path) -> tuple[Covering, Tell]:
    """What is covered, and a way to tell it other rules."""
    path = tmp_path / "rules.json"

    def tell(*covers: Cover | None, read_ns: int | None = None, boot: str | None = None) -> None:
        masks = [LiveMask(SINCE_US, {} if each is None else {"main": each}) for each in covers]
        known = LiveRules.of(
            masks, (), "main", boot=boot or boot_id(), slack_us=0,
            read_ns=time.monotonic_ns() if read_ns is None else read_ns,
        )  # fmt: skip
        beside = path.with_name("new")
        beside.write_text(json.dumps(known.to_json()))
        beside.replace(path)

    return Covering(path), tell


def key_picture(width_px: int = 192, height_px: int = 108, secret: Any = None) -> VideoFrame:
    """White, but for a secret; as a decoder gives a keyframe."""
    pixels = np.full((height_px, width_px, 3), 255, np.uint8)
    if secret is not None:
        pixels[secret] = SECRET
    frame = VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv422p")
    frame.pict_type = av.video.frame.PictureType.I
    return frame


def planes(frame: VideoFrame) -> tuple[Any, Any, Any]:
    yuv, rows = frame.to_ndarray(format="yuv420p"), frame.height
    halves = yuv[rows:].reshape(2, rows // 2, frame.width // 2)
    return yuv[:rows], halves[0], halves[1]


def is_filled(frame: VideoFrame) -> bool:
    return all((plane == fill).all() for plane, fill in zip(planes(frame), FILL, strict=True))


@pytest.mark.parametrize("size", [(192, 108), (96, 54), (64, 36)])
@pytest.mark.parametrize("at", [(51, 33, 80, 61), (0, 0, 7, 9), (183, 99, 192, 108)])
def test_no_trace_of_what_is_covered_is_left_in_any_plane_at_any_size(
    told: tuple[Covering, Tell], size: tuple[int, int], at: tuple[int, int, int, int]
) -> None:
    covering, tell = told
    tell(Cover(192, 108, (at,)))
    covering.look()
    left, top, right, bottom = at
    where = np.s_[top:bottom, left:right]
    with_secret, without = key_picture(secret=where), key_picture()
    shown = covering.painted(with_secret, size, SHOWN_US)
    bare = covering.painted(without, size, SHOWN_US)
    for one, other in zip(planes(shown), planes(bare), strict=True):
        assert (one == other).all()
    assert not is_filled(shown)


def test_what_is_not_certain_is_covered_altogether(told: tuple[Covering, Tell]) -> None:
    covering, tell = told
    frame = key_picture()
    assert is_filled(covering.painted(frame, (96, 54), SHOWN_US))
    tell(Cover(192, 108, ((0, 0, 10, 10),)))
    covering.look()
    assert not is_filled(covering.painted(frame, (96, 54), SHOWN_US))
    # Before the mask, at a time nobody knows, of another shape.
    assert is_filled(covering.painted(frame, (96, 54), SINCE_US))
    assert is_filled(covering.painted(frame, (96, 54), None))
    assert is_filled(covering.painted(key_picture(108, 192), (54, 96), SHOWN_US))
    # Behind something that was lost, until a keyframe and a picture more, which a filter may have held.
    covering.doubt()
    assert is_filled(covering.painted(frame, (96, 54), SHOWN_US))
    predicted = VideoFrame(192, 108, "yuv420p")
    assert not predicted.key_frame
    covering.vouch(predicted)
    assert is_filled(covering.painted(frame, (96, 54), SHOWN_US))


def test_rules_of_another_boot_or_of_later_or_older_are_none(told: tuple[Covering, Tell]) -> None:
    covering, tell = told
    cover = Cover(192, 108, ((0, 0, 10, 10),))
    assert covering.look() == -1
    tell(cover, boot="another")
    assert covering.look() == -1
    tell(cover, read_ns=time.monotonic_ns() + 3600 * 10**9)
    assert covering.look() == -1
    read_ns = time.monotonic_ns()
    tell(None, read_ns=read_ns)
    assert covering.look() == read_ns
    # Two who look at once: what was read before and written behind opens nothing.
    tell(cover, read_ns=read_ns - 1)
    assert covering.look() == read_ns
    assert is_filled(covering.painted(key_picture(), (96, 54), SHOWN_US))


def test_a_packet_waits_until_rules_were_read_after_it(
    told: tuple[Covering, Tell], monkeypatch: pytest.MonkeyPatch
) -> None:
    covering, tell = told
    tell(Cover(192, 108, ((0, 0, 10, 10),)))
    first, second = Packet(b"first"), Packet(b"second")
    assert covering.put(first) and list(covering.ready()) == []
    tell(Cover(192, 108, ((0, 0, 20, 10),)))
    assert covering.put(second) and list(covering.ready()) == [first]
    assert covering.has_waiting and list(covering.ready()) == []
    tell(Cover(192, 108, ((0, 0, 20, 10),)))
    assert list(covering.ready()) == [second] and not covering.has_waiting
    # Nobody reads them any more: what waits is bounded, and let go whole.
    monkeypatch.setattr(covering_module, "MUCH_BYTES", 12)
    assert covering.put(first) and covering.put(second) is True
    assert covering.put(first) is False and not covering.has_waiting


@pytest.mark.parametrize(("name", "nothing"), [("s16", 0), ("fltp", 0), ("u8", 128)])
def test_sound_is_silence_unless_every_mask_says_that_it_may_be_heard(
    told: tuple[Covering, Tell], name: str, nothing: int
) -> None:
    covering, tell = told

    def sound() -> AudioFrame:
        frame = AudioFrame(format=name, layout="stereo", samples=160)
        for plane in frame.planes:
            plane.update(b"\x55" * plane.buffer_size)
        frame.sample_rate = 8000
        return frame

    def is_silent(frame: AudioFrame) -> bool:
        assert (frame.samples, frame.sample_rate, frame.layout.name) == (160, 8000, "stereo")
        return bool((frame.to_ndarray() == nothing).all())

    heard, silent = Cover(192, 108, ((0, 0, 9, 9),), is_heard=True), Cover(192, 108, ((0, 0, 9, 9),))
    assert is_silent(covering.muted(sound(), SHOWN_US))
    tell(silent)
    covering.look()
    assert is_silent(covering.muted(sound(), SHOWN_US))
    tell(heard)
    covering.look()
    assert not is_silent(covering.muted(sound(), SHOWN_US))
    assert is_silent(covering.muted(sound(), SINCE_US)) and is_silent(covering.muted(sound(), None))
    tell(heard, silent)
    covering.look()
    assert is_silent(covering.muted(sound(), SINCE_US + S))
