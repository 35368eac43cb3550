"""The sheet beside a clip: what it is of, who took it for what, and the digests that tie the two together.

Made from rows alone and the same each time, as data and as a page to print. It shows nothing of the footage.
What it says of custody can be looked up in an export: the leaf was written with the clip.
"""

from __future__ import annotations

import json
from datetime import datetime
from html import escape
from zoneinfo import ZoneInfo

from api.desk import Work
from api.issuing import Variant
from api.presenting import coverage_of
from api.schemas.items import Coverage
from api.schemas.taking import ClipSheet, DigestsShown, LeafRef
from evidence.custody import Action
from evidence.errors import NotFound
from evidence.kinds import PURPOSE_WORDS, RetrievalPurpose
from storage.db import accounts, cases, custody, grants, items, releases
from storage.db.clip_tables import Clip
from storage.db.tables import Derivative

UNMASKED = Coverage(
    treated=[],
    untreated=["faces", "plates", "text", "voices"],
    zh="原件画面,未经脱敏",
    en="Original, nothing masked",
)
PRINTED = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""The policy under which a sheet is shown as a page."""
STYLE = (
    "body{font:12pt/1.5 sans-serif;margin:2cm;color:#000;background:#fff}"
    "table{border-collapse:collapse;width:100%}th,td{border:1px solid #000;padding:.2em .5em;text-align:left}"
    "th{width:11em;font-weight:normal}code{overflow-wrap:anywhere}"
)


def sheet_of(work: Work, clip: Clip) -> ClipSheet:
    """The sheet of a clip that is cut and in force.

    Raises:
        NotFound: It is not cut yet (``clip_not_ready``), was withdrawn (``derivative_withdrawn``), or is a
            part of a composite, whose set has the sheet (``nothing_here``).
    """
    if clip.form == "part":
        raise NotFound(
            f"clip {clip.id}: expected one by itself, found a part of a composite; ask for its set's sheet",
            code="nothing_here",
        )
    session, agency_id = work.session, work.agency_id
    if clip.derivative_id is None:
        raise NotFound(f"clip {clip.id}: expected it cut, found it is not yet; wait", code="clip_not_ready")
    row = items.derivative_by_id(session, agency_id, clip.derivative_id)
    if row.withdrawn_at is not None:
        raise NotFound(f"clip {clip.id}: expected in force, found withdrawn", code="derivative_withdrawn")
    item = items.item_by_id(session, agency_id, clip.item_id)
    held = items.object_of(session, item)
    case = cases.case_by_id(session, agency_id, clip.case_id)
    viewer = accounts.account_by_id(session, agency_id, clip.account_id)
    source = _source(work, clip, row)
    masked = clip.variant == Variant.REDACTED
    sm3 = row.info.get("sm3")
    release = releases.release_by_id(session, agency_id, clip.release_id) if clip.release_id else None
    return ClipSheet(
        agency=work.agency.name,
        clip_id=clip.id,
        form="picture" if clip.form == "picture" else "file",
        item_id=item.id,
        case_no=case.case_no,
        av_record_no=item.av_record_no,
        variant=Variant(clip.variant),
        span_us=(clip.span_from_us, clip.span_to_us),
        frame_count=row.info.get("frame_count"),
        frame=row.info.get("frame"),
        marked=bool(row.params.get("mark", clip.marked)),
        copied_frame_count=row.info.get("copied_frame_count", 0),
        purpose=RetrievalPurpose(clip.purpose),
        reason=clip.reason,
        taken_by=f"{viewer.display_name} ({viewer.username})",
        release_id=clip.release_id,
        released_to=release.to_party if release is not None else None,
        requested_at=clip.requested_at,
        made_at=row.made_at,
        clip=DigestsShown(sha256=row.sha256.hex(), sm3=sm3, size_bytes=row.size_bytes),
        original=DigestsShown(
            sha256=held.sha256.hex(), sm3=held.sm3.hex() if held.sm3 else None, size_bytes=held.size_bytes
        ),
        rendition_sha256=str(row.params.get("source_sha256") or row.source_sha256.hex()),
        coverage=coverage_of([source]) if masked and source is not None else UNMASKED,
        leaf=_leaf(work, clip),
    )


def _source(work: Work, clip: Clip, row: Derivative) -> Derivative | None:
    """The masked rendition the clip was cut from."""
    made = grants.derivatives_ever(work.session, work.agency_id, clip.item_id, "redacted")
    return next((each for each in made if each.sha256.hex() == row.params.get("source_sha256")), None)


def _leaf(work: Work, clip: Clip) -> LeafRef | None:
    """The leaf that was written with the clip, with its place where it has one."""
    for found in custody.leaves_about(work.session, work.agency_id, str(clip.item_id)):
        body = json.loads(found.body or b"{}")
        if body.get("action") == Action.CLIP_ISSUED and body.get("facts", {}).get("clip") == str(clip.id):
            return LeafRef(
                leaf_id=found.leaf_id,
                leaf_index=found.index,
                leaf_hash=found.leaf_hash.hex() if found.leaf_hash else None,
            )
    return None


def _leaf_shown(leaf: LeafRef, sheet: ClipSheet) -> str:
    """The leaf and its place in the log, or how to have the place."""
    if leaf.leaf_index is None:
        return (
            f"{leaf.leaf_id} · 尚未排序,一分钟后重取此单 / not yet placed; get this sheet again in a minute: "
            f"GET /api/v1/clips/{sheet.clip_id}/sheet?form=html"
        )
    return f"{leaf.leaf_id} · {leaf.leaf_index} · {leaf.leaf_hash}"


def printable(sheet: ClipSheet, time_zone: str) -> str:
    """The sheet as one page of HTML without anything from elsewhere."""
    zone = ZoneInfo(time_zone)

    def when(at: datetime) -> str:
        return f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S} ({time_zone})"

    masked = sheet.variant is Variant.REDACTED
    leaf = sheet.leaf
    rows = [
        ("机关 Agency", sheet.agency),
        ("案件编号 Case", sheet.case_no),
        ("音像记录编号 AV record", sheet.av_record_no or "—"),
        ("记录 Item", str(sheet.item_id)),
        ("片段 Clip", str(sheet.clip_id)),
        ("画面 Variant", "脱敏件 Masked" if masked else "原件 Original"),
        ("时段 Span", f"{sheet.span_us[0] / 1e6:.6f} – {sheet.span_us[1] / 1e6:.6f} s"),
        ("帧数 Frames", "—" if sheet.frame_count is None else str(sheet.frame_count)),
        *(
            [("帧号,从 0 起 Number of the picture, from 0", str(sheet.frame))]
            if sheet.form == "picture"
            else []
        ),
        ("水印 Mark", "有 drawn into the pictures" if sheet.marked else "无 none"),
        ("逐字节复制的帧数 Frames copied byte for byte", str(sheet.copied_frame_count)),
        ("脱敏范围 Coverage", f"{sheet.coverage.zh} / {sheet.coverage.en}"),
        ("目的 Purpose", f"{PURPOSE_WORDS[sheet.purpose]} {sheet.purpose}"),
        ("理由 Reason", sheet.reason or "—"),
        ("调取人 Taken by", sheet.taken_by),
        *([("提供给 Released to", sheet.released_to)] if sheet.released_to else []),
        *([("发布 Release", str(sheet.release_id))] if sheet.release_id else []),
        ("申请时间 Requested", when(sheet.requested_at)),
        ("制作时间 Made", when(sheet.made_at)),
        ("片段 SHA-256 of the clip", sheet.clip.sha256),
        ("片段 SM3 of the clip", sheet.clip.sm3 or "—"),
        ("片段字节数 Bytes", str(sheet.clip.size_bytes)),
        ("原件 SHA-256 of the original", sheet.original.sha256),
        ("原件 SM3 of the original", sheet.original.sm3 or "—"),
        ("所据版本 SHA-256 of the rendition", sheet.rendition_sha256),
        ("流转记录 Custody leaf", "—" if leaf is None else _leaf_shown(leaf, sheet)),
    ]
    cells = "".join(
        f"<tr><th>{escape(name)}</th><td><code>{escape(value)}</code></td></tr>" for name, value in rows
    )
    title = "音像片段随附单 Sheet of a clip"
    return (
        f'<!doctype html><html lang="zh"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f"<h1>{title}</h1><table>{cells}</table><p>签名 Signature: ______________</p></html>"
    )
