"""Threads for the docks and servers that this host fetches from."""

from __future__ import annotations

import base64
import binascii
import json
import os
import threading
from collections.abc import Callable
from uuid import UUID

import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy.orm import Session

from config.profiles import load_sidecar_fields
from config.settings import Settings, SourceSettings
from evidence.canonical import canonical_json
from evidence.custody import Action
from evidence.errors import Unavailable
from ingest.daemon.holding import Holder
from ingest.sources.ftp import FtpAddress, FtpFolder
from ingest.sources.journal import TakenJournal
from ingest.sources.manifest import ManifestAddress, ManifestFolder
from ingest.sources.pulling import PullRules, PullSource
from ingest.sources.remote import Origin, RemoteFolder
from ingest.sources.sftp import SftpAddress, SftpFolder
from storage.db import agencies, custody, custody_reading, items, receipts
from storage.db.alarms import NewAlarm, raise_alarm
from storage.db.custody import Happening
from storage.db.tables import Reception
from storage.keys import Purpose
from storage.open import Storage

log = structlog.get_logger(__name__)

PORTS = {("sftp", None): 22, ("ftp", None): 21, ("ftps", "explicit"): 21, ("ftps", "implicit"): 990}


def start_pulled(
    settings: Settings, storage: Storage, holder: Holder, stop: threading.Event
) -> list[threading.Thread]:
    """One thread a source; none when none is set.

    Raises:
        NotFound: A source is set for an agency that is not there.
        Unavailable: Its secret cannot be read.
    """
    sources = [pull_source(each, settings, storage, holder) for each in settings.ingest.sources]
    threads = []
    for each, source in zip(settings.ingest.sources, sources, strict=True):
        thread = threading.Thread(target=source.run, args=(stop,), name=f"source-{each.name}", daemon=True)
        thread.start()
        threads.append(thread)
    return threads


def pull_source(each: SourceSettings, settings: Settings, storage: Storage, holder: Holder) -> PullSource:
    """The engine over one dock or server.

    Raises:
        NotFound, Unavailable: As `start_pulled`.
    """
    host_id = settings.ingest.host_id or ""
    where = each.url or f"{each.host}:{each.port}{each.folder}"
    rules = PullRules(
        kind=each.kind,
        place=f"{host_id}:{each.name}:{where}",
        settle_s=each.settle_s,
        scan_every_s=each.scan_every_s,
        marker_suffix=each.marker_suffix,
        frees=each.after_take == "delete",
        max_file_bytes=each.max_file_bytes,
    )
    journals = settings.data.dir / "sources" / host_id
    journals.mkdir(mode=0o700, parents=True, exist_ok=True)
    origin = Origin(agency_of(storage, each.agency), f"source:{each.name}", each.dock_no, each.device_no)
    return PullSource(
        rules,
        remote_folder(each),
        origin=origin,
        staging_dir=storage.objects.staging_dir,
        seen=TakenJournal(journals / f"{each.name}.jsonl"),
        accept=holder.hold,
        has_receipt=receipt_checker(storage),
        may_free=receipt_checker(storage, noting=each.name),
        reserve=storage.objects.reserve,
        sidecar_fields=load_sidecar_fields(settings.ingest.sidecar_fields),
        tell=_teller(storage, origin, each.name),
    )


def _teller(storage: Storage, origin: Origin, name: str) -> Callable[[str, str], None]:
    """Raises an alarm for what a person must look at, such as a dock that shows another host key."""

    def tell(code: str, line: str) -> None:
        log.error("source:refused", source=name, code=code, detail=line)
        with storage.database.transaction() as session:
            agency = agencies.agency_by_id(session, origin.agency_id)
            wanted = NewAlarm(
                code=code, subject="source", subject_id=name, message=line, facts={"source": name}
            )
            raise_alarm(session, agency, wanted, actor=origin.actor, now=storage.clock.now())

    return tell


