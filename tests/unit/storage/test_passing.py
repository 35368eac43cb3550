from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storage.passing import EARLIER_LASTED_S, PREVIEWS, clear_passed, passing_folder

HOLD = """
import sys
from pathlib import Path
from storage.passing import passing_folder
with passing_folder(Path(sys.argv[1])) as folder:
    (folder / "piece").write_bytes(b"footage in clear")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_folder_of_a_process_that_was_killed_is_cleared_and_that_of_a_living_one_is_kept(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        folder = Path(holder.stdout.readline().strip())
        assert folder.parent == tmp_path / PREVIEWS
        assert folder.name.startswith(f"{holder.pid}-")
        assert clear_passed(tmp_path) == 0
        assert (folder / "piece").exists()
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    assert (folder / "piece").exists()
    assert clear_passed(tmp_path) == 1
    assert list((tmp_path / PREVIEWS).iterdir()) == []


def test_folder_is_for_its_owner_alone_and_goes_whatever_happens(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), passing_folder(tmp_path) as folder:
        assert folder.stat().st_mode & 0o077 == folder.parent.stat().st_mode & 0o077 == 0
        raise ValueError("broken")
    assert not folder.exists()


def test_nothing_to_clear_is_nothing(tmp_path: Path) -> None:
    assert clear_passed(tmp_path) == 0


def test_link_among_the_folders_is_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / PREVIEWS).mkdir()
    (tmp_path / PREVIEWS / "1-a").symlink_to(kept)
    (tmp_path / PREVIEWS / "2-b").mkdir()
    assert clear_passed(tmp_path) == 1
    assert kept.exists()


def test_folders_of_an_earlier_version_are_cleared_once_nobody_can_be_at_them(tmp_path: Path) -> None:
    long_ago = time.time() - 2 * EARLIER_LASTED_S
    linked = tmp_path / "linked"
    for name in ("linked", "preview-ab_12xyz", "preview-justnow1", "preview-of-somebody", "previews"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "piece").write_bytes(b"footage in clear")
        if name != "preview-justnow1":
            os.utime(tmp_path / name, (long_ago, long_ago))
    (tmp_path / "preview-link1234").symlink_to(linked)
    (tmp_path / "preview-file1234").write_bytes(b"no folder")
    assert clear_passed(tmp_path) == 1
    assert not (tmp_path / "preview-ab_12xyz").exists() and (linked / "piece").exists()
    left = {path.name for path in tmp_path.glob("preview*")}
    assert left == {
        "preview-justnow1", "preview-of-somebody", "previews", "preview-link1234", "preview-file1234",
    }  # fmt: skip
