"""`liuhen account add|list|disable|password`."""

from __future__ import annotations

import argparse
import getpass
import sys

from cli.init import new_password
from cli.options import Branch
from cli.shell import Parser, add_json, at_desk, confirm_tty, operator, print_json, print_table
from evidence.kinds import Role
from ingest.roster import add_account, change_password, disable_account
from storage.db import accounts, passwords


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    adding = branch.add("add", "新建账号 / make an account", _add)
    adding.add_argument("username", metavar="NAME", help="用户名 / user name")
    adding.add_argument(
        "--role",
        action="append",
        required=True,
        choices=[str(role) for role in Role],
        help="角色,可重复 / role",
    )
    adding.add_argument("--display-name", metavar="TEXT", help="显示名 / name shown; default NAME")
    adding.add_argument("--officer", metavar="NO", help="对应的执法人员 / the officer this is")
    _add_password(adding)
    add_json(branch.add("list", "账号列表 / list accounts", _list))
    disabling = branch.add("disable", "停用账号 / bar an account", _disable)
    disabling.add_argument("username", metavar="NAME", help="用户名 / user name")
    changing = branch.add("password", "重设口令,首次登录须再改 / give a new password", _change)
    changing.add_argument("username", metavar="NAME", help="用户名 / user name")
    _add_password(changing)


def _add_password(parser: Parser) -> None:
    parser.add_argument(
        "--password-stdin", action="store_true", help="从标准输入读口令 / read the password from stdin"
    )


def _add(options: argparse.Namespace) -> int:
    password, is_made = _password(options)
    with at_desk(options) as desk, desk.write() as (session, agency):
        row = add_account(
            session,
            agency,
            username=options.username,
            display_name=options.display_name or options.username,
            password=password,
            roles=frozenset(Role(role) for role in options.role),
            officer_no=options.officer,
            actor=operator(),
            now=desk.now(),
        )
    shown = f" {password}  (只显示这一次 / shown once)" if is_made else ""
    print(f"{row.username}{shown}")
    return 0


def _password(options: argparse.Namespace) -> tuple[str, bool]:
    """What somebody typed, or a new one to be shown once."""
    if options.password_stdin:
        return sys.stdin.readline().rstrip("\n"), False
    if confirm_tty():
        typed = getpass.getpass("口令(留空则自动生成)/ password (empty: make one): ", stream=sys.stderr)
        if typed:
            return typed, False
    return new_password(), True


def _list(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        rows = accounts.accounts(session, desk.agency.id)
        if options.json:
            print_json(
                [
                    {
                        "id": row.id,
                        "username": row.username,
                        "display_name": row.display_name,
                        "roles": row.roles,
                        "disabled_at": row.disabled_at,
                    }
                    for row in rows
                ]
            )
            return 0
        print_table(
            ("账号 name", "显示名 shown", "角色 roles", "停用 disabled"),
            [
                (row.username, row.display_name, " ".join(row.roles), desk.local(row.disabled_at))
                for row in rows
            ],
        )
    return 0


def _disable(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        disable_account(session, agency, options.username, actor=operator(), now=desk.now())
    print(f"已停用 / disabled: {options.username}")
    return 0


def _change(options: argparse.Namespace) -> int:
    password, is_made = _password(options)
    passwords.check_strength(password)
    # Outside the transaction: hashing takes a third of a second on a small machine.
    password_hash = passwords.hashed(password)
    with at_desk(options) as desk, desk.write() as (session, agency):
        row = accounts.account_by_name(session, agency.id, options.username)
        change_password(session, agency, row, password_hash, actor=operator(), now=desk.now())
    shown = f" {password}  (只显示这一次 / shown once)" if is_made else ""
    print(f"已重设,首次登录须改 / given, to be changed at the first sign-in: {options.username}{shown}")
    return 0
