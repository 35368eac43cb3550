"""`liuhen session`: start, stop, mark, pause, seal and show sessions of interview rooms; end sheets.

Those of the checklist are in `cli.conduct`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from cli import conduct
from cli.options import Branch, read_instant
from cli.seen import wait_for_pictures
from cli.session_of import add_facts, add_session, id_of, stated_of, tell_missing
from cli.shell import Desk, Parser, add_json, at_desk, operator, print_json, print_table, write_new
from cli.words import FACTS, both, listed
from evidence.breaks import CAUSE_WORDS, missing_us
from evidence.clock import from_micros, rfc3339
from evidence.kinds import GapReason
from evidence.masks import GIVEN, HIDES_WORDS, Hides, Reason
from evidence.masks import REASON_WORDS as HIDES_WHY
from evidence.session import NOTE_WORDS, REASON_WORDS, STATE_WORDS, Facts, NoteKind, State
from ingest.recorder import masks, registry, sealing, sessions, sheet, wording
from ingest.recorder.sessions import Told
from storage.db import sessions as rows
from storage.db.room_tables import RoomSession
from storage.db.session_masks import ends_at, masks_of
from storage.hiding import hide

REASONS = ", ".join(f"{reason} {words[0]}" for reason, words in REASON_WORDS.items())


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    starting = branch.add("start", "开始会话 / start a session", _start)
    starting.add_argument("room_no", metavar="ROOM", help="询问室编号 / room, as `room list` prints it")
    starting.add_argument(
        "--from",
        dest="started_at",
        metavar="TIME",
        help="由预录补记的实际开始时间 / true start, if it was forgotten",
    )
    add_facts(starting)
    stating = branch.add("facts", "登记事项 / state facts", _facts)
    add_session(stating)
    add_facts(stating)
    for name, text, run in (
        ("stop", "结束会话 / end a session", _stop),
        ("resume", "结束暂停 / end a pause", _resume),
        ("seal", "封存:签署文件清单 / seal: sign the list of files", _seal),
    ):
        add_session(branch.add(name, text, run))
    marking = branch.add("mark", "标记此刻 / note something now", _mark)
    add_session(marking)
    marking.add_argument("text", metavar="TEXT", help="内容 / in words")
    pausing = branch.add("pause", "暂停录制 / record nothing for now", _pause)
    add_session(pausing)
    _add_reason(pausing)
    reasoning = branch.add("reason", "说明中断原因 / say why there is a break", _reason)
    add_session(reasoning)
    reasoning.add_argument("stream", metavar="STREAM", help="信号 / stream")
    reasoning.add_argument("from_at", metavar="FROM", help="起 / from, as `show` prints it")
    reasoning.add_argument("to_at", metavar="TO", help="止 / to")
    _add_reason(reasoning)
    masking = branch.add(
        "mask", "遮蔽一段,原件不变 / hide a stretch in all that is made of it", _mask_stretch
    )
    add_session(masking)
    masking.add_argument(
        "reason", choices=[str(each) for each in GIVEN], metavar="REASON",
        help=f"原因 / reason: {', '.join(f'{each} {HIDES_WHY[each][0]}' for each in GIVEN)}",
    )  # fmt: skip
    masking.add_argument("text", metavar="TEXT", help="说明 / in words")
    masking.add_argument(
        "--hides", choices=[str(each) for each in Hides], default=str(Hides.BOTH), metavar="WHAT",
        help="picture 画面, sound 声音, both 两者(缺省 default)",
    )  # fmt: skip
    masking.add_argument("--from", dest="from_at", metavar="TIME", help="起,缺省现在 / from; default now")
    masking.add_argument("--to", dest="to_at", metavar="TIME", help="止,缺省持续 / to; default: it lasts")
    add_session(branch.add("mask-end", "结束持续中的遮蔽 / end what is hidden from now on", _end_masks))
    listing = branch.add("list", "会话列表 / sessions, newest first", _list)
    listing.add_argument("--room", metavar="NO", help="询问室编号 / of one room")
    listing.add_argument("--state", choices=[str(state) for state in State], help="状态 / in this state")
    listing.add_argument("--limit", type=int, default=50, metavar="N", help="最多几条 / at most; 50")
    add_json(listing)
    showing = branch.add("show", "会话详情与中断记录 / a session and its break log", _show)
    add_session(showing)
    add_json(showing)
    conduct.add_to(branch)
    printing = branch.add("sheet", "结束单,供签名 / end sheet, to be signed", _sheet)
    add_session(printing)
    printing.add_argument(
        "--pdf", type=Path, metavar="FILE", help="写入 PDF,缺省输出 JSON / write a PDF; default JSON"
    )


def _add_reason(parser: Parser) -> None:
    reasons = [str(reason) for reason in GapReason]
    parser.add_argument("reason", choices=reasons, metavar="REASON", help=f"原因 / reason: {REASONS}")
    parser.add_argument("text", metavar="TEXT", help="说明 / in words")


def _start(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        room = registry.room_of(session, agency, desk.settings.recorder.rooms, options.room_no)
        started_at = options.started_at and read_instant(options.started_at, "--from", agency.time_zone)
        row = sessions.start(
            session,
            agency,
            room,
            facts=stated_of(options),
            started_at=started_at or None,
            actor=operator(),
            now=desk.now(),
        )
        missing, since = Facts.from_json(row.facts).missing(), desk.local(row.started_at)
        unknown = registry.unregistered(session, agency, row).names()
    print(f"已开始 / started: {row.id}  {row.room_no}  {since}", flush=True)
    tell_missing(missing, unknown)
    with at_desk(options) as desk:
        unseen = wait_for_pictures(desk, room)
    if unseen:
        # The session has begun all the same: what is not recorded is a break, and said.
        names = ", ".join(unseen)
        print(f"未在录制,请检查设备 / not recorded now, look at the recorder: {names}")
    return 0


def _facts(options: argparse.Namespace) -> int:
    stated = stated_of(options)
    with at_desk(options) as desk, desk.write() as (session, agency):
        session_id = id_of(session, agency, options.session)
        row = sessions.state_facts(session, agency, session_id, stated, actor=operator(), now=desk.now())
        missing = Facts.from_json(row.facts).missing()
        unknown = registry.unregistered(session, agency, row).names()
    print(f"已登记 / stated: {', '.join(stated)}")
    tell_missing(missing, unknown)
    return 0


def _stop(options: argparse.Namespace) -> int:
    row = _change(options, sessions.stop)
    print(f"已结束 / ended: {row.id}")
    return 0


def _resume(options: argparse.Namespace) -> int:
    _change(options, sessions.resume)
    print(f"已继续 / resumed: {options.session}")
    return 0


def _mark(options: argparse.Namespace) -> int:
    _change(options, sessions.mark, options.text)
    print(f"已标记 / marked: {options.text.strip()}")
    return 0


def _pause(options: argparse.Namespace) -> int:
    _change(options, sessions.pause, GapReason(options.reason), options.text)
    print(f"已暂停 / paused: {options.session}")
    return 0


def _reason(options: argparse.Namespace) -> int:
    with at_desk(options) as desk:
        zone = desk.agency.time_zone
        from_at, to_at = (
            read_instant(options.from_at, "FROM", zone), read_instant(options.to_at, "TO", zone)
        )  # fmt: skip
    _change(
        options,
        sessions.give_reason,
        stream=options.stream,
        from_at=from_at,
        to_at=to_at,
        reason=GapReason(options.reason),
        text=options.text,
    )
    print(f"已说明 / reason given: {options.stream}")
    return 0


def _mask_stretch(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        session_id = id_of(session, agency, options.session)
        from_at, to_at = (
            read_instant(text, name, agency.time_zone) if text else None
            for text, name in ((options.from_at, "--from"), (options.to_at, "--to"))
        )
        made = masks.mask(
            session, agency, session_id, Hides(options.hides), Reason(options.reason), options.text,
            from_at=from_at, to_at=to_at, actor=operator(), now=desk.now(),
        )  # fmt: skip
        count = len(hide(session, agency, session_id, operator(), desk.now()))
        since, until = desk.local(made.from_at), desk.local(made.to_at) if made.to_at else "…"
    print(f"已遮蔽 / masked: {' '.join(HIDES_WORDS[Hides(options.hides)])}  {since} – {until}")
    print(f"重新脱敏的文件 / files redacted anew: {count}")
    return 0


def _end_masks(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        of = rows.session_by_id(session, agency.id, id_of(session, agency, options.session), lock=True)
        lasting = [row.id for row in masks_of(session, agency.id, [of.id]) if ends_at(row, of) is None]
        for mask_id in lasting:
            masks.end(session, agency, of.id, mask_id, actor=operator(), now=desk.now())
    print(f"已结束遮蔽 / masks ended: {len(lasting)}")
    return 0


def _seal(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        row = sealing.seal(
            session,
            agency,
            id_of(session, agency, options.session),
            desk.storage.keys,
            actor=operator(),
            now=desk.now(),
        )
    print(f"已封存 / sealed: {row.id}")
    return 0


def _change(options: argparse.Namespace, do: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Do one thing to the session a command names, as its one transaction."""
    with at_desk(options) as desk, desk.write() as (session, agency):
        session_id = id_of(session, agency, options.session)
        return do(session, agency, session_id, *given, actor=operator(), now=desk.now(), **named)


