"""Find out what a file is, without believing its name and without ever failing on its content.

`probe_entry` runs in a child (`media.sandbox`). Whatever the bytes are, it gives a `ProbeReport`:
footage that can be played, or one clear reason why not. Only limits and crashes end in an error, and
`media.sandbox` names those.

In order: the first bytes say what it is not (empty, photo, document, playlist, archive); MP4 boxes
are walked for what FFmpeg hides (no moov, encrypted entries, declared picture size); a demuxer from
the whitelist counts packets; a decoder tries the start and a few places more. A picture larger than
the limit is never given to a decoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.container import InputContainer
from av.stream import Stream

from evidence.kinds import MediaKind
from media import formats
from media.counting import Count, counted, ratio
from media.errors import is_out_of_memory, reason
from media.leading import lead_us
from media.photo import probe_photo
from media.report import ProbeReport, StreamReport
from media.structure import Structure
from media.tags import claims_of, plain_text, tags_of
from media.trial import decode_check, open_container

Progress = Callable[[float], None]

MAX_STREAMS = 64
TABLE_END = 1000
MICROSECONDS = "1/1000000"
TELL_EVERY = 100
"""Packets of a stream from one word of progress to the next."""


def probe_entry(request: dict[str, object], progress: Progress) -> dict[str, object]:
    """Probe one file.

    Args:
        request: ``path`` (absolute); ``name`` as received, only to point out a contradiction;
            ``depth``: ``header`` (tables and first frames), ``packets`` (default: every packet, decoding
            a sample) or ``full`` (every frame decoded).
        progress: Hears 0 to 1.

    Returns:
        A `ProbeReport` as JSON.
    """
    path, depth = Path(str(request["path"])), str(request.get("depth", "packets"))
    report = probe(path, depth=depth, progress=progress)
    name = str(request.get("name", ""))
    promised = formats.name_promises_media(name)
    if promised and report.media_kind in {MediaKind.DOCUMENT, MediaKind.UNKNOWN} and report.size_bytes:
        report = replace(report, flags=(*report.flags, reason("name_disagrees")))
    return report.to_json()


def probe(path: Path, *, depth: str = "packets", progress: Progress = lambda _: None) -> ProbeReport:
    """Probe ``path`` in this process; call it in a child only."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(formats.HEAD_BYTES)
    sniffed = formats.sniff(head)
    if sniffed.kind is MediaKind.PHOTO:
        return probe_photo(path, sniffed.container, size)
    if sniffed.kind is not None:
        why = reason(sniffed.reason_code or "not_media")
        return ProbeReport(sniffed.kind, sniffed.container, size, False, why, depth)
    structure = Structure.of(path, head, size)
    try:
        with open_container(path) as container:
            return _Probing(path, container, structure, depth, progress).report()
    except av.error.FFmpegError as error:
        if is_out_of_memory(error):
            raise MemoryError from error
        code = "moov_missing" if structure.is_mp4 and not structure.has_moov else "not_media"
        kind = structure.kind if structure.is_mp4 else MediaKind.UNKNOWN
        return ProbeReport(kind, structure.container, size, False, reason(code), depth)


