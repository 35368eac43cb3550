"""The vocabulary of live events: news for people who watch, never footage, never evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from evidence.clock import rfc3339


class Topic(StrEnum):
    """What an event is about."""

    ITEM = "item"
    JOB = "job"
    CLIP = "clip"
    ALARM = "alarm"
    REPORT = "report"
    ROOM = "room"


@dataclass(frozen=True)
class Event:
    """Something that just happened or moves on.

    Attributes:
        agency: Code of the agency; readers of another never see it.
        subject_id: What it is about.
        what: One word: received, verified, probed, rendered, redacted, progress, quarantined, …
        facts: Small, without personal details.
    """

    topic: Topic
    agency: str
    subject_id: str
    what: str
    at: datetime
    facts: Mapping[str, Any] = field(default_factory=dict)

    def frames(self) -> list[bytes]:
        """Two ZeroMQ frames: `agency/topic` to subscribe by, and the JSON body."""
        body = {
            "topic": str(self.topic),
            "agency": self.agency,
            "subject_id": self.subject_id,
            "what": self.what,
            "at": rfc3339(self.at),
            "facts": dict(self.facts),
        }
        return [f"{self.agency}/{self.topic}".encode(), json.dumps(body, ensure_ascii=False).encode()]
