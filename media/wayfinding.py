"""The entry point that makes what helps to find one's way in a rendition; in a child only."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from media.contact import write_sheets
from media.waveform import write_waveform

Progress = Callable[[float], None]
SHEETS_SHARE = 0.5


def wayfinding_entry(request: dict[str, Any], progress: Progress) -> dict[str, object]:
    """Write contact sheets and waveform of a rendition.

    Args:
        request: ``path``; ``folder``, where ``sheet-0.jpg`` and on, ``waveform.json`` and ``.png`` go;
            ``init_size_bytes``, ``fragments`` and ``tile_px`` as `write_sheets` takes them, no fragments for
            no sheets; ``has_sound``; ``duration`` and ``origin`` in seconds, ``most_pixels``.
        progress: Hears 0 to 1.

    Returns:
        ``sheet_count``, ``undecodable_count`` and ``waveform``: its shape, None without sound.
    """
    path, folder = Path(request["path"]), Path(request["folder"])
    sheet_count = undecodable = 0
    if request["fragments"]:
        width, height = request["tile_px"]
        sheet_count, undecodable = write_sheets(
            path,
            request["init_size_bytes"],
            request["fragments"],
            folder,
            tile_px=(width, height),
            progress=lambda fraction: progress(SHEETS_SHARE * fraction),
        )
    waveform = None
    if request["has_sound"]:
        waveform = write_waveform(
            path,
            folder / "waveform.json",
            folder / "waveform.png",
            duration=Fraction(request["duration"]),
            origin=Fraction(request["origin"]),
            most_pixels=request["most_pixels"],
            progress=lambda fraction: progress(SHEETS_SHARE + (1 - SHEETS_SHARE) * fraction),
        )
    progress(1.0)
    return {"sheet_count": sheet_count, "undecodable_count": undecodable, "waveform": waveform}
