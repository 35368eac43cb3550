"""What helps to find one's way in a rendition: contact sheets, the track of their tiles, the waveform.

Made from the rendition that it stands for, never from anything above it: of a masked one it shows and
sounds what that shows and sounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from config.settings import WayfindingSettings
from media import sandbox
from media.contact import COLUMNS, ROWS, tile_corner
from media.fmp4 import Fragment, FragmentIndex
from media.sandbox import Limits

# Seconds from tile to tile, as people count; the first that gives few enough tiles is taken.
STEPS_S = (2, 5, 10, 15, 20, 30, 60, 90, 120, 180, 300, 600, 900)


@dataclass(frozen=True)
class ChildOptions:
    """How a child is run."""

    scratch: Path
    """An existing folder of this job alone; what is made goes there."""
    limits: Limits
    on_progress: Callable[[float], None] | None = None
    cancelled: Callable[[], bool] | None = None


@dataclass(frozen=True)
class ContactSheets:
    """Sheets that are on disk."""

    paths: tuple[Path, ...]
    tiles: tuple[Fragment, ...]
    tile_px: tuple[int, int]
    step_s: int
    undecodable_count: int


@dataclass(frozen=True)
class Waveform:
    """A waveform that is on disk."""

    data: Path
    image: Path
    shape: dict[str, int]
    """``sample_rate``, ``samples_per_pixel`` and ``length``."""


def make_sheets(
    rendition: Path, index: FragmentIndex, *, settings: WayfindingSettings, run: ChildOptions
) -> ContactSheets:
    """Write the contact sheets of a rendition with a picture.

    Raises:
        MediaError: ``nothing_decodes`` or a limit.
    """
    step_s = step_of(index.duration, settings.most_tiles)
    tiles = choose_tiles(index, step_s)
    tile_px = fitted(index.main.width_px, index.main.height_px, settings.tile_side_px)
    made = _child(
        "sheets_entry",
        rendition,
        run,
        init_size_bytes=index.init_size_bytes,
        fragments=[(part.offset_bytes, part.size_bytes) for part in tiles],
        tile_px=tile_px,
    )
    paths = tuple(run.scratch / f"sheet-{number}.jpg" for number in range(int(made["sheet_count"])))
    return ContactSheets(paths, tiles, tile_px, step_s, int(made["undecodable_count"]))


def make_waveform(
    rendition: Path, index: FragmentIndex, *, settings: WayfindingSettings, run: ChildOptions
) -> Waveform:
    """Write the waveform of a rendition with sound.

    Raises:
        MediaError: ``no_streams`` or a limit.
    """
    made = _child(
        "waveform_entry",
        rendition,
        run,
        duration=str(index.duration),
        origin=str(index.origin),
        most_pixels=settings.most_waveform_pixels,
    )
    shape = {name: int(value) for name, value in made.items()}
    return Waveform(run.scratch / "waveform.json", run.scratch / "waveform.png", shape)


def _child(entry: str, rendition: Path, run: ChildOptions, **request: Any) -> dict[str, Any]:
    places = {"path": str(rendition.resolve()), "folder": str(run.scratch.resolve())}
    return sandbox.call(
        f"media.wayfinding:{entry}",
        {**request, **places},
        limits=run.limits,
        on_progress=run.on_progress,
        cancelled=run.cancelled,
        scratch=run.scratch,
    )


def step_of(duration: Fraction, most: int) -> int:
    """Seconds from one tile to the next, so that there are no more than ``most``."""
    fewest = duration / most
    return next((step for step in STEPS_S if step >= fewest), int(fewest) + 1)


def choose_tiles(index: FragmentIndex, step_s: int) -> tuple[Fragment, ...]:
    """Fragments that start with a keyframe, each at least ``step_s`` after the one before."""
    chosen: list[Fragment] = []
    for part in index.fragments:
        far_enough = not chosen or part.start_pts - chosen[-1].start_pts >= step_s * index.timescale
        if part.frame_count and part.starts_with_keyframe and far_enough:
            chosen.append(part)
    return tuple(chosen)


def fitted(width_px: int, height_px: int, side_px: int) -> tuple[int, int]:
    """A picture's size inside a square, never enlarged."""
    scale = min(Fraction(1), Fraction(side_px, max(1, width_px, height_px)))
    return max(1, round(width_px * scale)), max(1, round(height_px * scale))


def thumbnails_track(
    index: FragmentIndex, tiles: Sequence[Fragment], tile_px: tuple[int, int], sheet_names: Sequence[str]
) -> str:
    """A WebVTT track of tiles: each is shown from its picture to the next one's.

    Args:
        sheet_names: Addresses of the sheets, relative to the track's own.

    Source: W3C WebVTT, section 4; W3C Media Fragments URI 1.0, section 4.2.2 (``#xywh=``).
    """
    lines = ["WEBVTT", ""]
    ends: list[int | Fraction] = [*(part.start_pts for part in tiles[1:]), index.duration * index.timescale]
    for number, (part, end) in enumerate(zip(tiles, ends, strict=True)):
        sheet, place = divmod(number, COLUMNS * ROWS)
        x, y = tile_corner(place, tile_px)
        begin, until = _clock(part.start_pts, index.timescale), _clock(end, index.timescale)
        lines += [f"{begin} --> {until}", f"{sheet_names[sheet]}#xywh={x},{y},{tile_px[0]},{tile_px[1]}", ""]
    return "\n".join(lines)


def _clock(pts: int | Fraction, timescale: int) -> str:
    ms = int(Fraction(pts) * 1000 / timescale)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"
