"""Playlists are exact, and a strict span shows nothing outside it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.errors import InvalidInput, NotFound
from media.fmp4 import Fragment, FragmentIndex, Track
from tests.support.hls import MediaPlaylist, goes_on, read_media, read_multivariant
from transcode.multivariant import Variant, multivariant_playlist
from transcode.playlist import (
    SAFE_LIMIT_S,
    Listing,
    Part,
    Span,
    iframe_playlist,
    keyframes_of,
    media_playlist,
    seam_of,
    segments_of,
)

VIDEO = Track(1, "video", 1000, "avc1.64001F", 1280, 720)
AUDIO = Track(2, "audio", 48000, "mp4a.40.2")
STARTED = datetime(2026, 3, 1, tzinfo=UTC)
URL = "https://media.example/g/abc/rendition.mp4?t=1"


def index_of(
    *durations: int,
    keys: str = "",
    lead: int = 0,
    tail: int = 0,
    late: int = 0,
    tracks: tuple[Track, ...] = (VIDEO, AUDIO),
) -> FragmentIndex:
    fragments, offset, start = [], 1000, 0
    for number, duration in enumerate(durations):
        is_key = keys[number] == "K" if keys else True
        size = 5000 + number
        key_bytes = 900 + number if is_key and tracks[0].kind == "video" else 0
        fragments.append(
            Fragment(
                offset, size, start, duration, max(1, duration // 40), is_key, lead, tail, key_bytes, late
            )
        )
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
    playlist = media_playlist([Part(index, URL)])
    covered = ranges(playlist)
    assert covered[0][0] == index.init_size_bytes
    assert covered[-1][1] == index.size_bytes
    assert all(one[1] == two[0] for one, two in pairwise(covered))
    assert sum(lengths(playlist)) == pytest.approx(7.5)
    assert playlist.endswith("#EXT-X-ENDLIST\n")


def test_tags_stand_where_the_standard_puts_them() -> None:
    playlist = media_playlist([Part(index_of(2000, 2500), URL)])
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
    playlist = media_playlist([Part(index_of(*[1000] * 9), URL)])
    assert lengths(playlist) == [2.0, 2.0, 2.0, 2.0, 1.0]


def test_a_segment_never_starts_without_a_keyframe_when_it_can_wait() -> None:
    playlist = media_playlist([Part(index_of(3000, 3000, 3000, keys="K-K"), URL)])
    assert lengths(playlist) == [6.0, 3.0]
    assert "#EXT-X-INDEPENDENT-SEGMENTS" in playlist


def test_a_strict_span_is_rounded_inward() -> None:
    index = index_of(2000, 2000, 2000, 2000)
    assert ranges(media_playlist([Part(index, URL, Span(1000, 7000), strict=True)])) == [
        (index.fragments[1].offset_bytes, index.fragments[1].end_bytes),
        (index.fragments[2].offset_bytes, index.fragments[2].end_bytes),
    ]


def test_a_strict_span_leaves_out_a_fragment_whose_sound_reaches_outside() -> None:
    index = index_of(2000, 2000, 2000, tail=15)
    with pytest.raises(NotFound) as caught:
        media_playlist([Part(index, URL, Span(2000, 4000), strict=True)])
    assert caught.value.code == "span_without_segments"
    assert lengths(media_playlist([Part(index, URL, Span(2000, 4015), strict=True)])) == [2.0]


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


def test_a_list_is_as_long_as_the_sound_that_goes_on_after_the_last_picture() -> None:
    index = index_of(2000, 2000, tail=160)
    assert lengths(media_playlist([Part(index, URL)])) == [2.0, 2.16]
    assert lengths(media_playlist([Part(index, URL), Part(index, URL)])) == [2.0, 2.0, 2.0, 2.16]
    assert lengths(media_playlist([Part(index, URL, Span(0, 2000))])) == [2.0]
    assert lengths(media_playlist([Part(index, URL, is_growing=True)])) == [2.0]


def test_what_was_told_of_the_last_file_stays_though_none_follows_or_one_does() -> None:
    part = Part(index_of(2000, 2000, tail=160), URL)
    other = Part(index_of(2000), "other.mp4", is_copied=True)
    for write in (media_playlist, iframe_playlist):
        told = write([part], more_follows=True)
        for parts in ([part], [part, other]):
            assert goes_on(told, write(parts, limit_s=SAFE_LIMIT_S, is_known=False)).is_ended


def test_the_date_is_that_of_the_first_segment_shown() -> None:
    started_at = datetime(2026, 3, 1, 0, 0, tzinfo=UTC)
    playlist = media_playlist([Part(index_of(2000, 2000), URL, Span(2500), started_at=started_at)])
    assert "#EXT-X-PROGRAM-DATE-TIME:2026-03-01T00:00:02.000000Z" in playlist


def test_while_it_grows_nothing_said_is_ever_taken_back() -> None:
    durations = [1000, 1000, 1000, 2000, 500, 700, 900]
    assert grown(durations, "K" * 7, limit_s=4).target_s == 4


def grown(durations: list[int], keys: str, *, limit_s: int, is_copied: bool = False) -> MediaPlaylist:
    """A list read again with each fragment that comes, and once more when the rendition is whole."""
    said = ""
    for count in range(1, len(durations) + 1):
        part = Part(index_of(*durations[:count], keys=keys), URL, is_growing=True, is_copied=is_copied)
        try:
            text = media_playlist([part], limit_s=limit_s)
        except NotFound:
            assert not said
            continue
        assert not goes_on(said, text).is_ended
        said = text
    whole = index_of(*durations, keys=keys)
    listed = Part(whole, URL, is_copied=is_copied, listing=Listing(whole))
    found = goes_on(said, media_playlist([listed], limit_s=limit_s))
    assert (found.kind, found.is_ended, found.length_us) == ("EVENT", True, sum(durations) * 1000)
    return found


@given(
    durations=st.lists(st.integers(500, 16_000), min_size=1, max_size=30),
    keys=st.lists(st.booleans(), min_size=30, max_size=30),
)
def test_no_segment_outgrows_the_target_that_was_told_first(durations: list[int], keys: list[bool]) -> None:
    """A camera's keyframes may be minutes apart: the list goes on without waiting for the next."""
    marks = "K" + "".join("K" if key else "-" for key in keys)
    found = grown(durations, marks, limit_s=SAFE_LIMIT_S, is_copied=True)
    assert (found.target_s, found.is_independent) == (SAFE_LIMIT_S, False)


