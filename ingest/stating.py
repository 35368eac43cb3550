"""What a person states of an item: kept as a claim of theirs, and in force from now on (R6).

What devices and docks said stays beside it (`ingest.facts` weighs those); what stood before goes into the
private part of the leaf. The case number is no fact of this kind: it is a binding, with a right of its own
(`ingest.binding`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy.orm import Session

from evidence.clock import rfc3339
from evidence.custody import Action
from evidence.errors import InvalidInput
from evidence.item import FiveFacts
from evidence.kinds import ClaimSource
from storage.db import custody
from storage.db.custody import Happening
from storage.db.tables import Agency, Claim, Item

FIELDS = frozenset(
    {"captured_from", "captured_to", "captured_place", "collector", "object_of_proof", "stage"}
)
MAX_LINE_CHARS = 500
MAX_NUMBER_CHARS = 64
CLAIMED_AS = {"captured_place": "place", "collector": "officer_no"}
"""Where a claim has another name than the column."""


def state_facts(
    session: Session,
    agency: Agency,
    item: Item,
    said: Mapping[str, datetime | str],
    *,
    actor: str,
    now: datetime,
) -> None:
    """Set what is said of an item; what is not named stays as it is, and nothing said changes nothing.

    Args:
        session: The caller's transaction.
        agency: The item's.
        item: Held by the caller.
        said: By names of `FIELDS`; instants are aware.
        actor: Who says so, as custody names them.
        now: When.

    Raises:
        InvalidInput: ``facts_times``, ``facts_line``.
    """
    if not said:
        return
    if unknown := said.keys() - FIELDS:
        raise ValueError(f"facts: expected some of {sorted(FIELDS)}, found {sorted(unknown)}")
    since, until = said.get("captured_from", item.captured_from), said.get("captured_to", item.captured_to)
    if isinstance(since, datetime) and isinstance(until, datetime) and until < since:
        raise InvalidInput(
            "times: expected captured_to after captured_from, found before", code="facts_times"
        )
    plain = {
        name: value if isinstance(value, datetime) else _line(name, value) for name, value in said.items()
    }
    before = {name: _text(getattr(item, name)) for name in plain}
    for name, value in plain.items():
        setattr(item, name, value)
        session.add(
            Claim(
                agency_id=agency.id,
                item_id=item.id,
                field=CLAIMED_AS.get(name, name),
                value=_text(value) or "",
                source=str(ClaimSource.PERSON),
                clock="person" if isinstance(value, datetime) else None,
                made_at=now,
            )
        )
    private = {name: {"before": before[name], "after": _text(value)} for name, value in plain.items()}
    facts = {"facts": sorted(plain)}
    happening = Happening(Action.ITEM_FACTS_SET, "item", str(item.id), actor, facts, private)
    custody.record(session, agency, happening, now)


def five_facts(item: Item, case_no: str | None) -> FiveFacts:
    """The five facts of an item that is bound to that case, or to none."""
    return FiveFacts(
        case_no=case_no,
        captured_from=item.captured_from,
        captured_to=item.captured_to,
        captured_place=item.captured_place,
        collector=item.collector,
        object_of_proof=item.object_of_proof,
    )


def _line(name: str, value: str) -> str:
    """One line of text, without what surrounds it."""
    line, most = str(value).strip(), MAX_NUMBER_CHARS if name == "collector" else MAX_LINE_CHARS
    if not line or len(line) > most or any(char < " " or char == "\x7f" for char in line):
        raise InvalidInput(
            f"{name}: expected one line of 1 to {most} characters, found another", code="facts_line"
        )
    return line


def _text(value: object) -> str | None:
    if isinstance(value, datetime):
        return rfc3339(value)
    return None if value is None else str(value)
