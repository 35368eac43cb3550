"""`liuhen policy list|show|presets|set|history`: deadlines and limits as versioned data."""

from __future__ import annotations

import argparse
import json
from typing import Any

from cli.options import Branch
from cli.shell import PAGE, Parser, add_json, all_pages, at_desk, operator, print_json, print_table
from evidence.errors import InvalidInput
from ingest import policy, sheets
from storage.db import ledger_duty


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    add_json(branch.add("list", "现行规则 / policies in force", _list))
    add_json(_named(branch.add("show", "一项现行规则 / one policy in force", _show)))
    add_json(branch.add("presets", "预设 / what ships with the product", _presets))
    setting = _named(branch.add("set", "制定新版本 / set the next version", _set))
    setting.add_argument("--preset", metavar="PRESET", help="以预设为底,默认现行版本 / begin with a preset")
    setting.add_argument(
        "--value", action="append", default=[], metavar="FIELD=VALUE", help="改一项,可重复 / repeatable"
    )
    setting.add_argument("--source", metavar="TEXT", help="依据名称与条款 / the text and its article")
    setting.add_argument(
        "--from", dest="since", metavar="TIME", help="自何时起适用,默认现在 / applies from; default now"
    )
    add_json(_named(branch.add("history", "历次版本 / every version", _history)))


def _named(parser: Parser) -> Parser:
    parser.add_argument("name", choices=sorted(policy.SHAPES), metavar="NAME", help="规则名 / policy")
    return parser


def _list(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        rules = [policy.in_force(session, desk.agency, name, desk.now()) for name in policy.SHAPES]
    if options.json:
        print_json([_plain(rule) for rule in rules])
    else:
        heads = ("规则 policy", "版本 version", "依据 source", "可信 mark")
        print_table(
            heads, [(rule.name, rule.version or "预设 preset", rule.source, rule.mark) for rule in rules]
        )
    return 0


def _plain(rule: policy.Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "version": rule.version,
        "applies_from": rule.applies_from,
        "source": rule.source,
        "mark": rule.mark,
        "body": dict(rule.body),
    }


def _show(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        rule = policy.in_force(session, desk.agency, options.name, desk.now())
        since = desk.local(rule.applies_from)
    if options.json:
        print_json(_plain(rule))
        return 0
    version = rule.version or "预设 / preset"
    print(f"{rule.name}  {version}  {since}\n{rule.source}  {rule.mark or ''}")
    print_table(("项 field", "值 value"), sorted(rule.body.items()))
    return 0


def _presets(options: argparse.Namespace) -> int:
    found = policy.all_presets()
    if options.json:
        print_json([{**vars(one), "body": dict(one.body)} for one in found])
    else:
        heads = ("预设 preset", "规则 policy", "内容 title", "可信 mark", "默认 default")
        rows = [(one.name, one.policy, one.title, one.mark, "*" if one.is_default else "") for one in found]
        print_table(heads, rows)
    return 0


def _set(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        now = desk.now()
        if options.preset:
            begun = policy.preset(options.preset)
            if begun.policy != options.name:
                raise InvalidInput(
                    f"--preset: expected one of {options.name}, found one of {begun.policy}",
                    code="option_invalid",
                )
            body, source = dict(begun.body), options.source or begun.source
        else:
            rule = policy.in_force(session, agency, options.name, now)
            body, source = dict(rule.body), options.source or ""
        body |= _values(options.value)
        # A day is a day of the agency's.
        since = sheets.instant(options.since, "--from", agency.time_zone) or now
        row = policy.set_policy(
            session,
            agency,
            options.name,
            body,
            source=source,
            applies_from=since,
            actor=operator(),
            now=now,
        )
    print(f"已制定 / set: {row.name} v{row.version} ← {desk.local(row.applies_from)}")
    return 0


def _values(texts: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        name, is_there, value = text.partition("=")
        if not is_there:
            raise InvalidInput(f"--value: expected FIELD=VALUE, found {text[:60]!r}", code="option_invalid")
        found[name.strip()] = int(value) if value.strip().isdecimal() else value.strip()
    return found


def _history(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        rows = [
            {
                "version": row.version,
                "applies_from": desk.local(row.applies_from),
                "source": row.source,
                "body": row.body,
                "author": row.author,
                "made_at": desk.local(row.made_at),
            }
            for row in all_pages(
                lambda after: ledger_duty.policy_versions(
                    session, desk.agency.id, options.name, after=after or 0, limit=PAGE
                ),
                lambda shown: shown.version,
            )
        ]
    if options.json:
        print_json(rows)
    else:
        heads = (
            "版本 version",
            "适用 applies from",
            "依据 source",
            "值 values",
            "制定人 author",
            "制定 made",
        )
        print_table(heads, [tuple({**row, "body": json.dumps(row["body"])}.values()) for row in rows])
    return 0
