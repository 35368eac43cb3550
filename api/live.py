"""A session as it is watched while it is recorded: the right to it, its lists, and the bytes they name.

What is shown is the recorder's own file, fragment by fragment as they lie (`ingest.recorder.watching`), or
the object that it became: nothing is copied or cut, and nothing here writes where a recorder does. Of what
browsers do not play it is what an encode makes that all who watch share (`api.live_sharing`). A file is named
by stream, run and number, so that its address stays when it is closed, renamed and handed over.

Under a *masked* grant nothing that was recorded is ever named: its lists have only what a masked encode made,
from when a live mask was set until it is lifted (`evidence.live_masks`).

A list only grows. Which files it has, in which order, and what wall time each begins at is written into the
grant when a file is first told; what is told of a file is worked out from its fragments, the same each time
(`transcode.live`). The right is asked for again at each request: a role, a case or the grant may have gone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy.orm import Session

from api.auth.capability import Use, mint
from api.auth.rights import Asker, actor_of, may_watch_original, require_live, require_masked_live
from api.desk import Installation, Work
from api.live_files import Shown, file_of, folder_of, journals, read, settling, shown_file
from api.live_masks import MayShow
from api.live_sharing import Read, encoded, encodes_of, is_encoded, lane_of, nothing_yet, tell_rules, want
from api.ranges import ByteRange
from api.resolving import Servable
from evidence.clock import from_micros, rfc3339, to_micros
from evidence.custody import Action
from evidence.errors import Conflict, InvalidInput, NotFound, NotPermitted, Unavailable
from evidence.ids import new_id
from evidence.kinds import RetrievalPurpose
from evidence.live_masks import LiveMask, open_since_us
from evidence.masks import Mask, Reason, Span
from ingest.recorder import registry
from ingest.recorder.watching import Recorded, recorded, shown_windows
from media.fmp4 import FragmentIndex
from storage.db import agencies, custody, sessions
from storage.db.custody import Happening
from storage.db.leadership import leader
from storage.db.live_grants import ended, live_grant_by_id, live_grant_in_force
from storage.db.live_masks import live_masks_in_order
from storage.db.room_tables import LiveGrant, RoomSession, SessionNote, SessionPart
from storage.db.session_masks import masks_in_force
from storage.open import Storage
from transcode.live import LIMIT_S, Window, live_runs, older_than_updates
from transcode.live_encodes import EncodeNow, Kind
from transcode.playlist import Stretch, write

SUBJECT = "room_session"
SILENT = timedelta(seconds=5)
"""A stream of which nothing came for so long is away, whether people were told or not."""
_NAME = re.compile(r"live-([0-9]{1,2})-([0-9a-f]{32})-([0-9]{6,9})\.mp4")

StreamNow = Literal["live", "waiting", "away", "paused", "not_playable", "not_shown", "over"]


@dataclass(frozen=True)
class Watched:
    """A session that is being watched, with what is asked of the database once for all of its streams."""

    row: RoomSession
    parts: Sequence[SessionPart]
    notes: Sequence[SessionNote]
    masks: Sequence[Mask]
    live_masks: Sequence[LiveMask]

    @classmethod
    def of(cls, session: Session, row: RoomSession) -> Watched:
        return cls(
            row,
            sessions.parts_of(session, row.agency_id, row.id),
            sessions.pauses_of(session, row.agency_id, row.id),
            masks_in_force(session, row),
            live_masks_in_order(session, row.agency_id, row.id),
        )

    def may_show(self, grant: LiveGrant, storage: Storage, stream: str) -> MayShow:
        """What of a stream of it may be shown under a grant."""
        windows: Sequence[Span] = shown_windows(self.row, self.notes)
        if grant.is_masked:
            since_us = open_since_us(self.live_masks, stream)
            # By how far the clock was set, as in the rules of its encode.
            windows = [] if since_us is None else _from(windows, since_us + self.stepped_us(storage))
        elif grant.is_unmasked:
            return MayShow(tuple(windows), ())
        if not self.masks:
            return MayShow(tuple(windows), ())
        slack_us = self.stepped_us(storage)
        masks = tuple(replace(each, slack_us=max(each.slack_us, slack_us)) for each in self.masks)
        return MayShow(tuple(windows), masks)

    def stepped_us(self, storage: Storage) -> int:
        """How far the host's clock was set; of a file that is not tied yet its journal tells."""
        folder = folder_of(storage, self.row)
        return max(journals.stepped_us(folder / str(stream)) for stream in self.row.streams)

    def is_shown_masked(self, stream: str) -> bool:
        """Whether anything of a stream may be watched without the right to originals now."""
        return open_since_us(self.live_masks, stream) is not None

    def tell_rules(self, installation: Installation, streams: Sequence[str], read_ns: int) -> None:
        """Have its masked encodes keep to what was read.

        Args:
            read_ns: The host's monotonic clock before the transaction began in which it was.
        """
        stepped_us = self.stepped_us(installation.storage)
        read = Read(self.row, self.live_masks, self.masks, stepped_us, read_ns)
        tell_rules(installation, read, streams)

    def files(self, storage: Storage, stream: str) -> list[Recorded]:
        return recorded(journals, storage.recorder, self.row, stream, self.parts)


