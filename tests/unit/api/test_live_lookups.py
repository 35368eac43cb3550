"""Nothing of a live list is looked for through all of a session: counted, for short ones and long ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, overload
from uuid import UUID

import pytest

from api import live_files
from api.live_masks import NOBODY_KNOWS_US, MayShow
from evidence.masks import Span
from ingest.recorder import watching
from ingest.recorder.watching import Journals, Recorded
from media.fmp4 import Fragment, FragmentIndex, Track
from media.live.journal import Journal
from transcode import live_encodes
from transcode.live import Window

S = 1_000_000
FILE_S = 300
SIZES = (12, 1200)
"""Files of a session: an hour of them, and four days."""


def index_of(seconds: int, of_s: int = 2) -> FragmentIndex:
    """A file of so many seconds, each fragment beginning with a keyframe."""
    track = Track(1, "video", 1000, "avc1.64001F")
    length = 1000 * of_s
    fragments = [
        Fragment(50 + 100 * number, 100, length * number, length, 10, starts_with_keyframe=True)
        for number in range(seconds // of_s)
    ]
    return FragmentIndex(50, (track,), 0, tuple(fragments))


class Counted(Sequence[Span]):
    """Stretches of a session, and how many of them are looked at."""

    def __init__(self, spans: list[Span]) -> None:
        self._spans, self.looked_at = spans, 0

    @overload
    def __getitem__(self, place: int) -> Span: ...
    @overload
    def __getitem__(self, place: slice) -> list[Span]: ...
    def __getitem__(self, place: int | slice) -> Span | list[Span]:
        self.looked_at += 1
        return self._spans[place]

    def __len__(self) -> int:
        return len(self._spans)


@pytest.mark.parametrize("count", [1, 10, 10_000])
def test_which_stretches_touch_a_file_is_found_by_halves(count: int) -> None:
    """A session that is paused in the middle of each file."""
    spans = [(FILE_S * S * number, FILE_S * S * number + 200 * S) for number in range(count)]
    windows = Counted([*spans[:-1], (spans[-1][0], None)])
    may_show, place = MayShow(cast(Any, windows)), count // 2
    file = Recorded("a" * 32, 0, FILE_S * S * place, 0, is_whole=True, is_held=True)
    found = may_show.of(file, index_of(FILE_S), file.from_us)
    assert found[0] == Window(0, None if place == count - 1 else 200 * S)
    assert windows.looked_at <= 4 + 2 * math.ceil(math.log2(count + 1))


@dataclass
class Row:
    """As much of a session as reading asks for."""

    agency_id: UUID


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    kept = (live_files._indexes, live_files._wholes, live_files._runs)
    for each in kept:
        cast(Any, each).clear()
    yield
    for each in kept:
        cast(Any, each).clear()


@dataclass
class Counts:
    """What a list cost."""

    read: int = 0
    made: int = 0


@pytest.mark.parametrize("count", SIZES)
def test_a_pause_and_the_end_cost_the_files_they_touch(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    cost, index, make = Counts(), index_of(FILE_S, of_s=30), live_files.live_runs
    files = [
        Recorded(f"{number:032x}", 0, FILE_S * S * number, FILE_S * S * (number + 1), is_whole=True,
                 is_held=True, codecs=("h264",))
        for number in range(count)
    ]  # fmt: skip

    def read(*_: object) -> tuple[None, FragmentIndex]:
        cost.read += 1
        return None, index

    def made(*given: Any, **named: Any) -> Any:
        cost.made += 1
        return make(*given, **named)

    monkeypatch.setattr(live_files, "read", read)
    monkeypatch.setattr(live_files, "live_runs", made)

    def listed(*windows: Span) -> tuple[int, Counts]:
        """How many segments a list has, and what it cost."""
        nonlocal cost
        cost = Counts()
        found = [
            live_files.shown_file(
                cast(Any, None), cast(Any, None), cast(Any, Row(UUID(int=1))), "main", each,
                MayShow(windows), each.from_us,
            )
            for each in files
        ]  # fmt: skip
        runs = [run for each in found if each is not None for run in each.runs]
        return sum(len(run.segments) for run in runs), cost

    each_has, whole_us = FILE_S // 30, FILE_S * S * count
    assert listed((0, None)) == (each_has * count, Counts(count, count))
    assert listed((0, None)) == (each_has * count, Counts())
    # Paused in the middle of the last file but one, it goes on in the last, and ends with that.
    paused_us, resumed_us = whole_us - 450 * S, whole_us - 150 * S
    assert listed((0, paused_us)) == (each_has * count - 15, Counts(0, 2))
    assert listed((0, paused_us), (resumed_us, None)) == (each_has * count - 10, Counts(0, 1))
    assert listed((0, paused_us), (resumed_us, whole_us)) == (each_has * count - 10, Counts())
    # Somebody else, who sees no more than before the pause, and who sees all.
    assert listed((0, paused_us))[1] == listed((0, None))[1] == Counts()


@pytest.mark.parametrize("count", SIZES)
def test_a_file_is_found_by_its_name_and_a_list_does_not_go_back_before_its_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """A run that began long before the session, as where a room records always."""
    journal = Journal(tmp_path / _folder(tmp_path, "run"))
    for number in range(count):
        journal.write("file", file=number, name=f"{number:06d}.mp4", container="mp4", streams=[])
        journal.write("closed", file=number, from_utc_us=FILE_S * S * number, sha256="00", duration_us=1,
                      to_utc_us=FILE_S * S * (number + 1), open_us=0)  # fmt: skip
    made: list[int] = []

    def told(run: str, number: int, *given: Any, **named: Any) -> Recorded:
        made.append(number)
        return Recorded(run, number, *given, **named)

    monkeypatch.setattr(watching, "Recorded", told)
    journals = Journals()
    known = journals.file(tmp_path / "run", count // 2)
    assert known is not None and known.number == count // 2 and made == [count // 2]
    assert journals.file(tmp_path / "run", count) is journals.file(tmp_path / "gone", 0) is None
    # What is written meanwhile is read, and nothing again.
    read, lines = watching.read, 0

    def counted(*given: Any) -> tuple[list[dict[str, Any]], int]:
        nonlocal lines
        said, to_byte = read(*given)
        lines += len(said)
        return said, to_byte

    monkeypatch.setattr(watching, "read", counted)
    journal.write("file", file=count, name=f"{count:06d}.mp4", container="mp4", streams=[])
    assert journals.file(tmp_path / "run", count) is None and lines == 1
    made.clear()
    begins_us = FILE_S * S * (count - 3)
    found = list(journals.of_stream(tmp_path, begins_us))
    assert [each.number for each in found[:3]] == [count - 1, count - 2, count - 3]
    assert len(made) <= 5 + watching.LONG_US // (FILE_S * S)
    journal.close()


def _folder(parent: Path, name: str) -> str:
    (parent / name).mkdir()
    return name


@pytest.mark.parametrize("count", SIZES)
def test_a_piece_of_an_encode_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    stream, encode = Path("a") / "R-1" / "main", f"{count:032x}"
    folder = tmp_path / "live" / stream / encode
    folder.mkdir(parents=True)
    journal = Journal(folder)
    for number in range(count):
        journal.write("piece", piece=number, run="r", file=number, zero_utc_us=number, from_utc_us=number,
                      file_utc_us=0)  # fmt: skip
        journal.write("closed", piece=number, to_utc_us=number + 1)
    lines, told, read = 0, 0, live_encodes.read

    def counted(*given: Any) -> tuple[list[dict[str, Any]], int]:
        nonlocal lines
        said, to_byte = read(*given)
        lines += len(said)
        return said, to_byte

    def made(*given: Any, **named: Any) -> live_encodes.Told:
        nonlocal told
        told += 1
        return make(*given, **named)

    make = live_encodes.Told
    monkeypatch.setattr(live_encodes, "read", counted)
    monkeypatch.setattr(live_encodes, "Told", made)
    assert live_encodes.piece_of(tmp_path, stream, encode, 0) is not None
    assert (lines, told) == (2 * count, 1)
    found = live_encodes.piece_of(tmp_path, stream, encode, count - 1)
    assert found is not None and (found.number, found.to_us, found.is_whole) == (count - 1, count, True)
    assert live_encodes.piece_of(tmp_path, stream, encode, count) is None
    assert live_encodes.piece_of(tmp_path, stream, "0" * 32, 0) is None
    assert (lines, told) == (2 * count, 2)
    journal.close()


def test_a_stretch_ends_before_every_place_at_which_what_follows_it_may_lie() -> None:
    """A source that stood still makes a file shorter than the time it is of: a pause lies earlier in it."""
    index = index_of(60)
    file = Recorded("a" * 32, 0, 0, 0, is_whole=False, is_held=False)
    paused = MayShow(((0, 40 * S), (50 * S, None)))
    assert paused.of(file, index, 0) == [Window(0, 40 * S), Window(50 * S, None)]
    assert paused.of(replace(file, slack_us=9 * S), index, 0) == [Window(0, 31 * S), Window(50 * S, None)]
    # Where it turned out to have begun earlier than was told, what follows a pause lies later in it.
    assert paused.of(replace(file, from_us=-4 * S), index, 0) == [Window(4 * S, 40 * S), Window(54 * S, None)]
    # What ended before the pause, however late it did, is all of before it.
    assert MayShow(((0, 75 * S),)).of(replace(file, slack_us=9 * S), index, 0) == [Window(0, 66 * S)]
    # Of a file that nobody knows any more nothing is certain, unless the stretch lasts.
    assert paused.of(None, index, 0) == [Window(50 * S, None)]
    assert MayShow(((0, 40 * S),)).of(None, index, 0) == []
    assert MayShow(((0, None),)).of(None, index, 0) == [Window(0, None)]
    assert NOBODY_KNOWS_US > 40 * S
