"""What docks pushed, when disks are slow, full or failing, docks go half-way, or no receipt is earned."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ftplib
import hashlib
import io
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import asyncssh
import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from evidence.errors import Unavailable
from evidence.item import FIXITY_MISMATCH
from ingest.daemon.pushed import dropbox_source
from ingest.sources.base import StagedFile
from ingest.sources.dropbox_shelf import Dock
from ingest.sources.journal import TakenJournal
from storage.db import credentials, items
from storage.db.tables import Claim, CustodyLeaf, Item
from storage.objects.base import Namespace, object_key
from storage.open import Storage
from tests.support.pushing import FOOTAGE, Desk, putting, sha, started_desk, token_of


@pytest.fixture
def desk(tmp_path: Path, sqlite_storage: Storage) -> Iterator[Desk]:
    yield from started_desk(tmp_path, sqlite_storage)


def test_pushed_file_is_freed_only_after_it_was_read_back(desk: Desk) -> None:
    desk.push_whole("a.mp4", b"footage")
    desk.take()
    assert desk.source.scan_once().freed == []
    assert len(desk.box.listed()) == 1
    desk.read_back()
    assert desk.receptions()[0].receipt is not None
    result = desk.source.scan_once()
    assert (result.freed, result.given_up) == (["a.mp4"], [])
    assert desk.names() == []
    with desk.storage.database.read() as session:
        bodies = [str(leaf.body) for leaf in session.scalars(select(CustodyLeaf))]
    assert sum('"source:freed"' in body for body in bodies) == 1, "that its name went is in the log"


# --- copies in custody ----------------------------------------------------------------------------


def test_copy_that_earns_no_receipt_is_given_up_once_read_back_and_its_name_stays(desk: Desk) -> None:
    desk.push_whole("a.mp4", b"footage")
    agency_id, token_id = token_of(desk)
    with desk.storage.database.transaction() as session:
        credentials.revoke_upload_token(session, agency_id, token_id, desk.storage.clock.now())
    assert desk.take() == ["a.mp4"]
    for _ in range(2):
        assert desk.source.scan_once().given_up == [], "rows alone are no reason: nobody read it back yet"
    assert len(desk.parts()) == 1
    desk.read_back()
    assert desk.receptions()[0].receipt is None
    result = desk.source.scan_once()
    assert (result.freed, result.given_up) == ([], ["a.mp4"])
    assert desk.parts() == []
    assert desk.names() == ["a.mp4"], "a dock that takes vanishing for a receipt is told nothing"
    assert desk.digests() == [sha(b"footage")]
    assert desk.take() == []
    desk.listeners.close()
    desk.start()
    assert (desk.take(), desk.names()) == ([], ["a.mp4"])


def test_file_whose_digest_is_another_is_kept_in_custody_and_its_names_stay(desk: Desk) -> None:
    async def push(client: asyncssh.SFTPClient, _: object) -> None:
        for name, content in (("a.mp4.sha256", sha(b"whole").encode()), ("a.mp4", b"whol")):
            async with client.open(f"{name}.part", "wb") as file:
                await file.write(content)
            await client.rename(f"{name}.part", name)

    desk.sftp(push)
    assert desk.take() == ["a.mp4"]
    desk.read_back()
    assert desk.source.scan_once().given_up == ["a.mp4"]
    assert desk.names() == ["a.mp4", "a.mp4.sha256"]
    assert desk.parts() == []
    assert desk.take() == [], "what spoke of it is no recording"
    desk.push_whole("a.mp4", b"whole")
    assert desk.take() == ["a.mp4"], "pushed again, it is another arrival"
    assert desk.digests() == sorted([sha(b"whol"), sha(b"whole")])
    desk.read_back()
    assert desk.source.scan_once().freed == ["a.mp4"]
    assert "a.mp4" not in desk.names(), "this one has its receipt"


@pytest.mark.parametrize("harm", ["flag", "gone"])
def test_copy_stays_while_what_is_in_the_store_is_in_doubt(desk: Desk, harm: str) -> None:
    desk.push_whole("a.mp4", b"footage")
    agency_id, token_id = token_of(desk)
    with desk.storage.database.transaction() as session:
        credentials.revoke_upload_token(session, agency_id, token_id, desk.storage.clock.now())
    desk.take()
    desk.read_back()
    if harm == "gone":
        key = object_key(agency_id.hex, Namespace.ORIGINAL, hashlib.sha256(b"footage").digest())
        path = desk.storage.objects.path(key)
        assert path is not None
        path.unlink()
    else:
        with desk.storage.database.transaction() as session:
            items.flag(session.query(Item).one(), FIXITY_MISMATCH, "found other bytes")
    assert desk.source.scan_once().given_up == []
    assert len(desk.parts()) == 1


def test_process_that_dies_between_rows_and_giving_up_gives_up_later_and_takes_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.push_whole("a.mp4", b"footage")
    agency_id, token_id = token_of(desk)
    with desk.storage.database.transaction() as session:
        credentials.revoke_upload_token(session, agency_id, token_id, desk.storage.clock.now())
    with monkeypatch.context() as dying:
        dying.setattr(TakenJournal, "remember", _killed)  # The rows are there, the journal is not.
        with pytest.raises(KeyboardInterrupt):
            desk.take()
    desk.listeners.close()
    desk.start()
    desk.read_back()
    desk.take()
    with monkeypatch.context() as dying:
        dying.setattr(TakenJournal, "forget", _killed)  # The bytes are gone, and it is not noted.
        with pytest.raises(KeyboardInterrupt):
            desk.take()
    desk.listeners.close()
    desk.start()
    assert desk.take() == []
    assert (desk.parts(), desk.names()) == ([], ["a.mp4"])
    assert (desk.digests(), len(desk.receptions())) == ([sha(b"footage")], 1)


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


# --- slow and full disks, docks that go ------------------------------------------------------------


@pytest.mark.parametrize("first", ["sftp", "ftp"])
def test_slow_sync_holds_up_its_own_transfer_alone_and_its_answer_comes_after_it(
    desk: Desk, first: str
) -> None:
    slow = desk.on_slow_disk()
    answered: list[str] = []

    def push_slowly() -> None:
        if first == "ftp":
            with desk.ftp() as client:
                answered.append(client.storbinary("STOR slow.part", io.BytesIO(b"footage")))
        else:
            desk.sftp(putting("slow.part", b"footage"))
            answered.append("closed")

    sender = threading.Thread(target=push_slowly)
    sender.start()
    assert slow.is_syncing.wait(10)
    began = time.monotonic()
    with desk.ftp() as client:
        assert client.size("slow.part") == 7
        assert client.storbinary("STOR a.mp4.part", io.BytesIO(b"other")).startswith("226")
        client.rename("a.mp4.part", "a.mp4")
        with pytest.raises(ftplib.error_perm, match="another transfer"):
            client.storbinary("STOR slow.part", io.BytesIO(b"two at once"))
    desk.push_whole("b.mp4", b"another")
    assert sorted(desk.take()) == ["a.mp4", "b.mp4"]
    assert time.monotonic() - began < 10
    assert (answered, sender.is_alive()) == ([], True), "nothing is said to be done before it is on disk"
    slow.let_go.set()
    sender.join(10)
    assert answered in (["closed"], ["226 stored and synced; rename it when it is whole"])
    assert [each.state for each in desk.box.listed() if each.name == b"slow.part"] == ["closed"]


def test_dock_that_goes_while_its_disk_is_slow_leaves_its_file_to_be_gone_on_with(desk: Desk) -> None:
    slow = desk.on_slow_disk()
    with desk.ftp() as client:
        data = client.transfercmd("STOR a.mp4")
        data.sendall(b"foot")
        data.unwrap()  # type: ignore[attr-defined] -- closed at once, it would throw away what was sent
        data.close()
        assert slow.is_syncing.wait(10)
    slow.let_go.set()
    desk.wait_until_closed()
    with desk.ftp() as client:
        client.sendcmd("ALLO 7")
        client.storbinary("STOR a.mp4", io.BytesIO(b"age"), rest=4)
    assert desk.take() == ["a.mp4"]
    assert desk.digests() == [sha(b"footage")]


@pytest.mark.parametrize("way", ["sftp", "ftp"])
def test_dock_that_goes_while_its_file_is_begun_leaves_it_free(desk: Desk, way: str) -> None:
    begun, going = threading.Event(), threading.Event()

    def slow(_wanted: int) -> None:
        begun.set()
        assert going.wait(20)

    desk.box._reserve = slow

    async def open_and_go(client: asyncssh.SFTPClient, connection: asyncssh.SSHClientConnection) -> None:
        async def opened() -> None:
            await client.open("a.part", "wb")

        opening = asyncio.create_task(opened())
        assert await asyncio.to_thread(begun.wait, 10)
        connection.abort()
        await asyncio.gather(opening, return_exceptions=True)

    if way == "ftp":
        with desk.ftp() as client:
            client.makepasv()
            client.putcmd("STOR a.part")
            assert begun.wait(10)
    else:
        with contextlib.suppress(asyncssh.Error, OSError):
            desk.sftp(open_and_go)
    desk.wait_until_nobody_is_there()
    going.set()
    desk.wait_until_closed()
    assert [(each.state, each.size_bytes) for each in desk.seen()] == [("torn", 0)]


def test_dock_with_too_much_waiting_is_told_so_over_both(desk: Desk) -> None:
    desk.listeners.close()
    desk.settings = desk.settings.model_copy(
        update={"ingest": desk.settings.ingest.model_copy(update={"max_pushed_bytes_per_dock": 1000})}
    )
    desk.start()
    with desk.ftp() as client:
        client.storbinary("STOR old.part", io.BytesIO(bytes(600)))
        data = client.transfercmd("STOR a.mp4.part")
        with contextlib.suppress(OSError):  # We break it off under the sender's hands.
            data.sendall(FOOTAGE)
            data.unwrap()  # type: ignore[attr-defined] -- closed at once, it would throw away what was sent
        data.close()
        with pytest.raises(ftplib.error_perm, match="552 dock: expected at most 1000 bytes"):
            client.voidresp()
        client.delete("a.mp4.part")
        assert client.sendcmd("NOOP").startswith("200"), "the line stays"

    async def push(client: asyncssh.SFTPClient, _: object) -> None:
        async with client.open("b.mp4.part", "wb") as file:
            await file.write(bytes(300))
            with pytest.raises(asyncssh.SFTPFailure, match="at most 1000 bytes"):
                await file.write(bytes(300))
        await client.rename("b.mp4.part", "b.mp4")
        await client.remove("old.part")
        async with client.open("c.part", "wb") as file:
            await file.write(bytes(600))
        await client.rename("c.part", "c.mp4")

    desk.sftp(push)
    assert desk.take() == ["c.mp4"], "a file that misses a refused piece is not whole by another name"


@pytest.mark.parametrize("way", ["sftp", "ftp"])
def test_free_space_floor_holds_while_bytes_arrive(desk: Desk, way: str) -> None:
    def full(_wanted: int) -> None:
        raise Unavailable("disk: full", code="disk_full")

    desk.box._reserve = full
    if way == "ftp":
        with desk.ftp() as client, pytest.raises(ftplib.error_temp, match="452"):
            client.storbinary("STOR a.part", io.BytesIO(b"footage"))
    else:
        with pytest.raises(asyncssh.SFTPFailure, match="full"):
            desk.sftp(putting("a.part", b"footage"))
    assert desk.parts() == []


def test_sftp_session_whose_disk_fails_at_its_end_leaves_no_file_busy(desk: Desk) -> None:
    failing = [True]

    def sync(descriptor: int) -> None:
        if failing:
            failing.pop()
            raise OSError(5, "Input/output error")
        os.fdatasync(descriptor)

    desk.listeners.close()
    desk.start(sync)

    async def many(client: asyncssh.SFTPClient, connection: asyncssh.SSHClientConnection) -> None:
        for number in range(3):
            file = await client.open(f"{number}.part", "wb")
            await file.write(b"footage")
        connection.abort()
        await connection.wait_closed()

    with contextlib.suppress(asyncssh.Error, OSError):
        desk.sftp(many)
    desk.wait_until_closed()
    assert sorted((each.state, each.size_bytes) for each in desk.box.listed()) == [
        ("torn", 0),
        ("torn", 7),
        ("torn", 7),
    ]


def test_file_of_a_token_that_ended_is_kept_without_a_receipt(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = desk.box
    agency_id, token_id = token_of(desk)
    incoming = box.begin(Dock(agency_id, "D-1", None, f"token:{token_id}"), b"a.part", "sftp", truncate=True)
    incoming.write(FOOTAGE, 0)
    incoming.end(in_order=True)
    box.rename(Dock(agency_id, "D-1", None, ""), b"a.part", b"a.mp4")
    with desk.storage.database.transaction() as session:
        credentials.revoke_upload_token(session, agency_id, token_id, desk.storage.clock.now())
    held: list[StagedFile] = []
    monkeypatch.setattr(desk, "hold", lambda _agency, staged: held.append(staged))
    desk.source = dropbox_source(desk.settings, desk.storage, desk, box)  # type: ignore[arg-type]
    assert desk.source.scan_once().taken == ["a.mp4"]
    assert (held[0].earns_receipt, [code for code, _ in held[0].findings]) == (False, ["token_ended"])


# --- what was sent again, and what speaks of it ---------------------------------------------------


def test_file_sent_again_over_one_in_custody_is_not_freed_for_its_receipt(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.sources.dropbox.time", SimpleNamespace(time=lambda: 1_700_000_000))

    def push(content: bytes) -> None:
        desk.sftp(putting("a.mp4", content))
        desk.sftp(putting("a.mp4.sha256", sha(content).encode()))

    push(b"footage")
    assert desk.take() == ["a.mp4"]
    desk.read_back()
    assert desk.receptions()[0].receipt is not None
    push(b"another")
    result = desk.source.scan_once()
    assert (result.taken, result.freed, result.given_up) == (["a.mp4"], [], [])
    assert desk.digests() == sorted([sha(b"footage"), sha(b"another")])
    desk.read_back()
    assert desk.source.scan_once().freed == ["a.mp4"]
    assert desk.parts() == []


def test_pushed_table_speaks_of_its_folder_in_the_agencys_words_and_stays(desk: Desk, tmp_path: Path) -> None:
    own = tmp_path / "fields.toml"
    own.write_text('[fields]\ndevice_no = ["CamID"]\n')
    ingest = desk.settings.ingest.model_copy(update={"sidecar_fields": own})
    desk.settings = desk.settings.model_copy(update={"ingest": ingest})
    desk.listeners.close()
    desk.start()
    for day, device_no in (("1", "0000001"), ("2", "0000002")):
        table = f"文件名,CamID\r\n{day}.mp4,{device_no}\r\n"
        desk.sftp(putting("清单.csv.part", table.encode("gb18030"), "清单.csv"))
        desk.push_whole(f"{day}.mp4", day.encode())
        assert desk.take() == [f"{day}.mp4"]
        desk.read_back()
        assert desk.source.scan_once().freed == [f"{day}.mp4"]
        assert desk.names() == ["清单.csv"]
    with desk.storage.database.read() as session:
        said = {each.value for each in session.query(Claim) if each.field == "device_no"}
    assert said == {"0000001", "0000002"}
    assert len(desk.parts()) == 1


def test_sidecar_pushed_after_its_recording_was_taken_is_in_custody_before_it_goes(desk: Desk) -> None:
    desk.push_whole("a.mp4", b"footage")
    assert desk.take() == ["a.mp4"]
    desk.push_whole("a.mp4.json", b'{"place": "A", "battery": {"low": false}}')
    desk.read_back()
    assert desk.rest().freed == ["a.mp4"]
    assert desk.names() == []
    with desk.storage.database.read() as session:
        assert [each.value for each in session.query(Claim) if each.field == "place"] == ["A"]
        codes = {flag["code"] for flag in session.query(Item).one().flags}
    assert {"said_late", "sidecar_field_ignored"} <= codes
    first, second = desk.receptions()
    assert (first.metadata_received.get("place"), second.metadata_received["place"]) == (None, "A")
    assert second.metadata_received["battery"] == '{"low": false}'


@pytest.mark.parametrize("earns_receipt", [True, False])
def test_sidecars_nobody_can_read_are_in_custody_and_take_no_room_from_recordings(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, earns_receipt: bool
) -> None:
    monkeypatch.setattr("ingest.sources.dropbox.MAX_NAMES", 2)
    for footage in (b"footage", b"another") if earns_receipt else (b"footage",):
        desk.push_whole("a.mp4.json", b"[1")
        desk.push_whole("a.mp4", footage)
        if not earns_receipt:
            agency_id, token_id = token_of(desk)
            with desk.storage.database.transaction() as session:
                credentials.revoke_upload_token(session, agency_id, token_id, desk.storage.clock.now())
        assert desk.take() == ["a.mp4"]
        desk.read_back()
        result = desk.rest()
        assert (result.freed, result.given_up) == ((["a.mp4"], []) if earns_receipt else ([], ["a.mp4"]))
        assert desk.parts() == []
        assert {each.name: each.state for each in desk.seen()} == (
            {} if earns_receipt else {b"a.mp4": "in_custody", b"a.mp4.json": "in_custody"}
        )
    for each in desk.receptions():
        assert each.metadata_received["sidecar_unread_base64"] == base64.b64encode(b"[1").decode()


def test_how_a_transfer_ended_is_logged_also_when_its_dock_was_killed(desk: Desk) -> None:
    slow = desk.on_slow_disk()
    with capture_logs() as logs:
        with desk.ftp() as client:
            data = client.transfercmd("STOR a.mp4")
            data.sendall(b"foot")
            desk.wait_for_bytes(4)
            data.close()
            assert slow.is_syncing.wait(10)
            assert client.sock is not None
            client.sock.shutdown(socket.SHUT_RDWR)
        desk.wait_until_nobody_is_there()
        slow.let_go.set()
        desk.wait_until_closed()
    ended = [entry for entry in logs if entry["event"] == "push:ended"]
    assert [(each["listener"], each["proof"], each["size_bytes"]) for each in ended] == [("ftp", None, 4)]


@pytest.mark.parametrize("cut", [b"", b"2c26b46b68"])
def test_digest_that_was_cut_proves_no_file_whole(desk: Desk, cut: bytes) -> None:
    desk.sftp(putting("a.mp4", b"foot"))
    desk.sftp(putting("a.mp4.sha256", cut))
    result = desk.source.scan_once()
    assert (result.taken, result.failed) == ([], {"a.mp4": "declared_digest_unreadable"})
    desk.sftp(putting("a.mp4", b"footage"))
    desk.sftp(putting("a.mp4.sha256", sha(b"footage").encode()))
    assert desk.take() == ["a.mp4"]
    assert desk.digests() == [sha(b"footage")]
