"""What a camera can be asked, by the verbs vendors' PC drivers have in common (rules D8-D10).

`MassStorageDriver` is the one that is shipped: a camera that is a disk. A vendor's library is
plugged in by a profile's ``driver = "module:factory"``; the factory takes the volume and the
profile and returns a `CameraDriver`. No vendor driver is shipped, because none could be tried.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Protocol

from liuhen_dock.errors import ConfigError, DockError, NotOffered
from liuhen_dock.mounts import Volume
from liuhen_dock.profiles import MASS_STORAGE, Profile
from liuhen_dock.zfy import SIZE_BYTES, ZfyInfo


class CameraDriver(Protocol):
    """One camera. Reading verbs return None for what the camera cannot tell; a verb that would
    have to act and cannot raises `NotOffered`. Called from one thread at a time."""

    def init_device(self) -> None:
        """``Init_Device``: make contact."""
        ...

    def id_code(self) -> str | None:
        """``GetIDCode``: maker and model, 6 or 8 bytes."""
        ...

    def read_info(self) -> ZfyInfo | None:
        """``GetZFYInfo``: what the camera says of itself and its holder."""
        ...

    def write_info(self, info: ZfyInfo) -> None:
        """``WriteZFYInfo``."""
        ...

    def read_clock(self) -> datetime | None:
        """The camera's clock now, aware. Not among the common verbs; a hook for those that can."""
        ...

    def sync_time(self, at: datetime) -> None:
        """``SyncDevTime``: set the camera's clock."""
        ...

    def become_mass_storage(self) -> Path:
        """``SetMSDC``: show the files as a disk; where they are."""
        ...

    def resolution(self) -> tuple[int, int] | None:
        """``ReadDeviceResolution``: width and height in pixels."""
        ...

    def battery_percent(self) -> int | None:
        """``ReadDeviceBatteryDumpEnergy``."""
        ...

    def firmware(self) -> str | None:
        """Version of the firmware."""
        ...

    def open_file(self, path: Path) -> io.RawIOBase:
        """Open a file of the camera for reading, without a buffer."""
        ...


class MassStorageDriver:
    """A camera that is a disk: it has files, and no clock, battery or settings one could ask."""

    def __init__(self, volume: Volume, profile: Profile) -> None:
        self._volume = volume
        self._profile = profile

    def init_device(self) -> None:
        """The mount is the contact."""

    def id_code(self) -> str | None:
        return None

    def read_info(self) -> ZfyInfo | None:
        """The dump file, where the profile names one and it is there.

        Raises:
            DockError: Code ``zfy_unreadable``: it is there and is none.
        """
        if self._profile.zfy_file is None:
            return None
        path = self._volume.root / self._profile.zfy_file
        try:
            with self.open_file(path) as file:
                raw = file.read(SIZE_BYTES + 1) or b""
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DockError(f"ZFY_INFO: {error.strerror}", code="zfy_unreadable") from error
        return ZfyInfo.parse(raw)

    def write_info(self, info: ZfyInfo) -> None:  # noqa: ARG002
        raise NotOffered("ZFY_INFO: a mass-storage camera cannot be written to")

    def read_clock(self) -> datetime | None:
        return None

    def sync_time(self, at: datetime) -> None:  # noqa: ARG002
        raise NotOffered("clock: a mass-storage camera cannot be set")

    def become_mass_storage(self) -> Path:
        return self._volume.root

    def resolution(self) -> tuple[int, int] | None:
        return None

    def battery_percent(self) -> int | None:
        return None

    def firmware(self) -> str | None:
        return None

    def open_file(self, path: Path) -> io.RawIOBase:
        flags = os.O_RDONLY
        if sys.platform == "win32":
            flags |= os.O_BINARY | os.O_NOINHERIT | os.O_SEQUENTIAL
        else:
            # A link on a card leads nowhere, and opening a pipe must not wait for a writer.
            flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(path, flags)
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # advice alone; some file systems take none
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        return io.FileIO(descriptor, "rb", closefd=True)


def driver_for(volume: Volume, profile: Profile) -> CameraDriver:
    """The driver a profile names.

    Raises:
        ConfigError: Code ``driver_missing``: its module is not installed, or holds no such factory.
    """
    if profile.driver == MASS_STORAGE:
        return MassStorageDriver(volume, profile)
    module_name, _, factory_name = profile.driver.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"profile {profile.name}: driver {profile.driver!r}: expected module:factory, found {error}",
            code="driver_missing",
        ) from error
    driver: CameraDriver = factory(volume, profile)
    return driver
