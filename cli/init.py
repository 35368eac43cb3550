"""`liuhen init`: tables, object store, keys and the first accounts; safe to run again."""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path

from cli.shell import Parser, add_common, confirm_tty, settings_of
from config.settings import Settings
from evidence.case import DEFAULT_CASE_NO_PATTERN
from evidence.errors import Conflict, InvalidInput
from evidence.kinds import Role
from evidence.numbering import DEFAULT_TEMPLATE
from evidence.schedule import zone_of
from ingest.roster import add_account
from storage.db import accounts, agencies
from storage.db.agencies import check_agency_code, check_agency_name
from storage.open import DEFAULT_TIME_ZONE, NewAgency, Storage, found, is_there

FIRST = (
    ("admin", "系统管理员", Role.SYSTEM_ADMIN),
    ("security", "安全保密员", Role.SECURITY_OFFICER),
)


def add_founding(parser: Parser) -> None:
    """What founding asks; `up` takes the same."""
    group = parser.add_argument_group("首次建库 / first start")
    group.add_argument(
        "--agency-code",
        metavar="CODE",
        help="机构代码,写入编号,不可更改;首次必填 / agency code, in every number for good; needed once",
    )
    group.add_argument(
        "--agency-name", metavar="NAME", help="机构名称,默认为代码 / agency name; default the code"
    )
    group.add_argument(
        "--time-zone", metavar="ZONE", help=f"时区,默认 / time zone; default {DEFAULT_TIME_ZONE}"
    )
    group.add_argument("--case-no-pattern", metavar="REGEX", help="案号格式(正则)/ form of case numbers")
    group.add_argument("--numbering", metavar="TEMPLATE", help="音像编号格式 / form of AV numbers")


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
    """Found or bring up to date; first accounts are shown once, their passwords kept nowhere.

    Raises:
        InvalidInput: Nothing is founded yet, nobody sits here to be asked, and no code was given.
        Conflict: The agency was founded with others than the options say.
    """
    wanted = None if is_there(settings) else _wanted(options)
    storage = found(settings, wanted)
    try:
        _require_same(storage, options)
        if wanted is not None:
            print(
                f"机构 / agency: {wanted.code}  {wanted.name}\n"
                "代码不可更改;名称可改 / the code stays; correct the name: liuhen agency rename NAME",
                flush=True,
            )
        _show_first_accounts(storage)
    except BaseException:
        storage.database.dispose()
        raise
    return storage


def _wanted(options: argparse.Namespace) -> NewAgency:
    """The agency to found, as the options say or a person at the terminal does."""
    code, name = options.agency_code, options.agency_name
    if code is None and confirm_tty():
        code = _asked("机构代码,写入编号,不可更改 / agency code, in every number, for good: ")
        name = name or _asked(f"机构名称 / agency name [{code}]: ")
    if not code:
        raise InvalidInput(
            "机构代码 / agency code: expected one at the first start (it stands in numbers for good), found "
            "none; give --agency-code CODE --agency-name NAME (make run AGENCY=CODE NAME=NAME)",
            code="agency_code_missing",
        )
    return NewAgency(
        code=check_agency_code(code),
        name=check_agency_name(name or code),
        time_zone=zone_of(options.time_zone or DEFAULT_TIME_ZONE).key,
        case_no_pattern=options.case_no_pattern or DEFAULT_CASE_NO_PATTERN,
        numbering_template=options.numbering or DEFAULT_TEMPLATE,
    )


def _asked(question: str) -> str:
    """What a person types; standard output is left to the program."""
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def _require_same(storage: Storage, options: argparse.Namespace) -> None:
    """What was founded is not changed by options; one that says otherwise is refused, not passed over."""
    with storage.database.read() as session:
        rows = agencies.agencies(session)
    row = next((row for row in rows if row.code == options.agency_code), rows[0])
    differ = [
        (option, was, given)
        for option, was, given in (
            ("--agency-code", row.code, options.agency_code),
            ("--agency-name", row.name, options.agency_name and options.agency_name.strip()),
            ("--time-zone", row.time_zone, options.time_zone),
            ("--case-no-pattern", row.case_no_pattern, options.case_no_pattern),
            ("--numbering", row.numbering_template, options.numbering),
        )
        if given is not None and given != was
    ]
    if differ:
        raise Conflict(
            f"机构 / agency founded: expected {', '.join(f'{name} {was}' for name, was, _ in differ)}, "
            f"found {', '.join(str(given) for *_, given in differ)}; leave it out "
            "(a name is corrected by `liuhen agency rename NAME`), or name another folder with --data",
            code="agency_differs",
        )


def _show_first_accounts(storage: Storage) -> None:
    made = first_accounts(storage)
    if made:
        print(
            "首批账号,口令只显示这一次 / the first accounts; these passwords are shown once\n"
            "首次登录须改 / change them at the first sign-in:",
            flush=True,
        )
        for username, password, role in made:
            print(f"  {username:<10} {password}   {role}")
        program, data = Path(sys.argv[0]).resolve(), storage.scratch.parent.resolve()
        print(f"其他账号 / others: {program} account add NAME --role reviewer --data {data}", flush=True)


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
