"""A watched folder with all that can be wrong with one, over a real object store."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from config.settings import FolderSettings
from evidence.errors import Conflict, FixityError, InvalidInput, Unavailable
from evidence.kinds import ClaimSource
from ingest.sources.base import StagedFile
from ingest.sources.copying import FileState, copy_whole
from ingest.sources.folder import MAX_DEPTH, FolderSource, ScanResult
from ingest.sources.journal import TakenJournal
from ingest.sources.sidecar import read_sidecar
from storage.objects.local import LocalObjectStore

AGENCY = "0190a0000000700080000000000000aa"
NAME = "DSJ_0000001_123456_20240304_091530_IMP.mp4"


@dataclass
class Desk:
    """A folder, a store, and what was handed in: intake without its rows."""

    tmp_path: Path
    folder: Path = field(init=False)
    store: LocalObjectStore = field(init=False)
    accepted: list[StagedFile] = field(default_factory=list)
    failing: list[Exception] = field(default_factory=list)
    now_s: float = 1000.0
    settings: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = self.tmp_path / "card"
        self.folder.mkdir()
        self.store = LocalObjectStore.create(self.tmp_path / "objects")
        self.restart()

    def restart(self, **settings: object) -> None:
        self.settings |= settings
        self.source = FolderSource(
            FolderSettings(path=self.folder, settle_s=10, **self.settings),  # type: ignore[arg-type]
            staging_dir=self.store.staging_dir,
            seen=TakenJournal(self.tmp_path / "taken.jsonl"),
            accept=self.accept,
            reserve=self.store.reserve,
            monotonic_s=lambda: self.now_s,
        )

    def accept(self, staged: StagedFile) -> None:
        if self.failing:
            raise self.failing.pop(0)
        self.store.adopt(staged.path, staged.sha256, staged.size_bytes, AGENCY)
        self.accepted.append(staged)

    def put(self, name: str | bytes, content: bytes = b"footage") -> Path:
        path = self.folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def settle(self) -> ScanResult:
        """One look, a pause long enough, another look."""
        self.source.scan_once()
        self.now_s += 10
        return self.source.scan_once()

    def digests(self) -> list[str]:
        return sorted(staged.sha256.hex() for staged in self.accepted)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_settled_file_is_taken_once_and_left_as_it_was(desk: Desk) -> None:
    path = desk.put(f"2024-03-04/{NAME}", b"footage" * 300_000)
    before = path.stat()
    assert desk.source.scan_once().settling == [NAME]
    assert desk.accepted == []
    assert desk.settle().taken == [NAME]
    assert desk.digests() == [sha(b"footage" * 300_000)]
    assert desk.accepted[0].original_name_raw == NAME.encode()
    assert (path.stat().st_mtime_ns, path.stat().st_mode) == (before.st_mtime_ns, before.st_mode)
    assert desk.settle().taken == []
    assert list(desk.store.staging_dir.iterdir()) == []
    assert sorted(os.listdir(desk.folder)) == ["2024-03-04"]  # noqa: PTH208


def test_growing_file_is_not_taken_until_it_rests(desk: Desk) -> None:
    path = desk.put("a.mp4", b"1")
    for piece in range(3):
        desk.now_s += 9
        with path.open("ab") as file:
            file.write(b"%d" % piece)
        assert desk.source.scan_once().taken == []
    assert desk.settle().taken == ["a.mp4"]
    assert desk.digests() == [sha(b"1012")]


def test_file_that_grows_after_it_was_taken_is_taken_again(desk: Desk) -> None:
    path = desk.put("a.mp4", b"first part")
    desk.settle()
    path.write_bytes(b"first part and the rest")
    desk.settle()
    assert desk.digests() == sorted([sha(b"first part"), sha(b"first part and the rest")])


@pytest.mark.parametrize(
    "name", ["a.mp4.part", "a.tmp", "A.MP4.FILEPART", "a.mp4.crdownload", ".a.mp4.Xy12", "a.mp4~"]
)
def test_name_of_an_unfinished_file_waits_for_its_rename(desk: Desk, name: str) -> None:
    path = desk.put(name)
    assert desk.settle().taken == []
    path.rename(desk.folder / "a.mp4")
    assert desk.settle().taken == ["a.mp4"]


@pytest.mark.parametrize("marker", ["a.mp4.ok", "a.ok"])
def test_marker_says_when_a_file_is_whole(desk: Desk, marker: str) -> None:
    desk.restart(marker_suffix=".ok")
    desk.put("a.mp4")
    assert desk.settle().taken == []
    desk.put(marker, b"")
    assert desk.source.scan_once().taken == ["a.mp4"]
    assert desk.settle().taken == []


def test_file_that_changes_while_it_is_read_is_not_taken(desk: Desk, tmp_path: Path) -> None:
    path = desk.put("a.mp4", b"x" * 100)
    state = FileState.of(path.stat())

    def reserve(_: int) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    with pytest.raises(Conflict) as caught:
        copy_whole(path, tmp_path / "staged", expected=state, reserve=reserve)
    assert caught.value.code == "source_changed"
    assert not (tmp_path / "staged").exists()


def test_file_that_is_replaced_or_vanishes_while_it_is_read_is_not_taken(desk: Desk, tmp_path: Path) -> None:
    path = desk.put("a.mp4", b"x" * 100)
    for change in (path.unlink, lambda: desk.put("b.mp4", b"y" * 100).rename(path)):
        path.write_bytes(b"x" * 100)
        with pytest.raises(Conflict):
            copy_whole(path, tmp_path / "staged", reserve=lambda _, change=change: change())
        assert not (tmp_path / "staged").exists()


def test_file_that_vanishes_is_forgotten_and_the_rest_goes_on(desk: Desk) -> None:
    path = desk.put("a.mp4")
    desk.put("b.mp4", b"other")
    desk.source.scan_once()
    path.unlink()
    desk.now_s += 10
    assert desk.source.scan_once().taken == ["b.mp4"]


def test_renamed_file_is_a_new_arrival_of_the_same_bytes(desk: Desk) -> None:
    path = desk.put("a.mp4")
    desk.settle()
    path.rename(desk.folder / "b.mp4")
    desk.settle()
    assert [staged.original_name_raw for staged in desk.accepted] == [b"a.mp4", b"b.mp4"]
    assert len({staged.reception_key for staged in desk.accepted}) == 2
    assert len(set(desk.digests())) == 1


def test_unreadable_file_does_not_hold_up_the_others(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.put("a.mp4")
    desk.put("b.mp4", b"other")
    real_open = os.open

    def refuse(path: object, *args: object, **kwargs: object) -> int:
        if str(path).endswith("a.mp4"):
            raise PermissionError(13, "Permission denied")
        return real_open(path, *args, **kwargs)  # type: ignore[arg-type]

    # Root reads everything, so the refusal of the kernel is played.
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        result = desk.settle()
    assert (result.taken, result.failed) == (["b.mp4"], {"a.mp4": "source_unreadable"})
    for _ in range(4):
        desk.source.scan_once()
    assert sha(b"footage") in desk.digests()


def test_links_and_specials_are_never_opened(desk: Desk, tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"secret")
    (desk.folder / "link.mp4").symlink_to(secret)
    (desk.folder / "loop").symlink_to(desk.folder)
    os.mkfifo(desk.folder / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(desk.folder / "sock.mp4"))
        result = desk.settle()
    assert result.taken == []
    assert result.skipped == ["link.mp4", "loop", "pipe.mp4", "sock.mp4"]
    with pytest.raises(InvalidInput):
        copy_whole(desk.folder / "pipe.mp4", tmp_path / "staged")
    with pytest.raises(Unavailable):
        copy_whole(desk.folder / "link.mp4", tmp_path / "staged")


def test_folder_that_goes_away_is_waited_for(desk: Desk) -> None:
    desk.put("a.mp4")
    desk.source.scan_once()
    away = desk.tmp_path / "away"
    desk.folder.rename(away)
    assert desk.settle().is_gone
    assert desk.source.is_gone
    away.rename(desk.folder)
    assert desk.settle().taken == ["a.mp4"]
    assert not desk.source.is_gone


def test_file_with_its_old_time_put_back_is_taken_again(desk: Desk) -> None:
    path = desk.put(NAME, b"the first recording")
    before = path.stat()
    desk.settle()
    path.write_bytes(b"another of its size")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert desk.settle().taken == [NAME]
    assert len({staged.reception_key for staged in desk.accepted}) == 2


def test_restart_does_not_take_again(desk: Desk) -> None:
    desk.put("a.mp4")
    desk.settle()
    desk.restart()
    assert desk.settle().taken == []
    assert len(desk.accepted) == 1


def test_lost_journal_only_means_another_reception_under_the_same_key(desk: Desk) -> None:
    desk.put("a.mp4")
    desk.settle()
    (desk.tmp_path / "taken.jsonl").unlink()
    desk.restart()
    desk.settle()
    first, second = desk.accepted
    assert first.reception_key == second.reception_key
    assert first.sha256 == second.sha256


def test_journal_survives_a_torn_line_and_drops_the_oldest(tmp_path: Path) -> None:
    journal = TakenJournal(tmp_path / "j")
    journal.remember("a", b"\x01" * 32)
    journal.remember("b", b"\x02" * 32)
    with (tmp_path / "j").open("ab") as file:
        file.write(b'{"key": "c", "sha')
    again = TakenJournal(tmp_path / "j")
    assert again.digest_of("b") == b"\x02" * 32
    assert again.digest_of("c") is None
    again.remember("c", b"\x03" * 32)
    assert TakenJournal(tmp_path / "j").digest_of("c") == b"\x03" * 32


def test_leftovers_of_a_dead_process_are_cleared(desk: Desk) -> None:
    desk.put("a.mp4")
    staged = desk.store.staging_dir / f"{desk.source._staging_prefix}0123"
    staged.write_bytes(b"half a copy")
    other = desk.store.staging_dir / "of somebody else"
    other.touch()
    desk.restart()
    assert not staged.exists()
    assert other.exists()


def test_hostile_names_are_taken_and_never_become_paths(desk: Desk) -> None:
    names: list[bytes] = [
        b"a\nb.mp4",
        "gpj.\u202emp4".encode(),
        "城管执法.mp4".encode("gbk"),
        b"-rf.mp4",
        b"\xff\xfe",
        b"x" * 255,
        ("长" * 84 + "ab").encode(),
        b"con.mp4 ",
        b"'; drop table item; --.mp4",
    ]
    for name in names:
        desk.put(name, b"footage of " + name)
    result = desk.settle()
    assert result.failed == {}
    assert sorted(staged.original_name_raw for staged in desk.accepted) == sorted(names)
    assert "城管执法.mp4" in result.taken
    assert all("\n" not in shown for shown in result.taken)
    assert {key.rsplit("/", 1)[-1] for key, _ in desk.store.list()} == set(desk.digests())


def test_empty_file_and_equal_files_are_all_handed_in(desk: Desk) -> None:
    desk.put("empty.mp4", b"")
    desk.put("a.mp4")
    desk.put("copy of a.mp4")
    desk.settle()
    assert len(desk.accepted) == 3
    assert len({staged.reception_key for staged in desk.accepted}) == 3


def test_sidecar_speaks_in_claims(desk: Desk) -> None:
    desk.put(NAME)
    said = {"case_no": "城综罚〔2024〕1号", "device_no": "0000009", "key_file": True, "vendor": {"x": 1}}
    desk.put(NAME.replace(".mp4", ".json"), json.dumps({**said, "sha256": sha(b"footage")}).encode())
    assert desk.settle().taken == [NAME]
    staged = desk.accepted[0]
    claims = {claim.field: claim for claim in staged.claims}
    assert claims["case_no"].value == "城综罚〔2024〕1号"
    assert claims["case_no"].source is ClaimSource.SIDECAR
    assert claims["key_file"].value == "true"
    assert staged.declared_sha256 is not None
    assert staged.declared_sha256.hex() == sha(b"footage")
    assert [code for code, _ in staged.findings] == ["sidecar_field_ignored"]


def test_sidecar_that_comes_late_is_waited_for(desk: Desk) -> None:
    desk.put("a.mp4")
    desk.source.scan_once()
    desk.now_s += 9
    desk.put("a.mp4.json", b'{"case_no": "1"}')
    desk.now_s += 1
    assert desk.source.scan_once().taken == []
    desk.settle()
    assert desk.accepted[0].claims[0].value == "1"


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"\xff\xff\xff", b"{" * 60_000, b'{"a": "' + b"x" * 70_000 + b'"}', b""]
)
def test_bad_sidecar_is_a_finding_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    sidecar = read_sidecar(tmp_path / "a.json")
    ((code, line),) = sidecar.findings
    assert code == "sidecar_unreadable"
    assert "\n" not in line
    assert sidecar.claims == ()


def test_sidecar_in_gbk_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes('{"place": "人民路"}'.encode("gbk"))
    assert read_sidecar(tmp_path / "a.json").metadata == {"place": "人民路"}


def test_device_of_the_folder_counts_only_where_nothing_better_said_it(desk: Desk) -> None:
    desk.restart(device_no="0000042", dock_no="D7")
    desk.put(NAME)
    desk.put("other.mp4", b"other")
    desk.settle()
    by_name = {staged.original_name_raw: staged for staged in desk.accepted}
    assert by_name[NAME.encode()].claims == ()
    assert [claim.value for claim in by_name[b"other.mp4"].assumed] == ["0000042"]
    assert by_name[b"other.mp4"].dock_no == "D7"


def test_full_disk_ends_the_scan_and_all_is_taken_later(desk: Desk) -> None:
    desk.put("a.mp4")
    desk.put("b.mp4", b"other")
    full = LocalObjectStore.attach(desk.store.root, desk.store.identity.store_id, floor_bytes=1 << 60)
    desk.source._reserve = full.reserve
    result = desk.settle()
    assert (result.taken, result.stopped) == ([], "disk_full")
    desk.source._reserve = desk.store.reserve
    for _ in range(3):
        desk.source.scan_once()
    assert len(desk.accepted) == 2


@pytest.mark.parametrize("failure", [FixityError("damaged"), ValueError("a bug")])
def test_file_that_intake_cannot_take_does_not_hold_up_the_others(desk: Desk, failure: Exception) -> None:
    desk.put("a.mp4")
    desk.put("b.mp4", b"other")
    desk.failing.append(failure)
    result = desk.settle()
    assert result.taken == ["b.mp4"]
    assert list(result.failed) == ["a.mp4"]
    assert list(desk.store.staging_dir.iterdir()) == []
    for _ in range(3):
        desk.source.scan_once()
    assert sha(b"footage") in desk.digests()


def test_taken_files_are_moved_only_when_told_to(desk: Desk) -> None:
    desk.restart(after_take="move", marker_suffix=".ok")
    desk.put("day/a.mp4")
    desk.put("day/a.json", b"{}")
    desk.put("day/a.mp4.ok", b"")
    desk.put("done/day/a.mp4", b"an older one")
    assert desk.source.scan_once().taken == ["a.mp4"]
    moved = {path.name: path.read_bytes() for path in (desk.folder / "done" / "day").iterdir()}
    assert moved == {"a.mp4": b"an older one", "a~1.mp4": b"footage", "a.json": b"{}", "a.mp4.ok": b""}
    assert list((desk.folder / "day").iterdir()) == []
    assert desk.settle().taken == []


@pytest.mark.parametrize("last", ["a.jpg", "a"])
def test_what_speaks_of_two_files_moves_with_the_last_of_them(desk: Desk, last: str) -> None:
    desk.restart(after_take="move", marker_suffix=".ok")
    desk.put("a.mp4")
    desk.put(f"{last}.part", b"picture")
    desk.put("a.ok", b"")
    desk.put("a.json", b'{"place": "A"}')
    assert desk.source.scan_once().taken == ["a.mp4"]
    assert {path.name for path in desk.folder.iterdir()} == {f"{last}.part", "a.ok", "a.json", "done"}
    (desk.folder / f"{last}.part").rename(desk.folder / last)
    desk.put("ab.ok", b"")
    assert desk.source.scan_once().taken == [last]
    assert [claim.value for claim in desk.accepted[1].claims] == ["A"]
    assert {path.name for path in desk.folder.iterdir()} == {"ab.ok", "done"}
    moved = {path.name for path in (desk.folder / "done").iterdir()}
    assert moved == {"a.mp4", last, "a.ok", "a.json"}


def test_folder_called_done_is_a_folder_like_others_where_nothing_is_moved(desk: Desk) -> None:
    desk.put("done/a.mp4")
    assert desk.settle().taken == ["a.mp4"]


@pytest.mark.parametrize("name", ["a.json", "day/a.mp4.json", "a.JSON"])
def test_json_that_speaks_of_no_recording_is_taken_as_a_file(desk: Desk, name: str) -> None:
    path = desk.put(name, b"{}")
    desk.put(f"{path.parent.relative_to(desk.folder)}/b.mp4")
    assert desk.settle().taken in ([path.name, "b.mp4"], ["b.mp4", path.name])


@pytest.mark.parametrize("recording", ["a.mp4", "a.mp4.part"])
@pytest.mark.parametrize("sidecar", ["a.json", "a.mp4.json", "a.mp4.JSON"])
def test_json_of_a_recording_finished_or_not_is_never_a_file(
    desk: Desk, recording: str, sidecar: str
) -> None:
    desk.put(recording)
    desk.put(sidecar, b"{}")
    assert sidecar not in desk.settle().taken
    assert len(desk.accepted) == (recording == "a.mp4")


def test_what_is_never_taken_is_logged_once(desk: Desk) -> None:
    desk.put(".hidden.mp4")
    desk.put("a.mp4.part")
    desk.put("/".join(["deep"] * (MAX_DEPTH + 1)) + "/b.mp4")
    with capture_logs() as logs:
        for _ in range(3):
            assert len(desk.settle().skipped) == 3
    told = [
        (entry["name"], entry["detail"], entry["log_level"])
        for entry in logs
        if entry["event"] == "folder:not_taken"
    ]
    assert sorted(told) == [
        (".hidden.mp4", "name of an unfinished or hidden file", "info"),
        ("a.mp4.part", "name of an unfinished or hidden file", "info"),
        ("deep", "too deep", "warning"),
    ]


def test_source_runs_until_it_is_told_to_stop(desk: Desk) -> None:
    desk.put("a.mp4")
    source = FolderSource(
        FolderSettings(path=desk.folder, settle_s=0, scan_every_s=0.01),
        staging_dir=desk.store.staging_dir,
        seen=TakenJournal(desk.tmp_path / "taken.jsonl"),
        accept=desk.accept,
    )
    stop = threading.Event()
    thread = threading.Thread(target=source.run, args=(stop,))
    thread.start()
    deadline = time.monotonic() + 10
    while not desk.accepted and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert len(desk.accepted) == 1


def test_sidecars_of_every_form_speak_and_are_no_recordings(desk: Desk) -> None:
    desk.restart()
    for name in ("A.mp4", "B.mp4", "C.mp4"):
        desk.put(name, name.encode())
    desk.put("清单.csv", "文件名,设备编号\nB.mp4,0000002\n".encode("gb18030"))
    desk.put("A.mp4.xml", b"<r><DeviceID>0000001</DeviceID></r>")
    desk.put("C.xml", b"<!DOCTYPE r []><r/>")
    desk.settle()
    by_name = {staged.original_name_raw: staged for staged in desk.accepted}
    assert set(by_name) == {b"A.mp4", b"B.mp4", b"C.mp4"}
    said = {name: [claim.value for claim in staged.claims] for name, staged in by_name.items()}
    assert said == {b"A.mp4": ["0000001"], b"B.mp4": ["0000002"], b"C.mp4": []}
    assert [code for code, _ in by_name[b"C.mp4"].findings] == ["sidecar_unreadable"]
