from __future__ import annotations

import hashlib
from functools import reduce
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from evidence.errors import MediaError
from redaction.detectors.onnx_file import is_whole, with_constant_weights
from redaction.detectors.own import OwnModel, open_own
from redaction.models import MODELS
from tests.support.samples import models_dir


def number(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def held(field: int, content: bytes) -> bytes:
    return number(field << 3 | 2) + number(len(content)) + content


PLACE = held(13, held(1, b"location") + held(2, b"elsewhere.bin"))
OUTSIDE = number(1 << 3) + number(4) + number(2 << 3) + number(1) + held(8, b"w")
OUTSIDE += PLACE + number(14 << 3) + number(1)
INSIDE = number(1 << 3) + number(1) + number(2 << 3) + number(1) + held(8, b"w") + held(9, bytes(4))


@pytest.mark.parametrize(
    "path",
    [(7, 5), (7, 15, 1), (7, 1, 5, 5), (7, 1, 5, 10), (7, 1, 5, 6, 5), (25, 7, 5, 5), (20, 1, 5)],
    ids=["initializer", "sparse", "constant", "constants", "branch", "function", "training"],
)
def test_tensor_that_lies_elsewhere_is_found_wherever_it_is(path: tuple[int, ...]) -> None:
    found = []
    for tensor in (INSIDE, OUTSIDE, PLACE, number(14 << 3) + number(1)):
        found.append(is_whole(reduce(lambda content, field: held(field, content), reversed(path), tensor)))
    assert found == [True, False, False, False]


@pytest.mark.parametrize("name", ["centerface", "plates", "text", "speech"])
def test_networks_of_the_register_are_whole(name: str) -> None:
    assert is_whole((models_dir() / MODELS[name].file_name).read_bytes())


@pytest.mark.parametrize(("name", "outputs"), [("centerface", 3), ("centerface", None), ("plates", 2)])
def test_network_of_constants_answers_the_same_and_takes_the_picture_alone(
    name: str, outputs: int | None
) -> None:
    content = (models_dir() / MODELS[name].file_name).read_bytes()
    before, after = (
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        for model in (content, with_constant_weights(content, outputs))
    )
    names = [output.name for output in before.get_outputs()][:outputs]
    assert [output.name for output in after.get_outputs()] == names
    (picture,) = after.get_inputs()
    assert len(after.get_overridable_initializers()) == 0
    shape = [side if isinstance(side, int) else 32 for side in picture.shape]
    seen: NDArray[np.float32] = np.random.default_rng(1).uniform(0, 255, shape).astype(np.float32)
    answers = zip(*(one.run(names, {picture.name: seen}) for one in (before, after)), strict=True)
    for expected, found in answers:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_weight_that_is_an_input_is_none_any_more() -> None:
    graph = held(5, INSIDE) + held(11, held(1, b"w")) + held(11, held(1, b"picture"))
    graph += held(12, held(1, b"a")) + held(12, held(1, b"b"))
    made = with_constant_weights(number(1 << 3) + number(3) + held(7, graph) + held(14, b"kept"), 1)
    rest = held(5, INSIDE) + held(11, held(1, b"picture")) + held(12, held(1, b"a"))
    assert made == number(1 << 3) + number(4) + held(7, rest) + held(14, b"kept")
    newer = number(1 << 3) + number(300) + held(7, rest)
    assert with_constant_weights(newer) == newer


@pytest.mark.parametrize("content", [b"\x3a\x7f", b"\xff" * 11, b"\x0b", b"\x3a\x02\x2a\x09"])
def test_what_is_no_such_file_is_said(content: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        is_whole(content)


def test_own_model_with_weights_elsewhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Messages of protocol buffers are merged by writing one behind the other.
    content = (models_dir() / MODELS["plates"].file_name).read_bytes() + held(7, held(5, OUTSIDE))
    path = tmp_path / "own.onnx"
    path.write_bytes(content)
    (tmp_path / "elsewhere.bin").write_bytes(np.zeros(4, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    model = OwnModel(path, hashlib.sha256(content).hexdigest(), "document", "plates", 320, 6, 500)
    with pytest.raises(MediaError, match="in others; save it as one file") as refused:
        open_own(model, score_min=0.5, intra_op_threads=1)
    assert refused.value.code == "model_unusable"
