"""What tables say in both languages: states, facts, alarms; the Chinese word beside the one of the code."""

from __future__ import annotations

from collections.abc import Iterable

STATES = {
    "received": "已接收",
    "verified": "已校验",
    "quarantined": "已隔离",
    "sealed": "已固化",
    "disposed": "已处置",
    "unprobed": "待识别",
    "probed": "已识别",
    "rendered": "可播放",
    "unplayable": "无法播放",
    "bound": "已关联",
    "suggested": "待确认",
    "unbound": "未关联",
    "none": "未脱敏",
    "proposed": "脱敏中",
    "checked": "已脱敏",
    "approved": "已审核",
    "released": "已发布",
    "revoked": "已撤回",
}
"""Of custody, media, binding and redaction, as the page says them."""
FACTS = {
    "id": "编号",
    "name": "名称",
    "sha256": "摘要",
    "duration_s": "时长（秒）",
    "custody": "保管",
    "media": "媒体",
    "binding": "关联",
    "redaction": "脱敏",
    "flags": "提示",
    "media_kind": "类别",
    "sm3": "SM3 摘要",
    "size_bytes": "字节数",
    "av_record_no": "音像记录编号",
    "received_at": "接收时间",
    "captured_from": "采集起",
    "captured_to": "采集止",
    "place": "地点",
    "collector": "采集人",
    "object_of_proof": "证明对象",
    "bindings": "关联",
    "claims": "各方所述",
    "conflicts": "相互矛盾",
    "derivatives": "衍生件",
    "code": "代码",
    "message": "说明",
    "case_no": "案号",
    "state": "状态",
    "from_us": "起 µs",
    "to_us": "止 µs",
    "reason": "理由",
    "field": "要素",
    "value": "值",
    "source": "来源",
    "clock": "时钟",
    "corrected": "校正后",
    "offset_s": "偏差（秒）",
    "offset_basis": "偏差依据",
    "subject": "事项",
    "spread_s": "相差（秒）",
    "apart_m": "相距（米）",
    "said": "所述",
    "kind": "种类",
    "officers": "办案人员",
    "second_officer": "第二名办案人员",
    "party": "被询问人",
    "receptions": "接收记录",
    "receipted": "已签回执",
    "docks": "采集站",
}


def both(words: dict[str, str], word: str) -> str:
    """A word in both languages; one that is not known is left as it is."""
    return f"{words[word]} {word}" if word in words else word


def listed(words: dict[str, str], found: Iterable[str]) -> str:
    """Several, with commas."""
    return ", ".join(both(words, each) for each in found)
