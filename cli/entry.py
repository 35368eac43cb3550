"""`liuhen relay`, `ingest`, `api` and `media`: this process becomes the program."""

from __future__ import annotations

import argparse
import importlib
import os

from cli.shell import Parser, add_common, environment_of

# By name, because entry points are strangers to each other.
PROGRAMS = {
    "relay": "workers.relay",
    "ingest": "ingest.daemon.main",
    "api": "api.app",
    "media": "api.listener",
}


def arguments(parser: Parser, name: str) -> None:
    add_common(parser)
    parser.set_defaults(run=run, program=PROGRAMS[name])


def run(options: argparse.Namespace) -> int:
    os.environ.update(environment_of(options))
    importlib.import_module(options.program).main()
    return 0
