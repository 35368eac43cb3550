"""A long recording is encoded by many jobs: each chunk counts once, and what fails is encoded whole."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, event, select
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from api.resolving import ladder_of, resolve_grant
from api.telling import tell
from config.settings import EncodingSettings, RungSettings, Settings
from evidence.errors import Conflict, InvalidInput, MediaError, NotFound
from evidence.fixity import hash_file
from media.run import packaged_ffmpeg
from messaging.jobs import QUEUES
from storage.check import check
from storage.check_files import Depth
from storage.db import grants
from storage.db.jobs import Wanted, requeue, want
from storage.db.tables import Account, Agency, Derivative, Grant, Job
from storage.objects.base import Namespace
from storage.open import Storage
from tests.support import media
from tests.support.clocks import SettableClock
from tests.support.installations import settings_for
from tests.support.pipeline import Pipeline, Silence, pipeline_settings
from transcode.playlist import seam_of
from workers.context import JobContext, Outcome
from workers.encodings import want_whole
from workers.relay import Relay
from workers.runner import Runner, Task
from workers.tasks import TASKS
from workers.tasks.media import EXAMINE_WAITS_S

POLICY = EncodingSettings(
    rungs=[RungSettings(height_px=90), RungSettings(height_px=180)], chunk_s=1, chunk_above_s=2
)
MEDIA = {"probe", "examine", "preview", "sound", "chunk", "rendition", "discard"}


@pytest.fixture
def pipeline(sqlite_storage: Storage, tmp_path: Path) -> Pipeline:
    """On SQLite, whose leases end by a clock that tests can move."""
    return pipeline_of(sqlite_storage, settings_for(tmp_path, f"sqlite:///{tmp_path / 'test.db'}"))


@pytest.fixture
def on_each(storage: Storage, settings: Settings) -> Pipeline:
    """Over each database in turn."""
    return pipeline_of(storage, settings)


def pipeline_of(storage: Storage, settings: Settings) -> Pipeline:
    return Pipeline(storage, pipeline_settings(settings).model_copy(update={"encoding": POLICY}))


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three chunks of a second, without a keyframe at their seams."""
    path = tmp_path_factory.mktemp("long") / "long.avi"
    media.make_plain(path, seconds=3, fps=10, codec="mpeg4", keyframe_every=7)
    return path


def rows(pipeline: Pipeline, *kinds: str, withdrawn: bool = False) -> list[Derivative]:
    with pipeline.storage.database.read() as session:
        query = select(Derivative).where(Derivative.kind.in_(kinds)).order_by(Derivative.id)
        return [row for row in session.scalars(query) if (row.withdrawn_at is not None) == withdrawn]


def jobs_of(pipeline: Pipeline, kind: str) -> list[Job]:
    with pipeline.storage.database.read() as session:
        return list(session.scalars(select(Job).where(Job.kind == kind).order_by(Job.id)))


def is_whole(pipeline: Pipeline) -> None:
    """Each rung shows every frame, pieces are gone with their bytes, and a check finds nothing."""
    made = rows(pipeline, "rendition")
    assert [row.info["rung"] for row in made] == ["90p", "180p"]
    for row in made:
        path = pipeline.storage.objects.path(row.store_key)
        assert path is not None
        assert media.frame_numbers(path) == list(range(30))
    assert rows(pipeline, "chunk", "sound", "preview") == []
    gone = rows(pipeline, "chunk", "sound", "preview", withdrawn=True)
    assert not any(pipeline.storage.objects.exists(row.store_key) for row in gone)
    assert list(check(pipeline.storage, Depth.DIGESTS)) == []


def runner_with(pipeline: Pipeline, kind: str, task: Task) -> Runner:
    tasks = {**TASKS, kind: task}
    return Runner(pipeline.storage, pipeline.settings, tasks, QUEUES, Silence(), Silence())  # type: ignore[arg-type]


def only_media(pipeline: Pipeline, runner: Runner, clock: SettableClock, rounds: int = 1) -> None:
    for _ in range(rounds):
        pipeline.leave_out(MEDIA)
        while runner.look():
            pipeline.leave_out(MEDIA)
        clock.advance(10)


