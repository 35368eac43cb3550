"""Files of a stream, as their recorder's journal tells of them."""

from __future__ import annotations

from pathlib import Path

from media.live.following import StreamFiles
from media.live.journal import Journal


def test_the_earliest_that_a_file_may_have_begun_is_the_least_ever_told(tmp_path: Path) -> None:
    """A camera whose clock runs fast dates its pictures later than they are."""
    run = tmp_path / ("0" * 32)
    run.mkdir()
    journal, files = Journal(run), StreamFiles(tmp_path)
    journal.write("file", file=0, name="000000.mp4", container="mp4", streams=[])
    assert files.newest() is not None and files.least_us() is None
    marks = ((1000, 2000, 1000), (1000, 2990, 2010), (1005, 4015, 3015), (1000, 5500, 4000))
    for from_us, to_us, end_us in marks:
        journal.write("mark", file=0, from_utc_us=from_us, to_utc_us=to_us, end_us=end_us)
    assert (files.begins_us(), files.least_us()) == (1000, 980)
    journal.write("closed", file=0, from_utc_us=1000, to_utc_us=5000, duration_us=4030)
    assert files.least_us() == 970
