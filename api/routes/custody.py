"""The custody log: of one item, as a whole, and proofs about it.

Leaves hold digests, states and ids, and are shown to whoever may read custody. What could name a
person is in the payload, which auditors do not see; what a device said word for word is for holders of
the right to the original.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Annotated
from uuid import UUID

from fastapi import Query
from fastapi.responses import StreamingResponse

from api.auth.gate import Gate
from api.auth.rights import sees_original
from api.auth.seat import DeskOf
from api.desk import Desk, Work
from api.proofs import nodes_of
from api.schemas.custody import CheckpointShown, Consistency, CustodyOfItem, InclusionProof, LeafShown
from evidence import merkle
from evidence.access import Act
from evidence.custody import (
    Action,
    ExportCheckpoint,
    ExportHeader,
    ExportLeaf,
    PublicKeyRecord,
    export_lines,
    open_payload,
    origin_of,
    parse_leaf,
)
from evidence.errors import NotFound, NotPermitted
from evidence.kinds import Role
from storage.db import custody, items
from storage.db.custody import PlacedLeaf
from storage.db.custody_reading import signing_keys, stretch
from storage.db.tables import CustodyCheckpoint

gate = Gate("流转 Custody")
BATCH = 1000
NDJSON = "application/x-ndjson"


@gate.get(
    "/items/{item_id}/custody", Act.READ_CUSTODY, problems=(404,), summary="流转记录 Custody of an item"
)
def of_item(item_id: UUID, desk: DeskOf) -> CustodyOfItem:
    """每条含序号及对最新检查点的包含证明。Each leaf with its place and its proof to the newest checkpoint."""
    with desk.reading() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id)
        newest = custody.newest_checkpoint(work.session, work.agency_id)
        found = custody.leaves_about(work.session, work.agency_id, str(item.id))
        is_holder = sees_original(work, item)
        tree_size = newest.tree_size if newest is not None else 0
        return CustodyOfItem(
            checkpoint=_checkpoint(newest) if newest is not None else None,
            leaves=[_leaf(work, leaf, tree_size, is_holder=is_holder) for leaf in found],
        )


def _sees_payloads(work: Work) -> bool:
    return Role.AUDITOR not in work.actor.roles


def _leaf(work: Work, placed: PlacedLeaf, tree_size: int, *, is_holder: bool) -> LeafShown:
    body = placed.body or b""
    leaf = parse_leaf(body)
    payload = None
    if placed.payload is not None and leaf.payload_digest is not None and _sees_payloads(work):
        payload = dict(open_payload(placed.payload, bytes.fromhex(leaf.payload_digest)))
        if not is_holder and "metadata" in payload:
            # What a camera or dock said, word for word: where it was, and what it is.
            payload = None
    proof = None
    if placed.index is not None and placed.index < tree_size:
        path = merkle.inclusion_proof(placed.index, tree_size, nodes_of(work.session, work.agency_id))
        proof = InclusionProof(
            leaf_index=placed.index, tree_size=tree_size, hashes=[node.hex() for node in path]
        )
    return LeafShown(
        leaf_id=placed.leaf_id,
        leaf_index=placed.index,
        leaf=json.loads(body),
        leaf_b64=base64.b64encode(body).decode("ascii"),
        leaf_hash=placed.leaf_hash.hex() if placed.leaf_hash is not None else None,
        payload=payload,
        proof=proof,
    )


def _checkpoint(row: CustodyCheckpoint) -> CheckpointShown:
    return CheckpointShown(tree_size=row.tree_size, root=row.root.hex(), note=row.note)


@gate.get("/custody/checkpoint", Act.READ_CUSTODY, problems=(404,), summary="最新检查点 Newest checkpoint")
def newest_checkpoint(desk: DeskOf) -> CheckpointShown:
    """抄存他处,日后据以验证。Keep it elsewhere: it is what the log is verified against later."""
    with desk.reading() as work:
        return _checkpoint(_newest(work))


def _newest(work: Work) -> CustodyCheckpoint:
    row = custody.newest_checkpoint(work.session, work.agency_id)
    if row is None:
        raise NotFound("checkpoint: expected one, found none yet; ask again", code="checkpoint_missing")
    return row


Size = Annotated[int, Query(ge=1, le=2**53 - 1)]


@gate.get("/custody/consistency", Act.READ_CUSTODY, problems=(404,), summary="一致性证明 Consistency proof")
def consistency(
    desk: DeskOf,
    first: Annotated[Size, Query(alias="from", description="旧树大小 / Size of the older tree")],
    second: Annotated[
        Size | None, Query(alias="to", description="新树大小,默认最新 / Default newest")
    ] = None,
) -> Consistency:
    """证明旧检查点是新检查点的开头。That the log of the older checkpoint begins the newer one."""
    with desk.reading() as work:
        newest = _newest(work).tree_size
        upper = newest if second is None else second
        if upper > newest:
            raise NotFound(f"tree: expected a size up to {newest}, found {upper}", code="checkpoint_missing")
        node = nodes_of(work.session, work.agency_id)
        path = merkle.consistency_proof(first, upper, node)
        return Consistency(
            first_size=first,
            second_size=upper,
            first_root=merkle.root_at(first, node).hex(),
            second_root=merkle.root_at(upper, node).hex(),
            hashes=[each.hex() for each in path],
        )


@gate.get(
    "/custody/export",
    Act.READ_CUSTODY,
    problems=(404,),
    response_class=StreamingResponse,
    responses={200: {"content": {NDJSON: {"schema": {"type": "string"}}}, "description": "JSON lines"}},
    summary="导出 Export",
)
def export(desk: DeskOf) -> StreamingResponse:
    """逐行导出,供独立校验程序验证;审计员不含个人信息。

    One JSON text a line, for the stand-alone verifier; without payloads for auditors.
    """
    with desk.writing() as work:
        if Role.AUDITOR not in work.actor.roles and Role.ARCHIVIST not in work.actor.roles:
            raise NotPermitted(
                "export: expected an auditor or the archive, found another role", code="not_permitted"
            )
        tree_size = _newest(work).tree_size
        header = ExportHeader(
            origin_of(work.agency.code),
            tree_size,
            tuple(
                PublicKeyRecord(
                    key.id, _key_name(work, key.purpose, key.id), key.public_key, key.purpose, key.created_at,
                    key.retired_at,
                )
                for key in signing_keys(work.session, work.agency_id)
            ),
        )  # fmt: skip
        with_payloads = _sees_payloads(work)
        facts = {"tree_size": tree_size, "payloads": with_payloads}
        work.record(Action.CUSTODY_EXPORTED, "agency", work.agency_id, facts)
    leaves = _leaves(desk, tree_size, with_payloads=with_payloads)
    return StreamingResponse(
        export_lines(header, leaves, _notes(desk, tree_size)),
        media_type=NDJSON,
        headers={"Content-Disposition": 'attachment; filename="custody.ndjson"'},
    )


def _key_name(work: Work, purpose: str, key_id: str) -> str:
    return origin_of(work.agency.code) if purpose == "checkpoint" else key_id


def _nodes(frontier: bytes) -> tuple[bytes, ...]:
    return tuple(frontier[at : at + 32] for at in range(0, len(frontier), 32))


def _notes(desk: Desk, tree_size: int) -> Iterator[ExportCheckpoint]:
    """As the leaves: batch by batch."""
    after = -1
    while after < tree_size:
        with desk.reading() as work:
            batch = custody.checkpoints_after(work.session, work.agency_id, after, BATCH)
        for after, note, frontier in batch:
            if after <= tree_size:
                yield ExportCheckpoint(note, _nodes(frontier))
        if not batch:
            return


def _leaves(desk: Desk, tree_size: int, *, with_payloads: bool) -> Iterator[ExportLeaf]:
    """Batch by batch, each in a transaction of its own: a slow reader holds none open."""
    for first in range(0, tree_size, BATCH):
        with desk.reading() as work:
            batch = stretch(work.session, work.agency_id, first, min(first + BATCH, tree_size))
        for placed in batch:
            yield ExportLeaf(
                placed.index or 0,
                placed.body,
                placed.leaf_hash or b"",
                placed.payload if with_payloads else None,
                placed.leaf_id,
            )
