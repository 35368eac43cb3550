"""Docks that can only push: real clients against both listeners, and the source that takes what is whole."""

from __future__ import annotations

import contextlib
import ftplib
import io
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from evidence.errors import InvalidInput
from ingest.daemon.pushed import PushListeners, open_dropbox
from ingest.sources import host_key
from storage.db import agencies, credentials
from storage.db.tables import Item
from storage.open import Storage
from tests.support.installations import settings_for
from tests.support.places import certificate
from tests.support.pushing import FOOTAGE, Desk, sha, started_desk


@pytest.fixture
def desk(tmp_path: Path, sqlite_storage: Storage) -> Iterator[Desk]:
    yield from started_desk(tmp_path, sqlite_storage)


# --- SFTP -----------------------------------------------------------------------------------------


def test_sftp_rename_makes_a_file_whole_and_it_arrives_once(desk: Desk, tmp_path: Path) -> None:
    local = tmp_path / "a.mp4"
    local.write_bytes(FOOTAGE)

    async def push(client: asyncssh.SFTPClient, _: object) -> None:
        await client.mkdir("2024-03")
        await client.put(str(local), "2024-03/执法.mp4.part")
        assert (await client.stat("2024-03/执法.mp4.part")).size == len(FOOTAGE)
        await client.rename("2024-03/执法.mp4.part", "2024-03/执法.mp4")
        assert await client.listdir("2024-03") == [".", "..", "执法.mp4"]

    desk.sftp(push)
    assert desk.take() == ["执法.mp4"]
    assert desk.take() == []
    assert desk.digests() == [sha(FOOTAGE)]
    reception = desk.receptions()[0]
    assert (reception.source, reception.dock_no, reception.original_name_raw) == (
        "pushed",
        "D-1",
        "执法.mp4".encode(),
    )


def test_sftp_close_alone_proves_nothing(desk: Desk, tmp_path: Path) -> None:
    local = tmp_path / "a.mp4"
    local.write_bytes(FOOTAGE)

    async def push(client: asyncssh.SFTPClient, _: object) -> None:
        await client.put(str(local), "a.mp4")

    desk.sftp(push)
    assert desk.take() == []
    assert [each.state for each in desk.box.listed()] == ["closed"]


def test_digest_beside_a_pushed_file_proves_it(desk: Desk) -> None:
    async def push(client: asyncssh.SFTPClient, _: object) -> None:
        async with client.open("a.mp4", "wb") as file:
            await file.write(b"foot")
        async with client.open("a.mp4.sha256", "wb") as file:
            await file.write(f"{sha(b'footage')}  a.mp4\n".encode())

    async def finish(client: asyncssh.SFTPClient, _: object) -> None:
        async with client.open("a.mp4", "ab") as file:
            await file.write(b"age")

    desk.sftp(push)
    assert desk.take() == []
    desk.sftp(finish)
    for _ in range(3):
        desk.take()
    assert desk.digests() == [sha(b"footage")]


def test_sftp_line_that_breaks_leaves_a_torn_file_that_is_gone_on_with(desk: Desk) -> None:
    async def half(client: asyncssh.SFTPClient, connection: asyncssh.SSHClientConnection) -> None:
        file = await client.open("a.mp4.part", "wb")
        await file.write(FOOTAGE[:500_000])
        connection.abort()
        await connection.wait_closed()

    with contextlib.suppress(asyncssh.Error, OSError):
        desk.sftp(half)
    until = time.monotonic() + 5
    while not desk.box.listed() and time.monotonic() < until:
        time.sleep(0.01)
    assert [(each.state, each.size_bytes) for each in desk.box.listed()] == [("torn", 500_000)]

    async def rename_torn(client: asyncssh.SFTPClient, _: object) -> None:
        await client.rename("a.mp4.part", "a.mp4")

    desk.sftp(rename_torn)
    assert desk.take() == [], "a torn transfer is not whole by another name"

    async def rest(client: asyncssh.SFTPClient, _: object) -> None:
        size = (await client.stat("a.mp4")).size
        async with client.open("a.mp4", "r+b") as file:
            await file.write(FOOTAGE[size:], size)
        await client.rename("a.mp4", "b.mp4")

    desk.sftp(rest)
    assert desk.take() == ["b.mp4"]
    assert desk.digests() == [sha(FOOTAGE)]


