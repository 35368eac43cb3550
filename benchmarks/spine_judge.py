"""What became of a shift: lost, doubled, changed, stuck. Reads the database and every byte, mends nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from benchmarks.shift import QUARANTINED, REVIEWABLE, UNPLAYABLE, ShiftFile
from cli import verifier
from cli.logbook import live_lines
from evidence.custody import Action
from evidence.fixity import hash_stream
from evidence.item import Custody, Media, Redaction, is_reviewable
from storage.check import Depth, check
from storage.db import custody, items
from storage.db.tables import (
    Agency,
    AvNumber,
    CaseBinding,
    CustodyLeaf,
    CustodyPending,
    Derivative,
    Item,
    Job,
    Reception,
    StoredObject,
)
from storage.open import Storage

HARMLESS = {"orphan_file"}
"""Bytes that a killed worker left without a row: `check` names them, and nobody is harmed."""
ONCE_AN_ITEM = (
    Action.ITEM_RECEIVED,
    Action.REDACTION_PLAN_PROPOSED,
    Action.REDACTION_CHECKED,
    Action.BINDING_MADE,
    Action.ITEM_UNPLAYABLE,
)
ONE_IN_FORCE = ("poster", "photo", "redacted", "redacted_poster", "redacted_photo")


@dataclass
class Verdict:
    """Everything that is wrong, by sort; all empty when nothing is."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.changed or self.stuck or self.left_over)

    def lines(self) -> Iterator[str]:
        for name in ("lost", "doubled", "changed", "stuck", "left_over"):
            for line in getattr(self, name):
                yield f"{name}: {line}"


def judge(storage: Storage, files: list[ShiftFile], checkpoint: str | None) -> Verdict:
    """Hold everything that is there against what the docks saw acknowledged.

    Args:
        checkpoint: A checkpoint kept elsewhere, from the middle of the torture.
    """
    verdict = Verdict()
    with storage.database.read() as session:
        agency = session.scalars(select(Agency)).one()
        _uploads(session, agency, storage, files, verdict)
        _once_each(session, agency, files, verdict)
        _leaves(session, agency, verdict)
        _log(session, agency, checkpoint, verdict)
        for job in session.scalars(select(Job).where(Job.state.not_in(("done", "quarantined")))):
            verdict.stuck.append(f"job {job.kind} is {job.state}")
    for found in check(storage, Depth.DIGESTS):
        if found.code in HARMLESS:
            verdict.counts[found.code] += 1
        else:
            verdict.changed.append(found.message)
    return verdict


def _uploads(
    session: Session, agency: Agency, storage: Storage, files: list[ShiftFile], verdict: Verdict
) -> None:
    for file in files:
        if file.shipped is None:
            verdict.stuck.append(f"{file.path.name}: its dock never got through")
            continue
        reception = items.reception_by_key(session, agency.id, f"tus:{file.shipped.url.rsplit('/', 1)[-1]}")
        if reception is None:
            verdict.lost.append(f"{file.path.name}: acknowledged, and no reception")
            continue
        item = items.item_by_id(session, agency.id, reception.item_id)
        stored = items.object_of(session, item)
        verdict.counts["uploads"] += 1
        verdict.counts["connections_lost"] += file.shipped.resumed
        if stored.sha256.hex() != file.sha256:
            verdict.changed.append(f"{file.path.name}: the row names other bytes")
        if hash_stream(storage.objects.read_back(stored.store_key)).sha256.hex() != file.sha256:
            verdict.changed.append(f"{file.path.name}: other bytes are stored")
        ended = _end_of(item)
        verdict.counts[ended] += 1
        if ended not in file.ends:
            flags = ", ".join(f"{flag['code']}: {flag['message']}" for flag in item.flags)
            verdict.stuck.append(
                f"{file.path.name}: expected {' or '.join(file.ends)}, found {ended} ({item.custody}, "
                f"{item.media}, {item.redaction}; {flags[:300]})"
            )
        if ended != QUARANTINED and reception.receipt is None:
            verdict.stuck.append(f"{file.path.name}: no receipt")


def _end_of(item: Item) -> str:
    if item.custody == Custody.QUARANTINED:
        return QUARANTINED
    if item.media == Media.UNPLAYABLE:
        return UNPLAYABLE
    if is_reviewable(Custody(item.custody), Media(item.media), Redaction(item.redaction)):
        return REVIEWABLE
    return "neither"


