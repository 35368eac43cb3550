"""What each kind of job does, one file a queue."""

from __future__ import annotations

from collections.abc import Mapping

from workers.runner import Task
from workers.tasks import fixity, media, redaction

TASKS: Mapping[str, Task] = {
    "verify": fixity.verify,
    "probe": media.probe,
    "rendition": media.rendition,
    "poster": media.poster,
    "clip": media.clip,
    "redact": redaction.redact,
    "render": redaction.render,
}