def test_a_long_recording_is_made_of_chunk_jobs_and_joined(on_each: Pipeline, footage: Path) -> None:
    pipeline = on_each
    item_id = pipeline.take(footage).item_id
    pipeline.work(only={"probe", "examine"})
    with pipeline.storage.database.transaction() as session:
        for job in session.scalars(select(Job).where(Job.state == "cancelled", Job.kind.in_(MEDIA))):
            job.state = "ready"
    spans = sorted((job.params["from_pts"], job.params["to_pts"]) for job in jobs_of(pipeline, "chunk"))
    assert [one[1] for one in spans[:-1]] == [two[0] for two in spans[1:]]
    assert len(spans) == 3
    pipeline.work(only={"preview", "sound", "chunk"})
    grant = Grant(agency_id=pipeline.agency.id, item_id=item_id, variant="original")
    with pipeline.storage.database.read() as session:
        (shown,) = ladder_of(session, pipeline.storage, grant).rungs
        assert (shown.is_growing, shown.made_at) == (True, None)
        preview = resolve_grant(session, pipeline.storage, grant, shown.file_name)
        told = Grant(agency_id=pipeline.agency.id, item_id=item_id, variant="original")
        tell(told, ladder_of(session, pipeline.storage, told), None)
    assert preview.sha256 is None
    assert media.frame_numbers(preview.path) == list(range(10))
    with pipeline.storage.database.transaction() as session:
        for job in session.scalars(select(Job).where(Job.state == "cancelled", Job.kind == "rendition")):
            job.state = "ready"
    pipeline.work(only=MEDIA)
    is_whole(pipeline)
    with pipeline.storage.database.read() as session:
        names = [rung.name for rung in ladder_of(session, pipeline.storage, grant).rungs]
        begun = ladder_of(session, pipeline.storage, told).rungs[-1]
    assert names == ["90p", "180p"]
    assert (begun.name, begun.limit_s, begun.then and begun.then.limit_s) == ("preview", 4, 4)
    assert begun.then is not None
    assert seam_of(begun.then.index, begun.index.duration) == begun.index.duration == 1
    assert pipeline.item(item_id).media == "rendered"
    assert all(row.info["codecs"].endswith("mp4a.40.2") for row in rows(pipeline, "rendition"))


@pytest.mark.parametrize("short_by_header", [False, True])
def test_a_recording_is_encoded_in_chunks_or_whole_and_never_both(
    pipeline: Pipeline, tmp_path: Path, clock: SettableClock, short_by_header: bool
) -> None:
    """Its sound can be copied, so as a short one its encoding would be wanted by its header alone."""
    source = tmp_path / "foreign.mp4"
    media.make_plain(source, seconds=3, fps=10, codec="hevc")
    pipeline.take(source)
    above = pipeline.settings.encoding.model_copy(update={"chunk_above_s": 5.0})
    longer = Pipeline(pipeline.storage, pipeline.settings.model_copy(update={"encoding": above}))
    first = longer if short_by_header else pipeline
    first.work(only={"probe"})
    with pipeline.storage.database.transaction() as session:
        for job in session.scalars(select(Job).where(Job.kind.in_(MEDIA), Job.state == "cancelled")):
            job.state = "ready"
    only_media(pipeline, runner_with(pipeline, "probe", TASKS["probe"]), clock, rounds=2)
    expected = [None] if short_by_header else [3]
    assert [job.params.get("chunks") for job in jobs_of(pipeline, "rendition")] == expected
    assert bool(jobs_of(pipeline, "chunk")) is not short_by_header
    is_whole(pipeline)


