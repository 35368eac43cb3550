"""`liuhen up`: everything on this machine, supervised; founds the installation on its first start."""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.init import add_founding, founded
from cli.programs import all_programs
from cli.progress import Meter
from cli.shell import Parser, add_common, environment_of, settings_of
from cli.stopping import told_to_stop
from cli.supervise import Supervisor
from config.settings import Settings
from evidence.errors import Conflict
from evidence.listening import Listener
from ingest.recorder.places import runs_of
from ingest.recorder.process import is_recording
from messaging.sockets import require_free
from storage.passing import clear_passed

READY_TIMEOUT_S = 120.0
PORTS = ("api", "ingest", "media")
END = "liuhen room end-recording"


def arguments(parser: Parser, _name: str) -> None:
    add_common(parser)
    add_founding(parser)
    for name in PORTS:
        parser.add_argument(
            f"--{name}-port", type=int, metavar="PORT", help=f"端口 / same as --set {name}.port"
        )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    for name in PORTS:
        port = getattr(options, f"{name}_port")
        if port is not None:
            options.set.append(f"{name}.port={port}")
    settings = settings_of(options)
    settings.data.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with only_one(settings.data.dir):
        # Whoever else listens there would be taken for ours.
        for name, group in (("ingest", settings.ingest), ("api", settings.api), ("media", settings.media)):
            require_free(Listener(name, group.host, group.port))
        storage = founded(settings, options)
        storage.database.dispose()
        clear_passed(storage.scratch)
        supervisor = supervisor_of(settings, environment_of(options))
        with told_to_stop(supervisor.kill) as stop, supervisor:
            with Meter("启动 / starting", len(supervisor.programs)) as meter:
                is_up = supervisor.wait_ready(READY_TIMEOUT_S, stop=stop, progress=meter.to)
            if is_up:
                print(addresses(settings), flush=True)
                supervisor.watch(stop)
            print("正在停止 / stopping", file=sys.stderr, flush=True)
        tell_recorders(settings)
    return 0


def tell_recorders(settings: Settings) -> None:
    """Say how many recorders go on: they belong to no daemon, and the next start takes them over."""
    count = sum(_goes_on(run) for run in runs_of(settings.recorder_dir))
    if count:
        zh, en = f"{count} 路录制仍在进行;结束: {END}", f"recorders that go on: {count}; to end them: {END}"
        print(f"{zh} / {en}", file=sys.stderr, flush=True)


def _goes_on(run: Path) -> bool:
    try:
        return is_recording(run)
    except OSError:
        # What cannot be asked may record: better told of once too often.
        return True


def supervisor_of(settings: Settings, environment: dict[str, str]) -> Supervisor:
    """A supervisor of everything, with a log for each program in the data folder."""
    data = settings.data.dir.resolve()
    given = {**environment, "LIUHEN_DATA__DIR": str(data)}
    return Supervisor(all_programs(settings), given, logs=data / "logs")


def addresses(settings: Settings) -> str:
    """Where everything is."""
    return "\n".join(
        (
            f"就绪 / ready    {settings.api_url}/",
            f"上传 / uploads  {settings.ingest_url}/uploads/",
            *(f"推送 / push     {door}" for door in _push_doors(settings)),
            f"媒体 / media    {settings.media_url}/",
            f"日志 / logs     {settings.data.dir.resolve() / 'logs'}",
            "停止 / stop     Ctrl-C",
        )
    )


def _push_doors(settings: Settings) -> Iterator[str]:
    """Where docks that can only push find us, and by what they know that it is us."""
    sftp, ftp = settings.ingest.sftp, settings.ingest.ftp
    if sftp.enabled:
        # Brings in all of SSH, which nobody else waits for.
        from ingest.sources import host_key

        key = host_key.read(host_key.path_of(sftp, settings.data.dir))
        yield f"sftp://{sftp.host}:{sftp.port}  {host_key.fingerprint(key)}"
    if ftp.enabled:
        scheme = "ftps" if ftp.tls_cert and ftp.tls == "implicit" else "ftp"
        tls = f"TLS {ftp.tls}" if ftp.tls_cert else "无 TLS / without TLS"
        yield f"{scheme}://{ftp.host}:{ftp.port}  {tls}"


@contextmanager
def only_one(data: Path) -> Iterator[None]:
    """Hold the data folder for this supervisor; the lock goes with the process, however it ends.

    Raises:
        Conflict: Another supervisor runs over it.
    """
    (data / "run").mkdir(mode=0o700, exist_ok=True)
    handle = os.open(data / "run" / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise Conflict(
            f"data folder {data}: expected no other `liuhen up`, found one running; stop it first",
            code="already_up",
        ) from error
    try:
        yield
    finally:
        os.close(handle)
