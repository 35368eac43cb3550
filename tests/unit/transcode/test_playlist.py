"""Playlists are exact, and a strict span shows nothing outside it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.errors import InvalidInput, NotFound
from media.fmp4 import Fragment, FragmentIndex, Track
from transcode.playlist import Span, Variant, media_playlist, multivariant_playlist, segments_of

VIDEO = Track(1, "video", 1000, "avc1.64001F", 1280, 720)
AUDIO = Track(2, "audio", 48000, "mp4a.40.2")
URL = "https://media.example/g/abc/rendition.mp4?t=1"


def index_of(
    *durations: int, keys: str = "", lead: int = 0, tail: int = 0, tracks: tuple[Track, ...] = (VIDEO, AUDIO)
) -> FragmentIndex:
    fragments, offset, start = [], 1000, 0
    for number, duration in enumerate(durations):
        is_key = keys[number] == "K" if keys else True
        size = 5000 + number
        fragments.append(Fragment(offset, size, start, duration, duration // 40, is_key, lead, tail))
        offset += size
        start += duration
    return FragmentIndex(1000, tracks, 80, tuple(fragments))


def ranges(playlist: str) -> list[tuple[int, int]]:
    return [
        (int(at), int(at) + int(size)) for size, at in re.findall(r"#EXT-X-BYTERANGE:(\d+)@(\d+)", playlist)
    ]


def lengths(playlist: str) -> list[float]:
    return [float(each) for each in re.findall(r"#EXTINF:([\d.]+),", playlist)]


def test_the_whole_recording_is_covered_once_without_a_gap() -> None:
    index = index_of(2000, 2000, 2000, 1500)
    playlist = media_playlist(index, URL)
    covered = ranges(playlist)
    assert covered[0][0] == index.init_size_bytes
    assert covered[-1][1] == index.size_bytes
    assert all(one[1] == two[0] for one, two in pairwise(covered))
    assert sum(lengths(playlist)) == pytest.approx(7.5)
    assert playlist.endswith("#EXT-X-ENDLIST\n")


def test_tags_stand_where_the_standard_puts_them() -> None:
    playlist = media_playlist(index_of(2000, 2500), URL)
    lines = playlist.splitlines()
    assert lines[0] == "#EXTM3U"
    assert "#EXT-X-VERSION:7" in lines
    assert "#EXT-X-TARGETDURATION:3" in lines
    assert "#EXT-X-INDEPENDENT-SEGMENTS" in lines
    assert f'#EXT-X-MAP:URI="{URL}",BYTERANGE="1000@0"' in lines
    at = lines.index("#EXTINF:2.000000,")
    assert lines[at + 1] == "#EXT-X-BYTERANGE:5000@1000"
    assert lines[at + 2] == URL


def test_short_fragments_are_joined() -> None:
    playlist = media_playlist(index_of(*[1000] * 9), URL)
    assert lengths(playlist) == [2.0, 2.0, 2.0, 2.0, 1.0]


def test_a_segment_never_starts_without_a_keyframe_when_it_can_wait() -> None:
    playlist = media_playlist(index_of(3000, 3000, 3000, keys="K-K"), URL)
    assert lengths(playlist) == [6.0, 3.0]
    assert "#EXT-X-INDEPENDENT-SEGMENTS" in playlist


def test_a_strict_span_is_rounded_inward() -> None:
    index = index_of(2000, 2000, 2000, 2000)
    assert ranges(media_playlist(index, URL, Span(1000, 7000), strict=True)) == [
        (index.fragments[1].offset_bytes, index.fragments[1].end_bytes),
        (index.fragments[2].offset_bytes, index.fragments[2].end_bytes),
    ]


def test_a_strict_span_leaves_out_a_fragment_whose_sound_reaches_outside() -> None:
    index = index_of(2000, 2000, 2000, tail=15)
    with pytest.raises(NotFound) as caught:
        media_playlist(index, URL, Span(2000, 4000), strict=True)
    assert caught.value.code == "span_without_segments"
    assert lengths(media_playlist(index, URL, Span(2000, 4015), strict=True)) == [2.0]


def test_a_strict_span_starts_at_a_keyframe_inside_it() -> None:
    index = index_of(2000, 2000, 2000, 2000, keys="K-K-")
    found = segments_of(index, Span(2000, 8000), strict=True)
    assert [float(segment.start) for segment in found] == [4.0]


def test_a_loose_span_is_rounded_outward_to_a_keyframe() -> None:
    index = index_of(2000, 2000, 2000, 2000, keys="K-K-")
    found = segments_of(index, Span(3000, 3500), strict=False)
    assert [(float(segment.start), float(segment.duration)) for segment in found] == [(0.0, 4.0)]


def test_a_strict_span_over_everything_shows_everything() -> None:
    index = index_of(2000, 2000, lead=21, tail=30)
    assert len(segments_of(index, Span(0), strict=True)) == 2


def test_the_date_is_that_of_the_first_segment_shown() -> None:
    started_at = datetime(2026, 3, 1, 0, 0, tzinfo=UTC)
    playlist = media_playlist(index_of(2000, 2000), URL, Span(2500), started_at=started_at)
    assert "#EXT-X-PROGRAM-DATE-TIME:2026-03-01T00:00:02.000000Z" in playlist


def test_while_it_grows_nothing_said_is_ever_taken_back() -> None:
    durations = [1000, 1000, 1000, 2000, 500, 700, 900]
    said: list[str] = []
    for count in range(1, len(durations) + 1):
        try:
            playlist = media_playlist(index_of(*durations[:count]), URL, is_growing=True)
        except NotFound:
            assert not said
            continue
        segments = playlist[playlist.index("#EXTINF") :].splitlines()
        assert segments[: len(said)] == said
        assert "#EXT-X-PLAYLIST-TYPE:EVENT" in playlist
        assert "ENDLIST" not in playlist
        said = segments
    finished = media_playlist(index_of(*durations), URL)
    assert finished[finished.index("#EXTINF") :].splitlines()[: len(said)] == said


def test_sound_alone_needs_no_keyframes() -> None:
    index = index_of(2000, 2000, keys="--", tracks=(AUDIO,))
    assert "#EXT-X-INDEPENDENT-SEGMENTS" in media_playlist(index, URL)


def test_an_empty_span_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        media_playlist(index_of(2000), URL, Span(1000, 1000))
    assert caught.value.code == "span_empty"


def test_a_url_cannot_break_out_of_its_line() -> None:
    for hostile in ('a"\n#EXT-X-ENDLIST', "a b", "执法.mp4"):
        with pytest.raises(InvalidInput):
            media_playlist(index_of(2000), hostile)


def test_rungs_are_offered_from_modest_to_full() -> None:
    small = Variant("360.m3u8", 400_000, 300_000, "avc1.64001E,mp4a.40.2", 640, 360)
    full = Variant.of("full.m3u8", index_of(2000, 2000))
    playlist = multivariant_playlist([full, small])
    assert playlist.index("RESOLUTION=1280x720") < playlist.index("RESOLUTION=640x360")
    assert 'CODECS="avc1.64001F,mp4a.40.2"' in playlist
    with pytest.raises(NotFound):
        multivariant_playlist([])


@given(
    durations=st.lists(st.integers(40, 9000), min_size=1, max_size=30),
    keys=st.lists(st.booleans(), min_size=30, max_size=30),
    span=st.tuples(st.integers(0, 100_000), st.integers(1, 60_000)),
    tail=st.integers(0, 50),
)
def test_no_strict_segment_ever_leaves_its_span(
    durations: list[int], keys: list[bool], span: tuple[int, int], tail: int
) -> None:
    marks = "K" + "".join("K" if key else "-" for key in keys)
    index = index_of(*durations, keys=marks[: len(durations)], tail=tail, lead=tail // 2)
    begin, end = span[0], span[0] + span[1]
    for segment in segments_of(index, Span(begin, end), strict=True):
        assert segment.start * 1000 - (tail // 2 if begin else 0) >= begin
        assert (segment.start + segment.duration) * 1000 + tail <= end
    loose = segments_of(index, Span(begin, end), strict=False)
    if Fraction(begin, 1000) < index.duration:
        assert loose[0].start * 1000 <= begin
        last = loose[-1].start + loose[-1].duration
        assert last >= min(index.duration, Fraction(end, 1000))
