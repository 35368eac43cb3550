"""`liuhen timeline`: a case over wall time, source by source, as the API tells an account."""

from __future__ import annotations

import argparse
from datetime import datetime
from zoneinfo import ZoneInfo

from cli.seat import Json, Seat, add_seat, seated
from cli.shell import Parser, add_json, print_json, print_table
from evidence.errors import NotFound

PAGE = 200
LISTS = ("pieces", "unplaced", "gaps", "overlaps", "together")


def arguments(parser: Parser, _name: str) -> None:
    parser.add_argument("case_no", metavar="CASE_NO", help="案号,任意写法 / in any spelling")
    add_json(parser)
    add_seat(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    with seated(options) as seat:
        zone = ZoneInfo(seat.get("/me")["time_zone"])
        found = timeline_of(seat, options.case_no)
    if options.json:
        print_json(found)
        return 0
    names = {lane: names[0] for lane, names in lanes_of(found).items()}
    heads = ("来源 source", "开始 from", "结束 to", "件 files", "秒 s", "空档 gaps", "重叠 overlaps")
    print_table(heads, [_lane(lane, names, zone) for lane in found["lanes"]])
    print()
    gaps = {gap["after"]: gap for gap in found["gaps"] if gap["lane"] is not None}
    overlaps = {each["after"]: each for each in found["overlaps"]}
    heads = (
        "开始 from",
        "结束 to",
        "来源 source",
        "名称 name",
        "此前空档 gap s",
        "重叠 overlap s",
        "编号 id",
    )
    rows = [*found["pieces"], *found["unplaced"]]
    print_table(heads, [_piece(row, names, gaps, overlaps, zone) for row in rows])
    for gap in found["gaps"]:
        if gap["lane"] is None:
            print(
                f"全部来源均无记录 / no source records:  {shown_at(gap['starts_at'], zone)} – "
                f"{shown_at(gap['ends_at'], zone)}  {_seconds(gap)} s"
            )
    return 0


def timeline_of(seat: Seat, case_no: str) -> Json:
    """All of the timeline of a case, its pages joined.

    Raises:
        NotFound: There is no case of that number.
    """
    cases = seat.get("/cases", case_no=case_no)["items"]
    if not cases:
        raise NotFound(f"case {case_no}: expected one of the register, found none", code="case_not_found")
    path = f"/cases/{cases[0]['id']}/timeline"
    found: Json = seat.get(path, limit=PAGE)
    while found["next_cursor"] is not None:
        page = seat.get(path, limit=PAGE, cursor=found["next_cursor"])
        found = {**page, **{name: found[name] + page[name] for name in LISTS}}
    return found


def lanes_of(found: Json) -> dict[str, list[str]]:
    """What each lane is called, the name that is shown first."""
    return {
        each["lane"]: [name for name in (each["device_no"], each["place"], each["lane"]) if name]
        for each in found["lanes"]
    }


def _lane(lane: Json, names: dict[str, str], zone: ZoneInfo) -> tuple[object, ...]:
    return (
        names[lane["lane"]],
        shown_at(lane["starts_at"], zone),
        shown_at(lane["ends_at"], zone),
        lane["piece_count"],
        lane["covered_us"] / 1e6,
        lane["gap_count"],
        lane["overlap_count"],
    )


def _piece(
    row: Json, names: dict[str, str], gaps: dict[str, Json], overlaps: dict[str, Json], zone: ZoneInfo
) -> tuple[object, ...]:
    gap, overlap = gaps.get(row["binding_id"]), overlaps.get(row["binding_id"])
    return (
        shown_at(row["starts_at"], zone) or "时间不明 / unknown",
        shown_at(row["ends_at"], zone),
        names.get(row["lane"]),
        row["original_name"],
        _seconds(gap),
        _seconds(overlap),
        row["item_id"],
    )


def _seconds(interval: Json | None) -> str:
    """How long it is; with ? where that is within the step of its clocks."""
    if interval is None:
        return ""
    return f"{interval['duration_us'] / 1e6:.3f}{'' if interval['is_certain'] else '?'}"


def shown_at(instant: str | None, zone: ZoneInfo) -> str:
    """An instant of the API as clocks of a zone show it."""
    return "" if instant is None else f"{datetime.fromisoformat(instant).astimezone(zone):%Y-%m-%d %H:%M:%S}"
