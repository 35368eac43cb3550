"""`liuhen demo`: the main job, end to end, on a throw-away data folder.

A dock uploads a shift over the real protocol, workers verify, probe, encode, bind and mask, and a
reviewer fetches a redacted clip by case number. Nothing here is a shortcut: the same supervisor as
`liuhen up`, the same listeners, the same rights.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli.demo_footage import CASE_1, ShiftFile, make_shift, own_shift
from cli.demo_review import (
    Fetched,
    fetch_clip,
    masks_of,
    masks_told,
    rows_of,
    table_row,
    wait_settled,
)
from cli.demo_setup import FLOOR_BYTES, Cast, free_ports, prepare, throw_away_folder
from cli.dock_player import Dock, Sent
from cli.progress import Meter
from cli.seat import Seat
from cli.shell import Parser, add_common, environment_of, print_table, settings_of
from cli.stopping import told_to_stop
from cli.supervise import Supervisor
from cli.up import READY_TIMEOUT_S, addresses, only_one, supervisor_of
from config.settings import Settings
from evidence.errors import Conflict, EvidenceError, InvalidInput, MediaError, Unavailable

HEADS = (
    "录制 recording",
    "案件 case",
    "秒 s",
    "摘要 sha256",
    "保管 custody",
    "媒体 media",
    "关联 binding",
    "脱敏 redaction",
    "遮盖 masks",
)
RECEIPT_TIMEOUT_S = 300.0
SETTLE_TIMEOUT_S = 6 * 3600.0
CLIP_TIMEOUT_S = 1800.0
SHIFT_FILES = 12
OUTPUT = Path("demo-output")


def arguments(parser: Parser, _name: str) -> None:
    add_common(parser)
    parser.add_argument(
        "--footage", type=Path, metavar="PATH", help="用自己的影像(文件或目录)/ your own files"
    )
    parser.add_argument(
        "--keep", action=argparse.BooleanOptionalAction, default=True,
        help="完成后继续运行到 Ctrl-C / go on serving afterwards",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        type=Path,
        default=OUTPUT,
        metavar="DIR",
        help="片段存放处 / where the clip goes; demo-output",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.footage is not None and not options.footage.exists():
        raise InvalidInput(f"--footage: expected files, found nothing at {options.footage}", code="no_files")
    started = time.monotonic()
    with ExitStack() as stack:
        options.set = [f"{name}={value}" for name, value in _overrides(options, stack).items()] + options.set
        options.data = None
        settings = settings_of(options)
        settings.data.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        stack.enter_context(only_one(settings.data.dir))
        cast = prepare(settings)
        supervisor = supervisor_of(settings, environment_of(options))
        stop = stack.enter_context(told_to_stop(supervisor.kill))
        stack.enter_context(supervisor)
        demo = _Demo(settings, cast, supervisor, stop, options)
        fetched = demo.play_until_stopped()
        if fetched is not None:
            took_s = time.monotonic() - started
            print(f"\n用时 / took      {took_s:.0f} s (不含安装 / set-up not included)")
            if options.keep:
                print(addresses(settings))
                for username in ("reviewer", "legal"):
                    print(f"登录 / sign in   {username}  {cast.passwords[username]}")
            sys.stdout.flush()
        if options.keep and fetched is not None:
            supervisor.watch(stop)
    return 0 if fetched is not None else 130


def _overrides(options: argparse.Namespace, stack: ExitStack) -> dict[str, object]:
    """Settings of a demonstration: its own folder and ports, and a smaller floor."""
    if options.data is not None:
        data = options.data.resolve()
        if data.exists() and any(data.iterdir()):
            raise Conflict(f"data folder {data}: expected it empty, found files", code="data_not_empty")
    else:
        data = throw_away_folder()
        stack.callback(shutil.rmtree, data, ignore_errors=True)
    api, ingest, media = free_ports(3)
    return {
        "data.dir": data,
        "data.free_floor_bytes": FLOOR_BYTES,
        "api.port": api,
        "ingest.port": ingest,
        "media.port": media,
    }


@dataclass
class _Demo:
    settings: Settings
    cast: Cast
    supervisor: Supervisor
    stop: threading.Event
    options: argparse.Namespace

    def play_until_stopped(self) -> Fetched | None:
        """The whole way; None when somebody said stop, whatever that broke off."""
        try:
            return self.play()
        except EvidenceError:
            if self.stop.is_set():
                return None
            raise

    def play(self) -> Fetched | None:
        """The whole way; None when somebody said stop."""
        with tempfile.TemporaryDirectory(prefix="dock-", dir=self.settings.data.dir) as dock_folder:
            shift = self._shift(Path(dock_folder))
            if not self._start():
                return None
            sent = self._upload(shift)
            self._receipts(sent)
            self._settle(len(sent))
        if self.stop.is_set():
            return None
        with self._seat("reviewer") as reviewer:
            rows = rows_of(reviewer)
            with self._seat("legal") as legal:
                masks = [masks_of(legal, row["id"]) for row in rows]
            print()
            print_table(HEADS, [table_row(row, count) for row, count in zip(rows, masks, strict=True)])
            # What the user's own files show is not for us to know.
            known = {} if self.options.footage else {one.path.name: one.shows_face for one in shift}
            print(masks_told({row["original_name"]: n for row, n in zip(rows, masks, strict=True)}, known))
            for row in rows:
                for flag in row["flags"]:
                    print(f"  {row['original_name']}: {flag['message']} [{flag['code']}]")
            return self._clip(reviewer, shift)

    def _seat(self, name: str) -> Seat:
        return Seat(self.settings.api_url).sign_in(name, self.cast.passwords[name])

    def _shift(self, folder: Path) -> list[ShiftFile]:
        if self.options.footage is not None:
            shift = own_shift(self.options.footage)
            if not shift:
                raise InvalidInput("--footage: expected files, found none", code="no_files")
            return shift
        samples = self.settings.redaction.models_dir.parent / "samples"
        with Meter("制作示例影像 / making the shift", SHIFT_FILES) as meter:
            return make_shift(folder, samples, datetime.now(UTC), meter.to)

    def _start(self) -> bool:
        with Meter("启动服务 / starting", len(self.supervisor.programs)) as meter:
            return self.supervisor.wait_ready(READY_TIMEOUT_S, stop=self.stop, progress=meter.to)

    def _upload(self, shift: list[ShiftFile]) -> list[tuple[ShiftFile, Sent]]:
        total = sum(one.path.stat().st_size for one in shift)
        sent: list[tuple[ShiftFile, Sent]] = []
        with (
            Dock(self.settings.ingest_url, self.cast.dock_token) as dock,
            Meter("采集站上传 / uploading", total) as meter,
        ):
            done = 0
            for number, one in enumerate(shift):
                if self.stop.is_set():
                    break
                size = one.path.stat().st_size
                # The first file loses its line in the middle, as lines do.
                cut_at = size // 2 if number == 0 else None
                said = {**one.metadata, "dock_clock": datetime.now(UTC).isoformat()}
                sent.append((one, dock.upload(one.path, said, cut_at=cut_at)))
                done += size
                meter.to(done, one.path.name)
        resumes = sum(each.resumes for _, each in sent)
        print(
            f"已上传 / uploaded: {len(sent)} 件 files, {total} bytes, 断线续传 / resumed {resumes}×",
            file=sys.stderr,
        )
        return sent

    def _receipts(self, sent: list[tuple[ShiftFile, Sent]]) -> None:
        """Wait for each signed receipt: only it would let the camera be wiped."""
        deadline = time.monotonic() + RECEIPT_TIMEOUT_S
        waiting = [each for _, each in sent]
        with (
            Dock(self.settings.ingest_url, self.cast.dock_token) as dock,
            Meter("等待回执 / receipts", len(sent)) as meter,
        ):
            while waiting and not self.stop.is_set():
                waiting = [each for each in waiting if not self._has_receipt(dock, each)]
                meter.to(len(sent) - len(waiting))
                if waiting and time.monotonic() > deadline:
                    raise Unavailable(f"receipts: expected {len(sent)}, found {len(waiting)} missing")
                self.stop.wait(0.5 if waiting else 0)

    @staticmethod
    def _has_receipt(dock: Dock, sent: Sent) -> bool:
        receipt = dock.receipt(sent.url)
        if receipt is None:
            return False
        if receipt["sha256"] != sent.sha256 or receipt["may_erase"] is not True:
            raise Unavailable(f"receipt: expected one for {sent.sha256}, found one for {receipt['sha256']}")
        return True

    def _settle(self, count: int) -> None:
        with (
            self._seat("admin") as admin,
            Meter("处理 / processing", 1.0) as meter,
        ):
            # Each file wants a handful of jobs, one after the other: the first of them are not the whole way.
            wait_settled(
                admin,
                self.stop,
                SETTLE_TIMEOUT_S,
                lambda done, total, text: meter.to(done / max(total, 10 * count), text),
            )
            meter.to(1.0)

    def _clip(self, reviewer: Seat, shift: list[ShiftFile]) -> Fetched:
        listed = reviewer.pages("/clips", case_no=CASE_1)
        ready = [one for one in listed if one["state"] == "ready" and one["duration_us"]]
        if not ready:
            raise Unavailable(f"case {CASE_1}: expected a redacted recording, found none of {len(listed)}")
        faces = {one.path.name for one in shift if one.shows_face}
        chosen = next((one for one in ready if one["original_name"] in faces), ready[0])
        source: dict[str, Any] = reviewer.get(f"/items/{chosen['item_id']}")
        fetched = fetch_clip(
            reviewer,
            CASE_1,
            chosen,
            self.options.out,
            scratch=self.settings.data.dir / "scratch",
            stop=self.stop,
            timeout_s=CLIP_TIMEOUT_S,
        )
        same = (fetched.frame_count, fetched.duration_us) == (source["frame_count"], source["duration_us"])
        print(f"\n按案号调取 / by case number: {CASE_1}")
        print(f"脱敏片段 / redacted clip:  {fetched.path.resolve()}")
        print(f"摘要相符 / digest matches: sha256 {fetched.sha256}")
        print(f"覆盖 / coverage: {fetched.coverage}")
        print(
            f"帧数 / frames {fetched.frame_count} (原 source {source['frame_count']}), "
            f"时长 / duration {(fetched.duration_us or 0) / 1e6:.3f} s "
            f"(原 source {(source['duration_us'] or 0) / 1e6:.3f} s){'' if same else '  不同 / differ'}"
        )
        if not same and self.options.footage is None:
            raise MediaError(
                f"clip: expected {source['frame_count']} frames and {source['duration_us']} µs, "
                f"found {fetched.frame_count} and {fetched.duration_us}",
                code="clip_differs",
            )
        return fetched
