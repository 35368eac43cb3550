"""What each kind of job does, one file a part of the work."""

from __future__ import annotations

from collections.abc import Mapping

from workers.runner import Task
from workers.tasks import (
    chunks,
    clips,
    continuity,
    fixity,
    media,
    redaction,
    renditions,
    stills,
    tracks,
    wayfinding,
)

TASKS: Mapping[str, Task] = {
    "verify": fixity.verify,
    "reread": fixity.reread,
    "probe": media.probe,
    "examine": media.examine,
    "rendition": renditions.rendition,
    "preview": chunks.preview,
    "sound": chunks.sound,
    "chunk": chunks.chunk,
    "discard": chunks.discard,
    "track": tracks.track,
    "continuity": continuity.continuity,
    "thumbnails": wayfinding.thumbnails,
    "waveform": wayfinding.waveform,
    "scenes": continuity.masked_scenes,
    "poster": stills.poster,
    "photo": stills.photo,
    "redact": redaction.redact,
    "render": redaction.render,
    "clip": clips.clip,
    "clip_set": clips.clip_set,
    "discard_pack": clips.discard_pack,
}
