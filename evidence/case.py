"""Case numbers: the form an agency writes, and the one form that is the key.

Officers type one number in many ways: full-width digits and letters, 〔 〕 or [ ] or ( ) around the
year, spaces, a missing 号. The normalised form is what two spellings of one number have in common.
Neither form is ever part of a path.
"""

from __future__ import annotations

import re
import unicodedata

from evidence.errors import InvalidInput

MAX_CASE_NO_CHARS = 120
FOLDS = 4
DEFAULT_CASE_NO_PATTERN = r"^\S(?:.{0,118}\S)?$"

_OPENING = str.maketrans({"〔": "(", "【": "(", "[": "(", "「": "(", "〈": "(", "{": "(", "﹝": "("})
_CLOSING = str.maketrans({"〕": ")", "】": ")", "]": ")", "」": ")", "〉": ")", "}": ")", "﹞": ")"})
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―−－﹣_", "-"))


def normalise_case_no(written: str) -> str:
    """The key under which two spellings of one number meet.

    Full-width forms are folded (NFKC), brackets become round, dashes become ``-``, spaces go, letters
    become upper case. Two numbers that differ in any digit or word stay different.

    Raises:
        InvalidInput: Nothing is left, it is too long, or it holds control characters.
    """
    folded = written
    # Taking a space out may bring a letter and its accent together: fold again, as often as it can matter.
    for _ in range(FOLDS):
        folded = _folded(folded)
    for char in folded:
        # Bidirectional marks and other format characters can make one number look like another.
        if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn"} and char not in "\t":
            raise InvalidInput(
                f"case number: expected printable characters, found U+{ord(char):04X}; type it again",
                code="case_no_invalid",
            )
    key = folded
    if not key:
        raise InvalidInput("case number: expected at least one character, found none", code="case_no_invalid")
    if len(key) > MAX_CASE_NO_CHARS:
        raise InvalidInput(
            f"case number: expected at most {MAX_CASE_NO_CHARS} characters, found {len(key)}",
            code="case_no_invalid",
        )
    return key


def _folded(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text.translate(_OPENING).translate(_CLOSING))
    plain = plain.translate(_OPENING).translate(_CLOSING).translate(_DASHES)
    return re.sub(r"[^\S\x00-\x1f\x7f-\x9f]+|\t", "", plain).upper()


def check_case_no(written: str, pattern: str) -> str:
    """The normalised key of a number that has the agency's form.

    Args:
        written: The number as somebody wrote it.
        pattern: The agency's regular expression, matched against the written and the normalised form.

    Raises:
        InvalidInput: It has not the agency's form.
    """
    key = normalise_case_no(written)
    if not (re.fullmatch(pattern, written.strip()) or re.fullmatch(pattern, key)):
        raise InvalidInput(
            f"case number: expected the agency's form {pattern}, "
            f"found {written.strip()[:MAX_CASE_NO_CHARS]!r}",
            code="case_no_form",
        )
    return key
