"""What masking has treated and what it has not, in the words that stand beside everything masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

COVERAGE_WORDS: Mapping[str, tuple[str, str]] = {
    "faces": ("人脸", "faces"),
    "plates": ("车牌", "plates"),
    "text": ("文字", "text"),
    "voices": ("语音", "voices"),
}


SOUND_ALONE = "sound_alone"
"""Stands in the coverage of what has no picture, with one of `SOUND_WORDS`."""

SOUND_WORDS: Mapping[str, tuple[str, str]] = {
    "muted": ("录音:整段静音", "Sound alone: muted from beginning to end"),
    "replaced": (
        "录音:整段静音、换为提示音或变声",
        "Sound alone: all of it muted, toned over or made unrecognisable",
    ),
    "partly": (
        "录音:部分静音、换为提示音或变声,其余未处理",
        "Sound alone: muted, toned over or made unrecognisable in parts, untreated elsewhere",
    ),
    "bare": ("录音:未处理", "Sound alone: untreated"),
}


def split_coverage(said: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """What a plan says is treated, and all else; of sound alone its voices, for it shows nothing."""
    if SOUND_ALONE in said:
        is_treated = said[SOUND_ALONE] in {"muted", "replaced"} or said.get("voices") == "treated"
        return (["voices"], []) if is_treated else ([], ["voices"])
    treated = [name for name in COVERAGE_WORDS if said.get(name) == "treated"]
    return treated, [name for name in COVERAGE_WORDS if name not in treated]


def coverage_in_words(said: Mapping[str, str]) -> tuple[str, str]:
    """The same in Chinese and in English."""
    if SOUND_ALONE in said:
        return SOUND_WORDS[said[SOUND_ALONE]]
    treated, untreated = split_coverage(said)
    return (
        f"已处理:{_zh(treated)};未处理:{_zh(untreated)}",
        f"{_en(treated).capitalize()} treated; {_en(untreated)} untreated",
    )


def _zh(names: Sequence[str]) -> str:
    return "、".join(COVERAGE_WORDS[name][0] for name in names) or "无"


def _en(names: Sequence[str]) -> str:
    words = [COVERAGE_WORDS[name][1] for name in names]
    if len(words) > 1:
        return f"{', '.join(words[:-1])} and {words[-1]}"
    return words[0] if words else "nothing"
