"""`liuhen-dock`: run, once, status, profiles, check-config, receipt.

Exit status: 0 well; 1 something is left to do or was found wrong; 2 the command, the
configuration or the token cannot be used; 3 another agent holds the state folder.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from threading import Event, Thread

import httpx
from rich.console import Console

from liuhen_dock import __version__
from liuhen_dock.config import (
    CONFIG_VARIABLE,
    DEFAULT_PROFILES,
    TOKEN_VARIABLE,
    default_path,
    load_config,
)
from liuhen_dock.errors import BadReceipt, ConfigError, DockError
from liuhen_dock.mounts import volumes
from liuhen_dock.names import shown
from liuhen_dock.page import HOST, page
from liuhen_dock.profiles import load_profiles
from liuhen_dock.receipts import ReceiptFolder, parse_key, verify
from liuhen_dock.station import Station, station
from liuhen_dock.terminal import summary, watch

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"
LOG_BYTES = 4 << 20
OK, LEFT, UNUSABLE, TAKEN = 0, 1, 2, 3
EPILOG = f"""退出码 / exit status: 0 正常 well; 1 有未完成或有问题 something is left or wrong;
2 命令、配置或令牌不可用 unusable command, configuration or token; 3 已有一个在运行 another one runs.
令牌 / token: 文件 server.token_file(权限 0600 / mode 0600)或环境变量 / or {TOKEN_VARIABLE}."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format=LOG_FORMAT,
        stream=sys.stderr,
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except ConfigError as error:
        print(error.message, file=sys.stderr)
        return TAKEN if error.code == "already_running" else UNUSABLE
    except DockError as error:
        print(error.message, file=sys.stderr)
        return LEFT
    except BrokenPipeError:
        # Whoever read us has left, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return LEFT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "liuhen-dock",
        description="留痕采集站:上传执法记录仪,凭回执才清理 / "
        "the dock agent of Liuhen: uploads body cameras, frees them only by a receipt",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"liuhen-dock {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config", type=Path, metavar="FILE",
        default=Path(os.environ.get(CONFIG_VARIABLE) or default_path()),
        help=f"配置文件,默认 %(default)s 或 {CONFIG_VARIABLE} / the configuration",
    )  # fmt: skip
    common.add_argument("--verbose", action="store_true", help="详细日志 / say more in the log")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="命令 / commands")

    def add(name: str, text: str, function: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, parents=[common])
        sub.set_defaults(command=function)
        return sub

    running = add("run", "持续运行:插入即上传 / keep running: upload what is put in", _run)
    running.add_argument("--no-table", action="store_true", help="只写日志 / log lines, no table")
    once = add("once", "处理现在插着的设备后退出 / do what is in now, then end", _once)
    once.add_argument("--no-table", action="store_true", help="只写日志 / log lines, no table")
    once.add_argument(
        "--wait-s", type=float, default=600.0, metavar="S",
        help="传完后等回执多少秒,默认 600 / how long to wait for receipts, default 600",
    )  # fmt: skip
    status = add("status", "正在运行的采集站的状态 / what the running agent is doing", _status)
    status.add_argument("--json", action="store_true", help="输出 JSON / print JSON")
    profiles = add("profiles", "设备型号列表;或试某个目录 / list profiles, or try a folder", _profiles)
    profiles.add_argument("--try", dest="folder", type=Path, metavar="DIR",
                          help="此目录符合哪个型号 / which one fits this folder")  # fmt: skip
    add("check-config", "检查配置、令牌和公钥 / check configuration, token and keys", _check)
    receipt = add("receipt", "列出、校验保存的回执 / list or verify kept receipts", _receipt)
    receipt.add_argument(
        "what", metavar="SHA256|FILE", help="摘要或其开头,或回执文件 / a digest or its beginning, or a file"
    )
    receipt.add_argument(
        "--key", metavar="KEY", help="公钥,默认取配置 / public key; default: those of the configuration"
    )
    return parser


@contextmanager
def _at_work(options: argparse.Namespace, ended: Event) -> Iterator[Station]:
    config = load_config(options.config, os.environ, needs_token=True)
    console = Console()
    with ExitStack() as stack:
        made = stack.enter_context(station(config))
        _stop_on_signals(made)
        if config.page_port:
            stack.enter_context(page(config.page_port, made.board.snapshot))
            logging.info("page: http://%s:%d/", HOST, config.page_port)
        _log_to_file(config.state_dir / "dock.log", stack)
        if console.is_terminal and not options.no_table:
            # The table has the screen; the file keeps the words.
            for handler in logging.getLogger().handlers:
                if type(handler) is logging.StreamHandler:
                    handler.setLevel(logging.CRITICAL)
            watching = Thread(target=watch, args=(made.board, ended, console), daemon=True)
            watching.start()
            stack.callback(watching.join, 2)
        stack.callback(ended.set)
        yield made