def _once_each(session: Session, agency: Agency, files: list[ShiftFile], verdict: Verdict) -> None:
    wanted = {(file.sha256, file.device_no) for file in files if file.shipped is not None}
    for name, model, expected in (
        ("items", Item, len(wanted)),
        ("objects", StoredObject, len({digest for digest, _ in wanted})),
        ("receptions", Reception, len([file for file in files if file.shipped is not None])),
    ):
        found = session.scalar(select(func.count()).select_from(model)) or 0
        if found != expected:
            sort = verdict.doubled if found > expected else verdict.lost
            sort.append(f"{name}: expected {expected}, found {found}")
        verdict.counts[name] = found
    bound = session.execute(
        select(CaseBinding.item_id, func.count())
        .where(CaseBinding.agency_id == agency.id, CaseBinding.ended_at.is_(None))
        .group_by(CaseBinding.item_id)
    ).all()
    verdict.doubled += [f"item {item}: {count} bindings in force" for item, count in bound if count != 1]
    if len(bound) < len(wanted):
        verdict.lost.append(f"bindings: expected {len(wanted)}, found {len(bound)}")
    series: dict[tuple[str, int], list[int]] = defaultdict(list)
    numbers = select(AvNumber).where(AvNumber.agency_id == agency.id).order_by(AvNumber.seq)
    for number in session.scalars(numbers):
        series[number.class_code, number.year].append(number.seq)
    for (class_code, year), drawn in series.items():
        if drawn != list(range(1, len(drawn) + 1)):
            verdict.changed.append(f"record numbers {class_code} {year}: expected no gap, found {drawn}")
    if sum(map(len, series.values())) != len(bound):
        verdict.lost.append(f"record numbers: expected {len(bound)}, found {sum(map(len, series.values()))}")
    in_force: Counter[tuple[str, str, str]] = Counter()
    for row in session.scalars(select(Derivative).where(Derivative.withdrawn_at.is_(None))):
        if row.kind == "rendition" or row.kind in ONE_IN_FORCE:
            # A damaged file may get a copy and then an encoding, each with a still of its own.
            made_from = str(row.params.get("rung") or row.params.get("source") or "")
            in_force[str(row.item_id), row.kind, made_from] += 1
    verdict.counts["derivatives"] = in_force.total()
    verdict.doubled += [f"{count} × {kind} of item {item}"
                        for (item, kind, _), count in in_force.items() if count != 1]  # fmt: skip


def _leaves(session: Session, agency: Agency, verdict: Verdict) -> None:
    """What is done once is told once: a second leaf would be a second commit."""
    rows = session.execute(
        select(CustodyLeaf.action, CustodyLeaf.subject_id, func.count())
        .where(CustodyLeaf.agency_id == agency.id)
        .group_by(CustodyLeaf.action, CustodyLeaf.subject_id)
    ).all()
    told = {(str(action), subject): count for action, subject, count in rows}
    at_most = {str(action): 1 for action in ONCE_AN_ITEM} | {str(Action.ITEM_PROBED): 2}
    for (action, subject), count in told.items():
        if count > at_most.get(action, count):
            verdict.doubled.append(f"{action} of {subject}: told {count} times")
    for model, action in ((Derivative, Action.DERIVATIVE_MADE), (Reception, Action.ITEM_VERIFIED)):
        rows_of = session.execute(select(model.item_id, func.count()).group_by(model.item_id)).all()
        for item, count in rows_of:
            leaves = told.get((str(action), str(item)), 0)
            if leaves != count:
                verdict.doubled.append(f"{action} of {item}: {count} rows, told {leaves} times")
    verdict.counts["leaves"] = sum(told.values())


def _log(session: Session, agency: Agency, checkpoint: str | None, verdict: Verdict) -> None:
    waiting = session.scalar(select(func.count()).select_from(CustodyPending)) or 0
    lost = custody.lost_places(session, agency.id)
    if waiting or lost:
        verdict.lost.append(f"custody: {waiting} leaves wait for a place, {len(lost)} have lost theirs")
    lines = live_lines(session, agency, with_payloads=True)
    kept = [checkpoint] if checkpoint else []
    verdict.changed += [f"custody: {found.message}" for found in verifier.verify_export(lines, kept)]


def newest_checkpoint(storage: Storage) -> str | None:
    """The newest signed checkpoint, to be kept where the log's keeper could not change it."""
    with storage.database.read() as session:
        agency = session.scalars(select(Agency)).one()
        newest = custody.newest_checkpoint(session, agency.id)
        return None if newest is None else newest.note


def left_in_scratch(scratch: Path) -> list[str]:
    """What dead attempts left behind."""
    return sorted(path.name for path in scratch.iterdir())
