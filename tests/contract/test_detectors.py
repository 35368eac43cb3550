"""What every detector promises, whatever network is in it (`redaction.detect.Detector`)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from evidence.errors import InvalidInput
from media.decode import read_photo
from redaction.detect import Detector
from redaction.detectors.centerface import CenterFace
from redaction.plan import TRACK_CLASSES
from tests.support.samples import models_dir, sample

# Where the face is in the picture, by eye: eyebrows to chin, without the hair.
FACE = (188, 72, 262, 172)


@pytest.fixture(scope="module", params=[CenterFace])
def detector(request: pytest.FixtureRequest) -> Detector:
    made: Detector = request.param(models_dir(), intra_op_threads=1)
    return made


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    """RGB24, (512, 512, 3), of one face."""
    return read_photo(sample("astronaut.png"))


def covered(boxes: NDArray[np.float32], wanted: tuple[int, ...]) -> float:
    """Largest share of a box that one detection covers."""
    shares = [0.0]
    for x0, y0, x1, y1, _ in boxes.tolist():
        width = min(x1, wanted[2]) - max(x0, wanted[0])
        height = min(y1, wanted[3]) - max(y0, wanted[1])
        area = (wanted[2] - wanted[0]) * (wanted[3] - wanted[1])
        shares.append(max(0.0, width) * max(0.0, height) / area)
    return max(shares)


def test_says_who_it_is(detector: Detector) -> None:
    assert detector.family
    assert detector.finds in TRACK_CLASSES
    assert len(bytes.fromhex(detector.model_digest)) == 32


def test_face_is_found_where_it_is(detector: Detector, picture: NDArray[np.uint8]) -> None:
    (boxes,) = detector.detect(picture[None])
    assert boxes.dtype == np.float32
    assert boxes.shape == (1, 5)
    assert 0.5 < boxes[0, 4] <= 1.0
    assert covered(boxes, FACE) > 0.9
    assert (boxes[0, 2] - boxes[0, 0]) * (boxes[0, 3] - boxes[0, 1]) < 2.5 * 74 * 100


@pytest.mark.parametrize(("columns", "rows"), [(512, 512), (640, 360), (300, 500), (1000, 700)])
def test_boxes_are_in_pixels_of_the_picture_given(
    detector: Detector, picture: NDArray[np.uint8], columns: int, rows: int
) -> None:
    canvas = np.full((rows, columns, 3), 90, dtype=np.uint8)
    part = picture[40:220, 140:320]
    canvas[rows - 190 : rows - 10, columns - 200 : columns - 20] = part
    left, top = columns - 200 - 140, rows - 190 - 40
    moved = (FACE[0] + left, FACE[1] + top, FACE[2] + left, FACE[3] + top)
    (boxes,) = detector.detect(canvas[None])
    assert covered(boxes, moved) > 0.85
    assert (boxes[:, :4] >= 0).all()
    assert (boxes[:, [0, 2]] <= columns).all()
    assert (boxes[:, [1, 3]] <= rows).all()


def test_nothing_is_found_where_nothing_is(detector: Detector) -> None:
    blank = np.stack([np.full((360, 640, 3), level, dtype=np.uint8) for level in (0, 128, 255)])
    noise = np.random.default_rng(1).integers(0, 256, (2, 360, 640, 3), dtype=np.uint8)
    assert [len(boxes) for boxes in detector.detect(np.concatenate([blank, noise]))] == [0] * 5


def test_batch_equals_single(detector: Detector, picture: NDArray[np.uint8]) -> None:
    batch = np.stack([picture, picture[:, ::-1], np.zeros_like(picture)])
    together = detector.detect(batch)
    for number, boxes in enumerate(together):
        (alone,) = detector.detect(batch[number : number + 1])
        assert alone.shape == boxes.shape
        np.testing.assert_allclose(alone, boxes, atol=0.05)


def test_no_pictures_give_no_answers(detector: Detector) -> None:
    assert detector.detect(np.empty((0, 64, 64, 3), dtype=np.uint8)) == []


def test_calls_from_several_threads_agree(detector: Detector, picture: NDArray[np.uint8]) -> None:
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: detector.detect(picture[None])[0], range(6)))
    for answer in answers:
        np.testing.assert_allclose(answer, answers[0], atol=0.05)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((64, 64, 3), dtype=np.uint8),
        np.zeros((1, 64, 64, 4), dtype=np.uint8),
        np.zeros((1, 64, 64, 3), dtype=np.float32),
        np.zeros((1, 0, 64, 3), dtype=np.uint8),
    ],
)
def test_what_is_no_batch_of_pictures_is_refused(detector: Detector, frames: NDArray[np.uint8]) -> None:
    with pytest.raises(InvalidInput):
        detector.detect(frames)
