"""The entry points that make what helps to find one's way in a rendition; in a child only."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from media.contact import write_sheets
from media.waveform import write_waveform

Progress = Callable[[float], None]


def sheets_entry(request: dict[str, Any], progress: Progress) -> dict[str, object]:
    """Write the contact sheets of a rendition.

    Args:
        request: ``path``; ``folder``, where ``sheet-0.jpg`` and on go; ``init_size_bytes``, ``fragments`` and
            ``tile_px`` as `write_sheets` takes them.
        progress: Hears 0 to 1.

    Returns:
        ``sheet_count`` and ``undecodable_count``.
    """
    width, height = request["tile_px"]
    made = write_sheets(
        Path(request["path"]),
        request["init_size_bytes"],
        request["fragments"],
        Path(request["folder"]),
        tile_px=(width, height),
        progress=progress,
    )
    return made._asdict()


def waveform_entry(request: dict[str, Any], progress: Progress) -> dict[str, object]:
    """Write the waveform of a rendition.

    Args:
        request: ``path``; ``folder``, where ``waveform.json`` and ``.png`` go; ``duration`` and ``origin`` in
            seconds, ``most_pixels``.
        progress: Hears 0 to 1.

    Returns:
        Its shape, as `write_waveform` gives it.
    """
    folder = Path(request["folder"])
    shape = write_waveform(
        Path(request["path"]),
        folder / "waveform.json",
        folder / "waveform.png",
        duration=Fraction(request["duration"]),
        origin=Fraction(request["origin"]),
        most_pixels=request["most_pixels"],
        progress=progress,
    )
    return dict(shape)
