"""docker-compose.yml, Dockerfile and deploy/nginx.conf say things that hold together.

The file is checked against the schema of the Compose specification, its variables are resolved as
Compose resolves them, and each claim it makes about our own settings and commands is compared with
the code. `service_commands` hands out each service's command as written.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cli.main import COMMANDS
from config.load import load_settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::?([?-])([^}]*))?\}")
GIVEN = {
    "LIUHEN_HOST": "evidence.example",
    "LIUHEN_DATABASE_PASSWORD": "0123456789abcdef",
    "LIUHEN_REDIS_PASSWORD": "fedcba9876543210",
    "LIUHEN_TLS_CERT": "./tls.crt",
    "LIUHEN_TLS_KEY": "./tls.key",
}
OURS = {"init", "ingest", "worker", "relay", "api", "media"}


def resolve(text: str, given: dict[str, str]) -> str:
    """Put variables in place the way Compose does; a required one that is missing ends it."""

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        if given.get(name):
            return given[name]
        if kind == "?":
            raise LookupError(rest)
        return rest or ""

    return VARIABLE.sub(value, text)


def compose(given: dict[str, str] | None = None) -> dict[str, Any]:
    """The file as Compose reads it: variables resolved, anchors merged, extensions dropped."""
    document = yaml.safe_load(resolve(COMPOSE.read_text(), GIVEN if given is None else given))
    return {name: value for name, value in document.items() if not name.startswith("x-")}


def service_commands(document: dict[str, Any]) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Each service's command as written, and its environment."""
    return {
        name: (list(service["command"]), dict(service.get("environment", {})))
        for name, service in document["services"].items()
    }


def test_compose_file_fits_the_schema_of_the_specification() -> None:
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    document = compose()
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [finding.message for finding in validator.iter_errors(document)] == []


def test_every_service_of_the_design_is_there() -> None:
    assert set(compose()["services"]) == OURS | {"postgres", "redis", "nginx"}


@pytest.mark.parametrize("missing", sorted(GIVEN))
def test_missing_value_stops_the_start_and_is_named(missing: str) -> None:
    with pytest.raises(LookupError, match=missing):
        compose({name: value for name, value in GIVEN.items() if name != missing})


def test_no_secret_has_a_default() -> None:
    for name, kind, _ in VARIABLE.findall(COMPOSE.read_text()):
        assert kind == "?", f"{name} must be required"
    for _, environment in service_commands(compose()).values():
        for name, value in environment.items():
            if re.search("PASSWORD|AUTH|SECRET|TOKEN", name):
                assert value in GIVEN.values(), name


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_service_runs_the_command_of_its_name(name: str) -> None:
    command, _ = service_commands(compose())[name]
    assert command == ["liuhen", name]
    assert name in COMMANDS


@pytest.mark.parametrize("name", sorted(OURS))
def test_environment_of_our_service_is_a_valid_set_of_settings(name: str) -> None:
    _, environment = service_commands(compose())[name]
    settings = load_settings(environment, file=None)
    assert settings.database_url.startswith("postgresql+psycopg://")
    assert settings.broker_url.startswith("redis://")
    assert settings.api.behind_proxy
    assert settings.ingest.behind_proxy
    assert settings.media.behind_proxy


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_service_has_no_more_rights_than_it_needs(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "ports" not in service
    assert service["networks"] == ["inside"]


def test_only_the_proxy_is_reachable_and_the_inside_has_no_way_out() -> None:
    document = compose()
    assert [name for name, service in document["services"].items() if "ports" in service] == ["nginx"]
    assert document["networks"]["inside"]["internal"] is True


def test_everything_named_is_declared() -> None:
    document = compose()
    for name, service in document["services"].items():
        assert set(service.get("networks", [])) <= set(document["networks"]), name
        assert set(service.get("secrets", [])) <= set(document["secrets"]), name
        assert set(service.get("depends_on", {})) <= set(document["services"]), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in document["volumes"] or (ROOT / source).exists(), f"{name}: {source}"


def test_services_wait_for_the_tables() -> None:
    services = compose()["services"]
    for name in OURS - {"init"}:
        assert services[name]["depends_on"]["init"] == {"condition": "service_completed_successfully"}


def test_proxy_passes_on_to_the_ports_the_services_listen_on() -> None:
    _, environment = service_commands(compose())["api"]
    settings = load_settings(environment, file=None)
    passed = dict(re.findall(r"proxy_pass http://(\w+):(\d+);", (ROOT / "deploy" / "nginx.conf").read_text()))
    assert {name: int(port) for name, port in passed.items()} == {
        "ingest": settings.ingest.port,
        "api": settings.api.port,
        "media": settings.media.port,
    }
    probes = {name: str(service.get("healthcheck")) for name, service in compose()["services"].items()}
    for name, port in passed.items():
        assert f"127.0.0.1:{port}/" in probes[name]


def test_proxy_neither_buffers_uploads_nor_logs_grants() -> None:
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    assert "proxy_request_buffering off;" in text
    assert not re.search(r"log_format[^;]*\$(request|request_uri|uri|args|query_string)\b", text)
    pattern, shown = re.findall(r'"~(\^[^"]+)"\s+"([^"]+)";', text)[0]
    for path in ("/m/SECRET/redacted.mp4", "/m/SECRET", "/api/v1/playlists/SECRET/index.m3u8"):
        masked = re.sub(pattern, shown.replace("$1", r"\1").replace("$2", r"\2"), path)
        assert "SECRET" not in masked
        assert masked.startswith("/m/-" if path.startswith("/m/") else "/api/v1/playlists/-")
    # Errors quote the request line.
    servers = text.split("server {")[1:]
    assert [re.findall(r"error_log \S+ (\w+);", part) for part in servers] == [["crit"], ["crit"]]


def test_image_takes_every_package_of_ours_and_runs_as_nobody_special() -> None:
    text = (ROOT / "Dockerfile").read_text()
    packages = re.search(r"^packages = \[([^\]]+)\]", (ROOT / "pyproject.toml").read_text(), re.M)
    assert packages
    admitted = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    for name in re.findall(r'"(\w+)"', packages[1]):
        assert f"COPY {name} {name}\n" in text
        assert name in admitted
    assert re.findall(r"^USER (.+)$", text, re.M) == ["liuhen"]
    assert "tools/setup.py" in text
