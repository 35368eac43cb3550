"""Sound that outlives the last picture: the picture stands as long, and nothing moves or is shown twice."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from evidence.errors import MediaError
from media.fmp4 import Track, index_fragments
from media.growing import GrowingRendition
from media.samples import read_samples
from media.standing import standing
from tests.support.boxes import AUDIO, KEY, NOT_KEY, VIDEO, box, full_box, init

SIZES = {VIDEO: [40, 7, 9, 8], AUDIO: [21, 22, 23]}


def even_fragment(number: int, start: int, sound_ticks: int, *, shifts: list[int] | None = None) -> bytes:
    """As FFmpeg writes it: pictures of 40 ms, with no room for how long each of them lasts."""
    head = 8 + 16 + sum(8 + 24 + 20 + 24 + 4 * len(sizes) for sizes in SIZES.values()) + (16 if shifts else 0)
    trafs, at = [], head + 8
    for track_id, duration, flags in ((VIDEO, 40, NOT_KEY), (AUDIO, sound_ticks, KEY)):
        sizes = SIZES[track_id]
        tfhd = full_box("tfhd", struct.pack(">III", track_id, duration, flags), flags=0x020028)
        tfdt = full_box("tfdt", struct.pack(">Q", start), version=1)
        rows = [struct.pack(">I", size) for size in sizes]
        shifted = shifts is not None and track_id == VIDEO
        if shifted and shifts is not None:
            rows = [row + struct.pack(">i", shift) for row, shift in zip(rows, shifts, strict=True)]
        run = struct.pack(">IiI", len(sizes), at, KEY) + b"".join(rows)
        trafs.append(box("traf", tfhd, tfdt, full_box("trun", run, flags=0x205 | (0x800 if shifted else 0))))
        at += sum(sizes)
    moof = box("moof", full_box("mfhd", struct.pack(">I", number)), *trafs)
    data = b"".join(
        bytes([track_id + 16 * n]) * size for track_id in SIZES for n, size in enumerate(SIZES[track_id])
    )
    return moof + box("mdat", data)


def content(path: Path, track: Track) -> list[bytes]:
    index = index_fragments(path)
    assert index is not None
    return [
        path.read_bytes()[each.offset_bytes :][: each.size_bytes]
        for each in read_samples(path, track, index.fragments)
    ]


@pytest.mark.parametrize("shifts", [None, [0, 80, 0, 0]], ids=["plain", "reordered"])
def test_the_last_picture_stands_until_its_sound_ends(tmp_path: Path, shifts: list[int] | None) -> None:
    path = tmp_path / "r.mp4"
    parts = [even_fragment(1, 0, 54), even_fragment(2, 160, 300, shifts=shifts)]
    path.write_bytes(init(video_timescale=1000, audio_timescale=1000) + b"".join(parts))
    before = index_fragments(path)
    assert before is not None
    pictures, sound = before.tracks
    shown = [each.pts for each in read_samples(path, pictures, before.fragments)]
    bytes_of = content(path, pictures), content(path, sound)
    assert bytes_of[1][-1] == bytes([AUDIO + 32]) * 23

    growing = GrowingRendition(path)
    index = growing.finish()
    assert growing.stood == Fraction(before.fragments[1].tail_pts, 1000) == index.duration - before.duration
    assert index.duration == Fraction(160 + 900, 1000)
    assert index.fragments[0] == before.fragments[0]
    assert index.fragments[1].tail_pts == 0
    assert (content(path, pictures), content(path, sound)) == bytes_of
    samples = read_samples(path, pictures, index.fragments)
    assert [each.pts for each in samples] == shown
    assert [each.duration for each in samples[:-1]] == [40] * 7
    again = GrowingRendition(path)
    assert again.finish() == index
    assert again.stood == 0


def test_a_fragment_that_may_be_written_anew_is_not_told_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "r.mp4"
    head = init(video_timescale=1000, audio_timescale=1000)
    path.write_bytes(head + even_fragment(1, 0, 54) + even_fragment(2, 160, 300))
    growing = GrowingRendition(path)
    assert growing.advance()
    assert growing.index is not None
    assert len(growing.index.fragments) == 1
    with path.open("ab") as file:
        file.write(even_fragment(3, 1100, 54))
    assert growing.advance()
    # Pictures came again: what was written stays as it was.
    assert len(growing.index.fragments) == 3
    seen = path.read_bytes()
    assert len(growing.finish().fragments) == 3
    assert path.read_bytes() == seen


def test_what_has_no_room_or_no_pictures_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.mp4"
    path.write_bytes(init(video_timescale=1000, audio_timescale=1000) + even_fragment(1, 0, 300))
    index = index_fragments(path)
    assert index is not None
    body = path.read_bytes()[index.init_size_bytes + 8 :][: index.fragments[0].size_bytes]
    body = body[: body.index(b"mdat") - 4]
    with pytest.raises(MediaError, match="one run of pictures"):
        standing(body, replace(index.main, track_id=9), 100)
    with pytest.raises(MediaError, match="does not fit"):
        standing(body, index.main, 1 << 32)
