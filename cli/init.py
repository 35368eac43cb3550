"""`liuhen init`: tables, object store, keys and the first accounts; safe to run again."""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path

from cli.shell import Parser, add_common, settings_of
from config.settings import Settings
from evidence.case import DEFAULT_CASE_NO_PATTERN
from evidence.kinds import Role
from evidence.numbering import DEFAULT_TEMPLATE
from ingest.roster import add_account
from storage.db import accounts, agencies
from storage.open import NewAgency, Storage, found

FIRST = (
    ("admin", "系统管理员", Role.SYSTEM_ADMIN),
    ("security", "安全保密员", Role.SECURITY_OFFICER),
)


def add_founding(parser: Parser) -> None:
    """What founding asks; `up` takes the same."""
    group = parser.add_argument_group("首次建库 / first start")
    group.add_argument("--agency-code", default="agency", metavar="CODE", help="机构代码 / agency code")
    group.add_argument("--agency-name", default="执法机构", metavar="NAME", help="机构名称 / agency name")
    group.add_argument("--time-zone", default="Asia/Shanghai", metavar="ZONE", help="时区 / time zone")
    group.add_argument(
        "--case-no-pattern",
        default=DEFAULT_CASE_NO_PATTERN,
        metavar="REGEX",
        help="案号格式(正则)/ form of case numbers",
    )
    group.add_argument(
        "--numbering", default=DEFAULT_TEMPLATE, metavar="TEMPLATE", help="音像编号格式 / form of AV numbers"
    )


def arguments(parser: Parser, _name: str) -> None:
    add_common(parser)
    add_founding(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    storage = founded(settings, options)
    storage.database.dispose()
    print(f"就绪 / ready: {Path(settings.data.dir).resolve()}")
    return 0


def founded(settings: Settings, options: argparse.Namespace) -> Storage:
    """Found or bring up to date; first accounts are shown once, their passwords kept nowhere."""
    storage = found(
        settings,
        NewAgency(
            code=options.agency_code,
            name=options.agency_name,
            time_zone=options.time_zone,
            case_no_pattern=options.case_no_pattern,
            numbering_template=options.numbering,
        ),
    )
    made = first_accounts(storage)
    if made:
        print(
            "首批账号,密码只显示这一次 / the first accounts; these passwords are shown once\n"
            "首次登录须改 / change them at the first sign-in:",
            flush=True,
        )
        for username, password, role in made:
            print(f"  {username:<10} {password}   {role}")
        program, data = Path(sys.argv[0]).resolve(), storage.scratch.parent.resolve()
        print(f"其他账号 / others: {program} account add NAME --role reviewer --data {data}", flush=True)
    return storage


def first_accounts(storage: Storage) -> list[tuple[str, str, Role]]:
    """Make the accounts that make all others, where there is no account yet."""
    now = storage.clock.now()
    made = []
    with storage.database.transaction() as session:
        agency = agencies.agencies(session)[0]
        if accounts.accounts(session, agency.id):
            return []
        for username, display_name, role in FIRST:
            password = new_password()
            add_account(
                session,
                agency,
                username=username,
                display_name=display_name,
                password=password,
                roles=frozenset({role}),
                actor="system",
                now=now,
            )
            made.append((username, password, role))
    return made


def new_password() -> str:
    """96 random bits, in groups one can type."""
    letters = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(5)) for _ in range(4))
