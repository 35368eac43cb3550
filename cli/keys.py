"""`liuhen keys list|export|host|rotate`: public halves, to be kept where receipts are verified."""

from __future__ import annotations

import argparse
import sys
from base64 import b64encode
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cli.options import Branch
from cli.shell import Parser, add_json, at_desk, operator, print_json, print_table, settings_of
from evidence.errors import InvalidInput, NotFound, Unavailable
from ingest.sources import host_key
from storage.db import custody_reading
from storage.keys import Purpose
from storage.rotation import rotate_key

UNFINISHED = "上次更换被中断,现已完成 / an earlier rotation had been cut off and is finished now"
KEEP = (
    "请另处保存新公钥,旧公钥也须保留 / keep the new public key elsewhere, beside the old: "
    "liuhen keys export {purpose} --out FILE"
)
SIGNING = (str(Purpose.CHECKPOINT), str(Purpose.RECEIPT))


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    add_json(branch.add("list", "公钥列表 / list public keys", _list))
    exporting = branch.add("export", "导出一把公钥(PEM)/ print one public key as PEM", _export)
    exporting.add_argument("purpose", choices=SIGNING, help="用途 / what it signs")
    exporting.add_argument("--id", metavar="KEY", help="密钥编号,默认最新 / default the newest")
    exporting.add_argument("--out", type=Path, metavar="FILE", help="写入文件 / write to a file")
    hosting = branch.add("host", "SFTP 主机密钥指纹 / fingerprint of the SFTP listener's host key", _host)
    add_json(hosting)
    rotating = branch.add("rotate", "启用新密钥,旧公钥仍可验证 / sign with a new key from now on", _rotate)
    rotating.add_argument(
        "--purpose", required=True, choices=[str(purpose) for purpose in Purpose], help="用途 / what it signs"
    )
    rotating.add_argument(
        "--end-grants",
        action="store_true",
        help="仅用于 grant:旧密钥签发的调阅地址立即失效 / for grant: addresses of older keys end at once",
    )


def _list(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        rows = [
            {
                "id": key.id,
                "purpose": key.purpose,
                "public_key_b64": b64encode(key.public_key).decode(),
                "created_at": desk.local(key.created_at),
                "retired_at": desk.local(key.retired_at),
            }
            for key in custody_reading.signing_keys(session, desk.agency.id)
        ]
    if options.json:
        print_json(rows)
    else:
        heads = ("编号 id", "用途 purpose", "公钥 public key", "启用 created", "停用 retired")
        print_table(heads, [tuple(row.values()) for row in rows])
    return 0


def _export(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        found = [
            key
            for key in custody_reading.signing_keys(session, desk.agency.id)
            if key.purpose == options.purpose and options.id in (None, key.id)
        ]
    if not found:
        raise NotFound(f"key: expected one that signs {options.purpose}, found none", code="key_not_found")
    pem = Ed25519PublicKey.from_public_bytes(found[-1].public_key).public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    if options.out is None:
        sys.stdout.write(pem.decode())
    else:
        options.out.write_bytes(pem)
    return 0


def _host(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    sftp = settings.ingest.sftp
    if not sftp.enabled:
        raise Unavailable(
            "SFTP 未启用 / ingest.sftp.enabled: expected true, found false; it has a host key once it is on",
            code="sftp_off",
        )
    path = host_key.path_of(sftp, settings.data.dir)
    key = host_key.read(path)
    shown = {
        "fingerprint": host_key.fingerprint(key),
        "known_hosts": host_key.known_host(key, sftp.host, sftp.port),
        "file": str(path),
    }
    if options.json:
        print_json(shown)
    else:
        print("\n".join(shown.values()))
    return 0


def _rotate(options: argparse.Namespace) -> int:
    purpose = Purpose(options.purpose)
    if options.end_grants and purpose is not Purpose.GRANT:
        raise InvalidInput(
            f"--end-grants: expected --purpose grant, found {purpose}; what other keys signed stays signed",
            code="option_invalid",
        )
    with at_desk(options) as desk:
        done = rotate_key(
            desk.storage, desk.agency.id, purpose, actor=operator(), end_grants=options.end_grants
        )
    if done.was_unfinished:
        print(UNFINISHED, file=sys.stderr)
    print(f"{done.old_id} → {done.new_id}")
    if purpose is not Purpose.GRANT:
        print(KEEP.format(purpose=purpose), file=sys.stderr)
    return 0
