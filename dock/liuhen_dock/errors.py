"""What can go wrong at a dock, by what the agent does about it.

Each has a stable `code`, under which `liuhen_dock.wording` says in Chinese and English what
happened and what to do. The message is one line for the log: *what: expected X, found Y*.
"""

from __future__ import annotations


class DockError(Exception):
    """A deliberate error of the agent."""

    default_code = "internal"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code


class ConfigError(DockError):
    """The agent cannot start as it is set up; nothing was touched."""

    default_code = "config_invalid"


class TryAgain(DockError):
    """Not now: the line, the server, or its disk. Nothing acknowledged is lost.

    Args:
        after_s: What the server asked for with ``Retry-After``; None leaves it to the back-off.
    """

    default_code = "server_unreachable"

    def __init__(self, message: str, *, code: str | None = None, after_s: float | None = None) -> None:
        super().__init__(message, code=code)
        self.after_s = after_s


class UploadGone(DockError):
    """The server no longer knows this upload: a new one is made, from the first byte."""

    default_code = "upload_gone"


class Refused(DockError):
    """The server will not take this file as it is; a person must look. The others go on."""

    default_code = "file_refused"


class NotAllowed(DockError):
    """The token is unknown, ended, or not for this: no upload can succeed."""

    default_code = "token_refused"


class CardGone(DockError):
    """The card or camera was pulled: its uploads wait until it is back."""

    default_code = "card_gone"


class FileChanged(DockError):
    """The file is not the one the upload began with: it starts anew, bytes are never mixed."""

    default_code = "file_changed"


class ReadFault(DockError):
    """The card cannot give these bytes; the others go on."""

    default_code = "card_unreadable"


class BadReceipt(DockError):
    """What came as a receipt proves nothing about this file: it is not freed."""

    default_code = "receipt_invalid"


class NotOffered(DockError):
    """The camera's driver has no such verb."""

    default_code = "not_offered"
