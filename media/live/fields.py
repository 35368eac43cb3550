"""Pictures of two fields each, joined as whole ones: a frame for a frame, as renditions have them.

A source says of each of its pictures whether it is one of two fields. From the first that is, all go through
one filter, which leaves whole ones alone; a source that has none costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.filter import Graph
from av.video.frame import VideoFrame

OPTIONS = "mode=send_frame:deint=interlaced"


class FieldJoiner:
    """The pictures of one file, in the order in which they are shown; one is held back until the next comes.

    Args:
        time_base: Of a picture that has none of its own, as the last of a decoder.
    """

    def __init__(self, time_base: Fraction | None) -> None:
        self._time_base = time_base or Fraction(1, 1_000_000)
        self._graph: Graph | None = None
        self._shape: tuple[Any, ...] = ()

    def join(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """One picture more; what can be shown by now.

        Raises:
            av.FFmpegError: It cannot be what it says.
        """
        shape = (frame.width, frame.height, frame.format.name, frame.time_base or self._time_base)
        if self._graph is not None and shape != self._shape:
            yield from self.drain()
        if self._graph is None:
            if not frame.interlaced_frame:
                yield frame
                return
            self._graph, self._shape = self._opened(frame), shape
        self._graph.push(frame)
        yield from _pulled(self._graph)

    def drain(self) -> Iterator[VideoFrame]:
        """What was held back; it can be given more after that."""
        graph, self._graph = self._graph, None
        if graph is not None:
            graph.push(None)
            yield from _pulled(graph)

    def _opened(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        source = graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base or self._time_base,
        )
        graph.link_nodes(source, graph.add("yadif", OPTIONS), graph.add("buffersink")).configure()
        return graph


def _pulled(graph: Graph) -> Iterator[VideoFrame]:
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        if isinstance(frame, VideoFrame):
            yield frame
