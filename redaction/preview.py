"""A look at what a plan version hides, made while somebody waits: one picture, or a few seconds of it.

The child is given only the fragments around the moment, so that a look into a recording of hours costs what
one into a minute does. Pixels are painted by what paints the rendition (`redaction.render`). Nothing is
checked afterwards and nothing is kept: a preview is for whoever may see the original anyway, and is never
what is served.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evidence.errors import InvalidInput
from media.decode import DecodedFrame, open_video, picture_times
from media.encode import Canvas, FragmentedMp4Writer, PictureCoding, write_canvas_photo
from redaction.plan import Masks
from redaction.render import Progress, paint, plan_of, require_fit

FASTEST = PictureCoding(crf=26, preset="ultrafast", threads=2)


def preview_entry(request: dict[str, Any], progress: Progress) -> dict[str, object]:
    """Draw a plan over a piece of the rendition it was made for.

    Args:
        request: ``source`` (some fragments of the rendition behind its head), ``plan``, ``destination``,
            ``from_pts``, ``to_pts``, ``form``: ``picture`` for the frame shown at ``from_pts`` as a JPEG,
            ``video`` for all frames from ``from_pts`` to ``to_pts`` without sound.
        progress: Hears of every frame.

    Returns:
        ``first_pts``, ``last_pts``, ``frame_count``, ``masked_frame_count``.

    Raises:
        InvalidInput: Nothing is shown there (``plan_invalid``), or the plan is not one.
        Conflict: ``plan_does_not_fit``: the plan was made for another picture.
        MediaError: The source cannot be read.
    """
    plan = plan_of(request)
    destination = Path(request["destination"])
    with open_video(Path(request["source"]), threads=2) as video:
        require_fit(plan, video.shape)
        span = request["from_pts"], request["to_pts"]
        frames = _wanted(iter(video), *span, only_one=request["form"] == "picture")
        masks = Masks(plan)
        drawn: list[tuple[int, bool]] = []
        if request["form"] == "picture":
            for frame in frames:
                write_canvas_photo(destination, _drawn(frame, masks, drawn))
        else:
            with FragmentedMp4Writer(destination, video=video.shape, coding=FASTEST) as writer:
                for frame in frames:
                    canvas = _drawn(frame, masks, drawn)
                    writer.write_picture(canvas, pts=frame.pts, duration=frame.duration, key=not drawn[1:])
                    progress(0.5)
                require_shown(drawn)
    require_shown(drawn)
    progress(1.0)
    return {
        "first_pts": drawn[0][0],
        "last_pts": drawn[-1][0],
        "frame_count": len(drawn),
        "masked_frame_count": sum(is_masked for _, is_masked in drawn),
    }


def times_entry(request: dict[str, Any], progress: Progress) -> dict[str, object]:
    """Write when each frame of ``source`` is shown, as a JSON list of ``pts``, to ``destination``."""
    times = [pts for pts, _ in picture_times(Path(request["source"]))]
    Path(request["destination"]).write_text(json.dumps(times), encoding="ascii")
    progress(1.0)
    return {"frame_count": len(times)}


def _wanted(
    frames: Iterator[DecodedFrame], from_pts: int, to_pts: int, *, only_one: bool
) -> Iterator[DecodedFrame]:
    """The frame shown at ``from_pts``; unless it alone is wanted, all that follow up to ``to_pts`` too."""
    before: DecodedFrame | None = None
    for frame in frames:
        if before is not None and frame.pts > from_pts:
            # The one before is shown when the span begins, or inside it.
            yield before
            if only_one:
                return
        if frame.pts > to_pts:
            return
        before = frame
    if before is not None:
        yield before


def _drawn(frame: DecodedFrame, masks: Masks, drawn: list[tuple[int, bool]]) -> Canvas:
    """The frame as the rendition will show it, and a note of it."""
    canvas = Canvas(frame.width_px, frame.height_px)
    if frame.lost or (frame.corrupt and not masks.is_shown_by_decision(frame.pts)):
        regions = [masks.whole_frame]
    else:
        canvas.copy(frame.planes())
        regions = masks.at(frame.pts)
    paint(canvas, regions)
    drawn.append((frame.pts, bool(regions)))
    return canvas


def require_shown(drawn: list[tuple[int, bool]]) -> None:
    """Raise `InvalidInput` (``plan_invalid``) where no frame was."""
    if not drawn:
        raise InvalidInput(
            "preview: expected a time at which a frame is shown, found none", code="plan_invalid"
        )
