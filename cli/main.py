"""The `liuhen` command: finds the command, runs it, and turns what went wrong into one line and a status.

Exit status: 0 done, 1 findings (`check`, `verify`, `receipt verify`), 2 bad input or options, 3 not
found, 4 conflict, 5 not permitted, 6 unavailable (try again), 7 fixity, 8 custody, 9 media,
130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from cli.printable import printable
from config.load import SettingsError
from evidence.errors import (
    Conflict,
    CustodyError,
    EvidenceError,
    FixityError,
    InvalidInput,
    MediaError,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    Unavailable,
)

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("cli.up", "启动全部服务 / start everything on this machine"),
    "demo": ("cli.demo", "演示:从采集站到脱敏片段 / the whole way, on a throw-away data folder"),
    "init": ("cli.init", "建库、密钥、首批账号 / make tables, keys and the first accounts"),
    "agency": ("cli.agency", "机构:查看、更正名称 / the agency: show, correct its name"),
    "ingest": ("cli.entry", "上传监听与文件夹采集 / upload listener and watched folders"),
    "worker": ("cli.worker", "处理进程 / worker processes"),
    "relay": ("cli.entry", "派发任务、排序并签署保管链 / dispatch jobs, sequence and sign custody"),
    "api": ("cli.entry", "接口服务 / the HTTP API"),
    "media": ("cli.entry", "媒体字节服务 / the media listener"),
    "take": ("cli.take", "直接收入文件 / take files in"),
    "case": ("cli.case", "案件登记 / cases"),
    "item": ("cli.item", "音像列表与详情 / items"),
    "timeline": ("cli.timeline", "案件时间轴,经接口 / a case over wall time, through the API"),
    "clip": ("cli.clip", "取走片段 / take a clip away"),
    "picture": ("cli.clip", "取走单帧图片 / take one picture away"),
    "clip-set": ("cli.clip", "取走时段内各段片段 / take a numbered set of clips away"),
    "composite": ("cli.clip", "取走合成画面 / take several sources in one picture away"),
    "redaction": ("cli.redaction", "脱敏评分 / score redaction against known clips"),
    "names": ("cli.names", "文件名规则 / file-name profiles"),
    "bind": ("cli.bind", "关联案件 / tie an item to a case"),
    "unbind": ("cli.bind", "解除关联 / end a binding"),
    "split": ("cli.bind", "按时段拆分关联 / split a binding by spans"),
    "account": ("cli.account", "账号 / accounts"),
    "device": ("cli.device", "设备与领用 / devices and who holds them"),
    "dock": ("cli.dock", "采集站 / docking stations"),
    "duty": ("cli.duty", "执勤 / who is on duty"),
    "policy": ("cli.policy", "规则:期限与限值 / deadlines and limits, in versions"),
    "report": ("cli.report", "报表:缺录、逾期、配备、设备 / absence, lateness, ratio, devices"),
    "room": ("cli.room", "询问室 / interview rooms"),
    "plan": ("cli.plan", "预定的询问室会话 / planned sessions of interview rooms"),
    "redaction-plan": ("cli.redaction_plan", "脱敏方案:版本、修订、预览、CVAT / what is hidden, in versions"),
    "release": ("cli.release", "脱敏件的复核与发布 / review and release of what is redacted"),
    "trigger": ("cli.trigger", "录像机触发密钥 / keys of recorders that call"),
    "send": ("cli.send", "向询问室录制端推流 / push a stream to a room's recorder"),
    "session": ("cli.session", "询问室会话 / sessions of interview rooms"),
    "officer": ("cli.officer", "执法人员 / officers"),
    "token": ("cli.upload_token", "上传令牌 / upload tokens"),
    "jobs": ("cli.jobs", "任务:滞留、重排、计数 / jobs: stuck, requeue, counts"),
    "watch": ("cli.watch", "实时动态 / live events"),
    "receipt": ("cli.receipt", "回执:校验、按摘要索取 / receipts: verify, get by digest"),
    "alarm": ("cli.alarm", "告警:列表、解除 / alarms: list, clear"),
    "keys": ("cli.keys", "公钥列表与导出 / public keys"),
    "custody": ("cli.custody", "保管链:导出、检查点、证明 / custody: export, checkpoint, prove"),
    "verify": ("cli.verify", "校验保管链 / verify the custody log, live or an export"),
    "check": ("cli.check", "核对库、文件、摘要 / check rows, files, digests"),
    "backup": ("cli.backup", "备份 / back up"),
    "restore": ("cli.restore", "恢复到空目录 / restore into an empty data folder"),
}

EXITS: dict[type[EvidenceError], tuple[int, str]] = {
    InvalidInput: (2, "输入有误 / bad input"),
    NotFound: (3, "未找到 / not found"),
    Conflict: (4, "状态冲突 / conflict"),
    NotPermitted: (5, "无权限 / not permitted"),
    NotAuthenticated: (5, "未验证身份 / not authenticated"),
    Unavailable: (6, "暂不可用 / unavailable"),
    FixityError: (7, "摘要不符 / fixity"),
    CustodyError: (8, "保管链有误 / custody"),
    MediaError: (9, "媒体错误 / media"),
}


def listing() -> str:
    """The commands, a line each."""
    return "\n".join(f"  {name:<9} {text}" for name, (_, text) in COMMANDS.items())


def top_parser() -> argparse.ArgumentParser:
    """What stands before the command."""
    parser = argparse.ArgumentParser(
        prog="liuhen",
        usage="liuhen COMMAND [OPTIONS]",
        description="留痕:行政执法音像全过程记录 / the whole-process record of law enforcement",
        epilog=f"命令 / commands:\n{listing()}\n\n各命令的选项 / options of one: liuhen COMMAND --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"liuhen {version('liuhen')}")
    parser.add_argument("command", metavar="COMMAND", nargs="?", help=argparse.SUPPRESS)
    return parser


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one command, its module imported only now."""
    module, text = COMMANDS[name]
    parser = argparse.ArgumentParser(prog=f"liuhen {name}", description=text)
    importlib.import_module(module).arguments(parser, name)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status says how it went."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] not in COMMANDS:
        top = top_parser()
        options = top.parse_args(words)
        if options.command is None:
            top.print_help()
            return 0
        top.error(f"无此命令 / no such command: {options.command}")
    try:
        parsed = command_parser(words[0]).parse_args(words[1:])
        status = int(parsed.run(parsed) or 0)
        sys.stdout.flush()
    except EvidenceError as error:
        number, kind = next(
            (found for kind, found in EXITS.items() if isinstance(error, kind)), (1, "错误 / error")
        )
        print(f"liuhen: {kind}: {printable(error.message)} [{error.code}]", file=sys.stderr)
        return number
    except SettingsError as error:
        print(f"liuhen: 设置有误 / settings: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing more may be written on the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        print(f"liuhen: 系统错误 / system: {name}{error.strerror or error}", file=sys.stderr)
        return 6
    except KeyboardInterrupt:
        print("liuhen: 已中断 / interrupted", file=sys.stderr)
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
