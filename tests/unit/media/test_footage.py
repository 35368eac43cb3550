"""Generated footage says one time everywhere: the picture in the camera's zone, the container in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import av
import numpy as np
import pytest

from cli import demo_footage
from media.footage import make_clip

AT = datetime(2026, 3, 4, 1, 0, tzinfo=UTC)
ZONE = ZoneInfo("Asia/Shanghai")


def first_picture(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def clip(path: Path, started_at: datetime) -> Path:
    make_clip(path, seconds=0.2, audio=False, device_no="D1", officer_no="1", started_at=started_at)
    return path


def created_at(path: Path) -> datetime:
    with av.open(str(path)) as container:
        return datetime.fromisoformat(container.metadata["creation_time"])


def test_the_clock_in_the_picture_is_the_cameras(tmp_path: Path) -> None:
    there = clip(tmp_path / "there.mp4", AT.astimezone(ZONE))
    # What a clock in UTC shows when it is as late there as it was in Shanghai.
    same_digits = clip(tmp_path / "digits.mp4", AT + timedelta(hours=8))
    other_digits = clip(tmp_path / "utc.mp4", AT)
    assert np.array_equal(first_picture(there), first_picture(same_digits))
    assert not np.array_equal(first_picture(there), first_picture(other_digits))
    assert created_at(there) == created_at(other_digits) == AT


def test_the_demonstrations_names_and_pictures_say_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[datetime] = []

    def note(path: Path, *, started_at: datetime, **_: object) -> None:
        drawn.append(started_at)
        path.write_bytes(bytes(2000))

    monkeypatch.setattr(demo_footage, "make_clip", note)
    shift = demo_footage.make_shift(tmp_path, tmp_path, AT, lambda *_: None)
    named = [one.path.stem.split("_", 3)[3] for one in shift if one.path.suffix in {".mp4", ".avi"}]
    assert [at.strftime("%Y%m%d_%H%M%S") for at in drawn] == named
