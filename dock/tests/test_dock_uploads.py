"""Cards against the real upload listener: what arrives, what is freed, what is left alone."""

from __future__ import annotations

import base64
import io
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dock_support import Card, FakeClock, Server, codes, docked, footage, panel, server, write_config

from liuhen_dock.driver import MassStorageDriver
from liuhen_dock.journal import Phase
from liuhen_dock.mounts import Volume
from liuhen_dock.profiles import Profile
from liuhen_dock.zfy import ZfyInfo
from tests.integration.test_api_process import certificate
from tests.integration.tus_server import AUTH, LIMITS


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def upstream(listener: Server) -> Server:
    listener.forget()
    return listener


@pytest.fixture
def card(tmp_path: Path) -> Card:
    return Card(tmp_path / "card-1")


def config_for(upstream: Server, tmp_path: Path, *cards: Card, more: str = "", **dock: object) -> Path:
    roots = [card.root for card in cards]
    return write_config(tmp_path, upstream.run.url, upstream.issuer.public_key, *roots, more=more, **dock)


def test_two_cameras_are_uploaded_and_freed_by_their_receipts(tmp_path: Path, upstream: Server) -> None:
    cards = [Card(tmp_path / f"card-{number}", f"000000{number}") for number in (1, 2)]
    for card in cards:
        card.record(1, 2_500_000)
        card.record(2, 0)
        card.record(3, 400_000, key=True)
        (card.root / "DCIM" / "preview.thm").write_bytes(b"companion")
    path = config_for(upstream, tmp_path, *cards, free_after_receipt=True)
    sent = {**cards[0].files, **cards[1].files}
    with docked(path) as station:
        assert station.until_quiet(20)
        assert upstream.arrived == sent
        assert len(upstream.run.register.items()) == len(sent)
        for card in cards:
            assert card.left() == {"preview.thm"}
            assert panel(station, card.root)["files_freed"] == 3
        receipts = list(station.receipts.folder.rglob("*.json"))
    assert len(receipts) == len(sent)
    said = upstream.said(next(name for name in cards[1].files if "_IMP" in name))
    assert (said["device_no"], said["officer_no"], said["key_file"]) == ("0000002", "123456", "true")
    assert said["captured_from"] == "2024-03-03T09:15:30+08:00"
    assert int(said["capacity_bytes"]) > int(said["free_bytes"]) > 0
    assert "sha256" not in said, "a digest is declared only where it was known beforehand"


def test_key_files_go_first_and_then_the_newest(tmp_path: Path, upstream: Server, card: Card) -> None:
    for day, key in ((1, True), (2, False), (3, False), (4, True), (5, False)):
        card.record(day, 1000, key=key)
    with docked(config_for(upstream, tmp_path, card)) as station:
        assert station.until_quiet(20)
    days = [int(name.split("_")[3][-2:]) for name in upstream.order()]
    assert days == [4, 1, 5, 3, 2]


def test_nothing_is_freed_unless_the_configuration_allows_it(
    tmp_path: Path, upstream: Server, card: Card
) -> None:
    card.record(1)
    with docked(config_for(upstream, tmp_path, card)) as station:
        assert station.until_quiet(20)
        assert panel(station, card.root)["all_receipted"]
    assert card.left() == set(card.files)


@pytest.mark.parametrize("forgery", ["other_key", "other_item", "other_device"])
def test_forged_receipt_frees_nothing(tmp_path: Path, upstream: Server, card: Card, forgery: str) -> None:
    card.record(1, 5000)
    if forgery == "other_key":
        upstream.issuer.signing_key = Ed25519PrivateKey.generate()
    elif forgery == "other_item":
        other = "0190a000-0000-7000-8000-000000000001"
        upstream.issuer.spoil = lambda body: body.update(item=other)
    else:
        upstream.issuer.spoil = lambda body: body.update(device_no="ANOTHER")
    with docked(config_for(upstream, tmp_path, card, free_after_receipt=True)) as station:
        assert not station.until_quiet(0.3)
        assert codes(station, card.root) == {"receipt_invalid"}
        assert panel(station, card.root)["state"] == "awaiting"
        assert not list(station.receipts.folder.rglob("*.json"))
    assert card.left() == set(card.files)


