"""Several sources of one stretch of wall time in one picture, as a file to take away.

Every picture of the composite is one instant: number n is ``n / rate`` seconds after the window's start, and
each pane shows what its source showed then by its corrected clock. Where a source has no footage at that
instant its pane is black with its name; a picture is never held beyond the footage it belongs to. A source
picture that begins within `SLACK` after an instant counts as begun, so that rounding of clocks and time bases
moves none to the next instant.

One FFmpeg graph makes it: a still ground of placeholders, and over it each piece of footage, switched on for
the numbers of its pictures alone. Only fragments that touch a piece are handed to it (`transcode.excerpt`).
The same request over the same renditions with the same font gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any, Literal

import ffmpeg
from PIL import Image, ImageDraw, ImageFont

from media import formats
from media.errors import media_error
from media.fmp4 import FragmentIndex
from media.fonts import find_font, font_digest, require_font
from media.run import run_ffmpeg
from media.still import sync
from transcode.clip import CRF, OUTPUT, VIDEO
from transcode.excerpt import covering, write_excerpt
from transcode.mark import SMALLEST_TEXT_PX, MarkLine, clock_options, mark_image, write_text
from transcode.plan import AUDIO_KBPS_PER_CHANNEL
from transcode.segment import RunOptions

Layout = Literal["side_by_side", "picture_in_picture"]
MOST_PANES = 8
FASTEST = 30
LARGEST_PX = (1920, 1080)
SMALLEST_PX = (160, 90)
SOUND_RATE_HZ = 48_000
SLACK = Fraction(1, 1000)
HOLE = Fraction(1, 10)
"""Footage that ends so long before the next of its file begins has a hole, where nothing is shown."""
MOST_RUNS = 1000
INSET_SHARE, MARGIN_SHARE, INSETS_IN_COLUMN = 5, 40, 4
NAME_SHARE, HOLDER_SHARE = 20, 14
"""Heights of a pane to one line of its name: over its picture, and on its placeholder."""
GRID = {1: (1, 1), 2: (2, 1), 3: (2, 2), 4: (2, 2), 5: (3, 2), 6: (3, 2), 7: (4, 2), 8: (4, 2)}
"""Columns and rows for so many panes."""
NO_PICTURE = MarkLine("此刻无画面 no picture", "no picture")
Box = tuple[int, int, int, int]
"""Left, top, width, height, in pixels; all even."""


@dataclass(frozen=True)
class Footage:
    """A piece of a rendition that a pane may show."""

    key: str
    """What it is called in what is said of the composite."""
    pane: int
    rendition: Path
    index: FragmentIndex
    at_us: int
    """Its media time 0, after the window's start."""
    span_us: tuple[int, int]
    """Media time; pictures that begin in it may be shown, and none else."""


@dataclass(frozen=True)
class Shown:
    """A run of pictures of the composite in which a pane shows one piece without a hole."""

    footage: Footage
    first: int
    end: int
    """Number of the picture after the last."""


@dataclass(frozen=True)
class CompositeResult:
    """A composite that is on disk."""

    path: Path
    frame_count: int
    rate: int
    size_px: tuple[int, int]
    boxes: tuple[Box, ...]
    shown: tuple[Shown, ...]
    sound: int | None
    """The pane that is heard."""
    params: dict[str, Any]
    """What its bytes depend on beside the renditions."""


def rate_of(pieces: Sequence[Footage]) -> int:
    """Pictures a second: as many as the fastest source has, at most `FASTEST`."""
    fastest = Fraction(1)
    for piece in _pictures(pieces):
        for fragment in covering(piece.index, *_seconds(piece)):
            if fragment.frame_count > 1 and fragment.duration_pts:
                found = Fraction(fragment.frame_count * piece.index.timescale, fragment.duration_pts)
                fastest = max(fastest, found)
    return min(FASTEST, max(1, ceil(fastest - HOLE)))


