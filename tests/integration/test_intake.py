"""What comes in is kept, once, with everything that was said of it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select

from config.settings import Settings
from ingest import intake
from ingest.correction import views_of
from ingest.wording import escaped
from storage.db import agencies, items
from storage.db.tables import Claim, CustodyLeaf, Device, Item, Job, Reception, StoredObject
from storage.open import Storage
from tests.support.clocks import SettableClock
from tests.support.pipeline import Pipeline


@pytest.fixture
def pipeline(storage: Storage, settings: Settings) -> Pipeline:
    with storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        agencies.add_device(session, agency.id, "CAM1", storage.clock.now())
        agencies.add_device(session, agency.id, "CAM2", storage.clock.now())
    return Pipeline(storage, settings)


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    path = tmp_path / "DSJ_CAM1_123456_20260303_091530_IMP.mp4"
    path.write_bytes(b"bytes of a recording" * 100)
    return path


def count(storage: Storage, table: type) -> int:
    with storage.database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_item_reception_claims_leaf_and_jobs_come_together(pipeline: Pipeline, footage: Path) -> None:
    accepted = pipeline.take(footage, device_no="CAM1", place="某路1号")
    item = pipeline.item(accepted.item_id)
    assert accepted.is_new
    assert item.custody == "received"
    assert item.key_file
    assert item.captured_place == "某路1号"
    with pipeline.storage.database.read() as session:
        assert {claim.source for claim in items.claims_of(session, item.agency_id, item.id)} == {
            "dock",
            "filename",
        }
        assert {job.kind for job in session.scalars(select(Job))} == {"verify", "probe"}
        actions = set(session.scalars(select(CustodyLeaf.action)))
    assert "item:received" in actions


def test_same_reception_twice_is_one(pipeline: Pipeline, footage: Path) -> None:
    first = pipeline.take(footage, device_no="CAM1", reception_key="tus:x")
    again = pipeline.take(footage, device_no="CAM1", reception_key="tus:x")
    assert (again.item_id, again.reception_id, again.is_new) == (first.item_id, first.reception_id, False)
    assert count(pipeline.storage, Reception) == 1


def test_same_bytes_of_the_same_device_are_one_item_with_two_receptions(
    pipeline: Pipeline, footage: Path
) -> None:
    first = pipeline.take(footage, device_no="CAM1")
    again = pipeline.take(footage, name="other name.mp4", device_no="CAM1")
    assert again.item_id == first.item_id
    assert again.reception_id != first.reception_id
    assert count(pipeline.storage, Item) == 1
    assert count(pipeline.storage, StoredObject) == 1


def test_same_bytes_of_another_device_are_another_item_over_one_object(
    pipeline: Pipeline, footage: Path
) -> None:
    first = pipeline.take(footage, device_no="CAM1")
    other = pipeline.take(footage, device_no="CAM2")
    assert other.item_id != first.item_id
    assert count(pipeline.storage, StoredObject) == 1


def test_same_name_with_other_bytes_is_another_item(pipeline: Pipeline, footage: Path) -> None:
    first = pipeline.take(footage, device_no="CAM1")
    footage.write_bytes(b"other bytes")
    assert pipeline.take(footage, device_no="CAM1").item_id != first.item_id


def test_empty_files_are_kept_flagged_and_never_merged(pipeline: Pipeline, tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    first, second = pipeline.take(empty, device_no="CAM1"), pipeline.take(empty, device_no="CAM1")
    assert first.item_id != second.item_id
    assert "empty" in pipeline.flags(first.item_id)


def test_an_unknown_device_is_noted_not_refused(pipeline: Pipeline, footage: Path) -> None:
    accepted = pipeline.take(footage, name="a.mp4", device_no="NOBODY-KNOWS")
    assert "device_unknown" in pipeline.flags(accepted.item_id)
    with pipeline.storage.database.read() as session:
        device = session.scalars(select(Device).where(Device.device_no == "NOBODY-KNOWS")).one()
    assert device.state == "unknown"


def test_a_declared_digest_that_differs_quarantines(pipeline: Pipeline, footage: Path) -> None:
    accepted = pipeline.take(footage, device_no="CAM1", sha256="00" * 32)
    assert pipeline.item(accepted.item_id).custody == "quarantined"
    assert "digest_mismatch" in pipeline.flags(accepted.item_id)
    pipeline.work(only={"verify"})
    with pipeline.storage.database.read() as session:
        reception = session.scalars(select(Reception)).one()
    assert reception.receipt is None


@pytest.mark.parametrize(
    "name",
    [
        b"../../etc/passwd",
        b"a\nb\r.mp4",
        "\u202egpj.4pm.mp4".encode(),
        "执法记录.mp4".encode("gb18030"),
        b"\xff\xfe\x00weird",
        b"x" * 255,
        b"",
    ],
)
def test_a_hostile_name_is_shown_safely_and_kept_raw(pipeline: Pipeline, footage: Path, name: bytes) -> None:
    accepted = pipeline.take(footage, name=name, device_no="CAM1")
    item = pipeline.item(accepted.item_id)
    assert item.original_name.isprintable()
    with pipeline.storage.database.read() as session:
        assert session.scalars(select(Reception.original_name_raw)).one() == name
        key = session.scalars(select(StoredObject.store_key)).one()
    assert key.split("/")[0] == item.agency_id.hex


@pytest.mark.parametrize(
    ("instant", "code"),
    [("1970-01-01T00:00:00+08:00", "clock_implausible"), ("2099-01-01T00:00:00+08:00", "clock_implausible"),
     ("yesterday", "time_unreadable"), ("2026-03-03T09:00:00", "time_unreadable")],
)  # fmt: skip
def test_a_clock_that_cannot_be_right_is_a_flag_and_a_claim(
    pipeline: Pipeline, footage: Path, instant: str, code: str
) -> None:
    accepted = pipeline.take(footage, name="a.mp4", device_no="CAM1", captured_from=instant)
    assert code in pipeline.flags(accepted.item_id)
    item = pipeline.item(accepted.item_id)
    assert item.captured_from is None
    with pipeline.storage.database.read() as session:
        said = items.claimed(session, item.agency_id, item.id, "captured_from")
    assert [claim.value for claim in said] == [instant]


def test_the_clock_offset_of_the_dock_corrects_the_fact_not_the_claim(
    pipeline: Pipeline, footage: Path
) -> None:
    accepted = pipeline.take(
        footage,
        name="a.mp4",
        device_no="CAM1",
        captured_from="2026-03-03T09:00:00+08:00",
        device_clock="2026-03-03T18:00:00+08:00",
        dock_clock="2026-03-03T18:02:00+08:00",
    )
    item = pipeline.item(accepted.item_id)
    assert item.captured_from is not None
    assert item.captured_from.isoformat() == "2026-03-03T01:02:00+00:00"


def test_a_power_cut_before_the_commit_leaves_no_row_and_repeats_cleanly(
    pipeline: Pipeline, footage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storage.db import jobs

    real = jobs.want

    def cut(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "want", cut)
    with pytest.raises(KeyboardInterrupt):
        pipeline.take(footage, device_no="CAM1", reception_key="tus:cut")
    assert count(pipeline.storage, Item) == 0
    assert count(pipeline.storage, Claim) == 0
    monkeypatch.setattr(jobs, "want", real)
    assert pipeline.take(footage, device_no="CAM1", reception_key="tus:cut").is_new


def test_ten_arrivals_of_equal_bytes_at_once_make_one_item(pipeline: Pipeline, footage: Path) -> None:
    results, errors = [], []

    def arrive() -> None:
        try:
            results.append(pipeline.take(footage, device_no="CAM1"))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=arrive) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(results) == 10
    assert len({accepted.item_id for accepted in results}) == 1
    assert count(pipeline.storage, Reception) == 10


def test_a_stepped_back_clock_loses_nothing(pipeline: Pipeline, footage: Path, clock: SettableClock) -> None:
    pipeline.take(footage, device_no="CAM1")
    clock.advance(-86400)
    assert not pipeline.take(footage, device_no="CAM1").is_new


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        ({"place": "某路\x001号"}, "words_escaped"),
        ({"place": "某路\ud8001号"}, "words_escaped"),
        ({"colour\x00": "red", "shade\udfff": "\udc80"}, "words_escaped"),
        (
            {"recording": "".join(chr(0x4E00 + number * 7 % 20000) for number in range(2000))},
            "value_shortened",
        ),
        ({"officer_no": "9" * 1999}, "value_shortened"),
        ({"captured_from": "0001-01-01T00:00:00+14:00"}, "time_unreadable"),
    ],
)
def test_words_that_no_database_can_hold_are_escaped_and_the_file_is_taken(
    pipeline: Pipeline, footage: Path, words: dict[str, str], flag: str
) -> None:
    accepted = pipeline.take(footage, device_no="CAM1", **words)
    assert accepted.is_new
    assert flag in pipeline.flags(accepted.item_id)
    item = pipeline.item(accepted.item_id)
    with pipeline.storage.database.read() as session:
        (reception,) = items.receptions_of(session, item.agency_id, item.id)
        assert {"device_no", *(escaped(key) for key in words)} == set(reception.metadata_received)
        for claim in items.claims_of(session, item.agency_id, item.id):
            assert escaped(claim.value) == claim.value
    assert len(item.recording_key or "") < 200
    assert len(item.collector or "") <= 128


def test_shortened_names_stay_apart(pipeline: Pipeline, footage: Path) -> None:
    first = pipeline.take(footage, device_no="CAM1", recording="a" * 500 + "1")
    footage.write_bytes(b"the next file")
    second = pipeline.take(footage, device_no="CAM1", recording="a" * 500 + "2")
    keys = {pipeline.item(accepted.item_id).recording_key for accepted in (first, second)}
    assert len(keys) == 2


def test_words_the_database_refuses_all_the_same_are_left_out(
    pipeline: Pipeline, footage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The net below the cleaner: whatever it misses must not keep footage out for ever."""
    monkeypatch.setattr(intake, "fit", lambda staged: staged)
    accepted = pipeline.take(footage, device_no="CAM1", place="\ud800")
    assert "words_refused" in pipeline.flags(accepted.item_id)
    assert pipeline.item(accepted.item_id).original_name == footage.name
    with pipeline.storage.database.read() as session:
        (reception,) = items.receptions_of(session, pipeline.agency.id, accepted.item_id)
    assert reception.metadata_received == {}


