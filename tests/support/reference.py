"""The reference pages that are written from the program itself: commands and settings.

``python -m tests.support.reference`` writes them; a test holds them to what the program says.
"""

from __future__ import annotations

import argparse
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cli.main import COMMANDS, EXITS, command_parser
from config.rooms import PointSettings, RoomSettings, StreamSettings
from config.settings import DockKey, FolderSettings, Group, Settings, SourceSettings

REFERENCE = Path(__file__).parents[2] / "docs" / "ref"

LISTS: dict[str, type[Group]] = {
    "ingest.folders": FolderSettings,
    "ingest.sources": SourceSettings,
    "ingest.sftp.keys": DockKey,
    "recorder.rooms": RoomSettings,
    "recorder.rooms.checklist": PointSettings,
    "recorder.rooms.streams": StreamSettings,
}

COMMANDS_HEAD = """# 命令 · Commands

由程序自身写出，勿手改 · written from the program itself (`python -m tests.support.reference`); do not edit.

每个命令都接受公共选项 · every command takes the common options `--data DIR`, `--config FILE`,
`--set GROUP.NAME=VALUE` and `--agency CODE`, unless its usage says otherwise.

## 退出码 · Exit status

| status | meaning |
|---|---|
| 0 | 完成 / done |
| 1 | 有问题（`check`、`verify`、`receipt verify`、`restore`）/ findings |
"""

SETTINGS_HEAD = """# 设置 · Settings

由程序自身写出，勿手改 · written from the program itself (`python -m tests.support.reference`); do not edit.

先后 · order: default, then the TOML file (`LIUHEN_CONFIG`, else `liuhen.toml` in the working folder, else
`liuhen.toml` in the data folder), then variables (`LIUHEN_API__PORT=8700`), then `--set api.port=8700` and
`--data`. Units close the name. No secret has a default: keys and the first accounts are made by the first
start.
"""


def commands_page() -> str:
    """docs/ref/commands.md."""
    lines = [COMMANDS_HEAD.rstrip()]
    lines += [f"| {number} | {text} |" for number, text in sorted(set(EXITS.values()))]
    lines += ["| 130 | 已中断 / interrupted |", ""]
    for name, (_, text) in COMMANDS.items():
        parser = command_parser(name)
        lines += [f"## liuhen {name}", "", f"{text}", ""]
        lines += list(_parser_lines(parser))
    return "\n".join(lines).rstrip() + "\n"


def _parser_lines(parser: argparse.ArgumentParser) -> Iterator[str]:
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice, sub in action.choices.items():
                yield from (f"### {sub.prog.removesuffix(choice)}{choice}", "", sub.description or "", "")
                yield from _parser_lines(sub)
            continue
        if action.dest in {"help", "data", "config", "set", "agency"}:
            continue
        rows.append(f"| `{_spelled(action)}` | {(action.help or '').replace('|', '¦')} |")
    if rows:
        yield from ("| option | |", "|---|---|", *rows, "")


def _spelled(action: argparse.Action) -> str:
    value = action.metavar or ("" if action.nargs == 0 else action.dest.upper())
    if action.choices is not None and not isinstance(action, argparse.BooleanOptionalAction):
        value = "{" + ",".join(map(str, action.choices)) + "}"
    if not action.option_strings:
        return f"[{value}]" if action.nargs in {"?", "*"} else f"{value}{' …' if action.nargs == '+' else ''}"
    return f"{', '.join(action.option_strings)} {value}".strip()


def settings_page() -> str:
    """docs/ref/settings.md."""
    lines = [SETTINGS_HEAD]
    for group, info in Settings.model_fields.items():
        lines += _group_lines(group, info.annotation)
    for name, entry in LISTS.items():
        lines += [f"One entry of `{name}` (`[[{name}]]` in TOML):", ""]
        lines += _group_lines(f"{name}[]", entry)
    return "\n".join(lines).rstrip() + "\n"


def _group_lines(name: str, model: Any) -> list[str]:
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    lines = [f"## {name}", "", (model.__doc__ or "").strip().splitlines()[0], ""]
    lines += ["| setting | type | default | |", "|---|---|---|---|"]
    inner: list[str] = []
    for field, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            inner += _group_lines(f"{name}.{field}", info.annotation)
            continue
        lines.append(f"| `{name}.{field}` | {_type(info)} | {_default(info)} | {info.description} |")
    return [*lines, "", *inner]


def _type(info: FieldInfo) -> str:
    kind = info.annotation
    if isinstance(kind, types.UnionType):
        kind = next(one for one in get_args(kind) if one is not type(None))
    words = get_args(kind)
    if words and all(isinstance(word, str) for word in words):
        return " or ".join(f"`{word}`" for word in words)
    return "list" if words else getattr(kind, "__name__", str(kind)).lower()


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True)
    if info.is_required():
        return "required"
    if value is None or value == []:
        return "–"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def main() -> None:
    REFERENCE.mkdir(parents=True, exist_ok=True)
    (REFERENCE / "commands.md").write_text(commands_page(), encoding="utf-8")
    (REFERENCE / "settings.md").write_text(settings_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
