"""What masking has treated and what it has not, in the words that stand beside everything masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

COVERAGE_WORDS: Mapping[str, tuple[str, str]] = {
    "faces": ("人脸", "faces"),
    "plates": ("车牌", "plates"),
    "text": ("文字", "text"),
    "voices": ("语音", "voices"),
}


def split_coverage(said: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """What a plan says is treated, and all else."""
    treated = [name for name in COVERAGE_WORDS if said.get(name) == "treated"]
    return treated, [name for name in COVERAGE_WORDS if name not in treated]


def coverage_in_words(said: Mapping[str, str]) -> tuple[str, str]:
    """The same in Chinese and in English."""
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
