"""The house rules that a machine can keep: who imports whom, what is pinned, what is never named."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.syntax import tree_of

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
IGNORED = {line.strip("/\n") for line in (ROOT / ".gitignore").read_text().splitlines()} | {".git"}
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def house_files() -> Iterator[Path]:
    """Every file of the checkout that belongs to the project."""
    for folder, names, files in os.walk(ROOT):
        names[:] = [name for name in names if name not in IGNORED and not name.endswith(".egg-info")]
        yield from (Path(folder) / name for name in files)


def modules(package: str) -> dict[str, Path]:
    """Module name to path, for every module of a package."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Everything a module is made of; each is parsed once for all that look."""
    return tuple(ast.walk(tree_of(path)))


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Absolute names a module imports; the house has no relative imports."""
    names: set[str] = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return frozenset(names)


# --- packages ---------------------------------------------------------------------------------


def test_every_top_level_package_is_listed_once_everywhere() -> None:
    on_disk = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert set(PACKAGES) == on_disk
    assert set(PROJECT["tool"]["importlinter"]["root_packages"]) == on_disk
    assert set(PROJECT["tool"]["mypy"]["packages"]) == on_disk


def test_no_dependency_brings_one_of_our_names() -> None:
    owners = importlib.metadata.packages_distributions()
    assert {name: owners.get(name, []) for name in PACKAGES if set(owners.get(name, [])) - {"liuhen"}} == {}


@pytest.mark.parametrize("name", PACKAGES)
def test_our_names_import_from_this_checkout(name: str) -> None:
    module = importlib.import_module(name)
    assert Path(str(module.__file__)).resolve() == ROOT / name / "__init__.py"


def test_wheel_holds_the_packages_and_nothing_else(tmp_path: Path) -> None:
    script = "import hatchling.build, sys; print(hatchling.build.build_wheel(sys.argv[1]))"
    made = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    with zipfile.ZipFile(tmp_path / made.stdout.split()[-1]) as wheel:
        tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_set_up_compiles_the_packages(tmp_path: Path) -> None:
    script = (
        "import sys, json; sys.path.insert(0, 'tools'); import setup;"
        "setup.compile_project(['config']); print(json.dumps(setup.own_packages()))"
    )
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert set(json.loads(told)) == set(PACKAGES)
    compiled = {path.name.split(".")[0] for path in tmp_path.rglob("*.pyc")}
    assert {path.stem for path in (ROOT / "config").rglob("*.py")} <= compiled


def test_package_stays_off_public_indexes() -> None:
    assert "Private :: Do Not Upload" in PROJECT["project"]["classifiers"]
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]


# --- imports ----------------------------------------------------------------------------------


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_imports_point_one_way() -> None:
    outcome = lint_imports(ROOT)
    assert outcome.returncode == 0, outcome.stdout


@pytest.fixture(scope="module")
def empty_house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages with nothing in their modules, and the contracts."""
    folder = tmp_path_factory.mktemp("house")
    for package in PACKAGES:
        for path in modules(package).values():
            if path.name == "__init__.py":
                copy = folder / path.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text("")
    shutil.copy(ROOT / "pyproject.toml", folder)
    assert lint_imports(folder).returncode == 0
    return folder


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("evidence/planted.py", "import config.settings", "Imports point one way"),
        ("transcode/planted.py", "import redaction", "Imports point one way"),
        ("storage/planted.py", "import ingest", "Imports point one way"),
        ("workers/planted.py", "import api", "Imports point one way"),
        ("ingest/sources/planted.py", "import ingest.daemon", "The use cases of ingest"),
        ("transcode/planted.py", "import av", "Only media opens footage"),
        ("cli/planted.py", "import imageio_ffmpeg", "Only media opens footage"),
    ],
)
def test_planted_import_is_caught(empty_house: Path, module: str, line: str, contract: str) -> None:
    planted = empty_house / module
    planted.write_text(line + "\n")
    outcome = lint_imports(empty_house)
    planted.unlink()
    assert outcome.returncode == 1
    assert re.search(rf"{re.escape(contract)}.*BROKEN", outcome.stdout), outcome.stdout


@pytest.mark.parametrize(("name", "path"), modules("evidence").items())
def test_evidence_imports_the_standard_library_alone(name: str, path: Path) -> None:
    tops = {imported.split(".")[0] for imported in imports_of(path)}
    # `_typeshed` exists for the type checker alone.
    assert tops - set(sys.stdlib_module_names) <= {"evidence", "_typeshed"}, name


def test_nothing_in_ingest_but_the_daemon_imports_the_daemon() -> None:
    guilty = {
        name
        for name, path in modules("ingest").items()
        if not name.startswith("ingest.daemon")
        and any(imported.startswith("ingest.daemon") for imported in imports_of(path))
    }
    assert guilty == set()


