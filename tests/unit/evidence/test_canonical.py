"""Canonical JSON against another implementation and the cases of RFC 8785."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from evidence.canonical import MAX_DEPTH, MAX_SAFE_INTEGER, canonical_json
from evidence.errors import InvalidInput

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)


@given(VALUES)
def test_agrees_with_another_implementation(value: object) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


def test_keys_are_sorted_by_utf16_code_units() -> None:
    # The sample of RFC 8785, section 3.2.3: U+1F600 (surrogates D83D DE00) sorts before U+FB33.
    value = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}
    expected = '{"\\r":2,"1":4,"\u0080":6,"\u00f6":7,"\u20ac":1,"\U0001f600":5,"\ufb33":3}'
    assert canonical_json(value) == expected.encode()


def test_strings_are_escaped_as_ecmascript_does() -> None:
    assert (
        canonical_json('\x00\x1f\b\t\n\f\r"\\/\x7f€')
        == '"\\u0000\\u001f\\b\\t\\n\\f\\r\\"\\\\/\x7f€"'.encode()
    )


def test_order_of_insertion_does_not_matter() -> None:
    assert canonical_json({"b": [1, {"d": 1, "c": 2}], "a": 0}) == canonical_json(
        MappingProxyType({"a": 0, "b": (1, {"c": 2, "d": 1})})
    )


def test_string_enum_is_its_value() -> None:
    class Colour(StrEnum):
        RED = "red"

    assert canonical_json({Colour.RED: Colour.RED}) == b'{"red":"red"}'


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        MAX_SAFE_INTEGER + 1,
        -MAX_SAFE_INTEGER - 1,
        10**5000,
        "\ud800",
        {"\udfff": 1},
        {1: 2},
        {None: 1},
        b"bytes",
        {1, 2},
        object(),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_what_has_no_single_form_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        canonical_json({"in": [value]})
    assert refused.value.code == "not_canonical"


def test_largest_safe_integers_are_kept() -> None:
    assert canonical_json([MAX_SAFE_INTEGER, -MAX_SAFE_INTEGER]) == b"[9007199254740991,-9007199254740991]"


def test_bottomless_nesting_is_refused() -> None:
    value: list[object] = []
    for _ in range(MAX_DEPTH + 1):
        value = [value]
    with pytest.raises(InvalidInput):
        canonical_json(value)
