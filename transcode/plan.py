"""FFmpeg command lines as data: what to run for the rungs of a recording.

Nothing runs here. `media.run` executes the arguments; paths stand in them as they are handed in.

One command decodes once and feeds every rung: the picture is split, each branch scaled and encoded into a
file of its own. The encoders start their groups of pictures at the same instants of the source's clock, so
players may change rungs at any of them. What a rung holds does not depend on which others are made with it.
The smallest has a head start: the others get each picture only when a later one has been decoded, so its
first segment does not wait for encoders that take the processors. It is always made by x264, whose bytes
are the same each time: what was shown of it stays so, whatever becomes of a job. The others may be of
hardware (`transcode.encoders`).

Every rendition is a fragmented MP4: a fragment per group of pictures, none shorter than a second,
none longer than 15, so that a stream without keyframes does not pile up in memory. Nothing of the
source follows but picture and sound: no tags, chapters, data streams, covers or subtitles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Any

import ffmpeg

from config.settings import EncodingSettings
from media import formats
from media.reordering import QUARTERS
from media.report import ProbeReport, StreamReport
from transcode.encoders import SOFTWARE, Encoder
from transcode.ladder import SHIPPED, Rung, ladder

KEYFRAME_EVERY_S = 2
MIN_FRAGMENT_US = 1_000_000
MAX_FRAGMENT_US = 15_000_000
AUDIO_FRAGMENT_US = 2_000_000
AUDIO_RATE_HZ = 48_000
AUDIO_KBPS_PER_CHANNEL = 64
CHUNK, SOUND, PREVIEW = PIECES = ("chunk", "sound", "preview")
"""What a long recording is made in: kinds of jobs and of derivatives, until its renditions are there."""
CLOCK_START_S = 10
"""Chunks and their sound are laid on the source's clock, later by this, so that none of it is negative."""
# What x264 looks at beyond a group of pictures before it writes it, and what its threads hold.
LOOKAHEAD_FRAMES = {"faster": 20, "fast": 30, "medium": 40}
LEAST_LOOKAHEAD_FRAMES, HELD_FRAMES = 10, 10
HELD_MAX_BYTES = 512 << 20
"""How much of decoded pictures may wait for the encoders of the larger rungs."""
# delay_moov: the edit lists are complete when they are resolved (media.growing).
MOVFLAGS = "+frag_keyframe+empty_moov+delay_moov+default_base_moof+skip_trailer"
# FFmpeg's muxer doubles a time scale until it is as fine.
LEAST_TIMESCALE = 10_000
# Codecs in which a packet of the demuxer is one picture, no more and no less.
FRAME_PER_PACKET = {"h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "h263", "msmpeg4v3", "dvvideo"}


@dataclass(frozen=True)
class Cut:
    """A span of the source's own clock, the end not included; each picture lies in one of them."""

    from_pts: int
    to_pts: int
    seek: float | None
    """Seconds of that clock from which decoding starts, well before the span; None: from the beginning."""

    @property
    def span(self) -> tuple[int, int]:
        return self.from_pts, self.to_pts


@dataclass(frozen=True)
class RenditionPlan:
    """One rendition: how it is made and what must come out of it."""

    rung: Rung
    picture: int | None
    """Index of the source's stream; None where there is sound only."""
    sound: int | None
    is_interlaced: bool
    options: Mapping[str, Any]
    """Of the output, for FFmpeg."""
    expected_frames: int | None
    """Pictures of the rendition, packets where there is sound only; None when it cannot be told."""
    expected_duration: Fraction | None
    tolerance: Fraction
    """How much the duration may differ: one frame, and a tick for rounding."""
    head_start: Fraction = Fraction(0)
    """By how many seconds of footage the smallest rung of a command is ahead of the others."""
    cut: Cut | None = None
    """None: all of the source."""
    is_piece: bool = False
    """It is held against its source when it is joined; until then its duration only tells progress."""
    longest_picture: Fraction | None = None
    """How long one stands at most; None: only a header was read."""
    encoder: Encoder = SOFTWARE
    """Of its picture, where that is encoded."""
    is_reordered: bool = False
    """Pictures are copied in another order than that in which they are shown (`media.reordering`)."""
    lead: Fraction = Fraction(0)
    """By how many seconds its first picture stands before its time, because sound begins there."""
    is_smallest: bool = False
    """Of those that are encoded: whoever makes it, its bytes are x264's."""

    @property
    def is_hardware(self) -> bool:
        """Whether its bytes are not the same each time, so that nobody may watch it grow."""
        return _encodes(self) and self.encoder.is_hardware

    @property
    def codec(self) -> str:
        """What makes its picture, or its sound without one, as FFmpeg calls it; ``copy``: nothing."""
        return str(self.options["c:a" if self.picture is None else "c:v"])

    @property
    def segment_limit_s(self) -> int:
        """No fragment of it is longer: what a player may be told before there is any."""
        if self.rung.copies_video or (self.picture is not None and self.longest_picture is None):
            return MAX_FRAGMENT_US // 1_000_000 + 1
        # A group begins at the first picture of each two seconds, and none of less than one stands alone.
        group_s = KEYFRAME_EVERY_S + Fraction(MIN_FRAGMENT_US, 1_000_000) + (self.longest_picture or 1)
        return ceil(group_s)

    def params(self) -> dict[str, Any]:
        """What the result depends on beside the source, for its parameters digest."""
        return {"rung": asdict(self.rung), "arguments": command([self], "{source}", ["{destination}"])}


def plan_renditions(
    report: ProbeReport,
    policy: EncodingSettings = SHIPPED,
    *,
    may_copy: bool = True,
    encoder: Encoder = SOFTWARE,
) -> tuple[RenditionPlan, ...]:
    """The renditions of a recording, in the order in which they should be made.

    Args:
        report: What probing found; a report of depth ``header`` will do for a copy.
        policy: Which rungs there are.
        may_copy: False after a copy turned out to differ from its source.
        encoder: Of all rungs but the smallest that is encoded.

    Returns:
        Empty when nothing of it decodes, and for photos (`transcode.stills`).
    """
    rungs = ladder(report, policy, may_copy=may_copy)
    smallest = next((rung for rung in rungs if not rung.is_copy), None)
    return tuple(
        replace(_plan(report, rung, SOFTWARE if rung is smallest else encoder), is_smallest=rung is smallest)
        for rung in rungs
    )


def command(
    plans: Sequence[RenditionPlan],
    source: str,
    destinations: Sequence[str],
    *,
    render_node: str | None = None,
) -> list[str]:
    """Arguments for ``ffmpeg`` that make all of ``plans`` in one go.

    Args:
        plans: Renditions of one source, the smallest first.
        source: Path of the original.
        destinations: A path for each of ``plans``.
        render_node: The graphics processor, where there are several.
    """
    is_copy = any(plan.rung.copies_video for plan in plans)
    cut = plans[0].cut
    opened = ffmpeg.input(f"file:{source}", **input_options(is_copy=is_copy), **_sought(cut))
    branches = _branches(opened, [plan for plan in plans if _encodes(plan)])
    outputs = []
    for plan, destination in zip(plans, destinations, strict=True):
        streams = []
        if plan.picture is not None:
            streams.append(branches.pop(0) if _encodes(plan) else opened[str(plan.picture)])
        if plan.sound is not None:
            streams.append(opened[str(plan.sound)])
        outputs.append(ffmpeg.output(*streams, f"file:{destination}", **plan.options))
    arguments: list[str] = ffmpeg.merge_outputs(*outputs).overwrite_output().get_args()
    opening = next((plan.encoder.opening(render_node) for plan in plans if plan.is_hardware), [])
    return [*opening, *arguments]


def trial_command(
    encoder: Encoder, rung: Rung, seconds: int, destination: str, *, render_node: str | None
) -> list[str]:
    """Arguments that encode ``seconds`` of drawn pictures, five each, as a rung would be."""
    drawn = ffmpeg.input(f"testsrc2=s={rung.width_px}x{rung.height_px}:r=5:d={seconds}", f="lavfi")
    bare = _without(_bare(), {"flags:a": None})
    options = {**_container(has_picture=True), **bare, **_encoded_video(rung, encoder)}
    output = ffmpeg.output(_scaled(drawn["0"], rung, encoder), f"file:{destination}", **options)
    return [*encoder.opening(render_node), *output.overwrite_output().get_args()]


def chunk_plan(plan: RenditionPlan, cut: Cut, time_base: Fraction) -> RenditionPlan:
    """The picture of a rung between two instants of the source's clock."""
    # What stands before its time does so once the chunks are joined.
    options = _without(plan.options, _copied_audio(), _encoded_audio(0), {"bsf:v": None})
    # The delay of the first picture is written in this unit: ticks, so that it is exact.
    options |= {"movie_timescale": time_base.denominator, "copyts": None}
    length = (cut.to_pts - cut.from_pts) * time_base
    return _unchecked(replace(plan, sound=None, options=options, cut=cut), length)


def clock_start_s(report: ProbeReport) -> int:
    """How much later the clock of its chunks is than the source's, which after a wrap begins below zero."""
    first = min(each.start_time for each in (report.video, report.audio) if each is not None)
    return CLOCK_START_S + max(0, ceil(-first))


def sound_plan(plan: RenditionPlan, report: ProbeReport) -> RenditionPlan:
    """The sound of a rung, whole, on the clock of the chunks."""
    audio = report.audio
    assert audio is not None  # noqa: S101 - it is asked for where there is sound
    picture = {**_encoded_video(replace(plan.rung, max_kbps=1), plan.encoder), "bsf:v": None}
    options = _without(plan.options, picture)
    rate = options.get("ar") or audio.sample_rate_hz or AUDIO_RATE_HZ
    options |= {"movie_timescale": rate, "copyts": None, "output_ts_offset": clock_start_s(report)}
    rung = Rung(SOUND, copies_audio=plan.rung.copies_audio)
    return _unchecked(replace(plan, rung=rung, picture=None, options=options), plan.expected_duration)


def preview_plan(plan: RenditionPlan, cut: Cut, time_base: Fraction) -> RenditionPlan:
    """A rung with its sound as far as the first chunk goes, to be watched while the chunks are made."""
    length = (cut.to_pts - cut.from_pts) * time_base
    rung, options = replace(plan.rung, name=PREVIEW), {**plan.options, "t": float(length)}
    return _unchecked(replace(plan, rung=rung, options=options), length)


def _unchecked(plan: RenditionPlan, length: Fraction | None) -> RenditionPlan:
    return replace(plan, expected_frames=None, expected_duration=length, is_piece=True)


def _without(options: Mapping[str, Any], *left_out: Mapping[str, Any]) -> dict[str, Any]:
    names = {name for group in left_out for name in group}
    return {name: value for name, value in options.items() if name not in names}


def join_command(
    plan: RenditionPlan, picture: str, sound: str, destination: str, *, start: Fraction
) -> list[str]:
    """Arguments that put joined pictures and their sound, both on one clock, into one file.

    Args:
        plan: Of the rung.
        start: Seconds on that clock which become 0.
    """
    streams = [ffmpeg.input(f"file:{picture}")["v"], ffmpeg.input(f"file:{sound}")["a"]]
    options = {
        **{name: plan.options[name] for name in (*_container(has_picture=True), *_bare())},
        **_copied_video(),
    }
    options |= {"c:a": "copy", "copyts": None, "output_ts_offset": f"{float(-start):.6f}"}
    if plan.lead:
        options["bsf:v"] = _early(plan.lead)[0]
    arguments: list[str] = (
        ffmpeg.output(*streams, f"file:{destination}", **options).overwrite_output().get_args()
    )
    return arguments


def _sought(cut: Cut | None) -> dict[str, Any]:
    if cut is None or cut.seek is None:
        return {}
    # All that is decoded from the keyframe on reaches the filter that trims, by the source's own clock.
    return {"seek_timestamp": 1, "noaccurate_seek": None, "ss": f"{cut.seek:.6f}"}


def _encodes(plan: RenditionPlan) -> bool:
    return plan.picture is not None and not plan.rung.copies_video


def _branches(opened: Any, plans: Sequence[RenditionPlan]) -> list[Any]:
    """The decoded picture, scaled for each of ``plans``."""
    if not plans:
        return []
    picture = opened[str(plans[0].picture)]
    cut = plans[0].cut
    if cut is not None:
        picture = picture.filter("trim", start_pts=cut.from_pts, end_pts=cut.to_pts)
        picture = picture.filter("setpts", f"PTS-{cut.from_pts}")
    if plans[0].is_interlaced:
        picture = picture.filter("yadif", mode="send_frame", deint="interlaced")
    first, *others = plans
    if others and first.cut is None and first.head_start:
        parts = picture.filter_multi_output("split", 3)
        larger = held_back(parts[1], parts[2], first.head_start)
        shares = larger.filter_multi_output("split", len(others))
        pictures = [parts[0], *(shares[number] for number in range(len(others)))]
    else:
        shares = picture.filter_multi_output("split", len(plans))
        pictures = [shares[number] for number in range(len(plans))]
    return [_scaled(each, plan.rung, plan.encoder) for each, plan in zip(pictures, plans, strict=True)]


def held_back(picture: Any, ahead: Any, by: Fraction) -> Any:
    """The pictures as they are, each once the one ``by`` seconds later has been decoded.

    A scaler whose size is told by a second stream gives out a picture when that stream has come as far; here
    it is the same stream by an earlier clock, and the size is the picture's own. Once the clock of the source
    has gone back, pictures might wait for a time that does not come: from then on none is held.
    """
    went_back = "if(lt(PTS,PREV_INPTS),st(0,1))"
    ahead = ahead.filter("setpts", f"0*{went_back}+if(ld(0),1e15,PTS-{float(by):.6f}/TB)")
    # One picture of that distant time will do; more would only be kept.
    ahead = ahead.filter("select", "lt(pts,1e15)+lt(prev_selected_pts,1e15)")
    return ffmpeg.filter([picture, ahead], "scale", "iw+0*rw", "ih")


def _scaled(picture: Any, rung: Rung, encoder: Encoder) -> Any:
    scaled = picture.filter("scale", rung.width_px, rung.height_px, flags="bicubic", out_range="tv")
    return encoder.tail(scaled.filter("setsar", 1))


def _plan(report: ProbeReport, rung: Rung, encoder: Encoder) -> RenditionPlan:
    video, audio = report.video, report.audio
    main = video or audio
    assert main is not None  # noqa: S101 - a rung is only there when something decodes
    options: dict[str, Any] = {**_container(has_picture=video is not None), **_bare()}
    is_reordered = video is not None and rung.copies_video and _can_be_marked(video)
    if video is not None:
        options |= _copied_video() if rung.copies_video else _encoded_video(rung, encoder)
        filters = [*_early(report.lead), *(_marks(video.time_base_fraction) if is_reordered else ())]
        if filters:
            # Of packets, for a filter of pictures begins to count anew where the source changes its shape.
            options["bsf:v"] = ",".join(filters)
        if is_reordered:
            # What an edit list says is said in the same ticks, so that it is exact.
            options["movie_timescale"] = _timescale(video.time_base_fraction)
    if audio is not None:
        options |= _copied_audio() if rung.copies_audio else _encoded_audio(audio.channels)
    frame = main.frame_duration if video is not None else _audio_frame(main)
    return RenditionPlan(
        rung=rung,
        picture=None if video is None else video.index,
        sound=None if audio is None else audio.index,
        is_interlaced=video is not None and video.is_interlaced,
        options=options,
        expected_frames=_expected_frames(main, rung) if video is not None else None,
        expected_duration=Fraction(main.duration_us, 1_000_000) + report.lead if main.duration_us else None,
        tolerance=frame + Fraction(1, 1000),
        head_start=Fraction(0) if video is None else _head_start(video, rung),
        longest_picture=video.longest_step * video.time_base_fraction + report.lead
        if video and video.longest_step
        else None,
        encoder=encoder,
        is_reordered=is_reordered,
        lead=report.lead,
    )


def _head_start(video: StreamReport, rung: Rung) -> Fraction:
    """Seconds that hold what an encoder reads to write its first group of pictures.

    Very large pictures get less than that, so that they do not fill the memory.
    """
    frames = LOOKAHEAD_FRAMES.get(rung.preset, LEAST_LOOKAHEAD_FRAMES) + HELD_FRAMES
    halves_per_pixel = 3 if video.pix_fmt in {"yuv420p", "yuvj420p"} else 8  # 10 bits of 4:2:2 at the most.
    held = 2 * HELD_MAX_BYTES // max(1, video.width_px * video.height_px * halves_per_pixel)
    return min(KEYFRAME_EVERY_S + frames * video.frame_duration, held * video.frame_duration)


def input_options(*, is_copy: bool = False) -> dict[str, Any]:
    """Options before every ``-i``: whitelists, and a limit on pictures that headers do not show.

    A packet that was cut off is not copied: a browser stops at it, while a decoder here conceals it.
    """
    flags = "+genpts+discardcorrupt" if is_copy else "+genpts"
    return {**formats.whitelist_options(), "max_pixels": formats.MAX_PICTURE_PX, "fflags": flags}


def _container(*, has_picture: bool) -> dict[str, Any]:
    longest = MAX_FRAGMENT_US if has_picture else AUDIO_FRAGMENT_US
    return {
        "f": "mp4",
        "movflags": MOVFLAGS,
        "min_frag_duration": MIN_FRAGMENT_US,
        "frag_duration": longest,
        "flush_packets": 1,
        "max_muxing_queue_size": 4096,
    }


def _bare() -> dict[str, Any]:
    """Nothing but picture and sound, and nothing of the encoder's name or the hour."""
    return {
        "map_metadata": -1,
        "map_chapters": -1,
        "dn": None,
        "sn": None,
        "fflags": "+bitexact",
        "flags:v": "+bitexact",
        "flags:a": "+bitexact",
    }


def _copied_video() -> dict[str, Any]:
    # Frames before the first keyframe count too; ladder.can_copy_video refuses sources that start so.
    return {"c:v": "copy", "copyinkf:v": None}


def _can_be_marked(video: StreamReport) -> bool:
    # A muxer's time scale has 31 bits.
    return video.is_reordered and video.time_base_fraction.denominator * QUARTERS < 1 << 31


def _ticks(seconds: Fraction) -> str:
    """For FFmpeg, in whatever it counts there."""
    return f"round({seconds.numerator}/{seconds.denominator}/TB)"


def _early(lead: Fraction) -> list[str]:
    """Filters of packets by which the first picture stands so many seconds before its time."""
    ticks = _ticks(lead)
    return [f"setts=pts=PTS-{ticks}*not(N):dts=DTS-{ticks}*not(N)"] if lead else []


def _timescale(time_base: Fraction) -> int:
    """Ticks so fine that the muxer has no reason to multiply them."""
    fineness = QUARTERS
    while time_base.denominator * fineness < LEAST_TIMESCALE:
        fineness *= 2
    return time_base.denominator * fineness


def _marks(time_base: Fraction) -> list[str]:
    """Filters of packets by which times are as `media.reordering` expects them."""
    late = "+(STARTPTS-STARTDTS)"
    moved = f"setts=pts=PTS{late}:dts=DTS{late}:time_base=1/{_timescale(time_base)}"
    return [moved, "setts=pts=PTS:dts=DTS-(N-2*floor(N/2))"]


def _encoded_video(rung: Rung, encoder: Encoder) -> dict[str, Any]:
    return {
        **encoder.options(rung),
        # The source's own clock, frame by frame: nothing is dropped or doubled to please a rate.
        "fps_mode:v": "passthrough",
        "enc_time_base:v": "demux",
        "force_key_frames": f"expr:gte(t,n_forced*{KEYFRAME_EVERY_S})",
    }


def _copied_audio() -> dict[str, Any]:
    return {"c:a": "copy", "bsf:a": "aac_adtstoasc"}


def _encoded_audio(channels: int) -> dict[str, Any]:
    kept = min(max(channels, 1), 2)
    return {
        "c:a": "aac",
        "b:a": f"{AUDIO_KBPS_PER_CHANNEL * kept}k",
        "ar": AUDIO_RATE_HZ,
        "ac": kept,
        # A gap in the sound stays a gap: silence is put in, nothing is pulled together.
        "filter:a": "aresample=async=1",
    }


def _expected_frames(main: StreamReport, rung: Rung) -> int | None:
    if main.packet_count is None:
        return main.declared_frame_count
    if rung.copies_video:
        return main.packet_count - main.corrupt_count
    if main.decode_coverage == "full":
        return main.decoded_frames
    return main.packet_count if main.codec in FRAME_PER_PACKET else None


def _audio_frame(audio: StreamReport) -> Fraction:
    # Priming and the last, partly filled frame of 1024 samples, at either rate.
    rate = min(AUDIO_RATE_HZ, audio.sample_rate_hz or AUDIO_RATE_HZ)
    return Fraction(3 * 1024, rate)
