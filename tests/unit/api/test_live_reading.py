"""Files of a live list that move while they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest

from api import live_files
from api.live_masks import MayShow, wall_at_zero
from evidence.errors import Unavailable
from evidence.masks import Hides, Mask, Reason
from ingest.recorder.watching import Journals, Recorded
from media.fmp4 import index_fragments
from media.live.journal import Journal
from tests.support.media import ffmpeg, make_plain
from transcode.live import Window

FILE = Recorded("a" * 32, 0, 0, 0, is_whole=True, is_held=False)


@dataclass
class Row:
    """As much of a session as reading asks for."""

    agency_id: UUID


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    for each in (live_files._indexes, live_files._wholes, live_files._runs):
        cast(Any, each).clear()
    yield
    for each in (live_files._indexes, live_files._wholes, live_files._runs):
        cast(Any, each).clear()


def shown(monkeypatch: pytest.MonkeyPatch, places: list[Path]) -> live_files.Shown | None:
    """What a list says of the file, found at these places one after the other."""
    left = iter(places)
    monkeypatch.setattr(live_files, "find", lambda *_: next(left))
    return live_files.shown_file(
        cast(Any, None), cast(Any, None), cast(Any, Row(UUID(int=1))), "main", FILE, MayShow(((0, None),)), 0
    )


def test_a_file_that_moved_after_it_was_found_is_read_whole_where_it_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, gone, part = tmp_path / "whole.mp4", tmp_path / "gone.mp4", tmp_path / "part.mp4"
    make_plain(tmp_path / "plain.mp4", seconds=4, keyframe_every=25)
    # As recordings are written.
    flags = "empty_moov+default_base_moof+frag_discont+frag_keyframe"
    ffmpeg("-i", tmp_path / "plain.mp4", "-c", "copy", "-movflags", flags, whole)
    index = index_fragments(whole)
    assert index is not None and len(index.fragments) > 2
    part.write_bytes(whole.read_bytes()[: index.fragments[1].end_bytes])
    key = (FILE.run, FILE.number)
    known = live_files.index_of(part, key)
    assert known is not None and len(known.fragments) == 2
    with pytest.raises(Unavailable) as moving:
        shown(monkeypatch, [gone] * live_files.LOOKS)
    assert moving.value.code == "live_settling" and not live_files._wholes
    found = shown(monkeypatch, [gone, whole])
    assert found is not None and found.index == index
    # Kept, though FFmpeg's own index lies behind the last fragment: asked again, nothing is looked for.
    assert whole.stat().st_size > index.size_bytes
    assert shown(monkeypatch, []) == found


def test_what_is_masked_is_left_out_wherever_it_may_lie_in_a_file(tmp_path: Path) -> None:
    make_plain(tmp_path / "plain.mp4", seconds=1)
    flags = "empty_moov+default_base_moof+frag_keyframe"
    ffmpeg("-i", tmp_path / "plain.mp4", "-c", "copy", "-movflags", flags, tmp_path / "whole.mp4")
    index = index_fragments(tmp_path / "whole.mp4")
    assert index is not None
    second = 1_000_000
    mask = Mask("m", 20 * second, 30 * second, Hides.SOUND, Reason.MINOR, "account:x")
    begins = -60 * second
    may_show = MayShow(((begins, None),), (mask,))

    def left(file: Recorded, at_us: int) -> list[tuple[int | None, ...]]:
        return [(each.from_us, each.to_us) for each in may_show.of(file, index, at_us)]

    zero_us = wall_at_zero(FILE, index)
    assert left(FILE, zero_us) == [
        (begins - zero_us, 19 * second - zero_us), (31 * second - zero_us, None)
    ]  # fmt: skip
    # The source stood still, told or not: what was masked then lies before where its date says.
    assert left(replace(FILE, slack_us=9 * second), 0)[0] == (begins, 10 * second - zero_us)
    # Since it was told, it turned out to begin four seconds later, or earlier.
    later, earlier = (replace(FILE, from_us=each * second) for each in (4, -4))
    assert left(later, zero_us)[0][1] == 15 * second - zero_us
    assert left(earlier, zero_us)[1][0] == 35 * second - zero_us
    piece = replace(FILE, zero_us=0, moved_us=4 * second)
    assert left(piece, wall_at_zero(piece, index))[0][1] == 15 * second - wall_at_zero(piece, index)
    # Nobody knows of it any more, and nothing is masked.
    assert may_show.of(None, index, 0) == [] and MayShow(((5, None),)).of(None, index, 3) == [Window(2, None)]


def test_how_sure_a_file_is_of_its_times_is_what_its_journal_said_at_the_worst(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    journal = Journal(tmp_path / "run")
    second, times = 1_000_000, {"file": 0, "from_utc_us": 0, "to_utc_us": 10_000_000}
    journal.write("file", file=0, name="000000.mp4", container="mp4", streams=[])
    found = []
    for line in (
        {"end_us": 10 * second, "open_us": 0, "silent_us": 40_000},
        {"end_us": 10 * second, "open_us": 2 * second, "silent_us": 3 * second},
        {"end_us": 10 * second, "open_us": 2 * second, "silent_us": 0},
        {"end_us": 3 * second, "open_us": 0, "silent_us": 0},
    ):
        journal.write("mark", **times, **line)
        (file,) = Journals().of_stream(tmp_path)
        found.append(file.slack_us // second)
    journal.close()
    assert found == [0, 5, 5, 7]


def test_a_file_whose_journal_is_gone_is_shown_by_what_it_says_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever wrote down its codec went with its run's folder."""
    make_plain(tmp_path / "plain.mp4", seconds=1, codec="hevc")
    flags = "empty_moov+default_base_moof+frag_discont+frag_keyframe"
    ffmpeg("-i", tmp_path / "plain.mp4", "-c", "copy", "-movflags", flags, tmp_path / "whole.mp4")
    assert shown(monkeypatch, [tmp_path / "whole.mp4"]) is None
    (tmp_path / "sound.mkv").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(64))
    live_files._indexes.clear()
    assert shown(monkeypatch, [tmp_path / "sound.mkv"]) is None
