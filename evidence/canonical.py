"""Canonical JSON: one value, one sequence of bytes (RFC 8785, JSON Canonicalization Scheme).

Digests and signatures are taken over these bytes, so the same facts must never give two
texts. Numbers are whole and small enough that every JSON reader sees the same one; a
fraction is written by its owner as a string or as two integers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from evidence.errors import InvalidInput

MAX_SAFE_INTEGER = 2**53 - 1
"""The largest integer that IEEE 754 readers keep exactly (RFC 7493, section 2.2)."""

MAX_DEPTH = 64

JSON = None | bool | int | str | Sequence["JSON"] | Mapping[str, "JSON"]


def canonical_json(value: object) -> bytes:
    """The one UTF-8 form of ``value``.

    Args:
        value: None, bool, int, str, and lists, tuples and mappings of them.

    Raises:
        InvalidInput: A float, an integer beyond 2**53-1, a lone surrogate, a key that is no
            string, nesting deeper than `MAX_DEPTH`, or something JSON has no word for.

    Source: RFC 8785, sections 3.2.2 (literals, strings) and 3.2.3 (sorting).
    """
    parts: list[str] = []
    _write(value, parts, 0)
    try:
        return "".join(parts).encode("utf-8")
    except UnicodeEncodeError as error:
        surrogate = ord(error.object[error.start])
        raise InvalidInput(
            f"canonical JSON: expected Unicode text, found lone surrogate U+{surrogate:04X}",
            code="not_canonical",
        ) from error


def _write(value: object, parts: list[str], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidInput(f"canonical JSON: expected at most {MAX_DEPTH} levels", code="not_canonical")
    if value is None:
        parts.append("null")
    elif isinstance(value, bool):
        parts.append("true" if value else "false")
    elif isinstance(value, str):
        # Python escapes exactly what RFC 8785 asks for, in the same short and lower-case forms.
        parts.append(json.dumps(value, ensure_ascii=False))
    elif isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise InvalidInput(
                f"canonical JSON: expected an integer within ±(2^53-1), "
                f"found one of {value.bit_length()} bits; write it as a string",
                code="not_canonical",
            )
        parts.append(int.__repr__(value))
    elif isinstance(value, Mapping):
        _write_object(value, parts, depth)
    elif isinstance(value, list | tuple):
        parts.append("[")
        for position, element in enumerate(value):
            if position:
                parts.append(",")
            _write(element, parts, depth + 1)
        parts.append("]")
    else:
        raise InvalidInput(
            f"canonical JSON: expected null, boolean, integer, string, list or object, "
            f"found {type(value).__name__}",
            code="not_canonical",
        )


def _write_object(value: Mapping[object, object], parts: list[str], depth: int) -> None:
    keys: list[str] = []
    for key in value:
        if not isinstance(key, str):
            raise InvalidInput(
                f"canonical JSON: expected keys that are strings, found {type(key).__name__}",
                code="not_canonical",
            )
        keys.append(key)
    # Big-endian UTF-16 bytes compare as code units do; surrogates pass here and fail at the end.
    keys.sort(key=lambda key: key.encode("utf-16-be", "surrogatepass"))
    parts.append("{")
    for position, key in enumerate(keys):
        if position:
            parts.append(",")
        parts.append(json.dumps(key, ensure_ascii=False))
        parts.append(":")
        _write(value[key], parts, depth + 1)
    parts.append("}")
