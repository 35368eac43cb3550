"""`liuhen names try|list`: what is read from file names, without taking anything in."""

from __future__ import annotations

import argparse
from typing import Any

from cli.options import Branch
from cli.shell import Parser, add_json, print_json, print_table, settings_of
from config.profiles import load_name_profiles
from evidence.filenames import display_name
from ingest.naming import Vocabulary


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    trying = branch.add("try", "文件名能读出什么 / what is read from names", _try)
    trying.add_argument("names", nargs="+", metavar="NAME", help="文件名 / file names")
    add_json(trying)
    listing = branch.add("list", "文件名规则,按尝试的先后 / profiles, in the order they are tried", _list)
    add_json(listing)


def _try(options: argparse.Namespace) -> int:
    vocabulary = Vocabulary.of(settings_of(options).ingest)
    read = {
        display_name(name): [
            {"field": said.field, "value": said.value, "clock": said.clock}
            for said in vocabulary.said_by_name(name)
        ]
        for name in options.names
    }
    if options.json:
        print_json(read)
        return 0
    rows: list[tuple[Any, ...]] = []
    for name, claims in read.items():
        if not claims:
            rows.append((name, "无规则认识,照常收下 / no profile knows it; it is accepted", "", ""))
        rows += [(name, claim["field"], claim["value"], claim["clock"]) for claim in claims]
    print_table(("文件名 name", "陈述 claim", "值 value", "时钟 clock"), rows)
    return 0


def _list(options: argparse.Namespace) -> int:
    profiles = load_name_profiles(settings_of(options).ingest.name_profiles)
    rows = [
        {
            "name": one.name,
            "standing": one.standing,
            "timezone": one.timezone,
            "example": one.examples[0].name,
            "source": one.source,
        }
        for one in profiles
    ]
    if options.json:
        print_json(rows)
        return 0
    heads = ("规则 profile", "可信 standing", "时区 zone", "例 example", "来源 source")
    print_table(heads, [tuple(row.values()) for row in rows])
    return 0
