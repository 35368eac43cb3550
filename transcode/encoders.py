"""Encoders of pictures: x264, and those of graphics processors, told the same thing in their own words.

Whichever encodes, a rung is H.264 High, 8 bit 4:2:0, in closed groups that begin where `transcode.plan`
forces them and nowhere else, of the quality of its ``crf`` and not above its ``max_kbps`` for long. Pictures
are decoded and scaled by the processor: only the encoder changes.

Data alone: `transcode.encoder_trial` finds out what a machine has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transcode.ladder import Rung

BUFFER_S = 2
"""Over how long a rung may exceed its bitrate."""
# Frame threads shape what x264 writes; a fixed number keeps its bytes the same on every machine.
ENCODER_THREADS = 4
NO_KEYFRAMES_OF_ITS_OWN = 100_000
"""After so many pictures an encoder would set a keyframe by itself; one is forced long before."""


@dataclass(frozen=True)
class Encoder:
    """One encoder of FFmpeg."""

    name: str
    """As the settings call it."""
    codec: str
    """As FFmpeg calls it."""
    coding: Callable[[Rung], Mapping[str, Any]]
    """What it is told of a rung."""
    pixels: str = "yuv420p"
    """The layout it takes 8 bit of 4:2:0 in."""
    device: str | None = None
    """Kind of FFmpeg's device that it lives on, where one has to be named."""
    is_uploaded_to: bool = False
    """Whether pictures have to be brought to the device by a filter."""

    @property
    def is_hardware(self) -> bool:
        return self.codec != "libx264"

    def options(self, rung: Rung) -> dict[str, Any]:
        """Of the output, for FFmpeg."""
        return {"c:v": self.codec, "profile:v": "high", "g": NO_KEYFRAMES_OF_ITS_OWN, **self.coding(rung)}

    def tail(self, picture: Any) -> Any:
        """The scaled picture as it takes it."""
        picture = picture.filter("format", self.pixels)
        return picture.filter("hwupload") if self.is_uploaded_to else picture

    def opening(self, render_node: str | None) -> list[str]:
        """Arguments before all others that open the device."""
        if self.device is None:
            return []
        where = {"vaapi": f":{render_node}", "qsv": f",child_device={render_node}"}[self.device]
        named = f"{self.device}=gpu{where if render_node else ''}"
        return ["-init_hw_device", named, "-filter_hw_device", "gpu"]


def _capped(rung: Rung) -> dict[str, str]:
    if rung.max_kbps is None:
        return {}
    return {"maxrate:v": f"{rung.max_kbps}k", "bufsize:v": f"{rung.max_kbps * BUFFER_S}k"}


def _aimed(rung: Rung) -> dict[str, str]:
    """For those that keep a quality under a limit only beside an average; it is what they may come to."""
    return {} if rung.max_kbps is None else {**_capped(rung), "b:v": f"{rung.max_kbps * 3 // 4}k"}


def _x264(rung: Rung) -> dict[str, Any]:
    return {
        "preset": rung.preset,
        "crf": rung.crf,
        **_capped(rung),
        # A reordered picture is decoded before it is shown, and players that are fed by fragments go by that.
        "bf": 0,
        "threads:v": ENCODER_THREADS,
        "x264-params": "open-gop=0:scenecut=0",
    }


def _nvenc(rung: Rung) -> dict[str, Any]:
    return {
        "preset": "p4",
        "rc": "vbr",
        # 0 would leave the choice to it.
        "cq": max(1, rung.crf),
        "b:v": 0,
        **_capped(rung),
        "bf": 0,
        "rc-lookahead": 0,
        "no-scenecut": 1,
        "forced-idr": 1,
    }


def _qsv(rung: Rung) -> dict[str, Any]:
    return {
        "preset": "veryfast",
        "global_quality:v": max(1, rung.crf),
        **_aimed(rung),
        "bf": 0,
        # It counts in 16 bits.
        "g": 60_000,
        "adaptive_i": 0,
        "adaptive_b": 0,
        "forced_idr": 1,
    }


def _vaapi(rung: Rung) -> dict[str, Any]:
    return {
        "rc_mode": "CQP" if rung.max_kbps is None else "QVBR",
        "global_quality:v": max(1, rung.crf),
        **_aimed(rung),
        "bf": 0,
        "idr_interval": 0,
        "sei": 0,
    }


def _amf(rung: Rung) -> dict[str, Any]:
    kept = {"rc": "cqp", "qp_i": rung.crf, "qp_p": rung.crf}
    if rung.max_kbps is not None:
        kept = {"rc": "qvbr", "qvbr_quality_level": max(1, rung.crf), **_aimed(rung)}
    return {"usage": "transcoding", "quality": "balanced", **kept, "bf": 0, "forced_idr": 1}


SOFTWARE = Encoder("software", "libx264", _x264)
HARDWARE = (
    Encoder("nvenc", "h264_nvenc", _nvenc),
    Encoder("qsv", "h264_qsv", _qsv, pixels="nv12", device="qsv"),
    Encoder("vaapi", "h264_vaapi", _vaapi, pixels="nv12", device="vaapi", is_uploaded_to=True),
    Encoder("amf", "h264_amf", _amf, pixels="nv12"),
)
"""In the order in which ``auto`` tries them."""
ENCODERS = {encoder.name: encoder for encoder in (SOFTWARE, *HARDWARE)}
