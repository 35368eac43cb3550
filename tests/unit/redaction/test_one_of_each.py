from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from redaction.detectors.network import Boxes, merged, one_of_each

coordinates = st.integers(0, 100)
sides = st.integers(1, 60)


def boxes_of(*rows: tuple[float, ...]) -> Boxes:
    return np.array(rows, dtype=np.float32).reshape(-1, 5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(coordinates, coordinates, sides, sides, st.integers(1, 99)), max_size=12))
def test_every_detection_of_several_looks_is_inside_one_that_is_left(given: list[tuple[int, ...]]) -> None:
    boxes = boxes_of(*((x, y, x + w, y + h, score / 100) for x, y, w, h, score in given))
    left = one_of_each(boxes, grow=True)
    assert len(left) <= len(boxes)
    for x0, y0, x1, y1, score in boxes:
        holds = (left[:, :2] <= [x0, y0]).all(axis=1) & (left[:, 2:4] >= [x1, y1]).all(axis=1)
        assert (holds & (left[:, 4] >= score)).any()


def test_what_a_finer_look_saw_larger_is_not_lost_to_a_stronger_smaller_box() -> None:
    upright, fine = boxes_of((100, 100, 150, 150, 0.60)), boxes_of((105, 95, 180, 175, 0.59))
    assert merged([upright, fine]).tolist() == [*upright.tolist(), *fine.tolist()]


def test_two_faces_that_overlap_are_two() -> None:
    assert len(one_of_each(boxes_of((0, 0, 100, 100, 0.95), (44, 0, 144, 100, 0.93)))) == 2


def test_one_face_seen_twice_is_one_and_covers_both() -> None:
    first, second = boxes_of((0, 0, 100, 100, 0.5)), boxes_of((10, 10, 110, 105, 0.75))
    assert merged([first, second]).tolist() == [[0, 0, 110, 105, 0.75]]
    # Cells of one answer are the network's to weigh.
    assert one_of_each(np.concatenate([first, second])).tolist() == second.tolist()
