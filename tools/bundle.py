"""Fill a folder with everything set-up and tests download, for a machine without a network.

    .venv/bin/python tools/bundle.py FOLDER [--arch aarch64]

Carry the folder over and type ``make demo WHEELS=FOLDER`` or ``make test WHEELS=FOLDER``. The
wheels are for the Python of this environment; ``--arch`` takes those of another processor
(glibc 2.28 or newer).
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from house import CACHE, REQUIREMENTS, ROOT, fail, index_options, last_lines, run_logged, say
from packaging.markers import Marker
from web import install, npm_command, npm_environment

LOCKS = ("dev.txt", "build.txt", "weights.txt", "samples.txt", "lock.txt")
OLDEST_GLIBC, NEWEST_GLIBC = 17, 28


def platform_options(arch: str) -> list[str]:
    """pip's options to take wheels for ``arch`` instead of this machine."""
    tags = [f"manylinux2014_{arch}", f"linux_{arch}"]
    tags += [f"manylinux_2_{minor}_{arch}" for minor in range(OLDEST_GLIBC, NEWEST_GLIBC + 1)]
    return [option for tag in tags for option in ("--platform", tag)]


def without_markers(lock: Path, arch: str) -> str:
    """The lock as any patch release of this Python on ``arch`` could want it, markers removed.

    A bundle is often made on another patch release than the one that uses it, and some packages
    are needed below a patch release only; pip would judge markers by the Python that runs it.
    """
    series = f"{sys.version_info.major}.{sys.version_info.minor}"
    target = {"python_version": series, "platform_machine": arch}
    patches = [
        {**target, "python_full_version": f"{series}.{patch}"} for patch in (0, sys.version_info.micro, 99)
    ]
    kept: list[str] = []
    wanted = True
    for line in lock.read_text().splitlines():
        if not line.startswith((" ", "#")):
            pinned, _, marker = line.removesuffix("\\").partition(" ; ")
            wanted = not marker or any(Marker(marker).evaluate(patch) for patch in patches)
            if wanted:
                kept.append(f"{pinned.strip()} \\")
        elif wanted:
            kept.append(line)
    return "\n".join(kept) + "\n"


def download_wheels(folder: Path, arch: str) -> None:
    """Bring every wheel of every lock into the folder, each checked against its hash."""
    options = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--progress-bar", "off"]
    if arch != platform.machine():
        options += platform_options(arch)
    for name in LOCKS:
        log = CACHE / f"bundle-{Path(name).stem}.log"
        lock = CACHE / f"bundle-{name}"
        lock.write_text(without_markers(REQUIREMENTS / name, arch))
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", *options]
        status = run_logged([*command, "--dest", folder, "-r", lock, *index_options()], log)
        if status != 0:
            fail(f"下载失败:{name}", f"pip could not fetch {name}:\n{last_lines(log)}")
        lock.unlink()


def fill_npm_cache(folder: Path) -> None:
    """Run ``npm ci`` once with a cache in the bundle, and note the index name it was keyed by."""
    npm_cache = folder / "npm-cache"
    asked = subprocess.run(
        [*npm_command(), "config", "get", "registry"],
        env=npm_environment(), cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    log = CACHE / "bundle-npm.log"
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        status = install(Path(scratch) / "node", ["--cache", str(npm_cache)], log)
    if status != 0:
        fail("npm 下载失败", f"npm could not fetch its packages:\n{last_lines(log)}")
    (npm_cache / "index.txt").write_text(asked.stdout.strip() + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arch", default=platform.machine(), choices=("x86_64", "aarch64"))
    options = parser.parse_args()
    folder = options.folder.expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    say("收集软件包", "collecting packages")
    download_wheels(folder, options.arch)
    fill_npm_cache(folder)
    wheels = sorted(folder.glob("*.whl"))
    size_mb = sum(path.stat().st_size for path in wheels) // 1_000_000
    say(f"{len(wheels)} 个 wheel,{size_mb} MB:{folder}", f"{len(wheels)} wheels, {size_mb} MB")
    say("离线使用", f"offline: make demo WHEELS={folder}")


if __name__ == "__main__":
    main()