def test_kept_receipt_that_was_tampered_with_frees_nothing(
    tmp_path: Path, upstream: Server, card: Card
) -> None:
    card.record(1, 5000)
    with docked(config_for(upstream, tmp_path, card)) as station:
        assert station.until_quiet(20)
        kept = next(station.receipts.folder.rglob("*.json"))
    kept.write_bytes(kept.read_bytes().replace(b'"size_bytes":5000', b'"size_bytes":5001'))
    with docked(config_for(upstream, tmp_path, card, free_after_receipt=True)) as station:
        station.until_quiet(1)
        assert "receipt_invalid" in codes(station, card.root)
    assert card.left() == set(card.files)


def test_receipt_the_server_no_longer_stands_by_frees_nothing_and_the_file_goes_up_anew(
    tmp_path: Path, upstream: Server, card: Card
) -> None:
    path = card.record(1, 5000)
    with docked(config_for(upstream, tmp_path, card)) as station:
        assert station.until_quiet(20)
    upstream.issuer.is_open = False
    with docked(config_for(upstream, tmp_path, card, free_after_receipt=True)) as station:
        assert not station.until_quiet(0.3)
        assert card.left() == {path.name}
        assert len(upstream.order()) == 2
        assert upstream.said(path.name).get("sha256") is None
        assert upstream.run.register.finished[1].metadata["sha256"], "known beforehand this time"
        upstream.issuer.is_open = True
        assert station.until_quiet(20)
    assert card.left() == set()


def test_key_file_stays_until_nothing_waits_for_a_receipt(
    tmp_path: Path, upstream: Server, card: Card
) -> None:
    key = card.record(1, 1000, key=True)
    plain = card.record(2, 2000)
    signed = upstream.issuer.get
    upstream.issuer.get = lambda upload_id, default=None: (  # type: ignore[method-assign]
        text if (text := signed(upload_id, default)) and '"size_bytes":1000,' in text else default
    )
    with docked(config_for(upstream, tmp_path, card, free_after_receipt=True)) as station:
        assert not station.until_quiet(0.3)
        assert station.journal.in_phase(Phase.RECEIPTED)[0].key.size_bytes == 1000
        assert card.left() == {key.name, plain.name}
        upstream.issuer.get = signed  # type: ignore[method-assign]
        assert station.until_quiet(20)
    assert card.left() == set()


def test_file_that_changed_after_its_receipt_is_not_freed_but_uploaded_anew(
    tmp_path: Path, upstream: Server, card: Card
) -> None:
    path = card.record(1, 5000)
    upstream.issuer.is_open = False
    with docked(config_for(upstream, tmp_path, card, free_after_receipt=True)) as station:
        assert not station.until_quiet(0.2)
        path.write_bytes(footage(5000, seed=9))
        upstream.issuer.is_open = True
        assert station.until_quiet(20)
        assert panel(station, card.root)["files_freed"] == 1
    contents = [upstream.content(each) for each in upstream.run.register.finished]
    assert contents == [card.files[path.name], footage(5000, seed=9)]


def test_card_swapped_for_one_that_looks_the_same_is_read_again_before_it_is_freed(
    tmp_path: Path, upstream: Server, card: Card
) -> None:
    path = card.record(1, 5000)
    with docked(config_for(upstream, tmp_path, card)) as station:
        assert station.until_quiet(20)
        seen = path.stat()
    with path.open("r+b") as file:
        file.write(b"other footage")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (seen.st_size, seen.st_mtime_ns)
    with docked(config_for(upstream, tmp_path, card, free_after_receipt=True)) as station:
        assert station.until_quiet(20)
    first, second = (upstream.content(each) for each in upstream.run.register.finished)
    assert first == card.files[path.name]
    assert second.startswith(b"other footage")
    assert card.left() == set()