def _log_to_file(path: Path, stack: ExitStack) -> None:
    """Keep a log of bounded size on the dock, for whoever asks later what failed."""
    handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=3, encoding="utf-8")
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    logging.getLogger().addHandler(handler)
    stack.callback(handler.close)
    stack.callback(logging.getLogger().removeHandler, handler)


def _stop_on_signals(made: Station) -> None:
    def stop(_number: int, _frame: object) -> None:
        made.stop.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if sys.platform == "win32":
        signal.signal(signal.SIGBREAK, stop)


def _run(options: argparse.Namespace) -> int:
    with _at_work(options, Event()) as made:
        made.run()
    return OK


def _once(options: argparse.Namespace) -> int:
    with _at_work(options, Event()) as made:
        is_clean = made.until_quiet(options.wait_s)
        said = summary(made.board.snapshot())
    print(said)
    return OK if is_clean else LEFT


def _status(options: argparse.Namespace) -> int:
    config = load_config(options.config, os.environ)
    if not config.page_port:
        raise ConfigError("status: expected page.port, found 0: the agent shows nothing")
    try:
        answer = httpx.get(f"http://{HOST}:{config.page_port}/state.json", timeout=5, trust_env=False)
        seen = answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        print(f"采集站没有运行 / the agent does not run: {error}", file=sys.stderr)
        return LEFT
    print(json.dumps(seen, ensure_ascii=False, indent=2) if options.json else summary(seen))
    bad = seen["server"] is not None or any(camera["state"] == "attention" for camera in seen["cameras"])
    return LEFT if bad else OK


def _profiles(options: argparse.Namespace) -> int:
    from liuhen_dock.card import profile_of
    from liuhen_dock.mounts import Slot

    if options.config.exists():
        config = load_config(options.config, os.environ)
        every, used = config.all_profiles, [profile.name for profile in config.profiles]
    else:
        every, used = load_profiles(), list(DEFAULT_PROFILES)
    if options.folder is None:
        for profile in every.values():
            mark = "*" if profile.name in used else " "
            print(f"{mark} {profile.name}: {profile.title_zh} / {profile.title_en}")
        return OK
    for volume in volumes((), [Slot(options.folder)]):
        found = profile_of(volume, [every[name] for name in used])
        print(f"{shown(str(options.folder))}: {found.name if found else '不符合任何型号 / no profile fits'}")
        return OK if found else LEFT
    raise ConfigError(f"{options.folder}: expected a folder, found none")


def _check(options: argparse.Namespace) -> int:
    config = load_config(options.config, os.environ, needs_token=True)
    print(f"配置可用 / the configuration is good: {config.path}")
    print(f"服务器 / server: {config.server_url}; 公钥 / receipt keys: {len(config.receipt_keys)}")
    freeing = "凭回执清理 / freed by receipt" if config.free_after_receipt else "从不清理 / never freed"
    print(f"存储卡 / cards: {freeing}; 型号 / profiles: {', '.join(p.name for p in config.profiles)}")
    for hours in config.hours:
        limit = f"{hours.bytes_per_s / 125_000:g} Mbit/s" if hours.bytes_per_s else "暂停 / pause"
        print(f"限速 / rate: {hours.since:%H:%M}-{hours.until:%H:%M} {limit}")
    return OK


def _receipt(options: argparse.Namespace) -> int:
    given = Path(options.what)
    # A receipt in a file and a key that is given need no configuration: any machine can look.
    needs_config = options.key is None or not given.is_file()
    config = load_config(options.config, os.environ) if needs_config else None
    keys = list(config.receipt_keys) if config is not None else []
    if options.key is not None:
        path = Path(options.key)
        keys = [parse_key(path.read_text("utf-8") if path.is_file() else options.key)]
    if given.is_file():
        paths = [given]
    else:
        paths = ReceiptFolder(config.state_dir / "receipts").find(options.what) if config is not None else []
    if not paths:
        print(f"没有回执 / no receipt: {options.what}", file=sys.stderr)
        return LEFT
    status = OK
    for path in paths:
        try:
            told = verify(path.read_bytes(), keys)
        except BadReceipt as error:
            print(f"{path}: 无效 / not valid: {error.message}")
            status = LEFT
        else:
            print(f"{path}: 有效 / valid: item {told.get('item')} "
                  f"device {told.get('device_no') or '未载明 / not named'} sha256 {told.get('sha256')} "
                  f"size {told.get('size_bytes')}")  # fmt: skip
    return status
