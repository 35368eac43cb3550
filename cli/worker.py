"""`liuhen worker`: worker processes of this host, supervised."""

from __future__ import annotations

import argparse

from cli.programs import worker_programs
from cli.shell import Parser, add_common, environment_of, settings_of
from cli.stopping import told_to_stop
from cli.supervise import Supervisor
from storage.open import open_storage


def arguments(parser: Parser, _name: str) -> None:
    add_common(parser)
    parser.add_argument("--processes", type=int, metavar="N", help="媒体进程数 / media processes")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.processes is not None:
        options.set.append(f"worker.processes={options.processes}")
    settings = settings_of(options)
    # What would stop every worker is said once, here, rather than by each of them again and again.
    open_storage(settings).database.dispose()
    supervisor = Supervisor(worker_programs(settings), environment_of(options))
    with told_to_stop(supervisor.kill) as stop, supervisor:
        supervisor.watch(stop)
    return 0
