"""Write the redacted rendition: every frame drawn over as the plan says, nothing else of the source kept.

The fill is one constant colour, keyed to nothing in the source. Pixels of a mask are overwritten before
the encoder sees them, so no coding, however poor, can bring them back. Frames, their times and their
durations are those of the source. Sound that a recorder coded is coded again, whatever its packets carry;
sound that we coded, without a muted span, is copied packet by packet. Of a rendition that is proven to be
ours, groups of pictures in which nothing is hidden are kept as they are coded (`redaction.keeping`).

The entries run in a child of `media.sandbox`. A rendition that fails midway is removed. Whether what was
written hides what it should is `redaction.check`'s to say, from the file alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evidence.errors import Conflict, InvalidInput, MediaError
from evidence.fixity import hash_file
from media.avc import Configuration
from media.decode import (
    AudioPacket,
    AudioReader,
    DecodedFrame,
    VideoReader,
    VideoShape,
    count_streams,
    open_video,
    read_photo,
)
from media.encode import AacEncoder, Canvas, FragmentedMp4Writer, PictureCoding, write_photo
from media.mux import SoundTrack
from media.painting import FILL, paint_rectangle
from redaction.audio import sample_ranges, unbroken
from redaction.geometry import Region, even_sided, region_cells
from redaction.keeping import Keeping, KeptPicture, decide, is_sound_ours
from redaction.plan import Masks, MutedSpan, RedactionPlan
from redaction.plan_json import plan_from_json
from redaction.voice import replaced

FILL_RGB = 28
PACKETS_A_WORD = 1000
"""Of sound alone: hours of it are coded in minutes."""

Progress = Callable[[float], None]


def render_entry(request: dict[str, Any], progress: Progress) -> dict[str, object]:
    """Render one plan version of one item.

    Args:
        request: ``source`` (an H.264/AAC fragmented MP4 of ours), ``plan`` (as JSON) or ``plan_path``,
            ``destination``, and optionally ``crf``, ``preset``, ``threads``, and ``made``: what was
            recorded of the making of the source, without which all of it, also its sound, is encoded again
            (`redaction.keeping`).
        progress: Hears the share of frames done.

    Returns:
        ``frame_count``, ``kept_frame_count``, ``why_whole``, ``masked_frame_count``,
        ``unreadable_frame_count`` of those that were decoded, ``muted_streams``, ``recoded_streams``,
        ``size_bytes``, ``sha256``, ``coverage``.

    Raises:
        Conflict: ``plan_does_not_fit``: the plan was made for another picture.
        InvalidInput: The plan is not one.
        MediaError: The source cannot be read.
    """
    plan = plan_of(request)
    given = {name: request[name] for name in ("crf", "preset", "threads") if name in request}
    source, destination = Path(request["source"]), Path(request["destination"])
    rendering = Rendering(source, plan, destination, PictureCoding(**given), made=request.get("made"))
    return rendering.run(progress)


def redact_photo_entry(request: dict[str, Any], progress: Progress) -> dict[str, object]:
    """Redact one still: ``source``, ``plan`` or ``plan_path``, ``destination``; a bare JPEG comes out."""
    plan = plan_of(request)
    destination = Path(request["destination"])
    rgb = read_photo(Path(request["source"]))
    expected = None if plan.picture is None else (plan.picture.width_px, plan.picture.height_px)
    even = even_sided(rgb)
    if expected != (even.shape[1], even.shape[0]):
        raise _misfit("size", expected, (even.shape[1], even.shape[0]))
    regions = Masks(plan).at(0)
    paint_photo(even, regions)
    height, width = rgb.shape[:2]
    size_bytes = write_photo(destination, np.ascontiguousarray(even[:height, :width]))
    progress(1.0)
    return {
        "width_px": width,
        "height_px": height,
        "region_count": len(regions),
        "size_bytes": size_bytes,
        "sha256": hash_file(destination).sha256.hex(),
        "coverage": dict(plan.coverage),
    }


def plan_of(request: Mapping[str, Any]) -> RedactionPlan:
    """The plan that a request carries or points at."""
    if "plan" in request:
        return plan_from_json(request["plan"])
    try:
        return plan_from_json(json.loads(Path(request["plan_path"]).read_bytes()))
    except ValueError as error:
        raise InvalidInput(f"plan: expected JSON, found {error}", code="plan_invalid") from error


def origin_of(plan: RedactionPlan, source: Path) -> Fraction:
    """Seconds on the source's own clock at media time 0: its first picture, or its first sound."""
    if plan.picture is not None:
        return plan.picture.first_pts * Fraction(*plan.picture.time_base)
    with AudioReader(source) as reader:
        return next((packet.pts * reader.time_base for packet in reader.packets()), Fraction(0))


