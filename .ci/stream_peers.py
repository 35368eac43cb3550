"""Is every recorder recorded? Sessions of rooms whose cameras are other people's servers and publishers.

A real installation records a session of each room; at the other end of its line is a peer that is on this
machine: GStreamer's RTSP server (by TCP and UDP, with accounts, with TLS), VLC's, nginx-rtmp,
`srt-live-transmit`, GStreamer's and FFmpeg's own publishers, HLS, MPEG-TS bare. All send one clip whose
pictures carry their numbers. What came into custody must have them in order with nothing missing between
first and last, in the codecs that were sent, as long as its pictures last, and the session must know of no
break inside. The peers are in `stream_peers_lines.py`. Prints a table; exit status 1 when something was
wrong. ONLY=text takes the lines whose name has it, RECORD=1 keeps the counts in
`benchmarks/results/stream_peers.json`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import av
from stream_peers_lines import FPS, Bench, Line, accepts, bench_in, has, other_lines, rtsp_lines

from benchmarks.support import Figure, write_results
from evidence.kinds import SourceKind
from ingest import roster
from ingest.recorder import places
from ingest.recorder import sessions as use_case
from ingest.recorder.process import end_all, is_recording
from media.live.journal import read
from storage.db import agencies, items, sessions
from storage.db.tables import Item
from tests.support.cluster import Cluster, running, wait_for
from tests.support.media import frame_numbers

SESSION_S = 8.0


def configured(lines: list[Line], path: Path) -> None:
    """A room for each line."""
    text = []
    for number, line in enumerate(lines):
        line.room = f"R-{number}"
        text += ["[[recorder.rooms]]", f'room_no = "{line.room}"', f'name = "{line.name}"',
                 "[[recorder.rooms.streams]]", 'name = "main"', f'url = "{line.url}"']  # fmt: skip
        text += [f'{name} = "{value}"' for name, value in line.more.items()]
    path.write_text("\n".join(text), "utf-8")


class Recorded:
    """One session of one line, and what is wrong with it."""

    def __init__(self, cluster: Cluster, bench: Bench, line: Line) -> None:
        self._cluster, self._bench, self._line = cluster, bench, line
        self._room = next(room for room in cluster.settings.recorder.rooms if room.room_no == line.room)
        with cluster.storage.database.read() as session:
            agency_id = agencies.agencies(session)[0].id
        self._folder = places.room_folder(cluster.settings.recorder_dir, agency_id, line.room) / "main"
        self._known: list[UUID | None] = []

    def judge(self) -> tuple[int, list[str]]:
        """How many pictures came, and what is wrong."""
        line = self._line
        if not line.is_called:
            self._send()
        session_id = self._session_id = self._do(use_case.start, self._room, facts={}).id
        if line.is_called:
            wait_for(self._waits, 60, f"{line.name}: we wait for it")
            self._send()
        try:
            wait_for(lambda: "file" in self._said(), 45, f"{line.name}: it is recorded")
        except AssertionError:
            self._do(use_case.stop, session_id)
            return 0, [f"never recorded: {self._why()}"]
        time.sleep(SESSION_S)
        self._do(use_case.stop, session_id)
        wait_for(self._is_in, 60, f"{line.name}: the last file is in", self._why)
        return self._look(session_id)

    def _send(self) -> None:
        if self._line.send is not None:
            self._line.send(self._bench, self._line)

    def _waits(self) -> bool:
        port = int(re.findall(r"127\.0\.0\.1:(\d+)", self._line.url)[0])
        return accepts(port) or has("udp", port, "07")

    def _said(self) -> dict[str, dict[str, Any]]:
        return {each["kind"]: each for run in sorted(self._folder.glob("*")) for each in read(run)[0]}

    def _why(self) -> str:
        words = [path.read_text("utf-8", "replace")[-200:] for path in self._folder.glob("*/stderr")]
        return f"{self._said().get('ended', {}).get('why')} {words[-1:]}"

    def _is_in(self) -> bool:
        # What was recorded after the end is nobody's, and stays for a while.
        known = [each.item_id for each in self._told(self._session_id).parts]
        is_same, self._known = known == self._known, known
        time.sleep(1)
        return bool(known) and is_same and not any(is_recording(run) for run in self._folder.iterdir())

    def _do(self, what: Callable[..., Any], *given: Any, **named: Any) -> Any:
        storage = self._cluster.storage
        with storage.database.transaction() as session:
            agency = agencies.agencies(session)[0]
            return what(session, agency, *given, actor="operator:1", now=storage.clock.now(), **named)

    def _told(self, session_id: UUID) -> use_case.Told:
        with self._cluster.storage.database.read() as session:
            agency = agencies.agencies(session)[0]
            return use_case.tell(session, agency.id, sessions.session_by_id(session, agency.id, session_id))

    def _look(self, session_id: UUID) -> tuple[int, list[str]]:
        told, store = self._told(session_id), self._cluster.storage
        parts = sorted(told.parts, key=lambda part: part.from_at)
        with store.database.read() as session:
            held = [session.get_one(Item, part.item_id) for part in parts]
            paths = [store.objects.path(items.object_of(session, each).store_key) for each in held]
        numbers = [number for path in paths for number in frame_numbers(path)]
        found = list(_of_numbers(numbers, self._line))
        for path in paths:
            found += _of_file(path, self._line)
        inside = [each for each in told.breaks
                  if each.is_missing and each.from_us > int(parts[0].from_at.timestamp() * 1e6)
                  and each.to_us < int(parts[-1].to_at.timestamp() * 1e6)]  # fmt: skip
        found += [f"break of {each.length_ms} ms: {each.cause}" for each in inside]
        return len(numbers), found


def _of_numbers(numbers: list[int | None], line: Line) -> Iterator[str]:
    if None in numbers:
        yield f"{numbers.count(None)} pictures unreadable, first at {numbers.index(None)}"
    known = [number for number in numbers if number is not None]
    if line.picture in {"h264+b", "hevc"}:
        # Cut off between a picture and those that are sent after it and shown before.
        last = next(
            (at for at in range(max(1, len(known) - 4), len(known)) if known[at] != known[at - 1] + 1),
            len(known),
        )
        known = known[:last]
    if known and known != list(range(known[0], known[0] + len(known))):
        holes = [(one, two) for one, two in pairwise(known) if two != one + 1]
        yield f"not in order: {holes[:3]} of {len(holes)}"
    if line.is_whole and known[:1] != [0]:
        yield f"first picture {known[:1]}"
    if len(known) < (SESSION_S - 1.5) * FPS:
        yield f"{len(known)} pictures"


def _of_file(path: Path, line: Line) -> Iterator[str]:
    with av.open(str(path)) as container:
        codecs = [
            stream.codec_context.name for stream in container.streams if stream.type in {"video", "audio"}
        ]
        spans: dict[str, list[Fraction]] = {}
        for packet in container.demux():
            # What comes before the first keyframe cannot be played.
            is_begun = packet.stream.type == "audio" or packet.is_keyframe or "video" in spans
            if packet.size and packet.pts is not None and is_begun:
                at = Fraction(packet.pts) * Fraction(packet.time_base)
                spans.setdefault(packet.stream.type, []).append(at)
    # What MP4 says of MP2 and MP3 is one word, and FFmpeg's decoder of both has the name of the latter.
    expected = {
        line.picture.partition("+")[0],
        *({"mp2", "mp3float"} if line.sound == "mp2" else {line.sound}),
    }
    if len(codecs) != 2 or not set(codecs) <= expected:
        yield f"codecs {codecs}"
    shown = spans.get("video", [])
    lasts = (max(shown) - min(shown)) * FPS + 1 if shown else 0
    # Of pictures that are sent in another order up to three may be missing at the end.
    if not -1 <= lasts - len(shown) <= (4 if line.picture in {"h264+b", "hevc"} else 1):
        yield f"{len(shown)} pictures last as long as {float(lasts):.1f}"
    heard = spans.get("audio", [])
    # Where a stream is joined, sound is heard before the first keyframe.
    if shown and heard and not (-1 < min(shown) - min(heard) < 2 and abs(max(heard) - max(shown)) < 1):
        yield "sound and picture do not begin and end together"


def versions() -> dict[str, str]:
    """Which peers these are."""
    found = {}
    asked = {
        "ffmpeg": ["ffmpeg", "-version"], "gstreamer": ["gst-launch-1.0", "--version"],
        "vlc": ["dpkg-query", "-W", "-f", "${Version}", "vlc-bin"], "nginx": ["nginx", "-v"],
        "nginx-rtmp": ["dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-rtmp"],
        "srt-live-transmit": ["srt-live-transmit", "-version"],
    }  # fmt: skip
    for name, command in asked.items():
        if shutil.which(command[0]):
            said = subprocess.run(command, capture_output=True, text=True, check=False)
            number = re.search(r"(?<!-)\d+\.\d[\w.]*", said.stdout + said.stderr)
            found[name] = number[0] if number else "?"
    return found


def record(results: dict[str, list[str]]) -> None:
    """Keep how many lines of each peer were recorded whole."""
    figures, failures = {}, {name: found for name, found in results.items() if found}
    for peer in sorted({name.partition(":")[0] for name in results}):
        mine = [name for name in results if name.startswith(f"{peer}:")]
        figures[peer] = Figure(sum(not results[name] for name in mine), "recorded whole", limit=len(mine))
    lines = sorted(name for name in results if not results[name])
    write_results("stream_peers", figures, recorded=lines, failures=failures, versions=versions(),
                  day=str(datetime.now(UTC).date()))  # fmt: skip


def main() -> int:
    """Run it; 0 when every line was recorded whole."""
    only = os.environ.get("ONLY", "")
    os.environ["PEER_PASSWORD"] = "p@ss:word/1"  # noqa: S105 - of a server on loopback
    results: dict[str, list[str]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="liuhen-peers-")))
        folder.chmod(0o755)
        (folder / "peers").mkdir()
        bench = stack.enter_context(bench_in(folder / "peers"))
        lines = [line for line in [*rtsp_lines(), *other_lines(bench)]
                 if only in line.name and shutil.which(line.program)]  # fmt: skip
        for line in lines:
            bench.clip(*line.codecs)
        configured(lines, folder / "rooms.toml")
        settings = {"CONFIG": str(folder / "rooms.toml")}
        cluster = stack.enter_context(
            running(folder / "installation", "broker", "relay", "ingest", settings=settings)
        )
        stack.callback(lambda: end_all(places.runs_of(cluster.settings.recorder_dir)))
        with cluster.storage.database.transaction() as session:
            for line in lines:
                roster.register_device(
                    session, agencies.agencies(session)[0], line.room, kind=SourceKind.INTERVIEW_ROOM,
                    model=None, actor="test", now=cluster.storage.clock.now(),
                )  # fmt: skip
        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(Recorded(cluster, bench, line).judge) for line in lines]
            for line, each in zip(lines, asked, strict=True):
                count, results[line.name] = each.result()
                words = "; ".join(results[line.name])
                print(
                    f"{'WRONG' if words else 'ok':5} {line.name:60.60} {count:4} pictures  {words}",
                    flush=True,
                )
    wrong = sum(bool(found) for found in results.values())
    print(f"{len(results) - wrong} recorded whole, {wrong} not")
    if os.environ.get("RECORD") == "1":
        record(results)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
