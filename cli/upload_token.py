"""`liuhen token issue|list|rotate|revoke`: upload tokens, shown once."""

from __future__ import annotations

import argparse
from datetime import timedelta

from cli.options import Branch, read_id
from cli.shell import PAGE, Parser, add_json, all_pages, at_desk, operator, print_json, print_table
from ingest.docks import issue_token, revoke_token, rotate_token
from storage.db import accounts


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    issuing = branch.add("issue", "签发上传令牌 / issue an upload token", _issue)
    issuing.add_argument("--dock", required=True, metavar="NO", help="采集站编号 / dock number")
    issuing.add_argument("--device", metavar="NO", help="只限一台设备 / for one device only")
    issuing.add_argument(
        "--days", type=int, metavar="N", help="有效天数,默认到吊销 / life; default until revoked"
    )
    add_json(branch.add("list", "令牌列表 / list tokens", _list))
    rotating = branch.add("rotate", "轮换令牌 / a new token for the same dock and device", _rotate)
    rotating.add_argument("token_id", metavar="ID", help="旧令牌编号 / id of the old one")
    rotating.add_argument(
        "--overlap-hours",
        type=int,
        default=24,
        metavar="N",
        help="旧令牌再用几小时,默认24 / the old one goes on for N hours; 24",
    )
    rotating.add_argument("--days", type=int, metavar="N", help="新令牌有效天数 / life of the new one")
    revoking = branch.add("revoke", "吊销令牌 / revoke a token", _revoke)
    revoking.add_argument("token_id", metavar="ID", help="令牌编号 / id, as the list prints it")


def _issue(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        token, row = issue_token(
            session,
            agency,
            dock_no=options.dock,
            device_no=options.device,
            life=timedelta(days=options.days) if options.days else None,
            actor=operator(),
            now=desk.now(),
        )
    print(f"{token}\n编号 / id: {row.id}  (令牌只显示这一次 / the token is shown once)")
    return 0


def _list(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        rows = [
            {
                "id": str(row.id),
                "dock_no": row.dock_no,
                "device": str(row.device_id) if row.device_id else None,
                "created_at": desk.local(row.created_at),
                "expires_at": desk.local(row.expires_at),
                "revoked_at": desk.local(row.revoked_at),
            }
            for row in all_pages(
                lambda after: accounts.page_of_upload_tokens(
                    session, desk.agency.id, after=after, limit=PAGE
                ),
                lambda shown: shown.id,
            )
        ]
    if options.json:
        print_json(rows)
    else:
        heads = ("编号 id", "采集站 dock", "设备 device", "签发 issued", "到期 expires", "吊销 revoked")
        print_table(heads, [tuple(row.values()) for row in rows])
    return 0


def _rotate(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        token, row = rotate_token(
            session,
            agency,
            read_id(options.token_id, "token"),
            overlap=timedelta(hours=options.overlap_hours),
            life=timedelta(days=options.days) if options.days else None,
            actor=operator(),
            now=desk.now(),
        )
    print(f"{token}\n编号 / id: {row.id}  (令牌只显示这一次 / the token is shown once)")
    return 0


def _revoke(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        revoke_token(session, agency, read_id(options.token_id, "token"), actor=operator(), now=desk.now())
    print(f"已吊销 / revoked: {options.token_id}")
    return 0
