"""A set of clips shows each picture of a recording once, and says nothing that a page would run."""

from __future__ import annotations

from typing import Any

from api.clip_sets import merged
from transcode.clip_set import as_json, as_page, member_name

HOSTILE = '<script>alert("1")</script>'


def test_spans_that_share_pictures_become_one() -> None:
    assert merged([(5, 9), (0, 3), (3, 4), (8, 12), (20, 20)]) == [(0, 4), (5, 12)]


def test_members_sort_by_name_as_by_number_and_take_nothing_from_outside() -> None:
    names = [member_name(number, "2026-03-02T16:00:00.250000Z", "Asia/Shanghai") for number in (2, 10, 100)]
    assert names == sorted(names)
    assert names[0] == "002-20260303T000000.mp4"


def test_a_hostile_name_stays_text_on_the_page() -> None:
    clip: dict[str, Any] = {
        **dict.fromkeys(("place", "av_record_no", "sm3", "original_sm3")),
        **dict.fromkeys(("sha256", "original_sha256", "file", "clock", "offset_basis"), ""),
        **dict.fromkeys(("starts_at", "ends_at"), "2026-03-02T16:00:00Z"),
        "number": 1,
        "device_no": HOSTILE,
        "item_id": HOSTILE,
        "span_us": [0, 1],
        "frame_count": 1,
        "offset_us": -1,
        "coverage": {"faces": "treated", "plates": "untreated"},
    }
    pane = {"lane": HOSTILE, "device_no": None, "place": HOSTILE, "box_px": [0, 0, 2, 2], "shown": []}
    sheet = {
        "agency": HOSTILE, "case_no": HOSTILE, "set_id": "", "variant": "redacted", "marked": True,
        "from_at": "2026-03-02T16:00:00Z", "to_at": "2026-03-02T16:00:01Z", "purpose": "litigation",
        "reason": HOSTILE, "taken_by": HOSTILE, "requested_at": "2026-03-02T16:00:00Z", "unplaced_count": 0,
        "clips": [clip], "gaps": [], "left_out": [], "not_cut": [{**clip, "why": HOSTILE}],
        "composite": {
            "frame_count": 1, "rate": 25, "width_px": 2, "height_px": 2, "sha256": "", "sm3": None,
            "size_bytes": 1, "sound_lane": None, "panes": [pane],
        },
    }  # fmt: skip
    page = as_page(sheet, "Asia/Shanghai").decode()
    assert "<script" not in page
    assert "已处理:人脸;未处理:车牌、文字、语音" in page
    assert "Faces treated; plates, text and voices untreated" in page
    assert page.count("&lt;script&gt;") == 9
    assert as_json(sheet) == as_json(dict(reversed(sheet.items())))
