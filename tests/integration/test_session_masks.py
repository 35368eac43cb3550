"""What people hid of a session is hidden in whatever is made of its files."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from sqlalchemy import select

from api.live import Watched
from evidence.clock import to_micros
from evidence.masks import Hides, Reason, without
from ingest.recorder import masks
from ingest.recorder.places import room_folder
from ingest.recorder.sessions import claims_of, note_part
from media.live.arrivals import monotonic_us
from media.live.journal import NAME
from storage.db import agencies, items, sessions
from storage.db.room_tables import LiveGrant, RoomSession, SessionMask
from storage.db.session_masks import as_facts, masks_in_force
from storage.db.tables import Claim, Derivative, RedactionPlanRow
from storage.hiding import hide, placed_in
from storage.open import Storage
from tests.support.installations import settings_for
from tests.support.media import make_plain
from tests.support.pipeline import Pipeline, pipeline_settings
from tests.support.rooms import ROOM, finished_file, hand_in, session_of
from workers.tasks.redaction import _versions_wanted

FPS, SECONDS = 2, 8
BEGAN = datetime(2026, 3, 3, 2, 0, tzinfo=UTC)
ACTOR = "operator:0"


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


@pytest.fixture
def pipeline(sqlite_storage: Storage, tmp_path: Path) -> Pipeline:
    settings = settings_for(tmp_path, f"sqlite:///{tmp_path / 'test.db'}")
    return Pipeline(sqlite_storage, pipeline_settings(settings))


def shown(path: Path) -> tuple[list[int], list[float]]:
    """Brightness of the middle of each picture, and how loud each second of sound is at its loudest."""
    with av.open(str(path)) as opened:
        middles = [each.to_ndarray(format="gray")[60:120] for each in opened.decode(video=0)]
    with av.open(str(path)) as opened:
        sound = np.concatenate([each.to_ndarray()[0] for each in opened.decode(audio=0)])
    seconds = np.array_split(np.abs(sound[: len(sound) // SECONDS * SECONDS]), SECONDS)
    return [round(float(each.std())) for each in middles], [float(each.max()) for each in seconds]


def test_masks_are_hidden_in_what_is_made_and_in_what_was_made(pipeline: Pipeline, tmp_path: Path) -> None:
    storage = pipeline.storage
    make_plain(tmp_path / "room.mp4", seconds=SECONDS, fps=FPS)
    item_id = pipeline.take(tmp_path / "room.mp4").item_id
    # The room pre-records: the first second of the file is of before the session.
    session_id = session_of(storage, at(1), [], {}, ended_at=at(SECONDS))
    now = storage.clock.now()
    # The host died between custody and tie: the file says itself what it is of.
    file = finished_file(storage, tmp_path, BEGAN, at(SECONDS))
    with storage.database.transaction() as session:
        agency = agencies.agencies(session)[0]
        row = sessions.session_by_id(session, agency.id, session_id)
        items.item_by_id(session, agency.id, item_id).captured_from = BEGAN
        session.add_all(
            Claim(agency_id=agency.id, item_id=item_id, field=each.field, value=each.value,
                  source=str(each.source), clock=each.clock, made_at=now)
            for each in claims_of(session, agency, row, file)
        )  # fmt: skip
    with storage.database.transaction() as session:
        masks.mask(
            session, agency, session_id, Hides.PICTURE, Reason.MINOR, "未成年人入场",
            from_at=at(6), actor=ACTOR, now=now,
        )  # fmt: skip
        # Nothing is made of it yet.
        assert hide(session, agency, session_id, ACTOR, now) == []
    pipeline.work()
    pictures, sound = shown(served(storage, item_id))
    # Before the tie nobody knows how long the source stood still before it, so all may be meant.
    assert max(pictures) <= 1 and sound[0] < 0.0001 and min(sound[1:]) > 0.01

    before = served(storage, item_id)
    with storage.database.transaction() as session:
        masks.mask(
            session, agency, session_id, Hides.SOUND, Reason.STATE_SECRET, "涉密谈话",
            from_at=at(2), to_at=at(3), actor=ACTOR, now=now,
        )  # fmt: skip
        assert hide(session, agency, session_id, ACTOR, now) == [item_id]
        # What was shown is gone at once, and once is enough.
        made = items.derivatives_of(session, agency.id, item_id)
        assert made and not any(each.masked for each in made)
        assert hide(session, agency, session_id, ACTOR, now) == []
    pipeline.work()
    after = served(storage, item_id)
    pictures, sound = shown(after)
    assert after != before and max(pictures) <= 1
    assert max(sound[:4]) < 0.0001 and min(sound[5:]) > 0.01
    with storage.database.read() as session:
        row = items.newest_plan(session, agency.id, item_id)
        assert row is not None and (row.number, row.reveals, row.author) == (2, False, ACTOR)
        duration_us = made[0].info["duration_us"]
        assert len(placed_in(session, agency.id, item_id, duration_us)) == 3

    # A version that shows again what was hidden waits for a second person; a mask set meanwhile keeps the
    # version in force, which lacks it, from being made again. Whoever set it did not see the file: the tie
    # brings it in.
    with storage.database.transaction() as session:
        refused = {**row.plan, "number": 3, "parent": 2}
        refused["muted_spans"] = [{**each, "state": "refused"} for each in refused["muted_spans"]]
        session.add(version(row, refused))
        session.flush()
        item = items.item_by_id(session, agency.id, item_id)
        assert _versions_wanted(session, agency, item) == {2, 3}
        masks.mask(
            session, agency, session_id, Hides.PICTURE, Reason.PRIVACY, "更衣",
            from_at=at(1), to_at=at(2), actor=ACTOR, now=now,
        )  # fmt: skip
        made = items.derivatives_of(session, agency.id, item_id)
        assert any(each.masked for each in made)
    with storage.database.transaction() as session:
        row = sessions.session_by_id(session, agency.id, session_id)
        note_part(session, agency, row, file, item_id, now)
        made = items.derivatives_of(session, agency.id, item_id)
        assert made and not any(each.masked for each in made)
        assert hide(session, agency, session_id, ACTOR, now) == []
        item = items.item_by_id(session, agency.id, item_id)
        newest = items.newest_plan(session, agency.id, item_id)
        assert newest is not None and (newest.number, newest.awaits_approval) == (4, True)
        # What the second person is still asked about is not hidden again.
        assert [each["state"] for each in newest.plan["muted_spans"]] == ["refused", "refused"]
        assert _versions_wanted(session, agency, item) == {4}


def test_a_mask_hides_as_much_more_as_the_clock_was_set(sqlite_storage: Storage, tmp_path: Path) -> None:
    """Set back by ten minutes while somebody hides: what is recorded since is told to be before it."""
    storage, by_us = sqlite_storage, -600_000_000
    session_id = session_of(storage, at(-900), [], {}, ended_at=at(120))
    with storage.database.transaction() as session:
        agency = agencies.agencies(session)[0]
        masks.mask(
            session, agency, session_id, Hides.BOTH, Reason.MINOR, "未成年人入场",
            from_at=at(20), to_at=at(30), actor=ACTOR, now=at(120),
        )  # fmt: skip

    def hidden() -> tuple[int, list[tuple[int, int | None]]]:
        with storage.database.read() as session:
            row = sessions.session_by_id(session, agency.id, session_id)
            (mask,) = masks_in_force(session, row)
            grant = LiveGrant(is_unmasked=False)
            shown = Watched.of(session, row).may_show(grant, storage, "main")
            return mask.slack_us, without(shown.windows, shown.masks)

    begins, first, last, ends = (to_micros(at(each)) for each in (-900, 19, 31, 120))
    assert hidden() == (0, [(begins, first), (last, ends)])
    # Told by the recorder's journal at once, and by the file's row once it is in custody.
    run = room_folder(storage.recorder, agency.id, ROOM.room_no) / "main" / "now"
    run.mkdir(parents=True)
    now_us = monotonic_us()
    step = {"kind": "turn", "turn": "host_step", "by_us": by_us, "monotonic_us": now_us}
    begun = {"kind": "begun", "monotonic_us": now_us, "utc_us": begins}
    (run / NAME).write_text("".join(json.dumps(line) + "\n" for line in (begun, step)))
    assert hidden() == (0, [(begins, first + by_us)])
    file = finished_file(storage, tmp_path / "run", at(0), at(60), turns=({**step, "monotonic_us": 30},))
    hand_in(storage, session_id, file)
    assert hidden() == (-by_us, [(begins, first + by_us)])
    # Of one that lasted until its session ended, by the clock before it began, nobody knows the end.
    lasting = SessionMask(from_at=at(20), to_at=None, hides="both", reason="minor", by=ACTOR)
    assert as_facts(lasting, RoomSession(ended_at=at(10)), 0).to_us is None


def version(of: RedactionPlanRow, plan: dict[str, Any]) -> RedactionPlanRow:
    return RedactionPlanRow(
        agency_id=of.agency_id, item_id=of.item_id, number=plan["number"], parent_number=plan["parent"],
        plan_sha256=bytes(32), plan=plan, author="account:x", made_at=of.made_at, reveals=True,
    )  # fmt: skip


def served(storage: Storage, item_id: object) -> Path:
    with storage.database.read() as session:
        row = session.scalars(
            select(Derivative).where(
                Derivative.item_id == item_id,
                Derivative.kind == "redacted",
                Derivative.withdrawn_at.is_(None),
            )
        ).one()
        found = storage.objects.path(row.store_key)
    assert found is not None
    return found