def test_sftp_dock_reads_nothing_and_leaves_its_place_nowhere(desk: Desk) -> None:
    async def pry(client: asyncssh.SFTPClient, connection: asyncssh.SSHClientConnection) -> None:
        async with client.open("../../../etc/passwd.part", "wb") as file:
            await file.write(b"mine")
        assert (await client.stat("/etc/passwd.part")).size == 4
        for forbidden in (
            client.open("etc/passwd.part", "rb"),
            client.symlink("/etc/passwd", "link"),
            client.link("etc/passwd.part", "link"),
            client.readlink("etc/passwd.part"),
            client.stat("/etc/shadow"),
            client.rmdir("etc"),
        ):
            with pytest.raises(asyncssh.SFTPError):
                await forbidden
        for command in (None, "id", "scp -t ."):
            with pytest.raises(asyncssh.Error):
                await connection.run(command, check=True)
        with pytest.raises(asyncssh.Error):
            await connection.open_connection("127.0.0.1", 22)

    desk.sftp(pry)
    names = [path.name for path in (desk.settings.data.dir / "pushed").rglob("*")]
    assert not any("passwd" in name for name in names)


def test_dock_sees_nothing_of_another(desk: Desk) -> None:
    with desk.storage.database.transaction() as session:
        agency = agencies.agencies(session)[0]
        other, _ = credentials.issue_upload_token(
            session, agency, dock_no="D-2", device_id=None, now=desk.storage.clock.now(), life=None
        )

    async def push(client: asyncssh.SFTPClient, _: object) -> None:
        async with client.open("a.part", "wb") as file:
            await file.write(b"1")

    async def look(client: asyncssh.SFTPClient, _: object) -> None:
        assert await client.listdir() == [".", ".."]
        with pytest.raises(asyncssh.SFTPNoSuchFile):
            await client.rename("a.part", "a.mp4")

    desk.sftp(push)
    desk.sftp(look, username="D-2", password=other)


def test_wrong_password_and_another_docks_name_are_refused_and_counted(desk: Desk) -> None:
    async def nothing(client: object, connection: object) -> None:
        raise AssertionError("let in")

    for told in ({"password": "wrong"}, {"username": "D-2"}, {"password": "lhu_" + "x" * 43}):
        with pytest.raises(asyncssh.PermissionDenied):
            desk.sftp(nothing, **told)
    with pytest.raises((asyncssh.Error, OSError)):
        desk.sftp(nothing)  # The right one, too late: this address has used up its tries.


def test_new_process_finds_what_was_pushed_to_the_old_one(desk: Desk) -> None:
    async def push(client: asyncssh.SFTPClient, _: object) -> None:
        for name in ("whole", "half"):
            async with client.open(f"{name}.part", "wb") as file:
                await file.write(b"footage of " + name.encode())
        await client.rename("whole.part", "whole.mp4")

    desk.sftp(push)
    found = desk.box.listed()[1]
    record = next((desk.settings.data.dir / "pushed").rglob(f"{found.id}.json"))
    record.write_text(
        record.read_text().replace('"closed"', '"open"')
    )  # As a kill -9 in mid-transfer leaves it.
    desk.listeners.close()
    odd = record.with_name("odd.json")
    odd.write_text("{")
    odd.with_suffix(".part").write_bytes(b"kept")
    desk.start()
    assert odd.with_suffix(".part").exists(), "what cannot be read is a person's to look at"
    assert desk.take() == ["whole.mp4"]
    assert [each.state for each in desk.box.listed()] == ["closed", "torn"]


# --- FTP ------------------------------------------------------------------------------------------


def test_ftp_size_declared_beforehand_proves_a_file(desk: Desk) -> None:
    with desk.ftp() as client:
        client.sendcmd(f"ALLO {len(FOOTAGE)}")
        client.storbinary("STOR 执法.mp4", io.BytesIO(FOOTAGE))
        assert client.size("执法.mp4") == len(FOOTAGE)
    assert desk.take() == ["执法.mp4"]
    assert desk.digests() == [sha(FOOTAGE)]


def test_ftp_dock_that_never_reads_its_data_line_loses_nothing_at_its_close(desk: Desk) -> None:
    with desk.ftp() as client:
        for number in range(3):
            client.sendcmd(f"ALLO {len(FOOTAGE)}")
            data = client.transfercmd(f"STOR {number}.mp4")
            data.sendall(FOOTAGE)
            data.close()  # Were there anything unread on it, this would be a reset.
            assert client.voidresp().startswith("226")
        assert client.sock is not None
        assert client.sock.version() == "TLSv1.3"  # type: ignore[attr-defined]
    assert desk.take() == ["0.mp4", "1.mp4", "2.mp4"]


