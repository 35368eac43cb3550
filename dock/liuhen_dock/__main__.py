"""``python -m liuhen_dock``."""

from __future__ import annotations

import sys

from liuhen_dock.cli import main

if __name__ == "__main__":
    sys.exit(main())
