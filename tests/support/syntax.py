"""Python source as a syntax tree, for the tests of the house's own rules."""

from __future__ import annotations

import ast
import gc
from pathlib import Path


def tree_of(path: Path) -> ast.Module:
    """The module at ``path``.

    CPython 3.11 fails with "AST constructor recursion depth mismatch" where a tree is built while
    another is: a collection of rubbish in the midst may report some task's exception, and to print a
    traceback is to parse the line it points at.
    """
    text = path.read_text(encoding="utf-8")
    gc.disable()
    try:
        return ast.parse(text)
    finally:
        gc.enable()