def test_ftp_transfer_short_of_its_declared_size_is_told_so_and_gone_on_with(desk: Desk) -> None:
    with desk.ftp() as client:
        client.sendcmd(f"ALLO {len(FOOTAGE)}")
        with pytest.raises(ftplib.error_temp, match="send it again"):
            client.storbinary("STOR a.mp4", io.BytesIO(FOOTAGE[:1000]))
        assert desk.take() == []
        client.sendcmd(f"ALLO {len(FOOTAGE)}")
        client.storbinary("STOR a.mp4", io.BytesIO(FOOTAGE[1000:]), rest=1000)
    assert desk.take() == ["a.mp4"]
    assert desk.digests() == [sha(FOOTAGE)]


def test_ftp_rename_proves_a_file_and_a_bare_transfer_does_not(desk: Desk) -> None:
    with desk.ftp() as client:
        client.storbinary("STOR bare.mp4", io.BytesIO(FOOTAGE))
        client.storbinary("STOR b.mp4.part", io.BytesIO(b"footage"))
        client.rename("b.mp4.part", "b.mp4")
        assert {name for name, _ in client.mlsd()} == {"bare.mp4", "b.mp4"}
    assert desk.take() == ["b.mp4"]


def test_ftp_cut_in_mid_file_is_never_whole(desk: Desk) -> None:
    with desk.ftp() as client:
        data = client.transfercmd("STOR a.mp4")
        data.sendall(FOOTAGE[:300_000])
        client.close()
        data.close()
    until = time.monotonic() + 5
    while not desk.box.listed() and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.05)
    assert desk.take() == []
    assert desk.box.listed()[0].proof is None


def test_ftp_dock_reads_nothing_and_stays_in_its_place(desk: Desk) -> None:
    with desk.ftp() as client:
        client.storbinary("STOR ../../etc/passwd.part", io.BytesIO(b"mine"))
        for command in (
            "RETR etc/passwd.part",
            "SITE CHMOD 777 a",
            "PORT 127,0,0,1,4,4",
            "DELE nothing",
            "CWD /root",
        ):
            with pytest.raises(ftplib.error_perm):
                client.sendcmd(command)
        client.cwd("/etc")
        assert client.pwd() == "/etc"
        assert [name for name, _ in client.mlsd()] == ["passwd.part"]


def test_ftp_names_given_to_others_files_and_offsets_beyond_the_end_are_refused(desk: Desk) -> None:
    with desk.ftp() as client:
        client.sendcmd("ALLO 7")
        client.storbinary("STOR whole.mp4", io.BytesIO(b"footage"))
        client.storbinary("STOR a.part", io.BytesIO(b"foot"))
        for refused in (
            lambda: client.rename("whole.mp4", "b.mp4"),
            lambda: client.delete("whole.mp4"),
            lambda: client.storbinary("STOR a.part", io.BytesIO(b"age"), rest=5),
            lambda: client.storbinary("STOR new.part", io.BytesIO(b"age"), rest=1),
            lambda: client.storbinary("STOR whole.mp4", io.BytesIO(b"age"), rest=4),
            lambda: client.sendcmd("RNTO b.mp4"),
        ):
            with pytest.raises(ftplib.error_perm):
                refused()
        client.rename("a.part", "whole.mp4")
        assert client.size("whole.mp4") == 4
    assert sorted(desk.take()) == ["whole.mp4", "whole.mp4"]
    assert desk.digests() == sorted([sha(b"footage"), sha(b"foot")]), "neither took the other's place"


def test_ftp_commands_sent_ahead_are_done_in_their_order(desk: Desk) -> None:
    with desk.ftp() as client:
        client.storbinary("STOR 0.part", io.BytesIO(b"footage"))
        ahead = [f"RNFR {at}.part\r\nRNTO {at + 1}.part" for at in range(20)]
        ahead += ["FROB", "RNFR 20.part", "RNTO a.mp4", "SIZE a.mp4"]
        assert client.sock is not None
        client.sock.sendall("\r\n".join([*ahead, ""]).encode())
        codes = []
        for _ in range(44):
            with contextlib.suppress(ftplib.error_perm):
                codes.append(client.getresp()[:3])
        assert codes == ["350", "250"] * 21 + ["213"]
    assert desk.take() == ["a.mp4"]