def boxes_of(layout: Layout, sizes: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], tuple[Box, ...]]:
    """Width and height of the composite, and where its panes stand; the first is the large one.

    Args:
        sizes: Of the largest picture of each pane; (0, 0) where it has none.
    """
    if layout == "picture_in_picture":
        width, height = _fit(sizes[0], LARGEST_PX)
        wide, high = _even(width // INSET_SHARE), _even(height // INSET_SHARE)
        gap = _even(height // MARGIN_SHARE)
        insets = []
        for number in range(len(sizes) - 1):
            column, row = divmod(number, INSETS_IN_COLUMN)
            insets.append(
                (
                    width - (column + 1) * _even(wide + gap),
                    height - (row + 1) * _even(high + gap),
                    wide,
                    high,
                )
            )
        return (width, height), ((0, 0, width, height), *insets)
    columns, rows = GRID[len(sizes)]
    largest = (max(size[0] for size in sizes), max(size[1] for size in sizes))
    wide, high = _fit(largest, (LARGEST_PX[0] // columns, LARGEST_PX[1] // rows))
    boxes = [(n % columns * wide, n // columns * high, wide, high) for n in range(len(sizes))]
    return (columns * wide, rows * high), tuple(boxes)


def enough_for(sizes: Sequence[tuple[int, int]], box: Box) -> int:
    """Which of some sizes of a picture fills a pane: the smallest that is not enlarged, else the largest."""
    _, _, width, height = box
    enough = [number for number, (wide, high) in enumerate(sizes) if wide >= width or high >= height]
    if enough:
        return min(enough, key=lambda number: sizes[number])
    return max(range(len(sizes)), key=lambda number: sizes[number])


def shown_of(pieces: Sequence[Footage], length_us: int, rate: int) -> list[Shown]:
    """Which pictures of the composite each piece gives; where two of a pane meet, the earlier keeps them."""
    count = count_of(length_us, rate)
    found: list[Shown] = []
    for piece in _pictures(pieces):
        at = Fraction(piece.at_us, 1_000_000)
        for begin, end in _runs(piece):
            first, after = (ceil((at + edge - SLACK) * rate) for edge in (begin, end))
            found.append(Shown(piece, max(0, first), min(count, after)))
    free: dict[int, int] = {}
    kept = []
    for each in sorted(found, key=lambda one: (one.first, one.footage.at_us, one.footage.key)):
        one = replace(each, first=max(each.first, free.get(each.footage.pane, 0)))
        if one.first < one.end:
            free[one.footage.pane] = one.end
            kept.append(one)
    return kept


def count_of(length_us: int, rate: int) -> int:
    """Pictures of a window: those whose instant lies in it."""
    return max(1, ceil((Fraction(length_us, 1_000_000) - SLACK) * rate))


def heard_of(pieces: Sequence[Footage], wanted: int | None) -> int | None:
    """The pane to be heard: the one that is wanted, else the first that has sound; None: nothing to hear."""
    sounding = sorted({piece.pane for piece in pieces if _has_sound(piece)})
    if wanted is not None:
        return wanted if wanted in sounding else None
    return sounding[0] if sounding else None


def compose(
    names: Sequence[MarkLine],
    pieces: Sequence[Footage],
    length_us: int,
    destination: Path,
    *,
    layout: Layout,
    sound: int | None,
    mark: Sequence[MarkLine] = (),
    font: Path | None = None,
    clock_us: int | None = None,
    run: RunOptions,
    on_progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> CompositeResult:
    """Compose a window as MP4 that plays from its first bytes.

    Args:
        names: Of the panes, in order; each is burnt into its pane.
        pieces: What the panes may show.
        sound: The pane that is heard; None: none.
        clock_us: What a clock on the wall showed at the window's start, as for a clip.
        destination: A temporary file; taken away on failure.

    Raises:
        MediaError: ``ffmpeg_failed`` or a limit; ``corrupt``: more holes than a command line can name.
        Unavailable: ``disk_full``, or ``font_missing``: a clock is wanted and nothing can draw it.
        Conflict: ``cancelled``.
    """
    used_font = find_font(font)
    rate = rate_of(pieces)
    count = count_of(length_us, rate)
    size, boxes = boxes_of(layout, [_largest(pieces, number) for number in range(len(names))])
    shown = shown_of(pieces, length_us, rate)
    if len(shown) > MOST_RUNS:
        raise media_error("corrupt", f"expected at most {MOST_RUNS} runs of footage, found {len(shown)}")
    clock = clock_options(clock_us, require_font(used_font), size[1]) if clock_us is not None else None
    graph = _Graph(run.scratch, rate, size, boxes, are_insets=layout == "picture_in_picture")
    try:
        picture = graph.pictures(names, shown, count, used_font)
        picture = graph.under(picture, _over(names, boxes, size, mark, used_font), "over.png")
        if clock is not None:
            picture = picture.filter("drawtext", **clock)
        outputs = [picture.filter("format", "yuv420p")]
        options = {**OUTPUT, **VIDEO, "frames:v": count, "enc_time_base:v": f"1:{rate}"}
        if sound is not None:
            heard = [each for each in pieces if each.pane == sound and _has_sound(each)]
            outputs.append(graph.sound(heard, length_us))
            options |= {"c:a": "aac", "b:a": f"{2 * AUDIO_KBPS_PER_CHANNEL}k"}
        run_ffmpeg(
            ffmpeg.output(*outputs, f"file:{destination.resolve()}", **options).overwrite_output().get_args(),
            scratch=run.scratch,
            limits=run.limits,
            binary=run.ffmpeg,
            duration=Fraction(count, rate),
            on_progress=on_progress,
            cancelled=cancelled,
        )
        sync(destination)
    except BaseException:
        destination.unlink(missing_ok=True)
        raise
    finally:
        graph.clear()
    params = {
        "layout": layout,
        "length_us": length_us,
        "pieces": [[each.pane, each.at_us, list(each.span_us)] for each in pieces],
        "names": [name.text for name in names],
        "sound": sound,
        "mark": [line.text for line in mark],
        "font_sha256": font_digest(used_font),
        "clock_us": clock_us,
        "crf": CRF,
    }
    return CompositeResult(destination, count, rate, size, boxes, tuple(shown), sound, params)


class _Graph:
    """The inputs of one composite, each a file of its own in the scratch folder."""

    def __init__(
        self, scratch: Path, rate: int, size: tuple[int, int], boxes: Sequence[Box], *, are_insets: bool
    ) -> None:
        self._scratch, self._rate, self._size, self._boxes = scratch, rate, size, boxes
        self._are_insets = are_insets
        self._written: list[Path] = []
        self._excerpts: dict[str, Path] = {}

    def clear(self) -> None:
        for path in self._written:
            path.unlink(missing_ok=True)

    def pictures(
        self, names: Sequence[MarkLine], shown: Sequence[Shown], count: int, font: Path | None
    ) -> Any:
        """The panes one over the other, each with its placeholder beneath."""
        ground = Image.new("RGB", self._size)
        holders = [placeholder(name, box, font) for name, box in zip(names, self._boxes, strict=True)]
        for holder, box in list(zip(holders, self._boxes, strict=True))[: 1 if self._are_insets else None]:
            ground.paste(holder, box[:2])
        # Decoded and converted once; what is repeated is the picture.
        picture = self._still(ground, "ground.png").filter("format", "yuv420p")
        picture = picture.filter("loop", loop=count - 1, size=1)
        picture = picture.filter("settb", f"1/{self._rate}").filter("setpts", "N")
        for pane, box in enumerate(self._boxes):
            if self._are_insets and pane:
                picture = self.under(picture, holders[pane], f"pane-{pane}.png", box[:2])
            own = [each for each in shown if each.footage.pane == pane]
            for key in dict.fromkeys(each.footage.key for each in own):
                picture = self._laid(picture, [each for each in own if each.footage.key == key], box)
        return picture

    def under(self, picture: Any, image: Image.Image, name: str, place: tuple[int, int] = (0, 0)) -> Any:
        """A picture with a still over it."""
        still = self._still(image, name)
        return ffmpeg.overlay(picture, still, x=place[0], y=place[1], eof_action="repeat")

    def sound(self, pieces: Sequence[Footage], length_us: int) -> Any:
        """What one pane's pieces sound, with silence between, as long as the window."""
        total = ceil(Fraction(length_us, 1_000_000) * SOUND_RATE_HZ)
        parts: list[Any] = []
        done = 0
        for piece in sorted(pieces, key=lambda each: (each.at_us + each.span_us[0], each.key)):
            at = Fraction(piece.at_us, 1_000_000)
            begin, end = _seconds(piece)
            first = max(done, ceil((at + begin) * SOUND_RATE_HZ))
            after = min(total, ceil((at + end) * SOUND_RATE_HZ))
            if first >= after:
                continue
            parts += _silence(first - done)
            track = next(each for each in piece.index.tracks if each.kind == "audio")
            start = Fraction(first, SOUND_RATE_HZ) - at + piece.index.origin
            cut = ceil(start * track.timescale)
            heard = self._opened(piece).audio.filter("atrim", start_pts=cut).filter("asetpts", f"PTS-{cut}")
            heard = heard.filter("aresample", SOUND_RATE_HZ, first_pts=0, **{"async": 1})
            heard = heard.filter("apad").filter("atrim", end_sample=after - first)
            parts.append(_plain(heard))
            done = after
        parts += _silence(total - done)
        return ffmpeg.concat(*parts, v=0, a=1) if len(parts) > 1 else parts[0]

    def _laid(self, picture: Any, runs: Sequence[Shown], box: Box) -> Any:
        """A picture with one piece over it, where it is shown."""
        piece, (left, top, width, height) = runs[0].footage, box
        index = piece.index
        scale = index.timescale
        begin, end = _seconds(piece)
        shift = round((Fraction(piece.at_us, 1_000_000) - index.origin - SLACK) * scale)
        over = (
            self._opened(piece)
            .video.filter(
                "trim",
                start_pts=ceil((begin + index.origin) * scale),
                end_pts=ceil((end + index.origin) * scale),
            )
            .filter("setpts", f"PTS+({shift})")
            .filter("fps", fps=self._rate, round="up")
            .filter("trim", start_pts=runs[0].first, end_pts=runs[-1].end)
            .filter(
                "scale", width, height, force_original_aspect_ratio="decrease", force_divisible_by=2,
                flags="bicubic+accurate_rnd+bitexact",
            )
            .filter("pad", width, height, "(ow-iw)/2", "(oh-ih)/2")
            .filter("setsar", 1)
            .filter("format", "yuv420p")
        )  # fmt: skip
        on = "+".join(f"gte(n,{each.first})*lt(n,{each.end})" for each in runs)
        return ffmpeg.overlay(picture, over, x=left, y=top, eof_action="repeat", enable=on)

    def _opened(self, piece: Footage) -> Any:
        path = self._excerpts.get(piece.key)
        if path is None:
            path = self._excerpts[piece.key] = self._scratch / f"excerpt-{len(self._excerpts)}.mp4"
            self._written.append(path)
            write_excerpt(piece.rendition, piece.index, *_seconds(piece), path)
        # Each thread of a decoder holds pictures, and there may be dozens of decoders.
        return ffmpeg.input(f"file:{path}", copyts=None, threads=1, **formats.whitelist_options())

    def _still(self, image: Image.Image, name: str) -> Any:
        path = self._scratch / name
        self._written.append(path)
        image.save(path, "PNG")
        return ffmpeg.input(f"file:{path}", f="png_pipe", protocol_whitelist="file")


def placeholder(name: MarkLine, box: Box, font: Path | None) -> Image.Image:
    """What a pane shows while its source has no footage: black, the source's name, and that this is so."""
    _, _, width, height = box
    image = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(image)
    size = max(SMALLEST_TEXT_PX, height // HOLDER_SHARE)
    drawn_with = _font(font, size)
    for row, line in enumerate((name, NO_PICTURE)):
        text = _cut(pen, _readable(line, font), drawn_with, width - size)
        left = (width - int(pen.textlength(text, font=drawn_with))) // 2
        top = height // 2 + (row - 1) * (size + size // 3)
        pen.text((left, top), text, font=drawn_with, fill=(200, 200, 200))
    return image


def _over(
    names: Sequence[MarkLine],
    boxes: Sequence[Box],
    size_px: tuple[int, int],
    mark: Sequence[MarkLine],
    font: Path | None,
) -> Image.Image:
    """The mark, and the name of each source at the top right of its pane."""
    canvas = mark_image(mark, width_px=size_px[0], height_px=size_px[1], font=font)
    pen = ImageDraw.Draw(canvas)
    for name, (left, top, width, height) in zip(names, boxes, strict=True):
        size = max(SMALLEST_TEXT_PX, height // NAME_SHARE)
        drawn_with = _font(font, size)
        text = _cut(pen, _readable(name, font), drawn_with, width // 2)
        right = left + width - size // 2 - int(pen.textlength(text, font=drawn_with))
        write_text(pen, (right, top + size // 2), text, drawn_with, size, 255)
    return canvas


def _readable(line: MarkLine, font: Path | None) -> str:
    text = line.text if font is not None or line.text.isascii() else line.latin
    return " ".join(text.split())


def _cut(
    pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int
) -> str:
    """As much of a text as fits; its end, where it does not, because numbers differ there."""
    while len(text) > 1 and pen.textlength(text, font=font) > width_px:
        text = text[1:]
    return text


def _font(font: Path | None, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.truetype(str(font), size) if font is not None else ImageFont.load_default(size)


def _pictures(pieces: Sequence[Footage]) -> list[Footage]:
    return [piece for piece in pieces if piece.index.main.kind == "video"]


def _has_sound(piece: Footage) -> bool:
    return any(track.kind == "audio" for track in piece.index.tracks)


def _seconds(piece: Footage) -> tuple[Fraction, Fraction]:
    """Media time, no longer than its rendition."""
    first, last = (Fraction(edge, 1_000_000) for edge in piece.span_us)
    return max(Fraction(), first), min(last, piece.index.duration)


def _runs(piece: Footage) -> list[tuple[Fraction, Fraction]]:
    """Media time of a piece without the holes in it."""
    begin, end = _seconds(piece)
    scale = piece.index.timescale
    runs: list[tuple[Fraction, Fraction]] = []
    since = begin
    for fragment in covering(piece.index, begin, end):
        until = Fraction(fragment.end_pts + min(0, fragment.tail_pts), scale)
        after = Fraction(fragment.end_pts, scale)
        if after - until > HOLE and until < end:
            runs.append((since, until))
            since = max(begin, after)
    return [(first, last) for first, last in [*runs, (since, end)] if first < last]


def _largest(pieces: Sequence[Footage], pane: int) -> tuple[int, int]:
    own = [piece.index.main for piece in _pictures(pieces) if piece.pane == pane]
    return max(((track.width_px, track.height_px) for track in own), default=(0, 0))


def _fit(size: tuple[int, int], room: tuple[int, int]) -> tuple[int, int]:
    """A size that is even, no larger than the room, and in its own proportions."""
    wide, high = (max(edge, least) for edge, least in zip(size, SMALLEST_PX, strict=True))
    share = min(Fraction(1), Fraction(room[0], wide), Fraction(room[1], high))
    return _even(int(wide * share)), _even(int(high * share))


def _even(length: int) -> int:
    return max(2, length - length % 2)


def _silence(samples: int) -> list[Any]:
    if samples <= 0:
        return []
    still = ffmpeg.input(f"anullsrc=r={SOUND_RATE_HZ}:cl=stereo", f="lavfi")
    return [_plain(still.audio.filter("atrim", end_sample=samples))]


def _plain(sound: Any) -> Any:
    return sound.filter(
        "aformat", sample_fmts="fltp", sample_rates=SOUND_RATE_HZ, channel_layouts="stereo"
    ).filter("asetpts", "N")
