"""The demonstration's agency: free ports, a throw-away data folder, cameras, cases and people."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cli.demo_footage import CASE_1, CASE_2, DEVICE_NAMES, FIRST
from cli.init import new_password
from config.settings import Settings
from evidence.errors import Unavailable
from evidence.kinds import EnforcementKind, Role, SourceKind
from ingest import docks, roster
from ingest.register import NewCase, open_case
from storage.db import agencies
from storage.open import NewAgency, found

FLOOR_BYTES = 256 << 20
WANTED_BYTES = 2 << 30
ACTOR = "system"
PEOPLE = {
    "admin": ("系统管理员", Role.SYSTEM_ADMIN),
    "handler": ("承办人", Role.HANDLER),
    "reviewer": ("审核人员", Role.REVIEWER),
    "legal": ("法制审核人员", Role.LEGAL_REVIEWER),
}


@dataclass(frozen=True)
class Cast:
    """Who plays: passwords by username, and the dock's token."""

    passwords: dict[str, str]
    dock_token: str


def throw_away_folder() -> Path:
    """A new folder on the first file system with room for a demonstration.

    Raises:
        Unavailable: None has.
    """
    # A short path: sockets lie below it.
    for base in (Path(tempfile.gettempdir()), Path("/var/tmp"), Path.cwd()):  # noqa: S108 - made unguessable
        if (
            base.is_dir()
            and os.access(base, os.W_OK)
            and shutil.disk_usage(base).free > WANTED_BYTES + FLOOR_BYTES
        ):
            return Path(tempfile.mkdtemp(prefix="liuhen-demo-", dir=base))
    raise Unavailable(
        f"demonstration: expected {WANTED_BYTES >> 30} GiB free in the temporary folder or here, found less; "
        "name another folder with --data",
        code="disk_full",
    )


def free_ports(count: int) -> list[int]:
    """Ports of loopback nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def prepare(settings: Settings) -> Cast:
    """Found the agency and enter everybody and everything the shift needs."""
    storage = found(settings, NewAgency("demo", "示例执法局"))
    now = storage.clock.now()
    with storage.database.transaction() as session:
        agency = agencies.agencies(session)[0]
        yesterday = now - timedelta(days=1)
        for device_no, officer_no in DEVICE_NAMES.items():
            roster.register_officer(
                session, agency, officer_no, f"警员{officer_no}", certificate_no=None, actor=ACTOR, now=now
            )
            roster.register_device(
                session, agency, device_no, kind=SourceKind.BODY_CAM, model="DSJ-4", actor=ACTOR, now=now
            )
        roster.issue_device(
            session, agency, FIRST, DEVICE_NAMES[FIRST], issued_at=yesterday, actor=ACTOR, now=now
        )
        passwords = {username: new_password() for username in PEOPLE}
        for username, (name, role) in PEOPLE.items():
            roster.add_account(
                session,
                agency,
                username=username,
                display_name=name,
                password=passwords[username],
                roles=frozenset({role}),
                # The demonstration's people sign in at once; the folder is thrown away.
                must_change=False,
                actor=ACTOR,
                now=now,
            )
        for new in (
            NewCase(
                CASE_1,
                EnforcementKind.PENALTY,
                "占道经营",
                officer_no=DEVICE_NAMES[FIRST],
                opened_at=yesterday,
            ),
            NewCase(CASE_2, EnforcementKind.INSPECTION, "日常检查", opened_at=yesterday),
        ):
            open_case(session, agency, new, actor=ACTOR, now=now)
        token, _ = docks.issue_token(
            session, agency, dock_no="DOCK-1", device_no=None, life=timedelta(days=1), actor=ACTOR, now=now
        )
    storage.database.dispose()
    return Cast(passwords, token)
