"""Prove from the file alone that a redacted rendition hides what its plan says, and holds nothing more.

The check reads the plan as the renderer does and shares nothing with what paints, codes and writes: it
walks the boxes, decodes every frame and every muted sample, and compares with the plan and with the times
of the source. It gives all it finds, not the first. A rendition with findings is not released.

Coding is lossy, so a masked pixel is not exactly the fill. What bleeds in comes from beside the mask and
never from under it, and fades with the distance from the edge: `TOLERANCE` states how far it may differ.
That it does not come from under it is looked at too, with both files in hand (`redaction.dependence`), and
what the plan never knew of is looked for by another kind of detector (`redaction.leftover`). Pictures that
were kept as they are coded hide nothing, and decode to the source's to the last bit (`redaction.sameness`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evidence.errors import MediaError
from media.decode import (
    AudioReader,
    DecodedFrame,
    VideoReader,
    count_streams,
    open_video,
    picture_times,
    read_photo,
)
from media.painting import FILL
from redaction.audio import SampleRange, fill_of, sample_ranges, unbroken
from redaction.container import check_container
from redaction.dependence import Dependence
from redaction.detectors.network import PictureNetwork
from redaction.findings import Report
from redaction.geometry import Box, Region, even_sided, region_cells
from redaction.keeping import is_sound_ours
from redaction.leftover import Leftovers, another_family
from redaction.plan import Masks, RedactionPlan
from redaction.recoded import check_coded_anew, check_heard
from redaction.render import FILL_RGB, Progress, origin_of, plan_of
from redaction.sameness import kept_times
from redaction.voice import WINDOW_S, worst_likeness

# Pixels from the edge of a mask, and how many of 255 levels any sample there may differ from the fill.
TOLERANCE = ((0, 72), (2, 48), (8, 28), (16, 8))
# How many levels a whole mask may differ in the mean.
MEAN_TOLERANCE = 8.0
# A still is coded in blocks of 8: further inside, nothing from beside the mask arrives.
PHOTO_INSET_PX = 8
# Measured on ten clips, twice a second: no false sighting from here on, and every clear face is seen.
CHECK_PERMILLE = 700
SILENCE_PEAK = 1e-4
TONE_RESIDUE = 0.02


def check_entry(request: dict[str, Any], progress: Progress) -> dict[str, object]:
    """Check one redacted rendition.

    Args:
        request: ``source`` (the rendition it was made from), ``output``, ``plan`` or ``plan_path``,
            ``models_dir``, ``check_permille``: from which score on a face that is left is a finding, and
            ``made``: what was recorded of the making of the source (`redaction.keeping.is_sound_ours`).
        progress: Hears the share of frames checked.

    Returns:
        `Report` as JSON: ``passed`` and every finding with its code, a line in two languages and its facts.
    """
    plan = plan_of(request)
    source, output = Path(request["source"]), Path(request["output"])
    report = Report()
    _noting(report, "container_unreadable", lambda: check_container(output, report))
    _noting(report, "container_unreadable", lambda: _check_streams(source, output, report))
    if plan.picture is not None:
        detector = _another_family(request, plan)
        kept: set[int] = set()
        _noting(
            report,
            "frame_unreadable",
            lambda: kept.update(kept_times(source, output, report, alive=lambda: progress(0.0))),
        )
        _noting(
            report,
            "frame_unreadable",
            lambda: _check_pictures(source, output, plan, kept, report, progress, detector),
        )
    is_ours = is_sound_ours(source, request.get("made"), lambda: progress(0.99))
    _noting(
        report,
        "sound_differs",
        lambda: _check_sound(source, output, plan, is_ours, report, lambda: progress(0.99)),
    )
    progress(1.0)
    return {**report.to_json(), "tolerance": [list(band) for band in TOLERANCE]}


def check_photo_entry(request: dict[str, Any], progress: Progress) -> dict[str, object]:
    """Check one redacted still; the request is that of `check_entry`."""
    plan = plan_of(request)
    source, output = Path(request["source"]), Path(request["output"])
    report = Report(frame_count=1)
    with Image.open(output, formats=("JPEG",)) as image:
        # APP0 with the JFIF head is what every JPEG has; anything more was brought along.
        extra = sorted(set(image.info) - {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi"})
    if extra:
        report.add("name_in_container", where=extra)
    rgb, original = read_photo(output), read_photo(source)
    if rgb.shape != original.shape:
        report.add("picture_size_differs", expected=list(original.shape[:2]), found=list(rgb.shape[:2]))
    else:
        even = even_sided(rgb)
        planes = [even[:, :, channel] for channel in range(3)]
        dependence = Dependence(FILL_RGB, PHOTO_INSET_PX)
        for name, region in Masks(plan).named_at(0):
            _check_region(region, planes, (FILL_RGB,) * 3, (1, 1, 1), report, pts=0)
            dependence.add(name, region, even_sided(original)[:, :, 1], planes[1])
        _note_leaks(dependence, report)
        Leftovers(plan, _another_family(request, plan), report).look_at_photo(even, Masks(plan).at(0))
    progress(1.0)
    return {**report.to_json(), "tolerance": [list(band) for band in TOLERANCE]}


def _another_family(request: dict[str, Any], plan: RedactionPlan) -> PictureNetwork:
    score_min = int(request.get("check_permille", CHECK_PERMILLE)) / 1000
    return another_family(plan, Path(request["models_dir"]), score_min)


def _noting(report: Report, code: str, step: Callable[[], None]) -> None:
    """Run a step; what it cannot read is a finding like any other."""
    try:
        step()
    except MediaError as error:
        report.add(code, found=error.message, cause=error.code)
    except (LookupError, ValueError) as error:
        # A structure of another form than the writer's ends in a missing box or a short array.
        report.add(code, found=f"{type(error).__name__}: {error}", cause="malformed")


def _check_streams(source: Path, output: Path, report: Report) -> None:
    before, after = count_streams(source), count_streams(output)
    expected = {"video": min(1, before.get("video", 0)), "audio": before.get("audio", 0)}
    found = {kind: count for kind, count in after.items() if count}
    if found != {kind: count for kind, count in expected.items() if count}:
        report.add("stream_not_allowed", expected=expected, found=found)


def _check_pictures(
    source: Path,
    output: Path,
    plan: RedactionPlan,
    kept: set[int],
    report: Report,
    progress: Progress,
    detector: PictureNetwork,
) -> None:
    expected = picture_times(source)
    masks = Masks(plan)
    times: list[tuple[int, int]] = []
    dependence = Dependence(FILL[0])
    with open_video(output) as video, open_video(source) as original:
        _check_shape(video, plan, report)
        shape = video.shape
        left = Leftovers(plan, detector, report, time_base=shape.time_base, rotation=shape.rotation)
        hidden = iter(original)
        under = next(hidden, None)
        for frame in video:
            times.append((frame.pts, frame.duration))
            if frame.corrupt:
                report.add("frame_unreadable", pts=frame.pts, frame=frame.index)
            named = masks.named_at(frame.pts)
            _check_frame(frame, [region for _, region in named], report)
            left.look(frame, [region for _, region in named])
            while under is not None and under.pts < frame.pts:
                under = next(hidden, None)
            if frame.pts in kept:
                _check_kept(frame, under, is_masked=bool(named), report=report)
            if under is not None and under.pts == frame.pts and not (under.corrupt or frame.corrupt):
                for name, region in named:
                    dependence.add(name, region, under.planes()[0], frame.planes()[0])
            progress(min(0.99, len(times) / max(1, len(expected))))
    _note_leaks(dependence, report)
    report.frame_count = len(times)
    if len(times) != len(expected):
        report.add("frames_differ", expected=len(expected), found=len(times))
    for index, (before, after) in enumerate(zip(expected, times, strict=False)):
        if before[0] != after[0]:
            report.add("frames_differ", frame=index, expected=before[0], found=after[0])
    # Inside the stream a frame lasts until the next; only the last one's duration is a statement of its own.
    if expected and times and expected[-1][1] and expected[-1] != times[-1]:
        report.add("frames_differ", frame=len(times) - 1, expected=list(expected[-1]), found=list(times[-1]))


def _check_kept(frame: DecodedFrame, under: DecodedFrame | None, *, is_masked: bool, report: Report) -> None:
    """A picture that was not encoded again hides nothing and is the source's, sample by sample."""
    report.kept_frame_count += 1
    if is_masked:
        report.add("kept_differs", pts=frame.pts, cause="a mask lies on it")
    elif under is None or under.pts != frame.pts or under.corrupt:
        report.add("kept_differs", pts=frame.pts, cause="nothing like it decodes in the source")
    elif not all(np.array_equal(*pair) for pair in zip(frame.planes(), under.planes(), strict=True)):
        report.add("kept_differs", pts=frame.pts, cause="another picture")


