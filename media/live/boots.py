"""Which boot of the host its monotonic clock is of: times of another boot are of another clock."""

from __future__ import annotations

from pathlib import Path

BOOT = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """A name that no other boot of this host has."""
    return BOOT.read_text(encoding="ascii").strip()
