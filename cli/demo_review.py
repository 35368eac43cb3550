"""What the demonstration asks of the API, as its accounts: when all is settled, what there is, a clip."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.fetching import POLL_S, download, wait_made
from cli.seat import Json, Seat
from evidence.errors import Unavailable
from media import sandbox
from media.report import ProbeReport

CALM_POLLS = 3
OPEN_STATES = ("ready", "leased")
LIMITS = sandbox.Limits(cpu_s=300, memory_bytes=4 << 30, wall_s=300.0, stall_s=60.0, file_size_bytes=1 << 30)


@dataclass(frozen=True)
class Fetched:
    """A clip on disk, and what it is of."""

    path: Path
    sha256: str
    item: Json
    frame_count: int | None
    duration_us: int | None
    coverage: str


def wait_settled(
    admin: Seat, stop: threading.Event, timeout_s: float, progress: Callable[[int, int, str], None]
) -> None:
    """Wait until no job is left.

    Raises:
        Unavailable: It takes too long, or somebody said stop.
    """
    deadline, calm = time.monotonic() + timeout_s, 0
    while calm < CALM_POLLS:
        counts: dict[str, int] = admin.get("/jobs/counts")["counts"]
        left = sum(counts.get(state, 0) for state in OPEN_STATES)
        total = sum(counts.values())
        progress(total - left, total, f"任务 / jobs {total - left}/{total}")
        calm = calm + 1 if left == 0 and total else 0
        if stop.is_set() or time.monotonic() > deadline:
            raise Unavailable(
                f"pipeline: expected every job done, found {left} of {total} left", code="not_settled"
            )
        stop.wait(POLL_S)


def rows_of(reviewer: Seat) -> list[Json]:
    """Every item with its details, in the order received."""
    listed = sorted(reviewer.pages("/items"), key=lambda item: (str(item["received_at"]), str(item["id"])))
    return [reviewer.get(f"/items/{item['id']}") for item in listed]


def masks_of(legal: Seat, item_id: str) -> int | None:
    """How many things the newest plan of an item hides in its pictures; None where there is no plan.

    Args:
        legal: A seat with the right to all of the original, as what is hidden is told to nobody else.
    """
    versions = legal.get(f"/items/{item_id}/redaction/plans")
    if not versions:
        return None
    shown = legal.get(f"/items/{item_id}/redaction/plans/{versions[-1]['number']}")
    return len(shown["plan"]["tracks"])


def masks_told(masks: Mapping[str, int | None], shows_face: Mapping[str, bool]) -> str:
    """One line: how many masks there are, and how many hide no face, as far as that is known.

    Args:
        masks: By name of the file.
        shows_face: Of the files whose pictures are known; a mask where no face is shown is a false one.
    """
    total = sum(count or 0 for count in masks.values())
    bare = [count or 0 for name, count in masks.items() if shows_face.get(name) is False]
    told = f"遮盖 / masks: {total}"
    if not bare:
        return told
    false = f"; 误遮 / false masks: {sum(bare)} (无人脸的{len(bare)}件 / in {len(bare)} files without a face)"
    return told + false


def table_row(item: Json, masks: int | None) -> tuple[object, ...]:
    """A row of the table people see."""
    facets, facts = item["facets"], item["facts"]
    duration = item["duration_us"]
    cases = [*facts["case_nos"]] or [binding["case_no"] for binding in item["bindings"]]
    return (
        item["original_name"],
        " ".join(dict.fromkeys(cases)),
        "" if duration is None else f"{duration / 1e6:.2f}",
        item["object"]["sha256"][:12],
        facets["custody"],
        facets["media"],
        facets["binding"],
        facets["redaction"],
        masks,
    )


def fetch_clip(
    reviewer: Seat,
    case_no: str,
    item: Json,
    folder: Path,
    *,
    scratch: Path,
    stop: threading.Event,
    timeout_s: float,
) -> Fetched:
    """Ask for the redacted clip of an item by case number; download it and hold it against its digest.

    Args:
        item: As `GET /clips` lists it.
        folder: Where the clip goes.
        scratch: Where the child that reads it may work.

    Raises:
        Unavailable: It was not cut in time.
        FixityError: What came is not what the API says.
    """
    asked = reviewer.post(
        "/clips", {"case_no": case_no, "item_id": item["item_id"], "purpose": "case_handling", "form": "file"}
    )
    made = wait_made(reviewer, f"/clips/{asked['clip_id']}", asked, wait=stop.wait, timeout_s=timeout_s)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_safe(item['original_name'])}-redacted.mp4"
    download(reviewer, made, path)
    frame_count, duration_us = _measured(path, scratch)
    return Fetched(path, str(made["sha256"]), item, frame_count, duration_us, str(item["coverage"]["zh"]))


def _safe(name: str) -> str:
    """The part of a name that may be part of a path here: nobody's slashes, dots or line ends."""
    stem = Path(name).stem
    return "".join(char if char.isalnum() or char in "-_" else "_" for char in stem)[:80] or "clip"


def _measured(path: Path, scratch: Path) -> tuple[int | None, int | None]:
    """Frames and length of what was downloaded, read in a child like any footage."""
    request: dict[str, object] = {"path": str(path.resolve()), "name": path.name, "depth": "packets"}
    report = ProbeReport.from_json(
        sandbox.call("media.probe:probe_entry", request, limits=LIMITS, scratch=scratch)
    )
    if report.video is None:
        return None, report.duration_us
    return report.video.packet_count, report.video.duration_us
