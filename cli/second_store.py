"""`liuhen room prepare-copy` and `restore`: the second store of what rooms record (D14)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cli.options import Branch
from cli.shell import Desk, at_desk, operator
from config.rooms import RoomSettings
from evidence.errors import EvidenceError, InvalidInput
from ingest.damage import DAMAGED, Damage, note_damage
from ingest.recorder import registry
from ingest.recorder.copying import damage_of, put_back
from ingest.recorder.second_copy import note_put_back
from storage.db import alarms, items, second_copies
from storage.db.room_tables import SecondCopy
from storage.db.tables import StoredObject
from storage.second_copy import SecondStore, attached, prepare, room_folder


def arguments(branch: Branch) -> None:
    """The two, among those of `liuhen room`."""
    making = branch.add(
        "prepare-copy",
        "将空目录设为第二份存储 / make an empty folder the second store of what rooms record",
        _prepare,
    )
    making.add_argument("folder", type=Path, metavar="FOLDER", help="另一磁盘上的目录 / on another disk")
    back = branch.add(
        "restore",
        "以第二份存储补回缺失或损坏的原件 / put originals that are gone or damaged back from a second store",
        _restore,
    )
    back.add_argument("room", nargs="?", metavar="ROOM", help="只补此室 / of this room alone")
    back.add_argument(
        "--from",
        dest="folder",
        type=Path,
        metavar="FOLDER",
        help="第二份存储,缺省按设置 / default: the settings'",
    )
    back.add_argument(
        "--digests", action="store_true", help="逐字节核对现有原件 / read every original that is there, too"
    )


def _prepare(options: argparse.Namespace) -> int:
    with at_desk(options) as desk:
        folder = options.folder.resolve()
        mark = prepare(folder, desk.agency.store_id, desk.now())
        if folder.stat().st_dev == desk.settings.data.dir.stat().st_dev:
            print(
                f"{folder}: 与数据目录同盘,坏则两份同失 / on the data folder's own disk: both go with it",
                file=sys.stderr,
            )
    print(f"第二份存储 / second store {mark.copy_id}: recorder.second_copy = {str(folder)!r}")
    return 0


def _restore(options: argparse.Namespace) -> int:
    count, wrong = 0, list[str]()
    with at_desk(options) as desk:
        for room in _rooms(desk, options.room):
            folder = options.folder or desk.settings.recorder.second_copy_of(room)
            if folder is None:
                continue
            with desk.read() as session:
                # Sound, with its damage on record: cut off before it was on record that it came back.
                standing = alarms.standing_subjects(session, desk.agency.id, "item", DAMAGED)
                rows = [
                    (row, held, damage)
                    for row, held in second_copies.all_copied(session, desk.agency.id, room.room_no)
                    if (damage := damage_of(desk.storage.objects, held, reads_all=options.digests))
                    or str(row.item_id) in standing
                ]
            if not rows:
                continue
            with attached(folder, desk.agency.store_id) as second:
                for row, held, damage in rows:
                    try:
                        _put_back(desk, second, row, held, damage)
                    except EvidenceError as error:
                        wrong.append(error.message)
                    else:
                        print(f"{row.path}  {held.sha256.hex()}")
                        count += 1
    for line in wrong:
        print(line, file=sys.stderr)
    print(f"已补回 {count} 件 / put back: {count}, not: {len(wrong)}")
    return 1 if wrong else 0


def _put_back(
    desk: Desk, second: SecondStore, row: SecondCopy, held: StoredObject, damage: Damage | None
) -> None:
    objects = desk.storage.objects
    if damage is not None:
        # Before its bytes come back, so that whoever is cut off between finds that there is something to say.
        with desk.write() as (session, agency):
            stored = items.object_by_id(session, agency.id, held.id)
            note_damage(session, agency, stored, damage, actor=operator(), now=desk.now())
    put_back(objects, second, room_folder(desk.agency.code, row.room_no), row, held)
    with desk.write() as (session, agency):
        note_put_back(
            session, agency, row.id, held.id,
            kept_aside=objects.kept_aside(held.store_key), actor=operator(), now=desk.now(),
        )  # fmt: skip


def _rooms(desk: Desk, room_no: str | None) -> list[RoomSettings]:
    with desk.read() as session:
        rooms = desk.settings.recorder.rooms
        if room_no is not None:
            return [registry.room_of(session, desk.agency, rooms, room_no)]
        found = registry.rooms_of(session, desk.agency, rooms)
    if not found:
        raise InvalidInput(
            "recorder.rooms: expected rooms, found none; name the settings with --config",
            code="option_invalid",
        )
    return found
