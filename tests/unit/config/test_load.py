"""Settings: file, then environment, then options; an unknown name is an error in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from config.load import SettingsError, load_settings
from config.settings import ContinuitySettings


def test_the_environment_overrides_the_file_and_options_override_both(tmp_path: Path) -> None:
    file = tmp_path / "liuhen.toml"
    file.write_text("[ingest]\nport = 1\n[api]\nport = 2\n[media]\nport = 3\n")
    settings = load_settings(
        {"LIUHEN_API__PORT": "20", "LIUHEN_MEDIA__PORT": "30"}, file=file, overrides={"media.port": 300}
    )
    assert (settings.ingest.port, settings.api.port, settings.media.port) == (1, 20, 300)


def test_without_a_named_file_the_working_folders_is_read_else_the_data_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    working, data = tmp_path / "working", tmp_path / "data"
    for folder in (working, data):
        folder.mkdir()
    monkeypatch.chdir(working)
    (data / "liuhen.toml").write_text("[api]\nport = 1\n")
    given = {"LIUHEN_DATA__DIR": str(data)}
    assert load_settings(given).api.port == load_settings({}, overrides={"data.dir": data}).api.port == 1
    (working / "liuhen.toml").write_text("[api]\nport = 2\n")
    assert load_settings(given).api.port == 2
    (working / "liuhen.toml").unlink()
    (data / "liuhen.toml").write_text('[data]\ndir = "/elsewhere"\n')
    with pytest.raises(SettingsError, match=r"expected no data\.dir"):
        load_settings(given)


@pytest.mark.parametrize(
    "environment",
    [{"LIUHEN_INGEST__PROT": "1"}, {"LIUHEN_INGEST__PORT": "abc"}, {"LIUHEN_INGEST__PORT": "70000"}],
)
def test_what_cannot_be_used_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    empty = tmp_path / "empty.toml"
    empty.touch()
    with pytest.raises(SettingsError, match=r"setting ingest\.p\w+"):
        load_settings(environment, file=empty)


def test_a_broken_file_is_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "liuhen.toml"
    file.write_text("[ingest\n")
    with pytest.raises(SettingsError, match="expected readable TOML"):
        load_settings({}, file=file)


def test_a_password_in_a_database_address_is_not_shown(tmp_path: Path) -> None:
    empty = tmp_path / "empty.toml"
    empty.touch()
    with pytest.raises(SettingsError) as refused:
        load_settings({"LIUHEN_DATABASE__URL": '["postgresql://u:hunter2@h/d"]'}, file=empty)
    assert "hunter2" not in str(refused.value)
    assert "database.url" in str(refused.value)


def test_off_loopback_nothing_has_a_default() -> None:
    settings = load_settings({}, overrides={})
    assert {settings.ingest.host, settings.api.host, settings.media.host} == {"127.0.0.1"}


@pytest.mark.parametrize("name", ["silence_ms", "dead_ms"])
def test_no_report_can_be_made_to_tell_the_pauses_of_who_speaks(name: str) -> None:
    assert getattr(ContinuitySettings(), name) >= 10_000
    with pytest.raises(ValidationError):
        ContinuitySettings(**{name: 9999})
