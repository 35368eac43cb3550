"""Try to decode: the start of a stream, a few places, or all of it.

Says whether anything comes out, what the pictures really are, and how many errors there were. A
picture larger than the limit never gets here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from media import formats
from media.errors import is_out_of_memory
from media.report import StreamReport

Progress = Callable[[float], None]

START_FRAMES = 50
HEADER_FRAMES = 5
SAMPLED_PLACES = 8
# Up to this much picture is decoded whole: some seconds of one core.
CHEAP_DECODE_PX = 1_500_000_000


def open_container(path: Path) -> InputContainer:
    options = formats.whitelist_options()
    return av.open(f"file:{path}", options=options, metadata_errors="surrogateescape", timeout=None)


def decode_check(path: Path, stream: StreamReport, depth: str, progress: Progress) -> StreamReport:
    """Decode the start, a sample or all of one stream, counting frames and errors."""
    area = max(1, stream.width_px * stream.height_px)
    is_cheap = stream.kind == "video" and (stream.packet_count or CHEAP_DECODE_PX) * area <= CHEAP_DECODE_PX
    everything = depth == "full" or (depth == "packets" and is_cheap)
    tally = _Tally()
    with open_container(path) as container:
        chosen = container.streams[stream.index]
        context: Any = chosen.codec_context
        context.thread_type = "AUTO"
        if everything:
            total = max(1, stream.packet_count or 1)
            for number, packet in enumerate(container.demux(chosen)):
                tally.decode(packet)
                progress(0.8 + 0.2 * min(1.0, number / total))
        else:
            _decode_start(container, chosen, tally, HEADER_FRAMES if depth == "header" else START_FRAMES)
            if depth != "header" and stream.kind == "video" and tally.frames:
                _decode_places(container, chosen, stream, tally, progress)
    coverage = "full" if everything else "start" if depth == "header" or stream.kind == "audio" else "sample"
    found = replace(
        stream,
        can_decode=tally.frames > 0,
        decoded_frames=tally.frames,
        decode_errors=tally.errors,
        decode_coverage=coverage,
    )
    if tally.first is None or stream.kind != "video":
        return found
    first = tally.first
    return replace(
        found,
        width_px=first.width,
        height_px=first.height,
        pix_fmt=first.format.name,
        rotation_deg=int(first.rotation) % 360,
        is_interlaced=bool(first.interlaced_frame),
    )


@dataclass
class _Tally:
    frames: int = 0
    errors: int = 0
    first: Any = None

    def decode(self, packet: Packet[Any]) -> None:
        try:
            for frame in packet.decode():
                self.frames += 1
                self.errors += bool(getattr(frame, "is_corrupt", False))
                self.first = self.first or frame
        except av.error.FFmpegError as error:
            if is_out_of_memory(error):
                raise MemoryError from error
            if not isinstance(error, EOFError):
                self.errors += 1


def _decode_start(container: InputContainer, chosen: Stream, tally: _Tally, wanted: int) -> None:
    for number, packet in enumerate(container.demux(chosen)):
        tally.decode(packet)
        if tally.frames >= wanted or number > START_FRAMES * 4:
            return


def _decode_places(
    container: InputContainer, chosen: Stream, stream: StreamReport, tally: _Tally, progress: Progress
) -> None:
    """One keyframe at several places; a place that cannot be reached says nothing about the bytes."""
    if stream.start_pts is None or stream.end_pts is None:
        return
    context: Any = chosen.codec_context
    context.skip_frame = "NONKEY"
    for place in range(1, SAMPLED_PLACES + 1):
        target = stream.start_pts + (stream.end_pts - stream.start_pts) * place // (SAMPLED_PLACES + 1)
        try:
            container.seek(target, stream=chosen)
        except av.error.FFmpegError:
            return
        before = tally.frames
        for number, packet in enumerate(container.demux(chosen)):
            if packet.is_keyframe or number == 0:
                tally.decode(packet)
            if tally.frames > before or number > START_FRAMES:
                break
        progress(0.8 + 0.2 * place / SAMPLED_PLACES)
