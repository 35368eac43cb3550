"""Cases, bindings and the register of AV record numbers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import and_, bindparam, func, or_, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, defer

from evidence.errors import Conflict, NotFound
from evidence.kinds import EnforcementKind, MediaKind
from evidence.numbering import CLASS_CODES, av_record_no
from storage.db.tables import Agency, AvNumber, AvNumberSeries, Case, CaseBinding, Item
from storage.db.types import Id

KEYS_AT_ONCE = 500

# The statements of a case page, written once: putting one together costs as much as running it.
_BY_KEY = select(Case).where(Case.agency_id == bindparam("agency"), Case.case_no_key == bindparam("key"))
_BY_ID = select(Case).where(Case.agency_id == bindparam("agency"), Case.id == bindparam("case"))
_ITEMS_OF_CASE = (
    select(Item, CaseBinding)
    .options(defer(Item.probe))
    .join(CaseBinding, and_(CaseBinding.item_id == Item.id, CaseBinding.agency_id == Item.agency_id))
    .where(
        CaseBinding.agency_id == bindparam("agency"),
        CaseBinding.case_id == bindparam("case"),
        CaseBinding.ended_at.is_(None),
    )
    .order_by(CaseBinding.item_id, CaseBinding.id)
    .limit(bindparam("most"))
)
_ITEMS_AFTER = _ITEMS_OF_CASE.where(
    tuple_(CaseBinding.item_id, CaseBinding.id)
    > tuple_(bindparam("item", type_=Id), bindparam("binding", type_=Id))
)
_BINDINGS_OF_ITEMS = (
    select(CaseBinding)
    .where(
        CaseBinding.agency_id == bindparam("agency"),
        CaseBinding.item_id.in_(bindparam("items", expanding=True)),
        CaseBinding.ended_at.is_(None),
    )
    .order_by(CaseBinding.id)
)


def case_by_key(session: Session, agency_id: UUID, case_no_key: str) -> Case | None:
    """The case of that normalised number."""
    return session.scalars(_BY_KEY, {"agency": agency_id, "key": case_no_key}).one_or_none()


def case_by_id(session: Session, agency_id: UUID, case_id: UUID, *, lock: bool = False) -> Case:
    """The case of that id.

    Raises:
        NotFound: The agency has none.
    """
    query = _BY_ID
    if lock:
        # Without its key: bindings that point at the case go on being written.
        query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    case = session.scalars(query, {"agency": agency_id, "case": case_id}).one_or_none()
    if case is None:
        raise NotFound(f"case {case_id}: expected a case of this agency, found none", code="case_not_found")
    return case


def hold_cases_of_item(session: Session, agency_id: UUID, item_id: UUID) -> None:
    """Keep the cases an item is tied to as they are until the transaction ends, and read them as they are.

    Whoever is given something because of who handles a case calls this first: a handover waits until the
    gift is there to be taken back, or is done and seen. The caller holds the item, so that its bindings stay.
    """
    tied = select(CaseBinding.case_id).where(
        CaseBinding.agency_id == agency_id, CaseBinding.item_id == item_id, CaseBinding.ended_at.is_(None)
    )
    query = select(Case).where(Case.agency_id == agency_id, Case.id.in_(tied)).order_by(Case.id)
    # Shared among those who are given something; only a change of the case waits.
    session.scalars(query.with_for_update(read=True).execution_options(populate_existing=True)).all()


def keys_taken(session: Session, agency_id: UUID, keys: Sequence[str]) -> set[str]:
    """Which of these normalised numbers are taken."""
    found: set[str] = set()
    for start in range(0, len(keys), KEYS_AT_ONCE):
        part = keys[start : start + KEYS_AT_ONCE]
        query = select(Case.case_no_key).where(Case.agency_id == agency_id, Case.case_no_key.in_(part))
        found |= set(session.scalars(query))
    return found


def number_taken(case_no: str) -> Conflict:
    """What to say of a number that is taken."""
    return Conflict(f"case: expected a free number, found {case_no} there", code="case_no_taken")


def add_case(
    session: Session,
    agency_id: UUID,
    *,
    case_no: str,
    case_no_key: str,
    kind: EnforcementKind,
    cause: str | None,
    party: str | None,
    handler_id: UUID | None,
    officer_no: str | None,
    opened_at: datetime,
    closed_at: datetime | None,
    now: datetime,
) -> Case:
    """A new case.

    Raises:
        Conflict: The number is taken, in this or another spelling.
    """
    taken = case_by_key(session, agency_id, case_no_key)
    if taken is not None:
        raise number_taken(taken.case_no)
    case = Case(
        agency_id=agency_id,
        case_no=case_no.strip(),
        case_no_key=case_no_key,
        kind=str(kind),
        cause=cause,
        party=party,
        handler_id=handler_id,
        officer_no=officer_no,
        opened_at=opened_at,
        closed_at=closed_at,
        created_at=now,
    )
    session.add(case)
    session.flush()
    return case


def page_of_cases(
    session: Session,
    agency_id: UUID,
    *,
    prefix: str | None,
    is_open: bool | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Case]:
    """Cases, newest first.

    Args:
        prefix: Start of the normalised number.
        after: Last row of the page before, as (opened_at, id).
    """
    query = select(Case).where(Case.agency_id == agency_id)
    if prefix:
        # A range on the key, so that both databases use the unique index.
        query = query.where(Case.case_no_key >= prefix, Case.case_no_key < prefix + "\U0010ffff")
    if is_open is not None:
        query = query.where(Case.closed_at.is_(None) if is_open else Case.closed_at.is_not(None))
    if after is not None:
        query = query.where(tuple_(Case.opened_at, Case.id) < after)
    return list(session.scalars(query.order_by(Case.opened_at.desc(), Case.id.desc()).limit(limit)))


def open_cases_of(
    session: Session, agency_id: UUID, officer_nos: Sequence[str], since: datetime, until: datetime
) -> list[Case]:
    """Cases of those officers that were open at some instant of ``[since, until]``."""
    return list(
        session.scalars(
            select(Case)
            .where(
                Case.agency_id == agency_id,
                Case.officer_no.in_(officer_nos),
                Case.opened_at <= until,
                or_(Case.closed_at.is_(None), Case.closed_at > since),
            )
            .limit(10)
        )
    )


def bindings_of(
    session: Session, agency_id: UUID, item_id: UUID, *, in_force: bool = True
) -> list[CaseBinding]:
    """Bindings of an item, oldest first."""
    query = select(CaseBinding).where(CaseBinding.agency_id == agency_id, CaseBinding.item_id == item_id)
    if in_force:
        query = query.where(CaseBinding.ended_at.is_(None))
    return list(session.scalars(query.order_by(CaseBinding.id)))


def items_of_case(
    session: Session, agency_id: UUID, case_id: UUID, *, after: tuple[UUID, UUID] | None, limit: int
) -> list[tuple[Item, CaseBinding]]:
    """Items tied to a case, by item id, with each binding in force; their probe reports stay unread.

    Args:
        after: Last row of the page before, as (item id, binding id): an item may be tied by several spans.
    """
    given: dict[str, object] = {"agency": agency_id, "case": case_id, "most": limit}
    if after is None:
        rows = session.execute(_ITEMS_OF_CASE, given).all()
    else:
        rows = session.execute(_ITEMS_AFTER, {**given, "item": after[0], "binding": after[1]}).all()
    return [(row[0], row[1]) for row in rows]


def cases_by_id(session: Session, agency_id: UUID, case_ids: Sequence[UUID]) -> dict[UUID, Case]:
    """Cases by id, for as many as there are."""
    if not case_ids:
        return {}
    rows = session.scalars(select(Case).where(Case.agency_id == agency_id, Case.id.in_(case_ids)))
    return {case.id: case for case in rows}


def bindings_of_items(
    session: Session, agency_id: UUID, item_ids: Sequence[UUID]
) -> dict[UUID, list[CaseBinding]]:
    """Bindings in force by item, oldest first."""
    found: dict[UUID, list[CaseBinding]] = {item_id: [] for item_id in item_ids}
    if item_ids:
        for row in session.scalars(_BINDINGS_OF_ITEMS, {"agency": agency_id, "items": list(item_ids)}):
            found[row.item_id].append(row)
    return found


def binding_by_id(session: Session, agency_id: UUID, binding_id: UUID, *, lock: bool = False) -> CaseBinding:
    """The binding of that id, in force or ended.

    Raises:
        NotFound: The agency has none.
    """
    query = select(CaseBinding).where(CaseBinding.agency_id == agency_id, CaseBinding.id == binding_id)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    row = session.scalars(query).one_or_none()
    if row is None:
        raise NotFound(
            f"binding {binding_id}: expected one of this agency, found none", code="binding_not_found"
        )
    return row


def draw_number(session: Session, agency: Agency, item: Item, case: Case, *, year: int, now: datetime) -> str:
    """The next AV record number of the agency, class and year, in the caller's transaction (R5).

    The series row is locked until the transaction ends, so that a rolled-back filing leaves no gap.
    """
    class_code = CLASS_CODES[MediaKind(item.media_kind)]
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(AvNumberSeries).values(
        agency_id=agency.id, class_code=class_code, year=year, last_seq=1
    )
    seq = session.execute(
        statement.on_conflict_do_update(
            index_elements=["agency_id", "class_code", "year"],
            set_={"last_seq": AvNumberSeries.last_seq + 1},
        ).returning(AvNumberSeries.last_seq)
    ).scalar_one()
    number = av_record_no(
        agency.numbering_template,
        agency=agency.code,
        media_kind=MediaKind(item.media_kind),
        year=year,
        seq=seq,
    )
    session.add(
        AvNumber(
            agency_id=agency.id,
            class_code=class_code,
            year=year,
            seq=seq,
            number=number,
            item_id=item.id,
            case_id=case.id,
            drawn_at=now,
        )
    )
    item.av_record_no = number
    session.flush()
    return number


def binding_totals(session: Session, agency_id: UUID) -> dict[str, int]:
    """Items by binding state; the three sum to all (invariant 10)."""
    rows = session.execute(
        select(Item.binding, func.count()).where(Item.agency_id == agency_id).group_by(Item.binding)
    ).all()
    return {"bound": 0, "suggested": 0, "unbound": 0} | dict(rows)
