"""What the set-up scripts share: where things lie, how they speak, how they run a program.

The scripts in this folder run before anything is installed, so they use the standard library
alone. They never name a package index: pip and npm read the user's own configuration, which is
how a mirror works, and ``WHEELS=folder`` replaces every index by a folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements"
OLDEST_PYTHON = (3, 11)


def say(zh: str, en: str) -> None:
    """One line for people, in both languages."""
    print(f"  {zh} · {en}", flush=True)


def fail(zh: str, en: str, todo: str | None = None) -> NoReturn:
    """Say what is wrong and what to type, then end with status 1."""
    print(f"\n✗ {zh}\n  {en}", file=sys.stderr)
    if todo:
        print(f"  → {todo}", file=sys.stderr)
    sys.exit(1)


def check_python() -> None:
    """End with one clear line unless this Python is new enough and can make environments."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    wanted = ".".join(str(part) for part in OLDEST_PYTHON)
    if sys.version_info < OLDEST_PYTHON:
        fail(
            f"需要 Python ≥ {wanted},找到的是 {found}",
            f"Python {wanted} or newer is needed, found {found}",
            "make setup PYTHON=/path/to/python3.11",
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        fail("缺少 venv 模块", "the venv module is missing", "apt-get install python3-venv")


def file_digest(path: Path) -> str | None:
    """SHA-256 of a file in hex, or None when there is no such file."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def digest_of(*parts: str | Path) -> str:
    """One digest over texts and the contents of files, in order."""
    total = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode()
        total.update(len(content).to_bytes(8, "big") + content)
    return total.hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in place at once: a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)


@contextmanager
def only_one() -> Iterator[None]:
    """Hold the set-up lock, so that two `make` at once do not install over each other."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("另一个安装正在进行,等待", "waiting for another set-up to finish")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def index_options() -> list[str]:
    """pip's options for where packages come from: none, or only the folder ``WHEELS`` names."""
    wheels = os.environ.get("WHEELS")
    if not wheels:
        return []
    folder = Path(wheels).expanduser().resolve()
    if not folder.is_dir():
        fail(f"WHEELS 不是文件夹:{folder}", f"WHEELS is not a folder: {folder}", "make bundle")
    return ["--no-index", "--find-links", str(folder)]


def run_logged(
    arguments: list[str | Path],
    log: Path,
    *,
    on_line: Callable[[str], None] | None = None,
    cwd: Path = ROOT,
    environment: dict[str, str] | None = None,
) -> int:
    """Run a program, keep its output in a file, and hand each line on as it comes."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as kept:
        child = subprocess.Popen(
            [str(argument) for argument in arguments],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        try:
            for line in child.stdout or ():
                kept.write(line)
                if on_line:
                    on_line(line.rstrip("\n"))
            return child.wait()
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()


def last_lines(log: Path, count: int = 12) -> str:
    """The end of a log, indented, for an error message."""
    lines = log.read_text(encoding="utf-8").splitlines()[-count:]
    return "\n".join(f"    {line[:200]}" for line in lines)


class Counter:
    """A count that grows in place on a terminal and stays silent elsewhere."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.started = time.monotonic()
        self.live = sys.stdout.isatty()

    def step(self, name: str) -> None:
        """One more of them: ``name``."""
        self.done = min(self.done + 1, self.total)
        self.show(name)

    def show(self, text: str) -> None:
        """Show ``text`` beside the count."""
        if self.live:
            print(f"\r\033[K    {self.done}/{self.total} {text[:60]}", end="", flush=True)

    def close(self) -> float:
        """Wipe the line; seconds it took."""
        if self.live:
            print("\r\033[K", end="", flush=True)
        return time.monotonic() - self.started
