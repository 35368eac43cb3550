"""Where nothing is drawn, whole groups are copied and only the edges encoded; nobody sees the joint."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path

import av
import numpy as np
import pytest

from evidence.errors import Conflict
from media.fmp4 import FragmentIndex
from media.growing import GrowingRendition
from media.samples import read_samples
from tests.support import media as footage
from transcode.clip import ClipResult, cut_clip
from transcode.plan import MOVFLAGS
from transcode.segment import RunOptions
from transcode.splice import Unsuited, splice

FROM_US, TO_US = 900_001, 5_100_000


@dataclass(frozen=True)
class Film:
    path: Path
    index: FragmentIndex


def film(folder: Path, *options: str, b_frames: bool = False, turned: str = "0") -> Film:
    """Six seconds in groups of two, as a rendition stores them."""
    source, made = folder / "source.mp4", folder / "film.mp4"
    footage.make_plain(source, seconds=6, b_frames=b_frames)
    given = options or ("-c", "copy")
    footage.ffmpeg("-display_rotation", turned, "-i", source, *given, "-movflags", MOVFLAGS, made)
    return Film(made, GrowingRendition(made).finish())


def cut(film: Film, folder: Path, name: str = "clip.mp4", to_us: int = TO_US) -> ClipResult:
    run = RunOptions(scratch=folder, limits=footage.LIMITS)
    return cut_clip(film.path, film.index, FROM_US, to_us, folder / name, run=run)


def sound(path: Path) -> tuple[float, np.ndarray[tuple[int], np.dtype[np.float32]]]:
    """Seconds at which it begins, and its samples."""
    with av.open(str(path)) as container:
        frames = [(frame.time, frame.to_ndarray()[0]) for frame in container.decode(audio=0)]
    return float(frames[0][0] or 0), np.concatenate([samples for _, samples in frames])


@pytest.fixture(scope="module", params=[(False, "0"), (True, "90")], ids=["plain", "reordered"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Film:
    b_frames, turned = request.param
    return film(tmp_path_factory.mktemp("film"), b_frames=b_frames, turned=turned)


@pytest.fixture(scope="module")
def clip(source: Film, tmp_path_factory: pytest.TempPathFactory) -> ClipResult:
    return cut(source, tmp_path_factory.mktemp("clip"))


def test_every_picture_of_the_span_is_there_once_at_its_time(clip: ClipResult) -> None:
    assert clip.params["copied_frames"] == 50
    assert clip.frame_count == 105
    assert footage.frame_numbers(clip.path) == list(range(23, 128))
    times = footage.shown_at(clip.path)
    assert [round(at * 25, 3) for at in times] == list(range(105))


def test_copied_pictures_are_slices_of_the_rendition(source: Film, clip: ClipResult) -> None:
    data, given = clip.path.read_bytes(), source.path.read_bytes()
    (whole,) = (part for part in source.index.fragments if part.start_pts == 2 * source.index.timescale)
    for sample in read_samples(source.path, source.index.main, [whole]):
        assert data.count(given[sample.offset_bytes : sample.offset_bytes + sample.size_bytes]) == 1
    # And of what lies outside the span there is nothing.
    for part in (source.index.fragments[0], source.index.fragments[-1]):
        for sample in read_samples(source.path, source.index.main, [part]):
            assert given[sample.offset_bytes : sample.offset_bytes + sample.size_bytes] not in data


def test_picture_and_sound_stay_together_to_the_sample(source: Film, clip: ClipResult) -> None:
    begins, heard = sound(clip.path)
    begun, given = sound(source.path)
    assert begins == 0
    at = ceil((source.index.origin + Fraction(FROM_US, 1_000_000)) * 48_000) - round(begun * 48_000)
    lags = range(-64, 65)
    alike = [float(np.dot(heard[48_000:96_000], given[at + 48_000 + lag :][:48_000])) for lag in lags]
    assert lags[int(np.argmax(alike))] == 0
    # The picture that begins at 0.92 s is the first of it, 20 ms after the sound.
    assert footage.first_times(clip.path)["video"] == pytest.approx(0.92 - FROM_US / 1e6, abs=1e-4)
    assert len(heard) - 4.2 * 48_000 < 1024


def test_it_is_shown_as_the_rendition_is(source: Film, clip: ClipResult) -> None:
    looks = []
    for path in (source.path, clip.path):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            frames = list(container.decode(stream))
            seen = {
                (f.width, f.height, f.rotation, f.colorspace, f.color_range, f.format.name) for f in frames
            }
            looks.append((seen, stream.sample_aspect_ratio, Fraction(stream.time_base or 0)))
            assert not any(frame.is_corrupt for frame in frames)
    assert looks[0] == looks[1]


def test_the_same_request_gives_the_same_bytes(source: Film, clip: ClipResult, tmp_path: Path) -> None:
    again = cut(source, tmp_path)
    assert again.path.read_bytes() == clip.path.read_bytes()
    assert again.params == clip.params
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
    data = again.path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert b"Lavf" not in data[: data.index(b"mdat")]


def test_more_pictures_than_are_held_at_once_are_not_spliced(
    source: Film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transcode.splice.MOST_PICTURES", 50)
    run = RunOptions(scratch=tmp_path, limits=footage.LIMITS)
    begin, end = source.index.origin + 1, source.index.origin + 5
    with pytest.raises(Unsuited, match="too_long"):
        splice(source.path, source.index, begin, end, tmp_path / "clip.mp4", crf=20, run=run)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("during", ["plan", "write_excerpt", "write_progressive"])
def test_a_cancel_is_heard_where_no_child_works(source: Film, tmp_path: Path, during: str) -> None:
    """While groups are looked for, while an edge is cut out, while samples are copied."""
    run = RunOptions(scratch=tmp_path, limits=footage.LIMITS)

    def cancelled() -> bool:
        return any(frame.name == during for frame in traceback.extract_stack())

    times = source.index.origin + Fraction(9, 10), source.index.origin + 5
    made = tmp_path / "clip.mp4"
    with pytest.raises(Conflict):
        splice(source.path, source.index, *times, made, crf=30, run=run, cancelled=cancelled)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_copied_is_encoded_and_says_why(tmp_path: Path) -> None:
    options = "open-gop=1:bframes=2:b-adapt=0:keyint=25:min-keyint=25:scenecut=0"
    opened = film(tmp_path, "-c:a", "copy", "-c:v", "libx264", "-x264-params", options)
    folder = tmp_path / "cut"
    folder.mkdir()
    made = cut(opened, folder, to_us=2_100_000)
    assert made.params["encoded_whole"] == "no_whole_group"
    assert made.info["copied_frame_count"] == 0
    assert footage.frame_numbers(made.path) == list(range(23, 53))
    assert [path.name for path in folder.iterdir()] == ["clip.mp4"]
