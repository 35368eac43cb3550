"""Files of a live list that move while they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest

from api import live
from evidence.errors import Unavailable
from ingest.recorder.watching import Recorded
from media.fmp4 import index_fragments
from tests.support.media import ffmpeg, make_plain

FILE = Recorded("a" * 32, 0, 0, 0, is_whole=True, is_held=False)


@dataclass
class Row:
    """As much of a session as reading asks for."""

    agency_id: UUID


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    for each in (live._indexes, live._wholes):
        cast(Any, each).clear()
    yield
    for each in (live._indexes, live._wholes):
        cast(Any, each).clear()


def shown(monkeypatch: pytest.MonkeyPatch, places: list[Path]) -> live.Shown | None:
    """What a list says of the file, found at these places one after the other."""
    left = iter(places)
    monkeypatch.setattr(live, "_find", lambda *_: next(left))
    return live._shown_file(
        cast(Any, None), cast(Any, None), cast(Any, Row(UUID(int=1))), "main", FILE, [(0, None)], 0
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
    known = live._index(part, key)
    assert known is not None and len(known.fragments) == 2
    with pytest.raises(Unavailable) as moving:
        shown(monkeypatch, [gone] * live.LOOKS)
    assert moving.value.code == "live_settling" and not live._wholes
    found = shown(monkeypatch, [gone, whole])
    assert found is not None and found.index == index
    # Kept, though FFmpeg's own index lies behind the last fragment: asked again, nothing is looked for.
    assert whole.stat().st_size > index.size_bytes
    assert shown(monkeypatch, []) == found


def test_a_file_whose_journal_is_gone_is_shown_by_what_it_says_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever wrote down its codec went with its run's folder."""
    make_plain(tmp_path / "plain.mp4", seconds=1, codec="hevc")
    flags = "empty_moov+default_base_moof+frag_discont+frag_keyframe"
    ffmpeg("-i", tmp_path / "plain.mp4", "-c", "copy", "-movflags", flags, tmp_path / "whole.mp4")
    assert shown(monkeypatch, [tmp_path / "whole.mp4"]) is None
    (tmp_path / "sound.mkv").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(64))
    live._indexes.clear()
    assert shown(monkeypatch, [tmp_path / "sound.mkv"]) is None
