"""The end sheet of a session: what was recorded, what was not and why, each digest, room to sign (L16, L17).

As data it is signed as a receipt is, and names the checkpoint of the custody log it was made under; as pages
it is the same, in Chinese and English, to be signed on the spot. It is made from rows at each asking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from evidence.breaks import CAUSE_WORDS, Cause, missing_us
from evidence.clock import from_micros, rfc3339
from evidence.errors import Conflict
from evidence.kinds import GapReason
from evidence.masks import HIDES_WORDS, Hides, Reason
from evidence.masks import REASON_WORDS as HIDES_WHY
from evidence.session import (
    COPY_WORDS,
    NOTE_WORDS,
    REASON_WORDS,
    STATE_WORDS,
    CopyState,
    NoteKind,
    State,
)
from ingest.recorder.conduct import Checked, checklist
from ingest.recorder.registry import unregistered
from ingest.recorder.schedule import late_ms
from ingest.recorder.sealing import files_of, signed
from ingest.recorder.sessions import Told, tell
from ingest.recorder.wording import FACT_WORDS, NONE, hidden, note_in_words, who, with_around
from media.fonts import find_font, require_font
from media.pages import Line, Look, as_pdf, draw_pages
from storage.db import agencies, custody, planned_sessions, sessions
from storage.db.room_tables import RoomSession
from storage.db.tables import Agency
from storage.keys import KeyRing

VERSION = "liuhen-session-sheet/1"
TITLE = "询问室录音录像结束单 End sheet of an interview-room session"
UNREGISTERED = " · 未在本机构登记 not registered here"
MOST_LISTED = 500
"""Of breaks, and of notes, on the pages; the data has all of them."""


def end_sheet(
    session: Session, agency: Agency, session_id: UUID, keys: KeyRing, now: datetime
) -> dict[str, Any]:
    """The sheet as data, signed.

    Raises:
        NotFound: There is no such session.
        Conflict: It has not ended (``session_state``).
    """
    row = sessions.session_by_id(session, agency.id, session_id)
    if row.state == State.OPEN or row.ended_at is None:
        raise Conflict(
            f"session {row.id}: expected it ended, found it {row.state}; end it first",
            code="session_state",
            current=row.state,
        )
    told = tell(session, agency.id, row)
    newest = custody.newest_checkpoint(session, agency.id)
    files = with_around(told, files_of(session, agency.id, told))
    body = {
        "version": VERSION,
        "agency": agency.code,
        "agency_name": agency.name,
        "session": str(row.id),
        "room_no": row.room_no,
        "room_name": row.room_name,
        "device_no": row.device_no,
        "state": row.state,
        "requested_at": rfc3339(row.requested_at),
        "started_at": rfc3339(row.started_at),
        "ended_at": rfc3339(row.ended_at),
        "started_by": who(session, agency, row.started_by),
        "ended_by": who(session, agency, row.ended_by or ""),
        "facts": told.facts.to_json(),
        "officers": [_officer(session, agency, number) for number in told.facts.officers],
        "missing_facts": told.facts.missing(),
        "unregistered": unregistered(session, agency, row).to_json(),
        "plan": _plan(session, agency, row),
        "checklist": [_point(session, agency, each) for each in checklist(row, told.notes, told.parts)],
        "streams": _streams(told),
        "breaks": _breaks(session, agency, told),
        "masks": [
            {
                **each,
                "by": who(session, agency, each["by"]),
                "ended_by": each["ended_by"] and who(session, agency, each["ended_by"]),
            }
            for each in hidden(session, told)
        ],
        "notes": [
            {
                "kind": note.kind,
                "at": rfc3339(note.at),
                "by": who(session, agency, note.by),
                "reason": note.reason,
                "text": note.text,
                "point": note.point,
            }
            for note in told.notes
        ],
        "files": files,
        "second_copies": _second_copies(files),
        "complete_at": rfc3339(row.complete_at) if row.complete_at else None,
        "held_by": row.held_by,
        "sealed_at": rfc3339(row.sealed_at) if row.sealed_at else None,
        "manifest_sha256": sha256(row.manifest.encode()).hexdigest() if row.manifest else None,
        "start_leaf": str(row.leaf_id),
        "checkpoint": newest.note if newest is not None else None,
        "made_at": rfc3339(now),
    }
    return signed(keys, body)


def as_pages(sheet: Mapping[str, Any], zone: str, made_at: datetime) -> bytes:
    """The sheet as a PDF of pictures.

    Raises:
        Unavailable: There is no font that has Chinese (``font_missing``).
        InvalidInput: It is longer than can be drawn (``sheet_too_long``).
    """
    font = require_font(find_font(None), "end sheet")
    foot = f"{sheet['agency_name']}  {sheet['session']}"
    return as_pdf(draw_pages(list(_lines(sheet, ZoneInfo(zone))), foot, font), TITLE, made_at)


def _streams(told: Told) -> list[dict[str, Any]]:
    lost = missing_us(told.breaks)
    names = sorted({*told.row.streams, *(part.stream for part in told.parts)})
    return [
        {
            "stream": name,
            "files": sum(part.stream == name for part in told.parts),
            "missing_ms": (lost.get(name, 0) + 500) // 1000,
        }
        for name in names
    ]


def _second_copies(files: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many files are to be in a second store, and how many are known to match there."""
    states = [each["second_copy"]["state"] for each in files if each["second_copy"] is not None]
    return {"wanted": len(states), **{str(state): states.count(state) for state in CopyState}}


