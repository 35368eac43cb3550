"""The fragment index says what the file holds, and hostile structure is an error and nothing worse."""

from __future__ import annotations

import random
import struct
from fractions import Fraction
from pathlib import Path

import pytest

from evidence.errors import MediaError
from media.fmp4 import Fragment, FragmentIndex, Track, index_fragments
from media.growing import GrowingRendition
from tests.support.boxes import box, full_box, init, moof


def write(path: Path, *parts: bytes) -> Path:
    path.write_bytes(b"".join(parts))
    return path


def two_fragments() -> tuple[bytes, ...]:
    return (
        init(video_timescale=1000, audio_timescale=48000),
        moof(video=(0, [40] * 5), audio=(0, [1024] * 9)),
        box("mdat", bytes(100)),
        moof(video=(200, [40] * 5), audio=(9216, [1024] * 10), key=False),
        box("mdat", bytes(50)),
    )


def test_fragments_lie_end_to_end(tmp_path: Path) -> None:
    path = write(tmp_path / "r.mp4", *two_fragments())
    index = index_fragments(path)
    assert index is not None
    first, second = index.fragments
    assert first.offset_bytes == index.init_size_bytes
    assert first.end_bytes == second.offset_bytes
    assert second.end_bytes == path.stat().st_size == index.size_bytes
    assert (first.frame_count, second.frame_count) == (5, 5)
    assert (first.starts_with_keyframe, second.starts_with_keyframe) == (True, False)
    assert index.frame_count == 10
    assert index.duration == Fraction(2, 5)
    assert index.codecs == "avc1.64001F,mp4a.40.2"


def test_sound_that_reaches_past_the_picture_is_known(tmp_path: Path) -> None:
    index = index_fragments(write(tmp_path / "r.mp4", *two_fragments()))
    assert index is not None
    # 19 frames of 1024 samples end at 405.3 ms, the picture at 400 ms.
    assert index.fragments[1].tail_pts == 6
    assert index.fragments[1].last_pts == 406


def test_reordered_pictures_count_from_the_first_one_shown(tmp_path: Path) -> None:
    parts = (
        init(video_timescale=25),
        moof(video=(0, [1] * 4), shifts=[2, 4, 1, 1]),
        box("mdat", b"x"),
    )
    index = index_fragments(write(tmp_path / "r.mp4", *parts))
    assert index is not None
    assert index.origin == Fraction(2, 25)
    assert index.fragments[0].start_pts == 0
    assert index.duration == Fraction(4, 25)


def test_a_file_that_grows_is_read_to_its_last_whole_fragment(tmp_path: Path) -> None:
    parts = two_fragments()
    whole = b"".join(parts)
    path = tmp_path / "r.mp4"
    known: FragmentIndex | None = None
    for size in range(0, len(whole) + 1, 7):
        path.write_bytes(whole[:size])
        known = index_fragments(path, known)
    path.write_bytes(whole)
    known = index_fragments(path, known)
    assert known == index_fragments(path)
    assert known is not None
    assert len(known.fragments) == 2


def test_stored_index_comes_back_equal(tmp_path: Path) -> None:
    index = index_fragments(write(tmp_path / "r.mp4", *two_fragments()))
    assert index is not None
    assert FragmentIndex.loads(index.dumps()) == index


def keyed(*, size: int, base: bytes = b"", default: int = 0) -> bytes:
    """A fragment whose picture begins 8 bytes behind its ``moof``; `default`: the size is the track's."""
    row = struct.pack(">I", 40) + (b"" if default else struct.pack(">I", size))
    flags = 0x305 if not default else 0x105
    tfhd_flags = (0x000001 if base else 0x020000) | (0x10 if default else 0)
    tfhd = full_box(
        "tfhd",
        struct.pack(">I", 1) + base + (struct.pack(">I", default) if default else b""),
        flags=tfhd_flags,
    )
    tfdt = full_box("tfdt", struct.pack(">Q", 0), version=1)
    shape = box(
        "moof",
        full_box("mfhd", struct.pack(">I", 1)),
        box("traf", tfhd, tfdt, full_box("trun", struct.pack(">IiI", 1, 0, 0x02000000) + row, flags=flags)),
    )
    offset = struct.pack(">i", len(shape) + 8)
    at = shape.rindex(struct.pack(">IiI", 1, 0, 0x02000000)) + 4
    return shape[:at] + offset + shape[at + 4 :]


def test_a_keyframe_ends_where_its_first_sample_does(tmp_path: Path) -> None:
    start = init(video_timescale=1000)
    for head in (
        keyed(size=60),
        keyed(size=0, default=60),
        keyed(size=60, base=struct.pack(">Q", len(start))),
    ):
        index = index_fragments(write(tmp_path / "r.mp4", start, head, box("mdat", bytes(100))))
        assert index is not None
        assert index.fragments[0].keyframe_bytes == len(head) + 8 + 60


def test_a_keyframe_said_to_end_outside_its_fragment_is_not_known(tmp_path: Path) -> None:
    start = init(video_timescale=1000)
    far = struct.pack(">Q", 1 << 40)
    for head in (keyed(size=101), keyed(size=60, base=far), keyed(size=60, base=bytes(8))):
        index = index_fragments(write(tmp_path / "r.mp4", start, head, box("mdat", bytes(100))))
        assert index is not None
        assert index.fragments[0].keyframe_bytes == 0