def paint(canvas: Canvas, regions: Sequence[Region]) -> None:
    """Overwrite regions with the fill; their edges are even."""
    for region in regions:
        box, shape = region
        if shape == "rectangle":
            paint_rectangle(canvas, *box)
            continue
        rows, columns = slice(box.y0, box.y1), slice(box.x0, box.x1)
        half_rows, half_columns = slice(box.y0 // 2, box.y1 // 2), slice(box.x0 // 2, box.x1 // 2)
        cells = region_cells(region)
        canvas.y[rows, columns][_doubled(cells)] = FILL[0]
        canvas.u[half_rows, half_columns][cells] = FILL[1]
        canvas.v[half_rows, half_columns][cells] = FILL[2]


def paint_photo(rgb: NDArray[np.uint8], regions: Sequence[Region]) -> None:
    """Overwrite regions of an RGB24 picture, ``(height, width, 3)``, in place."""
    for region in regions:
        box, shape = region
        part = rgb[box.y0 : box.y1, box.x0 : box.x1]
        if shape == "rectangle":
            part[:] = FILL_RGB
        else:
            part[_doubled(region_cells(region))] = FILL_RGB


def _doubled(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.repeat(np.repeat(cells, 2, axis=0), 2, axis=1)


@dataclass
class _Sound:
    """One sound track on its way into the rendition."""

    track: SoundTrack
    packets: Iterator[AudioPacket]
    time_base: Fraction
    waiting: AudioPacket | None = None

    def until(self, seconds: Fraction | None) -> Iterator[AudioPacket]:
        """The packets that begin before a time; all that are left when it is None."""
        while True:
            packet = self.waiting or next(self.packets, None)
            self.waiting = packet
            if packet is None or (seconds is not None and packet.pts * self.time_base > seconds):
                return
            self.waiting = None
            yield packet


@dataclass
class Rendering:
    """One run of the renderer."""

    source: Path
    plan: RedactionPlan
    destination: Path
    coding: PictureCoding = field(default_factory=PictureCoding)
    made: Mapping[str, Any] | None = None
    kept_frame_count: int = 0
    masked_frame_count: int = 0
    unreadable_frame_count: int = 0

    def run(self, progress: Progress) -> dict[str, object]:
        """Write the rendition and describe it."""
        with ExitStack() as stack:
            streams = count_streams(self.source)
            video, keeping = None, Keeping("no picture")
            coding = self.coding
            if self.plan.picture is not None:
                video = stack.enter_context(open_video(self.source, threads=self.coding.threads))
                require_fit(self.plan, video.shape)
                size = (video.shape.width_px, video.shape.height_px)
                keeping = decide(
                    self.source, self.made, size, _touched(self.plan), alive=lambda: progress(0.0)
                )
                coding = replace(coding, set_number=_free_number(video.configuration()))
            sounds: list[_Sound] = []
            muted: list[int] = []
            recoded: list[int] = []
            has_sound = bool(streams.get("audio", 0))
            is_ours = has_sound and is_sound_ours(self.source, self.made, lambda: progress(0.0))
            origin = origin_of(self.plan, self.source) if self.plan.muted_spans else Fraction(0)
            for number in range(streams.get("audio", 0)):
                reader = stack.enter_context(AudioReader(self.source, number))
                spans = self.plan.muted(number)
                is_copied = is_ours and not spans
                muted += [number] if spans else []
                recoded += [] if is_copied else [number]
                sounds.append(_copied(reader) if is_copied else _replaced(reader, spans, origin))
            writer = stack.enter_context(
                FragmentedMp4Writer(
                    self.destination,
                    video=None if video is None else video.shape,
                    sound=[sound.track for sound in sounds],
                    coding=coding,
                    kept=keeping.configuration,
                    encodes=keeping.encodes,
                )
            )
            if video is not None:
                self._write_pictures(video, keeping, sounds, writer, progress)
            _write_sound(sounds, None, writer, lambda: progress(0.99))
        progress(1.0)
        return {
            "frame_count": writer.frame_count,
            "kept_frame_count": self.kept_frame_count,
            "why_whole": keeping.why_whole,
            "masked_frame_count": self.masked_frame_count,
            "unreadable_frame_count": self.unreadable_frame_count,
            "muted_streams": muted,
            "recoded_streams": recoded,
            "size_bytes": writer.size_bytes,
            "sha256": hash_file(self.destination, progress=lambda _: progress(1.0)).sha256.hex(),
            "coverage": dict(self.plan.coverage),
        }

    def _write_pictures(
        self,
        video: VideoReader,
        keeping: Keeping,
        sounds: list[_Sound],
        writer: FragmentedMp4Writer,
        progress: Progress,
    ) -> None:
        picture = self.plan.picture
        assert picture is not None  # noqa: S101 - asked by the caller
        masks = Masks(self.plan)
        seen: list[int] = []
        for frame in self._pictures(video, keeping):
            seen.append(frame.pts)
            _write_sound(sounds, frame.pts * video.shape.time_base, writer)
            if isinstance(frame, KeptPicture):
                self.kept_frame_count += 1
                writer.write_kept(frame.coded_slice, pts=frame.pts, duration=frame.duration, key=frame.key)
            else:
                canvas = Canvas(frame.width_px, frame.height_px)
                paint(canvas, self._fill(frame, canvas, masks))
                writer.write_picture(canvas, pts=frame.pts, duration=frame.duration, key=frame.key)
            progress(min(0.99, len(seen) / picture.frame_count))
        found = (len(seen), seen[0], seen[-1])
        expected = (picture.frame_count, picture.first_pts, picture.last_pts)
        if found != expected:
            raise _misfit("frames, first and last pts", expected, found)

    def _pictures(self, video: VideoReader, keeping: Keeping) -> Iterator[DecodedFrame | KeptPicture]:
        if keeping.configuration is None:
            return iter(video)
        return keeping.pictures(self.source, threads=self.coding.threads)

    def _fill(self, frame: DecodedFrame, canvas: Canvas, masks: Masks) -> list[Region]:
        """Copy what may be shown of a frame and say what is to be covered."""
        self.unreadable_frame_count += frame.corrupt
        if frame.lost or (frame.corrupt and not masks.is_shown_by_decision(frame.pts)):
            # What a decoder makes up may hold anything, so only a person can decide to show it.
            self.masked_frame_count += 1
            return [masks.whole_frame]
        canvas.copy(frame.planes())
        regions = masks.at(frame.pts)
        self.masked_frame_count += bool(regions)
        return regions


def _touched(plan: RedactionPlan) -> Callable[[int], bool]:
    """Whether anything is hidden in the picture shown at a time, or is shown although it may be damaged."""
    masks = Masks(plan)
    return lambda pts: bool(masks.at(pts)) or masks.is_shown_by_decision(pts)


def _free_number(avcc: bytes) -> int:
    """A number for parameter sets that the source does not use, by which the check tells kept pictures."""
    try:
        return Configuration.from_bytes(avcc).free_number() or 0
    except MediaError:
        # Of a source whose parameter sets cannot be read nothing is kept, so any number will do.
        return 0


def _write_sound(
    sounds: list[_Sound],
    until: Fraction | None,
    writer: FragmentedMp4Writer,
    alive: Callable[[], None] = lambda: None,
) -> None:
    for number, sound in enumerate(sounds):
        for at, packet in enumerate(sound.until(until)):
            if at % PACKETS_A_WORD == 0:
                alive()
            writer.write_sound(number, packet)


def _copied(reader: AudioReader) -> _Sound:
    if reader.codec != "aac" or reader.time_base.numerator != 1:
        raise InvalidInput(f"sound of the source: expected AAC, found {reader.codec}; make a rendition first")
    track = SoundTrack(reader.sample_rate_hz, reader.channels, reader.time_base.denominator, reader.config)
    return _Sound(track, reader.packets(), reader.time_base)


def _replaced(reader: AudioReader, spans: list[MutedSpan], origin: Fraction) -> _Sound:
    rate = reader.sample_rate_hz
    encoder = AacEncoder(sample_rate_hz=rate, layout=reader.layout, channels=reader.channels)
    ranges = sample_ranges(spans, rate, origin)

    def packets() -> Iterator[AudioPacket]:
        blocks = ((block.pts * reader.time_base, block.samples) for block in reader.blocks())
        for first, samples in replaced(unbroken(blocks, rate), ranges, rate):
            yield from encoder.encode(first, samples)
        yield from encoder.finish()

    return _Sound(encoder.track, packets(), Fraction(1, rate))


def require_fit(plan: RedactionPlan, shape: VideoShape) -> None:
    """Raise `Conflict` (``plan_does_not_fit``) where a plan was made for another picture."""
    picture = plan.picture
    found = (shape.width_px, shape.height_px, shape.time_base.numerator, shape.time_base.denominator)
    expected = None if picture is None else (picture.width_px, picture.height_px, *picture.time_base)
    if found != expected:
        raise _misfit("size and time base", expected, found)


def _misfit(what: str, expected: object, found: object) -> Conflict:
    return Conflict(
        f"plan and source: expected {what} {expected}, found {found}; make a plan for this rendition",
        code="plan_does_not_fit",
    )
