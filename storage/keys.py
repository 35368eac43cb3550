"""Private keys: files that only this account reads, one per purpose, each with an id.

Receipts, checkpoints and grants use separate keys (docs/design/custody.md). The public half and
the key's life stand in the table `signing_key`; the id stands in every signature.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from evidence.errors import Unavailable


class Purpose(StrEnum):
    """What a key may sign."""

    RECEIPT = "receipt"
    CHECKPOINT = "checkpoint"
    GRANT = "grant"


@dataclass(frozen=True)
class PublicKey:
    """The half that verifies. Symmetric keys have an empty `raw`."""

    id: str
    purpose: Purpose
    raw: bytes


@dataclass(frozen=True)
class Signer:
    """One Ed25519 key at the moment of signing."""

    key_id: str
    _private: Ed25519PrivateKey

    @property
    def public(self) -> bytes:
        return self._private.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)


class KeyRing:
    """The key folder of an installation.

    Args:
        folder: Made with mode 0700 when it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._folder = str(folder)

    def create(self, purpose: Purpose) -> PublicKey:
        """Make and use a new key; the one before stays for verifying."""
        made = self.make(purpose)
        self.use(purpose, made.id)
        return made

    def make(self, purpose: Purpose) -> PublicKey:
        """Make a key that nobody uses yet; it is on disk when this returns."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if purpose is Purpose.GRANT:
            secret, raw = secrets.token_bytes(32), b""
            key_id = f"grant-{hashlib.sha256(b'id' + secret).hexdigest()[:12]}"
        else:
            private = Ed25519PrivateKey.generate()
            secret = private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
            raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            key_id = f"{purpose}-{hashlib.sha256(raw).hexdigest()[:12]}"
        self._write_new(f"{key_id}.key", secret)
        return PublicKey(key_id, purpose, raw)

    def holds(self, key_id: str) -> bool:
        """Whether the private half is here."""
        # Asked at every range: text is joined sooner than paths are.
        return os.access(f"{self._folder}/{key_id}.key", os.F_OK)

    def forget(self, key_id: str) -> None:
        """Remove a secret that signed nothing."""
        (self.folder / f"{key_id}.key").unlink(missing_ok=True)
        self._sync_folder()

    def forget_others(self, purpose: Purpose, key_id: str) -> None:
        """Remove the secrets of a purpose but one; what they made is not believed any more."""
        for path in self.folder.glob(f"{purpose}-*.key"):
            if path.stem != key_id:
                path.unlink()
        self._sync_folder()

    def current(self, purpose: Purpose) -> str:
        """Id of the key in use.

        Raises:
            Unavailable: There is none; `liuhen init` makes them.
        """
        try:
            return (self.folder / f"{purpose}.current").read_text(encoding="ascii").strip()
        except FileNotFoundError as error:
            raise Unavailable(
                f"keys: expected a {purpose} key in {self.folder}, found none; run `liuhen init`",
                code="key_missing",
            ) from error

    def sign(self, purpose: Purpose, message: bytes) -> tuple[str, bytes]:
        """Key id and Ed25519 signature."""
        signer = self.signer(purpose)
        return signer.key_id, signer.sign(message)

    def signer(self, purpose: Purpose) -> Signer:
        """The key in use, read once: its public half and its signatures belong together."""
        key_id = self.current(purpose)
        return Signer(key_id, Ed25519PrivateKey.from_private_bytes(self._secret(key_id)))

    def mac(self, message: bytes) -> tuple[str, bytes]:
        """Key id and HMAC-SHA-256, for grants."""
        key_id = self.current(Purpose.GRANT)
        return key_id, hmac.digest(self._secret(key_id), message, "sha256")

    def check_mac(self, key_id: str, message: bytes, tag: bytes) -> bool:
        """Whether the tag was made here with that key."""
        if not key_id.startswith("grant-") or not key_id[6:].isalnum():
            return False
        try:
            secret = self._secret(key_id)
        except Unavailable:
            return False
        return hmac.compare_digest(hmac.digest(secret, message, "sha256"), tag)

    def public(self, purpose: Purpose) -> Ed25519PublicKey:
        """Public half of the key in use."""
        return Ed25519PrivateKey.from_private_bytes(self._secret(self.current(purpose))).public_key()

    def _secret(self, key_id: str) -> bytes:
        try:
            return (self.folder / f"{key_id}.key").read_bytes()
        except FileNotFoundError as error:
            raise Unavailable(
                f"keys: expected {key_id} in {self.folder}, found none; restore the key folder",
                code="key_missing",
            ) from error

    def _write_new(self, name: str, data: bytes) -> None:
        handle = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._sync_folder()

    def use(self, purpose: Purpose, key_id: str) -> None:
        """Let this key sign from now on, in every process: each reads the pointer at each signature."""
        temporary = self.folder / f".{purpose}.current.{os.getpid()}"
        with temporary.open("w", encoding="ascii") as file:
            file.write(key_id + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / f"{purpose}.current")
        self._sync_folder()

    def _sync_folder(self) -> None:
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def verify_signature(raw_public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the Ed25519 signature is of that message by that key."""
    from cryptography.exceptions import InvalidSignature

    try:
        Ed25519PublicKey.from_public_bytes(raw_public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