def _breaks(session: Session, agency: Agency, told: Told) -> list[dict[str, Any]]:
    return [
        {
            "stream": each.stream,
            "cause": str(each.cause),
            "from_at": rfc3339(from_micros(each.from_us)),
            "to_at": rfc3339(from_micros(each.to_us)),
            "length_ms": each.length_ms,
            "is_missing": each.is_missing,
            "count": each.count,
            "reasons": [
                {
                    "reason": str(note.reason) if note.reason else None,
                    "statement": note.text,
                    "by": who(session, agency, note.by),
                    "at": rfc3339(from_micros(note.at_us)),
                }
                for note in each.reasons
            ],
        }
        for each in told.breaks
    ]


def _plan(session: Session, agency: Agency, row: RoomSession) -> dict[str, Any] | None:
    """What was planned, and how late it was begun; None where nothing was."""
    plan = planned_sessions.plan_of_session(session, agency.id, row.id)
    if plan is None:
        return None
    return {
        "planned_by": who(session, agency, plan.planned_by),
        "starts_at": rfc3339(plan.starts_at),
        "ends_at": rfc3339(plan.ends_at),
        "late_ms": late_ms(plan, row),
    }


def _point(session: Session, agency: Agency, each: Checked) -> dict[str, Any]:
    """A point of the checklist: when and where it is shown, or why it is not (R11)."""
    note = each.noted.note
    return {
        **each.noted.point.to_json(),
        "is_shown": each.noted.is_shown,
        "at": None if each.at is None else rfc3339(each.at),
        "offset_ms": each.offset_ms,
        "places": [place.to_json() for place in each.places],
        "text": "" if note is None else note.text,
        "by": None if note is None else who(session, agency, note.by),
        "noted_at": None if note is None else rfc3339(from_micros(note.at_us)),
    }


def _officer(session: Session, agency: Agency, number: str) -> dict[str, str | None]:
    """An officer as the register has them; a number it does not have stays alone."""
    row = agencies.officer_by_no(session, agency.id, number)
    return {
        "officer_no": number,
        "name": row.name if row is not None else None,
        "certificate_no": row.certificate_no if row is not None else None,
    }


