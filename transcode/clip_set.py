"""A numbered set of clips in one file: the clips in order of corrected time, and a sheet that names the gaps.

The file is a ZIP without compression, so that its members are the clips byte for byte; names, order and times
in it follow from the set alone, and the same set gives the same bytes. The sheet says of each clip which it
is, of what, when, and its digests; what lies between the clips; and what was asked for and is not there.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from evidence.clock import rfc3339
from evidence.coverage import coverage_in_words
from evidence.errors import EvidenceError, NotFound
from evidence.kinds import PURPOSE_WORDS, RetrievalPurpose
from media.mux import unwritable
from media.still import sync
from media.supervise import raise_if_cancelled
from storage.db import accounts, cases, clips, items
from storage.db.clip_tables import Clip, ClipSet
from storage.db.tables import Agency, Derivative

SCHEMA = "liuhen-clip-set/1"
MADE_AT = (1980, 1, 1, 0, 0, 0)
"""When members were changed, for a format that has to say: when a set was packed is in custody."""
COPY_BYTES = 1 << 20
STYLE = (
    "body{font:11pt/1.4 sans-serif;margin:1.5cm;color:#000;background:#fff}"
    "table{border-collapse:collapse;width:100%;margin:.5em 0}"
    "th,td{border:1px solid #000;padding:.2em .4em;text-align:left;vertical-align:top}"
    "th{font-weight:normal}code{overflow-wrap:anywhere}"
)


def member_name(number: int, starts_at: str, zone: str) -> str:
    """What a clip is called in its set: its number and the local time at which it begins."""
    local = datetime.fromisoformat(starts_at).astimezone(ZoneInfo(zone))
    return f"{number:03d}-{local:%Y%m%dT%H%M%S}.mp4"


def set_sheet(session: Session, agency: Agency, row: ClipSet, *, is_packing: bool = False) -> dict[str, Any]:
    """What goes beside a set, as data; it says nothing that changes after the clips were cut.

    Args:
        is_packing: Of the file that is being made, not of the one that is there.

    Raises:
        NotFound: A clip is not cut yet (``clip_not_ready``), or was withdrawn (``derivative_withdrawn``).
    """
    held = clips.clips_of_set(session, agency.id, row.id)
    case = cases.case_by_id(session, agency.id, row.case_id)
    viewer = accounts.account_by_id(session, agency.id, row.account_id)
    first = held[0]
    not_cut = clips.not_cut_of(row)
    if is_packing or row.derivative_id is None:
        not_cut = clips.still_not_cut(row, held)
    said = [_said_of(session, agency, row, clip) for clip in held if str(clip.id) not in not_cut]
    return {
        "schema": SCHEMA,
        "form": row.form,
        "agency": agency.name,
        "set_id": str(row.id),
        "case_no": case.case_no,
        "variant": first.variant,
        "from_at": rfc3339(row.window_from),
        "to_at": rfc3339(row.window_to),
        "purpose": first.purpose,
        "reason": first.reason,
        "marked": any(each["marked"] for each in said),
        "taken_by": f"{viewer.display_name} ({viewer.username})",
        "requested_at": rfc3339(row.requested_at),
        "clips": said,
        "not_cut": [
            {**_place_of(session, agency, row, clip), "why": not_cut[str(clip.id)]}
            for clip in held
            if str(clip.id) in not_cut
        ],
        "gaps": row.layout["gaps"],
        "left_out": row.layout["left_out"],
        "unplaced_count": row.layout["unplaced_count"],
        "composite": _said_of_composite(session, agency, row) if row.form != "zip" else None,
    }


def _said_of_composite(session: Session, agency: Agency, row: ClipSet) -> dict[str, Any]:
    """The one picture: what stands where in it and when, whose sound is heard, and its digests."""
    if row.derivative_id is None:
        raise NotFound(
            f"clip set {row.id}: expected it made, found it is not yet; wait", code="clip_not_ready"
        )
    made = items.derivative_by_id(session, agency.id, row.derivative_id)
    told = ("frame_count", "rate", "width_px", "height_px", "sound_lane", "panes", "sm3")
    return {
        **{name: made.info[name] for name in told},
        "sha256": made.sha256.hex(),
        "size_bytes": made.size_bytes,
    }


def _said_of(session: Session, agency: Agency, row: ClipSet, clip: Clip) -> dict[str, Any]:
    lies: Mapping[str, Any] = row.layout["members"][str(clip.id)]
    if clip.derivative_id is None:
        raise NotFound(f"clip {clip.id}: expected it cut, found it is not yet; wait", code="clip_not_ready")
    made = items.derivative_by_id(session, agency.id, clip.derivative_id)
    if made.withdrawn_at is not None:
        raise NotFound(f"clip {clip.id}: expected in force, found withdrawn", code="derivative_withdrawn")
    item = items.item_by_id(session, agency.id, clip.item_id)
    original = items.object_of(session, item)
    shown = made
    own = _of_file(made, member_name(clip.place or 0, lies["starts_at"], agency.time_zone))
    source_id = clips.source_ids_of(row).get(clip.id)
    if source_id is not None:
        shown = items.derivative_by_id(session, agency.id, source_id)
        if shown.withdrawn_at is not None:
            raise NotFound(f"clip {clip.id}: expected in force, found withdrawn", code="derivative_withdrawn")
        own = {"rendition_sha256": shown.sha256.hex()}
    return {
        **_place_of(session, agency, row, clip),
        **own,
        "original_sha256": original.sha256.hex(),
        "original_sm3": original.sm3.hex() if original.sm3 else None,
        "marked": bool(made.params.get("mark", clip.marked)),
        "masked": shown.masked,
        "coverage": (shown.info.get("coverage") or {}) if shown.masked else None,
    }


def _place_of(session: Session, agency: Agency, row: ClipSet, clip: Clip) -> dict[str, Any]:
    """Which clip of a set it is, of what, and where it lies."""
    lies: Mapping[str, Any] = row.layout["members"][str(clip.id)]
    return {
        "number": clip.place or 0,
        "clip_id": str(clip.id),
        "item_id": str(clip.item_id),
        "av_record_no": items.item_by_id(session, agency.id, clip.item_id).av_record_no,
        "span_us": [clip.span_from_us, clip.span_to_us],
        **lies,
    }


def _of_file(made: Derivative, name: str) -> dict[str, Any]:
    """What is said of a clip that is a file of its own."""
    return {
        "file": name,
        "frame_count": made.info.get("frame_count"),
        "copied_frame_count": made.info.get("copied_frame_count", 0),
        "sha256": made.sha256.hex(),
        "sm3": made.info.get("sm3"),
        "size_bytes": made.size_bytes,
        "rendition_sha256": made.params.get("source_sha256"),
    }


def as_json(sheet: Mapping[str, Any]) -> bytes:
    """The sheet as data: the same bytes for the same sheet."""
    return (json.dumps(sheet, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()


def as_page(sheet: Mapping[str, Any], zone: str) -> bytes:
    """The sheet as one page of HTML without anything from elsewhere."""

    def when(at: str | None) -> str:
        if at is None:
            return "—"
        return f"{datetime.fromisoformat(at).astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S.%f}"

    purpose = RetrievalPurpose(sheet["purpose"])
    facts = [
        ("机关 Agency", sheet["agency"]),
        ("案件编号 Case", sheet["case_no"]),
        ("片段集 Set", sheet["set_id"]),
        ("画面 Variant", "脱敏件 Masked" if sheet["variant"] == "redacted" else "原件 Original"),
        (f"时段 Window ({zone})", f"{when(sheet['from_at'])} – {when(sheet['to_at'])}"),
        ("水印 Mark", "有 drawn into the pictures" if sheet["marked"] else "无 none"),
        ("目的 Purpose", f"{PURPOSE_WORDS[purpose]} {purpose}"),
        ("理由 Reason", sheet["reason"] or "—"),
        ("调取人 Taken by", sheet["taken_by"]),
        ("申请时间 Requested", when(sheet["requested_at"])),
        ("时间不明、未列入的记录数 Recordings whose time nobody knows", sheet["unplaced_count"]),
    ]
    offsets = [
        (each["number"], each["clock"] or "—", _offset(each["offset_us"]), each["offset_basis"] or "—")
        for each in sheet["clips"]
    ]
    members = [
        (
            each["number"],
            each.get("file", "—"),
            f"{when(each['starts_at'])} – {when(each['ends_at'])}",
            each["device_no"] or each["place"] or "—",
            each["av_record_no"] or each["item_id"],
            f"{each['span_us'][0] / 1e6:.6f} – {each['span_us'][1] / 1e6:.6f}",
            each.get("frame_count", "—"),
            _masking(each["coverage"]),
            f"SHA-256 {each.get('sha256', '—')} SM3 {each.get('sm3') or '—'}",
            f"SHA-256 {each['original_sha256']} SM3 {each['original_sm3'] or '—'}",
        )
        for each in sheet["clips"]
    ]
    gaps = [
        (
            "全部来源 all sources"
            if gap["lane"] is None
            else gap["device_no"] or gap["place"] or gap["lane"],
            f"{when(gap['starts_at'])} – {when(gap['ends_at'])}",
            f"{gap['duration_us'] / 1e6:.6f} s",
            "是 yes" if gap["is_certain"] else "否 no",
        )
        for gap in sheet["gaps"]
    ]
    left_out = [(each["item_id"], each["why"]) for each in sheet["left_out"]]
    not_cut = [
        (
            each["number"],
            f"{when(each['starts_at'])} – {when(each['ends_at'])}",
            each["av_record_no"] or each["item_id"],
            each["why"],
        )
        for each in sheet["not_cut"]
    ]
    title = "音像片段集随附单 Sheet of a set of clips"
    heads = ("编号 No.", "文件 File", "时刻 Time", "来源 Source", "记录 Record", "媒体时间 Media time, s",
             "帧数 Frames", "脱敏范围 Coverage", "片段摘要 Digests of the clip",
             "原件摘要 Digests of the original")  # fmt: skip
    body = [
        f"<h1>{title}</h1>",
        _table([], facts),
        "<h2>片段 Clips</h2>",
        _table(heads, members),
        "<h2>时钟偏差 Clocks</h2>",
        _table(("编号 No.", "时钟 Clock", "已加偏差 Offset added", "依据 Rests on"), offsets),
        *(_composite_told(sheet["composite"], when) if sheet["composite"] is not None else []),
        "<h2>空档 Gaps</h2>",
        _table(("来源 Source", "时刻 Time", "时长 Length", "大于时钟刻度 Beyond the clock's step"), gaps),
        "<h2>未能裁剪 Could not be cut</h2>",
        _table(("编号 No.", "时刻 Time", "记录 Record", "原因 Why"), not_cut),
        "<h2>未列入 Left out</h2>",
        _table(("记录 Item", "原因 Why"), left_out),
        "<p>签名 Signature: ______________</p>",
    ]
    head = (
        f'<!doctype html><html lang="zh"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    )
    return (head + "".join(body) + "</html>\n").encode()


def _masking(coverage: Mapping[str, str] | None) -> str:
    return "未经脱敏 nothing masked" if coverage is None else " / ".join(coverage_in_words(coverage))


def _offset(offset_us: int | None) -> str:
    return "—" if offset_us is None else f"{offset_us / 1e6:+.6f} s"


def _composite_told(told: Mapping[str, Any], when: Callable[[str], str]) -> list[str]:
    """The parts of the page that are about a composite."""
    facts = [
        ("帧数 Frames", told["frame_count"]),
        ("帧率 Frames a second", told["rate"]),
        ("画幅 Pixels", f"{told['width_px']} x {told['height_px']}"),
        ("SHA-256", told["sha256"]),
        ("SM3", told["sm3"] or "—"),
        ("字节数 Bytes", told["size_bytes"]),
    ]
    panes = [
        (
            pane["device_no"] or pane["place"] or pane["lane"],
            f"x {pane['box_px'][0]}, y {pane['box_px'][1]}, {pane['box_px'][2]} x {pane['box_px'][3]}",
            "是 yes" if pane["lane"] == told["sound_lane"] else "否 no",
            "; ".join(
                f"{each['number']}: {when(each['starts_at'])} – {when(each['ends_at'])}"
                for each in pane["shown"]
            )
            or "无 nothing",
        )
        for pane in told["panes"]
    ]
    heads = (
        "来源 Source",
        "位置 Place, px",
        "有声 Heard",
        "显示时段,其余为黑底名称 Shows; else black with its name",
    )
    return ["<h2>合成画面 Composite</h2>", _table([], facts), _table(heads, panes)]


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return "<p>无 none</p>"
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    lines = "".join(
        "<tr>" + "".join(f"<td><code>{escape(str(cell))}</code></td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table>{f'<tr>{head}</tr>' if heads else ''}{lines}</table>"


def pack(
    destination: Path,
    members: Sequence[tuple[str, Path]],
    sheets: Mapping[str, bytes],
    *,
    on_progress: Callable[[float], None],
    is_cancelled: Callable[[], bool],
) -> None:
    """Write clips and sheets into one ZIP, durably; nothing of it stays after a failure.

    Args:
        members: What each clip is called, and its file.
        sheets: By name.

    Raises:
        Unavailable: ``output_unwritable``.
        EvidenceError: A clip cannot be read; it is named (``machine_fault``).
        Conflict: ``cancelled``.
    """
    done = 0
    try:
        with zipfile.ZipFile(destination, "w", zipfile.ZIP_STORED) as archive:
            total = sum(_size_of(path, name) for name, path in members) or 1
            for name, data in sheets.items():
                archive.writestr(_entry(name), data)
            for name, path in members:
                with archive.open(_entry(name, _size_of(path, name)), "w") as target:
                    for piece in _pieces_of(path, name):
                        raise_if_cancelled(is_cancelled)
                        target.write(piece)
                        done += len(piece)
                        on_progress(done / total)
        sync(destination)
    except OSError as error:
        destination.unlink(missing_ok=True)
        raise unwritable(destination, error) from error
    except BaseException:
        destination.unlink(missing_ok=True)
        raise


def _size_of(path: Path, name: str) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise _unreadable(name, error) from error


def _pieces_of(path: Path, name: str) -> Iterator[bytes]:
    """The bytes of a clip; where it cannot be read it is named, for the disk of the set is not at fault."""
    try:
        with path.open("rb") as source:
            while piece := source.read(COPY_BYTES):
                yield piece
    except OSError as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: OSError) -> EvidenceError:
    return EvidenceError(
        f"clip {name}: expected to read it for its set, found {error.strerror}; run `liuhen check`",
        code="machine_fault",
    )


def _entry(name: str, size_bytes: int = 0) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, MADE_AT)
    entry.create_system, entry.external_attr, entry.file_size = 3, 0o644 << 16, size_bytes
    return entry
