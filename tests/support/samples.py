"""Weights and pictures that set-up fetched from pinned packages; none of them is in the repository."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def models_dir() -> Path:
    """Where the weights are."""
    return Path(os.environ.get("LIUHEN_REDACTION__MODELS_DIR") or REPOSITORY / ".cache" / "models")


def sample(name: str) -> Path:
    """A sample by name, such as ``astronaut.png``.

    Raises:
        FileNotFoundError: Set-up has not put it there.
    """
    path = REPOSITORY / ".cache" / "samples" / name
    if not path.is_file():
        raise FileNotFoundError(f"sample {name}: expected {path}, found none; run `make setup`")
    return path
