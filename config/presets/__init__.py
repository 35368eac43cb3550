"""Presets: periods, deadlines, limits and name patterns as data, each with its source and mark.

A preset is a default, never a constant: an agency sets versions of its own over it (docs/design/ledger.md).
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any


@cache
def read(name: str) -> dict[str, Any]:
    """What the preset file ``name.toml`` holds; read once, to be left as it is."""
    return tomllib.loads((resources.files(__name__) / f"{name}.toml").read_text(encoding="utf-8"))
