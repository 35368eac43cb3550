"""What keeps the agent a program of its own: imports, dependencies, the wheel, the papers."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

DOCK = Path(__file__).resolve().parents[1]
ROOT = DOCK.parent
MODULES = sorted((DOCK / "liuhen_dock").rglob("*.py"))
HOUSE: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["packages"]
PROJECT = tomllib.loads((DOCK / "pyproject.toml").read_text())["project"]


def imports_of(path: Path) -> set[str]:
    """Top names of what a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            names.add(str(node.module).split(".")[0])
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_agent_imports_its_own_few_dependencies_and_nothing_of_the_server(path: Path) -> None:
    allowed = {"liuhen_dock", *(re.match(r"[a-z0-9]+", each)[0] for each in PROJECT["dependencies"])}  # type: ignore[index]
    assert imports_of(path) - set(sys.stdlib_module_names) <= allowed


def test_server_imports_nothing_of_the_agent() -> None:
    guilty = [
        str(path.relative_to(ROOT))
        for package in HOUSE
        for path in (ROOT / package).rglob("*.py")
        if "liuhen_dock" in path.read_text("utf-8")
    ]
    assert guilty == []


def test_agent_imports_where_none_of_the_server_is_installed() -> None:
    script = (
        "import sys, importlib, pkgutil\n"
        f"sys.path[:] = [p for p in sys.path if p not in ('', {str(ROOT)!r})] + [{str(DOCK)!r}]\n"
        "import liuhen_dock\n"
        "for module in pkgutil.iter_modules(liuhen_dock.__path__):\n"
        "    if module.name != '__main__': importlib.import_module('liuhen_dock.' + module.name)\n"
        f"print(sorted(set(sys.modules) & set({HOUSE!r})))"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd="/", capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_agent_asks_for_nothing_the_lock_does_not_pin() -> None:
    lock = (ROOT / "requirements" / "runtime.txt").read_text()
    for requirement in PROJECT["dependencies"]:
        name = re.match(r"[a-z0-9-]+", requirement)
        assert name
        assert re.search(rf"^{name[0]}==", lock, re.M), requirement


def test_wheel_is_pure_and_holds_the_package_with_its_assets(tmp_path: Path) -> None:
    script = "import hatchling.build, sys; print(hatchling.build.build_wheel(sys.argv[1]))"
    made = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=DOCK, capture_output=True, text=True, check=True
    ).stdout.split()[-1]
    assert made.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(tmp_path / made) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        entry = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        assert "liuhen-dock = liuhen_dock.cli:main" in wheel.read(entry).decode()
    assert names == {
        str(path.relative_to(DOCK).as_posix())
        for path in (DOCK / "liuhen_dock").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_module_tells_more_than_one_story(path: Path) -> None:
    assert path.read_text("utf-8").count("\n") < 400


@pytest.mark.parametrize("name", ["page.html", "page.css", "page.js"])
def test_page_fetches_nothing_from_elsewhere(name: str) -> None:
    text = (DOCK / "liuhen_dock" / "assets" / name).read_text("utf-8")
    assert "//" not in re.sub(r"^\s*//.*$", "", text, flags=re.M)
    assert "innerHTML" not in text


def settings_read() -> set[str]:
    """Every setting `config.py` asks for, as it is written."""
    text = (DOCK / "liuhen_dock" / "config.py").read_text("utf-8")
    return set(re.findall(r'"((?:server|dock|watch|upload|page)\.[a-z_]+)"', text)) - {"dock.toml"}


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_papers_name_every_setting_and_command(page: str) -> None:
    text = (DOCK / page).read_text("utf-8")
    tables: dict[str, set[str]] = {}
    example = re.search(r"```toml\n(.*?)```", text, re.S)
    assert example
    for name, table in tomllib.loads(example[1]).items():
        tables[name] = set(table) if isinstance(table, dict) else set().union(*table)
    missing = {name for name in settings_read() if name.split(".")[1] not in tables[name.split(".")[0]]}
    assert missing == set()
    assert tables["slot"] == {"folder", "profile", "device_no"}
    assert tables["rate"] == {"hours", "limit_mbit_s"}
    for command in ("run", "once", "status", "profiles", "check-config", "receipt"):
        assert f"liuhen-dock {command}" in text
