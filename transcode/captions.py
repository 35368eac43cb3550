"""What is to be read beside the pictures: WebVTT, cut along the lists of what is shown.

A *caption* is a text and when it applies, in media time of its recording. Where it comes from is nobody's
business here: today people's markers of a session (`api.captions`), one day what was said. A list of captions
has the timeline of a rung's list: the same runs, so the same discontinuities, and never a moment that the
rung does not show. Its pieces are whole segments of the rung: singly where the list grows, because such lists
must have one target duration and may only be added to; else some ten minutes of them together. A piece of
a list that grows says nothing of what follows it, because that may be of another run: a caption that is read
across its end goes on with the next piece.

Times in a piece are positions of the list, and its X-TIMESTAMP-MAP says which time of the footage's own clock
is which of these positions: so players that heed it and players that do not show a caption at one moment.

Source: RFC 8216, section 3.5; W3C WebVTT, section 4.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from evidence.errors import NotFound
from transcode.playlist import (
    HLS_VERSION,
    SAFE_LIMIT_S,
    SECOND_US,
    Part,
    Segment,
    Stretch,
    quotable,
    shown_of,
)

MEDIA_TYPE = "text/vtt"
PIECE_US = 600 * SECOND_US
MPEG_HZ, MPEG_WRAPS = 90_000, 1 << 33
"""The clock of MPEG-2 transport streams: what X-TIMESTAMP-MAP counts in, in 33 bits."""


@dataclass(frozen=True, order=True)
class Caption:
    """A text beside the pictures."""

    from_us: int
    """Media time of its recording."""
    to_us: int
    text: str


@dataclass(frozen=True)
class CaptionTrack:
    """Captions as a multivariant playlist offers them: a group for each list of pictures."""

    group: str
    url: str
    name: str
    """For people who choose, in every language they may have."""

    @property
    def line(self) -> str:
        attributes = [
            "TYPE=SUBTITLES",
            f'GROUP-ID="{self.group}"',
            f'NAME="{self.name}"',
            "DEFAULT=NO,AUTOSELECT=NO,FORCED=NO",
            f'URI="{quotable(self.url)}"',
        ]
        return f"#EXT-X-MEDIA:{','.join(attributes)}"


@dataclass(frozen=True)
class Piece:
    """A stretch of a list of captions: segments of one run."""

    part: Part
    run: int
    """Number of the run it is of: between two stands a discontinuity."""
    segments: Sequence[Segment]
    position_us: int
    """Of the list, where it begins."""
    within_us: tuple[int, int]
    """Media time its run begins at, and up to which it is known: the run's end, or its own in a list that
    grows, where what was told may not change. What is beyond was not shown, or is shown elsewhere."""
    is_single: bool
    """It is of a list that grows, or did."""

    @property
    def start_us(self) -> int:
        """Media time it begins at."""
        return self.segments[0].start_us

    @property
    def end_us(self) -> int:
        return self.segments[-1].end_us

    @property
    def length_us(self) -> int:
        return self.end_us - self.start_us

    def text(self) -> str:
        """As WebVTT."""
        first = self.segments[0]
        ticks = (self.part.index.origin_pts + first.start_pts) * MPEG_HZ // first.timescale % MPEG_WRAPS
        lines = ["WEBVTT", f"X-TIMESTAMP-MAP=LOCAL:{_clock(self.position_us)},MPEGTS:{ticks}"]
        # One that is read across an edge has the same times in both pieces: players know it by them.
        shift_us = self.position_us - self.start_us
        first_us, last_us = self.within_us
        for caption in self.part.captions:
            from_us, to_us = caption.from_us, min(caption.to_us, last_us)
            if from_us < first_us or to_us <= self.start_us or from_us >= self.end_us:
                continue
            start_us = (max(from_us, self.start_us) if self.is_single else from_us) + shift_us
            end_us = to_us + shift_us
            lines += ["", f"{_clock(start_us)} --> {_clock(end_us)}", written(caption.text)]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Captions:
    """What is read beside one list of pictures."""

    pieces: Sequence[Piece]
    limit_s: int | None = None
    """The target duration of a list that is, or was, told while it grew."""
    is_open: bool = False
    """More will follow."""

    @classmethod
    def beside(
        cls, parts: Sequence[Part], *, limit_s: int | None = None, more_follows: bool = False
    ) -> Captions:
        """Beside `media_playlist` of the same."""
        is_open = more_follows or (bool(parts) and parts[-1].is_growing)
        limit_s = limit_s or (SAFE_LIMIT_S if is_open else None)
        return cls(pieces_of(shown_of(parts, limit_s), singly=limit_s is not None), limit_s, is_open)

    def playlist(self, name: str) -> str:
        """The list of the pieces, each at ``{name}-{number}.vtt``.

        Raises:
            NotFound: ``span_without_segments``: nothing is shown that they could stand beside.
        """
        if not self.pieces:
            raise NotFound("captions: expected something shown, found nothing", code="span_without_segments")
        target_s = max(self.limit_s or 1, *(-(-each.length_us // SECOND_US) for each in self.pieces))
        lines = ["#EXTM3U", f"#EXT-X-VERSION:{HLS_VERSION}", f"#EXT-X-TARGETDURATION:{target_s}"]
        kind = "VOD" if self.limit_s is None else "EVENT"
        lines += ["#EXT-X-MEDIA-SEQUENCE:0", f"#EXT-X-PLAYLIST-TYPE:{kind}"]
        run = 0
        for number, piece in enumerate(self.pieces):
            if piece.run != run:
                lines.append("#EXT-X-DISCONTINUITY")
                run = piece.run
            seconds, micros = divmod(piece.length_us, SECOND_US)
            lines += [f"#EXTINF:{seconds}.{micros:06d},", quotable(f"{name}-{number}.vtt")]
        if not self.is_open:
            lines.append("#EXT-X-ENDLIST")
        return "\n".join(lines) + "\n"

    def piece(self, number: int) -> str:
        """One of them as text.

        Raises:
            NotFound: ``nothing_here``: the list has no such piece.
        """
        if number >= len(self.pieces):
            raise NotFound(
                f"captions: expected a piece below {len(self.pieces)}, found {number}", code="nothing_here"
            )
        return self.pieces[number].text()


def pieces_of(shown: Sequence[tuple[Part, Stretch]], *, singly: bool = False) -> list[Piece]:
    """What a list shows, cut into pieces: one for each segment, or some minutes of them together."""
    found: list[Piece] = []
    position_us = 0
    for number, (part, stretch) in enumerate(shown):
        segments = stretch.run.segments
        start_us = segments[0].start_us
        edges = [0]
        for at, segment in enumerate(segments):
            if at and (singly or segment.start_us - segments[edges[-1]].start_us >= PIECE_US):
                edges.append(at)
        for begin, end in pairwise([*edges, len(segments)]):
            place_us = position_us + segments[begin].start_us - start_us
            within_us = start_us, segments[end - 1 if singly else -1].end_us
            found.append(Piece(part, number, segments[begin:end], place_us, within_us, singly))
        position_us += segments[-1].end_us - start_us
    return found


def written(text: str) -> str:
    """A text as the payload of a cue: one line that nothing in it can end, begin or mark up."""
    plain = "".join(" " if unicodedata.category(each)[0] in "CZ" else each for each in text)
    return " ".join(plain.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(at_us: int) -> str:
    seconds, micros = divmod(at_us, SECOND_US)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{micros // 1000:03d}"
