"""What the upload listener is built of on a real host: tokens, receipts and custody by the database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from config.settings import Settings
from evidence.clock import Clock
from evidence.errors import EvidenceError, Unavailable
from evidence.listening import Listener
from ingest.daemon.body import Patience
from ingest.daemon.holding import Holder
from ingest.daemon.http import UploadApp
from ingest.daemon.receipts import receipts_of
from ingest.sources.base import StagedFile
from ingest.tus.sealing import FinishedUpload, Sealer
from ingest.tus.state import SealedUpload, UploadRecord
from ingest.tus.uploads import UploadLimits, UploadStore
from storage.db import agencies, credentials, items
from storage.db.credentials import Uploader
from storage.db.receipts import receipt_in_force
from storage.open import Storage


def authenticator(storage: Storage) -> Callable[[str], Uploader]:
    """Who an upload token stands for, by the database."""

    def authenticate(token: str) -> Uploader:
        with storage.database.read() as session:
            return credentials.uploader_of(session, token, storage.clock.now())

    return authenticate


def receipt_finder(storage: Storage) -> Callable[[UploadRecord], str | None]:
    """The signed receipt of an upload; None until the stored bytes were read back."""

    def receipt_of(record: UploadRecord) -> str | None:
        with storage.database.read() as session:
            reception = items.reception_by_key(session, record.uploader.agency_id, f"tus:{record.upload_id}")
            # What was found damaged since is no ground for wiping a card any more.
            return None if reception is None else receipt_in_force(session, reception)

    return receipt_of


def problems_of(storage: Storage) -> list[str]:
    """What keeps this host from taking uploads now, one line each."""
    found = []
    try:
        with storage.database.read() as session:
            agencies.agencies(session)
    except Unavailable as error:
        found.append(error.message)
    try:
        storage.objects.reserve(0)
    except EvidenceError as error:
        found.append(error.message)
    return found


def seal_with(storage: Storage, holder: Holder) -> Callable[[FinishedUpload], SealedUpload]:
    """What makes an item of a whole upload: authority is asked again, footage is kept either way."""

    def seal(finished: FinishedUpload) -> SealedUpload:
        with storage.database.read() as session:
            in_force = credentials.is_upload_token_in_force(session, finished.uploader, storage.clock.now())
        staged = finished.staged() if in_force else without_authority(finished.staged())
        accepted = holder.hold(finished.uploader.agency_id, staged)
        return SealedUpload(accepted.item_id, accepted.reception_id, accepted.sha256, accepted.custody)

    return seal


def without_authority(staged: StagedFile) -> StagedFile:
    """A file whose token was revoked or ran out while it came: kept and flagged, without a receipt."""
    finding = (
        "token_ended",
        "upload token: expected one in force to the end, found it ended while the file came; "
        "ask who sent it, no receipt is given",
    )
    return replace(staged, findings=(*staged.findings, finding), earns_receipt=False)


def upload_store(settings: Settings, clock: Clock) -> UploadStore:
    """The open uploads of this host: in a folder of its own where it has a name of its own."""
    ingest = settings.ingest
    limits = UploadLimits(
        max_upload_bytes=ingest.max_upload_bytes,
        max_open_uploads=ingest.max_open_uploads,
        expiry_s=ingest.expiry_s,
        floor_bytes=settings.data.free_floor_bytes,
        max_open_bytes=ingest.max_open_bytes,
    )
    folder = settings.data.dir / "uploads"
    if ingest.host_id is None:
        return UploadStore(folder, limits, clock)
    return UploadStore(folder / ingest.host_id, limits, clock, host=ingest.host_id)


def upload_listener(settings: Settings) -> Listener:
    """Where the listener listens, and who keeps its line private."""
    ingest = settings.ingest
    return Listener("ingest", ingest.host, ingest.port, ingest.tls_cert, ingest.tls_key, ingest.behind_proxy)


def upload_app(settings: Settings, storage: Storage, store: UploadStore, sealer: Sealer) -> UploadApp:
    """The listener's application."""
    ingest = settings.ingest
    return UploadApp(
        store,
        sealer,
        authenticate=authenticator(storage),
        receipts=receipt_finder(storage),
        receipts_of=receipts_of(storage),
        problems=lambda: problems_of(storage),
        patience=Patience(ingest.read_deadline_s, ingest.min_rate_bytes_s),
        public_url=ingest.public_url,
        behind_proxy=ingest.behind_proxy,
        cors_origins=ingest.cors_origins,
    )