def test_card_unmounted_from_under_its_upload_is_gone_and_not_empty(
    tmp_path: Path, upstream: Server, card: Card
) -> None:
    # A link that is turned elsewhere does what `umount` does: the same name, another file system.
    path, real = card.record(1, 4_000_000), tmp_path / "real"
    card.root.rename(real)
    card.root.symlink_to(real)

    class Unmounted(Bumpy):
        happens_at = 2 << 20

        def happen(self, path: Path) -> None:
            if not was_back.is_set():
                card.root.unlink()
                card.root.symlink_to(empty)

    was_back = threading.Event()
    with (
        TemporaryDirectory(dir="/dev/shm") as empty,
        docked(config_for(upstream, tmp_path, card), drivers=Unmounted) as station,
    ):
        thread = threading.Thread(target=station.run)
        thread.start()
        wait_until(lambda: [each["state"] for each in station.board.snapshot()["cameras"]] == ["gone"])
        (begun,) = station.journal.in_phase(Phase.OPEN)
        was_back.set()
        card.root.unlink()
        card.root.symlink_to(real)
        wait_until(lambda: panel(station, card.root)["state"] == "done")
        station.stop.set()
        thread.join(10)
        assert [each.location for each in station.journal.in_phase(Phase.RECEIPTED)] == [begun.location]
    assert upstream.arrived == {path.name: card.files[path.name]}


def test_more_cameras_than_places_all_get_their_turn(tmp_path: Path, upstream: Server) -> None:
    cards = [Card(tmp_path / f"card-{number}", f"000000{number}") for number in range(5)]
    for card in cards:
        card.record(1, 1000)
    path = config_for(upstream, tmp_path, *cards)
    path.write_text(path.read_text("utf-8").replace("request_mib = 1", "max_cameras = 1"), "utf-8")
    with docked(path) as station:
        assert station.until_quiet(20)
    assert len(upstream.arrived) == 5


class Bumpy(MassStorageDriver):
    """A camera on which something happens when a file has been read this far."""

    happens_at = 1 << 20

    def __init__(self, volume: Volume, profile: Profile) -> None:
        super().__init__(volume, profile)
        self.has_happened = False

    def happen(self, path: Path) -> None:
        raise NotImplementedError

    def open_file(self, path: Path) -> io.RawIOBase:
        return _Watched(self, path, super().open_file(path))


class _Watched(io.RawIOBase):
    def __init__(self, driver: Bumpy, path: Path, inner: io.RawIOBase) -> None:
        self._driver, self._path, self._inner = driver, path, inner

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._inner.seek(offset, whence)

    def read(self, size: int = -1) -> bytes | None:
        if self._inner.tell() >= self._driver.happens_at and not self._driver.has_happened:
            self._driver.has_happened = True
            self._driver.happen(self._path)
        return self._inner.read(size)

    def close(self) -> None:
        self._inner.close()
        super().close()


def test_file_that_changes_under_its_upload_starts_anew_and_is_never_mixed(
    tmp_path: Path, upstream: Server, card: Card
) -> None:
    path = card.record(1, 3_000_000)
    after = footage(3_000_000, seed=77)

    class Rewritten(Bumpy):
        def happen(self, path: Path) -> None:
            path.write_bytes(after)

    with docked(config_for(upstream, tmp_path, card), drivers=Rewritten) as station:
        assert station.until_quiet(20)
        assert codes(station, card.root) == set()
    assert upstream.arrived == {path.name: after}
    assert len(upstream.run.register.items()) == 1
    assert not list((upstream.run.data / "uploads").glob("*.part")), "the first upload was taken back"


