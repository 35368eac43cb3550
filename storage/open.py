"""Opening what an installation keeps: database, object store and keys, as one thing to hand around."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from config.settings import Settings
from evidence.case import DEFAULT_CASE_NO_PATTERN
from evidence.clock import Clock, SystemClock
from evidence.custody import Action, parse_leaf
from evidence.errors import Conflict, CustodyError, Unavailable
from evidence.ids import new_id
from evidence.numbering import DEFAULT_TEMPLATE, check_template
from storage.db import custody, migrate
from storage.db.custody import Happening
from storage.db.engine import Database
from storage.db.tables import Agency, SigningKey
from storage.keys import KeyRing, PublicKey, Purpose
from storage.objects.base import ObjectStore
from storage.objects.local import LocalObjectStore, read_identity

DEFAULT_TIME_ZONE = "Asia/Shanghai"


@dataclass(frozen=True)
class Storage:
    """Everything an installation keeps."""

    database: Database
    objects: ObjectStore
    keys: KeyRing
    clock: Clock
    scratch: Path
    recorder: Path
    """Where this host's recorders write; it may not be there."""


@dataclass(frozen=True)
class NewAgency:
    """What founding needs to know of the agency."""

    code: str
    name: str
    time_zone: str = DEFAULT_TIME_ZONE
    case_no_pattern: str = DEFAULT_CASE_NO_PATTERN
    numbering_template: str = DEFAULT_TEMPLATE


def open_storage(settings: Settings) -> Storage:
    """Open what `found` made.

    Raises:
        Unavailable: Not founded, tables of another version, or the wrong disk under the object store.
    """
    database = Database(settings.database_url, lock_wait_s=settings.database.lock_wait_s)
    try:
        if not is_founded(settings, database):
            raise _not_founded(settings)
        found, needed = migrate.current(database), migrate.newest()
        if found != needed:
            raise Unavailable(
                f"database: expected tables of revision {needed}, found {found}; run `liuhen init`",
                code="tables_outdated",
            )
        return _attached(settings, database)
    except BaseException:
        database.dispose()
        raise


def _not_founded(settings: Settings) -> Unavailable:
    return Unavailable(
        f"data folder {settings.data.dir.resolve()}: expected an installation, found none; "
        "name its folder with --data, or make a new one with `liuhen init --agency-code CODE`",
        code="not_founded",
    )


def _attached(settings: Settings, database: Database) -> Storage:
    with database.read() as session:
        founder = session.scalars(select(Agency).order_by(Agency.id).limit(1)).one()
        generation = _generation(session, founder)
    objects = LocalObjectStore.attach(
        settings.data.dir / "objects",
        UUID(founder.store_id),
        min_generation=generation,
        floor_bytes=settings.data.free_floor_bytes,
    )
    scratch = settings.data.dir / "scratch"
    scratch.mkdir(mode=0o700, exist_ok=True)
    keys = KeyRing(settings.data.dir / "keys")
    return Storage(database, objects, keys, SystemClock(), scratch, settings.recorder_dir)


def _generation(session: Session, founder: Agency) -> int:
    """The newest generation of the store on record: an older one is the disk a restore replaced."""
    newest = 1
    for leaf in custody.leaves_about(session, founder.id, founder.store_id):
        try:
            generation = parse_leaf(leaf.body or b"").facts.get("generation")
        except CustodyError:
            # An altered leaf is for `liuhen verify` to name; it must be possible to run that.
            continue
        newest = max(newest, generation if isinstance(generation, int) else 1)
    return newest


def is_there(settings: Settings) -> bool:
    """Whether there is an installation where the settings say."""
    database = Database(settings.database_url, lock_wait_s=settings.database.lock_wait_s)
    try:
        return is_founded(settings, database)
    finally:
        database.dispose()


def is_founded(settings: Settings, database: Database) -> bool:
    """Whether `found` has been here: tables with at least one agency."""
    if database.is_sqlite and not Path(settings.database_url.removeprefix("sqlite:///")).exists():
        return False
    try:
        if migrate.current(database) is None:
            return False
        return _has_agency(database)
    except (OperationalError, ProgrammingError) as error:
        raise Unavailable(
            f"database: expected an answer, found: {str(error.orig).splitlines()[0]}; check its address",
            code="database_unavailable",
        ) from error


def _has_agency(database: Database) -> bool:
    with database.read() as session:
        return session.scalars(select(Agency.id).limit(1)).first() is not None


def found(settings: Settings, agency: NewAgency | None, clock: Clock | None = None) -> Storage:
    """Make tables, object store, keys and the first agency; where they are there, bring tables up to date.

    Safe to run again: what exists is kept. Files come before the rows that speak of them. Without an agency
    to make, nothing is founded.

    Raises:
        Unavailable: There is no installation, and no agency was given.
    """
    if agency is not None:
        check_template(agency.numbering_template)
    now = (clock or SystemClock()).now()
    settings.data.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    (settings.data.dir / "run").mkdir(mode=0o700, exist_ok=True)
    database = Database(settings.database_url, lock_wait_s=settings.database.lock_wait_s)
    try:
        migrate.upgrade(database)
        if not _has_agency(database):
            if agency is None:
                raise _not_founded(settings)
            _found(settings, agency, database, now)
        return _attached(settings, database)
    except BaseException:
        database.dispose()
        raise


def _found(settings: Settings, agency: NewAgency, database: Database, now: datetime) -> None:
    objects = _make_store(settings.data.dir / "objects", settings.data.free_floor_bytes)
    keys = KeyRing(settings.data.dir / "keys")
    public = [keys.create(purpose) for purpose in Purpose]
    with database.transaction() as session:
        row = Agency(
            id=new_id(),
            code=agency.code,
            name=agency.name,
            time_zone=agency.time_zone,
            case_no_pattern=agency.case_no_pattern,
            numbering_template=agency.numbering_template,
            store_id=str(objects.identity.store_id),
            created_at=now,
        )
        session.add(row)
        session.flush()
        for action, kind, subject, facts in (
            (Action.AGENCY_CREATED, "agency", str(row.id), {"code": row.code}),
            (Action.STORE_INITIALISED, "store", row.store_id, {"generation": objects.identity.generation}),
        ):
            custody.record(session, row, Happening(action, kind, subject, "system", facts), now)
        for key in public:
            _register_key(session, row, key, now)


def _register_key(session: Session, agency: Agency, key: PublicKey, now: datetime) -> None:
    session.add(
        SigningKey(
            id=key.id, agency_id=agency.id, purpose=str(key.purpose), public_key=key.raw, created_at=now
        )
    )
    facts = {"purpose": str(key.purpose), "public_key": key.raw.hex()}
    custody.record(session, agency, Happening(Action.KEY_CREATED, "key", key.id, "system", facts), now)


def _make_store(root: Path, floor_bytes: int) -> LocalObjectStore:
    """A new store, or the one an earlier founding that was cut off has left empty."""
    try:
        return LocalObjectStore.create(root, floor_bytes=floor_bytes)
    except Conflict:
        identity = read_identity(root)
        store = LocalObjectStore.attach(root, identity.store_id, floor_bytes=floor_bytes)
        if next(store.list(), None) is not None:
            raise
        return store
