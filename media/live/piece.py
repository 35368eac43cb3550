"""One piece of a live view: H.264 and AAC in an MP4 whose fragments are whole as soon as they are written.

What browsers play is copied from the source, packet by packet; the rest is encoded. The piece's clock begins
`LEAD_US` before its first picture, so that what a coder puts in front of sound has a time of its own.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import PictureType, VideoFrame

from media.live.container import FRAGMENTS, MUX_PATIENCE_US

LEAD_US = 1_000_000
KEY_EVERY_US = 1_000_000
PICTURE_TICKS = 90_000
SOUND_HZ = 48_000
SOUND_BITS_PER_CHANNEL = 64_000
MOST_THREADS = 4
MOST_KBPS = {720: 2500, 480: 1200, 360: 700}
"""Lines of a picture, and the most its encoding may take."""


class Piece:
    """A file that grows.

    Args:
        path: Not there yet.
        begin_us: Of the source's clock: what is earlier is none of it.
        picture: The source's stream, if it has one.
        sound: Likewise.
        size: Width and height to encode the picture with; None copies it.
        is_sound_copied: Its packets are taken as they are.
    """

    def __init__(
        self,
        path: Path,
        begin_us: int,
        picture: Stream | None,
        sound: Stream | None,
        *,
        size: tuple[int, int] | None,
        is_sound_copied: bool,
    ) -> None:
        self.begin_us, self.end_us = begin_us, begin_us
        self.size = size
        self._out: OutputContainer = av.open(
            str(path),
            "w",
            format="mp4",
            options={
                **FRAGMENTS,
                "avoid_negative_ts": "disabled",
                "max_interleave_delta": str(MUX_PATIENCE_US),
                "flush_packets": "1",
            },
        )
        self._picture: Any = None
        self._sound: Any = None
        self._last: dict[int, int] = {}
        self._key_us: int | None = None
        self._copied: dict[int, Any] = {}
        if picture is not None:
            self._picture = self._encoded_picture(picture, size) if size else self._copy_of(picture)
        if sound is not None:
            self._sound = self._copy_of(sound) if is_sound_copied else self._encoded_sound(sound)
        self._out.start_encoding()

    def _copy_of(self, stream: Stream) -> Any:
        made = self._out.add_stream_from_template(stream)
        self._copied[stream.index] = made
        return made

    def _encoded_picture(self, source: Any, size: tuple[int, int]) -> Any:
        made: Any = self._out.add_stream("libx264", rate=25)
        made.width, made.height = size
        made.pix_fmt = "yuv420p"
        made.codec_context.time_base = Fraction(1, PICTURE_TICKS)
        made.codec_context.thread_count = min(MOST_THREADS, os.cpu_count() or 1)
        if source.sample_aspect_ratio:
            made.codec_context.sample_aspect_ratio = source.sample_aspect_ratio
        most = next((most for lines, most in MOST_KBPS.items() if size[1] >= lines), min(MOST_KBPS.values()))
        made.codec_context.options = {
            "preset": "veryfast",
            "tune": "zerolatency",
            "crf": "24",
            "maxrate": f"{most}k",
            "bufsize": f"{most}k",
            "bf": "0",
            "forced-idr": "1",
            "sc_threshold": "0",
            "g": str(1 << 20),
            "a53cc": "0",
        }
        return made

    def _encoded_sound(self, source: Any) -> Any:
        layout = "stereo" if (source.codec_context.channels or 1) > 1 else "mono"
        made: Any = self._out.add_stream("aac", rate=SOUND_HZ, layout=layout)
        made.codec_context.bit_rate = SOUND_BITS_PER_CHANNEL * made.codec_context.layout.nb_channels
        return made

    def show(self, frame: VideoFrame, at_us: int) -> None:
        """Encode a picture of the source's moment ``at_us``; one that comes out of its order is left out."""
        pts = (at_us - self.begin_us + LEAD_US) * PICTURE_TICKS // 1_000_000
        if pts <= self._last.get(-1, -1) or self.size is None:
            return
        self._last[-1] = pts
        shown = frame.reformat(*self.size, format="yuv420p")
        shown.pts, shown.time_base = pts, Fraction(1, PICTURE_TICKS)
        is_key = self._key_us is None or at_us - self._key_us >= KEY_EVERY_US
        if is_key:
            self._key_us = at_us
        shown.pict_type = PictureType.I if is_key else PictureType.NONE
        self._mux(self._picture.encode(shown))
        self.end_us = max(self.end_us, at_us)

    def hear(self, frame: AudioFrame, at_us: int) -> None:
        """Encode sound of the source's moment ``at_us``."""
        rate = frame.sample_rate
        pts = (at_us - self.begin_us + LEAD_US) * rate // 1_000_000
        if pts < 0 or at_us < self.begin_us:
            return
        frame.pts, frame.time_base = pts, Fraction(1, rate)
        self._mux(self._sound.encode(frame))
        self._heard(at_us)

    def copy(self, packet: Packet[Any], base: Fraction, at_us: int) -> None:
        """Take a packet over."""
        by = round(Fraction(self.begin_us - LEAD_US, 1_000_000) / base)
        made = self._copied[packet.stream.index]
        is_picture = made is self._picture
        dts = int(packet.dts or 0) - by
        pts = packet.pts - by if packet.pts is not None else dts
        packet.dts, packet.pts, packet.time_base, packet.stream = dts, pts, base, made
        self._mux([packet])
        if is_picture:
            self.end_us = max(self.end_us, at_us)
        else:
            self._heard(at_us)

    def _heard(self, at_us: int) -> None:
        if self._picture is None:
            self.end_us = max(self.end_us, at_us)

    def _mux(self, packets: list[Packet[Any]]) -> None:
        for packet in packets:
            index = packet.stream.index
            dts = packet.dts if packet.dts is not None else packet.pts
            # A muxer refuses what does not go forward, and the file would end there.
            if dts is None or dts <= self._last.get(index, -1):
                continue
            self._last[index] = dts
            self._out.mux_one(packet)

    def close(self) -> None:
        """Have what the coders hold written, and end the file."""
        for made in (self._picture, self._sound):
            if made is not None and made not in self._copied.values():
                self._mux(made.encode(None))
        self._out.close()