class _Probing:
    """One open container on its way to a report."""

    def __init__(
        self, path: Path, container: InputContainer, structure: Structure, depth: str, progress: Progress
    ) -> None:
        self.path = path
        self.container = container
        self.structure = structure
        self.depth = depth
        self.progress = progress
        self.flags: list[str] = []
        self.size = path.stat().st_size

    def report(self) -> ProbeReport:
        streams = [self._describe(stream) for stream in list(self.container.streams)[:MAX_STREAMS]]
        if self.depth != "header":
            counts = self._count()
            streams = [counted(stream, counts.get(stream.index)) for stream in streams]
            self._judge_damage(counts)
        streams = [self._try_decoding(stream) for stream in streams]
        self.progress(1.0)
        return self._conclude(streams)

    def _describe(self, stream: Stream) -> StreamReport:
        context: Any = stream.codec_context
        rate = getattr(stream, "average_rate", None)
        entry = self.structure.entries.get(stream.id)
        hidden = _hidden_entries(stream) if self.structure.is_mp4 else 0
        declared_us = None
        base = ratio(stream.time_base)
        if stream.duration is not None and base is not None:
            declared_us = int(stream.duration * Fraction(base) * 1_000_000)
        found = StreamReport(
            index=stream.index,
            kind=stream.type or "data",
            codec=context.codec.canonical_name if context is not None else "unknown",
            profile=str(context.profile) if context is not None and context.profile else None,
            is_cover=bool(stream.disposition & stream.disposition.attached_pic),
            is_encrypted=entry is not None and entry.is_encrypted,
            time_base=base or MICROSECONDS,
            start_pts=stream.start_time,
            declared_duration_us=declared_us,
            duration_us=declared_us,
            hidden_count=hidden,
            declared_frame_count=stream.frames - hidden if stream.frames else None,
            language=plain_text(stream.language) if stream.language else None,
        )
        if found.kind == "video" and context is not None:
            return replace(
                found,
                width_px=context.width,
                height_px=context.height,
                declared_width_px=entry.width_px if entry else 0,
                declared_height_px=entry.height_px if entry else 0,
                sample_aspect=ratio(context.sample_aspect_ratio) or "1/1",
                pix_fmt=context.pix_fmt,
                avg_frame_rate=ratio(rate),
                is_reordered=context.has_b_frames,
            )
        if found.kind == "audio" and context is not None:
            return replace(found, sample_rate_hz=context.sample_rate or 0, channels=context.channels or 0)
        return found

    def _count(self) -> dict[int, Count]:
        counts: dict[int, Count] = {}
        try:
            for packet in self.container.demux():
                if packet.size == 0 and packet.pts is None:
                    continue
                count = counts.get(packet.stream_index)
                if count is None:
                    base = Fraction(ratio(packet.time_base) or MICROSECONDS)
                    count = counts[packet.stream_index] = Count(base)
                count.add(packet)
                if not count.packets % TELL_EVERY and packet.pos and self.size:
                    self.progress(0.8 * packet.pos / self.size)
        except av.error.FFmpegError as error:
            if is_out_of_memory(error):
                raise MemoryError from error
            # What was readable up to here is worth as much as before.
            self.flags.append("truncated")
        return counts

    def _judge_damage(self, counts: dict[int, Count]) -> None:
        if self.structure.is_cut or any(count.last_is_corrupt for count in counts.values()):
            self.flags.append("truncated")
        if any(count.corrupt > count.last_is_corrupt for count in counts.values()):
            self.flags.append("corrupt")
        if any(count.jumps for count in counts.values()):
            self.flags.append("timestamps_jump")

    def _try_decoding(self, stream: StreamReport) -> StreamReport:
        if stream.kind not in {"video", "audio"} or stream.is_encrypted or stream.packet_count == 0:
            return stream
        declared = formats.is_huge(stream.declared_width_px, stream.declared_height_px)
        if formats.is_huge(stream.width_px, stream.height_px):
            return stream
        checked = decode_check(self.path, stream, self.depth, self.progress)
        lies = (stream.declared_width_px, stream.declared_height_px) != (checked.width_px, checked.height_px)
        if stream.kind == "video" and stream.declared_width_px and checked.can_decode and (declared or lies):
            self.flags.append("header_lies")
        if checked.decode_errors and checked.can_decode:
            self.flags.append("corrupt")
        return checked

    def _conclude(self, streams: list[StreamReport]) -> ProbeReport:
        tags = tags_of(self.container)
        playable = [stream for stream in streams if stream.can_decode and not stream.is_cover]
        kind = _kind(playable or [stream for stream in streams if not stream.is_cover])
        sounds = [stream for stream in playable if stream.kind == "audio"]
        if len(sounds) > 1:
            self.flags.append("more_sound")
        report = ProbeReport(
            media_kind=kind,
            container=self.container.format.name,
            size_bytes=self.size,
            decodable=bool(playable),
            reason=None if playable else reason(_why_not(streams)),
            depth=self.depth,
            streams=tuple(streams),
            tags=tags,
            claims=tuple(claims_of(tags)),
            flags=tuple(reason(code) for code in dict.fromkeys(self.flags)),
        )
        main = report.main
        report = replace(report, duration_us=main.duration_us if main else None)
        return report.led_by(lead_us(self.path, report))


def _hidden_entries(stream: Stream) -> int:
    """How many samples edit lists hide: FFmpeg marks them in the tables, so no packet has to be read.

    Edits trim the start or the end; a long table is only walked whole when one of them is trimmed.
    """
    entries = stream.index_entries
    count = len(entries)
    if count > 2 * TABLE_END:
        ends = [*range(TABLE_END), *range(count - TABLE_END, count)]
        if not any(entries[number].is_discard for number in ends):
            return 0
    return sum(entry.is_discard for entry in entries)


def _why_not(streams: list[StreamReport]) -> str:
    wanted = [stream for stream in streams if stream.kind in {"video", "audio"} and not stream.is_cover]
    if any(stream.is_encrypted for stream in wanted):
        return "encrypted"
    if any(formats.is_huge(stream.width_px, stream.height_px) for stream in wanted):
        return "huge_dimensions"
    if not wanted:
        return "no_streams"
    return "unknown_codec" if all(stream.codec == "unknown" for stream in wanted) else "nothing_decodes"


def _kind(streams: list[StreamReport]) -> MediaKind:
    kinds = {stream.kind for stream in streams}
    if "video" in kinds:
        return MediaKind.VIDEO
    return MediaKind.AUDIO if "audio" in kinds else MediaKind.UNKNOWN