def _from(windows: Sequence[Span], since_us: int) -> list[Span]:
    """What of stretches lies behind a moment."""
    return [(max(begins, since_us), ends) for begins, ends in windows if ends is None or ends > since_us]


def kind_of(grant: LiveGrant) -> Kind:
    """Which encodes are shown under a grant."""
    return Kind.MASKED if grant.is_masked else Kind.PLAIN


# -- the right ------------------------------------------------------------------------------


def issue(
    work: Work,
    row: RoomSession,
    purpose: RetrievalPurpose,
    reason: str,
    *,
    is_unmasked: bool,
    is_masked: bool,
) -> LiveGrant:
    """A grant for the actor, with its custody leaf: masked where the actor has no right to the original.

    Args:
        is_unmasked: Show what somebody masked as well; the leaf says so.
        is_masked: Show what people without the right to originals see, to somebody who has it.

    Raises:
        InvalidInput: Both were asked for (``live_grant_unclear``).
        NotPermitted: As `api.auth.rights.require_masked_live`; or as ``require_live``, where ``is_unmasked``.
        Conflict: It is over, and its files are items (``live_over``).
        Unavailable: Another host records the room (``live_elsewhere``).
    """
    if is_unmasked and is_masked:
        raise InvalidInput(
            "live view: expected one of unmasked and masked, found both; leave one out",
            code="live_grant_unclear",
        )
    if is_unmasked:
        require_live(work, row)
    is_masked = is_masked or not may_watch_original(work, row)
    if is_masked:
        require_masked_live(work, row)
    require_here(work.session, Installation(work.storage, work.settings), row, work.now)
    watched = Watched.of(work.session, row)
    if row.ended_at is not None and all(
        file.is_held for stream in row.streams for file in watched.files(work.storage, stream)
    ):
        raise Conflict(
            f"session {row.id}: expected one that is recorded, found it over; ask for its items",
            code="live_over",
        )
    grant = LiveGrant(
        id=new_id(),
        agency_id=work.agency_id,
        session_id=row.id,
        account_id=work.actor.account_id,
        purpose=str(purpose),
        reason=reason,
        issued_at=work.now,
        expires_at=work.now + timedelta(seconds=work.settings.media.grant_s),
        is_watched=False,
        is_unmasked=is_unmasked,
        is_masked=is_masked,
        told={},
    )
    work.session.add(grant)
    work.session.flush()
    facts = {
        "grant": str(grant.id), "variant": "live", "purpose": grant.purpose,
        "case": str(row.case_id) if row.case_id else None, "expires_at": rfc3339(grant.expires_at),
        "unmasked": is_unmasked, "masked": is_masked,
    }  # fmt: skip
    work.record(Action.GRANT_ISSUED, SUBJECT, row.id, facts, {"reason": reason})
    return grant


def revoke(work: Work, grant: LiveGrant) -> None:
    """End a grant at once; ending it twice is fine."""
    if grant.revoked_at is None:
        grant.revoked_at = work.now
        facts = {"grant": str(grant.id), "why": "revoked"}
        work.record(Action.GRANT_REVOKED, SUBJECT, grant.session_id, facts)


