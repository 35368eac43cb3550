"""What commands about sessions share: which one is meant, facts that are stated, and what is missing."""

from __future__ import annotations

import argparse
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from cli.options import read_id
from cli.shell import Parser
from cli.words import FACTS, listed
from evidence.errors import InvalidInput
from storage.db import sessions as rows
from storage.db.tables import Agency


def add_session(parser: Parser) -> None:
    """The argument that names a session."""
    parser.add_argument(
        "session", metavar="SESSION", help="会话编号,或询问室编号 / id, or the room it lasts in"
    )


def add_facts(parser: Parser) -> None:
    """The options that state facts."""
    parser.add_argument("--case", dest="case_no", metavar="NO", help="案件编号 / case number")
    parser.add_argument("--place", metavar="TEXT", help="地点 / place; default: the room's")
    parser.add_argument(
        "--officer",
        dest="officers",
        action="append",
        metavar="NO",
        help="人员编号,可重复 / officer; repeatable",
    )
    parser.add_argument("--party", metavar="TEXT", help="被询问人 / who is heard")
    parser.add_argument("--proof", dest="object_of_proof", metavar="TEXT", help="证明对象 / object of proof")


def stated_of(options: argparse.Namespace) -> dict[str, Any]:
    """The facts that were stated."""
    names = ("case_no", "place", "officers", "party", "object_of_proof")
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def id_of(session: Session, agency: Agency, text: str) -> UUID:
    """The session of that id, or the one that lasts in the room of that number.

    Raises:
        InvalidInput: It is neither.
    """
    for row in rows.open_sessions(session, agency.id, text):
        return row.id
    try:
        return read_id(text, "session")
    except InvalidInput as error:
        raise InvalidInput(
            f"session: expected an id, or a room in use, found {text[:60]!r}; see `liuhen session list`"
        ) from error


def tell_missing(missing: list[str], unknown: list[str]) -> None:
    """Say what is missing, and what no register has."""
    if missing:
        print(f"未登记 / not stated yet: {listed(FACTS, missing)}")
    if unknown:
        print(f"未在本机构登记,按所述保留 / not registered here, kept as stated: {', '.join(unknown)}")
