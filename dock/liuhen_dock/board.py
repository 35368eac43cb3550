"""What is going on, for whoever looks: the terminal, the page, `liuhen-dock status`."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from liuhen_dock import __version__
from liuhen_dock.clock import Clock
from liuhen_dock.errors import DockError
from liuhen_dock.wording import NOTES, STATES, State, advice

RATE_WINDOW_S = 10.0
MAX_PROBLEMS = 50


@dataclass
class Panel:
    """One camera."""

    name: str
    """Where it is: the root of its volume."""
    label: str
    profile: str = ""
    device_no: str | None = None
    officer_no: str | None = None
    state: State = State.IDENTIFYING
    files_total: int = 0
    files_sent: int = 0
    files_receipted: int = 0
    files_freed: int = 0
    bytes_total: int = 0
    bytes_sent: int = 0
    """Of files that are whole on the server."""
    current_file: str | None = None
    current_size_bytes: int = 0
    current_sent_bytes: int = 0
    clock_offset_s: float | None = None
    battery_percent: int | None = None
    firmware: str | None = None
    problems: dict[tuple[str, str], str] = field(default_factory=dict)
    """Code and file (or nothing) to the line of the log."""

    @property
    def has_all_receipts(self) -> bool:
        """Whether every file of the card has its receipt."""
        return self.files_total > 0 and self.files_receipted >= self.files_total


class Board:
    """The panels of all cameras. Safe for threads; readers get copies."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._panels: dict[str, Panel] = {}
        self._ignored: dict[str, str] = {}
        self._server: DockError | None = None
        self._samples: deque[tuple[float, int]] = deque()
        self._acknowledged = 0
        self.limit_bytes_per_s: int | None = None

    def panel(self, name: str, label: str) -> None:
        """A camera is there, with a clean panel."""
        with self._lock:
            self._panels[name] = Panel(name, label)

    def remove(self, name: str) -> None:
        """A camera was taken out with nothing left to do for it."""
        with self._lock:
            self._panels.pop(name, None)

    def update(self, name: str, **facts: Any) -> None:
        """Change what is shown of a camera; of one that was removed nothing is shown any more."""
        with self._lock:
            panel = self._panels.get(name)
            if panel is None:
                return
            for fact, value in facts.items():
                if not hasattr(panel, fact):
                    raise AttributeError(fact)
                setattr(panel, fact, value)

    def problem(self, name: str, error: DockError, file: str = "") -> None:
        """Something a person should know about a camera."""
        with self._lock:
            panel = self._panels.get(name)
            if panel is not None and len(panel.problems) < MAX_PROBLEMS:
                panel.problems[(error.code, file)] = error.message

    def solved(self, name: str, file: str) -> None:
        """What was said of a file no longer holds."""
        with self._lock:
            panel = self._panels.get(name)
            if panel is not None:
                panel.problems = {key: text for key, text in panel.problems.items() if key[1] != file}

    def server(self, error: DockError | None) -> None:
        """How the server does; None is well."""
        with self._lock:
            self._server = error

    def ignored(self, volumes: dict[str, str]) -> None:
        """Volumes that are no camera by any profile, by root, with their labels."""
        with self._lock:
            self._ignored = dict(volumes)

    def acknowledged(self, more_bytes: int) -> None:
        """Bytes that reached the server's disk, for the rate."""
        with self._lock:
            self._acknowledged += more_bytes
            self._samples.append((self._clock.monotonic(), self._acknowledged))
            # Here as well: a dock nobody looks at runs for months.
            self._forget_old_samples()

    def snapshot(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        with self._lock:
            return {
                "version": __version__,
                "at": self._clock.now().isoformat(timespec="seconds"),
                "server": None
                if self._server is None
                else _problem(self._server.code, "", self._server.message),
                "rate_bytes_per_s": self._rate(),
                "limit_bytes_per_s": self.limit_bytes_per_s,
                "ignored": [{"root": root, "label": label} for root, label in sorted(self._ignored.items())],
                "cameras": [self._shown(panel) for _, panel in sorted(self._panels.items())],
            }

    def states(self) -> dict[str, State]:
        """State by camera."""
        with self._lock:
            return {name: panel.state for name, panel in self._panels.items()}

    def _forget_old_samples(self) -> float:
        """Keep those of the window; the time that it ends at."""
        now = self._clock.monotonic()
        while self._samples and self._samples[0][0] < now - RATE_WINDOW_S:
            self._samples.popleft()
        return now

    def _rate(self) -> int:
        now = self._forget_old_samples()
        if len(self._samples) < 2:
            return 0
        (since, before), (_, after) = self._samples[0], self._samples[-1]
        return round((after - before) / max(0.1, now - since))

    @staticmethod
    def _shown(panel: Panel) -> dict[str, Any]:
        facts = {
            name: getattr(panel, name)
            for name in (
                "name", "label", "profile", "device_no", "officer_no", "files_total", "files_sent",
                "files_receipted", "files_freed", "bytes_total", "bytes_sent", "current_file",
                "current_size_bytes", "current_sent_bytes", "clock_offset_s", "battery_percent", "firmware",
            )
        }  # fmt: skip
        words = STATES[panel.state]
        return {
            **facts,
            "state": str(panel.state),
            "state_zh": words.zh,
            "state_en": words.en,
            "may_unplug": words.may_unplug,
            "all_receipted": panel.has_all_receipts,
            "problems": [_problem(code, file, text) for (code, file), text in panel.problems.items()],
        }


def _problem(code: str, file: str, message: str) -> dict[str, Any]:
    said = advice(code)
    return {"code": code, "file": file, "detail": message, "zh": said.zh, "en": said.en,
            "do_zh": said.do_zh, "do_en": said.do_en, "is_note": code in NOTES}  # fmt: skip
