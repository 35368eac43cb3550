"""`liuhen clip|picture|clip-set|composite`: what a case's footage shows, taken away with its sheet.

These ask the API as an account, so whoever may see a thing on the page may have it here, with the same mark
and the same leaf in custody.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from cli.fetching import download, require_free, sheets_beside, sheets_of, wait_made, wait_placed
from cli.options import read_id, read_instant, read_media_time
from cli.progress import Meter
from cli.seat import Json, Seat, add_seat, seated
from cli.shell import Parser, add_json, print_json
from cli.timeline import lanes_of, shown_at, timeline_of
from evidence.errors import InvalidInput, NotFound
from evidence.kinds import RetrievalPurpose

LAYOUTS = ("side_by_side", "picture_in_picture")
SILENT = "none"


def arguments(parser: Parser, name: str) -> None:
    parser.add_argument("case_no", metavar="CASE_NO", help="案号,任意写法 / in any spelling")
    _ASK[name][0](parser)
    parser.add_argument(
        "--purpose",
        required=True,
        choices=[str(purpose) for purpose in RetrievalPurpose],
        help="调阅目的 / what it is for",
    )
    parser.add_argument(
        "--original", action="store_true", help="原件,须有权并说明理由 / not masked; by right, with a reason"
    )
    parser.add_argument(
        "--unmarked", action="store_true", help="不加水印,须有权并说明理由 / no mark; by right, with a reason"
    )
    parser.add_argument(
        "--time-of-day", action="store_true", help="画面叠加当地时刻 / burn the time of day into the picture"
    )
    parser.add_argument("--reason", metavar="TEXT", help="理由 / why")
    parser.add_argument(
        "-o", dest="file", type=Path, metavar="FILE",
        help="存为,随附单存于其旁 / where to; the sheet goes beside it",
    )  # fmt: skip
    add_json(parser)
    add_seat(parser)
    parser.set_defaults(run=run, name=name)


def run(options: argparse.Namespace) -> int:
    if options.file is not None:
        require_free(options.file, *sheets_beside(options.file))
    with seated(options) as seat:
        zone = str(seat.get("/me")["time_zone"])
        path, asked = _ASK[options.name][1](seat, options)
        file = options.file or Path(_name(options, path))
        require_free(file, *sheets_beside(file))
        with Meter("制作 / making", 1000) as meter:
            made = wait_made(seat, path, asked, wait=_sleep, tell=meter.to)
        is_placed = not path.startswith("/clips/") or wait_placed(seat, path, wait=_sleep)
        # The sheet first: what is taken away without it would look complete, and is not.
        sheets = sheets_of(seat, path, file)
        with Meter("下载 / fetching", made["size_bytes"]) as meter:
            download(seat, made, file, meter.to, beside=sheets)
    if options.json:
        print_json(
            {
                **_without_addresses(made),
                "file": str(file),
                "sheets": [str(each) for each in sheets_beside(file)],
            }
        )
        return 0
    print(f"已存 / saved:  {file.resolve()}")
    print(f"摘要相符 / digest matches:  sha256 {made['sha256']}  {made['size_bytes']} bytes")
    print(f"随附单 / sheet:  {'  '.join(each.name for each in sheets_beside(file))}")
    if not is_placed:
        print(f"流转记录尚未排序 / custody leaf not yet placed; later: GET /api/v1{path}/sheet?form=html")
    if made.get("quarantined"):
        print("注意:原件校验不符,内容存疑 / beware: the original is in quarantine, doubt it")
    _tell_set(made, zone)
    return 0


def _without_addresses(told: Any) -> Any:
    """What is told of what was made: whoever has an address has the footage, and what is printed is kept."""
    if isinstance(told, list):
        return [_without_addresses(each) for each in told]
    if isinstance(told, dict):
        return {name: _without_addresses(each) for name, each in told.items() if name != "file_url"}
    return told


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


def _tell_set(made: Json, zone: str) -> None:
    """What a set does not show; times as clocks of the agency's zone show them."""
    for left in made.get("left_out", []):
        print(f"未列入 / left out:  {left['item_id']}  {left['why']}")
    for gap in made.get("gaps", []):
        if gap["lane"] is None:
            between = " – ".join(f"{shown_at(gap[end], ZoneInfo(zone))}" for end in ("starts_at", "ends_at"))
            print(f"空档 / gap:  {between} {zone}  {gap['duration_us'] / 1e6:.3f} s")
    if made.get("unplaced_count"):
        print(f"时间不明 / of unknown time, not in it:  {made['unplaced_count']}")


def _name(options: argparse.Namespace, path: str) -> str:
    """A name for who gave none: what it is, and its id."""
    ending = {"picture": "png", "clip-set": "zip"}.get(options.name, "mp4")
    return f"{options.name}-{path.rsplit('/', 1)[1]}.{ending}"


