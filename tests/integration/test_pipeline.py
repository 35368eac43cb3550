"""From received to reviewable, or rightly not: real tasks over good, odd and hostile files."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from api.resolving import ladder_of, resolve_grant
from evidence.canonical import canonical_json
from evidence.case import normalise_case_no
from evidence.coverage import coverage_in_words
from evidence.errors import CustodyError
from evidence.kinds import EnforcementKind
from media.fmp4 import FragmentIndex
from storage.db import agencies, cases, items
from storage.db.tables import CustodyLeaf, Derivative, Grant, Job, Reception, SigningKey
from storage.keys import verify_signature
from storage.open import Storage
from storage.sequencer import sequence_once
from tests.support import media
from tests.support.clocks import SettableClock
from tests.support.installations import settings_for
from tests.support.pipeline import Pipeline, pipeline_settings
from tests.support.samples import sample

MEDIA_JOBS = {"verify", "probe", "examine", "rendition", "photo", "poster"}


@pytest.fixture
def pipeline(sqlite_storage: Storage, tmp_path: Path, clock: SettableClock) -> Pipeline:
    with sqlite_storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        agencies.add_device(session, agency.id, "CAM1", clock.now())
        cases.add_case(
            session, agency.id, case_no="渝执〔2026〕1号", case_no_key=normalise_case_no("渝执〔2026〕1号"),
            kind=EnforcementKind.PENALTY, cause=None, party=None, handler_id=None, officer_no=None,
            opened_at=clock.now(), closed_at=None, now=clock.now(),
        )  # fmt: skip
    settings = settings_for(tmp_path, f"sqlite:///{tmp_path / 'test.db'}")
    return Pipeline(sqlite_storage, pipeline_settings(settings))


def derivatives(pipeline: Pipeline, kind: str) -> list[Derivative]:
    with pipeline.storage.database.read() as session:
        return list(session.scalars(select(Derivative).where(Derivative.kind == kind)))


def unfinished(pipeline: Pipeline) -> int:
    with pipeline.storage.database.read() as session:
        count = select(func.count()).select_from(Job).where(Job.state.in_(["ready", "leased"]))
        return session.scalar(count) or 0


def test_a_face_on_video_ends_reviewable_and_bound(pipeline: Pipeline, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    truth = media.make_plain(clip, seconds=2, fps=10, face=sample("astronaut.png"))
    accepted = pipeline.take(clip, device_no="CAM1", case_no="渝执(2026)1号")
    pipeline.work()
    item = pipeline.item(accepted.item_id)
    assert (item.custody, item.media, item.binding, item.redaction) == (
        "verified",
        "rendered",
        "bound",
        "checked",
    )
    assert item.av_record_no == "demo-LX-2026-0001"
    assert item.frame_count == truth.frame_count
    redacted = derivatives(pipeline, "redacted")[0]
    assert redacted.masked
    assert redacted.info["frame_count"] == truth.frame_count
    assert redacted.info["coverage"]["faces"] == "treated"
    assert not any(row.masked for row in derivatives(pipeline, "rendition") + derivatives(pipeline, "poster"))
    assert derivatives(pipeline, "redacted_poster")
    assert unfinished(pipeline) == 0
    assert list(pipeline.storage.scratch.iterdir()) == []


def test_the_receipt_is_signed_over_what_was_read_back(pipeline: Pipeline, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    media.make_plain(clip, seconds=1)
    accepted = pipeline.take(clip, device_no="CAM1")
    with pipeline.storage.database.read() as session:
        assert session.scalars(select(Reception)).one().receipt is None
    pipeline.work(only={"verify"})
    with pipeline.storage.database.read() as session:
        reception = session.scalars(select(Reception)).one()
        public = session.scalars(select(SigningKey.public_key).where(SigningKey.purpose == "receipt")).one()
        leaves = {str(leaf) for leaf in session.scalars(select(CustodyLeaf.id))}
    assert reception.receipt is not None
    receipt = json.loads(reception.receipt)
    signature = base64.b64decode(receipt.pop("signature"))
    receipt.pop("key")
    assert verify_signature(public, canonical_json(receipt), signature)
    assert not verify_signature(public, canonical_json({**receipt, "size_bytes": 1}), signature)
    assert receipt["sha256"] == accepted.sha256.hex()
    assert receipt["may_erase"] is True
    assert receipt["device_no"] == "CAM1"
    assert not verify_signature(public, canonical_json({**receipt, "device_no": "CAM2"}), signature)
    assert {receipt["custody_leaf"], receipt["verified_leaf"]} <= leaves


def test_a_receipt_of_equal_bytes_names_the_device_that_brought_them_or_none(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"the same bytes")
    for said in ({"device_no": "CAM1"}, {"device_no": " CAM2 "}, {}):
        pipeline.take(clip, **said)
    pipeline.work(only={"verify"})
    with pipeline.storage.database.read() as session:
        given = session.scalars(select(Reception.receipt).order_by(Reception.id))
        named = [json.loads(receipt or "").get("device_no", "none") for receipt in given]
    assert named == ["CAM1", "CAM2", "none"]


def test_a_flipped_bit_in_the_store_is_found_and_no_receipt_is_given(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    media.make_plain(clip, seconds=1)
    accepted = pipeline.take(clip, device_no="CAM1")
    with pipeline.storage.database.read() as session:
        stored = items.object_of(session, pipeline.item(accepted.item_id))
    path = pipeline.storage.objects.path(stored.store_key)
    assert path is not None
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    pipeline.work(only={"verify"})
    assert pipeline.item(accepted.item_id).custody == "quarantined"
    assert "fixity_mismatch" in pipeline.flags(accepted.item_id)
    with pipeline.storage.database.read() as session:
        assert session.scalars(select(Reception)).one().receipt is None
        assert "item:fixity_failed" in set(session.scalars(select(CustodyLeaf.action)))


def test_foreign_coding_gets_each_rung_from_one_job(pipeline: Pipeline, tmp_path: Path) -> None:
    clip = tmp_path / "clip.avi"
    truth = media.make_plain(clip, seconds=1, fps=5, codec="mpeg4", width_px=1280, height_px=720)
    pipeline.take(clip, device_no="CAM1")
    pipeline.work(only=MEDIA_JOBS)
    rows = derivatives(pipeline, "rendition")
    assert [row.params["rung"]["name"] for row in rows] == ["360p", "720p"]
    for row in rows:
        assert row.info["frame_count"] == truth.frame_count
        assert FragmentIndex.from_json(row.info["index"]).frame_count == truth.frame_count


def test_a_finished_rendition_is_served_by_its_rung_s_name_and_kept_where_nothing_is_masked(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    clip = tmp_path / "clip.avi"
    truth = media.make_plain(clip, seconds=1, fps=5, codec="mpeg4", width_px=1280, height_px=720)
    # The number that the generated picture carries looks like a plate.
    redaction = pipeline.settings.redaction.model_copy(update={"plates": False})
    pipeline = replace(pipeline, settings=pipeline.settings.model_copy(update={"redaction": redaction}))
    accepted = pipeline.take(clip)
    pipeline.work()
    storage = pipeline.storage
    grant = Grant(agency_id=pipeline.agency.id, item_id=accepted.item_id, variant="original")
    with storage.database.read() as session:
        ladder = ladder_of(session, storage, grant)
        assert [rung.file_name for rung in ladder.rungs] == ["rendition-360p.mp4", "rendition-720p.mp4"]
        for rung in ladder.rungs:
            assert resolve_grant(session, storage, grant, rung.file_name).sha256 == rung.sha256
        bodies = [leaf.body or b"" for leaf in session.scalars(select(CustodyLeaf))]
    (checked,) = (body for body in bodies if b'"redaction:checked"' in body)
    assert f'"kept_frames":{truth.frame_count},'.encode() in checked


def test_sound_alone_is_an_item_that_plays(pipeline: Pipeline, tmp_path: Path) -> None:
    note = tmp_path / "note.wav"
    media.write_wav(note)
    accepted = pipeline.take(note, device_no="CAM1", case_no="渝执(2026)1号")
    pipeline.work()
    item = pipeline.item(accepted.item_id)
    assert (item.media_kind, item.media, item.redaction) == ("audio", "rendered", "checked")
    assert item.av_record_no == "demo-LY-2026-0001"
    (redacted,) = derivatives(pipeline, "redacted")
    assert coverage_in_words(redacted.info["coverage"])[0] == "录音:整段静音"
    assert item.frame_count is None


def test_a_photo_is_an_item_with_its_exif_gone(pipeline: Pipeline, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    media.write_photo(photo)
    accepted = pipeline.take(photo, device_no="CAM1", case_no="渝执(2026)1号")
    pipeline.work()
    item = pipeline.item(accepted.item_id)
    assert (item.media_kind, item.media, item.redaction) == ("photo", "rendered", "checked")
    assert item.av_record_no == "demo-ZP-2026-0001"
    made = derivatives(pipeline, "redacted_photo")[0]
    path = pipeline.storage.objects.path(made.store_key)
    assert path is not None
    assert b"Exif" not in path.read_bytes()


def _empty(path: Path) -> None:
    path.touch()


def _text(path: Path) -> None:
    path.write_text("这不是视频\n" * 50, encoding="utf-8")


def _moovless(path: Path) -> None:
    media.make_plain(path, seconds=1)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"moov") - 4])


def _playlist(path: Path) -> None:
    secret = path.parent / "secret.ts"
    secret.write_bytes(b"G" * 188)
    media.write_playlist(path, secret)


def _encrypted(path: Path) -> None:
    media.make_plain(path, seconds=1)
    media.mark_encrypted(path)


@pytest.mark.parametrize(
    ("make", "codes"),
    [
        (_empty, {"empty"}),
        (_text, {"document", "not_media"}),
        (_moovless, {"moov_missing", "not_media"}),
        (_playlist, {"playlist"}),
        (_encrypted, {"encrypted"}),
        (media.write_zip, {"archive"}),
        (media.write_png_bomb, {"huge_dimensions"}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_cannot_be_played_is_kept_flagged_listed_and_bound(
    pipeline: Pipeline, tmp_path: Path, make: Callable[[Path], None], codes: set[str]
) -> None:
    bad, good = tmp_path / "bad.mp4", tmp_path / "good.mp4"
    make(bad)
    media.make_plain(good, seconds=1)
    first = pipeline.take(bad, device_no="CAM1", case_no="渝执(2026)1号")
    second = pipeline.take(good, device_no="CAM1", case_no="渝执(2026)1号")
    pipeline.work(only=MEDIA_JOBS)
    item = pipeline.item(first.item_id)
    assert (item.custody, item.media, item.binding) == ("verified", "unplayable", "bound")
    assert pipeline.flags(first.item_id) & codes
    assert pipeline.item(second.item_id).media == "rendered"
    with pipeline.storage.database.read() as session:
        assert session.scalars(select(Job).where(Job.state == "quarantined")).all() == []


@pytest.mark.parametrize("damage", [lambda path: media.cut_off(path, 0.6), media.overwrite_middle])
def test_damaged_footage_is_flagged_and_played_as_far_as_it_goes(
    pipeline: Pipeline, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    whole, clip = tmp_path / "whole.mp4", tmp_path / "clip.mp4"
    media.make_plain(whole, seconds=3)
    media.ffmpeg("-i", whole, "-c", "copy", "-movflags", "+faststart", clip)
    damage(clip)
    accepted = pipeline.take(clip, device_no="CAM1")
    pipeline.work(only=MEDIA_JOBS)
    item = pipeline.item(accepted.item_id)
    assert item.custody == "verified"
    assert item.media in {"rendered", "unplayable"}
    assert pipeline.flags(accepted.item_id)


def test_a_log_whose_frontier_was_altered_is_not_signed_on(pipeline: Pipeline, tmp_path: Path) -> None:
    def sequence() -> int:
        with pipeline.storage.database.transaction() as session:
            agency = agencies.agency_by_code(session, "demo")
            return sequence_once(session, pipeline.storage, agency, pipeline.storage.clock.now())

    assert sequence()
    note = tmp_path / "note.wav"
    media.write_wav(note)
    pipeline.take(note, device_no="CAM1")
    with pipeline.storage.database.transaction() as session:
        for verb in ("update", "delete"):
            session.execute(text(f"DROP TRIGGER custody_checkpoint_no_{verb}"))
        session.execute(text("UPDATE custody_checkpoint SET frontier = zeroblob(length(frontier))"))
    with pytest.raises(CustodyError):
        sequence()


def test_every_leaf_of_a_whole_run_gets_its_place(pipeline: Pipeline, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    media.make_plain(clip, seconds=1)
    pipeline.take(clip, device_no="CAM1")
    pipeline.work(only=MEDIA_JOBS)
    with pipeline.storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        placed = sequence_once(session, pipeline.storage, agency, pipeline.storage.clock.now())
    with pipeline.storage.database.read() as session:
        assert placed == session.scalar(select(func.count()).select_from(CustodyLeaf))
