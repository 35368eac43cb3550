"""The folders of a second store: whose it is, what is appended to it, and what can be checked without us."""

from __future__ import annotations

import hashlib
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evidence.errors import Conflict, NotFound, Unavailable
from storage.second_copy import MARK, SecondStore, attached, prepare, room_folder, sums_of

NOW = datetime(2026, 3, 4, tzinfo=UTC)
LIVE = "demo/R-1/live/main_r_000000.mp4"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "second"
    made.mkdir()
    prepare(made, "store-a", NOW)
    return made


def grow(second: SecondStore, source: Path, most: int = 1 << 20) -> int:
    descriptor = os.open(source, os.O_RDONLY)
    try:
        return second.grow(LIVE, descriptor, source.stat().st_size, most)
    finally:
        os.close(descriptor)


def test_nothing_is_written_where_the_mark_is_missing(folder: Path) -> None:
    folder.rename(folder.with_name("unmounted"))
    with pytest.raises(Unavailable) as refused, attached(folder, "store-a"):
        raise AssertionError("attached to nothing")
    assert refused.value.code == "second_store_missing"
    folder.mkdir()
    with pytest.raises(Unavailable, match="mount the disk"), attached(folder, "store-a"):
        raise AssertionError("attached to an empty mount point")
    assert list(folder.iterdir()) == []


def test_a_disk_that_is_another_installations_or_damaged_is_refused(folder: Path) -> None:
    with pytest.raises(Unavailable) as refused, attached(folder, "store-b"):
        raise AssertionError("attached to another's")
    assert refused.value.code == "second_store_wrong"
    (folder / MARK).write_text('{"copy_id": 1}')
    with pytest.raises(Unavailable) as refused, attached(folder, "store-a"):
        raise AssertionError("attached without knowing to what")
    assert refused.value.code == "second_store_unreadable"


def test_a_folder_is_made_one_once_and_only_where_it_is_empty(folder: Path, tmp_path: Path) -> None:
    made = (folder / MARK).read_bytes()
    prepare(folder, "store-a", NOW)
    assert (folder / MARK).read_bytes() == made
    with pytest.raises(Unavailable, match="expected one of store store-b"):
        prepare(folder, "store-b", NOW)
    with pytest.raises(NotFound):
        prepare(tmp_path / "nowhere", "store-a", NOW)
    full = tmp_path / "full"
    full.mkdir()
    (full / "letter.txt").touch()
    with pytest.raises(Conflict, match=r"found letter\.txt"):
        prepare(full, "store-a", NOW)


def test_a_disk_that_goes_away_while_a_file_grows_takes_what_follows_nowhere_else(
    folder: Path, tmp_path: Path
) -> None:
    source = tmp_path / "first"
    source.write_bytes(b"a" * 1000)
    with attached(folder, "store-a") as second:
        assert grow(second, source) == 1000
        # Pulled out; its place is an empty folder of the root disk.
        folder.rename(folder.with_name("pulled"))
        folder.mkdir()
        source.write_bytes(b"a" * 1000 + b"b" * 500)
        grow(second, source)
    assert list(folder.iterdir()) == []


def test_a_copy_goes_on_where_it_ends_and_a_link_in_its_place_is_not_followed(
    folder: Path, tmp_path: Path
) -> None:
    source = tmp_path / "first"
    source.write_bytes(bytes(range(200)))
    with attached(folder, "store-a") as second:
        assert second.size(LIVE) is None
        assert [grow(second, source, 120), grow(second, source, 120), grow(second, source)] == [120, 200, 200]
        assert (folder / LIVE).read_bytes() == bytes(range(200))
        second.cut(LIVE, 50)
        assert second.size(LIVE) == 50
        (folder / LIVE).unlink()
        (folder / LIVE).symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").touch()
        with pytest.raises(Unavailable):
            grow(second, source)
    assert (tmp_path / "elsewhere").read_bytes() == b""


def test_the_list_beside_the_files_is_checked_by_sha256sum(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "first"
    source.write_bytes(b"footage")
    digest = hashlib.sha256(b"footage").digest()
    with attached(folder, "store-a") as second:
        for name in ("b.mp4", "a.mp4", "b.mp4"):
            grow(second, source)
            second.move(LIVE, f"demo/R-1/2026-03-04/{name}")
            second.list_digest(f"demo/R-1/2026-03-04/{name}", digest)
    day = folder / "demo" / "R-1" / "2026-03-04"
    assert sums_of(day / "SHA256SUMS") == {"a.mp4": digest.hex(), "b.mp4": digest.hex()}
    checked = ["sha256sum", "--strict", "-c", "SHA256SUMS"]
    assert subprocess.run(checked, cwd=day, capture_output=True, check=False).returncode == 0
    (day / "a.mp4").write_bytes(b"altered")
    assert subprocess.run(checked, cwd=day, capture_output=True, check=False).returncode == 1


def test_one_settles_the_files_of_a_room_at_a_time(folder: Path) -> None:
    with attached(folder, "store-a") as one, attached(folder, "store-a") as two:
        with one.alone("demo/R-1") as first, two.alone("demo/R-1") as second, two.alone("demo/R-2") as other:
            assert (first, second, other) == (True, False, True)
        with two.alone("demo/R-1") as afterwards:
            assert afterwards


@pytest.mark.parametrize("code", ["..", ".", "a/b", "../x"])
def test_a_code_of_an_agency_is_one_folder_and_no_way_out(code: str) -> None:
    agency, slash, room_no = room_folder(code, "R-1").partition("/")
    assert (slash, room_no) == ("/", "R-1")
    assert not agency.startswith(".")