def _list(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        found = [
            {
                "id": str(row.id),
                "room_no": row.room_no,
                "state": row.state,
                "case_no": row.facts["case_no"],
                "started_at": desk.local(row.started_at),
                "ended_at": desk.local(row.ended_at),
                "missing": ", ".join(Facts.from_json(row.facts).missing()),
            }
            for row in rows.page_of_sessions(
                session,
                desk.agency.id,
                room_no=options.room,
                state=options.state,
                limit=max(1, options.limit),
            )
        ]
    if options.json:
        print_json(found)
    else:
        heads = ("编号 id", "室 room", "状态 state", "案号 case", "开始 from", "结束 to", "未登记 missing")
        worded = [
            {
                **row,
                "state": " ".join(STATE_WORDS[State(row["state"])]),
                "missing": listed(FACTS, filter(None, row["missing"].split(", "))),
            }
            for row in found
        ]
        print_table(heads, [tuple(row.values()) for row in worded])
    return 0


def _show(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        agency_id = desk.agency.id
        row = rows.session_by_id(session, agency_id, id_of(session, desk.agency, options.session))
        told = sessions.tell(session, agency_id, row)
        files = wording.with_around(told, sealing.files_of(session, agency_id, told))
        unknown = registry.unregistered(session, desk.agency, row)
        masked = wording.hidden(session, told)
        if options.json:
            print_json(_as_json(told, files) | {"masks": masked, "unregistered": unknown.to_json()})
        else:
            _print(desk, told, files, unknown.names())
            _print_masks(desk, masked, [wording.who(session, desk.agency, each["by"]) for each in masked])
    return 0


def _sheet(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        session_id = id_of(session, desk.agency, options.session)
        made = sheet.end_sheet(session, desk.agency, session_id, desk.storage.keys, desk.now())
        zone, now = desk.agency.time_zone, desk.now()
    if options.pdf is None:
        print_json(made)
        return 0
    write_new(options.pdf, lambda file: file.write(sheet.as_pages(made, zone, now)))
    print(f"已写入 / written: {options.pdf}")
    return 0


def _as_json(told: Told, files: list[dict[str, Any]]) -> dict[str, Any]:
    row: RoomSession = told.row
    return {
        "id": str(row.id),
        "room_no": row.room_no,
        "state": row.state,
        "started_at": rfc3339(row.started_at),
        "requested_at": rfc3339(row.requested_at),
        "ended_at": row.ended_at and rfc3339(row.ended_at),
        "complete_at": row.complete_at and rfc3339(row.complete_at),
        "held_by": row.held_by,
        "paused_since": row.paused_since and rfc3339(row.paused_since),
        "facts": told.facts.to_json(),
        "missing": told.facts.missing(),
        "files": files,
        "notes": [
            {
                "kind": note.kind,
                "at": rfc3339(note.at),
                "by": note.by,
                "reason": note.reason,
                "text": note.text,
                "point": note.point,
            }
            for note in told.notes
        ],
        "breaks": [
            {
                "stream": each.stream,
                "cause": str(each.cause),
                "from_at": rfc3339(from_micros(each.from_us)),
                "to_at": rfc3339(from_micros(each.to_us)),
                "length_ms": each.length_ms,
                "reasons": [note.text for note in each.reasons],
            }
            for each in told.breaks
        ],
        "missing_us": missing_us(told.breaks),
    }


def _print(desk: Desk, told: Told, files: list[dict[str, Any]], unknown: list[str]) -> None:
    row, points = told.row, {each["code"]: each["zh"] for each in told.row.points}
    print(f"{row.id}  {row.room_no} {row.room_name}  {' '.join(STATE_WORDS[State(row.state)])}")
    print(f"{desk.local(row.started_at)} – {desk.local(row.ended_at)}")
    for name, value in told.facts.to_json().items():
        print(f"  {both(FACTS, name)}: {', '.join(value) if isinstance(value, list) else value or '—'}")
    tell_missing(told.facts.missing(), unknown)
    print_table(
        ("信号 stream", "序 no", "起 from", "止 to", "会话外 outside s", "SHA-256", "核对 read back"),
        [
            (
                each["stream"],
                each["sequence_no"],
                _exact(desk, datetime.fromisoformat(each["from_at"])),
                _exact(desk, datetime.fromisoformat(each["to_at"])),
                _outside(each),
                each["sha256"][:16],
                "是 yes" if each["verified"] else "否 no",
            )
            for each in files
        ],
    )
    if row.ended_at is not None and row.complete_at is None:
        print(f"文件尚未齐全 / files may still come: {', '.join(row.held_by) or '—'}")
    print_table(
        ("中断 break", "信号 stream", "起 from", "止 to", "毫秒 ms", "原因 reason"),
        [
            (
                CAUSE_WORDS[each.cause][0],
                each.stream,
                _exact(desk, from_micros(each.from_us)),
                _exact(desk, from_micros(each.to_us)),
                each.length_ms,
                "; ".join(note.text for note in each.reasons),
            )
            for each in told.breaks
        ],
    )
    print_table(
        ("记事 note", "时间 at", "内容 text"),
        [
            (
                NOTE_WORDS[NoteKind(note.kind)][0],
                _exact(desk, note.at),
                wording.note_in_words(note.kind, note.text, note.point, points),
            )
            for note in told.notes
        ],
    )


def _print_masks(desk: Desk, masked: list[dict[str, Any]], people: list[str]) -> None:
    if not masked:
        return
    print_table(
        ("遮蔽 hidden", "起 from", "止 to", "原因 reason", "说明 in words", "由 by"),
        [
            (
                HIDES_WORDS[Hides(each["hides"])][0],
                _exact(desk, datetime.fromisoformat(each["from_at"])),
                _exact(desk, datetime.fromisoformat(each["to_at"])) if each["to_at"] else "…",
                HIDES_WHY[Reason(each["reason"])][0],
                each["statement"],
                by,
            )
            for each, by in zip(masked, people, strict=True)
        ],
    )


def _outside(file: dict[str, Any]) -> str:
    """How much of a file lies before and after its session; empty: none."""
    before, after = file["before_ms"] / 1000, file["after_ms"] / 1000
    return f"-{before:.1f} +{after:.1f}" if before or after else ""


def _exact(desk: Desk, at: datetime) -> str:
    """With milliseconds: a break may be shorter than a second."""
    return f"{desk.local(at)}.{at.microsecond // 1000:03d}"
