"""Words of senders, made fit to be kept: one place before claims, facts and sealed metadata.

A dock may say anything in its metadata, a sidecar in its JSON. What no database or canonical JSON
can hold is escaped where it stands and can still be read; what names something, and is looked up in
an index, is kept short. The file is taken in all the same.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

from ingest.facts import IDENTITIES, MAX_VALUE_CHARS, Statement
from ingest.sources.base import StagedFile

MAX_IDENTITY_CHARS = 128
_DIGEST_CHARS = 16
_UNFIT = re.compile("[\x00\ud800-\udfff]")

WORDS_ESCAPED = (
    "words_escaped",
    "metadata: expected Unicode text, found NUL or halves of characters; they are shown as ⟨U+0000⟩",
)
WORDS_REFUSED = (
    "words_refused",
    "metadata: expected words that can be kept, found others; the file is kept without them, ask its sender",
)


def escaped(text: str) -> str:
    """The text with NUL and lone surrogates written out as ``⟨U+0000⟩``."""
    return _UNFIT.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def fit(staged: StagedFile) -> StagedFile:
    """The same arrival in words that can be kept, with a finding for each kind of change."""
    metadata = {escaped(key): escaped(value) for key, value in staged.metadata.items()}
    claims = [fit_statement(said) for said in staged.claims]
    assumed = tuple(map(fit_statement, staged.assumed))
    findings = [(code, escaped(message)) for code, message in staged.findings]
    if metadata != dict(staged.metadata) or any(_UNFIT.search(said.value) for said in staged.claims):
        findings.append(WORDS_ESCAPED)
    findings += [
        (
            "value_shortened",
            f"{said.field}: expected at most {MAX_IDENTITY_CHARS} characters, found {len(said.value)}; "
            "the reception has all of it",
        )
        for said in staged.claims
        if said.field in IDENTITIES and len(escaped(said.value)) > MAX_IDENTITY_CHARS
    ]
    return replace(staged, metadata=metadata, claims=tuple(claims), assumed=assumed, findings=tuple(findings))


def fit_statement(said: Statement) -> Statement:
    """The same claim in words that can be kept.

    A name that is too long keeps its beginning and, so that it is still no other name, a digest of it all.
    """
    value = escaped(said.value)
    if said.field in IDENTITIES and len(value) > MAX_IDENTITY_CHARS:
        digest = hashlib.sha256(value.encode()).hexdigest()[:_DIGEST_CHARS]
        value = f"{value[: MAX_IDENTITY_CHARS - _DIGEST_CHARS - 1]}…{digest}"
    return replace(said, value=value[:MAX_VALUE_CHARS])


def without_words(staged: StagedFile) -> StagedFile:
    """The same bytes and name, with nothing else that the sender said."""
    return replace(staged, metadata={}, claims=(), assumed=(), findings=(WORDS_REFUSED,))
