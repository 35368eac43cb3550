"""Rows as answers. What an asker may not know is left out here, once, for every route."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from api.auth.rights import sees_original, sees_whole_original
from api.desk import Work
from api.schemas.items import (
    BindingShown,
    ConflictShown,
    Coverage,
    DerivativeShown,
    Facets,
    FindingShown,
    FiveFactsShown,
    Flag,
    ItemDetail,
    ItemInCase,
    ItemShown,
    JointShown,
    MemberShown,
    ObjectShown,
    ReceptionShown,
    RecordingShown,
    SaidShown,
)
from evidence.conflicts import Conflict
from evidence.coverage import coverage_in_words, split_coverage
from evidence.item import Binding, Custody, Media, Redaction, is_reviewable
from evidence.kinds import MediaKind
from ingest.correction import conflicts_of, views_of
from ingest.grouping import Recording
from ingest.stating import five_facts
from storage.db import accounts, cases, items
from storage.db.tables import Case, CaseBinding, Derivative, Item
from transcode.plan import PIECES

MASKED_KINDS = frozenset({"redacted", "redacted_photo"})
UNLISTED = frozenset({"clip", *PIECES})
"""A clip is its asker's alone; a piece of a recording that is still being encoded is nobody's."""
PRIVATE_CLAIMS = frozenset({"metadata", "comment", "officer_name"})
PRIVATE_PREFIXES = ("device_", "location")


class Presenter:
    """Presents the items of one page; what several of them need is read once.

    Args:
        shown: The items of the page.
        case: One that is read already.
    """

    def __init__(self, work: Work, shown: Sequence[Item], case: Case | None = None) -> None:
        self._work = work
        ids = list({item.id for item in shown})
        device_ids = list({item.device_id for item in shown if item.device_id is not None})
        self._devices = accounts.device_numbers(work.session, work.agency_id, device_ids)
        self._bindings = cases.bindings_of_items(work.session, work.agency_id, ids)
        case_ids = {row.case_id for rows in self._bindings.values() for row in rows}
        known = {case.id: case} if case is not None else {}
        more = list(case_ids - known.keys())
        self._cases = known | cases.cases_by_id(work.session, work.agency_id, more)

    def item(self, item: Item) -> ItemShown:
        """An item in a list."""
        return ItemShown(**self._plain(item))

    def in_case(self, item: Item, binding: CaseBinding, case: Case) -> ItemInCase:
        """An item in the list of a case."""
        return ItemInCase(**self._plain(item), binding=binding_shown(binding, case))

    def detail(self, item: Item) -> ItemDetail:
        """Everything the actor may know about the item."""
        session, agency_id = self._work.session, self._work.agency_id
        is_holder = sees_original(self._work, item)
        held = items.object_of(session, item)
        made = items.derivatives_of(session, agency_id, item.id)
        return ItemDetail(
            **self._plain(item),
            object=ObjectShown(
                sha256=held.sha256.hex(),
                sm3=held.sm3.hex() if held.sm3 else None,
                size_bytes=held.size_bytes,
                verified_at=held.verified_at,
            ),
            bindings=[binding_shown(row, self._cases[row.case_id]) for row in self._bindings[item.id]],
            receptions=[
                ReceptionShown(
                    id=row.id,
                    source=row.source,
                    dock_no=row.dock_no,
                    original_name=row.original_name,
                    received_at=row.received_at,
                    has_receipt=row.receipt is not None,
                )
                for row in items.receptions_of(session, agency_id, item.id)
            ],
            derivatives=[
                derivative_shown(row)
                for row in made
                if row.kind not in UNLISTED and (row.masked or is_holder)
            ],
            coverage=coverage_of(made),
            conflicts=self._conflicts(item, is_holder=is_holder),
            check_findings=_check_findings(item) if sees_whole_original(self._work, item) else [],
            sees_original=is_holder,
        )

    def _conflicts(self, item: Item, *, is_holder: bool) -> list[ConflictShown]:
        claims = items.claims_of(self._work.session, self._work.agency_id, item.id)
        views = views_of(self._work.session, item, claims, self._work.now)
        return [conflict_shown(conflict, is_holder=is_holder) for conflict in conflicts_of(views)]

    def _plain(self, item: Item) -> dict[str, Any]:
        bound = [row for row in self._bindings[item.id] if row.state == Binding.BOUND]
        numbers = list(dict.fromkeys(self._cases[row.case_id].case_no for row in bound))
        facts = five_facts(item, numbers[0] if numbers else None)
        return {
            "id": item.id,
            "av_record_no": item.av_record_no,
            "media_kind": MediaKind(item.media_kind),
            "source_kind": item.source_kind,
            "original_name": item.original_name,
            "device_no": self._devices.get(item.device_id) if item.device_id else None,
            "stage": item.stage,
            "key_file": item.key_file,
            "duration_us": item.duration_us,
            "frame_count": item.frame_count,
            "received_at": item.received_at,
            "facets": facets_of(item),
            "is_reviewable": is_reviewable(
                Custody(item.custody), Media(item.media), Redaction(item.redaction)
            ),
            "facts": FiveFactsShown(
                case_nos=numbers,
                captured_from=facts.captured_from,
                captured_to=facts.captured_to,
                captured_place=facts.captured_place,
                collector=facts.collector,
                object_of_proof=facts.object_of_proof,
                missing=facts.missing(),
                is_complete=facts.is_complete(),
            ),
            "flags": [Flag(code=entry["code"], message=entry["message"]) for entry in item.flags],
            "poster_url": poster_url(item.id),
        }


def _check_findings(item: Item) -> list[FindingShown]:
    """What the last check of a redaction found; nothing once one passed."""
    return [FindingShown(**found) for entry in item.flags for found in entry.get("findings", [])]


def is_private_claim(field: str) -> bool:
    """Whether a claim says where, or with what, somebody recorded: for holders of the original's right."""
    return field in PRIVATE_CLAIMS or field.startswith(PRIVATE_PREFIXES)


