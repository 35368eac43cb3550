"""A small shift in custody: rows of every kind, verified bytes, signed receipts, without any process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from cli.shell import Desk
from cli.take import take_file
from config.settings import Settings
from evidence.ids import new_id
from evidence.kinds import RetrievalPurpose, Role, SourceKind
from ingest import docks, roster
from ingest.binding import bind
from ingest.register import NewCase, open_case
from storage.db import agencies, cases, clips, grants, items, jobs
from storage.db.tables import Account, Agency, Case, Item, RedactionPlanRow
from storage.open import Storage, found, open_storage
from storage.sequencer import sequence_agency
from tests.support.clocks import SettableClock
from tests.support.installations import AGENCY, settings_for
from workers.context import JobContext
from workers.derivatives import put_derivative
from workers.tasks import fixity

ACTOR = "operator:0"
CASE_NOS = ("罚字〔2026〕1号", "罚字〔2026〕2号")


def desk_of(settings: Settings, storage: Storage) -> Desk:
    """A desk as a command has it."""
    with storage.database.read() as session:
        return Desk(settings, storage, agencies.agencies(session)[0])


def play_shift(settings: Settings, storage: Storage, folder: Path, count: int = 4) -> Desk:
    """Take `count` files, verify them, bind some, make derivatives, place every leaf."""
    desk = desk_of(settings, storage)
    opened = datetime(2026, 1, 1, tzinfo=UTC)
    with desk.write() as (session, agency):
        now = desk.now()
        for number in ("P1", "P2"):
            roster.register_officer(
                session, agency, number, f"警员{number}", certificate_no=None, actor=ACTOR, now=now
            )
        for number in ("D1", "D2"):
            roster.register_device(
                session, agency, number, kind=SourceKind.BODY_CAM, model="DSJ", actor=ACTOR, now=now
            )
            roster.issue_device(session, agency, number, "P1", issued_at=opened, actor=ACTOR, now=now)
            docks.issue_token(
                session, agency, dock_no=f"K{number}", device_no=number, life=None, actor=ACTOR, now=now
            )
        first = roster.add_account(
            session,
            agency,
            username="reviewer",
            display_name="reviewer",
            password="correct horse battery",
            roles=frozenset({Role.REVIEWER}),
            actor=ACTOR,
            now=now,
        )
        # Hashing a password takes a third of a second; the second account has the first one's.
        second = {"username": "second", "display_name": "second", "password_hash": first.password_hash}
        session.add(
            Account(agency_id=agency.id, roles=["reviewer"], failed_logins=0, created_at=now, **second)
        )
        for case_no in CASE_NOS:
            open_case(session, agency, NewCase(case_no, cause="占道", opened_at=opened), actor=ACTOR, now=now)
    for at in range(count):
        source = folder / f"DSJ-D{1 + at % 2}_{at}.mp4"
        source.write_bytes(bytes([at]) * (4000 + at))
        staged = storage.objects.staging_dir / f"{new_id().hex}.take"
        said = {"device_no": f"D{1 + at % 2}", "place": f"路口{at}", "case_no": CASE_NOS[at % 2]}
        take_file(desk, source, staged, said)
    while work_once(settings, storage, folder):
        pass
    with desk.write() as (session, agency):
        _tie(session, agency, desk.now())
    sequence_agency(storage, desk.agency.id)
    return desk


def lite_shift(folder: Path, clock: SettableClock) -> Iterator[Desk]:
    """A shift of three files on SQLite, for what has nothing to do with the kind of database."""
    shutil.copytree(_played_once(), folder / "data")
    settings = _on_sqlite(folder)
    storage = replace(open_storage(settings), clock=clock)
    yield desk_of(settings, storage)
    storage.database.dispose()


@cache
def _played_once() -> Path:
    """The data folder of an installation at rest."""
    folder, clock = Path(mkdtemp(prefix="liuhen-shift-")), SettableClock()
    settings = _on_sqlite(folder)
    storage = replace(found(settings, AGENCY, clock), clock=clock)
    play_shift(settings, storage, folder, count=3)
    storage.database.dispose()
    return folder / "data"


def _on_sqlite(folder: Path) -> Settings:
    return settings_for(folder, f"sqlite:///{folder / 'data' / 'liuhen.db'}")


def verify_once(settings: Settings, storage: Storage, folder: Path) -> bool:
    """Do one verifying job as a worker would; False when there is none."""
    context = _leased(settings, storage, folder)
    if context is None:
        return False
    outcome = fixity.verify(context)
    with storage.database.transaction() as session:
        jobs.hold_fence(session, context.lease)
        outcome.commit(session, context.agency)
        jobs.finish(session, context.lease, storage.clock.now())
    return True


def _leased(settings: Settings, storage: Storage, folder: Path) -> JobContext | None:
    with storage.database.transaction() as session:
        lease = jobs.take_next_lease(session, ("io",), "test", storage.clock.now(), timedelta(seconds=30))
    if lease is None:
        return None
    with storage.database.read() as session:
        agency = agencies.agency_by_id(session, lease.agency_id)
    return JobContext(lease, agency, storage, settings, folder, lambda _: None, lambda: False)


def work_once(settings: Settings, storage: Storage, folder: Path) -> bool:
    """Do one verifying job as a worker would, and make a derivative with it; False when there is none."""
    context = _leased(settings, storage, folder)
    if context is None:
        return False
    lease, agency = context.lease, context.agency
    outcome = fixity.verify(context)
    poster = storage.objects.staging_dir / f"{new_id().hex}.jpg"
    poster.write_bytes(lease.subject_id.bytes * 50)
    made = context.keep_derivative(poster)
    with storage.database.transaction() as session:
        jobs.hold_fence(session, lease)
        outcome.commit(session, agency)
        put_derivative(
            session,
            context,
            lease.subject_id,
            "poster",
            {"at_us": 0},
            made,
            info={"width_px": 64},
            masked=False,
            content_type="image/jpeg",
        )
        jobs.finish(session, lease, storage.clock.now())
    return True


def _tie(session: Session, agency: Agency, now: datetime) -> None:
    rows = items.page_of_items(session, agency.id, items.ItemFilter(), after=None, limit=100)
    found = cases.page_of_cases(session, agency.id, prefix=None, is_open=None, after=None, limit=10)
    account = session.scalars(select(Account).where(Account.agency_id == agency.id)).first()
    assert account is not None
    for at, item in enumerate(rows[:-1]):
        bind(session, agency, item, found[at % 2], author=ACTOR, reason="指定", now=now)
        _plan(session, agency, item, now)
        _grant(session, agency, account.id, item, found[at % 2], now)


def _plan(session: Session, agency: Agency, item: Item, now: datetime) -> None:
    session.add(
        RedactionPlanRow(
            agency_id=agency.id,
            item_id=item.id,
            number=1,
            plan_sha256=bytes(32),
            plan={"regions": []},
            author=ACTOR,
            made_at=now,
        )
    )
    session.flush()


def _grant(session: Session, agency: Agency, account_id: UUID, item: Item, case: Case, now: datetime) -> None:
    purpose = str(RetrievalPurpose.CASE_HANDLING)
    grant = grants.new_grant(
        agency.id,
        account_id=account_id,
        item_id=item.id,
        case_id=case.id,
        variant="redacted",
        span_us=None,
        purpose=purpose,
        reason=None,
        now=now,
        expires_at=now + timedelta(hours=1),
    )
    session.add(grant)
    session.flush()
    clips.add_clip(
        session,
        agency.id,
        account_id=account_id,
        item_id=item.id,
        case_id=case.id,
        form="file",
        marked=True,
        variant="redacted",
        span_us=(0, 1_000_000),
        purpose=purpose,
        reason=None,
        now=now,
    )
