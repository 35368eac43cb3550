"""What lies beside recordings is read by one set of rules, on a card and at every dock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.profiles import load_sidecar_fields
from ingest.sources.sidecar import MAX_SIDECAR_BYTES, MAX_TABLE_BYTES, TABLE_PATIENCE
from tests.support.fetching import SETTLE_S, Desk, FolderPlace, desk_at
from tests.support.places import FtpPlace, HttpPlace, SftpPlace

TABLE = "文件名,CamID,地点\r\nA.mp4,0000001,甲路\r\n执法.mp4,0000002,乙路\r\nD/C.mp4,0000003,丙路\r\n"
LAUGHS = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><x><place>&b;</place></x>'
FOREIGN = b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><x><place>&f;</place></x>'


@pytest.fixture(params=[FolderPlace, SftpPlace, FtpPlace, HttpPlace], ids=lambda kind: kind.kind)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    yield from desk_at(request.param, tmp_path)


def said(desk: Desk) -> dict[bytes, dict[str, str]]:
    """What was claimed of each recording."""
    return {
        staged.original_name_raw: {claim.field: claim.value for claim in staged.claims}
        for staged in desk.accepted
    }


def codes(desk: Desk) -> list[str]:
    return [code for staged in desk.accepted for code, _ in staged.findings]


@pytest.mark.parametrize("coding", ["utf-8", "gb18030"])
@pytest.mark.parametrize("name", ["清单.csv", "INDEX.CSV"])
def test_table_of_a_folder_speaks_of_its_recordings_in_the_agencys_own_words(
    desk: Desk, coding: str, name: str, tmp_path: Path
) -> None:
    own = tmp_path / "fields.toml"
    own.write_text('[fields]\ndevice_no = ["CamID"]\n')
    desk.fields = load_sidecar_fields(own)
    desk.restart()
    in_bytes = desk.place.kind != "http"  # JSON has no other names than Unicode.
    for recording in ("A.mp4", "B.mp4", "执法.mp4", "D/C.mp4"):
        desk.place.put(recording.encode(coding) if in_bytes else recording, recording.encode())
    desk.place.put(name.encode(coding) if in_bytes else name, TABLE.encode(coding))
    desk.look()
    assert said(desk) == {
        b"A.mp4": {"device_no": "0000001", "place": "甲路"},
        b"B.mp4": {},
        "执法.mp4".encode(coding if in_bytes else "utf-8"): {"device_no": "0000002", "place": "乙路"},
        b"C.mp4": {},
    }, "a table speaks of its own folder, and is no recording"


def test_own_sidecar_counts_before_the_table(desk: Desk) -> None:
    desk.place.put("A.mp4", b"footage")
    desk.place.put("A.xml", b"<r DeviceID='7'/>")
    desk.place.put("index.csv", b"filename,device_no\nA.mp4,8\n")
    desk.look()
    assert said(desk) == {b"A.mp4": {"device_no": "7"}}


def test_table_that_is_still_written_is_waited_for(desk: Desk) -> None:
    desk.place.put("A.mp4", b"footage")
    desk.place.put("index.csv", b"filename,dev")
    desk.source.scan_once()
    desk.now_s += 9
    desk.place.put("index.csv", b"filename,device_no\nA.mp4,8\n")
    desk.source.scan_once()
    desk.now_s += 2
    assert desk.source.scan_once().taken == []
    desk.look()
    assert said(desk) == {b"A.mp4": {"device_no": "8"}}


def test_table_that_never_rests_holds_no_recording_up_for_ever(desk: Desk) -> None:
    desk.place.put("A.mp4", b"footage")
    for number in range(TABLE_PATIENCE + 1):
        lines = "".join(f"{each}.mp4,{each}\n" for each in range(number))
        desk.place.put("index.csv", f"filename,device_no\nA.mp4,8\n{lines}".encode())
        assert bool(desk.source.scan_once().taken) == (number == TABLE_PATIENCE)
        desk.now_s += SETTLE_S
        assert number < TABLE_PATIENCE or said(desk) == {b"A.mp4": {"device_no": "8"}}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("A.mp4.xml", LAUGHS),
        ("A.mp4.xml", FOREIGN),
        ("A.mp4.xml", b"<a>" * 2000 + b"</a>" * 2000),
        ("A.mp4.json", b"[" * 60_000),
        ("A.mp4.json", b"{" + b" " * MAX_SIDECAR_BYTES + b"}"),
        ("A.mp4.json", b"\xff\xfe{}"),
        ("A.mp4.csv", b"device_no\n1\n2\n"),
        ("files.csv", b"filename,x\n" + b"A.mp4,1\n" * 2),
        ("files.csv", b"filename\n" + b"b\n" * 30_000),
        ("files.csv", b"filename\n" + b"b" * MAX_TABLE_BYTES),
        ("files.csv", b'filename\n"A.mp4'),
        ("files.csv", b""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_hostile_sidecar_is_a_finding_and_the_recording_is_taken(
    desk: Desk, name: str, content: bytes
) -> None:
    desk.place.put("A.mp4", b"footage")
    desk.place.put(name, content)
    desk.look()
    recording = next(staged for staged in desk.accepted if staged.original_name_raw == b"A.mp4")
    assert [code for code, _ in recording.findings] == ["sidecar_unreadable"]
    assert recording.claims == ()
    assert "root:" not in recording.findings[0][1]


def test_nul_in_a_sidecar_is_a_word_like_others(desk: Desk) -> None:
    desk.place.put("A.mp4", b"footage")
    desk.place.put("A.json", b'{"place": "a\\u0000b", "n\\u0000": [1]}')
    desk.place.put("B.mp4", b"footage")
    desk.place.put("B.csv", b"place\na\0b\n")
    desk.look()
    assert said(desk) == {b"A.mp4": {"place": "a\0b"}, b"B.mp4": {"place": "a\0b"}}
    assert codes(desk) == ["sidecar_field_ignored"]


def test_sidecar_too_large_to_be_one_is_kept_as_a_file_too(desk: Desk) -> None:
    desk.place.put("A.mp4", b"footage")
    desk.place.put("A.mp4.json", b"x" * (MAX_SIDECAR_BYTES + 1))
    desk.look()
    assert sorted(said(desk)) == [b"A.mp4", b"A.mp4.json"]


def test_table_is_fetched_once_a_look(tmp_path: Path) -> None:
    for desk in desk_at(SftpPlace, tmp_path):
        lines = "".join(f"{number}.mp4,{number}\n" for number in range(20))
        table = f"filename,device_no\n{lines}".encode() + b"\n" * 50_000
        for number in range(20):
            desk.place.put(f"{number}.mp4", b"%d" % number)
        desk.place.put("index.csv", table)
        desk.look()
        assert said(desk)[b"7.mp4"] == {"device_no": "7"}
        assert desk.place.served_bytes < 2 * len(table)


@pytest.mark.parametrize("kind", [SftpPlace, FtpPlace], ids=lambda kind: kind.kind)
def test_table_stays_at_the_dock_and_a_file_kept_for_its_size_is_no_companion(
    kind: type[SftpPlace] | type[FtpPlace], tmp_path: Path
) -> None:
    for desk in desk_at(kind, tmp_path):
        desk.restart(frees=True)
        desk.place.put("A.mp4", b"footage")
        desk.place.put("index.csv", b"filename,device_no\nA.mp4,8\n")
        desk.place.put("A.mp4.json", b"x" * (MAX_SIDECAR_BYTES + 1))
        desk.look()
        desk.receipts.add(next(each.sha256 for each in desk.accepted if each.original_name_raw == b"A.mp4"))
        desk.look()
        names = sorted(path.name for path in desk.place.folder.iterdir())
        assert names == ["A.mp4.json", "index.csv"], "no receipt was given for one; the other speaks on"
