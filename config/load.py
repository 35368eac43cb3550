"""Where settings come from: defaults, then one TOML file, then the environment.

`LIUHEN_CONFIG` names the file. Without it `liuhen.toml` is read: that in the working folder, else that in the
data folder, so that every command given the same `--data` reads the same. The environment overrides single
settings: `LIUHEN_INGEST__PORT=8700`. Values that are not plain text (lists, numbers, booleans) are read as
TOML.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from config.settings import DataSettings, Settings

PREFIX = "LIUHEN_"
CONFIG_VARIABLE = "LIUHEN_CONFIG"
DATA_VARIABLE = "LIUHEN_DATA__DIR"
FILE_NAME = "liuhen.toml"


class SettingsError(ValueError):
    """A setting cannot be used; the message lists every finding, a line each."""


def load_settings(
    environment: Mapping[str, str] | None = None,
    *,
    file: Path | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """Settings of this process.

    Args:
        environment: Variables to read; the process's own when omitted.
        file: TOML file; when omitted `LIUHEN_CONFIG`, or `liuhen.toml` of the working or the data folder.
        overrides: `group.name` to value, from command-line options; they win.

    Raises:
        SettingsError: The file cannot be read, or a setting is unknown or of the wrong type.
    """
    variables = os.environ if environment is None else environment
    values: dict[str, Any] = _read_file(file, variables, overrides or {})
    for name, text in variables.items():
        if name.startswith(PREFIX) and "__" in name:
            _put(values, name[len(PREFIX) :].lower().split("__"), _parse(text), name)
    for dotted, value in (overrides or {}).items():
        _put(values, dotted.split("."), value, dotted)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = [
            f"setting {'.'.join(str(part) for part in finding['loc'])}: {finding['msg']}, "
            f"found {_shown(finding)}"
            for finding in error.errors(include_url=False, include_context=False)
        ]
        raise SettingsError("\n".join(lines)) from error


def _shown(finding: Mapping[str, Any]) -> str:
    """What was found, unless it may hold a password."""
    secret = any(str(part).endswith("url") for part in finding["loc"])
    return "something else" if secret else repr(finding["input"])


def _read_file(
    file: Path | None, variables: Mapping[str, str], overrides: Mapping[str, object]
) -> dict[str, Any]:
    named = file or (Path(variables[CONFIG_VARIABLE]) if variables.get(CONFIG_VARIABLE) else None)
    if named is not None:
        return _read_toml(named)
    working = Path(FILE_NAME)
    if working.exists():
        return _read_toml(working)
    folder = overrides.get("data.dir") or variables.get(DATA_VARIABLE) or DataSettings().dir
    beside = Path(str(folder)) / FILE_NAME
    if not beside.exists():
        return {}
    values = _read_toml(beside)
    group = values.get("data")
    if isinstance(group, dict) and "dir" in group:
        raise SettingsError(
            f"settings file {beside}: expected no data.dir, since it lies in the data folder, found one; "
            "take it out"
        )
    return values


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"settings file {path}: expected readable TOML, found: {error}") from error


def _parse(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _put(values: dict[str, Any], path: list[str], value: object, name: str) -> None:
    for part in path[:-1]:
        step = values.setdefault(part, {})
        if not isinstance(step, dict):
            raise SettingsError(f"setting {name}: expected a group at {part}, found {step!r}")
        values = step
    values[path[-1]] = value
