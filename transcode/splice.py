"""Cut a span without encoding what need not be: whole groups are copied, only the edges are encoded.

The rules:

1. A *group* begins at an IDR picture and ends before the next. What lies wholly inside the span is copied
   byte for byte, one unbroken run of groups; the pictures of the span before and after are encoded again.
2. The edges have parameter sets of their own, under a number that the copied pictures do not use, and both
   sets stand in the one ``avcC``: nothing copied is altered, and no decoder meets a second description.
3. Every picture keeps its own time. Decoding times run on: an edge is stored as long before it is shown as
   the group it meets.
4. Sound is encoded anew and cut to the sample: copied packets would hold sound from outside the span.
5. Where any of this cannot be (interlaced or unusual coding, parameter sets that change within the stream,
   groups that are shown out of order), nothing is copied and the reason is said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

import ffmpeg

from evidence.errors import MediaError
from media import avc, boxes, formats
from media.errors import media_error
from media.fmp4 import FragmentIndex, index_fragments
from media.fragments import Track
from media.mux import box
from media.progressive import (
    Looks,
    Placed,
    StoredTrack,
    entry_of,
    read_moov,
    start_of,
    write_progressive,
)
from media.run import run_ffmpeg
from media.samples import StoredSample, read_samples
from media.supervise import raise_if_cancelled
from transcode.encoders import ENCODER_THREADS
from transcode.excerpt import covering, write_excerpt
from transcode.plan import AUDIO_FRAGMENT_US, AUDIO_KBPS_PER_CHANNEL
from transcode.segment import RunOptions

PROFILES = {66: "baseline", 77: "main", 100: "high"}
PRIMING = 1024
"""Samples that FFmpeg's AAC encoder puts before the first."""
VISUAL_ENTRY_BYTES = 78
MOVFLAGS = "+empty_moov+delay_moov+default_base_moof"
MOST_PICTURES = 1_000_000
"""Nine hours at 30 a second. The place and time of each are held at once: some 600 MB."""
KEPT_BOXES = frozenset({"pasp", "colr"})
CANNOT = frozenset({"fragments_unreadable", "ffmpeg_failed"})


class Unsuited(Exception):
    """The stream cannot be spliced; its text says why, in one word."""


@dataclass(frozen=True)
class Joint:
    """Which samples of a track are encoded before, copied, and encoded after."""

    head: tuple[StoredSample, ...]
    copied: tuple[StoredSample, ...]
    tail: tuple[StoredSample, ...]


@dataclass(frozen=True)
class Spliced:
    """What was copied and what encoded."""

    copied_count: int
    encoded_count: int


def splice(
    rendition: Path,
    index: FragmentIndex,
    begin: Fraction,
    end: Fraction,
    destination: Path,
    *,
    crf: int,
    run: RunOptions,
    cancelled: Callable[[], bool] | None = None,
) -> Spliced:
    """Cut ``[begin, end)``, in seconds on the rendition's own clock, out of a rendition.

    Raises:
        Unsuited: It has to be encoded as a whole; nothing was written.
        MediaError: A limit.
        Unavailable: ``disk_full``, ``output_unwritable``.
        Conflict: ``cancelled``.
    """
    cut = _Cut(rendition, index, begin, end, crf, run, cancelled)
    try:
        joint, configuration = cut.plan()
        video = cut.video(joint, configuration)
        sounds = [
            cut.sound(track, number)
            for number, track in enumerate(track for track in index.tracks if track.kind == "audio")
        ]
        tracks = [video, *(track for track in sounds if track is not None)]
        write_progressive(destination, tracks, cancelled=cancelled)
    except MediaError as error:
        if error.code in CANNOT:
            raise Unsuited(error.code) from error
        raise
    finally:
        for path in cut.made:
            path.unlink(missing_ok=True)
    return Spliced(len(joint.copied), len(joint.head) + len(joint.tail))


