"""A new key in place of the one in use (docs/design/custody.md, "When a key changes").

Order, so that a power cut at any point leaves keys that sign and signatures that verify:

1. The new secret is a file, synced; nobody uses it yet.
2. One transaction: its row, the end of the old one's, and the leaf ``key:rotated``.
3. For the key of checkpoints: a checkpoint by the old key that covers that leaf, so that whoever trusts the
   old key has its word for the new one.
4. The pointer ``<purpose>.current`` is renamed into place. Every process reads it at each signature.
5. Where asked, old secrets of grants are removed: addresses made with them end.

Cut off before 2 nothing has happened but a file that nobody uses. Cut off after it, the old key goes on
signing, `liuhen check` says ``key_retired``, and the next rotation finishes this one instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from evidence.custody import Action
from evidence.errors import Conflict
from storage.db import custody
from storage.db.custody import Happening
from storage.db.tables import Agency, SigningKey
from storage.keys import PublicKey, Purpose
from storage.open import Storage
from storage.sequencer import place_waiting


@dataclass(frozen=True)
class Rotation:
    """A key that took another's place."""

    purpose: Purpose
    old_id: str
    new_id: str
    was_unfinished: bool
    """An earlier rotation had been cut off, and was finished; no other key was made."""


def rotate_key(
    storage: Storage, agency_id: UUID, purpose: Purpose, *, actor: str, end_grants: bool = False
) -> Rotation:
    """Let a new key sign from now on; what the old one signed goes on being verified by its public half.

    Args:
        end_grants: For the key of grants: addresses made with older keys end now, not with their time.

    Raises:
        Conflict: Somebody else rotates the same key at this moment (``key_rotated``).
        Unavailable: The key folder or the database does not answer; run it again.
    """
    keys = storage.keys
    old_id = keys.current(purpose)
    with storage.database.read() as session:
        in_use = _in_use(session, purpose)
    was_unfinished = in_use is not None and in_use.id != old_id and keys.holds(in_use.id)
    if was_unfinished and in_use is not None:
        new_id = in_use.id
    else:
        made = keys.make(purpose)
        try:
            with storage.database.transaction() as session:
                agency = session.get_one(Agency, agency_id)
                _register(session, agency, old_id, made, actor, storage.clock.now(), end_grants)
        except Conflict:
            keys.forget(made.id)
            raise
        new_id = made.id
    if purpose is Purpose.CHECKPOINT:
        place_waiting(storage, agency_id)
    keys.use(purpose, new_id)
    if end_grants and purpose is Purpose.GRANT:
        keys.forget_others(purpose, new_id)
    return Rotation(purpose, old_id, new_id, was_unfinished)


def _in_use(session: Session, purpose: Purpose) -> SigningKey | None:
    """The newest key on record that has not ended."""
    return session.scalars(
        select(SigningKey)
        .where(SigningKey.purpose == str(purpose), SigningKey.retired_at.is_(None))
        .order_by(SigningKey.created_at.desc(), SigningKey.id)
        .limit(1)
    ).first()


def _register(
    session: Session,
    agency: Agency,
    old_id: str,
    new: PublicKey,
    actor: str,
    now: datetime,
    end_grants: bool,
) -> None:
    old = session.scalars(
        select(SigningKey).where(SigningKey.id == old_id).with_for_update(key_share=True)
    ).one_or_none()
    if old is None or old.retired_at is not None:
        raise Conflict(
            f"key {old_id}: expected the one in use on record, found it is not; run `liuhen check`",
            code="key_rotated",
        )
    old.retired_at = now
    session.add(
        SigningKey(
            id=new.id, agency_id=old.agency_id, purpose=str(new.purpose), public_key=new.raw, created_at=now
        )
    )
    facts = {
        "purpose": str(new.purpose),
        "old": old_id,
        "public_key": new.raw.hex(),
        **({"grants_ended": end_grants} if new.purpose is Purpose.GRANT else {}),
    }
    custody.record(session, agency, Happening(Action.KEY_ROTATED, "key", new.id, actor, facts), now)
