"""`liuhen bind`, `unbind` and `split`: the same use cases the API has."""

from __future__ import annotations

import argparse

from sqlalchemy.orm import Session

from cli.options import read_id, read_media_time
from cli.shell import Parser, add_common, at_desk, operator
from evidence.case import normalise_case_no
from evidence.errors import InvalidInput, NotFound
from ingest import binding
from storage.db import cases, items
from storage.db.tables import Agency, Case


def arguments(parser: Parser, name: str) -> None:
    add_common(parser)
    if name == "bind":
        parser.add_argument("item_id", metavar="ITEM", help="音像编号 / id of the item")
        parser.add_argument("case_no", metavar="CASE_NO", help="案号,任意写法 / in any spelling")
        parser.add_argument(
            "--from", dest="start", metavar="TIME", help="时段起点(片内时间)/ start of the span"
        )
        parser.add_argument("--to", dest="end", metavar="TIME", help="时段终点 / end of the span")
        parser.set_defaults(run=_bind)
    else:
        parser.add_argument("binding_id", metavar="BINDING", help="见 / see: liuhen item show")
        parser.set_defaults(run=_unbind)
    if name == "split":
        parser.add_argument(
            "parts", nargs="+", metavar="CASE_NO=FROM-TO", help="如 / such as 罚字〔2026〕1号=0:00-1:30"
        )
        parser.set_defaults(run=_split)
    parser.add_argument("--reason", required=True, metavar="TEXT", help="理由 / why")


def _bind(options: argparse.Namespace) -> int:
    if (options.start is None) != (options.end is None):
        raise InvalidInput("span: expected both --from and --to, found one", code="span_invalid")
    span = (
        (read_media_time(options.start, "--from"), read_media_time(options.end, "--to"))
        if options.start is not None
        else None
    )
    with at_desk(options) as desk, desk.write() as (session, agency):
        item = items.item_by_id(session, agency.id, read_id(options.item_id, "item"), lock=True)
        case = _case(session, agency, options.case_no)
        row = binding.bind(
            session,
            agency,
            item,
            case,
            author=operator(),
            reason=options.reason,
            now=desk.now(),
            span_us=span,
        )
    print(f"已关联 / bound: {item.original_name} → {case.case_no}  {item.av_record_no}  {row.id}")
    return 0


def _unbind(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        row = cases.binding_by_id(session, agency.id, read_id(options.binding_id, "binding"))
        binding.unbind(session, agency, row, author=operator(), reason=options.reason, now=desk.now())
    print(f"已解除 / ended: {options.binding_id}")
    return 0


def _split(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        row = cases.binding_by_id(session, agency.id, read_id(options.binding_id, "binding"))
        parts = []
        for text in options.parts:
            case_no, is_there, span = text.rpartition("=")
            start, dash, end = span.partition("-")
            if not is_there or not dash:
                raise InvalidInput(f"split: expected CASE_NO=FROM-TO, found {text!r}", code="split_invalid")
            case = _case(session, agency, case_no)
            parts.append((case.id, read_media_time(start, "from"), read_media_time(end, "to")))
        made = binding.split(
            session, agency, row, parts, author=operator(), reason=options.reason, now=desk.now()
        )
    for part in made:
        print(f"已关联 / bound: {part.id}")
    return 0


def _case(session: Session, agency: Agency, case_no: str) -> Case:
    case = cases.case_by_key(session, agency.id, normalise_case_no(case_no))
    if case is None:
        raise NotFound(f"case {case_no}: expected one of that number, found none", code="case_not_found")
    return case
