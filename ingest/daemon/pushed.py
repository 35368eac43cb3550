"""The listeners for docks that can only push, and the source that takes what they pushed."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from uuid import UUID

import asyncssh
import structlog

from config.profiles import load_sidecar_fields
from config.settings import FtpSettings, Settings
from evidence.errors import InvalidInput, Unavailable
from evidence.listening import Listener, is_loopback
from ingest.daemon.holding import Holder
from ingest.daemon.listening import without_authority
from ingest.daemon.pulled import agency_of, receipt_checker, reception_of
from ingest.daemon.pushed_ftp import FtpDoor
from ingest.daemon.pushed_logins import token_checker
from ingest.daemon.pushed_sftp import SftpDoor
from ingest.sources import host_key
from ingest.sources.base import StagedFile
from ingest.sources.dropbox import Dropbox
from ingest.sources.dropbox_folder import DropboxFolder
from ingest.sources.dropbox_shelf import Dock
from ingest.sources.journal import TakenJournal
from ingest.sources.pulling import PullRules, PullSource
from messaging.tls import tls_of
from storage.db import credentials, receipts
from storage.db.credentials import Uploader
from storage.objects.base import Namespace, object_key
from storage.open import Storage

log = structlog.get_logger(__name__)

START_WAIT_S = 30.0
STOP_WAIT_S = 8.0
SCAN_EVERY_S = 1.0


class PushListeners:
    """The doors in a thread and event loop of their own, so that a busy dock delays no upload.

    Raises:
        InvalidInput: The line would not be private (``listener_not_private``), or a key is missing.
        Unavailable: A port is taken, or a key or certificate cannot be read.
    """

    def __init__(self, settings: Settings, storage: Storage, box: Dropbox) -> None:
        check = token_checker(storage)
        ingest = settings.ingest
        self.sftp = _sftp_door(settings, storage, box, check) if ingest.sftp.enabled else None
        self.ftp: FtpDoor | None = None
        self._ready: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        if ingest.ftp.enabled:
            _require_private_ftp(ingest.ftp)
        self._make_ftp = (lambda: _ftp_door(settings, box, check)) if ingest.ftp.enabled else None
        self._thread = threading.Thread(target=self._run, name="push-listeners", daemon=True)
        self._thread.start()
        try:
            self._ready.result(START_WAIT_S)
        except BaseException:
            self._thread.join(STOP_WAIT_S)
            raise

    def close(self) -> None:
        """Let every dock go and stop listening."""
        if self._end is not None and self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(STOP_WAIT_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            # The end of a thread: who started it must hear of anything, SystemExit too, or would wait.
            if self._ready.done():
                log.exception("push:listeners_ended")
            else:
                self._ready.set_exception(error)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        try:
            if self.sftp is not None:
                await self.sftp.start()
                log.info("push:listening", listener="sftp", port=self.sftp.port)
            if self._make_ftp is not None:
                door = self._make_ftp()
                await door.begin()
                self.ftp = door
                log.info("push:listening", listener="ftp", port=door.server_port)
            self._ready.set_result(None)
            await self._end.wait()
        finally:
            if self.ftp is not None:
                await self.ftp.end()
            if self.sftp is not None:
                await self.sftp.close()


def open_dropbox(settings: Settings, storage: Storage, sync: Callable[[int], None] = os.fdatasync) -> Dropbox:
    """What docks pushed to this host before, and will; ``sync`` makes bytes behind a descriptor durable."""
    folder = settings.data.dir / "pushed" / (settings.ingest.host_id or "h0")
    ingest = settings.ingest
    limits = (ingest.max_upload_bytes, ingest.max_pushed_bytes_per_dock)
    return Dropbox(folder, storage.objects.reserve, *limits, sync)


def dropbox_source(settings: Settings, storage: Storage, holder: Holder, box: Dropbox) -> PullSource:
    """The engine over what was pushed: a copy in custody, ours freed when that was read back."""
    ingest = settings.ingest
    rests = [
        door.unproven_after_s for door in (ingest.sftp, ingest.ftp) if door.enabled and door.unproven_after_s
    ]
    rules = PullRules(
        kind="pushed",
        place=f"pushed:{ingest.host_id or ''}",
        settle_s=max(rests) if rests else None,
        scan_every_s=SCAN_EVERY_S,
        frees=True,
        max_file_bytes=ingest.max_upload_bytes,
        rest_is_a_finding=True,
    )
    journal = settings.data.dir / "pushed" / f"{ingest.host_id or 'h0'}.taken.jsonl"
    folder = DropboxFolder(box)
    return PullSource(
        rules,
        folder,
        origin=None,
        staging_dir=storage.objects.staging_dir,
        seen=TakenJournal(journal),
        accept=_accepting(storage, holder),
        has_receipt=receipt_checker(storage),
        may_free=receipt_checker(storage, noting="pushed"),
        give_up=folder.keep_name,
        is_read_back=_read_back_checker(storage),
        reserve=storage.objects.reserve,
        sidecar_fields=load_sidecar_fields(ingest.sidecar_fields),
    )


def _accepting(storage: Storage, holder: Holder) -> Callable[[UUID, StagedFile], object]:
    """Authority is asked for again, as for an upload: a dock may stay logged in after its token has ended."""

    def accept(agency_id: UUID, staged: StagedFile) -> object:
        kind, _, token_id = staged.actor.partition(":")
        if kind == "token":
            uploader = Uploader(UUID(token_id), agency_id, "", staged.dock_no or "")
            with storage.database.read() as session:
                if not credentials.is_upload_token_in_force(session, uploader, storage.clock.now()):
                    staged = without_authority(staged)
        return holder.hold(agency_id, staged)

    return accept


def _read_back_checker(storage: Storage) -> Callable[[UUID, str, bytes], bool]:
    """Whether what was pushed is in custody for good: the row says so, and the store has it now."""

    def is_read_back(agency_id: UUID, reception_key: str, sha256: bytes) -> bool:
        with storage.database.read() as session:
            reception = reception_of(session, agency_id, reception_key, sha256)
            kept = reception is not None and receipts.is_read_back(session, reception, sha256)
        return kept and storage.objects.exists(object_key(agency_id.hex, Namespace.ORIGINAL, sha256))

    return is_read_back


def start_pushed(
    settings: Settings, storage: Storage, holder: Holder, stop: threading.Event
) -> tuple[PushListeners | None, list[threading.Thread]]:
    """Listeners and the thread that takes what comes; nothing when no listener is enabled.

    What was pushed before a listener was switched off is still taken.
    """
    is_on = settings.ingest.sftp.enabled or settings.ingest.ftp.enabled
    if not is_on and not (settings.data.dir / "pushed").exists():
        return None, []
    for name in ("asyncssh", "aioftp"):
        # They log each connection, and a lost one as an error of theirs.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    box = open_dropbox(settings, storage)
    listeners = PushListeners(settings, storage, box) if is_on else None
    source = dropbox_source(settings, storage, holder, box)
    thread = threading.Thread(target=source.run, args=(stop,), name="pushed", daemon=True)
    thread.start()
    return listeners, [thread]


def _sftp_door(
    settings: Settings, storage: Storage, box: Dropbox, check: Callable[[str, str], Dock | None]
) -> SftpDoor:
    sftp = settings.ingest.sftp
    if sftp.host_key is None and not is_loopback(sftp.host):
        raise InvalidInput(
            f"ingest.sftp listener {sftp.host}: expected a host key of its own off loopback, found none; "
            "set ingest.sftp.host_key",
            code="listener_not_private",
        )
    path = host_key.path_of(sftp, settings.data.dir)
    if sftp.host_key is None and not path.exists():
        host_key.make(path)
    key = host_key.read(path)
    keys: dict[str, list[tuple[asyncssh.SSHKey, Dock]]] = {}
    for each in sftp.keys:
        try:
            known = asyncssh.read_public_key_list(str(each.file))
        except (OSError, asyncssh.KeyImportError) as error:
            raise Unavailable(
                f"ingest.sftp.keys of dock {each.dock_no}: expected public keys, found "
                f"{type(error).__name__}",
                code="listener_key_unreadable",
            ) from error
        agency_id = agency_of(storage, each.agency)
        for public in known:
            # Whose key it was can be looked up by its fingerprint, as a token's by its id.
            actor = f"ssh_key:{public.get_fingerprint('sha256')}"
            dock = Dock(agency_id, each.dock_no, each.device_no, actor)
            keys.setdefault(each.dock_no, []).append((public, dock))
    return SftpDoor(sftp, box, key, check, keys)


def _ftp_listener(ftp: FtpSettings) -> Listener:
    return Listener("ingest.ftp", ftp.host, ftp.port, ftp.tls_cert, ftp.tls_key)


def _require_private_ftp(ftp: FtpSettings) -> None:
    _ftp_listener(ftp).require_private()
    if not ftp.tls_cert and not ftp.allow_plain:
        raise InvalidInput(
            "ingest.ftp listener: expected TLS, or allow_plain to let passwords pass in the clear, found "
            "neither; set ingest.ftp.tls_cert and ingest.ftp.tls_key",
            code="listener_not_private",
        )


def _ftp_door(settings: Settings, box: Dropbox, check: Callable[[str, str], Dock | None]) -> FtpDoor:
    ftp = settings.ingest.ftp
    return FtpDoor(ftp, box, tls_of(_ftp_listener(ftp)), check)
