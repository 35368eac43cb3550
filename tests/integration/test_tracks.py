"""A route is read in a child, kept as a derivative, and given to holders of the right to the original."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import av
import httpx
import pytest

from config.settings import Settings
from evidence.zfy import FIELDS
from storage.db import agencies, items
from storage.db.ledger_tables import DeviceReading
from storage.db.tables import Claim, Derivative
from storage.open import Storage
from tests.support import media, telemetry
from tests.support.installations import settings_for
from tests.support.pipeline import Pipeline
from tests.support.scene import CAPTURED, Live, Recording, live_scene

READING = {"probe", "track"}


@pytest.fixture
def pipeline(sqlite_storage: Storage, tmp_path: Path) -> Pipeline:
    settings: Settings = settings_for(tmp_path, f"sqlite:///{tmp_path / 'test.db'}")
    with sqlite_storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        agencies.add_device(session, agency.id, "CAM1", sqlite_storage.clock.now())
    return Pipeline(sqlite_storage, settings)


def claims_of(pipeline: Pipeline, item_id: UUID) -> dict[str, Claim]:
    with pipeline.storage.database.read() as session:
        return {row.field: row for row in items.claims_of(session, pipeline.agency.id, item_id)}


def tracks_of(pipeline: Pipeline, item_id: UUID) -> list[Derivative]:
    with pipeline.storage.database.read() as session:
        return items.derivatives_of(session, pipeline.agency.id, item_id, kind="track")


def geojson(pipeline: Pipeline, row: Derivative) -> dict[str, Any]:
    with pipeline.storage.objects.open(row.store_key) as file:
        found: dict[str, Any] = json.loads(file.read())
    return found


def test_a_telemetry_track_becomes_claims_and_an_unmasked_route(pipeline: Pipeline, tmp_path: Path) -> None:
    clip = tmp_path / "GX010001.MP4"
    media.make_plain(clip, seconds=2)
    steps = telemetry.walk(8)
    telemetry.add_track(
        clip,
        [
            telemetry.gps5(steps[:5], telemetry.WALK_STARTED_AT),
            telemetry.gps5(steps[5:], telemetry.WALK_STARTED_AT),
        ],
    )
    accepted = pipeline.take(clip, device_no="CAM1")
    pipeline.work(only=READING)
    (row,) = tracks_of(pipeline, accepted.item_id)
    assert (row.masked, row.content_type) == (False, "application/geo+json")
    feature = geojson(pipeline, row)
    assert feature["geometry"]["coordinates"][0] == [120.16, 30.25, 12.5]
    assert feature["properties"]["media_us"][:2] == [0, 200_000]
    said = claims_of(pipeline, accepted.item_id)
    assert said["location"].value == "+30.250000+120.160000/"
    assert said["location_last"].value == "+30.250700+120.161400/"
    assert said["location_bounds"].value == "+30.250000+120.160000/+30.250700+120.161400/"
    assert (said["gps_started_at"].clock, said["gps_started_at"].source) == ("gps", "container")
    assert said["device_started_at"].value.startswith("2026-03-01T08:00:00")


def test_no_rendition_carries_the_telemetry_of_its_source(pipeline: Pipeline, tmp_path: Path) -> None:
    clip = tmp_path / "GX010002.MP4"
    media.make_plain(clip, seconds=1)
    telemetry.add_track(clip, [telemetry.gps5(telemetry.walk(5), telemetry.WALK_STARTED_AT)])
    assert b"GPS5" in clip.read_bytes()
    accepted = pipeline.take(clip, device_no="CAM1")
    pipeline.work(only={"probe", "examine", "rendition"})
    with pipeline.storage.database.read() as session:
        made = items.derivatives_of(session, pipeline.agency.id, accepted.item_id, kind="rendition")
    assert made
    for row in made:
        path = pipeline.storage.objects.path(row.store_key)
        assert path is not None
        with av.open(str(path)) as container:
            assert {stream.type for stream in container.streams} <= {"video", "audio"}
        assert not {word for word in (b"GPS5", b"gpmd", b"DEVC") if word in path.read_bytes()}


@pytest.mark.parametrize("name", ["spoken.mp4", "spoken.mkv"])
def test_sentences_in_subtitles_become_a_route(pipeline: Pipeline, tmp_path: Path, name: str) -> None:
    media.make_plain(tmp_path / "plain.mp4", seconds=2)
    moments = [telemetry.WALK_STARTED_AT + timedelta(seconds=second) for second in range(2)]
    lines = [
        f"{telemetry.rmc(step, moment)} {telemetry.gga(step, moment)}"
        for step, moment in zip(telemetry.walk(2), moments, strict=True)
    ]
    telemetry.add_subtitles(tmp_path / "plain.mp4", tmp_path / name, lines, tmp_path)
    accepted = pipeline.take(tmp_path / name, device_no="CAM1")
    pipeline.work(only=READING)
    (row,) = tracks_of(pipeline, accepted.item_id)
    feature = geojson(pipeline, row)
    assert feature["geometry"]["coordinates"] == [[120.16, 30.25, 12.5], [120.1602, 30.2501, 12.5]]
    assert feature["properties"]["media_us"] == [0, 1_000_000]
    assert feature["properties"]["coordTimes"] == [
        "2026-03-01T08:00:05.000000Z",
        "2026-03-01T08:00:06.000000Z",
    ]


def test_telemetry_of_noise_leaves_no_route_and_harms_nothing(pipeline: Pipeline, tmp_path: Path) -> None:
    clip = tmp_path / "noise.mp4"
    media.make_plain(clip, seconds=1)
    telemetry.add_track(clip, [b"DEVC\0\x01\xff\xff" + bytes(range(256)) * 8, b"\xff" * 4000])
    accepted = pipeline.take(clip, device_no="CAM1")
    pipeline.work(only=READING)
    assert tracks_of(pipeline, accepted.item_id) == []
    assert pipeline.item(accepted.item_id).media == "probed"


def test_the_device_record_is_claimed_by_the_device(pipeline: Pipeline, tmp_path: Path) -> None:
    clip = tmp_path / "x.mp4"
    clip.write_bytes(b"x")
    values = (b"0000001", b"123456", "张三".encode("gbk"), b"", "一中队".encode("gbk"))
    raw = b"".join(value.ljust(size, b"\0") for value, (_, size) in zip(values, FIELDS, strict=True))
    accepted = pipeline.take(clip, device_no="CAM1", zfy_info=base64.b64encode(raw).decode())
    said = claims_of(pipeline, accepted.item_id)
    assert {
        name: (said[name].value, said[name].source) for name in ("officer_no", "officer_name", "unit_name")
    } == {
        "officer_no": ("123456", "device"),
        "officer_name": ("张三", "device"),
        "unit_name": ("一中队", "device"),
    }
    broken = pipeline.take(clip, device_no="CAM1", zfy_info="AAAA", name="y.mp4")
    assert broken.item_id == accepted.item_id
    other = tmp_path / "z.mp4"
    other.write_bytes(b"z")
    assert "zfy_info_invalid" in pipeline.flags(
        pipeline.take(other, device_no="CAM1", zfy_info="AAAA").item_id
    )


# --- Who is given what ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("tracks")) as live:
        yield live


BODY = b'{"type":"Feature"}'


@pytest.fixture(scope="module")
def walked(live: Live) -> Recording:
    made = live.scene.record(case=live.scene.case_a)
    with live.scene.storage.database.transaction() as session:
        item = items.item_by_id(session, live.scene.agency.id, made.item_id)
        row = live.scene.derive(session, item, "track", BODY, {"point_count": 1})
        row.content_type = "application/geo+json"
        device = agencies.add_device(session, item.agency_id, "0000001", live.scene.clock.now())
        item.device_id = device.id
        session.add(
            DeviceReading(
                agency_id=item.agency_id, device_id=device.id, read_at=CAPTURED, device_clock=CAPTURED,
                reference_clock=CAPTURED + timedelta(seconds=90), offset_us=90_000_000,
            )
        )  # fmt: skip
        said = {
            "device_started_at": (CAPTURED.isoformat(), "device"),
            "gps_started_at": ((CAPTURED + timedelta(seconds=88)).isoformat(), "gps"),
            "captured_from": ((CAPTURED + timedelta(hours=1)).isoformat(), "person"),
            "location": ("+30.25+120.16/", None),
        }
        for field, (value, clock) in said.items():
            session.add(
                Claim(
                    agency_id=item.agency_id, item_id=item.id, field=field, value=value, source="container",
                    clock=clock, made_at=live.scene.clock.now(),
                )
            )  # fmt: skip
        session.add(
            Claim(
                agency_id=item.agency_id, item_id=item.id, field="location", value="+30.35+120.16/",
                source="sidecar", made_at=live.scene.clock.now(),
            )
        )  # fmt: skip
    return made


def test_a_holder_of_the_whole_original_gets_the_route_and_leaves_one_leaf(
    live: Live, walked: Recording
) -> None:
    grant = live.grant("legal_reviewer", walked.item_id, variant="original", reason="核对路线")
    for _ in range(2):
        answer = httpx.get(grant["track_url"], trust_env=False)
        assert (answer.status_code, answer.content) == (200, BODY)
    assert answer.headers["content-type"] == "application/geo+json"
    (leaf,) = live.scene.leaves(walked.item_id, "track:issued")
    assert leaf["facts"]["grant"] == grant["grant_id"]


def test_a_masked_grant_and_a_grant_of_a_span_have_no_route(live: Live, walked: Recording) -> None:
    masked = live.grant("reviewer", walked.item_id)
    span = {"from_us": 0, "to_us": 3_000_000}
    part = live.grant("legal_reviewer", walked.item_id, variant="original", reason="核对", span=span)
    assert masked["track_url"] is part["track_url"] is None
    whole = live.grant("legal_reviewer", walked.item_id, variant="original", reason="核对")
    name = whole["track_url"].rsplit("/", 1)[1]
    for grant, status in ((masked, 404), (part, 403)):
        base = (grant["file_url"] or _media_base(live, grant)).rsplit("/", 1)[0]
        assert httpx.get(f"{base}/{name}", trust_env=False).status_code == status


def _media_base(live: Live, grant: dict[str, Any]) -> str:
    """The media address a playlist of the grant names."""
    text = live.anyone.get(grant["playlist_url"]).text
    return next(word for word in text.replace('"', " ").split() if "/m/" in word and "://" in word)


def test_times_are_shown_as_claimed_and_as_corrected(live: Live, walked: Recording) -> None:
    shown = live.as_("legal_reviewer").get(f"/api/v1/items/{walked.item_id}/claims").json()
    by_field = {row["field"]: row for row in shown}
    claim = by_field["device_started_at"]
    assert claim["value"] == CAPTURED.isoformat()
    assert claim["corrected"] == (CAPTURED + timedelta(seconds=90)).isoformat().replace("+00:00", "Z")
    assert (claim["offset_us"], claim["offset_basis"]) == (90_000_000, "before")
    assert by_field["captured_from"]["offset_us"] is None
    assert by_field["location"]["corrected"] is None


def test_conflicts_are_listed_and_private_values_are_not(live: Live, walked: Recording) -> None:
    url = f"/api/v1/items/{walked.item_id}"
    holder = {row["subject"]: row for row in live.as_("legal_reviewer").get(url).json()["conflicts"]}
    other = {row["subject"]: row for row in live.as_("reviewer").get(url).json()["conflicts"]}
    assert set(holder) == set(other) == {"started", "location"}
    assert holder["started"]["spread_us"] == 3512 * 1_000_000
    assert 11_000 < holder["location"]["apart_m"] < 11_300
    assert other["location"]["apart_m"] is None
    assert [row["value"] for row in other["location"]["said"]] == [None, None]
    hidden = {row["field"]: row["hidden"] for row in other["started"]["said"]}
    assert hidden == {"device_started_at": True, "gps_started_at": False, "captured_from": False}


def test_a_recording_of_one_file_is_that_file(live: Live, walked: Recording) -> None:
    found = live.as_("reviewer").get(f"/api/v1/items/{walked.item_id}/recording").json()
    assert (found["by"], found["joints"], found["missing_sequence_nos"]) == (None, [], [])
    assert [row["item_id"] for row in found["members"]] == [str(walked.item_id)]


def test_a_named_recording_shows_its_gap_and_its_missing_number(live: Live) -> None:
    scene = live.scene
    made = [scene.record(name=f"part-{number}.mp4") for number in (1, 3)]
    with scene.storage.database.transaction() as session:
        for number, one in zip((1, 3), made, strict=True):
            item = items.item_by_id(session, scene.agency.id, one.item_id)
            item.recording_key, item.sequence_no = "-:R7", number
            item.captured_from = CAPTURED + timedelta(seconds=10 * number)
    found = live.as_("reviewer").get(f"/api/v1/items/{made[1].item_id}/recording").json()
    assert (found["by"], found["missing_sequence_nos"]) == ("sender", [2])
    assert [row["sequence_no"] for row in found["members"]] == [1, 3]
    (joint,) = found["joints"]
    assert (joint["gap_us"], joint["resolution_us"], joint["clock"], joint["is_certain"]) == (
        20_000_000 - found["members"][0]["duration_us"],
        1_000_000,
        "device",
        True,
    )