def _note_leaks(dependence: Dependence, report: Report) -> None:
    for name, leak in dependence.found().items():
        report.add(
            "mask_transparent",
            track=name,
            frames=leak.frame_count,
            slope_permille=round(leak.slope * 1000),
            correlation_percent=round(leak.correlation * 100),
            residue_centilevels=round(leak.residue * 100),
        )


def _check_shape(video: VideoReader, plan: RedactionPlan, report: Report) -> None:
    picture = plan.picture
    found = [video.shape.width_px, video.shape.height_px]
    if picture is not None and found != [picture.width_px, picture.height_px]:
        report.add("picture_size_differs", expected=[picture.width_px, picture.height_px], found=found)


def _check_frame(frame: DecodedFrame, regions: list[Region], report: Report) -> None:
    planes = frame.planes()
    for region in regions:
        if region.box.x1 > frame.width_px or region.box.y1 > frame.height_px:
            report.add("mask_missing", pts=frame.pts, box=list(region.box))
            continue
        _check_region(region, list(planes), FILL, (1, 2, 2), report, pts=frame.pts)


def _check_region(
    region: Region,
    planes: list[NDArray[np.uint8]],
    fill: tuple[int, ...],
    steps: tuple[int, ...],
    report: Report,
    *,
    pts: int,
) -> None:
    """Compare one region of one picture with the fill.

    Args:
        region: What should be covered.
        planes: The picture, each ``(height / step, width / step)``, uint8.
        fill: What each plane should hold there.
        steps: Luma pixels to a sample of each plane.
        report: Where findings go.
        pts: When the picture is shown.
    """
    report.region_count += 1
    total, count = 0.0, 0
    for inset, most in TOLERANCE:
        box = Box(region.box.x0 + inset, region.box.y0 + inset, region.box.x1 - inset, region.box.y1 - inset)
        if box.width_px < 2 or box.height_px < 2:
            break
        worst = 0
        for plane, level, step in zip(planes, fill, steps, strict=True):
            part = plane[box.y0 // step : box.y1 // step, box.x0 // step : box.x1 // step]
            difference = np.abs(part.astype(np.int16) - level)
            if region.shape != "rectangle":
                cells = region_cells(region, inset)
                inside = cells if step == 2 else np.repeat(np.repeat(cells, 2, axis=0), 2, axis=1)
                difference = difference[inside]
            if difference.size:
                worst = max(worst, int(difference.max()))
                if inset == 0:
                    total, count = total + float(difference.sum()), count + difference.size
        if inset >= 2:
            report.worst_difference = max(report.worst_difference, worst)
        if worst > most or (inset == 0 and count and total / count > MEAN_TOLERANCE):
            report.add(
                "mask_missing",
                pts=pts,
                box=list(region.box),
                inset_px=inset,
                expected_at_most=most,
                found=worst,
            )
            return


def _check_sound(
    source: Path,
    output: Path,
    plan: RedactionPlan,
    is_ours: bool,
    report: Report,
    alive: Callable[[], None],
) -> None:
    for number in range(count_streams(source).get("audio", 0)):
        spans = plan.muted(number)
        if spans or not is_ours:
            check_coded_anew(source, output, number, report, alive)
        if not spans and not is_ours:
            check_heard(source, output, number, report, alive)
            continue
        with AudioReader(output, number) as reader:
            if not spans:
                with AudioReader(source, number) as original:
                    if _packet_digest(original) != _packet_digest(reader):
                        report.add("sound_differs", stream=number)
                continue
            rate = reader.sample_rate_hz
            ranges = sample_ranges(spans, rate, origin_of(plan, source))
            _check_voices(source, output, number, ranges, report)
            silent = [one for one in ranges if one.kind == "silence"]
            for block in reader.blocks():
                first = round(block.pts * reader.time_base * rate)
                for span in ranges:
                    if span.kind == "voice":
                        continue
                    low, high = max(first, span.first), min(first + block.samples.shape[1], span.end)
                    if low >= high:
                        continue
                    rest = block.samples[:, low - first : high - first].copy()
                    most = SILENCE_PEAK
                    if span.kind == "tone":
                        most = TONE_RESIDUE
                        rest -= fill_of("tone", low, high, rate)
                        for other in silent:
                            rest[:, max(0, other.first - low) : max(0, other.end - low)] = 0.0
                    peak = float(np.abs(rest).max())
                    if peak > most:
                        at_us = int(Fraction(low, rate) * 1_000_000)
                        report.add(
                            "sound_not_replaced", stream=number, at_us=at_us, peak_ppm=round(peak * 1e6)
                        )


def _check_voices(
    source: Path, output: Path, number: int, ranges: Sequence[SampleRange], report: Report
) -> None:
    """Hold each second of a voice that was made unrecognisable against the source.

    What is left at the end is looked at as far as it goes, by bounds that allow for chance.
    """
    voices = [one for one in ranges if one.kind == "voice"]
    if not voices:
        return
    for span in voices:
        # A reader reads once.
        with AudioReader(source, number) as original, AudioReader(output, number) as reader:
            rate = reader.sample_rate_hz
            length = WINDOW_S * rate
            windows = zip(_windows(original, span, length), _windows(reader, span, length), strict=False)
            for (at, before), (_, after) in windows:
                found = worst_likeness(before, after, rate)
                if found.is_too_much:
                    report.add(
                        "voice_recognisable",
                        stream=number,
                        at_us=int(Fraction(at, rate) * 1_000_000),
                        wave_permille=round(found.wave * 1000),
                        fine_permille=round(found.fine * 1000),
                    )


def _windows(
    reader: AudioReader, span: SampleRange, length: int
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """What is heard in a span, ``(channels, length)``, in windows of ``length``; the last is shorter."""
    window = np.zeros((reader.channels, length))
    at = span.first
    blocks = ((block.pts * reader.time_base, block.samples) for block in reader.blocks())
    for first, samples in unbroken(blocks, reader.sample_rate_hz):
        low, high = max(first, span.first), min(first + samples.shape[1], span.end)
        while low < high:
            if low >= at + length:
                yield at, window
                window, at = np.zeros_like(window), at + length
                continue
            until = min(high, at + length)
            window[: len(samples), low - at : until - at] = samples[:, low - first : until - first]
            low = until
    if at < span.end:
        yield at, window[:, : span.end - at]


def _packet_digest(reader: AudioReader) -> bytes:
    digest = hashlib.sha256()
    for packet in reader.packets():
        digest.update(f"{packet.pts * reader.time_base},{len(packet.data)};".encode())
        digest.update(packet.data)
    return digest.digest()
