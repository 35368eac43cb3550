"""`liuhen restore DIR --data NEW`: a backup into an empty data folder, then everything is checked."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from cli.progress import Meter
from cli.shell import Parser, add_common, operator, settings_of
from evidence.errors import FixityError
from storage.backup import read_manifest
from storage.check import Depth, check
from storage.db.engine import Database
from storage.open import open_storage
from storage.restore import record_restore, restore


def arguments(parser: Parser, _name: str) -> None:
    add_common(parser)
    parser.add_argument("folder", type=Path, metavar="DIR", help="备份目录 / the backup")
    parser.add_argument(
        "--manifest-sha256", metavar="HEX", help="另处保存的清单摘要 / the manifest's digest, kept elsewhere"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    manifest = read_manifest(options.folder)
    if options.manifest_sha256 and options.manifest_sha256.lower() != manifest.sha256:
        raise FixityError(
            f"manifest: expected sha256 {options.manifest_sha256}, found {manifest.sha256}; it was altered",
            code="backup_altered",
        )
    settings.data.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.database_url, lock_wait_s=settings.database.lock_wait_s)
    with ExitStack() as stack:
        stack.callback(database.dispose)
        meter = None
        if manifest.with_objects:
            meter = stack.enter_context(Meter("恢复 / restoring", manifest.object_bytes))
        restore(options.folder, settings.data.dir, database, meter.step if meter else None)
    storage = open_storage(settings)
    record_restore(storage, manifest, operator())
    findings = list(check(storage, Depth.SIZES))
    storage.database.dispose()
    for found in findings:
        print(f"{found.code}: {found.message}")
    print(f"已恢复 / restored: {settings.data.dir}, rows {manifest.rows}, findings {len(findings)}")
    return 1 if findings else 0
