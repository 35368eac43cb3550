"""What every detector promises, whatever network is in it (`redaction.look.Detector`)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from evidence.errors import InvalidInput
from media.decode import read_photo
from redaction.detectors.blazeface import BlazeFace
from redaction.detectors.centerface import CenterFace
from redaction.detectors.own import OwnModel, open_own
from redaction.detectors.plates import Plates
from redaction.detectors.text import Text
from redaction.look import Detector
from redaction.models import MODELS
from redaction.plan import TRACK_CLASSES
from tests.support.plates import draw_plate
from tests.support.samples import models_dir, sample

# Where the face is in the picture, by eye: eyebrows to chin, without the hair.
FACE = (188, 72, 262, 172)
QUICK: dict[str, Any] = {"long_side_px": 320, "intra_op_threads": 1}


@dataclass(frozen=True)
class Subject:
    """A detector, and a picture of the one thing it should find."""

    detector: Detector
    picture: NDArray[np.uint8]
    """RGB24, (512, 512, 3)."""
    thing: tuple[int, int, int, int]


def own() -> Detector:
    """The plate weights, brought along as an agency's own under another class."""
    record = MODELS["plates"]
    path = models_dir() / record.file_name
    return open_own(
        OwnModel(path, record.sha256, "document", "plates", 320, 6, 500), score_min=0.5, intra_op_threads=1
    )


@pytest.fixture(scope="module", params=["centerface", "blazeface", "plates", "text", "own"])
def subject(request: pytest.FixtureRequest) -> Subject:
    if request.param == "centerface":
        face = read_photo(sample("astronaut.png"))
        return Subject(CenterFace(models_dir(), **QUICK), face, FACE)
    if request.param == "blazeface":
        return Subject(BlazeFace(models_dir(), **QUICK), read_photo(sample("astronaut.png")), FACE)
    picture = np.full((512, 512, 3), 90, dtype=np.uint8)
    thing = draw_plate(picture, 150, 100)
    made = {"plates": lambda: Plates(models_dir(), **QUICK), "text": lambda: Text(models_dir(), **QUICK)}
    return Subject(made.get(request.param, own)(), picture, thing)


@pytest.fixture(scope="module")
def detector(subject: Subject) -> Detector:
    return subject.detector


@pytest.fixture(scope="module")
def picture(subject: Subject) -> NDArray[np.uint8]:
    return subject.picture


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


def test_the_thing_is_found_where_it_is(subject: Subject) -> None:
    x0, y0, x1, y1 = subject.thing
    (boxes,) = subject.detector.detect(subject.picture[None])
    assert boxes.dtype == np.float32
    assert boxes.shape == (1, 5)
    assert 0.5 < boxes[0, 4] <= 1.0
    assert covered(boxes, subject.thing) > 0.85
    assert (boxes[0, 2] - boxes[0, 0]) * (boxes[0, 3] - boxes[0, 1]) < 2.5 * (x1 - x0) * (y1 - y0)


@pytest.mark.parametrize(("columns", "rows"), [(512, 512), (640, 360), (300, 500), (1000, 700)])
def test_boxes_are_in_pixels_of_the_picture_given(subject: Subject, columns: int, rows: int) -> None:
    canvas = np.full((rows, columns, 3), 90, dtype=np.uint8)
    part = subject.picture[40:220, 140:320]
    canvas[rows - 190 : rows - 10, columns - 200 : columns - 20] = part
    left, top = columns - 200 - 140, rows - 190 - 40
    x0, y0, x1, y1 = subject.thing
    moved = (x0 + left, y0 + top, x1 + left, y1 + top)
    (boxes,) = subject.detector.detect(canvas[None])
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
