from __future__ import annotations

from redaction.findings import TOLD_MAX, Report, told
from redaction.plan import Key
from tests.unit.redaction.plans import face, plan_of

SECOND = 12_800


def test_people_are_told_a_finding_once_a_second_and_where_to_look() -> None:
    report = Report()
    for pts in (0, 512, SECOND + 1):
        report.add("face_left", pts=pts, box=[0, 0, 9, 9])
    report.add("mask_transparent", track="a", frames=3)
    report.add("sound_not_replaced", stream=0, at_us=7_500_000)
    report.add("stream_not_allowed", found={})
    said = told(report.findings, plan_of(face("a", Key(2 * SECOND, 1, 1, 9, 9))))
    # 1/12800 s after the second is 78.125 µs: up, or the picture before would be looked at.
    assert [(each["code"], each["at_us"]) for each in said] == [
        ("face_left", 0),
        ("face_left", 1_000_079),
        ("mask_transparent", 2_000_000),
        ("sound_not_replaced", 7_500_000),
        ("stream_not_allowed", None),
    ]
    assert said[0]["zh"] == "另一种检测器在成品中仍看到人脸"


def test_of_thousands_some_are_told() -> None:
    report = Report()
    for number in range(1_000):
        report.add("face_left", pts=number * SECOND, box=[0, 0, 9, 9])
    assert len(told(report.findings, plan_of())) == TOLD_MAX
