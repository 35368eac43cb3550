"""`liuhen watch`: live events, a line each. News only: a flood or a late start loses some."""

from __future__ import annotations

import argparse
import json
import time

from cli.shell import Parser, add_common, at_desk
from messaging.events import EventReader


def arguments(parser: Parser, _name: str) -> None:
    add_common(parser)
    parser.add_argument("--json", action="store_true", help="每行一个 JSON / one JSON text a line")
    parser.add_argument(
        "--for", dest="seconds", type=float, metavar="SECONDS", help="看多久,默认到 Ctrl-C / for how long"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    with at_desk(options) as desk:
        url, code = desk.settings.events_subscribe_url, desk.agency.code
    reader = EventReader(url, code)
    until = None if options.seconds is None else time.monotonic() + options.seconds
    try:
        while until is None or time.monotonic() < until:
            event = reader.next(1.0 if until is None else max(0.0, min(1.0, until - time.monotonic())))
            if event is None:
                continue
            if options.json:
                print(json.dumps(event, ensure_ascii=False), flush=True)
            else:
                facts = " ".join(f"{name}={value}" for name, value in event["facts"].items())
                head = f"{event['at'][11:19]} {event['topic']:<7}{event['what']:<14}{event['subject_id']}"
                print(f"{head}  {facts}".rstrip(), flush=True)
    finally:
        reader.close()
    return 0