def test_a_rung_that_another_job_made_meanwhile_is_not_shown_twice(
    pipeline: Pipeline, footage: Path, clock: SettableClock
) -> None:
    pipeline.take(footage)
    overtaken: list[UUID] = []

    def overtake(context: JobContext) -> Outcome:
        outcome = TASKS["rendition"](context)
        if not overtaken:
            overtaken.append(context.lease.job_id)
            with pipeline.storage.database.transaction() as session:
                want_whole(session, context.lease, clock.now())
            only_media(pipeline, runner_with(pipeline, "rendition", TASKS["rendition"]), clock)
        return outcome

    only_media(pipeline, runner_with(pipeline, "rendition", overtake), clock)
    assert [job.state for job in jobs_of(pipeline, "rendition")] == ["done", "done"]
    assert len(jobs_of(pipeline, "redact")) == 1
    made = rows(pipeline, "rendition")
    assert [row.info["rung"] for row in made] == ["90p", "180p"]
    assert all("chunks" not in row.params for row in made)


def test_footage_that_cannot_be_cut_is_encoded_whole_and_the_log_says_why(
    pipeline: Pipeline, tmp_path: Path, clock: SettableClock
) -> None:
    source = tmp_path / "bare.h264"
    media.make_plain(tmp_path / "a.mp4", seconds=3, fps=5, audio=False)
    media.ffmpeg("-i", tmp_path / "a.mp4", "-c:v", "copy", source)
    item_id = pipeline.take(source).item_id
    with capture_logs() as told:
        only_media(pipeline, runner_with(pipeline, "rendition", TASKS["rendition"]), clock)
    (whole,) = (each for each in told if each["event"] == "encoded_whole")
    assert (whole["item"], whole["reason"]) == (str(item_id), "nothing can be sought in h264")
    assert jobs_of(pipeline, "chunk") == []
    assert [row.info["rung"] for row in rows(pipeline, "rendition")] == ["90p", "180p"]
    assert pipeline.item(item_id).duration_us == 3_000_000


def test_a_rung_that_is_there_is_not_encoded_again(
    pipeline: Pipeline, tmp_path: Path, clock: SettableClock
) -> None:
    """A worker died over the larger one, a person asks for all of them: the smaller one is there."""
    source, told = tmp_path / "a.avi", tmp_path / "told"
    media.make_plain(source, seconds=1, fps=10, codec="mpeg4", audio=False)
    talks = tmp_path / "ffmpeg"
    talks.write_text(f'#!/bin/sh\necho "$@" >> "{told}"\nexec "{packaged_ffmpeg()}" "$@"\n')
    talks.chmod(0o700)
    of_media = pipeline.settings.media.model_copy(update={"ffmpeg": talks})
    pipeline = Pipeline(pipeline.storage, pipeline.settings.model_copy(update={"media": of_media}))
    pipeline.take(source)

    def half(context: JobContext) -> Outcome:
        params = {**context.lease.params, "rungs": ["90p"]}
        return TASKS["rendition"](replace(context, lease=replace(context.lease, params=params)))

    only_media(pipeline, runner_with(pipeline, "rendition", half), clock)
    (small,) = rows(pipeline, "rendition")
    told.unlink()
    with pipeline.storage.database.transaction() as session:
        for job in session.scalars(select(Job).where(Job.kind == "rendition")):
            job.state = "ready"
    only_media(pipeline, runner_with(pipeline, "rendition", TASKS["rendition"]), clock)
    assert "rendition-180p" in told.read_text()
    assert "rendition-90p" not in told.read_text()
    again, large = rows(pipeline, "rendition")
    assert (again.id, again.made_at, large.info["rung"]) == (small.id, small.made_at, "180p")
    assert pipeline.flags(small.item_id) == {"device_missing"}