def test_card_pulled_in_mid_upload_goes_on_when_it_is_back(
    tmp_path: Path, upstream: Server, card: Card
) -> None:
    path = card.record(1, 4_000_000)
    aside = tmp_path / "drawer"

    class Pulled(Bumpy):
        happens_at = 2 << 20

        def happen(self, path: Path) -> None:
            if not aside.exists() and not was_back.is_set():
                card.root.rename(aside)

    was_back = threading.Event()
    with docked(config_for(upstream, tmp_path, card), drivers=Pulled) as station:
        thread = threading.Thread(target=station.run)
        thread.start()
        wait_until(lambda: aside.exists() and panel(station, card.root)["state"] == "gone")
        assert codes(station, card.root) == {"card_gone"}
        (begun,) = station.journal.in_phase(Phase.OPEN)
        was_back.set()
        aside.rename(card.root)
        wait_until(lambda: panel(station, card.root)["state"] == "done")
        station.stop.set()
        thread.join(10)
        (ended,) = station.journal.in_phase(Phase.RECEIPTED)
    assert ended.location == begun.location, "the same upload went on"
    assert begun.prefix_bytes >= 1 << 20
    assert upstream.arrived == {path.name: card.files[path.name]}


def test_sector_that_cannot_be_read_is_told_and_the_other_files_go_on(
    tmp_path: Path, upstream: Server, card: Card
) -> None:
    sick = card.record(2, 3_000_000)
    sound = card.record(1, 1000)

    class Sick(Bumpy):
        def happen(self, path: Path) -> None:
            if path == sick:
                self.has_happened = False
                raise OSError(5, "Input/output error")

    with docked(config_for(upstream, tmp_path, card, free_after_receipt=True), drivers=Sick) as station:
        assert not station.until_quiet(20)
        shown = panel(station, card.root)
        (problem,) = (each for each in shown["problems"] if each["code"] == "card_unreadable")
        assert problem["file"].endswith(sick.name)
        assert "读不出来" in problem["zh"]
        assert shown["state"] == "attention"
    assert upstream.arrived == {sound.name: card.files[sound.name]}
    assert card.left() == {sick.name}


def test_volume_no_profile_knows_is_named_and_not_touched(
    tmp_path: Path, upstream: Server, card: Card
) -> None:
    card.write("holiday.mp4", b"private", 1)
    with docked(config_for(upstream, tmp_path, card)) as station:
        assert station.until_quiet(5)
        assert [each["root"] for each in station.board.snapshot()["ignored"]] == [str(card.root)]
    assert upstream.arrived == {}


def test_device_that_cannot_be_told_is_uploaded_and_said_plainly(
    tmp_path: Path, upstream: Server, card: Card
) -> None:
    card.record(1, 1000)
    card.device = "0000009"
    card.record(2, 1001)
    with docked(config_for(upstream, tmp_path, card)) as station:
        assert station.until_quiet(20)
        assert codes(station, card.root) == {"device_conflict", "device_unknown"}
    assert len(upstream.arrived) == 2
    assert all("device_no" not in upstream.said(name) for name in card.files)


def test_hostile_and_gbk_names_arrive_as_the_very_bytes(tmp_path: Path, upstream: Server, card: Card) -> None:
    card.record(1, 10)
    names = [
        "执法_现场.mp4".encode("gbk"),
        "\u202egnp.exe\u200b.mp4".encode(),
        b";..;rm -rf $HOME\n|`id`.mp4",
        b"\xff\xfe<script>alert(1)<!--.mp4",
        b"a" * 250 + b".mp4",
        b"=cmd|' C calc'!A0.mp4",
    ]
    for number, name in enumerate(names):
        card.write(name, b"content %d" % number)
    (card.root / "DCIM" / "link.mp4").symlink_to("/etc/hostname")
    os.mkfifo(card.root / "DCIM" / "pipe.mp4")
    with docked(config_for(upstream, tmp_path, card, free_after_receipt=True)) as station:
        assert station.until_quiet(20)
        assert all(
            text.isprintable()
            for shown in station.board.snapshot()["cameras"]
            for text in map(str, shown.values())
        )
    raw = {each.staged().original_name_raw for each in upstream.run.register.finished}
    assert raw >= set(names)
    assert card.left() == {"link.mp4", "pipe.mp4"}