def joint_of(samples: Sequence[StoredSample], is_group_start: Sequence[bool], first: int, last: int) -> Joint:
    """What of a stream is copied, and what is encoded, of the pictures shown in ``[first, last)``.

    Args:
        samples: In order of decoding, from the start of a group on.
        is_group_start: Of each, whether it is an IDR picture.

    Raises:
        Unsuited: No group lies wholly inside, or groups are shown out of order.
    """
    groups: list[list[StoredSample]] = []
    for sample, starts in zip(samples, is_group_start, strict=True):
        if starts or not groups:
            groups.append([])
        groups[-1].append(sample)
    edges = [(min(each.pts for each in group), max(each.pts for each in group)) for group in groups]
    if any(one[1] >= two[0] for one, two in pairwise(edges)):
        raise Unsuited("groups_out_of_order")
    if any(sample.pts < sample.dts for sample in samples):
        raise Unsuited("shown_before_decoded")
    inside = [
        number
        for number, (begins, ends) in enumerate(edges)
        if first <= begins and ends < last and (number > 0 or is_group_start[0])
    ]
    if not inside:
        raise Unsuited("no_whole_group")

    def wanted(some: Sequence[list[StoredSample]]) -> tuple[StoredSample, ...]:
        return tuple(each for group in some for each in group if first <= each.pts < last)

    copied = tuple(each for number in inside for each in groups[number])
    return Joint(wanted(groups[: inside[0]]), copied, wanted(groups[inside[-1] + 1 :]))


@dataclass(frozen=True)
class _Edge:
    """Pictures that were encoded again."""

    samples: list[Placed]
    coded: avc.Configuration | None
    """None: there are none."""


