"""`liuhen redaction score`: how well faces and plates are found and hidden, on clips whose truth is known."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cli.options import Branch
from cli.progress import Meter
from cli.shell import Parser, add_json, print_json, print_table, settings_of
from evidence.errors import InvalidInput, NotFound
from media import sandbox
from media.hazards import HAZARDS, make_hazard
from redaction.models import load_model
from redaction.score import Score, truth_beside

LIMITS = sandbox.Limits(cpu_s=4 * 3600, wall_s=4 * 3600, niceness=0)
HEADS = (
    "影像 clip",
    "帧 frames",
    "须遮 must",
    "≥60%",
    "≥95%",
    "难 hard ≥60%",
    "裸露人 bare",
    "最长裸露帧 longest",
    "多遮 over-masked",
    "CPU 秒/分 s/min",
)


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    scoring = branch.add("score", "对照真值评分 / score against clips whose truth is known", _score)
    scoring.add_argument(
        "folder",
        metavar="DIR",
        type=Path,
        nargs="?",
        help="影像目录,真值为旁边的 NAME.faces.json、NAME.plates.json / clips with their truth beside them",
    )
    scoring.add_argument(
        "--hazards",
        action="store_true",
        help="另评生成的难例 / also generated footage on which masks tend to fail",
    )
    scoring.add_argument(
        "--only", metavar="NAME", action="append", help="只评这些,可重复 / only these clips; repeatable"
    )
    scoring.add_argument(
        "--parameter",
        metavar="NAME=N",
        action="append",
        default=[],
        help="检测与跟踪的参数,可重复 / a parameter of looking or tracking; repeatable",
    )
    add_json(scoring)


def _score(options: argparse.Namespace) -> int:
    if options.folder is None and not options.hazards:
        raise InvalidInput("redaction score: expected DIR or --hazards, found neither", code="option_invalid")
    settings = settings_of(options)
    models_dir = settings.redaction.models_dir.resolve()
    for name in settings.redaction.models_in_use():
        load_model(models_dir, name)
    request = {
        "item_id": "score",
        "models_dir": str(models_dir),
        "threads": settings.redaction.threads,
        "parameters": {**settings.redaction.as_parameters(), **_parameters(options.parameter)},
        "own_models": settings.redaction.own_as_parameters(),
    }
    rows: list[tuple[str, str, Score]] = []
    with tempfile.TemporaryDirectory() as made:
        scratch = Path(made)
        found = list(_clips(options, models_dir.parent / "samples" / "astronaut.png", scratch))
        if not found:
            raise NotFound(
                f"{options.folder}: expected clips with NAME.faces.json or NAME.plates.json beside them, "
                "found none",
                code="no_files",
            )
        for kind, name, clip in found:
            rows.append((kind, name, _one(clip, request, scratch, name)))
    sums: dict[str, Score] = {}
    for kind, _, score in rows:
        sums.setdefault(kind, Score()).add(score)
    if options.json:
        print_json(
            {
                "parameters": request["parameters"],
                "clips": [{"set": kind, "clip": name, **score.to_json()} for kind, name, score in rows],
                "sums": {kind: score.to_json() for kind, score in sums.items()},
            }
        )
    else:
        lines = [_line(name, score) for _, name, score in rows]
        print_table(HEADS, [*lines, *(_line(f"合计 all {kind}", score) for kind, score in sums.items())])
    return 0


def _clips(options: argparse.Namespace, portrait: Path, scratch: Path) -> Iterator[tuple[str, str, Path]]:
    """Set, name and path of each clip to score; generated ones are made as they are asked for."""
    wanted = set(options.only or ())
    if options.folder is not None:
        # Whatever has truth beside it and is no truth itself.
        for path in sorted(options.folder.iterdir()):
            if path.suffix != ".json" and truth_beside(path) and (not wanted or path.stem in wanted):
                yield "clips", path.stem, path
    if options.hazards:
        if not portrait.is_file():
            raise NotFound(f"{portrait}: expected the sample picture, found none; run `make setup`")
        for hazard in HAZARDS:
            if not wanted or hazard.name in wanted:
                yield "hazards", hazard.shows, make_hazard(hazard, portrait, scratch)


def _one(clip: Path, request: dict[str, Any], scratch: Path, name: str) -> Score:
    asked = {
        **request,
        "source": str(clip.resolve()),
        "truth": [str(path.resolve()) for path in truth_beside(clip)],
        "destination": str((scratch / "plan.json").resolve()),
    }
    with Meter(name, 1) as meter:
        answer = sandbox.call(
            "redaction.score:score_entry", asked, limits=LIMITS, on_progress=meter.to, scratch=scratch
        )
    return Score.from_json(answer)


def _parameters(words: list[str]) -> dict[str, int]:
    found = {}
    for word in words:
        name, _, number = word.partition("=")
        if not number.isdecimal():
            raise InvalidInput(f"--parameter: expected NAME=N, found {word[:60]!r}", code="option_invalid")
        found[name] = int(number)
    return found


def _line(name: str, score: Score) -> tuple[str, ...]:
    def share(part: float | None) -> str:
        return "-" if part is None else f"{part:.1%}"

    return (
        name,
        str(score.frames),
        str(score.must),
        share(score.recall),
        share(score.recall_95),
        share(score.hard_covered / score.hard if score.hard else None),
        f"{score.persons_bare}/{score.persons}" if score.persons else "-",
        str(score.longest_bare_frames) if score.persons else "-",
        f"{score.over_masked:.1%}",
        f"{score.cpu_s_per_min:.0f}",
    )
