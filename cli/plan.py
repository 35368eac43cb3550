"""`liuhen plan`: sessions that are to begin by themselves; made, listed, withdrawn."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import Any

from cli.options import Branch, read_id
from cli.session_of import add_facts, stated_of, tell_missing
from cli.shell import Parser, add_json, at_desk, operator, print_json, print_table
from cli.words import FACTS, listed
from evidence.schedule import PlanState, instant_of, shown
from ingest.recorder import registry, schedule
from storage.db import planned_sessions

MOST = 500
WORDS = {
    PlanState.AHEAD: "未到 ahead",
    PlanState.WAITING: "等待开始 waiting",
    PlanState.BEGUN: "进行中 begun",
    PlanState.OVER: "已结束 over",
    PlanState.MISSED: "未能开始 missed",
    PlanState.WITHDRAWN: "已撤销 withdrawn",
}


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    adding = branch.add("add", "预定会话,到时自行开始 / plan a session; it begins by itself", _add)
    adding.add_argument("room_no", metavar="ROOM", help="询问室编号 / room, as `room list` prints it")
    adding.add_argument("starts_at", metavar="FROM", help="开始,如 2026-03-04T09:00 / start, local time")
    adding.add_argument("ends_at", metavar="TO", help="结束 / end")
    adding.add_argument("--zone", metavar="ZONE", help="时区,缺省为本机构时区 / default: the agency's")
    adding.add_argument(
        "--ends-itself",
        action="store_true",
        help="到时自动结束,缺省告警并继续录制 / end it then; default: people are told and it goes on",
    )
    add_facts(adding)
    listing = branch.add("list", "预定的会话 / planned sessions", _list)
    listing.add_argument("--room", metavar="NO", help="询问室编号 / of one room")
    listing.add_argument(
        "--days", type=int, default=0, metavar="N", help="另含此前几天的 / and those of N days before"
    )
    add_json(listing)
    withdrawing = branch.add("withdraw", "撤销预定 / withdraw a plan that has not begun", _withdraw)
    withdrawing.add_argument("plan_id", metavar="ID", help="编号 / id, as the list prints it")


def _add(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        room = registry.room_of(session, agency, desk.settings.recorder.rooms, options.room_no)
        zone = options.zone or agency.time_zone
        row = schedule.plan(
            session,
            agency,
            room,
            starts_at=instant_of(options.starts_at, zone, "FROM"),
            ends_at=instant_of(options.ends_at, zone, "TO"),
            time_zone=zone,
            ends_itself=options.ends_itself,
            facts=stated_of(options),
            actor=operator(),
            now=desk.now(),
        )
        missing = schedule.missing_of(row, room)
        until = shown(row.ends_at, row.time_zone)
    print(f"已预定 / planned: {row.id}  {row.room_no}  {shown(row.starts_at, row.time_zone)} – {until}")
    tell_missing(missing, [])
    return 0


def _list(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        rooms = registry.rooms_of(session, desk.agency, desk.settings.recorder.rooms)
        known = {room.room_no: room for room in rooms}
        found: list[dict[str, Any]] = [
            {
                "id": str(row.id),
                "room_no": row.room_no,
                "state": str(schedule.state_at(row, desk.now())),
                "starts_at": desk.local(row.starts_at),
                "ends_at": desk.local(row.ends_at),
                "case_no": row.facts["case_no"],
                "session": str(row.session_id) if row.session_id else None,
                "missing": ", ".join(schedule.missing_of(row, known.get(row.room_no))),
            }
            for row in planned_sessions.plans_from(
                session,
                desk.agency.id,
                since=desk.now() - timedelta(days=max(0, options.days)),
                room_no=options.room,
                limit=MOST,
            )
        ]
    if options.json:
        print_json(found)
        return 0
    heads = (
        "编号 id",
        "室 room",
        "状态 state",
        "开始 from",
        "结束 to",
        "案号 case",
        "会话 session",
        "未登记 missing",
    )
    for row in found:
        row["state"] = WORDS[PlanState(row["state"])]
        row["missing"] = listed(FACTS, filter(None, row["missing"].split(", ")))
    print_table(heads, [tuple(row.values()) for row in found])
    return 0


def _withdraw(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        plan_id = read_id(options.plan_id, "plan")
        schedule.withdraw(session, agency, plan_id, actor=operator(), now=desk.now())
    print(f"已撤销 / withdrawn: {options.plan_id}")
    return 0
