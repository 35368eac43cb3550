"""`liuhen trigger`: keys that recorders of rooms call with; shown once."""

from __future__ import annotations

import argparse

from cli.options import Branch, read_id
from cli.shell import Parser, add_json, at_desk, operator, print_json, print_table
from ingest.recorder import registry, triggers
from storage.db import triggers as rows


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    issuing = branch.add("issue", "为一室的录像机签发密钥 / a key for the recorder of a room", _issue)
    issuing.add_argument("room_no", metavar="ROOM", help="询问室编号 / room, as `room list` prints it")
    issuing.add_argument("name", metavar="NAME", help="录像机名称 / what people call the recorder")
    add_json(branch.add("list", "密钥列表 / list keys", _list))
    revoking = branch.add("revoke", "吊销密钥 / revoke a key", _revoke)
    revoking.add_argument("key_id", metavar="ID", help="编号 / id, as the list prints it")


def _issue(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        room = registry.room_of(session, agency, desk.settings.recorder.rooms, options.room_no)
        key, row = triggers.issue(session, agency, room, options.name, actor=operator(), now=desk.now())
    print(f"{key}\n编号 / id: {row.id}  (密钥只显示这一次 / the key is shown once)")
    return 0


def _list(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        found = [
            {
                "id": str(row.id),
                "room_no": row.room_no,
                "name": row.name,
                "created_at": desk.local(row.created_at),
                "revoked_at": desk.local(row.revoked_at),
            }
            for row in rows.keys(session, desk.agency.id)
        ]
    if options.json:
        print_json(found)
    else:
        heads = ("编号 id", "室 room", "名称 name", "签发 issued", "吊销 revoked")
        print_table(heads, [tuple(row.values()) for row in found])
    return 0


def _revoke(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        triggers.revoke(session, agency, read_id(options.key_id, "trigger"), actor=operator(), now=desk.now())
    print(f"已吊销 / revoked: {options.key_id}")
    return 0
