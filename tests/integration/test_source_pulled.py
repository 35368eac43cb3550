"""Places that deceive or fail, and what a killed process leaves: fetching at its edges."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import asyncssh
import pytest
from pydantic import ValidationError
from sqlalchemy import select

from config.settings import FolderSettings, Settings, SourceSettings
from evidence.custody import Action
from evidence.errors import EvidenceError, NotAuthenticated, Unavailable
from ingest.daemon.holding import Holder
from ingest.daemon.pulled import pull_source, remote_folder
from ingest.sources.base import StagedFile
from ingest.sources.folder import FolderSource
from ingest.sources.ftp import FtpAddress, FtpFolder
from ingest.sources.journal import TakenJournal
from ingest.sources.manifest import ManifestAddress, ManifestFolder
from ingest.sources.partial import MARK_EVERY_BYTES, Partial
from ingest.sources.pulling import PullRules, PullSource
from ingest.sources.remote import Origin, RemoteFolder
from messaging.events import EventPublisher
from messaging.jobs import Announcer
from storage.db import agencies, alarms
from storage.db.tables import CustodyLeaf, Reception, StoredObject
from storage.objects.local import LocalObjectStore
from storage.open import Storage
from tests.support.installations import settings_for
from tests.support.pipeline import Pipeline
from tests.support.places import PASSWORD, USER, FtpsPlace, HttpPlace, Place, SftpPlace

AGENCY = UUID("0190a000-0000-7000-8000-0000000000aa")


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[SftpPlace]:
    yield from served(SftpPlace, tmp_path)


@pytest.fixture
def http(tmp_path: Path) -> Iterator[HttpPlace]:
    yield from served(HttpPlace, tmp_path)


def served(kind: type[Place], tmp_path: Path) -> Iterator[Place]:  # type: ignore[misc]
    folder = tmp_path / "dock"
    folder.mkdir()
    place = kind(folder)
    place.serve()
    yield place
    place.stop()


def source_over(
    remote: RemoteFolder, tmp_path: Path, accepted: list[StagedFile], told: list[str], *, frees: bool = False
) -> PullSource:
    store = tmp_path / "objects"
    objects = LocalObjectStore.create(store)

    def accept(agency_id: UUID, staged: StagedFile) -> None:
        objects.adopt(staged.path, staged.sha256, staged.size_bytes, agency_id.hex)
        accepted.append(staged)

    return PullSource(
        PullRules("sftp", "place", settle_s=0.0, frees=frees),
        remote,
        origin=Origin(AGENCY, "source:place"),
        staging_dir=objects.staging_dir,
        seen=TakenJournal(tmp_path / "taken.jsonl"),
        accept=accept,
        tell=lambda code, _line: told.append(code),
    )


# --- who the other side is ----------------------------------------------------------------------


def test_changed_host_key_is_refused_told_once_and_no_password_is_sent(
    sftp: SftpPlace, tmp_path: Path
) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").get_fingerprint("sha256")
    sftp.put("a.mp4", b"footage")
    accepted: list[StagedFile] = []
    told: list[str] = []
    source = source_over(sftp.remote(host_key_sha256=(other,)), tmp_path, accepted, told)
    for _ in range(3):
        result = source.scan_once()
        assert (result.is_gone, result.stopped) == (True, "host_key_changed")
    assert (accepted, told, sftp.passwords) == ([], ["host_key_changed"], [])


def test_changed_host_key_raises_one_alarm(sftp: SftpPlace, sqlite_storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("x")
    told = {"name": "dock-3", "kind": "sftp", "host": "127.0.0.1", "port": sftp.port, "username": USER}
    each = SourceSettings.model_validate(
        {**told, "password_file": tmp_path / "password", "host_key_sha256": ["SHA256:another"]}
    )
    settings = settings_for(tmp_path, f"sqlite:///{tmp_path / 'test.db'}")
    publisher = EventPublisher("inproc://nobody")
    holder = Holder(sqlite_storage, publisher, Announcer("memory://"))
    source = pull_source(each, settings, sqlite_storage, holder)
    for _ in range(2):
        assert source.scan_once().stopped == "host_key_changed"
    holder.close()
    publisher.close()
    with sqlite_storage.database.read() as session:
        agency = agencies.agencies(session)[0]
        standing = alarms.alarms(session, agency.id)
        assert [(each.code, each.subject_id) for each in standing] == [("host_key_changed", "dock-3")]


@pytest.mark.parametrize("refuses_rename", [False, True])
def test_dock_is_freed_on_signed_receipts_and_what_took_a_name_is_another_item(
    sftp: SftpPlace, settings: Settings, storage: Storage, tmp_path: Path, refuses_rename: bool
) -> None:
    sftp.refuses_rename = refuses_rename
    (tmp_path / "password").write_text(PASSWORD)
    each = SourceSettings.model_validate(
        {
            "name": "dock-3",
            "kind": "sftp",
            "host": "127.0.0.1",
            "port": sftp.port,
            "username": USER,
            "password_file": tmp_path / "password",
            "host_key_sha256": [sftp.host_key.get_fingerprint("sha256")],
            "settle_s": 0,
            "after_take": "delete",
        }
    )
    publisher = EventPublisher("inproc://nobody")
    holder = Holder(storage, publisher, Announcer("memory://"))
    source = pull_source(each, settings, storage, holder)

    def put(content: bytes) -> None:
        os.utime(sftp.put("a.mp4", content), (946684800, 946684800))

    def at_the_dock() -> list[bytes]:
        return [path.read_bytes() for path in sftp.folder.iterdir()]

    put(b"footage")
    for _ in range(3):
        source.scan_once()
    assert at_the_dock() == [b"footage"], "nobody has signed for it yet"
    put(b"another")
    Pipeline(storage, settings).work(only={"verify"})
    for _ in range(4):
        source.scan_once()
    assert at_the_dock() == [b"another"], "the receipt there is is for other bytes"
    Pipeline(storage, settings).work(only={"verify"})
    for _ in range(2):
        source.scan_once()
    assert at_the_dock() == []
    source.run(_set())
    holder.close()
    publisher.close()
    with storage.database.read() as session:
        held = session.scalars(select(StoredObject.sha256)).all()
        names = session.scalars(select(Reception.original_name_raw)).all()
        freed = session.scalars(select(CustodyLeaf).where(CustodyLeaf.action == Action.SOURCE_FREED)).all()
    assert {bytes(sha256) for sha256 in held} == {
        hashlib.sha256(content).digest() for content in (b"footage", b"another")
    }
    assert [bytes(name) for name in names] == [b"a.mp4", b"a.mp4"]
    assert len(freed) == 1, "the first copy was replaced before it could be freed"


@pytest.mark.parametrize(("is_listed", "code"), [(True, None), (False, "host_key_unknown")])
def test_known_hosts_file_says_which_key_is_taken(
    sftp: SftpPlace, tmp_path: Path, is_listed: bool, code: str | None
) -> None:
    line = sftp.host_key.export_public_key().decode()
    host = f"[127.0.0.1]:{sftp.port}" if is_listed else "10.0.0.9"
    (tmp_path / "known_hosts").write_text(f"{host} {line}")
    remote = sftp.remote(host_key_sha256=(), known_hosts=tmp_path / "known_hosts")
    try:
        if code is None:
            assert remote.files() == []
        else:
            with pytest.raises(NotAuthenticated) as refused:
                remote.files()
            assert refused.value.code == code
    finally:
        remote.disconnect()


def test_other_key_than_that_of_known_hosts_is_refused(sftp: SftpPlace, tmp_path: Path) -> None:
    line = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{sftp.port} {line}")
    remote = sftp.remote(host_key_sha256=(), known_hosts=tmp_path / "known_hosts")
    with pytest.raises(NotAuthenticated) as refused:
        remote.files()
    remote.disconnect()
    assert refused.value.code == "host_key_changed"


def test_ftps_certificate_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    for place in served(FtpsPlace, tmp_path):
        remote = FtpFolder(
            FtpAddress("place", "127.0.0.1", place.port, USER, "x", tls="implicit", timeout_s=5)
        )
        with pytest.raises(NotAuthenticated) as refused:
            remote.files()
        remote.disconnect()
        assert refused.value.code == "source_certificate_refused"


def test_wrong_password_is_said_to_be_one(sftp: SftpPlace) -> None:
    remote = sftp.remote(username="nobody")
    with pytest.raises(NotAuthenticated) as refused:
        remote.files()
    remote.disconnect()
    assert refused.value.code == "source_login_refused"


# --- manifests ----------------------------------------------------------------------------------


def test_manifest_leads_nowhere_but_to_its_own_origin(http: HttpPlace) -> None:
    http.extra = [
        {"url": "http://127.0.0.1:1/a.mp4", "name": "a.mp4", "size_bytes": 1},
        {"url": "file:///etc/passwd", "name": "b.mp4", "size_bytes": 1},
        {"url": "//other.example/c.mp4", "name": "c.mp4", "size_bytes": 1},
        {"url": "/files/d.mp4", "name": "../d.mp4", "size_bytes": 1},
        {"url": "/files/e.mp4", "name": "e.mp4", "size_bytes": -1},
        {"url": "/files/f.mp4", "name": "f.mp4", "size_bytes": 1, "sha256": "zz"},
        "not even an object",
        {"url": "/files/good.mp4", "name": "good.mp4", "size_bytes": 4},
    ]
    remote = http.remote()
    assert [file.name for file in remote.files()] == [b"good.mp4"]
    remote.disconnect()


def test_redirect_to_another_origin_is_refused_and_one_at_home_followed(http: HttpPlace) -> None:
    http.put("real.mp4", b"footage")
    http.extra = [
        {"url": "/away", "name": "away.mp4", "size_bytes": 7},
        {"url": "/home", "name": "home.mp4", "size_bytes": 7},
    ]
    http.redirects = {"/away": "http://localhost:1/x", "/home": "/files/real.mp4"}
    remote = http.remote()
    by_name = {file.name: file for file in remote.files()}
    assert b"".join(remote.read(by_name[b"home.mp4"], 0)) == b"footage"
    with pytest.raises(EvidenceError) as refused:
        list(remote.read(by_name[b"away.mp4"], 0))
    remote.disconnect()
    assert refused.value.code == "source_origin_refused"


@pytest.mark.parametrize("body", [b"<html>", b'{"files": 3}', b"[]", b'{"files": [' + b"[" * 5000])
def test_thing_that_is_no_manifest_is_a_source_that_is_not_there(http: HttpPlace, body: bytes) -> None:
    http.body = body
    remote = ManifestFolder(
        ManifestAddress("place", f"http://127.0.0.1:{http.port}/manifest.json", http.token)
    )
    with pytest.raises(Unavailable) as refused:
        remote.files()
    remote.disconnect()
    assert refused.value.code == "source_unreachable"


# --- what a death leaves ------------------------------------------------------------------------

_FETCHER = """
import sys
from pathlib import Path
from uuid import UUID
from ingest.sources.journal import TakenJournal
from ingest.sources.pulling import PullRules, PullSource
from ingest.sources.remote import Origin
from ingest.sources.sftp import SftpAddress, SftpFolder
folder, port, pin = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
remote = SftpFolder(SftpAddress("place", "127.0.0.1", port, "dock", password="correct horse",
                                host_key_sha256=(pin,), timeout_s=5))
