"""What the demonstration says of its masks."""

from __future__ import annotations

from cli.demo_review import masks_told

FACES = {"face.mp4": True, "street.mp4": False, "wall.mp4": False, "note.wav": False}


def test_masks_where_no_face_is_shown_are_told_as_false() -> None:
    told = masks_told({"face.mp4": 2, "street.mp4": 3, "wall.mp4": 0, "note.wav": None}, FACES)
    assert "masks: 5;" in told
    assert "false masks: 3 " in told
    assert "in 3 files without a face" in told


def test_of_files_nobody_knows_no_mask_is_called_false() -> None:
    assert masks_told({"own.mp4": 4}, {}) == "遮盖 / masks: 4"
