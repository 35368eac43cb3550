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

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from evidence.errors import MediaError
from evidence.kinds import MediaKind
from media import boxes, formats
from media.errors import is_out_of_memory, reason
from media.photo import probe_photo
from media.report import ProbeReport, StreamReport

Progress = Callable[[float], None]

JUMP_S = 10
START_FRAMES = 50
SAMPLED_PLACES = 8
# Up to this much picture is decoded whole: some seconds of one core.
CHEAP_DECODE_PX = 1_500_000_000
NEEDED_BOXES = {"moov", "moof", "mdat"}
MAX_STREAMS = 64
MAX_TAGS = 64
MAX_TAG_CHARACTERS = 300
CLAIM_TAGS = {
    "creation_time": ("recorded_at", "device"),
    "com.apple.quicktime.creationdate": ("recorded_at", "device"),
    "date": ("recorded_at", "device"),
    "timecode": ("timecode", "device"),
    "make": ("device_make", ""),
    "com.apple.quicktime.make": ("device_make", ""),
    "com.android.manufacturer": ("device_make", ""),
    "model": ("device_model", ""),
    "com.apple.quicktime.model": ("device_model", ""),
    "com.android.model": ("device_model", ""),
    "location": ("location", ""),
    "com.apple.quicktime.location.iso6709": ("location", ""),
}


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
    structure = _Structure.of(path, head, size)
    try:
        with _open(path) as container:
            return _Probing(path, container, structure, depth, progress).report()
    except av.error.FFmpegError as error:
        if is_out_of_memory(error):
            raise MemoryError from error
        code = "moov_missing" if structure.is_mp4 and not structure.has_moov else "not_media"
        kind = structure.kind if structure.is_mp4 else MediaKind.UNKNOWN
        return ProbeReport(kind, structure.container, size, False, reason(code), depth)


def _open(path: Path) -> InputContainer:
    options = formats.whitelist_options()
    return av.open(f"file:{path}", options=options, metadata_errors="surrogateescape", timeout=None)