class Talkative(MassStorageDriver):
    """A camera that can be asked and set."""

    set_to: list[datetime] = []  # noqa: RUF012 - the test looks at what any instance was set to

    def read_info(self) -> ZfyInfo:
        return ZfyInfo("0000042", "654321", "张三", "500101000001", "执法大队")

    def read_clock(self) -> datetime:
        return FakeClock().now() - timedelta(seconds=97.5)

    def sync_time(self, at: datetime) -> None:
        self.set_to.append(at)

    def battery_percent(self) -> int:
        return 81

    def firmware(self) -> str:
        return "V1.2.3"


def test_clock_offset_battery_and_firmware_are_sent_and_the_clock_is_set_after_reading_it(
    tmp_path: Path, upstream: Server, card: Card
) -> None:
    path = card.record(1, 1000)
    Talkative.set_to.clear()
    with docked(config_for(upstream, tmp_path, card), drivers=Talkative, clock=FakeClock()) as station:
        assert station.until_quiet(20)
        assert panel(station, card.root)["clock_offset_s"] == pytest.approx(-97.5, abs=2)
    said = upstream.said(path.name)
    offset = datetime.fromisoformat(said["device_clock"]) - datetime.fromisoformat(said["dock_clock"])
    assert offset.total_seconds() == pytest.approx(-97.5, abs=2)
    assert (said["battery_percent"], said["firmware"], said["clock_set"]) == ("81", "V1.2.3", "true")
    assert said["device_no"] == "0000042", "the camera's own record outranks the names"
    assert said["officer_no"] == "123456", "who recorded outranks who holds it now"
    assert len(Talkative.set_to) == 1


def test_driver_that_fails_keeps_no_footage_back(tmp_path: Path, upstream: Server, card: Card) -> None:
    card.record(1, 1000)

    class Broken(MassStorageDriver):
        def read_clock(self) -> datetime:
            raise ValueError("the vendor's library failed")

        def sync_time(self, at: datetime) -> None:
            raise OSError(22, "Invalid argument")

        def battery_percent(self) -> int:
            raise RuntimeError("battery")

    with docked(config_for(upstream, tmp_path, card), drivers=Broken) as station:
        assert station.until_quiet(20)
        assert codes(station, card.root) == {"driver_failed"}
    assert upstream.arrived == card.files


def test_file_that_never_rests_is_told_and_does_not_hold_the_others(
    tmp_path: Path, upstream: Server, card: Card
) -> None:
    restless = card.record(2, 1000)
    rested = card.record(1, 1000)

    class Writing(Bumpy):
        happens_at = 0

        def happen(self, path: Path) -> None:
            self.has_happened = False
            if path == restless:
                with path.open("ab") as file:
                    file.write(b"more")

    with docked(config_for(upstream, tmp_path, card), drivers=Writing) as station:
        assert not station.until_quiet(20)
        assert codes(station, card.root) == {"file_changed"}
        assert panel(station, card.root)["state"] == "attention"
    assert upstream.arrived == {rested.name: card.files[rested.name]}


def test_dump_of_zfy_info_names_the_device_and_goes_along_as_it_is(
    tmp_path: Path, upstream: Server, card: Card
) -> None:
    path = card.write("REC0001.mp4", b"footage")
    raw = ZfyInfo("0000042", "654321", "张三", "500101000001", "执法大队").packed()
    (card.root / "DCIM").rename(card.root / "REC")
    (card.root / "ZFY_INFO.BIN").write_bytes(raw)
    with docked(config_for(upstream, tmp_path, card, free_after_receipt=True)) as station:
        assert station.until_quiet(20)
        assert panel(station, card.root)["profile"] == "zfy_dump"
    said = upstream.said(path.name)
    assert (said["device_no"], said["officer_no"]) == ("0000042", "654321")
    assert base64.b64decode(said["zfy_info"]) == raw
    assert (card.root / "ZFY_INFO.BIN").read_bytes() == raw, "it was not uploaded, so it stays"
    assert not list((card.root / "REC").iterdir())