def test_a_preview_goes_on_by_the_rung_that_it_is_the_beginning_of() -> None:
    preview, whole = index_of(2000, 2000, 1960), index_of(2000, 2000, 2000, 2000, 2000)
    growing = Part(preview, "preview.mp4", started_at=STARTED, is_growing=True)
    told = media_playlist([growing], limit_s=4)
    then = Part(whole, "360p.mp4", started_at=STARTED, since=seam_of(whole, preview.duration))
    found = goes_on(told, media_playlist([replace(growing, is_growing=False), then], limit_s=4))
    assert [piece.url for piece in found.pieces] == ["preview.mp4"] * 3 + ["360p.mp4"] * 2
    assert [piece.is_discontinuous for piece in found.pieces] == [False, False, False, True, False]
    assert found.pieces[3].dated_at == STARTED + timedelta(seconds=6)
    assert (found.is_ended, found.target_s) == (True, 4)


def test_segments_are_called_independent_only_where_each_begins_with_a_closed_keyframe() -> None:
    whole = index_of(2000, 2000)
    unsized = replace(whole, fragments=tuple(each._replace(keyframe_bytes=0) for each in whole.fragments))
    for part, is_so in (
        (Part(whole, URL), True),
        (Part(whole, URL, is_copied=True), False),
        (Part(index_of(2000, 2000, late=80), URL), False),
        (Part(index_of(2000, 9000, 2000, keys="K-K"), URL, Span(2000), strict=False), True),
        (Part(unsized, URL), False),
    ):
        assert read_media(media_playlist([part])).is_independent == is_so
        text = multivariant_playlist([Variant.of("a.m3u8", Part(whole, URL)), Variant.of("b.m3u8", part)])
        assert ("#EXT-X-INDEPENDENT-SEGMENTS" in text) == is_so
    assert not read_media(media_playlist([Part(whole, URL)], more_follows=True)).is_independent