def remote_folder(each: SourceSettings) -> RemoteFolder:
    """The client of a source.

    Raises:
        Unavailable: Its secret cannot be read.
    """
    secret = _secret(each)
    if each.kind == "http":
        return ManifestFolder(
            ManifestAddress(each.name, each.url or "", secret, each.tls_ca, each.io_timeout_s)
        )
    tls = each.tls if each.kind == "ftps" else None
    port = each.port or PORTS[each.kind, tls]
    if each.kind == "sftp":
        return SftpFolder(
            SftpAddress(
                name=each.name,
                host=each.host or "",
                port=port,
                username=each.username or "",
                folder=each.folder.encode(),
                password=secret,
                key_file=each.key_file,
                host_key_sha256=tuple(each.host_key_sha256),
                known_hosts=each.known_hosts,
                timeout_s=each.io_timeout_s,
            )
        )
    return FtpFolder(
        FtpAddress(
            name=each.name,
            host=each.host or "",
            port=port,
            username=each.username or "",
            password=secret or "",
            folder=each.folder.encode(),
            tls=tls,
            tls_ca=each.tls_ca,
            timeout_s=each.io_timeout_s,
        )
    )


def _secret(each: SourceSettings) -> str | None:
    if each.password_file is not None:
        try:
            return each.password_file.read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise Unavailable(
                f"source {each.name}: expected a readable password file, found {type(error).__name__}",
                code="source_secret_unreadable",
            ) from error
    if each.password_env is not None:
        if each.password_env not in os.environ:
            raise Unavailable(
                f"source {each.name}: expected {each.password_env} in the environment, found none",
                code="source_secret_unreadable",
            )
        return os.environ[each.password_env]
    return None


def agency_of(storage: Storage, code: str | None) -> UUID:
    """The agency of that code, or the first one.

    Raises:
        NotFound: There is none.
    """
    with storage.database.read() as session:
        if code is not None:
            return agencies.agency_by_code(session, code).id
        return agencies.agencies(session)[0].id


def receipt_checker(storage: Storage, *, noting: str | None = None) -> Callable[[UUID, str, bytes], bool]:
    """Whether we have signed a receipt for a reception and digest: the signature itself is checked.

    Args:
        noting: Name of the source; then a custody leaf says that the copy there is removed, before it is.
    """

    def may_free(agency_id: UUID, reception_key: str, sha256: bytes) -> bool:
        with storage.database.read() as session:
            reception = _receipted(session, agency_id, reception_key, sha256)
            if reception is None or noting is None:
                return reception is not None
            subject, dock_no = str(reception.id), reception.dock_no
        facts = {"source": noting, "sha256": sha256.hex(), "dock": dock_no}
        with storage.database.transaction() as session:
            agency = agencies.agency_by_id(session, agency_id)
            happening = Happening(Action.SOURCE_FREED, "reception", subject, f"source:{noting}", facts)
            custody.record(session, agency, happening, storage.clock.now())
        return True

    return may_free


def reception_of(session: Session, agency_id: UUID, reception_key: str, sha256: bytes) -> Reception | None:
    """What was received under a key: one that was used for other bytes got a second, with their digest."""
    return items.reception_by_key(
        session, agency_id, f"{reception_key}:{sha256.hex()}"
    ) or items.reception_by_key(session, agency_id, reception_key)


def _receipted(session: Session, agency_id: UUID, reception_key: str, sha256: bytes) -> Reception | None:
    reception = reception_of(session, agency_id, reception_key, sha256)
    # None in force while an alarm stands: the dock may hold the only sound copy then.
    receipt = None if reception is None else receipts.receipt_in_force(session, reception)
    if reception is None or receipt is None:
        return None
    key_id, is_of_it = _read(receipt, str(reception.id), sha256)
    public = {
        each.id: each.public_key
        for each in custody_reading.signing_keys(session, agency_id)
        if each.purpose == Purpose.RECEIPT
    }
    if is_of_it and key_id in public and _is_signed(receipt, public[key_id]):
        return reception
    log.error("source:receipt_refused", reception=str(reception.id))
    return None


def _read(receipt: str, reception_id: str, sha256: bytes) -> tuple[str, bool]:
    try:
        body = json.loads(receipt)
        says = (body["reception"], body["sha256"], body["may_erase"])
        return str(body["key"]), says == (reception_id, sha256.hex(), True)
    except (ValueError, KeyError, TypeError):
        return "", False


def _is_signed(receipt: str, public_key: bytes) -> bool:
    body = json.loads(receipt)
    signed = {name: value for name, value in body.items() if name not in {"key", "signature"}}
    try:
        signature = base64.b64decode(body["signature"], validate=True)
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, canonical_json(signed))
    except (InvalidSignature, KeyError, ValueError, binascii.Error):
        return False
    return True
