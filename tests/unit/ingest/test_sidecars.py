"""What lies beside a recording: JSON, XML and CSV become claims, and nothing in them does harm."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.profiles import load_sidecar_fields
from evidence.errors import InvalidInput
from evidence.kinds import ClaimSource
from evidence.zfy import SIZE_BYTES, parse_zfy, parse_zfy_base64
from ingest.sources.sidecar import Sidecar, is_plain_file, read_sidecar, sidecar_of, table_of
from ingest.sources.sidecar_forms import read_csv, read_json, read_xml

XML = """<?xml version="1.0" encoding="{encoding}"?>
<r:Record xmlns:r="urn:dock" DeviceID="0000001">
  <UserNo>123456</UserNo>
  <采集地点>人民路 12 号</采集地点>
  <Times><StartTime>2024-03-04T09:15:30+08:00</StartTime></Times>
</r:Record>
"""
LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><x><place>&b;</place></x>'
FOREIGN = '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><x><place>&f;</place></x>'
TABLE = "文件名,设备编号,地点\r\nA.mp4,0000001,甲路\r\nB.mp4,0000002,乙路\r\n"


def said(sidecar: Sidecar) -> dict[str, str]:
    assert {claim.source for claim in sidecar.claims} <= {ClaimSource.SIDECAR}
    return {claim.field: claim.value for claim in sidecar.claims}


def beside(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-8-sig"])
def test_xml_is_read_whatever_its_coding(tmp_path: Path, encoding: str) -> None:
    path = beside(tmp_path, "A.mp4.xml", XML.format(encoding=encoding).encode(encoding))
    assert said(read_sidecar(path, b"A.mp4")) == {
        "device_no": "0000001",
        "officer_no": "123456",
        "place": "人民路 12 号",
        "captured_from": "2024-03-04T09:15:30+08:00",
    }


@pytest.mark.parametrize(
    "text", [LAUGHS, FOREIGN, "<a>" * 40 + "</a>" * 40, "<a>", "", "<a " + "b='1' " * 2 + "/>", "\0<a/>"]
)
def test_hostile_xml_is_a_finding_and_never_an_entity(tmp_path: Path, text: str) -> None:
    read = read_sidecar(beside(tmp_path, "A.xml", text), b"A.mp4")
    assert [code for code, _ in read.findings] == ["sidecar_unreadable"]
    assert read.claims == ()
    assert "root:" not in read.findings[0][1]


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_speaks_of_each_file_of_its_folder(tmp_path: Path, encoding: str, delimiter: str) -> None:
    table = beside(tmp_path, "清单.csv", TABLE.replace(",", delimiter).encode(encoding))
    there = {table.name.encode(), b"B.mp4"}
    assert table_of(b"B.mp4", there.__contains__) == table.name.encode()
    assert sidecar_of(b"B.mp4", there.__contains__) is None
    assert said(read_sidecar(table, b"B.mp4")) == {"device_no": "0000002", "place": "乙路"}
    assert read_sidecar(table, b"C.mp4") == Sidecar()


def test_a_csv_of_one_recording_needs_no_file_name(tmp_path: Path) -> None:
    path = beside(tmp_path, "A.csv", "device_no,key file\n7,true\n")
    assert sidecar_of(b"A.mp4", {b"A.csv"}.__contains__) == b"A.csv"
    assert said(read_sidecar(path, b"A.mp4")) == {"device_no": "7", "key_file": "true"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "device_no\n1\n2\n",
        "device_no,device no\n1,2\n",
        'device_no\n"1',
        "文件名,device_no\nA.mp4,1\nA.mp4,2\n",
        "a\n" * 20_100,
    ],
)
def test_a_table_that_does_not_say_one_thing_is_a_finding(tmp_path: Path, text: str) -> None:
    read = read_sidecar(beside(tmp_path, "A.csv", text), b"A.mp4")
    assert [code for code, _ in read.findings] == ["sidecar_unreadable"]


def test_a_name_of_the_agency_and_its_zone_are_understood(tmp_path: Path) -> None:
    own = tmp_path / "fields.toml"
    own.write_text('timezone = "Asia/Shanghai"\n[fields]\ncaptured_from = ["KSSJ"]\n')
    path = beside(tmp_path, "A.json", '{"KSSJ": "2024/03/04 09:15:30", "colour": "red"}')
    read = read_sidecar(path, b"A.mp4", load_sidecar_fields(own))
    assert said(read) == {"captured_from": "2024-03-04T09:15:30+08:00"}
    assert read.metadata == {"KSSJ": "2024/03/04 09:15:30", "colour": "red"}


def test_a_time_without_a_zone_stays_as_it_was_written(tmp_path: Path) -> None:
    path = beside(tmp_path, "A.json", '{"captured_from": "2024/03/04 09:15:30"}')
    assert said(read_sidecar(path, b"A.mp4")) == {"captured_from": "2024/03/04 09:15:30"}


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target = beside(tmp_path, "secret", '{"place": "x"}')
    (tmp_path / "A.json").symlink_to(target)
    assert not is_plain_file(tmp_path / "A.json")
    assert read_sidecar(tmp_path / "A.json").findings[0][0] == "sidecar_unreadable"


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused_in_each_form(text: str) -> None:
    for read in (read_json, read_xml, read_csv):
        try:
            read(text)
        except (InvalidInput, ValueError, RecursionError):
            continue


# --- ZFY_INFO (D9) ----------------------------------------------------------------------------


def zfy(*fields: bytes) -> bytes:
    return b"".join(field.ljust(size, b"\0") for field, size in zip(fields, (8, 7, 33, 13, 33), strict=True))


@pytest.mark.parametrize("encoding", ["utf-8", "gbk"])
def test_the_device_record_is_read_in_either_coding(encoding: str) -> None:
    raw = zfy(b"0000001", b"123456", "张三".encode(encoding), b"330100000001", "城管一中队".encode(encoding))
    assert len(raw) == SIZE_BYTES == 94
    assert parse_zfy(raw).claims() == {
        "device_no": "0000001",
        "officer_no": "123456",
        "officer_name": "张三",
        "unit_no": "330100000001",
        "unit_name": "城管一中队",
    }


def test_fields_end_at_their_first_nul_and_may_be_empty() -> None:
    raw = zfy(b"1\0rest", b"", b"\xff" * 33, b"  ", b"x" * 33)
    assert parse_zfy(raw).claims() == {"device_no": "1", "unit_name": "x" * 33}


@pytest.mark.parametrize("text", ["", "not base64!", base64.b64encode(b"x" * 93).decode(), "A" * 10_000])
def test_what_is_no_device_record_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_zfy_base64(text)
    assert refused.value.code == "zfy_info_invalid"


@given(st.binary(min_size=94, max_size=94))
def test_any_94_bytes_are_text_or_refused(raw: bytes) -> None:
    try:
        found = parse_zfy(raw)
    except InvalidInput:
        return
    assert all(value.isprintable() for value in found.claims().values())
