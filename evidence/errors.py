"""Every deliberate error of the product.

The kind (a direct subclass of `EvidenceError`) decides what a caller does; the edges
translate kinds into HTTP status, retry or exit code. A message is one line:
*what: expected X, found Y; what to do*. It names the item, never a person or a secret.
"""

from __future__ import annotations


class EvidenceError(Exception):
    """Root of all deliberate errors.

    Args:
        message: One line for people.
        code: Stable machine-readable code, ``kind`` default of the class when omitted.
        facts: What was found, kept as attributes and in ``facts`` for problem details.
    """

    default_code = "evidence_error"

    def __init__(self, message: str, *, code: str | None = None, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.facts = facts

    def __getattr__(self, name: str) -> object:
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(name)


class NotFound(EvidenceError):
    """The thing named is not there, or not there for this agency."""

    default_code = "not_found"


class Conflict(EvidenceError):
    """The thing is there, in a state that does not allow this."""

    default_code = "conflict"


class InvalidInput(EvidenceError):
    """What came in is not of the form asked for."""

    default_code = "invalid_input"


class NotPermitted(EvidenceError):
    """The actor has no right to this."""

    default_code = "not_permitted"


class NotAuthenticated(EvidenceError):
    """Nobody has proved who they are."""

    default_code = "not_authenticated"


class Unavailable(EvidenceError):
    """It cannot be had now and may be had later: the only kind that is retried."""

    default_code = "unavailable"


class FixityError(EvidenceError):
    """Bytes are not what their digest says. Never retried, always a custody leaf."""

    default_code = "fixity_mismatch"


class CustodyError(EvidenceError):
    """The custody log contradicts itself or a checkpoint. Never retried."""

    default_code = "custody_broken"


class MediaError(EvidenceError):
    """Footage cannot be read, decoded or encoded."""

    default_code = "media_unreadable"
