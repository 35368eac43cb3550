"""Announcing goes on when a broker that went away is back."""

from __future__ import annotations

from pathlib import Path

import pytest

from evidence.errors import Unavailable
from evidence.ids import new_id
from messaging.jobs import Announcer
from tests.support.brokers import broker


def test_an_announcer_that_met_a_dead_broker_announces_again(tmp_path: Path) -> None:
    path = tmp_path / "s"
    announcer = Announcer(f"redis+socket://{path}")
    with broker(path):
        announcer.announce(new_id(), "io")
    for _ in range(2):
        with pytest.raises(Unavailable) as away:
            announcer.announce(new_id(), "io")
        assert away.value.code == "broker_unavailable"
    with broker(path) as client:
        assert announcer.announce_all([(new_id(), "io"), (new_id(), "media")]) == 2
        assert (client.llen("io"), client.llen("media")) == (1, 1)
    announcer.close()
