"""Asks for receipts, also while the card is elsewhere, and keeps each before anything relies on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from liuhen_dock.clock import Clock
from liuhen_dock.errors import BadReceipt, DockError, NotAllowed, TryAgain, UploadGone
from liuhen_dock.freeing import expected_of
from liuhen_dock.journal import Entry, FileKey, Journal, Phase
from liuhen_dock.receipts import ReceiptFolder, verify
from liuhen_dock.tus import TusClient

FIRST_LOOK_S = 0.2
MOST_LOOK_S = 60.0


@dataclass
class Collector:
    """Turns `Phase.SENT` into `Phase.RECEIPTED`.

    Args:
        tell: Told of each entry that got on, or of what is wrong with its receipt.
    """

    journal: Journal
    receipts: ReceiptFolder
    keys: Sequence[Ed25519PublicKey]
    clock: Clock
    stop: Event
    tell: Callable[[Entry, DockError | None], None]
    _due: dict[FileKey, tuple[float, float]] = field(default_factory=dict)
    """When to ask again, and how long to wait after that."""

    def look(self, client: TusClient) -> Mapping[str, int]:
        """Ask once for each receipt that is due; counts of what came."""
        counts = {"kept": 0, "waiting": 0, "wrong": 0, "gone": 0}
        for entry in self.journal.in_phase(Phase.SENT):
            if self.stop.is_set():
                break
            due_at, pause_s = self._due.get(entry.key, (0.0, FIRST_LOOK_S))
            if self.clock.monotonic() < due_at:
                counts["waiting"] += 1
                continue
            self._due[entry.key] = (self.clock.monotonic() + pause_s, min(MOST_LOOK_S, pause_s * 1.5))
            counts[self._ask(entry, client)] += 1
        return counts

    def _ask(self, entry: Entry, client: TusClient) -> str:
        try:
            raw = client.receipt(client.require_ours(entry.location))
            if raw is None:
                return "waiting"
            receipt = verify(raw, self.keys, expected_of(entry))
            self.receipts.keep(entry.sha256, receipt, raw)
        except (TryAgain, NotAllowed):
            # The line or the token, not this file: the uploads say so already.
            return "waiting"
        except UploadGone:
            # The server has forgotten the upload. If the file is still on the card it goes up once
            # more, which gives the same item, one more reception, and its receipt.
            self._due.pop(entry.key, None)
            self.tell(self.journal.advance(entry, Phase.DROPPED), None)
            return "gone"
        except BadReceipt as error:
            self.tell(entry, error)
            return "wrong"
        except DockError as error:
            self.tell(entry, error)
            return "waiting"
        self._due.pop(entry.key, None)
        self.tell(self.journal.advance(entry, Phase.RECEIPTED), None)
        return "kept"
