"""See that there is a Chromium for the browser test; install it with apt where that is allowed.

    python3 tools/browser.py

Only the browser test needs it. ``CHROMIUM=/path`` names one that is not on the path.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from house import CACHE, ROOT, fail, last_lines, run_logged, say

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TYPE_THIS = "sudo apt-get update && sudo apt-get install -y chromium"


def find_browser() -> str | None:
    """The browser to drive: what ``CHROMIUM`` names, else the first known name on the path."""
    named = os.environ.get("CHROMIUM")
    if named:
        return named if Path(named).is_file() else None
    return next((found for found in map(shutil.which, NAMES) if found), None)


def apt_prefix() -> list[str] | None:
    """What to put before ``apt-get``: nothing for root, ``sudo -n`` where it asks nothing; else None."""
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return [sudo, "-n"]
    return None


def main() -> None:
    if find_browser():
        return
    if os.environ.get("CHROMIUM"):
        fail(
            f"CHROMIUM 指向的文件不存在:{os.environ['CHROMIUM']}",
            f"CHROMIUM names no file: {os.environ['CHROMIUM']}",
            "unset CHROMIUM",
        )
    prefix = apt_prefix()
    if prefix is None:
        fail("浏览器测试需要 Chromium", "the browser test needs Chromium; type this once", TYPE_THIS)
    say("用 apt 安装 Chromium(仅浏览器测试需要)", "installing Chromium with apt (for the browser test alone)")
    log = CACHE / "chromium.log"
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        if run_logged([*prefix, "apt-get", *step], log, environment=quiet) != 0:
            fail(
                "无法安装 Chromium",
                f"apt-get {step[0]} failed; the end of {log.relative_to(ROOT)}:\n{last_lines(log)}",
                TYPE_THIS,
            )
    if not find_browser():
        fail("仍未找到 Chromium", "apt-get installed no chromium on the path", TYPE_THIS)


if __name__ == "__main__":
    main()