@pytest.mark.parametrize("package", ["ingest", "transcode", "redaction"])
def test_use_cases_neither_commit_nor_look_in_the_environment(package: str) -> None:
    guilty = []
    for name, path in modules(package).items():
        if name.startswith("ingest.daemon"):
            continue
        for node in nodes_of(path):
            if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "commit"}:
                guilty.append(f"{name}:{node.lineno} {node.attr}")
    assert guilty == []


def test_only_media_starts_the_ffmpeg_programs() -> None:
    runners = {"run", "run_async", "probe"}
    guilty = []
    for package in set(PACKAGES) - {"media"}:
        for name, path in modules(package).items():
            for node in nodes_of(path):
                named = isinstance(node, ast.Constant) and node.value in {"ffmpeg", "ffprobe"}
                started = (
                    isinstance(node, ast.Attribute)
                    and node.attr in runners
                    and isinstance(node.value, ast.Name)
                    and node.value.id == "ffmpeg"
                )
                if named or started:
                    guilty.append(f"{name}:{node.lineno}")
    assert guilty == []


# --- what is pinned ---------------------------------------------------------------------------


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_lock_pins_every_package_by_hash_and_names_no_address(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    entries = text.replace("\\\n", "").splitlines()
    assert entries
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^ ]+ ", entry), entry[:60]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry[:60]


def locked(name: str) -> dict[str, set[str]]:
    """Package to the versions a lock file pins."""
    versions: dict[str, set[str]] = {}
    for found in re.finditer(
        r"^([A-Za-z0-9._-]+)==([^ ]+)", (ROOT / "requirements" / name).read_text(), re.M
    ):
        versions.setdefault(found[1].lower().replace("_", "-"), set()).add(found[2])
    return versions


def requirement_name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return found[0].lower().replace("_", "-")


def test_locks_cover_what_the_project_asks_for() -> None:
    runtime = {requirement_name(each) for each in PROJECT["project"]["dependencies"]}
    dev = {requirement_name(each) for each in PROJECT["project"]["optional-dependencies"]["dev"]}
    assert runtime - set(locked("runtime.txt")) == set()
    assert dev - set(locked("dev.txt")) == set()


@pytest.mark.parametrize("smaller", ["runtime.txt", "build.txt"])
def test_development_lock_has_the_versions_of_the_smaller_ones(smaller: str) -> None:
    development = locked("dev.txt")
    assert {
        name: versions for name, versions in locked(smaller).items() if development.get(name) != versions
    } == {}


def test_everything_we_import_is_in_the_runtime_lock() -> None:
    owners = importlib.metadata.packages_distributions()
    pinned = set(locked("runtime.txt"))
    missing = set()
    for package in PACKAGES:
        for name, path in modules(package).items():
            for top in {imported.split(".")[0] for imported in imports_of(path)}:
                if top in sys.stdlib_module_names or top in PACKAGES or top == "_typeshed":
                    continue
                if not {owner.lower().replace("_", "-") for owner in owners.get(top, [])} & pinned:
                    missing.add(f"{name} imports {top}")
    assert missing == set()


# Costly to load, and needed by a step that most processes never come to.
LATE = {"alembic", "openpyxl"}


def test_costly_libraries_are_loaded_where_they_are_used() -> None:
    early = set()
    for name, path in ((name, path) for package in PACKAGES for name, path in modules(package).items()):
        for node in ast.iter_child_nodes(nodes_of(path)[0]):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            if {each.split(".")[0] for each in names} & LATE and not name.startswith("storage.migrations."):
                early.add(name)
    assert early == set()


def test_bundle_serves_every_patch_release_of_a_python() -> None:
    script = (
        "import sys, platform; sys.path.insert(0, 'tools'); import bundle; from pathlib import Path;"
        "print(bundle.without_markers(Path('requirements/dev.txt'), platform.machine()))"
    )
    text = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert " ; " not in text
    pins = set(re.findall(r"^([a-z0-9-]+)==", text, re.M))
    # Needed below 3.11.3 only, and on Windows only.
    assert ("async-timeout" in pins) == (sys.version_info < (3, 12))
    assert "colorama" not in pins
    assert set(locked("dev.txt")) - pins <= {"async-timeout", "colorama"}


def test_javascript_lock_is_exact_and_names_no_address() -> None:
    text = (ROOT / "tests" / "web" / "package-lock.json").read_text()
    assert "://" not in text
    packages: dict[str, dict[str, str]] = json.loads(text)["packages"]
    wanted = json.loads((ROOT / "tests" / "web" / "package.json").read_text())["dependencies"]
    for name, version in wanted.items():
        assert packages[f"node_modules/{name}"]["version"] == version
    for name, package in packages.items():
        assert not name or package["integrity"].startswith("sha512-"), name


