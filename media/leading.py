"""How much earlier sound begins than the picture does.

Players that are fed by fragments begin where there are both, or count anew once they have been sent
elsewhere: nobody would hear what was said before the first picture. So that picture stands from where the
sound begins, and media time 0 is there. It is decided once for a recording, by its first packets and never by
its tables, which name other instants in some containers; whatever is made of it goes by that.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av.error
from av.packet import Packet

from media.counting import MOST_REORDERED
from media.errors import is_out_of_memory
from media.report import ProbeReport
from media.trial import open_container

LEAST_S, MOST_S = Fraction(15, 100), 15
"""A packet of sound is no longer than the one, and no fragment of a rendition than the other."""
PACKETS, SIZE_BYTES = 1000, 64 << 20
"""So much is read at most: a stream that has not begun by then leads nobody."""


def lead_us(path: Path, report: ProbeReport) -> int:
    """Microseconds from the first sound to the first picture; 0 where the picture has to stand for nothing.

    So it is, too, where the packet that would be moved is not the picture that is shown first: where it is no
    keyframe, where its group is open, or where packets do not say their times.
    """
    video, audio = report.video, report.audio
    if video is None or audio is None:
        return 0
    pictures: list[Packet[Any]] = []
    sound: Fraction | None = None
    size_bytes = 0
    try:
        with open_container(path) as container:
            chosen = [container.streams[each.index] for each in (video, audio)]
            for number, packet in enumerate(container.demux(*chosen)):
                size_bytes += packet.size
                if number >= PACKETS or size_bytes > SIZE_BYTES:
                    break
                if not packet.size or packet.is_discard:
                    continue
                if packet.pts is None or packet.time_base is None:
                    return 0
                if packet.stream_index == video.index:
                    pictures.append(packet)
                elif sound is None:
                    sound = packet.pts * Fraction(packet.time_base)
                if sound is not None and len(pictures) > MOST_REORDERED:
                    break
    except av.error.FFmpegError as error:
        if is_out_of_memory(error):
            raise MemoryError from error
    if sound is None or not pictures or not pictures[0].is_keyframe:
        return 0
    first = min(packet.pts or 0 for packet in pictures)
    if first != pictures[0].pts:
        return 0
    lead = first * Fraction(pictures[0].time_base or 0) - sound
    return round(lead * 1_000_000) if LEAST_S < lead <= MOST_S else 0