class _Cut:
    """One span on its way into a file."""

    def __init__(
        self,
        rendition: Path,
        index: FragmentIndex,
        begin: Fraction,
        end: Fraction,
        crf: int,
        run: RunOptions,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self._rendition, self._index, self._run = rendition, index, run
        self._begin, self._end, self._crf, self._cancelled = begin, end, crf, cancelled
        self.made: list[Path] = []

    def plan(self) -> tuple[Joint, avc.Configuration]:
        """What is copied, and how the pictures are coded."""
        index, track = self._index, self._index.main
        if track.kind != "video" or not track.codec.startswith("avc1"):
            raise Unsuited("not_avc1")
        configuration = _configuration(self._rendition, index.init_size_bytes)
        shapes = [avc.shape_of(unit) for unit in configuration.sequence_sets]
        if configuration.profile not in PROFILES or not all(
            each.is_plain and each.is_progressive for each in shapes
        ):
            raise Unsuited("coding")
        fragments = covering(index, self._begin - index.origin, self._end - index.origin)
        if sum(part.frame_count for part in fragments) > MOST_PICTURES:
            raise Unsuited("too_long")
        samples = read_samples(self._rendition, track, fragments)
        with self._rendition.open("rb") as file:
            starts = []
            for sample in samples:
                raise_if_cancelled(self._cancelled)
                file.seek(sample.offset_bytes)
                starts.append(_is_group_start(file.read(sample.size_bytes), configuration))
        first, last = ceil(self._begin * track.timescale), ceil(self._end * track.timescale)
        return joint_of(samples, starts, first, last), configuration

    def video(self, joint: Joint, configuration: avc.Configuration) -> StoredTrack:
        """The track of pictures: head, copied, tail."""
        track = self._index.main
        number = configuration.free_number()
        if number is None:
            raise Unsuited("parameter_sets")
        copied = [_kept(self._rendition, sample) for sample in joint.copied]
        # The pictures after the copied ones begin with the first of their group.
        head = self._edge("head", joint.head, joint.copied[0], number, configuration)
        tail = self._edge("tail", joint.tail, joint.tail[0] if joint.tail else None, number, configuration)
        coded = {made for made in (head.coded, tail.coded) if made is not None}
        if len(coded) > 1:
            raise Unsuited("edges_differ")
        both = configuration.beside(coded.pop()) if coded else configuration
        placed = [*head.samples, *copied, *tail.samples]
        return self._as_track(placed, both, track)

    def _edge(
        self,
        name: str,
        wanted: tuple[StoredSample, ...],
        meets: StoredSample | None,
        number: int,
        configuration: avc.Configuration,
    ) -> _Edge:
        """The pictures of an edge, encoded under parameter sets of that number."""
        if meets is None or not wanted:
            return _Edge([], None)
        profile = configuration.profile
        made, coded = self._encode(name, [sample.pts for sample in wanted], number, PROFILES[profile])
        sizes = {avc.shape_of(unit).size for unit in configuration.sequence_sets + coded.sequence_sets}
        if len(sizes) != 1:
            raise Unsuited("shape")
        delay = meets.pts - meets.dts
        return _Edge([each._replace(dts=each.pts - delay) for each in made], coded)

    def _as_track(self, placed: list[Placed], both: avc.Configuration, track: Track) -> StoredTrack:
        entry, looks = entry_of(self._rendition, track.track_id, self._index.init_size_bytes)
        origin = placed[0].dts
        moved = [each._replace(dts=each.dts - origin, pts=each.pts - origin) for each in placed]
        if any(two.dts <= one.dts for one, two in pairwise(moved)):
            raise Unsuited("decoding_times")
        first = min(each.pts for each in moved)
        starts = first + origin - ceil(self._begin * track.timescale)
        shown = ceil(self._end * track.timescale) - (first + origin)
        # Of the last one decoded nothing says how long it is shown but the span itself.
        last = max(1, first + shown - moved[-1].pts)
        return StoredTrack(
            b"vide",
            track.timescale,
            _with_configuration(entry, both),
            moved,
            last,
            starts,
            first,
            shown,
            looks,
        )

    def _encode(
        self, name: str, times: list[int], number: int, profile: str
    ) -> tuple[list[Placed], avc.Configuration]:
        """Encode the pictures of an edge; ``times`` are when they are shown, on the rendition's own clock."""
        track = self._index.main
        first, last = min(times), max(times) + 1
        excerpt, made = self._path(f"{name}-excerpt.mp4"), self._path(f"{name}.mp4")
        self._excerpt(Fraction(first, track.timescale), Fraction(last, track.timescale), excerpt)
        picture = ffmpeg.input(
            f"file:{excerpt}", copyts=None, noautorotate=None, **formats.whitelist_options()
        )
        picture = picture.video.filter("trim", start_pts=first, end_pts=last).filter("setpts", f"PTS-{first}")
        picture = picture.filter("format", "yuv420p|yuvj420p")
        self._ffmpeg(picture, made, {
            "c:v": "libx264", "preset": "veryfast", "crf": self._crf, "profile:v": profile,
            "threads:v": ENCODER_THREADS, "fps_mode:v": "passthrough",
            "enc_time_base:v": f"1:{track.timescale}", "x264-params": f"bframes=0:sps-id={number}",
            "bsf:v": "filter_units=pass_types=1-5",
        })  # fmt: skip
        samples, init = _samples_of(made)
        if len(samples) != len(times):
            raise media_error("ffmpeg_failed", f"expected {len(times)} pictures, found {len(samples)}")
        placed = [_kept(made, one)._replace(pts=at) for one, at in zip(samples, sorted(times), strict=True)]
        return placed, _configuration(made, init.init_size_bytes)

    def sound(self, track: Track, number: int) -> StoredTrack | None:
        """A track of sound, encoded anew; None where it is silent in all of the span."""
        first, last = ceil(self._begin * track.timescale), ceil(self._end * track.timescale)
        excerpt, made = self._path("sound-excerpt.mp4"), self._path(f"sound-{number}.mp4")
        self._excerpt(self._begin, self._end, excerpt)
        sound = ffmpeg.input(f"file:{excerpt}", copyts=None, **formats.whitelist_options())[f"a:{number}"]
        sound = sound.filter("atrim", start_pts=first, end_pts=last).filter("asetpts", f"PTS-({first})")
        # The edit list says when it begins, exactly if the movie's clock is its own.
        self._ffmpeg(sound, made, {
            "c:a": "aac", "b:a": f"{2 * AUDIO_KBPS_PER_CHANNEL}k", "movflags": MOVFLAGS,
            "movie_timescale": track.timescale,
        })  # fmt: skip
        samples, found = _samples_of(made)
        if not samples:
            return None
        if found.timescale != track.timescale:
            raise Unsuited("sound_clock")
        entry, _ = entry_of(made, found.main.track_id, found.init_size_bytes)
        origin = samples[0].dts
        placed = [
            _kept(made, each)._replace(dts=each.dts - origin, pts=each.dts - origin) for each in samples
        ]
        zero = round(start_of(made, found.main, found.init_size_bytes) * track.timescale)
        starts = max(0, zero + origin + PRIMING)
        ends = zero + samples[-1].dts + samples[-1].duration
        shown = max(1, min(ends, last - first) - starts)
        return StoredTrack(
            b"soun", track.timescale, entry, placed, samples[-1].duration, starts, PRIMING, shown, Looks()
        )

    def _excerpt(self, begin: Fraction, end: Fraction, destination: Path) -> None:
        index = self._index
        times = begin - index.origin, end - index.origin
        write_excerpt(self._rendition, index, *times, destination, cancelled=self._cancelled)

    def _path(self, name: str) -> Path:
        path = self._run.scratch / name
        self.made.append(path)
        return path

    def _ffmpeg(self, stream: Any, destination: Path, options: dict[str, Any]) -> None:
        given: dict[str, Any] = {
            "f": "mp4", "movflags": "+empty_moov+default_base_moof", "frag_duration": AUDIO_FRAGMENT_US,
            "map_metadata": -1, "map_chapters": -1, "fflags": "+bitexact", "flags:v": "+bitexact",
            "flags:a": "+bitexact", **options,
        }  # fmt: skip
        arguments: list[str] = (
            ffmpeg.output(stream, f"file:{destination}", **given).overwrite_output().get_args()
        )
        run = self._run
        run_ffmpeg(
            arguments, scratch=run.scratch, limits=run.limits, binary=run.ffmpeg, cancelled=self._cancelled
        )


def _configuration(path: Path, init_size_bytes: int) -> avc.Configuration:
    for entry in boxes.sample_entries(read_moov(path, init_size_bytes)):
        avcc = boxes.find(entry.body, "avcC") if entry.handler == "vide" else None
        if avcc is not None:
            return avc.Configuration.from_bytes(bytes(avcc))
    raise media_error("fragments_unreadable", "expected an avcC, found none")


def _samples_of(path: Path) -> tuple[list[StoredSample], FragmentIndex]:
    index = index_fragments(path)
    if index is None:
        raise media_error("ffmpeg_failed", f"expected {path.name} with a header, found none")
    return read_samples(path, index.main, index.fragments), index


def _is_group_start(sample: bytes, configuration: avc.Configuration) -> bool:
    """Whether a sample is an IDR picture.

    Raises:
        Unsuited: It brings a parameter set that is not the stream's own.
    """
    is_start = False
    for unit in avc.units(sample, configuration.length_bytes):
        kind = avc.kind_of(unit)
        is_start |= kind == avc.IDR
        own = {avc.SEQUENCE_SET: configuration.sequence_sets, avc.PICTURE_SET: configuration.picture_sets}
        if kind in own and unit.rstrip(b"\0") not in {known.rstrip(b"\0") for known in own[kind]}:
            raise Unsuited("parameter_sets_change")
    return is_start


def _kept(path: Path, sample: StoredSample) -> Placed:
    return Placed(path, sample.offset_bytes, sample.size_bytes, sample.dts, sample.pts, sample.is_sync)


def _with_configuration(entry: bytes, configuration: avc.Configuration) -> bytes:
    """A sample entry with another ``avcC``, and of its other boxes those that say how pictures are shown."""
    fixed, inner = entry[8 : 8 + VISUAL_ENTRY_BYTES], entry[8 + VISUAL_ENTRY_BYTES :]
    others = [
        box(kind.encode("latin-1"), bytes(body)) for kind, body in boxes.children(inner) if kind in KEPT_BOXES
    ]
    return box(b"avc1", fixed, box(b"avcC", configuration.to_bytes()), *others)
