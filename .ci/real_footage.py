"""Real and hostile footage through the running pipeline: each file must end as promised.

Takes the folder of real footage beside this checkout and the generated edge cases, uploads all of it to a
real installation over tus, waits until nothing is left to do, and prints a table. FULL=1 takes the long
files too, and the work that only helps people to find their way; SHARE=k/n takes every n-th generated file,
from the k-th on. Exit status 1 when a file did not end as its manifest promises.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from sqlalchemy import select

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from storage.db.tables import Item, Reception
from tests.support.cluster import Cluster, running
from tests.support.pipeline import WAYFINDING

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
SUFFIXES = {".mp4", ".3gp", ".mkv", ".avi", ".h264", ".wav", ".jpg", ".png"}
LONG = {
    "actioncam_walk_gpmf.mp4",
    "dashcam_highway_540p.mp4",
    "kiosk_people_from_behind.mp4",
    "cctv_pedestrians_msmpeg4.avi",
    "talking_heads_lowerthirds_180p.mp4",
    "interview_zh_face_speech_20s.mp4",
    "one_face_portrait_608x1080.mp4",
    "carpark_overhead_cars.mp4",
    "old_phone_traffic_h263_amr.3gp",
    "en_phonecall_45s_8k.wav",
    "en_two_speakers_29s_16k.wav",
    "zh_lecture_52s_16k.wav",
}
UNPLAYABLE_REAL = {"broken_missing_wav_header.wav"}
# The manifest's words, read as this product acts: nothing is refused, nothing is repaired.
PLAYS = {"ok"}
PLAYS_FLAGGED = {"warn"}
UNPLAYABLE = {"reject"}


@dataclass(frozen=True)
class Sent:
    """A file and what is promised of it."""

    case: str
    path: bytes
    name: bytes
    promise: str
    frames: int | None


def real_footage(*, full: bool) -> Iterator[Sent]:
    """The clips beside this checkout."""
    for path in sorted((SHARED / "media").rglob("*")):
        if path.suffix not in SUFFIXES or path.name == "contact-sheet.jpg":
            continue
        is_like_others = path.parent.name in {"qr", "stills"} and not path.stem.endswith(
            ("1-1_1", "001", "closeup")
        )
        if full or not (path.name in LONG or is_like_others):
            promise = "reject" if path.name in UNPLAYABLE_REAL else "ok"
            yield Sent("real", os.fsencode(path), path.name.encode(), promise, None)


def generated(folder: Path, seconds: int, *, full: bool) -> Iterator[Sent]:
    """The edge cases, made anew; of the many names, where time is short, every third."""
    make = [sys.executable, str(SHARED / "tools" / "make_footage.py"), "make", str(folder)]
    subprocess.run([*make, "--seconds", str(seconds)], check=True, stdout=subprocess.DEVNULL)
    for place, entry in enumerate(json.loads((folder / "manifest.json").read_text("utf-8"))["files"]):
        if entry["case"] == "names" and place % 3 and not full:
            continue
        raw = bytes.fromhex(entry["name_hex"])
        path = os.fsencode(folder) + b"/" + entry["case"].encode() + b"/" + raw
        yield Sent(entry["case"], path, raw, entry["expect"], entry.get("frames"))


def verdict(sent: Sent, item: Item) -> str | None:
    """What is wrong with how the item ended; None when it ended as promised."""
    flags = {flag["code"] for flag in item.flags}
    reviewable = item.media == "rendered" and item.redaction == "checked"
    if item.custody != "verified":
        return f"custody is {item.custody}"
    if not reviewable and not (item.media == "unplayable" and flags):
        return f"neither reviewable nor unplayable with a reason: {item.media}, {item.redaction}"
    if sent.promise in PLAYS and not reviewable:
        return f"should play, is {item.media}"
    if sent.promise in UNPLAYABLE and reviewable and item.media_kind not in {"photo"}:
        return "should not play"
    if sent.promise in PLAYS_FLAGGED and not flags:
        return "should be flagged"
    return None


def upload_all(cluster: Cluster, files: list[Sent]) -> dict[int, str]:
    """Upload each file under the bytes of its own name; upload id by place."""
    ids = {}
    headers = {"Authorization": f"Bearer {cluster.token}", "Tus-Resumable": "1.0.0"}
    with httpx.Client(base_url=cluster.settings.ingest_url, timeout=120) as client:
        for place, sent in enumerate(files):
            content = Path(os.fsdecode(sent.path)).read_bytes()
            pairs = {"filename": sent.name, "device_no": b"DSJ01", "case_no": "渝执〔2026〕1号".encode()}
            said = ",".join(f"{key} {base64.b64encode(value).decode()}" for key, value in pairs.items())
            made = client.post(
                "/uploads/",
                headers={
                    **headers,
                    "Upload-Length": str(len(content)),
                    "Upload-Metadata": said,
                    "Content-Type": "application/offset+octet-stream",
                },
                content=content,
            )
            made.raise_for_status()
            ids[place] = made.headers["location"].rsplit("/", 1)[-1]
    return ids


def main() -> int:
    """Run it; 0 when every file ended as promised."""
    full = os.environ.get("FULL") == "1"
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="liuhen-real-") as name:
        folder = Path(name)
        first, _, step = os.environ.get("SHARE", "0/1").partition("/")
        cases = list(generated(folder / "cases", 4 if full else 1, full=full))
        files = [*real_footage(full=full), *cases[int(first) :: int(step)]]
        settings = {"WORKER__PROCESSES": "2", "WORKER__CHECKPOINT_BUSY_EVERY_S": "5"}
        with running(folder / "installation", settings=settings) as cluster:
            ids = upload_all(cluster, files)
            cluster.wait_settled(5400 if full else 2700, leaving_out=() if full else WAYFINDING)
            with cluster.storage.database.read() as session:
                rows = session.execute(
                    select(Reception.reception_key, Item).join(Item, Item.id == Reception.item_id)
                ).all()
            by_key = dict(tuple(row) for row in rows)
        wrong = 0
        for place, sent in enumerate(files):
            item = by_key[f"tus:{ids[place]}"]
            found = verdict(sent, item)
            wrong += found is not None
            flags = ",".join(flag["code"] for flag in item.flags) or "-"
            print(
                f"{'WRONG' if found else 'ok':5} {sent.case:20.20} {item.original_name:40.40} "
                f"{sent.promise:16} "
                f"{item.media_kind:8} {item.media:10} {item.redaction:8} {item.frame_count or '-':>5} {flags}"
                + (f"  <- {found}" if found else "")
            )
    took = time.monotonic() - started
    print(f"{len(files) - wrong} passed, {wrong} failed  ({took:.0f} s)")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