def test_limit_by_the_hour_is_kept(tmp_path: Path, upstream: Server, card: Card) -> None:
    card.record(1, 3_000_000)
    clock = FakeClock()
    more = '[[rate]]\nhours = "08:00-18:00"\nlimit_mbit_s = 2\n'
    path = config_for(upstream, tmp_path, card, more=more, timezone="UTC")
    with docked(path, clock=clock) as station:
        assert station.until_quiet(60)
    # 3 MB at 250 kB/s; the first piece of a quarter of a second goes at once.
    assert clock.passed_s >= 3_000_000 / 250_000 - 0.5
    assert upstream.arrived == card.files


def test_pause_by_the_hour_holds_everything_until_it_ends(
    tmp_path: Path, upstream: Server, card: Card
) -> None:
    card.record(1, 100_000)
    clock = FakeClock()
    more = '[[rate]]\nhours = "08:00-09:30"\nlimit_mbit_s = 0\n'
    with docked(config_for(upstream, tmp_path, card, more=more, timezone="UTC"), clock=clock) as station:
        assert station.until_quiet(60)
    assert clock.passed_s >= 30 * 60
    assert upstream.arrived == card.files


def test_refused_token_is_said_plainly_and_read_again(tmp_path: Path, upstream: Server, card: Card) -> None:
    card.record(1, 1000)
    path = config_for(upstream, tmp_path, card)
    (tmp_path / "token").write_text("some-other-secret")
    with docked(path, clock=FakeClock()) as station:
        thread = threading.Thread(target=station.run)
        thread.start()
        wait_until(lambda: (station.board.snapshot()["server"] or {}).get("code") == "token_refused")
        (tmp_path / "token").write_text("dock-1-secret")
        wait_until(lambda: bool(upstream.arrived))
        station.stop.set()
        thread.join(10)
    assert upstream.arrived == card.files


def test_upload_the_server_forgot_is_made_anew(tmp_path: Path, upstream: Server, card: Card) -> None:
    path = card.record(1, 3_000_000)

    class Forgotten(Bumpy):
        def happen(self, path: Path) -> None:
            with upstream.run.client() as client:
                for each in list(upstream.run.store):
                    if not each.is_whole:
                        client.delete(f"/uploads/{each.record.upload_id}", headers=AUTH)

    with docked(config_for(upstream, tmp_path, card), drivers=Forgotten, clock=FakeClock()) as station:
        assert station.until_quiet(20)
    assert upstream.arrived == {path.name: card.files[path.name]}
    assert len(upstream.run.register.items()) == 1


def test_full_server_is_waited_for_as_long_as_it_asks(tmp_path: Path, card: Card) -> None:
    card.record(1, 1000)
    clock = FakeClock()
    with server(tmp_path / "full", limits=replace(LIMITS, floor_bytes=1 << 60)) as full:
        with docked(config_for(full, tmp_path, card), clock=clock) as station:
            thread = threading.Thread(target=station.run)
            thread.start()
            wait_until(lambda: (station.board.snapshot()["server"] or {}).get("code") == "server_full")
            assert panel(station, card.root)["state"] == "held_up"
            wait_until(lambda: 5.0 in clock.waits)
            assert 0.25 not in clock.waits, "what the server asks for stands above our own back-off"
            full.run.store.limits = LIMITS
            wait_until(lambda: bool(full.arrived))
            wait_until(lambda: station.board.snapshot()["server"] is None)
            station.stop.set()
            thread.join(10)
        assert full.arrived == card.files


def test_tls_is_spoken_and_a_server_nobody_vouches_for_gets_no_token(tmp_path: Path, card: Card) -> None:
    card.record(1, 2_000_000)
    pair = certificate(tmp_path)
    with server(tmp_path / "tls", tls=pair) as private:
        path = config_for(private, tmp_path, card)
        with docked(path) as station:
            thread = threading.Thread(target=station.run)
            thread.start()
            wait_until(lambda: (station.board.snapshot()["server"] or {}).get("code") == "server_unreachable")
            station.stop.set()
            thread.join(10)
        assert private.arrived == {}
        path.write_text(path.read_text("utf-8").replace("[dock]", 'ca_file = "cert.pem"\n[dock]'), "utf-8")
        with docked(path) as station:
            assert station.until_quiet(20)
        assert private.arrived == card.files


def wait_until(holds: object, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