def _lines(sheet: Mapping[str, Any], zone: ZoneInfo) -> Iterator[Line]:
    def when(at: str) -> str:
        local = datetime.fromisoformat(at).astimezone(zone)
        return f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03d}"

    yield Line(TITLE, Look.TITLE)
    yield Line(f"{sheet['agency_name']} · {sheet['room_no']} {sheet['room_name']}")
    yield Line(
        f"会话 Session  {sheet['session']} · 状态 State  {' '.join(STATE_WORDS[State(sheet['state'])])}"
    )
    times = f"开始 Start  {when(sheet['started_at'])} · 结束 End  {when(sheet['ended_at'])}"
    yield Line(f"时区 Zone  {zone.key} · {times}")
    if sheet["requested_at"] != sheet["started_at"]:
        yield Line(
            f"由预录补记,登记于 Claimed from what was recorded beforehand, at  {when(sheet['requested_at'])}"
        )
    yield Line(f"开始人 Started by  {sheet['started_by']} · 结束人 Ended by  {sheet['ended_by']}")
    if sheet["plan"] is not None:
        plan = sheet["plan"]
        window = f"{when(plan['starts_at'])} – {when(plan['ends_at'])}"
        late = f"迟 late {plan['late_ms'] / 1000:.1f} s"
        yield Line(f"预定 Planned  {window} · 预定人 by  {plan['planned_by']} · {late}")
    yield Line("登记事项 Facts", Look.HEAD, keeps=2)
    yield from _facts(sheet)
    yield Line("应当录入的事项 What must be said and seen", Look.HEAD, keeps=2)
    yield from _of_checklist(sheet["checklist"], when, is_complete=sheet["complete_at"] is not None)
    yield Line("录制情况 What was recorded", Look.HEAD, keeps=2)
    for each in sheet["streams"]:
        lost = f"缺失 missing {each['missing_ms'] / 1000:.3f} s"
        yield Line(f"{each['stream']} · 文件 files {each['files']} · {lost}")
    yield Line("中断及原因 Breaks and reasons", Look.HEAD, keeps=2)
    yield from _of_breaks(sheet["breaks"], when)
    yield Line("遮蔽时段 What is hidden in all that is made", Look.HEAD, keeps=2)
    yield from _of_masks(sheet["masks"], when)
    yield Line("标记与记事 Markers and notes", Look.HEAD, keeps=2)
    yield from _of_notes(sheet, when)
    yield Line("文件与摘要 Files and digests", Look.HEAD, keeps=4)
    yield from _of_files(sheet["files"], when)
    yield from _of_copies(sheet)
    if sheet["complete_at"] is None:
        where = ", ".join(sheet["held_by"]) or NONE
        yield Line(f"文件尚未齐全 Files may still come · 所在主机 from  {where}")
    else:
        yield Line(f"文件已齐全 All files in  {when(sheet['complete_at'])}", Look.SMALL)
    yield from _of_custody(sheet, when)
    yield from _to_sign()


def _facts(sheet: Mapping[str, Any]) -> Iterator[Line]:
    unknown = sheet["unregistered"]
    for name in ("case_no", "place", "party", "object_of_proof"):
        note = UNREGISTERED if name == "case_no" and unknown["case_no"] else ""
        yield Line(f"{FACT_WORDS[name]}:  {sheet['facts'][name] or NONE}{note}")
    for each in sheet["officers"]:
        certificate = f" · 证件 Certificate {each['certificate_no']}" if each["certificate_no"] else ""
        note = UNREGISTERED if each["officer_no"] in unknown["officers"] else ""
        yield Line(f"{FACT_WORDS['officers']}:  {each['officer_no']} {each['name'] or ''}{certificate}{note}")
    if sheet["missing_facts"]:
        yield Line(f"未登记 Not stated:  {'; '.join(FACT_WORDS[name] for name in sheet['missing_facts'])}")


def _of_checklist(
    points: Sequence[Mapping[str, Any]], when: Callable[[str], str], *, is_complete: bool
) -> Iterator[Line]:
    if not points:
        yield Line("无 None")
    for each in points:
        name = f"{each['zh']} {each['en']}".strip()
        said = f" · {each['text']}" if each["text"] else ""
        if not each["is_shown"]:
            yield Line(f"□ {name}", keeps=2)
            why = f"{each['text']} · {each['by']}" if each["by"] else "未说明 nobody said why"
            yield Line(f"→ 未录入 not shown: {why}", Look.SMALL)
            continue
        yield Line(f"√ {name}", keeps=2)
        missing = "该时刻无录像 nothing recorded then" if is_complete else "文件尚未齐全 files may still come"
        places = ", ".join(
            f"{place['stream']} {place['sequence_no']} +{place['offset_ms'] / 1000:.1f} s"
            for place in each["places"]
        )
        clock = f"{when(each['at'])} · +{each['offset_ms'] / 1000:.1f} s"
        yield Line(f"→ {clock} · {places or missing} · {each['by']}{said}", Look.SMALL)


def _of_breaks(breaks: Sequence[Mapping[str, Any]], when: Callable[[str], str]) -> Iterator[Line]:
    if not breaks:
        yield Line("无 None")
    for each in breaks[:MOST_LISTED]:
        zh, en = CAUSE_WORDS[Cause(each["cause"])]
        length = f" · {each['length_ms'] / 1000:.3f} s" if each["is_missing"] else ""
        times = f"{when(each['from_at'])} – {when(each['to_at'])}"
        yield Line(f"{each['stream']} · {times}{length} · {zh} {en}", keeps=1 + bool(each["reasons"]))
        for said in each["reasons"]:
            word = REASON_WORDS[GapReason(said["reason"])][0] if said["reason"] else NONE
            yield Line(f"→ {word}: {said['statement']} · {said['by']}", Look.SMALL)
        if each["is_missing"] and not each["reasons"]:
            yield Line("→ 未说明 nobody said why", Look.SMALL)
    yield from _more(len(breaks))


