"""What people marked while it was recorded, to be read beside the pictures.

A marker is what somebody noted of a session of a room at a moment of it. Its words are free: they may name
people, and no mask hides them. So they go by the right to the session and by nothing else: whoever may read
it reads them beside the original and beside what is masked, and whoever may not is not even told that there
are any. The right is looked at anew at each request, as that of the grant is.

Custody events are none of this: what became of a file is no part of what it shows. What was said in it would
be: a transcript is a second track, from here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from api.auth.rights import Asker, SessionRights, actor_of
from evidence.access import Act
from evidence.session import NOTE_WORDS, NoteKind
from storage.db import sessions
from storage.db.tables import Grant
from transcode.captions import Caption, CaptionTrack

READ_US = 5_000_000
"""How long a marker is shown, which is of one instant, unless its file or its session ends before."""
NAME = "标记 Markers"
US = timedelta(microseconds=1)


def captions_of(session: Session, held: Sequence[Grant], now: datetime) -> Mapping[UUID, list[Caption]]:
    """By grant, the markers that its holder may read and that lie in what it shows.

    Args:
        held: Grants of one account.
    """
    if not held:
        return {}
    agency_id, account_id = held[0].agency_id, held[0].account_id
    parts = sessions.parts_of_items(session, agency_id, [grant.item_id for grant in held])
    if not parts:
        return {}
    rows = sessions.sessions_by_id(session, agency_id, {part.session_id for part in parts})
    rights = SessionRights(Asker(session, agency_id, actor_of(session, agency_id, account_id), now), rows)
    readable = {row.id: row for row in rows if rights.has(row, Act.READ_SESSIONS)}
    within = min(part.from_at for part in parts), max(part.to_at for part in parts)
    markers = sessions.markers_of(session, agency_id, readable, within) if readable else []
    said: dict[UUID, dict[UUID, Caption]] = {}
    for part in parts:
        for note in markers:
            if note.session_id == part.session_id and part.from_at <= note.at < part.to_at:
                # The time of a marker is that of the host it was sent to, of a part the recording one's: one
                # clock where they are one host, and hosts that keep the same time where they are two.
                at_us, length_us = (note.at - part.from_at) // US, (part.to_at - part.from_at) // US
                ended_at = readable[note.session_id].ended_at
                if ended_at is not None and note.at < ended_at < part.to_at:
                    # What the file has beyond may be another session's.
                    length_us = (ended_at - part.from_at) // US
                text = note.text or " ".join(NOTE_WORDS[NoteKind.MARKER])
                caption = Caption(at_us, min(at_us + READ_US, length_us), text)
                said.setdefault(part.item_id, {})[note.id] = caption
    found = {grant.id: _shown(grant, said.get(grant.item_id, {}).values()) for grant in held}
    return {grant_id: captions for grant_id, captions in found.items() if captions}


def _shown(grant: Grant, captions: Collection[Caption]) -> list[Caption]:
    """Those of moments that the grant shows, in order."""
    first_us = grant.span_from_us or 0
    return sorted(
        each if grant.span_to_us is None else replace(each, to_us=min(each.to_us, grant.span_to_us))
        for each in captions
        if first_us <= each.from_us and (grant.span_to_us is None or each.from_us < grant.span_to_us)
    )


def track_of(rung: str) -> CaptionTrack:
    """Markers as a multivariant playlist offers them beside a rung."""
    return CaptionTrack(f"marks-{rung}", f"marks-{rung}.m3u8", NAME)
