"""What a check of a redacted rendition can find, in words for people, and the report it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redaction.plan import RedactionPlan

FINDINGS_MAX = 10_000
TOLD_MAX = 50
SECOND_US = 1_000_000

REASONS = {
    "container_unreadable": ("容器结构无法读取", "the container cannot be read"),
    "box_not_allowed": ("容器中有不允许的盒", "the container holds a box that is not allowed"),
    "name_in_container": ("容器中留有名称或时间", "the container holds a name or a time of making"),
    "bytes_between_samples": ("媒体数据中有不属于任何样本的字节", "media data holds bytes of no sample"),
    "unit_not_allowed": ("视频码流含有切片以外的单元", "the video stream holds units other than slices"),
    "sets_not_allowed": (
        "视频参数集含有不应有的内容",
        "the parameter sets of the video say more than they may",
    ),
    "stream_not_allowed": ("流的数量或类型与渲染来源不符", "the streams are not those of the source"),
    "frames_differ": ("帧数或时间与来源不一致", "frames or their times differ from the source"),
    "frame_unreadable": ("帧无法解码", "a frame cannot be decoded"),
    "mask_missing": ("遮挡区域未被完全覆盖", "a region that should be covered is not"),
    "mask_transparent": ("遮挡之下的画面有所透出", "what a mask hides shows through it"),
    "kept_differs": (
        "未重新编码的画面与来源不一致，或应被遮挡",
        "a picture kept as it was coded is not the source's, or should be masked",
    ),
    "sound_not_replaced": ("应静音的区段仍有声音", "sound that should be replaced is still there"),
    "voice_recognisable": (
        "变声区段仍与原声相似",
        "a voice that was to be made unrecognisable is like the source",
    ),
    "sound_differs": ("未静音的音轨与来源不一致", "sound that was to be kept differs from the source"),
    "sound_carried": (
        "音轨中留有录制设备自己编码的数据包",
        "sound still holds packets as the recorder coded them",
    ),
    "face_left": (
        "另一种检测器在成品中仍看到人脸",
        "another kind of detector sees a face in what was redacted",
    ),
    "picture_size_differs": ("画面尺寸不一致", "the picture has another size"),
}


@dataclass
class Report:
    """What a check found."""

    findings: list[dict[str, object]] = field(default_factory=list)
    finding_count: int = 0
    frame_count: int = 0
    kept_frame_count: int = 0
    """Pictures that were kept as they are coded."""
    region_count: int = 0
    worst_difference: int = 0
    """Largest difference from the fill at least two pixels inside any mask, of 255."""
    looked: dict[str, str] = field(default_factory=dict)
    """Digest of the model that looked for what was left, by family; empty where none did."""
    looked_frame_count: int = 0

    def add(self, code: str, **facts: object) -> None:
        """Note a finding; past a limit they are only counted."""
        self.finding_count += 1
        if len(self.findings) < FINDINGS_MAX:
            zh, en = REASONS[code]
            self.findings.append({"code": code, "zh": zh, "en": en, **facts})

    def to_json(self) -> dict[str, object]:
        return {
            "passed": self.finding_count == 0,
            "finding_count": self.finding_count,
            "findings": self.findings,
            "frame_count": self.frame_count,
            "kept_frame_count": self.kept_frame_count,
            "region_count": self.region_count,
            "worst_difference": self.worst_difference,
            "looked": self.looked,
            "looked_frame_count": self.looked_frame_count,
        }


def told(findings: Sequence[Mapping[str, Any]], plan: RedactionPlan) -> list[dict[str, Any]]:
    """What people are told of findings: each code once a second, with the moment to look at.

    Args:
        findings: Of a report.
        plan: The version that was checked.

    Returns:
        ``code``, ``zh``, ``en`` and ``at_us`` of each (media time; None: of no moment), in the order found,
        `TOLD_MAX` at most.
    """
    first = {track.id: track.keys[0].pts for track in plan.tracks}
    said: dict[tuple[str, int | None], dict[str, Any]] = {}
    for found in findings:
        pts = found.get("pts", first.get(str(found.get("track"))))
        at_us = found.get("at_us") if pts is None else _micros(plan, int(pts))
        second = None if at_us is None else int(at_us) // SECOND_US
        words = {name: found[name] for name in ("code", "zh", "en")}
        said.setdefault((str(found["code"]), second), {**words, "at_us": at_us})
    return list(said.values())[:TOLD_MAX]


def _micros(plan: RedactionPlan, pts: int) -> int:
    """When a picture is shown, up, so that the moment is never of the picture before."""
    if plan.picture is None:
        return pts
    num, den = plan.picture.time_base
    return max(0, -(-(pts - plan.picture.first_pts) * num * SECOND_US // den))
