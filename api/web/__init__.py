"""The pages: our own HTML, style and script, nothing from elsewhere.

Read once, from a fixed list: no request names a path.
"""

from __future__ import annotations

from importlib.resources import files

from fastapi import Response

from evidence.errors import NotFound

TYPES = {
    "index.html": "text/html; charset=utf-8",
    "docs.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    **dict.fromkeys(
        (
            "page.js",
            "common.js",
            "conduct.js",
            "facts.js",
            "live.js",
            "live_mask.js",
            "masks.js",
            "redact.js",
            "review.js",
            "source.js",
            "stage.js",
            "taking.js",
            "timeline.js",
            "wall.js",
            "words.js",
        ),
        "text/javascript; charset=utf-8",
    ),
    "docs.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "placeholder.svg": "image/svg+xml",
    "sound.svg": "image/svg+xml",
}

_bodies = {name: (files(__name__) / name).read_bytes() for name in TYPES}
PLACEHOLDER = _bodies["placeholder.svg"]
SOUND = _bodies["sound.svg"]


def answer(name: str) -> Response:
    """One of the files.

    Raises:
        NotFound: There is no such file.
    """
    if name not in _bodies:
        raise NotFound("address: expected a file of the page, found another", code="not_found")
    return Response(_bodies[name], headers={"Content-Type": TYPES[name], "Cache-Control": "no-cache"})