def test_a_reading_waits_for_a_copy_alone(
    pipeline: Pipeline, tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoding that begins by the header goes on for long: nothing waits for its first segment."""
    monkeypatch.setattr("workers.tasks.media.LONG_READING_BYTES", 1)
    above = pipeline.settings.encoding.model_copy(update={"chunk_above_s": 5.0})
    longer = Pipeline(pipeline.storage, pipeline.settings.model_copy(update={"encoding": above}))
    waits = {}
    for codec in ("hevc", "h264"):
        media.make_plain(tmp_path / f"{codec}.mp4", seconds=1, fps=10, codec=codec)
        item_id = longer.take(tmp_path / f"{codec}.mp4").item_id
        longer.work(only={"probe"})
        (examine,) = (job for job in jobs_of(longer, "examine") if job.subject_id == item_id)
        waits[codec] = (examine.run_after - examine.created_at).total_seconds()
    assert waits == {"hevc": 0, "h264": EXAMINE_WAITS_S}


def test_of_two_workers_with_one_chunk_one_is_committed(
    pipeline: Pipeline, footage: Path, clock: SettableClock
) -> None:
    """The first is frozen when its bytes are made; the second makes others: its x264 is set otherwise."""
    pipeline.take(footage)
    other = pipeline.settings.encoding.model_copy(update={"preset": "ultrafast"})
    second = Pipeline(pipeline.storage, pipeline.settings.model_copy(update={"encoding": other}))
    outran: list[UUID] = []

    def slow(context: JobContext) -> Outcome:
        outcome = TASKS["chunk"](context)
        if not outran:
            outran.append(context.lease.job_id)
            clock.advance(pipeline.settings.worker.lease_s + 1)
            assert Relay(pipeline.storage, pipeline.settings, Silence(), Silence()).sweep() == 1  # type: ignore[arg-type]
            only_media(second, runner_with(second, "rendition", _not_yet), clock)
        return outcome

    runner = runner_with(pipeline, "chunk", slow)
    pipeline.leave_out(MEDIA)
    while not outran and runner.look():
        pipeline.leave_out(MEDIA)
    only_media(second, runner_with(second, "chunk", TASKS["chunk"]), clock)
    job = next(job for job in jobs_of(pipeline, "chunk") if job.id == outran[0])
    assert (job.state, job.fence, job.deaths) == ("done", 2, 1)
    keys = [(row.info["chunk"], row.info["rung"]) for row in rows(pipeline, "chunk", withdrawn=True)]
    assert sorted(keys) == [(number, rung) for number in range(3) for rung in ("180p", "90p")]
    assert [job.params["chunks"] for job in jobs_of(pipeline, "rendition")] == [3]
    is_whole(pipeline)


def _not_yet(context: JobContext) -> Outcome:
    raise Conflict("the other worker joins", code="cancelled")


def test_a_dead_worker_costs_its_own_chunk_alone(
    pipeline: Pipeline, footage: Path, clock: SettableClock
) -> None:
    pipeline.take(footage)
    died: list[UUID] = []

    def dies(context: JobContext) -> Outcome:
        if context.lease.params["chunk"] == 1 and not died:
            died.append(context.lease.job_id)
            raise _Killed
        return TASKS["chunk"](context)

    runner = runner_with(pipeline, "chunk", dies)
    with pytest.raises(_Killed):
        only_media(pipeline, runner, clock)
    clock.advance(pipeline.settings.worker.lease_s + 1)
    Relay(pipeline.storage, pipeline.settings, Silence(), Silence()).sweep()  # type: ignore[arg-type]
    only_media(pipeline, runner, clock)
    fences = {job.params["chunk"]: (job.fence, job.deaths) for job in jobs_of(pipeline, "chunk")}
    assert fences == {0: (1, 0), 1: (2, 1), 2: (1, 0)}
    assert [job.params["chunks"] for job in jobs_of(pipeline, "rendition")] == [3]
    is_whole(pipeline)


def with_rungs(pipeline: Pipeline, *heights: int) -> Pipeline:
    """The same installation by other settings."""
    rungs = [RungSettings(height_px=height) for height in heights]
    changed = pipeline.settings.encoding.model_copy(update={"rungs": rungs})
    return Pipeline(pipeline.storage, pipeline.settings.model_copy(update={"encoding": changed}))


def stops_after_a_chunk(pipeline: Pipeline, clock: SettableClock) -> None:
    """A worker by these settings that makes one chunk and then loses its power."""
    made: list[UUID] = []

    def one(context: JobContext) -> Outcome:
        if made:
            raise _Killed
        made.append(context.lease.job_id)
        return TASKS["chunk"](context)

    with pytest.raises(_Killed):
        only_media(pipeline, runner_with(pipeline, "chunk", one), clock)
    clock.advance(pipeline.settings.worker.lease_s + 1)
    Relay(pipeline.storage, pipeline.settings, Silence(), Silence()).sweep()  # type: ignore[arg-type]


@pytest.mark.parametrize("heights", [(90, 120), (120,)], ids=["one rung changed", "all rungs changed"])
def test_a_recording_whose_rungs_changed_gets_the_whole_ladder_of_now(
    pipeline: Pipeline, footage: Path, clock: SettableClock, heights: tuple[int, ...]
) -> None:
    pipeline.take(footage)
    stops_after_a_chunk(pipeline, clock)
    now = with_rungs(pipeline, *heights)
    only_media(now, runner_with(now, "chunk", TASKS["chunk"]), clock)
    assert [row.info["rung"] for row in rows(pipeline, "rendition")] == [f"{each}p" for each in heights]
    assert rows(pipeline, "chunk", "sound", "preview") == []


def test_rungs_that_change_and_change_back_are_made(
    pipeline: Pipeline, footage: Path, clock: SettableClock
) -> None:
    item_id = pipeline.take(footage).item_id
    stops_after_a_chunk(pipeline, clock)
    changed = with_rungs(pipeline, 120)

    def not_yet(context: JobContext) -> Outcome:
        if context.lease.params["rungs"] == ["120p"]:
            raise Conflict("its worker stops", code="cancelled")
        return TASKS["rendition"](context)

    only_media(changed, runner_with(changed, "rendition", not_yet), clock)
    assert rows(pipeline, "rendition") == []
    only_media(pipeline, runner_with(pipeline, "chunk", TASKS["chunk"]), clock)
    is_whole(pipeline)
    assert pipeline.item(item_id).media == "rendered"


@pytest.mark.parametrize("binary", [False, True], ids=["another bitrate", "another FFmpeg"])
def test_pieces_of_other_settings_are_not_joined(
    pipeline: Pipeline, footage: Path, tmp_path: Path, clock: SettableClock, binary: bool
) -> None:
    """Their parameter sets may be the same: then nothing in their bytes says that one is of another make."""
    before = capped(pipeline, 700)
    before.take(footage)
    stops_after_a_chunk(before, clock)
    now = capped(pipeline, 500)
    if binary:
        other = tmp_path / "ffmpeg"
        other.write_text(f'#!/bin/sh\nexec "{packaged_ffmpeg()}" "$@"\n')
        other.chmod(0o700)
        of_media = pipeline.settings.media.model_copy(update={"ffmpeg": other})
        now = Pipeline(pipeline.storage, before.settings.model_copy(update={"media": of_media}))
    only_media(now, runner_with(now, "chunk", TASKS["chunk"]), clock)
    assert [job.params.get("chunks") for job in jobs_of(pipeline, "rendition")] == [3, None]
    is_whole(pipeline)


def capped(pipeline: Pipeline, max_kbps: int) -> Pipeline:
    rungs = [RungSettings(height_px=height, max_kbps=max_kbps) for height in (90, 180)]
    changed = pipeline.settings.encoding.model_copy(update={"rungs": rungs})
    return Pipeline(pipeline.storage, pipeline.settings.model_copy(update={"encoding": changed}))


def test_commits_of_chunks_do_not_read_what_others_hold(
    pipeline: Pipeline, footage: Path, clock: SettableClock
) -> None:
    """The index of an hour of pieces is megabytes, and it would be read under the item's lock."""
    pipeline.take(footage)
    read: list[str] = []

    def listen(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if statement.startswith("SELECT") and "derivative.info" in statement and committing:
            read.append(statement)

    committing: list[bool] = []

    def chunk(context: JobContext) -> Outcome:
        outcome = TASKS["chunk"](context)

        def commit(session: Session, agency: Agency) -> None:
            committing.append(True)
            outcome.commit(session, agency)
            committing.clear()

        return Outcome(commit)

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        only_media(pipeline, runner_with(pipeline, "chunk", chunk), clock)
    finally:
        event.remove(Engine, "before_cursor_execute", listen)
    assert not [each for each in read if "params_digest =" not in each]
    is_whole(pipeline)


class _Killed(BaseException):
    """No handler of the worker's sees its death."""


def test_a_recording_whose_chunk_cannot_be_made_is_encoded_whole(
    pipeline: Pipeline, footage: Path, clock: SettableClock
) -> None:
    item_id = pipeline.take(footage).item_id

    def fails(context: JobContext) -> Outcome:
        if context.lease.params["chunk"] == 2:
            raise MediaError("the decoder crashed", code="decoder_crashed")
        return TASKS["chunk"](context)

    only_media(pipeline, runner_with(pipeline, "chunk", fails), clock, rounds=4)
    assert [job.state for job in jobs_of(pipeline, "chunk")].count("quarantined") == 1
    assert pipeline.flags(item_id) == {"device_missing"}
    assert [job.params.get("chunks") for job in jobs_of(pipeline, "rendition")] == [None]
    is_whole(pipeline)


def test_chunks_whose_bytes_changed_are_not_joined(
    pipeline: Pipeline, footage: Path, clock: SettableClock
) -> None:
    pipeline.take(footage)
    harmed: list[str] = []

    def harm(context: JobContext) -> Outcome:
        if not harmed:
            row = rows(pipeline, "chunk")[1]
            harmed.append(row.store_key)
            path = pipeline.storage.objects.path(row.store_key)
            assert path is not None
            path.chmod(0o600)
            data = bytearray(path.read_bytes())
            data[-40] ^= 1
            path.write_bytes(data)
        return TASKS["rendition"](context)

    only_media(pipeline, runner_with(pipeline, "rendition", harm), clock, rounds=2)
    assert len(jobs_of(pipeline, "rendition")) == 2
    is_whole(pipeline)


@pytest.mark.parametrize("is_gone", [True, False], ids=["a piece is gone", "joining fails"])
def test_a_recording_whose_chunks_cannot_be_joined_is_encoded_whole(
    pipeline: Pipeline, footage: Path, clock: SettableClock, is_gone: bool
) -> None:
    """One rung alone would be left without any job, and several with one decoding each."""
    item_id = pipeline.take(footage).item_id

    def join(context: JobContext) -> Outcome:
        if "chunks" in context.lease.params:
            if not is_gone:
                raise InvalidInput("what no attempt can help", code="out_of_luck")
            pipeline.storage.objects.delete(rows(pipeline, "chunk")[1].store_key)
        return TASKS["rendition"](context)

    only_media(pipeline, runner_with(pipeline, "rendition", join), clock)
    asked = [(job.params["rungs"], job.params.get("chunks")) for job in jobs_of(pipeline, "rendition")]
    assert asked == [(["90p", "180p"], 3), (["90p", "180p"], None)]
    assert pipeline.item(item_id).media == "rendered"
    assert pipeline.flags(item_id) == {"device_missing"}
    is_whole(pipeline)


def test_a_preview_ends_with_the_last_hope_of_a_rendition(
    pipeline: Pipeline, footage: Path, clock: SettableClock
) -> None:
    """Players would wait for ever for what it says will come; requeued once mended, all of it comes."""
    item_id = pipeline.take(footage).item_id

    def broken(context: JobContext) -> Outcome:
        raise InvalidInput("the binary is of another machine", code="no_encoder")

    tasks = {**TASKS, "chunk": broken, "sound": broken, "rendition": broken}
    runner = Runner(pipeline.storage, pipeline.settings, tasks, QUEUES, Silence(), Silence())  # type: ignore[arg-type]
    only_media(pipeline, runner, clock)
    assert pipeline.item(item_id).media == "unplayable"
    assert rows(pipeline, "chunk", "sound", "preview") == []
    (preview,) = rows(pipeline, "preview", withdrawn=True)
    assert not pipeline.storage.objects.exists(preview.store_key)
    grant = Grant(agency_id=pipeline.agency.id, item_id=item_id, variant="original")
    with pipeline.storage.database.read() as session, pytest.raises(NotFound, match="none yet"):
        ladder_of(session, pipeline.storage, grant)
    with pipeline.storage.database.transaction() as session:
        for job in session.scalars(select(Job).where(Job.state == "quarantined")).all():
            requeue(session, pipeline.agency.id, job.id, clock.now())
    only_media(pipeline, runner_with(pipeline, "discard", TASKS["discard"]), clock)
    is_whole(pipeline)


def test_a_preview_stays_for_who_began_to_watch_it(
    pipeline: Pipeline, tmp_path: Path, clock: SettableClock
) -> None:
    """What a playlist names must be there until the last who has the playlist may read no more."""
    source = tmp_path / "a.txt"
    source.write_text("a")
    item_id, agency, now = pipeline.take(source).item_id, pipeline.agency, clock.now()
    staged = pipeline.storage.objects.staging_dir / "preview"
    staged.write_bytes(b"preview")
    digest = hash_file(staged).sha256
    key = pipeline.storage.objects.adopt(staged, digest, 7, agency.id.hex, Namespace.DERIVATIVE).key
    with pipeline.storage.database.transaction() as session:
        holder = Account(
            agency_id=agency.id, username="a", display_name="a", password_hash="", roles=[], created_at=now
        )  # fmt: skip
        session.add(holder)
        session.flush()
        session.add(
            Derivative(
                agency_id=agency.id, item_id=item_id, kind="preview", source_sha256=digest,
                params_digest=digest, params={}, sha256=digest, size_bytes=7, store_key=key,
                content_type="video/mp4", masked=False, info={}, made_at=now, withdrawn_at=now,
            )
        )  # fmt: skip
        told: tuple[tuple[int, dict[str, Any] | None], ...] = (
            (10, {"limits_s": {"preview": 4}}),
            (20, None),
            (30, {"started_at": None}),
            (40, {"started_at": None, "first": "copy", "limits_s": {}}),
        )
        for minutes, words in told:
            grant = grants.new_grant(
                agency.id, account_id=holder.id, item_id=item_id, case_id=None, variant="original",
                span_us=None, purpose="case_handling", reason="a", now=now,
                expires_at=now + timedelta(minutes=minutes),
            )  # fmt: skip
            grant.told = words
            session.add(grant)
        want(session, agency.id, Wanted("discard", "io", item_id, params={"for": "a"}), now)
    pipeline.work(only={"discard"})
    assert pipeline.storage.objects.exists(key)
    clock.advance(601)
    pipeline.work(only={"discard"})
    assert not pipeline.storage.objects.exists(key)
    assert [job.state for job in jobs_of(pipeline, "discard")] == ["done", "done"]


def test_the_preview_beside_a_heavy_copy_is_of_the_smallest_rung(
    pipeline: Pipeline, tmp_path: Path, clock: SettableClock
) -> None:
    source = tmp_path / "heavy.mp4"
    media.make_plain(source, seconds=3, fps=10, codec="h264")
    changed = pipeline.settings.encoding.model_copy(update={"small_beside_copy_above_kbps": 1})
    beside = Pipeline(pipeline.storage, pipeline.settings.model_copy(update={"encoding": changed}))
    beside.take(source)
    only_media(beside, runner_with(beside, "discard", TASKS["discard"]), clock)
    (preview,) = rows(beside, "preview", withdrawn=True)
    assert (preview.info["height_px"], preview.params["rung"]["copies_video"]) == (90, False)
    assert [row.info["rung"] for row in rows(beside, "rendition")] == ["copy", "90p"]


def test_sound_much_longer_than_its_picture_is_made_at_once(
    pipeline: Pipeline, tmp_path: Path, clock: SettableClock
) -> None:
    source = tmp_path / "long-sound.mkv"
    media.ffmpeg("-f", "lavfi", "-i", "sine=440:sample_rate=8000:duration=8", "-f", "lavfi", "-i",
                 "testsrc2=size=128x96:rate=10:duration=3", "-map", "1", "-map", "0", "-c:v", "mpeg4",
                 "-c:a", "pcm_s16le", source)  # fmt: skip
    pipeline.take(source)
    only_media(pipeline, runner_with(pipeline, "discard", TASKS["discard"]), clock)
    (job,) = jobs_of(pipeline, "sound")
    assert (job.state, job.attempt) == ("done", 0)
    assert [job.params.get("chunks") for job in jobs_of(pipeline, "rendition")] == [3]
