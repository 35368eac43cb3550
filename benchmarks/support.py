"""What measurements share: options, figures, tables, and where results are kept."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.cells import cell_len

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"


@dataclass
class Figure:
    """One measured thing, beside what it is compared with.

    Attributes:
        peer: Another program's figure for the same work in the same run; None where there is none.
        limit: What the machine or the layer below could do at best; None where there is none.
    """

    ours: float
    unit: str
    peer: float | None = None
    limit: float | None = None
    samples: list[float] = field(default_factory=list)


def whole(name: str, default: int) -> int:
    """An option given as `NAME=value`, which make passes on in the environment."""
    text = os.environ.get(name, "").strip()
    return int(text) if text else default


def machine() -> str:
    """This machine in words."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{model}, {psutil.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def commit() -> str:
    """The commit measured; a plus sign says that files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words],  # noqa: S607 - the git of whoever measures
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")


def write_results(name: str, figures: dict[str, Figure], **more: Any) -> Path:
    """Keep the figures as `benchmarks/results/NAME.json`."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    said = {
        "figures": {key: asdict(figure) for key, figure in figures.items()},
        "machine": machine(),
        "commit": commit(),
        **more,
    }
    path.write_text(json.dumps(said, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return path


def print_figures(figures: dict[str, Figure]) -> None:
    """The table people read."""
    rows = [
        [name, _number(figure.ours), _number(figure.peer), _number(figure.limit), figure.unit]
        for name, figure in figures.items()
    ]
    print_table(["", "ours", "peer", "limit", "unit"], rows)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns that line up, Chinese characters counting two cells."""
    lines = [[str(cell) for cell in line] for line in [columns, *rows]]
    widths = [max(cell_len(line[at]) for line in lines) for at in range(len(columns))]
    for line in lines:
        cells = [text + " " * (width - cell_len(text)) for text, width in zip(line, widths, strict=True)]
        print("  ".join(cells).rstrip())


def percentile(samples: Sequence[float], share: float) -> float:
    """The value that a share of the samples does not exceed."""
    if len(samples) == 1:
        return samples[0]
    return statistics.quantiles(samples, n=1000, method="inclusive")[round(share * 1000) - 1]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.3g}"