def test_an_index_from_before_keyframes_had_sizes_is_read(tmp_path: Path) -> None:
    index = index_fragments(write(tmp_path / "r.mp4", init(video_timescale=1000), keyed(size=60),
                                  box("mdat", bytes(100))))  # fmt: skip
    assert index is not None
    stored = index.to_json()
    assert stored["keyframe_bytes"] == [index.fragments[0].keyframe_bytes] != [0]
    del stored["keyframe_bytes"], stored["keyframe_at"]
    stored["format"] = "liuhen-fragments-1"
    (fragment,) = FragmentIndex.from_json(stored).fragments
    assert fragment == index.fragments[0]._replace(keyframe_bytes=0)


def test_fragments_that_do_not_lie_end_to_end_come_back_equal() -> None:
    track = Track(1, "video", 1000, "avc1.64001F", 640, 360)
    fragments = (
        Fragment(1010, 50, 0, 40, 1, True, 0, 0, 20, 0),
        Fragment(1060, 60, 40, 40, 1, False),
        Fragment(1200, 70, 90, 40, 1, True, 2, -3, 30, 8),
        Fragment(1270, 80, 130, 40, 0, False),
        Fragment(1400, 90, 300, 40, 1, True, 0, 0, 0, 0),
    )
    index = FragmentIndex(1000, (track,), 7, fragments)
    assert FragmentIndex.loads(index.dumps()) == index


def test_eight_hours_stay_compact() -> None:
    track = Track(1, "video", 12800, "avc1.64001F", 1920, 1080)
    fragments, offset = [], 1300
    for number in range(14_400):
        size = 700_000 + number % 999
        fragments.append(Fragment(offset, size, number * 25600, 25600, 50, True, 0, 3, 60_000))
        offset += size
    index = FragmentIndex(1300, (track,), 0, tuple(fragments))
    text = index.dumps()
    assert len(text) < 400_000
    assert FragmentIndex.loads(text) == index


def test_index_of_another_format_is_refused() -> None:
    with pytest.raises(MediaError, match="liuhen-fragments-2"):
        FragmentIndex.loads('{"format": "liuhen-fragments-9"}')


@pytest.mark.parametrize(
    "hostile",
    [
        b"\0\0\0\x04ftyp",
        b"\0\0\0\x10\1\2\3\4" + bytes(8),
        box("ftyp", b"isom") + box("mdat", bytes(9)),
        box("ftyp", b"isom") + box("moov", b""),
        init(video_timescale=25)
        + box("moof", box("traf", struct.pack(">I4s", 900, b"tfhd")))
        + box("mdat", b""),
        init(video_timescale=25)
        + box("moof", box("traf", full_box("tfhd", struct.pack(">I", 1), flags=0x020000)))
        + box("mdat", b""),
        init(video_timescale=25) + moof(video=(0, [1]), sample_count=1 << 31) + box("mdat", b""),
        init(video_timescale=25) + moof(video=((1 << 63) - 1, [0xFFFFFFFF] * 3)) + box("mdat", b""),
    ],
    ids=["size", "kind", "mdat-first", "not-fragmented", "child-too-long", "no-tfdt", "samples", "clock"],
)
def test_hostile_structure_is_a_media_error(tmp_path: Path, hostile: bytes) -> None:
    path = write(tmp_path / "r.mp4", hostile)
    with pytest.raises(MediaError) as caught:
        index_fragments(path)
    assert caught.value.code == "fragments_unreadable"


def test_a_thousand_damaged_files_end_in_an_index_or_a_media_error(tmp_path: Path) -> None:
    whole = b"".join(two_fragments())
    dice = random.Random(7)
    path = tmp_path / "r.mp4"
    for _ in range(1000):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 6)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(bytes(data[: dice.randint(1, len(data))]))
        try:
            index_fragments(path)
            GrowingRendition(path, is_reordered=True).finish()
        except MediaError as error:
            assert error.code == "fragments_unreadable"


def test_edit_lists_become_decoding_times(tmp_path: Path) -> None:
    """Sound that starts 300 ms late, and pictures reordered by two frames."""
    late = [(300, -1), (0, 0)]
    parts = (
        init(video_timescale=25, audio_timescale=48000, video_edits=[(0, 2)], audio_edits=late),
        moof(video=(0, [1] * 4), shifts=[2, 4, 1, 1], audio=(0, [1024] * 4)),
        box("mdat", b"x"),
    )
    path = write(tmp_path / "r.mp4", *parts)
    growing = GrowingRendition(path)
    index = growing.finish()
    # Two frames of lead keep every decoding time positive; the sound moves by as much: it ends at
    # 80 + 300 + 85.3 ms, six frames after the picture, which stands as long.
    assert index.origin == Fraction(2, 25)
    assert growing.stood == Fraction(6, 25)
    assert index.fragments[0].tail_pts == 0
    assert b"elst" in path.read_bytes()
    assert b"edts" not in path.read_bytes()
    assert GrowingRendition(path).finish() == index