def conflict_shown(conflict: Conflict, *, is_holder: bool) -> ConflictShown:
    """What disagrees; values that are not the asker's to know are left out, that they disagree is not."""
    hides_distance = not is_holder and is_private_claim(conflict.subject)
    return ConflictShown(
        subject=conflict.subject,
        spread_us=None if conflict.spread is None else conflict.spread // timedelta(microseconds=1),
        apart_m=None if conflict.apart_m is None or hides_distance else round(conflict.apart_m),
        said=[
            SaidShown(
                field=said.field,
                value=None if (hidden := is_private_claim(said.field) and not is_holder) else said.value,
                hidden=hidden,
                source=said.source,
                clock=said.clock,
                corrected=None if hidden else said.instant,
            )
            for said in conflict.said
        ],
    )


def recording_shown(found: Recording) -> RecordingShown:
    """The files of one press of the button."""
    return RecordingShown(
        by=found.by,
        members=[
            MemberShown(
                item_id=row.id,
                original_name=row.original_name,
                sequence_no=row.sequence_no,
                captured_from=row.captured_from,
                captured_to=row.captured_to,
                duration_us=row.duration_us,
                frame_count=row.frame_count,
            )
            for row in found.members
        ],
        joints=[
            JointShown(
                before=joint.before,
                after=joint.after,
                gap_us=joint.gap_us,
                gap_frames=joint.gap_frames,
                resolution_us=joint.resolution_us,
                clock=joint.clock,
                is_certain=joint.is_certain,
            )
            for joint in found.joints
        ],
        missing_sequence_nos=found.missing_sequence_nos,
    )


def poster_url(item_id: UUID) -> str:
    """Where the masked poster is, or the placeholder in its place."""
    return f"/api/v1/items/{item_id}/poster"


def facets_of(item: Item) -> Facets:
    """The item's state."""
    return Facets(
        custody=Custody(item.custody),
        media=Media(item.media),
        binding=Binding(item.binding),
        redaction=Redaction(item.redaction),
        held=item.held,
    )


def binding_shown(row: CaseBinding, case: Case) -> BindingShown:
    """A binding and the number of its case."""
    has_span = row.span_from_us is not None and row.span_to_us is not None
    return BindingShown(
        id=row.id,
        case_id=row.case_id,
        case_no=case.case_no,
        state=Binding(row.state),
        span_us=(row.span_from_us, row.span_to_us) if has_span else None,
        score_percent=row.score_percent,
        reason=row.reason,
        author=row.author,
        made_at=row.made_at,
        ended_at=row.ended_at,
        ended_reason=row.ended_reason,
    )


def derivative_shown(row: Derivative) -> DerivativeShown:
    """A derivative that the asker may know of."""
    rung = row.info.get("rung") if row.kind == "rendition" else None
    return DerivativeShown(
        id=row.id,
        kind=row.kind,
        rung=str(rung) if rung is not None else None,
        content_type=row.content_type,
        size_bytes=row.size_bytes,
        sha256=row.sha256.hex(),
        masked=row.masked,
        made_at=row.made_at,
    )


def coverage_of(made: Sequence[Derivative]) -> Coverage:
    """What the masked rendition in force treats, in words (invariant 8)."""
    masked = [row for row in made if row.kind in MASKED_KINDS]
    if not masked:
        return Coverage(treated=[], untreated=[], zh="尚无脱敏件", en="Not redacted yet")
    said: Mapping[str, str] = masked[-1].info.get("coverage") or {}
    treated, untreated = split_coverage(said)
    zh, en = coverage_in_words(said)
    return Coverage(treated=treated, untreated=untreated, zh=zh, en=en)