def test_ftp_transfer_that_is_aborted_is_not_whole_and_the_line_stays(desk: Desk) -> None:
    with desk.ftp() as client:
        client.sendcmd("ALLO 4")
        data = client.transfercmd("STOR a.mp4")
        data.sendall(b"foot")
        desk.wait_for_bytes(4)
        client.putcmd("ABOR")
        with pytest.raises(ftplib.error_temp, match="426"):
            client.getresp()
        assert client.getresp().startswith("226")
        data.close()
        assert client.size("a.mp4") == 4
        assert desk.take() == []
        client.sendcmd("ALLO 7")
        client.storbinary("STOR a.mp4", io.BytesIO(b"age"), rest=4)
    assert desk.take() == ["a.mp4"]


@pytest.mark.parametrize("name", [b"\xd6\xb4\xb7\xa8.mp4", b"x" * 251 + b".mp4", b"y" * 1000])
def test_names_of_odd_bytes_and_of_any_length_come_back_as_they_were(desk: Desk, name: bytes) -> None:
    with desk.ftp() as client:
        client.encoding = "latin-1"
        client.file = client.sock.makefile("r", encoding="latin-1")  # type: ignore[union-attr]
        shown = name.decode("latin-1")
        client.storbinary("STOR a.part", io.BytesIO(b"footage"))
        client.rename("a.part", shown)
        assert [each for each, _ in client.mlsd()] == [shown]
    desk.take()
    assert [each.original_name_raw for each in desk.receptions()] == [name]


def test_ftp_name_that_is_too_long_is_refused(desk: Desk) -> None:
    with desk.ftp() as client:
        for name in ("z" * 1001, "/".join("a" * 17)):
            with pytest.raises(ftplib.error_perm, match="550"):
                client.storbinary(f"STOR {name}", io.BytesIO(b"footage"))
    assert desk.parts() == []


def test_ftp_without_tls_is_not_listened_to(desk: Desk) -> None:
    plain = ftplib.FTP(timeout=5)  # noqa: S321
    plain.connect("127.0.0.1", desk.ftp_port)
    with pytest.raises(ftplib.error_perm, match="AUTH TLS"):
        plain.login("D-1", desk.token)
    plain.close()
    context = ssl.create_default_context(cafile=certificate()[0])
    clear = ftplib.FTP_TLS(  # noqa: S321 -- it is what docks speak
        context=context, timeout=5
    )
    clear.connect("127.0.0.1", desk.ftp_port)
    clear.login("D-1", desk.token)
    with pytest.raises(ftplib.error_perm, match="PROT P"):
        clear.storbinary("STOR a.mp4", io.BytesIO(b"1"))
    clear.close()


def test_ftp_command_slipped_in_before_the_handshake_is_not_heard(desk: Desk) -> None:
    with socket.create_connection(("127.0.0.1", desk.ftp_port), timeout=5) as line:
        line.recv(1000)
        line.sendall(b"AUTH TLS\r\nUSER D-1\r\n")
        answer = line.recv(1000)
        with contextlib.suppress(OSError):
            while more := line.recv(1000):
                answer += more
    assert b"331" not in answer
    assert b"234" not in answer


def test_ftp_data_connection_is_the_docks_own(desk: Desk) -> None:
    with desk.ftp() as client:
        host, port = client.makepasv()
        thief = socket.create_connection((host, port), timeout=5, source_address=("127.0.0.2", 0))
        client.putcmd("STOR a.part")
        with (
            contextlib.suppress(OSError),
            client.context.wrap_socket(thief, server_hostname="127.0.0.1") as private,
        ):
            private.sendall(b"not of this dock")
            assert private.recv(10) == b""
        thief.close()
    assert [each.size_bytes for each in desk.box.listed()] in ([], [0])


# --- setting up ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "group",
    [
        {"ingest.sftp": {"enabled": True, "host": "0.0.0.0", "port": 0}},  # noqa: S104
        {"ingest.ftp": {"enabled": True, "host": "0.0.0.0", "port": 0, "allow_plain": True}},  # noqa: S104
        {"ingest.ftp": {"enabled": True, "port": 0}},
    ],
    ids=["sftp without a key", "ftp without tls", "plain ftp nobody allowed"],
)
def test_listener_whose_line_is_not_private_does_not_start(
    tmp_path: Path, sqlite_storage: Storage, group: dict[str, object]
) -> None:
    settings = settings_for(tmp_path, f"sqlite:///{tmp_path / 'test.db'}", **group)
    with pytest.raises(InvalidInput) as refused:
        PushListeners(settings, sqlite_storage, open_dropbox(settings, sqlite_storage))
    assert refused.value.code == "listener_not_private"


