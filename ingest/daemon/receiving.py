"""What every upload protocol of the listener does alike: receive a body, settle, tell how far it is.

The protocols differ in words only: `ingest.daemon.tus`, `ingest.daemon.draft`, `ingest.daemon.put`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ingest.daemon.body import Body, Patience
from ingest.tus import protocol
from ingest.tus.checksums import Checksum
from ingest.tus.sealing import Sealer
from ingest.tus.upload import Upload
from ingest.tus.uploads import UploadStore
from ingest.tus.writer import writing
from storage.db.credentials import Uploader

BASE = "/uploads"


@dataclass(frozen=True)
class Request:
    """One request of a sender that has proved its token."""

    method: str
    path: str
    """Below `BASE`, without slashes around; percent-encoding still in it."""
    headers: Mapping[str, str]
    body: Body
    uploader: Uploader
    remote: str
    base_url: str = ""
    """How the sender reaches this host; empty when that cannot be known."""

    def location(self, upload_id: str) -> str:
        """Where an upload is: absolute if it can be, since not every client resolves what is relative."""
        return f"{self.base_url}{BASE}/{upload_id}"

    @property
    def has_body(self) -> bool:
        """Whether bytes are to come, as far as the headers tell."""
        return "transfer-encoding" in self.headers or bool(protocol.content_length(self.headers))


class Receiver:
    """What the protocols share.

    Args:
        store: Open uploads.
        sealer: Makes items of whole ones.
        patience: How long a sender is waited for.
    """

    def __init__(self, store: UploadStore, sealer: Sealer, patience: Patience) -> None:
        self.store = store
        self.sealer = sealer
        self._patience = patience

    async def receive(
        self, upload: Upload, claim: int, request: Request, checksum: Checksum | None = None
    ) -> None:
        """Write the body of a request where the upload ends; the caller holds the claim.

        Raises:
            ClientGone: It was cut off; what came counts, unless under a checksum.
            EvidenceError: As `writing` and `Body.pour`.
        """
        announced = protocol.content_length(request.headers)
        length = upload.record.length_bytes
        left = (self.store.limits.max_upload_bytes if length is None else length) - upload.offset_bytes
        protocol.require_within(request.headers, left)
        # Of a body that names no size, and an upload that has none, nothing is known beforehand: the
        # writer looks at disk and bounds as it goes.
        wanted = announced if announced is not None else 0 if length is None else left
        async with writing(self.store, upload, wanted_bytes=wanted, checksum=checksum) as writer:
            await request.body.pour(upload, claim, self._patience, writer)

    async def settle_if_whole(self, upload: Upload) -> None:
        """Make the item of an upload that has all its bytes.

        Raises:
            EvidenceError: Not now; it will be tried again.
        """
        if upload.is_whole:
            await self.sealer.settle(upload)

    async def settle_for_now(self, upload: Upload) -> bool:
        """Make the item of a whole upload if it can be made now; whether that went well."""
        return not upload.is_whole or await self.sealer.settle_if_possible(upload)

    def kept(self, upload: Upload) -> dict[str, str]:
        """Headers that tell what became of an upload that is an item."""
        sealed = upload.record.sealed
        if sealed is None:
            return {}
        return {
            "Liuhen-Item": str(sealed.item_id),
            "Liuhen-Digest": f"sha-256={sealed.sha256.hex()}",
            "Liuhen-May-Erase": "false",
        }

    def expires(self, upload: Upload) -> dict[str, str]:
        """``Upload-Expires``, where an upload may be dropped."""
        if upload.owes_item or upload.record.sealed is not None:
            return {}
        return {"Upload-Expires": protocol.http_date(self.store.expires_at(upload))}
