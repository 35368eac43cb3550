"""What lies on a card: which volumes are cameras, which camera it is, which files are footage."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from liuhen_dock.driver import CameraDriver
from liuhen_dock.errors import CardGone, DockError, FileChanged, ReadFault
from liuhen_dock.journal import FileKey
from liuhen_dock.mounts import Volume, is_there
from liuhen_dock.names import shown
from liuhen_dock.profiles import NameFacts, Profile
from liuhen_dock.zfy import ZfyInfo

MAX_DEPTH = 6
MAX_FILES = 200_000


@dataclass(frozen=True)
class Footage:
    """One file of footage on a card."""

    key: FileKey
    path: Path
    facts: NameFacts

    @property
    def name(self) -> str:
        """The last part, as the card has it."""
        return self.path.name

    @property
    def size_bytes(self) -> int:
        return self.key.size_bytes

    def require_same(self, found: os.stat_result, *, stable_inodes: bool) -> None:
        """Require a file to be the one that was seen.

        Raises:
            FileChanged: It is another, or no regular file any more.
        """
        now = (found.st_size, found.st_mtime_ns, found.st_ino if stable_inodes else 0)
        if not stat.S_ISREG(found.st_mode) or now != (
            self.key.size_bytes,
            self.key.mtime_ns,
            self.key.inode,
        ):
            raise FileChanged(f"{shown(self.name)}: expected the file as it was seen, found it changed")


@dataclass
class Camera:
    """A camera in the dock."""

    volume: Volume
    profile: Profile
    driver: CameraDriver
    root: Path
    root_device: int | None = None
    """The file system that lay at the root when the camera was met."""
    device_no: str | None = None
    officer_no: str | None = None
    device_clock: datetime | None = None
    dock_clock: datetime | None = None
    """When the device's clock was read, by the dock's."""
    info: ZfyInfo | None = None
    clock_was_set: bool = False
    """After the offset had been read."""
    battery_percent: int | None = None
    firmware: str | None = None
    notes: list[DockError] = field(default_factory=list)
    """What could not be learnt, and did not keep the footage from going."""

    @property
    def device(self) -> str:
        """What the journal calls it: its number, or its volume when it has none."""
        return self.device_no or f"volume:{self.volume.volume_id}"

    def is_there(self) -> bool:
        """Whether the very card is still in."""
        return is_there(self.root, self.root_device)

    @property
    def clock_offset_s(self) -> float | None:
        """Device minus dock; None when the clock cannot be read."""
        if self.device_clock is None or self.dock_clock is None:
            return None
        return (self.device_clock - self.dock_clock).total_seconds()

    def space(self) -> tuple[int, int] | None:
        """Capacity and free bytes of the volume."""
        try:
            usage = shutil.disk_usage(self.root)
        except OSError:
            return None
        return usage.total, usage.free


def profile_of(volume: Volume, profiles: Sequence[Profile]) -> Profile | None:
    """The first profile all of whose conditions the volume meets; None when it is no camera we know."""
    return next((profile for profile in profiles if _fits(volume, profile)), None)


def _fits(volume: Volume, profile: Profile) -> bool:
    if profile.label is not None and profile.label.search(volume.label) is None:
        return False
    if not any((volume.root / folder).is_dir() for folder in profile.folders):
        return False
    if profile.zfy_file is not None and not (volume.root / profile.zfy_file).is_file():
        return False
    if not profile.needs_named:
        return True
    return any(profile.read_name(path.name).is_known for path, _ in _walk(volume.root, profile))


def device_from_names(footage: Iterable[Footage]) -> str | None:
    """The device number all names that tell one agree on.

    Raises:
        DockError: Code ``device_conflict``: they name several; none of them is believed.
    """
    told = {each.facts.device_no for each in footage if each.facts.device_no}
    if len(told) > 1:
        raise DockError(
            f"device: expected one number in the names, found {len(told)}", code="device_conflict"
        )
    return next(iter(told), None)


def identify(camera: Camera, names: Iterable[Footage]) -> None:
    """Find out which camera it is and who has it: slot, then ZFY_INFO, then names. Notes go on the camera."""
    info = camera.info
    camera.device_no = camera.volume.slot_device_no or (info.serial if info is not None else None) or None
    camera.officer_no = (info.user_no if info is not None else None) or None
    if camera.device_no is None:
        try:
            camera.device_no = device_from_names(names)
        except DockError as error:
            camera.notes.append(error)
    if camera.device_no is None:
        camera.notes.append(DockError("device: expected a number, found none", code="device_unknown"))


def scan(camera: Camera) -> list[Footage]:
    """Every file of footage on the card now.

    Raises:
        CardGone: The card is not there any more.
        ReadFault: It is there and its folders cannot be read.
    """
    found = []
    try:
        for path, status in _walk(camera.root, camera.profile):
            key = FileKey(
                camera.device,
                path.relative_to(camera.root).as_posix(),
                status.st_size,
                status.st_mtime_ns,
                status.st_ino if camera.volume.has_stable_inodes else 0,
            )
            found.append(Footage(key, path, camera.profile.read_name(path.name)))
            if len(found) >= MAX_FILES:
                break
    except OSError as error:
        if not camera.is_there():
            raise CardGone(f"{shown(str(camera.root))}: expected the card, found it gone") from error
        raise ReadFault(
            f"{shown(str(camera.root))}: expected readable folders, found {error.strerror}"
        ) from error
    if not camera.is_there():
        raise CardGone(f"{shown(str(camera.root))}: expected the card, found it empty")
    return found


def newest_key_files_first(footage: Iterable[Footage]) -> list[Footage]:
    """The order of uploading: key files, newest first, then the others, newest first (D3)."""
    return sorted(footage, key=lambda each: (not each.facts.is_key, -each.key.mtime_ns, each.key.path))


def key_files_last(footage: Iterable[Footage]) -> list[Footage]:
    """The order of freeing: oldest first, key files after everything else (6.2, rule 5)."""
    return sorted(footage, key=lambda each: (each.facts.is_key, each.key.mtime_ns, each.key.path))


def _walk(root: Path, profile: Profile) -> Iterator[tuple[Path, os.stat_result]]:
    """Regular files of footage below the profile's folders, each once; links are not followed."""
    if not is_there(root):
        raise FileNotFoundError(root)
    seen: set[Path] = set()
    for folder in profile.folders:
        yield from _below(root / folder, profile, seen, MAX_DEPTH)


def _below(
    folder: Path, profile: Profile, seen: set[Path], depth: int
) -> Iterator[tuple[Path, os.stat_result]]:
    if folder in seen or depth == 0:
        return
    seen.add(folder)
    try:
        with os.scandir(folder) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if not entry.name.startswith("."):
                yield from _below(folder / entry.name, profile, seen, depth - 1)
        elif profile.is_footage(entry.name) and entry.is_file(follow_symlinks=False):
            try:
                # Not the entry's own: Windows leaves times and inode of a listing incomplete.
                yield folder / entry.name, os.lstat(folder / entry.name)
            except FileNotFoundError:
                continue
