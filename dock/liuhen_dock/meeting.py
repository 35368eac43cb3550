"""Meeting a camera: contact, clock, who it is, how it is. Whatever fails here, the footage still goes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from liuhen_dock import card
from liuhen_dock.card import Camera
from liuhen_dock.clock import Clock
from liuhen_dock.driver import CameraDriver
from liuhen_dock.errors import CardGone, DockError, NotOffered
from liuhen_dock.mounts import Volume, device_of, is_there
from liuhen_dock.names import shown
from liuhen_dock.profiles import Profile

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


def meet(volume: Volume, profile: Profile, driver: CameraDriver, clock: Clock, *, set_clock: bool) -> Camera:
    """Make contact, read the clock and then set it, and learn who the camera is.

    Returns:
        The camera; what could not be learnt stands in its notes.

    Raises:
        CardGone: It was pulled meanwhile.
        ReadFault: Its folders cannot be read.
        DockError: Code ``driver_failed``: no contact.
    """
    camera = Camera(volume, profile, driver, volume.root)
    try:
        driver.init_device()
        camera.root = driver.become_mass_storage()
    except OSError as error:
        if not is_there(volume.root):
            raise _gone(camera) from error
        raise DockError(f"driver: {error}", code="driver_failed") from error
    camera.root_device = device_of(camera.root)
    _compare_clocks(camera, clock)
    if set_clock:
        _set_clock(camera, clock)
    camera.info = _ask(camera, driver.read_info)
    card.identify(camera, card.scan(camera))
    code = _ask(camera, driver.id_code)
    camera.firmware = _ask(camera, driver.firmware) or code
    camera.battery_percent = _ask(camera, driver.battery_percent)
    return camera


def _compare_clocks(camera: Camera, clock: Clock) -> None:
    """Both clocks at one instant, before any setting: a clock that was set tells no offset (6.2, rule 2)."""
    camera.device_clock = _ask(camera, camera.driver.read_clock)
    if camera.device_clock is not None:
        camera.dock_clock = clock.now()
        return
    camera.notes.append(
        DockError("clock: expected the device's time, found no way to read it", code="clock_unreadable")
    )


def _set_clock(camera: Camera, clock: Clock) -> None:
    def sync_time() -> bool:
        camera.driver.sync_time(clock.now())
        return True

    camera.clock_was_set = _ask(camera, sync_time) or False
    # Of a clock that cannot even be read enough has been said.
    if not camera.clock_was_set and camera.device_clock is not None:
        camera.notes.append(DockError("clock: expected it set, found no way to", code="clock_not_set"))


def _ask(camera: Camera, verb: Callable[[], Answer]) -> Answer | None:
    """What a driver tells; None, and a note, when it cannot."""
    try:
        return verb()
    except NotOffered:
        return None
    except DockError as error:
        camera.notes.append(error)
    except Exception as error:
        # A vendor's library may raise anything.
        if not camera.is_there():
            raise _gone(camera) from error
        log.exception("%s: the driver failed", shown(str(camera.root)))
        camera.notes.append(DockError(f"driver: {type(error).__name__}: {error}", code="driver_failed"))
    return None


def _gone(camera: Camera) -> CardGone:
    return CardGone(f"{shown(str(camera.root))}: expected the card, found it gone")
