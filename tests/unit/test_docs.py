"""The reference is complete: every setting, error code, event, route and command appears there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from api.app import GATES
from cli.main import COMMANDS
from config.settings import Group, Settings
from evidence.custody import Action
from evidence.events import Topic
from tests.support.syntax import tree_of

ROOT = Path(__file__).resolve().parent.parent.parent
REFERENCE = ROOT / "docs" / "ref"
PACKAGES = ("api", "cli", "config", "evidence", "ingest", "media", "messaging", "redaction", "storage",
            "transcode", "workers")  # fmt: skip
ERRORS = {"NotFound", "Conflict", "InvalidInput", "NotPermitted", "NotAuthenticated", "Unavailable",
          "FixityError", "CustodyError", "MediaError", "EvidenceError"}  # fmt: skip


def text_of(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def settings_of(group: type[Group], prefix: str = "") -> Iterator[str]:
    for name, field in group.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Group):
            yield from settings_of(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def codes_raised() -> Iterator[str]:
    """Every literal ``code=`` of a deliberate error, and the default of each kind."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(tree_of(path)):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
                    for keyword in node.keywords:
                        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                            yield str(keyword.value.value)
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "default_code":
                    assert isinstance(node.value, ast.Constant)
                    yield str(node.value.value)


@pytest.mark.parametrize("setting", sorted(settings_of(Settings)))
def test_every_setting_is_in_the_reference(setting: str) -> None:
    assert f"`{setting}`" in text_of("settings.md")


@pytest.mark.parametrize("code", sorted(set(codes_raised())))
def test_every_error_code_is_in_the_reference(code: str) -> None:
    assert f"`{code}`" in text_of("errors.md")


def test_every_custody_action_is_in_the_reference() -> None:
    named = set(re.findall(r"`([a-z_]+:[a-z_]+)`", text_of("events.md")))
    assert {str(action) for action in Action} <= named


def test_every_live_topic_is_in_the_reference() -> None:
    named = set(re.findall(r"^\| `([a-z]+)` \|", text_of("events.md"), re.MULTILINE))
    assert {str(topic) for topic in Topic} <= named


def test_every_route_is_in_the_reference() -> None:
    described = text_of("api.md")
    paths = {route.path for gate in GATES for route in gate.router.routes if isinstance(route, APIRoute)}
    assert {path for path in paths if path not in described} == set()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_is_in_the_reference(command: str) -> None:
    assert f"liuhen {command}" in text_of("commands.md")


def test_every_link_between_documents_leads_somewhere() -> None:
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if (
                not target.startswith(("http://", "https://", "mailto:"))
                and not (page.parent / target).exists()
            ):
                broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert broken == []