def test_a_wrong_declared_digest_of_a_second_sender_does_not_touch_a_sound_item(
    pipeline: Pipeline, footage: Path
) -> None:
    first = pipeline.take(footage, device_no="CAM1")
    pipeline.work(only={"verify"})
    assert pipeline.item(first.item_id).custody == "verified"
    again = pipeline.take(footage, device_no="CAM1", sha256="00" * 32)
    assert (again.item_id, again.custody) == (first.item_id, "verified")
    assert "digest_mismatch" in pipeline.flags(first.item_id)
    pipeline.work(only={"verify"})
    third = pipeline.take(footage, device_no="CAM1", sha256=first.sha256.hex())
    pipeline.work(only={"verify"})
    assert pipeline.item(first.item_id).custody == "verified"
    with pipeline.storage.database.read() as session:
        receptions = items.receptions_of(session, pipeline.agency.id, first.item_id)
        bodies = list(session.scalars(select(CustodyLeaf.body)))
    assert {row.id: row.receipt is not None for row in receptions} == {
        first.reception_id: True,
        again.reception_id: False,
        third.reception_id: True,
    }
    assert sum(b"declared_sha256" in body for body in bodies) == 1


def test_a_known_reception_key_with_other_bytes_is_another_reception(
    pipeline: Pipeline, footage: Path
) -> None:
    """Two cards can show the same path, inode, size and time."""
    first = pipeline.take(footage, device_no="CAM1", reception_key="folder:x")
    footage.write_bytes(b"another card")
    other = pipeline.take(footage, device_no="CAM1", reception_key="folder:x")
    assert (other.is_new, other.item_id == first.item_id) == (True, False)
    again = pipeline.take(footage, device_no="CAM1", reception_key="folder:x")
    assert (again.reception_id, again.is_new) == (other.reception_id, False)
    assert count(pipeline.storage, Reception) == 2


