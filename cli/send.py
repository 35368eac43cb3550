"""`liuhen send`: push one stream to a room's recorder, from a machine in the room."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from pathlib import Path
from urllib.parse import urlsplit

from cli.shell import Parser
from evidence.errors import InvalidInput, Unavailable
from media.live.pushing import push, read_key, whole_packets

STDIN = "-"


def arguments(parser: Parser, _name: str) -> None:
    parser.add_argument("server", metavar="HOST:PORT", help="录制主机的 zmq-listen 地址 / where it listens")
    parser.add_argument(
        "source",
        nargs="?",
        default=STDIN,
        metavar="FILE",
        help="MPEG-TS 流,默认标准输入 / default standard input",
    )
    parser.add_argument(
        "--key", type=Path, required=True, metavar="FILE", help="本端私钥 / our key, the private half"
    )
    parser.add_argument(
        "--server-key",
        type=Path,
        required=True,
        metavar="FILE",
        help="录制端公钥 / the recorder's, the public half",
    )
    parser.set_defaults(run=_send)


def _send(options: argparse.Namespace) -> int:
    where = urlsplit(f"tcp://{options.server}")
    if not where.hostname or where.port is None:
        raise InvalidInput(f"server: expected HOST:PORT, found {options.server[:80]}", code="stream_address")
    key, server_key = read_key(options.key), read_key(options.server_key)
    descriptor = sys.stdin.fileno() if options.source == STDIN else os.open(options.source, os.O_RDONLY)
    is_live = not stat.S_ISREG(os.fstat(descriptor).st_mode)
    done = push(whole_packets(descriptor), where.geturl(), key, server_key, is_live=is_live)
    sent = done.messages - done.unheard
    print(f"已发送 {sent} 条消息 / messages sent: {sent} of {done.messages}, {done.size_bytes} bytes read")
    if done.unheard:
        unheard = done.unheard
        print(f"无人录制时产生、未发送 {unheard} 条 / made while nobody recorded, and not sent: {unheard}")
    if not done.is_through:
        raise Unavailable(
            f"{options.server}: expected the recorder to take everything, found it away; look at the "
            "room's address",
            code="recorder_away",
        )
    return 0
