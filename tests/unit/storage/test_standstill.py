"""The mark of the database: never the same again after a commit, whatever became of its connection."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from storage.db.engine import Database
from storage.db.standstill import CommitMark


def test_a_mark_of_before_a_failure_never_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    sqlite3.connect(path).execute("CREATE TABLE t (x)").connection.close()
    mark = CommitMark(Database(f"sqlite:///{path}"))
    seen = [mark.read()]
    assert mark.is_instant
    for _ in range(20):
        # What is there cannot be read for a moment, and meanwhile somebody commits.
        path.rename(tmp_path / "away")
        path.mkdir()
        mark.close()
        assert mark.read() is None
        assert not mark.is_instant
        path.rmdir()
        (tmp_path / "away").rename(path)
        with sqlite3.connect(path) as other:
            other.execute("INSERT INTO t VALUES (1)")
        other.close()
        seen.append(mark.read())
        assert mark.is_instant
    mark.close()
    assert None not in seen
    assert len(set(seen)) == len(seen)
