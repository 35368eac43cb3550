"""What became of the docks' transfers: every ledger held against rows, receipts and stored bytes."""

from __future__ import annotations

import json
import time
from base64 import b64decode
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlalchemy import func, select

from benchmarks.tus_wire import Transfer
from evidence.canonical import canonical_json
from evidence.fixity import hash_stream
from storage.check import Depth, check
from storage.db import items
from storage.db.tables import Item, Job, Reception, SigningKey, StoredObject
from storage.keys import verify_signature
from tests.support.cluster import Cluster

HARMLESS = {"orphan_file"}
SORTS = ("lost", "doubled", "changed", "went_back", "without_receipt")


@dataclass
class DocksVerdict:
    """Everything that is wrong, by sort; all empty when nothing is."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    went_back: list[str] = field(default_factory=list)
    without_receipt: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def findings(self) -> dict[str, list[str]]:
        return {name: getattr(self, name) for name in SORTS}

    def is_clean(self) -> bool:
        return not any(self.findings().values())

    def lines(self) -> Iterator[str]:
        for name, found in self.findings().items():
            for line in found:
                yield f"{name}: {line}"


def judge(
    cluster: Cluster, transfers: list[Transfer], went_back: list[str], *, settle_s: float
) -> DocksVerdict:
    """Wait for the receipts, then compare everything with everything."""
    verdict = DocksVerdict(went_back=list(went_back))
    _wait_for_receipts(cluster, transfers, settle_s)
    _each_transfer(cluster, transfers, verdict)
    _once_each(cluster, transfers, verdict)
    for found in check(cluster.storage, Depth.DIGESTS):
        if found.code in HARMLESS:
            verdict.counts[found.code] += 1
        else:
            verdict.changed.append(found.message)
    return verdict


def _wait_for_receipts(cluster: Cluster, transfers: list[Transfer], settle_s: float) -> None:
    """Until there are as many receipts as transfers that got through, or it takes too long."""
    expected = sum(one.is_whole for one in transfers)
    given = select(func.count()).select_from(Reception).where(Reception.receipt.is_not(None))
    deadline = time.monotonic() + settle_s
    while time.monotonic() < deadline:
        with cluster.storage.database.read() as session:
            if (session.scalar(given) or 0) >= expected:
                return
        time.sleep(0.5)


def _each_transfer(cluster: Cluster, transfers: list[Transfer], verdict: DocksVerdict) -> None:
    storage = cluster.storage
    with storage.database.read() as session:
        public = session.scalars(select(SigningKey.public_key).where(SigningKey.purpose == "receipt")).one()
        agency_id = cluster.agency().id
        for transfer in transfers:
            if not transfer.is_whole:
                verdict.lost.append(f"{transfer.name}: never got through ({transfer.told} bytes told)")
                continue
            verdict.counts["transfers"] += 1
            verdict.counts["bytes"] += transfer.size_bytes
            verdict.counts["offsets_told"] += transfer.answers
            verdict.counts["creations_asked_again"] += transfer.created - 1
            key = f"tus:{str(transfer.url).rsplit('/', 1)[-1]}"
            reception = items.reception_by_key(session, agency_id, key)
            if reception is None:
                verdict.lost.append(f"{transfer.name}: acknowledged whole, and no reception")
                continue
            item = items.item_by_id(session, agency_id, reception.item_id)
            stored = items.object_of(session, item)
            if stored.sha256.hex() != transfer.sha256 or stored.size_bytes != transfer.size_bytes:
                verdict.changed.append(f"{transfer.name}: the row names other bytes")
            elif hash_stream(storage.objects.read_back(stored.store_key)).sha256 != stored.sha256:
                verdict.changed.append(f"{transfer.name}: other bytes are stored")
            _receipt(transfer, reception, public, verdict)


def _receipt(transfer: Transfer, reception: Reception, public: bytes, verdict: DocksVerdict) -> None:
    if reception.receipt is None:
        verdict.without_receipt.append(f"{transfer.name}: no receipt")
        return
    receipt = json.loads(reception.receipt)
    signature = b64decode(receipt.pop("signature"))
    receipt.pop("key")
    is_signed = verify_signature(public, canonical_json(receipt), signature)
    named = (receipt["sha256"], receipt["size_bytes"], receipt["reception"])
    if not is_signed or named != (transfer.sha256, transfer.size_bytes, str(reception.id)):
        verdict.without_receipt.append(f"{transfer.name}: its receipt is of something else")


def _once_each(cluster: Cluster, transfers: list[Transfer], verdict: DocksVerdict) -> None:
    whole = [one for one in transfers if one.is_whole]
    expected = {
        "receptions": len(whole),
        "objects": len({one.sha256 for one in whole}),
        "items": len({(one.sha256, one.device_no) for one in whole}),
    }
    with cluster.storage.database.read() as session:
        for name, model in (("receptions", Reception), ("objects", StoredObject), ("items", Item)):
            found = session.scalar(select(func.count()).select_from(model)) or 0
            verdict.counts[name] = found
            if found != expected[name]:
                sort = verdict.doubled if found > expected[name] else verdict.lost
                sort.append(f"{name}: expected {expected[name]}, found {found}")
        receipts: dict[str, list[str]] = defaultdict(list)
        for reception in session.scalars(select(Reception).where(Reception.receipt.is_not(None))):
            receipts[json.loads(str(reception.receipt))["sha256"]].append(str(reception.receipt))
        for digest, signed in receipts.items():
            if len(set(signed)) != len(signed):
                verdict.doubled.append(f"{digest}: one receipt for two receptions")
        verdict.counts["receipts"] = sum(map(len, receipts.values()))
        verdict.counts["digests_received_again"] = sum(len(signed) > 1 for signed in receipts.values())
        stuck = select(Job).where(Job.kind == "verify", Job.state.not_in(("done",)))
        verdict.lost += [f"job {job.kind} is {job.state}: {job.last_error}" for job in session.scalars(stuck)]
