"""What is read beside the pictures: at the moment it was said, in every list, and nothing but text."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

import pytest

from evidence.errors import NotFound
from media.fmp4 import Fragment, FragmentIndex, Track
from tests.support.hls import goes_on, read_media
from transcode.captions import PIECE_US, Caption, Captions, written
from transcode.playlist import Part, Span, media_playlist

SCALE, ORIGIN = 12800, 1024
VIDEO = Track(1, "video", SCALE, "avc1.64001F", 640, 360)
SECOND = 1_000_000
CUE = re.compile(r"([\d:.]+) --> ([\d:.]+)\n(.*)")


def part(seconds: int, *marks: float, **options: object) -> Part:
    """Footage of one-second fragments whose clock begins at 80 ms, and what was marked at which second."""
    fragments = tuple(
        Fragment(1000 + 100 * n, 100, n * SCALE, SCALE, 25, True, 0, 0, 40) for n in range(seconds)
    )
    captions = [Caption(int(at * SECOND), int((at + 5) * SECOND), f"at {at}") for at in marks]
    index = FragmentIndex(1000, (VIDEO,), ORIGIN, fragments)
    return Part(index, "a.mp4", captions=captions, **options)  # type: ignore[arg-type]


def cues(text: str) -> list[tuple[str, str, str]]:
    assert text.startswith("WEBVTT\nX-TIMESTAMP-MAP=LOCAL:")
    return [found.groups() for found in CUE.finditer(text)]  # type: ignore[misc]


def clock_of(text: str) -> tuple[str, int]:
    local, ticks = re.findall(r"^X-TIMESTAMP-MAP=LOCAL:([\d:.]+),MPEGTS:(\d+)$", text, re.MULTILINE)[0]
    return local, int(ticks)


def test_a_marker_is_read_at_its_moment_in_the_whole_and_in_a_span() -> None:
    whole = Captions.beside([part(20, 7.25)]).piece(0)
    assert cues(whole) == [("00:00:07.250", "00:00:12.250", "at 7.25")]
    # The footage's own clock says 80 ms where the list begins.
    assert clock_of(whole) == ("00:00:00.000", 7200)
    spanned = Captions.beside([part(20, 7.25, span=Span(3500, 18000), strict=True)]).piece(0)
    # The first fragment inside begins at 4 s: that is where the list begins.
    assert cues(spanned) == [("00:00:03.250", "00:00:08.250", "at 7.25")]
    assert clock_of(spanned) == ("00:00:00.000", int((4 + Fraction(ORIGIN, SCALE)) * 90_000))


def test_a_list_over_files_has_the_runs_of_the_pictures_and_their_positions() -> None:
    parts = [part(6, 5.5), part(4, 1), part(5)]
    captions = Captions.beside(parts)
    told = read_media(captions.playlist("marks-copy"), of_captions=True)
    shown = read_media(media_playlist(parts))
    assert told.length_us == shown.length_us
    assert [each.is_discontinuous for each in told.pieces] == [False, True, True]
    assert [each.url for each in told.pieces] == [f"marks-copy-{number}.vtt" for number in range(3)]
    assert (told.kind, told.is_ended) == ("VOD", True)
    # Each stays on the clock of its own file, and is not said of the next.
    assert cues(captions.piece(0)) == [("00:00:05.500", "00:00:06.000", "at 5.5")]
    assert cues(captions.piece(1)) == [("00:00:07.000", "00:00:10.000", "at 1")]
    assert clock_of(captions.piece(1)) == ("00:00:06.000", 7200)
    assert cues(captions.piece(2)) == []
    with pytest.raises(NotFound, match="below 3"):
        captions.piece(3)


def test_what_was_marked_before_a_span_is_not_said_in_it() -> None:
    spanned = Captions.beside([part(20, 2, 16, span=Span(4000, 18000), strict=True)])
    assert cues(spanned.piece(0)) == [("00:00:12.000", "00:00:14.000", "at 16")]


def test_hours_are_cut_into_pieces_and_a_caption_over_an_edge_is_the_same_in_both() -> None:
    edge_s = PIECE_US // SECOND
    captions = Captions.beside([part(2 * edge_s + 5, edge_s - 2)])
    assert len(captions.pieces) == 3
    before, after = cues(captions.piece(0)), cues(captions.piece(1))
    assert before == after == [("00:09:58.000", "00:10:03.000", f"at {edge_s - 2}")]
    assert clock_of(captions.piece(1))[0] == "00:10:00.000"


def test_what_grows_is_told_segment_by_segment_and_only_added_to() -> None:
    whole = part(9, 1, 7)
    growing = replace(whole, index=replace(whole.index, fragments=whole.index.fragments[:6]), is_growing=True)
    begun = Captions.beside([growing], limit_s=3)
    told = begun.playlist("marks-copy")
    ended = Captions.beside([whole], limit_s=3)
    found = goes_on(told, ended.playlist("marks-copy"), of_captions=True)
    # All lists of a multivariant playlist that are not whole have one target duration (RFC 8216bis 6.2.4).
    pictures = read_media(media_playlist([whole], limit_s=3))
    assert found.target_s == pictures.target_s == 3
    assert [each.duration_us for each in found.pieces] == [each.duration_us for each in pictures.pieces]
    assert [begun.piece(number) for number in range(len(begun.pieces))] == [
        ended.piece(number) for number in range(len(begun.pieces))
    ]
    with pytest.raises(NotFound):
        Captions.beside([]).playlist("marks-copy")


def test_what_grows_says_nothing_of_what_may_follow() -> None:
    # Whether anything follows in its file nobody knows while the first six seconds are all there is.
    first, second = part(6, 4.5), replace(part(6, 1), is_growing=True)
    captions = Captions.beside([first, second], limit_s=3)
    told = [cues(captions.piece(number)) for number in range(len(captions.pieces))]
    assert [(start, end) for each in told for start, end, _ in each] == [
        # One after the other, as long as it is read, and in its own file alone.
        ("00:00:04.500", "00:00:06.000"), ("00:00:07.000", "00:00:08.000"), ("00:00:08.000", "00:00:10.000"),
    ]  # fmt: skip
    for number, piece in enumerate(captions.pieces):
        ends_us = piece.position_us + piece.length_us
        assert all(end <= f"00:00:{ends_us // SECOND:02d}.000" for _, end, _ in told[number])


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("出示证件", "出示证件"),
        ("a --> b", "a --&gt; b"),
        ("<c.red>&amp;</c>", "&lt;c.red&gt;&amp;amp;&lt;/c&gt;"),
        ("one\n\n00:00:00.000 --> 00:00:09.000\ntwo", "one 00:00:00.000 --&gt; 00:00:09.000 two"),
        ("a\u2028b\rc\x00d\u202ee", "a b c d e"),
    ],
)
def test_nothing_in_a_text_can_end_begin_or_mark_up_a_cue(said: str, text: str) -> None:
    assert written(said) == text
    (cue,) = cues(Captions.beside([replace(part(9), captions=[Caption(0, SECOND, said)])]).piece(0))
    assert cue == ("00:00:00.000", "00:00:01.000", text)
