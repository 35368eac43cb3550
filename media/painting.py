"""What covers a picture: one constant colour, keyed to nothing in the source."""

from __future__ import annotations

from media.encode import Canvas

# Y, U and V. Dark grey: visible on black, unlike anything the picture had to say.
FILL = (40, 128, 128)


def paint_rectangle(canvas: Canvas, x0: int, y0: int, x1: int, y1: int) -> None:
    """Overwrite a rectangle with the fill in all three planes.

    Args:
        canvas: Ours.
        x0: Left, even, inside; in 4:2:0 an odd edge would leave the colour of what it hides along it.
        y0: Top, likewise.
        x1: Right, even, the first column outside.
        y1: Bottom, likewise.
    """
    canvas.y[y0:y1, x0:x1] = FILL[0]
    canvas.u[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2] = FILL[1]
    canvas.v[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2] = FILL[2]