def test_samples_come_from_pinned_packages_and_are_what_the_register_says() -> None:
    pinned = locked("samples.txt")
    for sample in json.loads((ROOT / "tools" / "samples.json").read_text())["samples"]:
        assert pinned[sample["package"].replace("_", "-")] == {sample["version"]}
        content = (ROOT / ".cache" / "samples" / sample["file_name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == sample["sha256"]


def test_weights_come_from_pinned_packages() -> None:
    from redaction.models import MODELS

    pinned = locked("weights.txt")
    assert {record.name: {record.version} for record in MODELS.values()} == {
        record.name: pinned[record.package] for record in MODELS.values()
    }


# --- what is never named ----------------------------------------------------------------------


def test_no_file_names_a_package_index() -> None:
    # Written in pieces, so that this file passes too.
    names = ("py" + "pi.org", "python" + "hosted", "registry" + ".npmjs", "npm" + "js.org", "npm" + "mirror")
    hosts = re.compile(
        "|".join(re.escape(name) for name in (*names, "deb" + ".debian.org", "tuna" + ".tsinghua"))
    )
    guilty = []
    for path in house_files():
        content = path.read_bytes()
        if b"\0" not in content and hosts.search(content.decode("utf-8", errors="replace")):
            guilty.append(str(path.relative_to(ROOT)))
    assert guilty == []


def test_nothing_is_left_for_later_in_the_code() -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b|pytest\.(mark\.)?(sk" + r"ip|xf" + r"ail)")
    guilty = [
        str(path.relative_to(ROOT))
        for path in house_files()
        if path.suffix == ".py" and marks.search(path.read_text())
    ]
    assert guilty == []


def test_no_module_tells_more_than_one_story() -> None:
    # The verifier is one file on purpose: it must run alone, on a machine without this product.
    on_purpose = {"cli.verifier"}
    long = {
        name: lines
        for package in PACKAGES
        for name, path in modules(package).items()
        if (lines := path.read_text().count("\n")) > 600
        and name not in on_purpose
        and not name.startswith("storage.migrations.versions")
    }
    assert long == {}


# --- commands and papers ----------------------------------------------------------------------


def test_make_lists_every_target() -> None:
    make = shutil.which("make")
    assert make
    listed = subprocess.run([make, "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rules = set(re.findall(r"^([a-z][a-z%-]*):", (ROOT / "Makefile").read_text(), re.M))
    assert rules >= {
        "setup",
        "demo",
        "run",
        "test",
        "check",
        "bench-%",
        "torture-%",
        "bundle",
        "lock",
        "clean",
    }
    assert {rule for rule in rules if f"make {rule} " not in listed} == set()


def test_ci_runs_what_the_readers_are_told_to_run() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "make test" in lines
    # `make check` is these two: the unit tests have run by then.
    assert "make lint" in lines


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_paper_names_only_code_that_is_there(path: Path) -> None:
    tops = "|".join([*PACKAGES, "tests", "tools", "docs", "requirements", "deploy"])
    named = re.findall(rf"`((?:{tops})/[A-Za-z0-9_/.-]*[a-z_/])`", path.read_text())
    assert {each for each in named if not (ROOT / each).exists()} == set()


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "adr").glob("*.md")), ids=lambda path: path.name)
def test_decision_record_has_its_four_parts(path: Path) -> None:
    text = path.read_text()
    parts = re.findall(r"^## (.+)$", text, re.M)
    assert parts == ["Context", "Decision", "Consequences", "Alternatives"]
    assert re.search(r"^Status: (accepted|superseded by \d{4})", text, re.M)
    assert len(text.split()) < 620, "a decision record fits a page"


def test_decision_records_are_numbered_without_a_gap() -> None:
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs" / "adr").glob("*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


RULES = {"R": 48, "L": 20, "A": 12, "D": 14, "S": 10}


def rule_rows() -> dict[str, list[str]]:
    rows: dict[str, list[str]] = {}
    for line in (ROOT / "docs" / "ref" / "rules.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"[RLADS]\d+", cells[0]):
            assert cells[0] not in rows, f"{cells[0]} stands twice"
            rows[cells[0]] = cells
    return rows


def test_every_rule_has_a_row_with_its_mark_and_state() -> None:
    rows = rule_rows()
    assert set(rows) == {
        f"{letter}{number}" for letter, last in RULES.items() for number in range(1, last + 1)
    }
    for identity, cells in rows.items():
        assert set(cells[2].split(", ")) <= {"confirmed", "secondary", "derived", "unconfirmed"}, identity
        assert cells[3] in {"embodied", "partly", "planned", "context"}, identity


def test_rule_said_to_be_embodied_names_its_code() -> None:
    for identity, cells in rule_rows().items():
        named = re.search(r"`[a-z_]+/[a-z_/]+(\.py)?`", cells[4])
        assert named or cells[3] in {"planned", "context"}, identity