source = PullSource(PullRules("sftp", "place", settle_s=0.0), remote,
                    origin=Origin(UUID(int=1), "source:place"), staging_dir=folder / "objects" / "staging",
                    seen=TakenJournal(folder / "taken.jsonl"), accept=lambda agency, staged: None)
source.scan_once()
source.scan_once()
"""


def test_killed_process_is_gone_on_from_by_the_next(sftp: SftpPlace, tmp_path: Path) -> None:
    content = os.urandom(1 << 20) * 16
    sftp.put("a.mp4", content)
    accepted: list[StagedFile] = []
    # Whoever frees the place reads all of it again later: nothing is compared while it is fetched.
    source = source_over(sftp.remote(), tmp_path, accepted, [], frees=True)
    sftp.slow_s = 0.002
    pin = sftp.host_key.get_fingerprint("sha256")
    child = subprocess.Popen([sys.executable, "-c", _FETCHER, str(tmp_path), str(sftp.port), pin])
    until = time.monotonic() + 20
    while sftp.served_bytes < 4 << 20 and time.monotonic() < until:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    had = max(path.stat().st_size for path in (tmp_path / "objects" / "staging").glob("*.part"))
    sftp.slow_s = 0.0
    served = sftp.served_bytes
    for _ in range(3):
        source.scan_once()
    assert [staged.sha256.hex() for staged in accepted] == [hashlib.sha256(content).hexdigest()]
    assert 0 < had < len(content)
    assert sftp.served_bytes - served < len(content) - had + (1 << 20)
    source.run(_set())


def test_unclean_boot_counts_only_what_was_marked(tmp_path: Path) -> None:
    partial = Partial(tmp_path / "p", "identity")
    partial.open()
    partial.write(b"x" * 1000)
    partial.keep()
    mark = json.loads((tmp_path / "p.mark").read_text())
    (tmp_path / "p.mark").write_text(json.dumps({**mark, "length": 400, "boot": "another"}))
    again = Partial(tmp_path / "p", "identity")
    again.open()
    assert again.have_bytes == 400
    again.keep()
    changed = Partial(tmp_path / "p", "another state of the file")
    changed.open()
    assert changed.have_bytes == 0
    changed.drop()
    assert MARK_EVERY_BYTES > 1000
    assert list(tmp_path.iterdir()) == []


def test_sync_that_fails_at_the_end_of_a_try_keeps_only_what_was_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = Partial(tmp_path / "p", "identity")
    partial.open()
    partial.write(b"x" * 400)
    partial.keep()
    again = Partial(tmp_path / "p", "identity")
    again.open()
    again.write(b"y" * 600)

    def failing(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr("ingest.sources.partial.os.fdatasync", failing)
        again.keep()
    last = Partial(tmp_path / "p", "identity")
    last.open()
    assert last.have_bytes == 400, "the kernel may have dropped the rest, and would not say so again"
    last.drop()


def test_mark_that_finds_no_room_costs_nothing_that_was_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = Partial(tmp_path / "p", "identity")
    partial.open()
    partial.write(b"x" * 400)

    def full(_path: Path, _content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("ingest.sources.partial.write_durably", full)
        partial.keep()
    again = Partial(tmp_path / "p", "identity")
    again.open()
    assert again.have_bytes == 400
    again.drop()


# --- settings and threads -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "sftp", "host": "h", "username": "u"},
        {"kind": "ftp", "host": "h", "username": "u"},
        {"kind": "http", "url": "http://h/m.json"},
        {"kind": "http"},
        {"kind": "ftps", "host": "h"},
        {"kind": "http", "url": "https://h/m.json", "after_take": "delete"},
        {"kind": "http", "url": "https://dock:secret@h/m.json"},
    ],
    ids=[
        "no host key",
        "plain ftp",
        "plain http",
        "no url",
        "no user",
        "a manifest that is deleted",
        "an account in the url",
    ],
)
def test_source_that_could_not_be_trusted_is_no_setting(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SourceSettings.model_validate({"name": "dock-3", **wrong})


def test_secret_is_read_from_a_file_or_the_environment(tmp_path: Path) -> None:
    told = {"name": "d", "kind": "ftps", "host": "h", "username": "u", "password_file": tmp_path / "none"}
    with pytest.raises(Unavailable) as refused:
        remote_folder(SourceSettings.model_validate(told))
    assert refused.value.code == "source_secret_unreadable"
    (tmp_path / "none").write_text("secret\n")
    remote_folder(SourceSettings.model_validate(told)).disconnect()


def test_folder_that_hangs_holds_up_no_other_and_no_stop(tmp_path: Path) -> None:
    release, stop, taken = threading.Event(), threading.Event(), threading.Event()
    threads = []
    for name, accept in (("hung", lambda _: release.wait(20)), ("well", lambda _: taken.set())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").write_bytes(b"footage")
        staging = tmp_path / f"{name}-staging"
        staging.mkdir()
        source = FolderSource(
            FolderSettings(path=tmp_path / name, settle_s=0, scan_every_s=0.01),
            staging_dir=staging,
            seen=TakenJournal(tmp_path / f"{name}.jsonl"),
            accept=accept,
        )
        threads.append(threading.Thread(target=source.run, args=(stop,), daemon=True))
        threads[-1].start()
    assert taken.wait(5), "the other folder went on"
    stop.set()
    threads[1].join(5)
    assert not threads[1].is_alive()
    release.set()
    threads[0].join(5)
    assert not threads[0].is_alive()


def _set() -> threading.Event:
    event = threading.Event()
    event.set()
    return event
