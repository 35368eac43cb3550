"""Checkpoints of the custody log: C2SP tlog-checkpoints in C2SP signed notes.

A checkpoint says "this log, at this size, had this root", is signed, and is short enough to
be printed, mailed or read out, which is how it gets to a place where nobody who could
rewrite the log can reach it. Signing and verifying are handed in as callables: this module
knows no key and no library.

Source: C2SP signed-note and tlog-checkpoint, <https://c2sp.org/>.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from evidence.clock import rfc3339
from evidence.errors import InvalidInput
from evidence.merkle import HASH_BYTES

ORIGIN_PREFIX = "liuhen/"

_ORIGIN = re.compile(r"liuhen/[^\s+\x00-\x1f\x7f]{1,120}")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,15}")


@dataclass(frozen=True)
class NoteSigner:
    """A key that signs notes: its name, its 32-byte Ed25519 public key, and the act of signing."""

    name: str
    public_key: bytes
    sign: Callable[[bytes], bytes]


@dataclass(frozen=True)
class NoteSignature:
    """One signature line: who claims to have signed (``key_id`` is 4 bytes), and the signature."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True)
class Checkpoint:
    """A signed statement: this log, at this size, had this root."""

    origin: str
    tree_size: int
    root: bytes
    made_at: datetime | None
    sequence: int | None
    """Number of the checkpoint in its log, from 1 without gaps."""
    extensions: tuple[str, ...]
    body: str
    """The exact text the signatures are over."""
    signatures: tuple[NoteSignature, ...]


def origin_of(agency_code: str) -> str:
    """The name of an agency's log, and of the key that signs its checkpoints."""
    return ORIGIN_PREFIX + agency_code


def is_origin(text: str) -> bool:
    """Whether a log may be called this: one word after ``liuhen/``, as a signed note demands."""
    return _ORIGIN.fullmatch(text) is not None


def note_key_id(name: str, public_key: bytes) -> bytes:
    """The four bytes by which a note names an Ed25519 key (C2SP signed-note, Signatures)."""
    return sha256(name.encode() + b"\n\x01" + public_key).digest()[:4]


def checkpoint_body(
    origin: str, tree_size: int, root: bytes, *, made_at: datetime | None = None, sequence: int | None = None
) -> str:
    """The text to sign (C2SP tlog-checkpoint): origin, size, root, then our extension lines."""
    if _ORIGIN.fullmatch(origin) is None or tree_size < 0 or len(root) != HASH_BYTES:
        raise InvalidInput(
            f"checkpoint: expected origin liuhen/<agency>, a size and a 32-byte root, "
            f"found {origin!r}, {tree_size} and {len(root)} bytes",
            code="checkpoint_malformed",
        )
    lines = [origin, str(tree_size), b64encode(root).decode()]
    if made_at is not None:
        lines.append(f"time {rfc3339(made_at)}")
    if sequence is not None:
        lines.append(f"sequence {sequence}")
    return "\n".join(lines) + "\n"


def sign_checkpoint(body: str, signers: Sequence[NoteSigner]) -> str:
    """The whole note: body, blank line, one line for each signer."""
    lines = []
    for signer in signers:
        signature = note_key_id(signer.name, signer.public_key) + signer.sign(body.encode())
        lines.append(f"— {signer.name} {b64encode(signature).decode()}\n")
    return body + "\n" + "".join(lines)


def parse_checkpoint(text: str) -> Checkpoint:
    """Read a checkpoint; its signatures are still to be verified.

    Raises:
        InvalidInput: The text is no signed checkpoint of ours.
    """
    body, blank, signature_text = text.rpartition("\n\n")
    body += "\n"
    lines = body.split("\n")[:-1]
    try:
        if not blank or not signature_text.endswith("\n") or len(lines) < 3 or "" in lines:
            raise InvalidInput("checkpoint: expected a text, a blank line and signatures")
        if _ORIGIN.fullmatch(lines[0]) is None or _DECIMAL.fullmatch(lines[1]) is None:
            raise InvalidInput("checkpoint: expected origin liuhen/<agency> and a decimal size")
        root = b64decode(lines[2], validate=True)
        if len(root) != HASH_BYTES:
            raise InvalidInput(f"checkpoint root: expected 32 bytes, found {len(root)}")
        extensions = dict(line.partition(" ")[::2] for line in lines[3:])
        return Checkpoint(
            origin=lines[0],
            tree_size=int(lines[1]),
            root=root,
            made_at=datetime.fromisoformat(extensions["time"]) if "time" in extensions else None,
            sequence=int(extensions["sequence"]) if "sequence" in extensions else None,
            extensions=tuple(lines[3:]),
            body=body,
            signatures=tuple(_parse_signature(line) for line in signature_text.split("\n")[:-1]),
        )
    except (InvalidInput, ValueError) as error:
        message = error.message if isinstance(error, InvalidInput) else f"checkpoint: {error}"
        raise InvalidInput(message, code="checkpoint_malformed") from error


def _parse_signature(line: str) -> NoteSignature:
    dash, name, encoded = [*line.split(" "), "", ""][:3]
    raw = b64decode(encoded, validate=True)
    if dash != "—" or not name or line.count(" ") != 2 or len(raw) < 5:
        raise InvalidInput("checkpoint signature: expected — name base64")
    return NoteSignature(name, raw[:4], raw[4:])


def is_signed_by(
    checkpoint: Checkpoint, name: str, public_key: bytes, verify: Callable[[bytes, bytes, bytes], bool]
) -> bool:
    """Whether this key signed the checkpoint.

    Args:
        checkpoint: As parsed.
        name: The key's name.
        public_key: 32 bytes, Ed25519.
        verify: ``verify(public_key, message, signature)``.
    """
    wanted = note_key_id(name, public_key)
    return any(
        line.name == name
        and line.key_id == wanted
        and verify(public_key, checkpoint.body.encode(), line.signature)
        for line in checkpoint.signatures
    )