def _common(options: argparse.Namespace) -> Json:
    body: Json = {
        "case_no": options.case_no,
        "purpose": options.purpose,
        "variant": "original" if options.original else "redacted",
        "marked": not options.unmarked,
        "time_of_day": options.time_of_day,
    }
    return body | ({"reason": options.reason} if options.reason else {})


# -- one recording


def _clip_arguments(parser: Parser) -> None:
    _item_argument(parser)
    parser.add_argument("--from", dest="start", metavar="TIME", help="起(片内时间)/ from, in the recording")
    parser.add_argument("--to", dest="end", metavar="TIME", help="止 / to")


def _item_argument(parser: Parser) -> None:
    parser.add_argument(
        "--item", metavar="ID", help="音像编号,案中仅一件时可省 / item, if the case has several"
    )


def _ask_clip(seat: Seat, options: argparse.Namespace) -> tuple[str, Json]:
    span = {
        name: read_media_time(text, option) // 1000
        for name, text, option in (("from_ms", options.start, "--from"), ("to_ms", options.end, "--to"))
        if text is not None
    }
    return _post_clip(seat, options, {"form": "file", **span})


def _picture_arguments(parser: Parser) -> None:
    _item_argument(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--at", metavar="TIME", help="此刻显示的一帧(片内时间)/ the one shown at this time")
    which.add_argument("--frame", type=int, metavar="N", help="第几帧,从 0 起 / its number, from 0")


def _ask_picture(seat: Seat, options: argparse.Namespace) -> tuple[str, Json]:
    named = {"frame": options.frame} if options.at is None else {"at_us": read_media_time(options.at, "--at")}
    return _post_clip(seat, options, {"form": "picture", **named})


def _post_clip(seat: Seat, options: argparse.Namespace, more: Json) -> tuple[str, Json]:
    item = {"item_id": str(read_id(options.item, "--item"))} if options.item else {}
    asked = seat.post("/clips", {**_common(options), **item, **more})
    return f"/clips/{asked['clip_id']}", asked


# -- what the sources of a case recorded in a window


def _window_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--from", dest="start", required=True, metavar="TIME", help="起,如 / from, such as 2026-03-02T08:30"
    )
    parser.add_argument("--to", dest="end", required=True, metavar="TIME", help="止 / to")
    parser.add_argument(
        "--source", action="append", metavar="NO",
        help="来源:设备编号或地点,可重复,默认全部 / device or place as `timeline` lists it; repeatable",
    )  # fmt: skip


def _composite_arguments(parser: Parser) -> None:
    _window_arguments(parser)
    parser.add_argument(
        "--layout", choices=LAYOUTS, default=LAYOUTS[0],
        help="并排,或首个来源为主画面 / side by side, or the first source large",
    )  # fmt: skip
    parser.add_argument(
        "--sound", metavar="NO", help="声音取自,none 为无声 / the source heard, or none; the first with sound"
    )


def _ask_set(seat: Seat, options: argparse.Namespace) -> tuple[str, Json]:
    return _post_set(seat, options, {}, options.source or [])


def _ask_composite(seat: Seat, options: argparse.Namespace) -> tuple[str, Json]:
    more: Json = {"layout": options.layout}
    if options.sound == SILENT:
        more["sound"] = SILENT
    elif options.sound is not None:
        more["sound"] = _lanes(seat, options, [options.sound])[0]
    return _post_set(seat, options, more, options.source or [])


def _post_set(seat: Seat, options: argparse.Namespace, more: Json, sources: list[str]) -> tuple[str, Json]:
    zone = seat.get("/me")["time_zone"]
    window = {
        "from_at": read_instant(options.start, "--from", zone).isoformat(),
        "to_at": read_instant(options.end, "--to", zone).isoformat(),
    }
    lanes = {"lanes": _lanes(seat, options, sources)} if sources else {}
    asked = seat.post("/clip-sets", {**_common(options), **window, **lanes, **more})
    return f"/clip-sets/{asked['set_id']}", asked


def _lanes(seat: Seat, options: argparse.Namespace, sources: list[str]) -> list[str]:
    """The lanes of the timeline that people call so.

    Raises:
        NotFound: None is called so.
        InvalidInput: Several are.
    """
    known = lanes_of(timeline_of(seat, options.case_no))
    found: list[str] = []
    for source in sources:
        lanes = [lane for lane, names in known.items() if source in names]
        if not lanes:
            every = ", ".join(names[0] for names in known.values())
            raise NotFound(f"--source {source}: expected one of {every}, found none", code="source_unknown")
        if len(lanes) > 1:
            raise InvalidInput(
                f"--source {source}: expected one of that name, found {len(lanes)}: {', '.join(lanes)}",
                code="source_ambiguous",
            )
        found += lanes
    return found


_ASK: dict[str, tuple[Callable[[Parser], None], Callable[[Seat, Any], tuple[str, Json]]]] = {
    "clip": (_clip_arguments, _ask_clip),
    "picture": (_picture_arguments, _ask_picture),
    "clip-set": (_window_arguments, _ask_set),
    "composite": (_composite_arguments, _ask_composite),
}
