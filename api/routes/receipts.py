"""Receipts, asked for again by digest."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from api.auth.gate import Gate
from api.auth.seat import DeskOf
from api.schemas.receipts import Arrival, ReceiptsOfDigest
from evidence.access import Act
from evidence.fixity import parse_sha256
from storage.db.receipts import Receipted, by_digest

gate = Gate("回执 Receipts")


@gate.get("/receipts", Act.LIST_ITEMS, summary="按摘要索取 By digest")
def receipts_of_digest(
    desk: DeskOf,
    sha256: Annotated[str, Query(min_length=64, max_length=64, pattern=r"^[0-9A-Fa-f]{64}$")],
) -> ReceiptsOfDigest:
    """同一内容的每次接收各有回执;受损后不可据以清除设备。

    Each reception of the bytes with its own receipt. While an alarm stands, none of them lets a device be
    wiped.
    """
    digest = parse_sha256(sha256)
    with desk.reading() as work:
        found = by_digest(work.session, work.agency_id, digest)
        return ReceiptsOfDigest(
            sha256=digest.hex(),
            may_erase=any(one.may_erase for one in found),
            receptions=[_arrival(one) for one in found],
        )


def _arrival(one: Receipted) -> Arrival:
    return Arrival(
        reception_id=one.reception.id,
        item_id=one.item.id,
        device_no=one.device_no,
        dock_no=one.reception.dock_no,
        received_at=one.reception.received_at,
        custody=one.item.custody,
        is_damaged=one.is_damaged,
        may_erase=one.may_erase,
        receipt=one.reception.receipt,
    )