def test_keyframes_of_a_copy_are_not_told_while_it_grows() -> None:
    """How far apart they will be nobody knows, and no segment may outgrow the target."""
    growing = Part(index_of(2000, 2000, 2000), URL, is_growing=True)
    assert Variant.of_keyframes("i.m3u8", growing) is not None
    assert Variant.of_keyframes("i.m3u8", replace(growing, is_copied=True)) is None


def test_each_keyframe_lies_in_its_range_and_is_shown_until_the_next() -> None:
    index = index_of(2000, 2000, 1000, 1500, keys="K-KK")
    found = read_media(iframe_playlist([Part(index, URL, started_at=STARTED)]))
    assert found.is_of_keyframes
    assert [(piece.first, piece.size, piece.duration_us) for piece in found.pieces] == [
        (fragment.offset_bytes, fragment.keyframe_bytes, length)
        for fragment, length in zip(
            (index.fragments[0], index.fragments[2], index.fragments[3]),
            (4_000_000, 1_000_000, 1_500_000),
            strict=True,
        )
    ]
    assert found.pieces[0].head == (URL, index.init_size_bytes)
    assert found.pieces[0].dated_at == STARTED


def test_a_keyframe_behind_pictures_that_lead_it_is_timed_by_itself() -> None:
    found = keyframes_of(Part(index_of(2000, 2000, late=80), URL))
    assert [float(segment.start) for segment in found] == [0.08, 2.08]
    assert [float(segment.duration) for segment in found] == [2.0, 1.92]


def test_keyframes_of_a_span_are_those_of_its_segments() -> None:
    part = Part(index_of(2000, 2000, 2000, 2000), URL, Span(1000, 7000), strict=True)
    assert [segment.start for segment in keyframes_of(part)] == [2, 4]


def test_a_keyframe_is_not_told_before_it_is_known_how_long_it_is_shown() -> None:
    growing = Part(index_of(2000, 2000, 2000), URL, is_growing=True)
    assert [segment.start for segment in keyframes_of(growing)] == [0, 2]


def test_sound_and_indexes_without_sizes_offer_no_keyframes() -> None:
    sound = Part(index_of(2000, keys="-", tracks=(AUDIO,)), URL)
    old = index_of(2000)
    bare = FragmentIndex(
        old.init_size_bytes, old.tracks, 0, tuple(each._replace(keyframe_bytes=0) for each in old.fragments)
    )
    for part in (sound, Part(bare, URL)):
        assert Variant.of_keyframes("i.m3u8", part) is None
        with pytest.raises(NotFound):
            iframe_playlist([part])


def test_keyframes_are_a_stream_of_their_own_behind_the_rungs() -> None:
    part = Part(index_of(2000, 2000), URL)
    keyframes = Variant.of_keyframes("i.m3u8", part)
    assert keyframes is not None
    streams = read_multivariant(multivariant_playlist([keyframes, Variant.of("full.m3u8", part)]))
    assert [(stream.url, stream.is_of_keyframes) for stream in streams] == [
        ("full.m3u8", False),
        ("i.m3u8", True),
    ]
    said = streams[1].attributes
    assert said["CODECS"] == "avc1.64001F"
    assert said["RESOLUTION"] == "1280x720"
    assert int(said["BANDWIDTH"]) == 901 * 8 // 2
    assert int(said["AVERAGE-BANDWIDTH"]) == (900 + 901) * 8 // 4


