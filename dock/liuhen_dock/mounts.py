"""Which volumes are mounted now. Polled: a pulled card gives no notice worth relying on."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

STABLE_INODES = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "ntfs", "ntfs3", "tmpfs"})
"""File systems whose inode numbers are the same after the next mount. FAT and exFAT make them up."""


@dataclass(frozen=True)
class Volume:
    """A mounted volume, or a folder that is configured to stand for one."""

    root: Path
    label: str
    fs_type: str
    volume_id: str
    """UUID or serial number; made from the address where there is none."""
    slot_device_no: str | None = None
    """The device number the configuration gives the slot, when it does."""
    slot_profile: str | None = None

    @property
    def has_stable_inodes(self) -> bool:
        """Whether an inode says that a file is the same after a new mount."""
        return self.fs_type in STABLE_INODES


@dataclass(frozen=True)
class Slot:
    """A folder that is always looked at as one camera's volume."""

    folder: Path
    profile: str | None = None
    device_no: str | None = None


def volumes(mount_roots: Sequence[Path], slots: Sequence[Slot]) -> list[Volume]:
    """What is mounted now below the roots (Linux) or removable (Windows), and the slots that are there."""
    table = mount_table()
    found = {volume.root: volume for volume in removable_volumes(mount_roots, table)}
    for slot in slots:
        if is_there(slot.folder):
            under = _covering(slot.folder, table)
            found[slot.folder] = Volume(
                root=slot.folder,
                label=found[slot.folder].label if slot.folder in found else slot.folder.name,
                fs_type=under.fs_type if under is not None else "",
                volume_id=found[slot.folder].volume_id if slot.folder in found else made_up_id(slot.folder),
                slot_device_no=slot.device_no,
                slot_profile=slot.profile,
            )
    return [found[root] for root in sorted(found)]


def is_there(root: Path, device: int | None = None) -> bool:
    """Whether a volume still answers.

    A card pulled without leave leaves a name that gives errors; one unmounted from a fixed mount
    point leaves an empty folder, which is on another device.

    Args:
        device: What `device_of` said when the volume was met; None asks for nothing but an answer.
    """
    try:
        with os.scandir(root):
            return device is None or root.stat().st_dev == device
    except OSError:
        return False


def device_of(root: Path) -> int | None:
    """Which file system lies at an address now; None when nothing answers."""
    try:
        return root.stat().st_dev
    except OSError:
        return None


def made_up_id(root: Path) -> str:
    """An id for a volume without one: its address."""
    return f"at-{hashlib.sha256(os.fsencode(root)).hexdigest()[:12]}"


@dataclass(frozen=True)
class MountLine:
    """One line of mountinfo."""

    device: str
    mount_point: Path
    fs_type: str
    source: str


def parse_mountinfo(text: str) -> list[MountLine]:
    r"""The lines of ``/proc/self/mountinfo``; spaces in names stand there as ``\040``.

    Source: proc(5), section on mountinfo.
    """
    found = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if not separator or len(fields) < 5 or len(rest) < 2:
            continue
        found.append(MountLine(fields[2], Path(_unescaped(fields[4])), rest[0], _unescaped(rest[1])))
    return found


def _unescaped(text: str) -> str:
    # Octal escapes are bytes: a name in Chinese is several of them.
    raw = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8) & 0xFF]), os.fsencode(text))
    return os.fsdecode(raw)


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _DRIVE_REMOVABLE = 2
    _SEM_FAILCRITICALERRORS = 1

    def mount_table() -> list[MountLine]:
        """Windows has none: each drive is asked by itself."""
        return []

    def removable_volumes(_mount_roots: Sequence[Path], _table: Sequence[MountLine]) -> list[Volume]:
        """Removable drives that have a medium, by letter."""
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        # An empty card reader must be an error code here, and no box on the screen.
        kernel.SetErrorMode(_SEM_FAILCRITICALERRORS)
        drives = kernel.GetLogicalDrives()
        found = []
        for number in range(26):
            root = f"{chr(ord('A') + number)}:\\"
            if not drives >> number & 1 or kernel.GetDriveTypeW(ctypes.c_wchar_p(root)) != _DRIVE_REMOVABLE:
                continue
            label = ctypes.create_unicode_buffer(261)
            kind = ctypes.create_unicode_buffer(261)
            serial = wintypes.DWORD()
            told = kernel.GetVolumeInformationW(
                ctypes.c_wchar_p(root), label, 261, ctypes.byref(serial), None, None, kind, 261
            )
            if told:
                volume_id = f"{serial.value:08x}" if serial.value else made_up_id(Path(root))
                found.append(Volume(Path(root), label.value, kind.value.lower(), volume_id))
        return found

else:

    def mount_table() -> list[MountLine]:
        """What is mounted in this process's view."""
        try:
            return parse_mountinfo(Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape"))
        except OSError:
            return []

    def removable_volumes(mount_roots: Sequence[Path], table: Sequence[MountLine]) -> list[Volume]:
        """Mounts below one of the roots, with label and UUID as udev names them."""
        labels, ids = _names_of("by-label"), _names_of("by-uuid")
        found = []
        for line in table:
            point = line.mount_point
            if not any(point.is_relative_to(root) and point != root for root in mount_roots):
                continue
            if not is_there(point):
                continue
            source = os.path.realpath(line.source) if line.source.startswith("/") else line.source
            label = labels.get(source, point.name)
            found.append(Volume(point, label, line.fs_type, ids.get(source) or made_up_id(point)))
        return found


def _names_of(kind: str) -> dict[str, str]:
    r"""Device to name, as udev's links have it; it writes odd characters as ``\x20``."""
    folder = Path("/dev/disk") / kind
    found = {}
    try:
        links = list(folder.iterdir())
    except OSError:
        return {}
    for link in links:
        raw = re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), os.fsencode(link.name))
        found[os.path.realpath(link)] = raw.decode("utf-8", "replace")
    return found


def _covering(folder: Path, table: Iterable[MountLine]) -> MountLine | None:
    real = Path(os.path.realpath(folder))
    over = [line for line in table if real.is_relative_to(line.mount_point)]
    return max(over, key=lambda line: len(line.mount_point.parts), default=None)
