"""BlazeFace written down for ONNX Runtime, against OpenCV's own reader of the same file."""

from __future__ import annotations

import cv2
import numpy as np
import onnxruntime
import pytest

from evidence.errors import MediaError
from redaction.detectors.tflite import onnx_from_tflite
from redaction.models import load_model
from tests.support.samples import models_dir


def test_network_computes_what_another_reader_of_the_file_computes() -> None:
    content = load_model(models_dir(), "blazeface").content
    planes = np.random.default_rng(4).random((1, 3, 192, 192), np.float32) * 2 - 1
    other = cv2.dnn.readNetFromTFLite(np.frombuffer(content, np.uint8))
    other.setInput(planes)
    # OpenCV gives only the last of the file's outputs, and in the file's order of the axes.
    expected = other.forward()
    session = onnxruntime.InferenceSession(onnx_from_tflite(content), providers=["CPUExecutionProvider"])
    regressed, raised = session.run(None, {"picture": planes})
    assert raised.shape == (1, 1, 48, 48)
    np.testing.assert_allclose(regressed.transpose(0, 2, 3, 1).reshape(expected.shape), expected, atol=0.01)


@pytest.mark.parametrize("content", [b"", b"\x10\0\0\0TFL3", b"\xff" * 100, bytes(400)])
def test_what_is_no_such_network_is_refused(content: bytes) -> None:
    with pytest.raises(MediaError) as caught:
        onnx_from_tflite(content)
    assert caught.value.code == "model_unusable"


def test_a_file_cut_short_is_refused() -> None:
    content = load_model(models_dir(), "blazeface").content
    with pytest.raises(MediaError):
        onnx_from_tflite(content[: len(content) // 2])