def require_here(session: Session, installation: Installation, row: RoomSession, now: datetime) -> None:
    """Raise unless this host has what is recorded in the room.

    Raises:
        Unavailable: ``live_elsewhere``.
    """
    host_id = installation.settings.ingest.host_id
    owner = leader(session, registry.lease_of(row.agency_id, row.room_no), now)
    is_ours = owner is None or host_id is None or owner.rpartition(":")[0] == host_id
    if not is_ours or not folder_of(installation.storage, row).is_dir():
        raise Unavailable(
            f"room {row.room_no}: expected it recorded on this host, found it is not; "
            "ask the host that records it",
            code="live_elsewhere",
        )


def in_force(
    session: Session, agency_id: UUID, grant_id: UUID, now: datetime, *, lock: bool = False
) -> tuple[LiveGrant, RoomSession]:
    """A grant under which something may be shown now, and its session.

    Raises:
        NotFound: It has ended, was revoked, or its holder has no right any more (``grant_ended``).
        NotPermitted: It is masked, and no live mask is in force (``live_mask_needed``): it is good again once
            one is.
    """
    grant = live_grant_in_force(session, agency_id, grant_id, now, lock=lock)
    row = sessions.session_by_id(session, agency_id, grant.session_id)
    asker = Asker(session, agency_id, actor_of(session, agency_id, grant.account_id), now)
    try:
        if grant.is_masked:
            require_masked_live(asker, row)
        else:
            require_live(asker, row)
    except NotPermitted as error:
        if error.code == "live_mask_needed":
            raise
        raise ended() from error
    return grant, row


# -- lists ----------------------------------------------------------------------------------


def playlist(
    installation: Installation,
    agency_id: UUID,
    grant_id: UUID,
    lane: int,
    now: datetime,
    *,
    is_update: bool = False,
) -> str:
    """The list of one stream, from the session's beginning until now, or what is new of it.

    Raises:
        NotFound: The grant has ended, the session has no such stream (``nothing_here``), or nothing of it is
            whole yet (``live_waiting``).
        Unavailable: Recorded elsewhere; or it has to be encoded, and there is no room for that
            (``live_busy``, ``live_disk``).
    """
    storage = installation.storage
    # Before the transaction: whatever is read in it is as it was when it read first.
    read_ns = time.monotonic_ns()
    with storage.database.read() as session:
        grant, row = in_force(session, agency_id, grant_id, now)
        require_here(session, installation, row, now)
        stream = _stream(row, lane)
        watched = Watched.of(session, row)
        shown, is_open = _shown(session, installation, watched, stream, grant)
        is_wanted = row.ended_at is None and _is_wanted(installation, watched, stream, grant)
    if grant.is_masked:
        watched.tell_rules(installation, [stream], read_ns)
    encode = want(installation, row, [stream], kind_of(grant))[stream] if is_wanted else None
    if len(shown) > len(_told(grant, stream)):
        with storage.database.transaction() as session:
            grant, row = in_force(session, agency_id, grant_id, now, lock=True)
            shown, is_open = _shown(session, installation, Watched.of(session, row), stream, grant)
            told = [[each.file.run, each.file.number, each.at_us] for each in shown]
            grant.told = {**grant.told, stream: told}
    stretches = [
        Stretch(
            _address(installation, grant, lane, each.file),
            each.index.init_size_bytes,
            run,
            from_micros(each.at_us + run.segments[0].start_us),
            is_copied=True,
        )
        for each in shown
        for run in each.runs
    ]
    if not stretches:
        refusal = nothing_yet(stream, encode) if encode is not None else None
        if refusal is not None:
            raise refusal
        raise NotFound(
            f"stream {stream}: expected footage of the session, found none whole yet; ask again",
            code="live_waiting",
        )
    skipped = older_than_updates(stretches) if is_update else 0
    return write(stretches, limit_s=LIMIT_S, is_open=is_open, skipped=skipped)


def _is_wanted(installation: Installation, watched: Watched, stream: str, grant: LiveGrant) -> bool:
    """Whether a stream is watched under a grant by an encode, and there may be one."""
    if grant.is_masked:
        return watched.is_shown_masked(stream) and installation.settings.media.live_encodes > 0
    return is_encoded(installation, watched.files(installation.storage, stream))


def _stream(row: RoomSession, lane: int) -> str:
    if lane >= len(row.streams):
        raise NotFound("stream: expected one of the session, found another", code="nothing_here")
    return str(row.streams[lane])