@dataclass
class _Structure:
    """What the boxes of an MP4 say by themselves."""

    is_mp4: bool = False
    has_moov: bool = False
    is_cut: bool = False
    container: str = ""
    kind: MediaKind = MediaKind.VIDEO
    entries: dict[int, boxes.SampleEntry] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, head: bytes, size: int) -> _Structure:
        structure = cls(is_mp4=head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"})
        if structure.is_mp4:
            structure.container = "mp4"
            structure.kind = MediaKind.AUDIO if head[8:11] == b"M4A" else MediaKind.VIDEO
            # Bytes behind the last box that are no box are common, and harm nothing.
            with suppress(MediaError):
                structure._walk(path, size)
        elif head[:4] == b"RIFF":
            structure.is_cut = int.from_bytes(head[4:8], "little") + 8 > size + 1
        elif head[:1] == b"\x47" and head[188:189] == b"\x47":
            structure.is_cut = size % 188 != 0
        return structure

    def _walk(self, path: Path, size: int) -> None:
        with path.open("rb") as file:
            for box in boxes.top_level(file, size):
                self.is_cut = self.is_cut or (box.kind in NEEDED_BOXES and not box.is_whole)
                if box.kind == "moov" and box.is_whole:
                    self.has_moov = True
                    entries = boxes.sample_entries(boxes.held(file, box))
                    self.entries = {entry.track_id: entry for entry in reversed(entries)}


@dataclass
class _Count:
    """What walking the packets of one stream adds up to."""

    time_base: Fraction
    packets: int = 0
    keyframes: int = 0
    first_is_key: bool = True
    missing_pts: int = 0
    jumps: int = 0
    corrupt: int = 0
    last_is_corrupt: bool = False
    start: int | None = None
    end: int | None = None
    elapsed: int = 0
    last_dts: int | None = None
    last_duration: int = 0

    def add(self, packet: Packet[Any]) -> None:
        self.last_is_corrupt = packet.is_corrupt
        self.corrupt += packet.is_corrupt
        if packet.is_discard:
            return
        if not self.packets:
            self.first_is_key = packet.is_keyframe
        self.packets += 1
        self.keyframes += packet.is_keyframe
        duration = packet.duration or 0
        if packet.pts is None:
            self.missing_pts += 1
        else:
            self.start = packet.pts if self.start is None else min(self.start, packet.pts)
            self.end = max(self.end or packet.pts, packet.pts + duration)
        if packet.dts is not None:
            self._advance(packet.dts, duration)

    def _advance(self, dts: int, duration: int) -> None:
        if self.last_dts is not None:
            step = dts - self.last_dts
            if step < 0 or step * self.time_base > JUMP_S + self.last_duration * self.time_base:
                self.jumps += 1
                step = self.last_duration
            self.elapsed += step
        self.last_dts, self.last_duration = dts, duration

    def duration(self) -> Fraction | None:
        """Seconds shown: from first to last instant, jumps of the clock left out."""
        if self.start is None or self.end is None:
            return None
        ticks = self.elapsed + self.last_duration if self.jumps else self.end - self.start
        return ticks * self.time_base


class _Probing:
    """One open container on its way to a report."""

    def __init__(
        self, path: Path, container: InputContainer, structure: _Structure, depth: str, progress: Progress
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
            streams = [_counted(stream, counts.get(stream.index)) for stream in streams]
            self._judge_damage(counts)
        streams = [self._try_decoding(stream) for stream in streams]
        self.progress(1.0)
        return self._conclude(streams)

    def _describe(self, stream: Stream) -> StreamReport:
        context: Any = stream.codec_context
        rate = getattr(stream, "average_rate", None)
        entry = self.structure.entries.get(stream.id)
        declared_us = None
        if stream.duration is not None and stream.time_base is not None:
            declared_us = int(stream.duration * stream.time_base * 1_000_000)
        found = StreamReport(
            index=stream.index,
            kind=stream.type or "data",
            codec=context.codec.canonical_name if context is not None else "unknown",
            profile=str(context.profile) if context is not None and context.profile else None,
            is_cover=bool(stream.disposition & stream.disposition.attached_pic),
            is_encrypted=entry is not None and entry.is_encrypted,
            time_base=_ratio(stream.time_base) or "1/1000000",
            start_pts=stream.start_time,
            declared_duration_us=declared_us,
            duration_us=declared_us,
            declared_frame_count=stream.frames or None,
            language=_text(stream.language) if stream.language else None,
        )
        if found.kind == "video" and context is not None:
            return replace(
                found,
                width_px=context.width,
                height_px=context.height,
                declared_width_px=entry.width_px if entry else 0,
                declared_height_px=entry.height_px if entry else 0,
                sample_aspect=_ratio(context.sample_aspect_ratio) or "1/1",
                pix_fmt=context.pix_fmt,
                avg_frame_rate=_ratio(rate),
            )
        if found.kind == "audio" and context is not None:
            return replace(found, sample_rate_hz=context.sample_rate or 0, channels=context.channels or 0)
        return found

    def _count(self) -> dict[int, _Count]:
        counts: dict[int, _Count] = {}
        try:
            for packet in self.container.demux():
                if packet.size == 0 and packet.pts is None:
                    continue
                base = packet.time_base or Fraction(1, 1_000_000)
                counts.setdefault(packet.stream_index, _Count(Fraction(base))).add(packet)
                if packet.pos and self.size:
                    self.progress(0.8 * packet.pos / self.size)
        except av.error.FFmpegError as error:
            if is_out_of_memory(error):
                raise MemoryError from error
            # What was readable up to here is worth as much as before.
            self.flags.append("truncated")
        return counts

    def _judge_damage(self, counts: dict[int, _Count]) -> None:
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
        checked = _decode_check(self.path, stream, self.depth, self.progress)
        lies = (stream.declared_width_px, stream.declared_height_px) != (checked.width_px, checked.height_px)
        if stream.kind == "video" and stream.declared_width_px and checked.can_decode and (declared or lies):
            self.flags.append("header_lies")
        if checked.decode_errors and checked.can_decode:
            self.flags.append("corrupt")
        return checked

    def _conclude(self, streams: list[StreamReport]) -> ProbeReport:
        tags = _tags(self.container)
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
            claims=tuple(_claims(tags)),
            flags=tuple(reason(code) for code in dict.fromkeys(self.flags)),
        )
        main = report.main
        return replace(report, duration_us=main.duration_us if main else None)


def _counted(stream: StreamReport, count: _Count | None) -> StreamReport:
    if count is None:
        return replace(stream, packet_count=0, keyframe_count=0)
    seconds = count.duration()
    if seconds is None and stream.kind == "video":
        # A bare elementary stream has no clock: its frame rate is all there is.
        seconds = count.packets * stream.frame_duration
    elif seconds is not None and count.packets and not count.last_duration:
        seconds += stream.frame_duration
    rate = stream.avg_frame_rate
    if stream.kind == "video" and seconds:
        rate = _ratio((count.packets / seconds).limit_denominator(1001))
    return replace(
        stream,
        time_base=_ratio(count.time_base) or stream.time_base,
        start_pts=count.start,
        end_pts=count.end,
        packet_count=count.packets,
        keyframe_count=count.keyframes,
        starts_with_keyframe=count.first_is_key,
        corrupt_count=count.corrupt,
        missing_pts_count=count.missing_pts,
        jump_count=count.jumps,
        duration_us=int(seconds * 1_000_000) if seconds is not None else stream.declared_duration_us,
        avg_frame_rate=rate,
    )


def _decode_check(path: Path, stream: StreamReport, depth: str, progress: Progress) -> StreamReport:
    """Decode the start, a sample or all of one stream, counting frames and errors."""
    area = max(1, stream.width_px * stream.height_px)
    is_cheap = stream.kind == "video" and (stream.packet_count or CHEAP_DECODE_PX) * area <= CHEAP_DECODE_PX
    everything = depth == "full" or (depth == "packets" and is_cheap)
    tally = _Tally()
    with _open(path) as container:
        chosen = container.streams[stream.index]
        context: Any = chosen.codec_context
        context.thread_type = "AUTO"
        if everything:
            total = max(1, stream.packet_count or 1)
            for number, packet in enumerate(container.demux(chosen)):
                tally.decode(packet)
                progress(0.8 + 0.2 * min(1.0, number / total))
        else:
            _decode_start(container, chosen, tally)
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


def _decode_start(container: InputContainer, chosen: Stream, tally: _Tally) -> None:
    for number, packet in enumerate(container.demux(chosen)):
        tally.decode(packet)
        if tally.frames >= START_FRAMES or number > START_FRAMES * 4:
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


def _ratio(value: Fraction | Any | None) -> str | None:
    if value is None or not value.denominator or not value.numerator:
        return None
    return f"{value.numerator}/{value.denominator}"


def _text(value: str) -> str:
    """A tag as text: UTF-8, else GBK as older recorders write it, without control characters."""
    raw = str(value)[: MAX_TAG_CHARACTERS * 4].encode("utf-8", "surrogateescape")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("gb18030", "replace")
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", text).strip()[:MAX_TAG_CHARACTERS]


def _tags(container: InputContainer) -> dict[str, str]:
    """Container tags first, then those of each stream that say something new."""
    found: dict[str, str] = {}
    for holder in (container, *container.streams):
        for name, value in holder.metadata.items():
            if len(found) >= MAX_TAGS:
                return found
            if text := _text(value):
                found.setdefault(_text(name).lower(), text)
    return found


def _claims(tags: dict[str, str]) -> Iterator[dict[str, str]]:
    said = set()
    for name, value in tags.items():
        # Tags can carry a language: location-eng.
        field_name, clock = CLAIM_TAGS.get(name) or CLAIM_TAGS.get(name.split("-")[0], ("", ""))
        if field_name and (field_name, value) not in said:
            said.add((field_name, value))
            yield {"field": field_name, "value": value, "clock": clock}