def _of_masks(masks: Sequence[Mapping[str, Any]], when: Callable[[str], str]) -> Iterator[Line]:
    if not masks:
        yield Line("无 None")
    for each in masks[:MOST_LISTED]:
        what, why = HIDES_WORDS[Hides(each["hides"])], HIDES_WHY[Reason(each["reason"])]
        yield Line(
            f"{when(each['from_at'])} – {when(each['to_at'])} · {' '.join(what)} · {' '.join(why)}", keeps=2
        )
        yield Line(f"→ {each['statement'] or NONE} · {each['by']}", Look.SMALL)
    yield from _more(len(masks))


def _of_notes(sheet: Mapping[str, Any], when: Callable[[str], str]) -> Iterator[Line]:
    notes, points = sheet["notes"], {each["code"]: each["zh"] for each in sheet["checklist"]}
    if not notes:
        yield Line("无 None")
    for each in notes[:MOST_LISTED]:
        zh, en = NOTE_WORDS[NoteKind(each["kind"])]
        said = note_in_words(each["kind"], each["text"], each["point"], points)
        yield Line(f"{when(each['at'])} · {zh} {en} · {said} · {each['by']}", Look.SMALL)
    yield from _more(len(notes))


def _more(count: int) -> Iterator[Line]:
    if count > MOST_LISTED:
        yield Line(f"另有 {count - MOST_LISTED} 条,见数据 and {count - MOST_LISTED} more in the data")


def _of_files(files: Sequence[Mapping[str, Any]], when: Callable[[str], str]) -> Iterator[Line]:
    if not files:
        yield Line("无 None")
    for each in files:
        read = "已回读 read back" if each["verified"] else "未回读 not read back yet"
        late = " · 封存后补入 after the seal" if each["after_seal"] else ""
        times = f"{when(each['from_at'])} – {when(each['to_at'])}"
        copy = each["second_copy"]
        twice = f" · {' '.join(COPY_WORDS[CopyState(copy['state'])])}" if copy is not None else ""
        size = f"{each['size_bytes']} B · {read}{twice}{late}"
        yield Line(f"{each['stream']} {each['sequence_no']} · {times} · {size}", Look.SMALL, keeps=3)
        if each["before_ms"] or each["after_ms"]:
            lies = f"开始前 before the start {each['before_ms'] / 1000:.3f} s · "
            lies += f"结束后 after the end {each['after_ms'] / 1000:.3f} s"
            yield Line(f"不属本次会话 not of this session: {lies}", Look.SMALL, keeps=2)
        yield Line(f"SHA-256 {each['sha256']}", Look.SMALL, keeps=2)
        yield Line(f"SM3 {each['sm3'] or NONE}", Look.SMALL)


def _of_copies(sheet: Mapping[str, Any]) -> Iterator[Line]:
    counts = sheet["second_copies"]
    if not counts["wanted"]:
        yield Line("未设第二份存储 No second store", Look.SMALL)
        return
    said = [f"{' '.join(words)}  {counts[state]}" for state, words in COPY_WORDS.items()]
    yield Line(f"第二份存储 Second store · 文件 files  {counts['wanted']} · {' · '.join(said)}")


def _of_custody(sheet: Mapping[str, Any], when: Callable[[str], str]) -> Iterator[Line]:
    yield Line("流转记录 Custody", Look.HEAD, keeps=2)
    if sheet["manifest_sha256"]:
        yield Line(
            f"封存 Sealed  {when(sheet['sealed_at'])} · 清单 List SHA-256 {sheet['manifest_sha256']}",
            Look.SMALL,
        )
    yield Line(f"开始记录 Leaf of the start  {sheet['start_leaf']}", Look.SMALL)
    for number, text in enumerate((sheet["checkpoint"] or NONE).splitlines()):
        if text.strip():
            yield Line(f"{'检查点 Checkpoint  ' if number == 0 else ''}{text}", Look.SMALL)
    yield Line(f"制单 Made  {when(sheet['made_at'])} · 密钥 Key {sheet['key']}", Look.SMALL)
    yield Line(f"签名(仅完整性)Signature, integrity only  {sheet['signature']}", Look.SMALL)


def _to_sign() -> Iterator[Line]:
    yield Line("签名 Signatures", Look.HEAD, keeps=6)
    for words in (
        "办案人员 Officer",
        "办案人员 Officer",
        "被询问人 Party",
        "记录人 Clerk",
        "日期 Date",
    ):
        yield Line(words, Look.RULE)
