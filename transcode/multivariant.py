"""The playlist that offers every rung of some footage: what a player chooses from.

Source: RFC 8216bis, section 4.4.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evidence.errors import NotFound
from transcode.captions import CaptionTrack
from transcode.playlist import HLS_VERSION, Part, keyframe_runs, quotable, shown_runs


@dataclass(frozen=True)
class Variant:
    """One rung in a multivariant playlist."""

    url: str
    peak_bitrate_bps: int
    bitrate_bps: int
    codecs: str
    width_px: int = 0
    height_px: int = 0
    is_of_keyframes: bool = False
    is_independent: bool = False
    """Each of its segments can be decoded by itself, those that will come too."""
    captions: CaptionTrack | None = None
    """What is read beside it."""

    @classmethod
    def of(cls, url: str, *parts: Part) -> Variant:
        """Of the parts that its playlist has: the rates of the densest, the codecs of each."""
        indexes = [part.index for part in parts]
        main = max((index.main for index in indexes), key=lambda track: track.height_px)
        return cls(
            url,
            max(index.peak_bitrate_bps for index in indexes),
            max(index.bitrate_bps for index in indexes),
            _together(codec for index in indexes for codec in index.codecs.split(",")),
            main.width_px,
            main.height_px,
            is_independent=all(
                run.is_independent and not part.is_copied for part in parts for run in shown_runs(part, None)
            ),
        )

    @classmethod
    def of_keyframes(cls, url: str, *parts: Part) -> Variant | None:
        """The same of its I-frame playlist; None where a part has none, or none yet of a known length."""
        listed = [keyframe_runs(part) for part in parts]
        if not listed or not all(listed):
            return None
        runs = [run for found in listed for run in found]
        length, size = sum(run.duration for run in runs), sum(run.size_bytes for run in runs)
        main = max((part.index.main for part in parts), key=lambda track: track.height_px)
        codecs = _together(part.index.main.codec for part in parts)
        peak = max(run.peak_bitrate_bps for run in runs)
        return cls(url, peak, int(size * 8 / length), codecs, main.width_px, main.height_px, True, True)


def multivariant_playlist(variants: Sequence[Variant]) -> str:
    """The playlist that offers every rung, the most modest first.

    Raises:
        NotFound: There is no rendition yet.
    """
    if not variants:
        raise NotFound("renditions: expected at least one, found none yet", code="rendition_missing")
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{HLS_VERSION}"]
    if all(variant.is_independent for variant in variants):
        lines.append("#EXT-X-INDEPENDENT-SEGMENTS")
    ordered = sorted(variants, key=lambda each: (each.is_of_keyframes, each.peak_bitrate_bps))
    lines += [each.captions.line for each in ordered if each.captions is not None]
    for variant in ordered:
        attributes = [
            f"BANDWIDTH={max(1, variant.peak_bitrate_bps)}",
            f"AVERAGE-BANDWIDTH={max(1, variant.bitrate_bps)}",
            f'CODECS="{variant.codecs}"',
        ]
        if variant.width_px:
            attributes.append(f"RESOLUTION={variant.width_px}x{variant.height_px}")
        if variant.is_of_keyframes:
            attributes.append(f'URI="{quotable(variant.url)}"')
            lines.append(f"#EXT-X-I-FRAME-STREAM-INF:{','.join(attributes)}")
        else:
            if variant.captions is not None:
                attributes.append(f'SUBTITLES="{variant.captions.group}"')
            lines += [f"#EXT-X-STREAM-INF:{','.join(attributes)}", quotable(variant.url)]
    return "\n".join(lines) + "\n"


def _together(codecs: Iterable[str]) -> str:
    return ",".join(dict.fromkeys(codecs))