def test_process_that_dies_while_it_makes_its_host_key_leaves_none_that_stops_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pushed" / "ssh_host_ed25519_key"

    def killed(_path: Path, _content: bytes) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(Path, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            host_key.make(path)
    assert not path.exists()
    host_key.make(path)
    assert (asyncssh.read_private_key(str(path)).get_algorithm(), path.stat().st_mode & 0o777) == (
        "ssh-ed25519",
        0o600,
    )


def test_listeners_stop_at_once_while_a_dock_is_sending(desk: Desk) -> None:
    with desk.ftp() as client:
        data = client.transfercmd("STOR a.mp4")
        data.sendall(FOOTAGE[:300_000])
        began = time.monotonic()
        desk.listeners.close()
        assert time.monotonic() - began < 5
        data.close()
    assert [each.proof for each in desk.box.listed()] == [None]
    assert not [thread for thread in threading.enumerate() if thread.name == "push-listeners"]


def test_dock_with_a_key_of_its_own_needs_no_token(tmp_path: Path, sqlite_storage: Storage) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / "dock.pub").write_bytes(key.export_public_key())
    keys = [{"dock_no": "K-1", "file": tmp_path / "dock.pub", "device_no": "0000007"}]
    settings = settings_for(
        tmp_path,
        f"sqlite:///{tmp_path / 'test.db'}",
        **{"ingest.sftp": {"enabled": True, "port": 0, "keys": keys}},
    )
    desk = Desk(settings, sqlite_storage, "")
    desk.start()

    async def push(client: asyncssh.SFTPClient, _: object) -> None:
        async with client.open("a.part", "wb") as file:
            await file.write(b"footage")
        await client.rename("a.part", "a.mp4")

    try:
        desk.sftp(push, username="K-1", password=None, client_keys=[key])
        with pytest.raises(asyncssh.PermissionDenied):
            desk.sftp(push, username="D-1", password=None, client_keys=[key])
    finally:
        desk.listeners.close()
    assert desk.take() == ["a.mp4"]
    assert desk.receptions()[0].dock_no == "K-1"


class _ImplicitFtp(ftplib.FTP_TLS):
    """TLS from the first byte, which the standard library's client does not know by itself."""

    _line: socket.socket | None = None

    @property
    def sock(self) -> socket.socket | None:  # type: ignore[override]
        return self._line

    @sock.setter
    def sock(self, line: socket.socket | None) -> None:
        is_plain = line is not None and not isinstance(line, ssl.SSLSocket)
        self._line = self.context.wrap_socket(line, server_hostname=self.host) if is_plain else line

    def auth(self) -> str:
        return "234"

    def login(self, user: str = "", passwd: str = "", acct: str = "", secure: bool = True) -> str:  # noqa: ARG002
        return super().login(user, passwd, secure=False)

    def nlst_names(self) -> list[str]:
        return [name for name, _ in self.mlsd()]


def test_close_alone_counts_where_the_settings_say_so_and_is_flagged(
    tmp_path: Path, sqlite_storage: Storage
) -> None:
    cert, key = certificate()
    ftp = {
        "enabled": True,
        "port": 0,
        "tls": "implicit",
        "tls_cert": cert,
        "tls_key": key,
        "unproven_after_s": 0.01,
    }
    settings = settings_for(tmp_path, f"sqlite:///{tmp_path / 'test.db'}", **{"ingest.ftp": ftp})
    with sqlite_storage.database.transaction() as session:
        agency = agencies.agencies(session)[0]
        token, _ = credentials.issue_upload_token(
            session, agency, dock_no="D-1", device_id=None, now=sqlite_storage.clock.now(), life=None
        )
    desk = Desk(settings, sqlite_storage, token)
    desk.start()

    client = _ImplicitFtp(context=ssl.create_default_context(cafile=cert), timeout=10)
    try:
        client.connect("127.0.0.1", desk.ftp_port)
        client.login("D-1", token)
        client.prot_p()
        client.storbinary("STOR a.mp4", io.BytesIO(b"footage"))
        assert client.nlst_names() == ["a.mp4"]
    finally:
        client.close()
        desk.listeners.close()
    assert desk.take() == []
    time.sleep(0.05)
    assert desk.take() == ["a.mp4"]
    with sqlite_storage.database.read() as session:
        assert "whole_unproven" in {flag["code"] for flag in session.query(Item).one().flags}