def _told(grant: LiveGrant, stream: str) -> dict[tuple[str, int], int]:
    return {(run, number): at_us for run, number, at_us in grant.told.get(stream, [])}


def _address(installation: Installation, grant: LiveGrant, lane: int, file: Recorded) -> str:
    keys = installation.storage.keys
    token = mint(keys, Use.LIVE, grant.agency_id, grant.id, grant.expires_at)
    return f"{installation.settings.media_url}/m/{token}/live-{lane}-{file.run}-{file.number:06d}.mp4"


def _shown(
    session: Session, installation: Installation, watched: Watched, stream: str, grant: LiveGrant
) -> tuple[list[Shown], bool]:
    """The files of a stream's list: those told before, and those that follow them; and whether more will."""
    told, storage, kind = _told(grant, stream), installation.storage, kind_of(grant)
    files = _played(storage, watched, stream, installation.settings.media.grant_s, kind)
    may_show = watched.may_show(grant, storage, stream)
    last = max((place for place, file in enumerate(files) if (file.run, file.number) in told), default=-1)
    found: list[Shown] = []
    for place, file in enumerate(files):
        at_us = told.get((file.run, file.number))
        if at_us is None and (place < last or not file.is_new):
            continue
        each = shown_file(session, storage, watched.row, stream, file, may_show, at_us, kind)
        if each is not None and (each.runs or at_us is not None):
            found.append(each)
    is_open = watched.row.ended_at is None or any(not file.is_whole for file in files)
    return found, is_open


def _played(storage: Storage, watched: Watched, stream: str, keep_s: float, kind: Kind) -> list[Recorded]:
    """What browsers play of a stream: the recorder's files, and what encodes made of the others.

    Of what is masked only what its encodes made.
    """
    files = watched.files(storage, stream)
    made = encoded(storage, watched.row, stream, files, keep_s, kind)
    both = made if kind is Kind.MASKED else [*(each for each in files if each.plays), *made]
    return sorted(both, key=lambda each: (each.from_us, each.run, each.number))


# -- bytes ----------------------------------------------------------------------------------


def take(storage: Storage, agency_id: UUID, grant_id: UUID, name: str, *, is_taking: bool) -> Servable:
    """The bytes a name means under a live grant: what was told of that file, and nothing else of it.

    The first taking leaves the leaf that says that the session was watched.

    Raises:
        NotFound: The grant has ended, or has nothing of that name.
        Unavailable: The file is just changing places (``live_settling``).
    """
    now = storage.clock.now()
    named = _NAME.fullmatch(name)
    if named is None:
        raise NotFound("address: expected something under this grant, found nothing", code="nothing_here")
    with storage.database.read() as session:
        grant, row = in_force(session, agency_id, grant_id, now)
        stream = _stream(row, int(named[1]))
        run, number = named[2], int(named[3])
        at_us = _told(grant, stream).get((run, number))
        if at_us is None:
            raise NotFound("address: expected a file of the list, found another", code="nothing_here")
        path, index = read(session, storage, row, stream, run, number, kind_of(grant))
        if path is None or index is None:
            raise settling()
        file = file_of(session, storage, row, stream, run, number, kind_of(grant))
        watched = Watched(
            row,
            (),
            sessions.pauses_of(session, agency_id, row.id),
            masks_in_force(session, row),
            live_masks_in_order(session, agency_id, row.id) if grant.is_masked else (),
        )
        may_show = watched.may_show(grant, storage, stream)
        allowed = _allowed(index, may_show.of(file, index, at_us))
    if is_taking and not grant.is_watched:
        _note_watched(storage, agency_id, grant_id, now)
    return Servable(path, index.size_bytes, "video/mp4", None, allowed)


def _allowed(index: FragmentIndex, media: Sequence[Window]) -> tuple[ByteRange, ...]:
    """What comes before the first fragment, and every segment that is or will be told."""
    ranges = [ByteRange(0, index.init_size_bytes - 1)]
    for run in live_runs(index, media, is_whole=True):
        first, last = run.segments[0], run.segments[-1]
        ranges.append(ByteRange(first.offset_bytes, last.offset_bytes + last.size_bytes - 1))
    return tuple(ranges)


