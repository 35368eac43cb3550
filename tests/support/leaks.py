"""The judge of what was answered: does it hold a byte, or a pixel, of anything that is not masked."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redaction.geometry import Box
from redaction.render import FILL_RGB

WINDOW_BYTES, STEP_BYTES, KEY_BYTES = 64, 16, 8
DISTINCT_LEAST = 24
"""Different bytes in a window that is worth looking for: a stretch of zeros lies in any file."""
LEVELS_MOST = 12
PLAIN = ("text/", "application/json", "application/problem+json", "application/vnd.apple.mpegurl",
         "image/svg+xml", "application/vnd.openxmlformats")  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What somebody got."""

    where: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    is_media: bool = False
    """Of the media listener: whatever it gives is a file, or part of one."""
    route: str = ""
    """Method and path as declared."""

    @property
    def is_footage(self) -> bool:
        kind = self.headers.get("content-type", "")
        return self.status < 300 and bool(self.body) and (self.is_media or not kind.startswith(PLAIN))


@dataclass
class Judge:
    """Knows everything that is hidden and everything that may be shown.

    Args:
        secrets: Contents nobody without the right may have a stretch of.
        texts: Words, names and digests that nobody without the right may meet.
        shown: Contents that may be shown, whole and in part.
    """

    secrets: Iterable[bytes]
    texts: Mapping[str, bytes]
    shown: list[bytes]
    _windows: dict[int, bytes] = field(init=False)
    _keys: NDArray[np.uint64] = field(init=False)

    def __post_init__(self) -> None:
        windows = {
            int.from_bytes(piece[:KEY_BYTES], "little"): piece
            for content in self.secrets
            for at in range(0, len(content) - WINDOW_BYTES, STEP_BYTES)
            if len(set(piece := content[at : at + WINDOW_BYTES])) >= DISTINCT_LEAST
        }
        keys = np.array(sorted(windows), dtype=np.uint64)
        self._keys = keys[~np.isin(keys, np.concatenate([_words(content) for content in self.shown]))]
        self._windows = windows

    def leaks(self, answer: Answer) -> list[str]:
        """What an answer says that it must not, in words; empty where nothing."""
        said = answer.body + "\n".join(f"{key}: {value}" for key, value in answer.headers.items()).encode()
        found = [f"{answer.where}: {name}" for name, text in self.texts.items() if text in said]
        if self._has_window(answer.body):
            found.append(f"{answer.where}: a stretch of what is not masked")
        if answer.is_footage and not any(answer.body in content for content in self.shown):
            found.append(f"{answer.where}: {len(answer.body)} bytes of no masked file")
        return found

    def _has_window(self, body: bytes) -> bool:
        words = _words(body)
        at = np.searchsorted(self._keys, words)
        hits = np.flatnonzero(self._keys[np.minimum(at, len(self._keys) - 1)] == words)
        return any(body[hit : hit + WINDOW_BYTES] == self._windows[int(words[hit])] for hit in hits)


def _words(content: bytes) -> NDArray[np.uint64]:
    """Every eight bytes, from each place on."""
    if len(content) < KEY_BYTES:
        return np.zeros(0, dtype=np.uint64)
    rows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(content, np.uint8), KEY_BYTES)
    return np.ascontiguousarray(rows).view(np.uint64)[:, 0]


def uncovered(
    content: bytes, content_type: str, boxes: Sequence[Box], *, first: int = 0, share: int = 1
) -> list[int]:
    """Which pictures of a file are not the fill where their mask lies.

    Args:
        boxes: Where that is in each picture of the rendition, in pixels.
        first: Which of them the file begins with.
        share: By how much its pictures are smaller.
    """
    found = []
    for number, (picture, box) in enumerate(
        zip(_pictures(content, content_type), boxes[first:], strict=False)
    ):
        rows = slice(box.y0 // share + 4, box.y1 // share - 4)
        columns = slice(box.x0 // share + 4, box.x1 // share - 4)
        inner = picture[rows, columns].astype(int)
        if np.median(np.abs(inner - FILL_RGB)) > LEVELS_MOST:
            found.append(number)
    return found


def _pictures(content: bytes, content_type: str) -> Iterator[NDArray[np.uint8]]:
    if content_type.startswith("image/"):
        with Image.open(io.BytesIO(content)) as image:
            yield np.asarray(image.convert("L"))
    else:
        with av.open(io.BytesIO(content)) as container:
            for frame in container.decode(video=0):
                yield np.asarray(frame.to_image().convert("L"))