@pytest.mark.parametrize("shown", ["9999-12-31T00:00:00+00:00", "0001-01-02T00:00:00+00:00"])
def test_a_clock_of_another_age_spoils_no_later_file(pipeline: Pipeline, footage: Path, shown: str) -> None:
    now = pipeline.storage.clock.now().isoformat()
    other = footage.with_name("other.mp4")
    other.write_bytes(b"other bytes")
    said = "2026-03-01T00:00:00+00:00"
    pipeline.take(footage, device_no="CAM1", device_clock=shown, dock_clock=now)
    item = pipeline.item(pipeline.take(other, device_no="CAM1", place="某路1号", captured_from=said).item_id)
    assert item.device_id is not None
    assert item.captured_place == "某路1号"
    assert item.captured_from is not None
    assert item.captured_from.isoformat() == said
    # Nor are the claims unreadable of a file that names the other end of the calendar.
    third = footage.with_name("third.mp4")
    third.write_bytes(b"third bytes")
    end = "0001-01-03T00:00:00+00:00" if shown.startswith("9") else "9999-12-30T00:00:00+00:00"
    item = pipeline.item(pipeline.take(third, device_no="CAM1", captured_from=end).item_id)
    with pipeline.storage.database.read() as session:
        views = views_of(session, item, items.claims_of(session, item.agency_id, item.id), datetime.now(UTC))
    (view,) = [view for view in views if view.claim.field == "captured_from"]
    assert view.correction is None
    assert view.corrected_at is not None
    assert view.corrected_at.isoformat() == end
