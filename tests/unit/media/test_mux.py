from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from evidence.errors import InvalidInput
from media.decode import AudioReader, VideoShape, open_video, picture_times
from media.encode import AacEncoder, Canvas, FragmentedMp4Writer, PictureCoding
from media.fmp4 import index_fragments
from media.mux import FragmentFile, Sample, SoundTrack, VideoTrack

SHAPE = VideoShape(64, 48, Fraction(1, 1000), Fraction(25), Fraction(1), 0, (1, 1, 1, 1), 0, 0)
VIDEO = VideoTrack(64, 48, 1000, b"\x01\x42\xc0\x1f\xff\xe0\x00")


def write(path: Path, times: list[int], *, keys: set[int], shape: VideoShape = SHAPE, last: int = 40) -> None:
    with FragmentedMp4Writer(path, video=shape, coding=PictureCoding(threads=1)) as writer:
        for number, pts in enumerate(times):
            canvas = Canvas(shape.width_px, shape.height_px)
            canvas.y[:], canvas.u[:], canvas.v[:] = number * 8 % 200 + 20, 128, 128
            writer.write_picture(canvas, pts=pts, duration=last, key=number in keys)


def test_times_come_out_as_they_went_in(tmp_path: Path) -> None:
    times = [80, 113, 181, 182, 900, 5000, 5001, 60_000]
    path = tmp_path / "a.mp4"
    write(path, times, keys={0, 3}, last=77)
    found = picture_times(path)
    assert [pts for pts, _ in found] == times
    assert found[-1][1] == 77
    with open_video(path) as video:
        assert [frame.pts for frame in video] == times


def test_fragments_begin_where_asked_and_no_group_is_longer_than_four_seconds(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write(path, list(range(0, 12_000, 40)), keys={0, 30})
    index = index_fragments(path)
    assert index is not None
    assert [fragment.start_pts for fragment in index.fragments] == [0, 1200, 5200, 9200]
    assert all(fragment.starts_with_keyframe for fragment in index.fragments)
    assert index.duration == 12


def test_sound_that_starts_before_zero_keeps_its_times(tmp_path: Path) -> None:
    source, output = tmp_path / "a.m4a", tmp_path / "out.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-t", "3", "-i", "sine=f=300"]
    subprocess.run([*command, "-c:a", "aac", str(source)], check=True)
    with AudioReader(source) as reader:
        track = SoundTrack(
            reader.sample_rate_hz, reader.channels, reader.time_base.denominator, reader.config
        )
        packets = list(reader.packets())
    assert packets[0].pts < 0
    file = FragmentFile(output, None, [track])
    for packet in packets:
        file.add_sound(0, Sample(packet.pts, packet.duration, packet.data, True))
    file.finish()
    with AudioReader(output) as reader:
        assert list(reader.packets()) == packets


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation_and_pixel_aspect_are_read_back(tmp_path: Path, rotation: int) -> None:
    shape = VideoShape(64, 48, Fraction(1, 600), None, Fraction(16, 11), rotation, (2, 1, 1, 1), 0, 0)
    path = tmp_path / "a.mp4"
    write(path, [0, 20, 40], keys={0}, shape=shape)
    with open_video(path) as video:
        assert video.shape.rotation == rotation
        assert video.shape.sample_aspect == Fraction(16, 11)
        assert video.shape.colour == (2, 1, 1, 1)


def test_encoded_sound_begins_with_its_first_sample_and_ends_with_its_last(tmp_path: Path) -> None:
    encoder = AacEncoder(sample_rate_hz=48_000, layout="stereo", channels=2)
    noise = np.random.default_rng(1).normal(0, 0.1, (2, 100_000)).astype(np.float32)
    packets = [p for at in range(0, 100_000, 999) for p in encoder.encode(500 + at, noise[:, at : at + 999])]
    packets += encoder.finish()
    assert packets[0].pts == 500
    assert packets[-1].pts + packets[-1].duration == 100_500
    assert b"Lavc" not in b"".join(packet.data for packet in packets)


def test_samples_out_of_order_are_refused(tmp_path: Path) -> None:
    file = FragmentFile(tmp_path / "a.mp4", VIDEO, [])
    file.add_picture(Sample(40, 40, b"\0\0\0\1e", True))
    file.add_picture(Sample(0, 40, b"\0\0\0\1A", False))
    with pytest.raises(InvalidInput):
        file.finish()
    file.abandon()
    assert not (tmp_path / "a.mp4").exists()


def test_file_without_tracks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        FragmentFile(tmp_path / "a.mp4", None, [])


def test_failure_midway_removes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with pytest.raises(ZeroDivisionError), FragmentedMp4Writer(path, video=SHAPE) as writer:
        writer.write_picture(Canvas(64, 48), pts=0, duration=40, key=True)
        raise ZeroDivisionError
    assert not path.exists()


@pytest.mark.parametrize("size", [(63, 48), (64, 47)])
def test_odd_pictures_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput):
        Canvas(*size)