def _note_watched(storage: Storage, agency_id: UUID, grant_id: UUID, now: datetime) -> None:
    with storage.database.transaction() as session:
        grant, row = in_force(session, agency_id, grant_id, now, lock=True)
        if grant.is_watched:
            return
        grant.is_watched = True
        agency = agencies.agency_by_id(session, agency_id)
        happening = Happening(
            Action.LIVE_ISSUED, SUBJECT, str(row.id), f"account:{grant.account_id}", {"grant": str(grant.id)}
        )
        custody.record(session, agency, happening, now)


# -- how it stands --------------------------------------------------------------------------


@dataclass(frozen=True)
class Standing:
    """A stream of a session that is watched, now."""

    name: str
    lane: int
    state: StreamNow
    codecs: tuple[str, ...]
    from_at: datetime | None
    """From when on anything of it is recorded; None: nothing is."""
    to_at: datetime | None
    """Up to when."""
    encode: EncodeNow | None
    """How its shared encode stands; None: it needs none."""
    encode_px: int | None
    """Lines of the encoded picture; None: none, or it is copied."""


def standings(work: Work, row: RoomSession, grant: LiveGrant) -> list[Standing]:
    """How each stream of a session stands, for whoever watches it under a grant."""
    watched = Watched.of(work.session, row)
    rooms = registry.rooms_of(work.session, work.agency, work.settings.recorder.rooms)
    room = next((each for each in rooms if each.room_no == row.room_no), None)
    away = registry.away(work.session, work.agency, room) if room is not None else []
    installation = Installation(work.storage, work.settings)
    found = []
    for lane, stream in enumerate(row.streams):
        files = watched.files(work.storage, stream)
        last = files[-1] if files else None
        kind, by_encode = kind_of(grant), _is_wanted(installation, watched, stream, grant)
        encode = encodes_of(installation, kind).standing(lane_of(row, stream, kind)) if by_encode else None
        is_played = encode is not None or (last is not None and last.plays and not grant.is_masked)
        state = _state(work, row, last, is_away=stream in away, is_played=is_played)
        if grant.is_masked and not watched.is_shown_masked(stream):
            state = "not_shown"
        keep_s = work.settings.media.grant_s
        played = (
            _played(work.storage, watched, stream, keep_s, kind) if by_encode or grant.is_masked else files
        )
        begins = max(played[0].from_us, to_micros(row.started_at)) if played else None
        found.append(
            Standing(
                str(stream),
                lane,
                state,
                (last.codecs or ()) if last is not None else (),
                from_micros(begins) if begins is not None else None,
                from_micros(last.to_us) if last is not None else None,
                encode.now if encode is not None else None,
                encode.height_px if encode is not None else None,
            )
        )
    return found


def begin_encodes(work: Work, row: RoomSession, grant: LiveGrant, read_ns: int) -> None:
    """Have what is watched by an encode of a session that runs encoded, before its first list is asked for.

    Args:
        read_ns: The host's monotonic clock before the work's transaction began.
    """
    if row.ended_at is not None:
        return
    installation, watched = Installation(work.storage, work.settings), Watched.of(work.session, row)
    streams = [str(each) for each in row.streams if _is_wanted(installation, watched, str(each), grant)]
    if grant.is_masked:
        watched.tell_rules(installation, streams, read_ns)
    want(installation, row, streams, kind_of(grant))


def _state(
    work: Work, row: RoomSession, last: Recorded | None, *, is_away: bool, is_played: bool
) -> StreamNow:
    if last is not None and not is_played:
        return "not_playable"
    if row.ended_at is not None:
        return "over"
    if row.paused_since is not None:
        return "paused"
    silent = last is not None and from_micros(last.to_us) < work.now - SILENT
    if is_away or silent:
        return "away"
    return "live" if last is not None else "waiting"


def masked_since(work: Work, row: RoomSession) -> datetime | None:
    """Since when a person's mask hides what is recorded at this moment; None: none does."""
    lasting = [
        each.from_us
        for each in masks_in_force(work.session, row)
        if each.to_us is None and each.reason is not Reason.PAUSED
    ]
    return from_micros(min(lasting)) if lasting else None


def own(work: Work, grant_id: UUID, *, lock: bool = False) -> LiveGrant:
    """A grant by its id, for whoever asks about it; whose it is, is for the caller to look at."""
    return live_grant_by_id(work.session, work.agency_id, grant_id, lock=lock)