def test_files_follow_each_other_behind_a_discontinuity_with_their_own_start_and_date() -> None:
    later = STARTED + timedelta(seconds=90)
    parts = [
        Part(index_of(2000, 2000), URL, started_at=STARTED),
        Part(index_of(3000), "b.mp4", started_at=later),
        Part(index_of(2000), "c.mp4"),
    ]
    found = read_media(media_playlist(parts))
    assert [piece.url for piece in found.pieces] == [URL, URL, "b.mp4", "c.mp4"]
    assert [piece.is_discontinuous for piece in found.pieces] == [False, False, True, True]
    assert [piece.dated_at for piece in found.pieces] == [STARTED, None, later, None]
    assert [piece.head for piece in found.pieces] == [
        (URL, 1000),
        (URL, 1000),
        ("b.mp4", 1000),
        ("c.mp4", 1000),
    ]
    assert found.length_us == 9_000_000
    assert found.target_s == 3


def test_what_follows_a_discontinuity_begins_with_its_map_where_that_lies_before_it() -> None:
    """VLC 3 begins anew there and asks for no map; a stretch from the middle of a file has none to give."""
    cut = Part(index_of(2000, 2000), "c.mp4", Span(2000))
    parts = [Part(index_of(2000, 2000), URL), Part(index_of(2000, 3000), "b.mp4"), cut]
    assert ranges(media_playlist(parts)) == [
        (1000, 6000),
        (6000, 11_001),
        (0, 6000),
        (6000, 11_001),
        (6000, 11_001),
    ]
    assert ranges(media_playlist([parts[1]]))[0] == (1000, 6000)
    assert ranges(iframe_playlist(parts))[2] == (1000, 1900)


def test_seconds_left_out_within_a_file_are_a_discontinuity_with_a_date() -> None:
    whole = index_of(2000, 2000, 2000)
    gone = FragmentIndex(1000, whole.tracks, 0, (whole.fragments[0], whole.fragments[2]))
    found = read_media(media_playlist([Part(gone, URL, started_at=STARTED)]))
    assert [piece.dated_at for piece in found.pieces] == [STARTED, STARTED + timedelta(seconds=4)]
    assert [piece.is_discontinuous for piece in found.pieces] == [False, True]
    assert found.length_us == 4_000_000


@given(
    durations=st.lists(st.integers(1, 9000), min_size=1, max_size=40),
    timescale=st.sampled_from([25, 1000, 12800, 90000, 30000]),
)
def test_lengths_written_never_drift_from_the_media(durations: list[int], timescale: int) -> None:
    index = index_of(*durations, tracks=(Track(1, "video", timescale, "avc1.64001F", 640, 360),))
    for text in (media_playlist([Part(index, URL)]), iframe_playlist([Part(index, URL)])):
        assert read_media(text).length_us == int(index.duration * 1_000_000)


def test_sound_alone_needs_no_keyframes() -> None:
    index = index_of(2000, 2000, keys="--", tracks=(AUDIO,))
    assert "#EXT-X-INDEPENDENT-SEGMENTS" in media_playlist([Part(index, URL)])


def test_an_empty_span_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        media_playlist([Part(index_of(2000), URL, Span(1000, 1000))])
    assert caught.value.code == "span_empty"


def test_a_url_cannot_break_out_of_its_line() -> None:
    for hostile in ('a"\n#EXT-X-ENDLIST', "a b", "执法.mp4"):
        with pytest.raises(InvalidInput):
            media_playlist([Part(index_of(2000), hostile)])


def test_rungs_are_offered_from_modest_to_full() -> None:
    small = Variant("360.m3u8", 400_000, 300_000, "avc1.64001E,mp4a.40.2", 640, 360)
    full = Variant.of("full.m3u8", Part(index_of(2000, 2000), URL))
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


def test_what_goes_on_begins_with_the_next_picture_or_earlier_and_never_later() -> None:
    whole = index_of(*[2000] * 5)
    for ends, since in ((6000, 6), (5960, 6), (6040, 6), (7000, 6), (9980, Fraction(9980, 1000))):
        assert seam_of(whole, Fraction(ends, 1000)) == since
