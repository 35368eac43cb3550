"""A new key signs, old signatures verify, and a rotation cut off anywhere leaves both true."""

from __future__ import annotations

import base64
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select

from api.auth.capability import Use, mint, unfold
from cli import verifier
from cli.logbook import live_lines
from cli.main import main
from evidence.custody import Action, parse_checkpoint, parse_leaf
from evidence.errors import NotFound
from evidence.ids import new_id
from storage.check import Depth, check
from storage.db import agencies, custody
from storage.db.custody import Happening
from storage.db.tables import Agency, CustodyCheckpoint, CustodyLeaf, SigningKey
from storage.keys import KeyRing, Purpose, verify_signature
from storage.open import Storage
from storage.rotation import Rotation, rotate_key
from storage.sequencer import place_waiting
from tests.support.clocks import SettableClock


def agency_of(storage: Storage) -> Agency:
    with storage.database.read() as session:
        return agencies.agencies(session)[0]


def rotate(storage: Storage, purpose: Purpose, *, end_grants: bool = False) -> Rotation:
    return rotate_key(storage, agency_of(storage).id, purpose, actor="operator:0", end_grants=end_grants)


def happen(storage: Storage) -> None:
    agency = agency_of(storage)
    with storage.database.transaction() as session:
        happening = Happening(Action.CUSTODY_EXPORTED, "agency", str(agency.id), "test", {})
        custody.record(session, agency, happening, storage.clock.now())
    place_waiting(storage, agency.id)


def keys_on_record(storage: Storage, purpose: Purpose) -> list[SigningKey]:
    with storage.database.read() as session:
        return list(
            session.scalars(
                select(SigningKey).where(SigningKey.purpose == str(purpose)).order_by(SigningKey.created_at)
            )
        )


def findings(storage: Storage) -> list[str]:
    """What `check` and `verify` say of the live installation."""
    place_waiting(storage, agency_of(storage).id)
    with storage.database.read() as session:
        told = verifier.verify_export(live_lines(session, agency_of(storage), with_payloads=True))
    return [one.kind for one in told] + [one.code for one in check(storage, Depth.ROWS)]


def alone(export: Path, *keys: bytes) -> tuple[int, str]:
    """The stand-alone verifier in a process of its own."""
    given = [word for key in keys for word in ("--key", base64.b64encode(key).decode())]
    command = [sys.executable, "-I", str(Path(verifier.__file__)), str(export), *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_a_log_is_verified_alone_across_a_rotation(
    storage: Storage, clock: SettableClock, tmp_path: Path
) -> None:
    happen(storage)
    clock.advance(1)
    done = rotate(storage, Purpose.CHECKPOINT)
    clock.advance(1)
    happen(storage)
    old, new = keys_on_record(storage, Purpose.CHECKPOINT)
    assert (old.id, new.id) == (done.old_id, done.new_id)
    assert old.retired_at == new.created_at
    export = tmp_path / "export.jsonl"
    with storage.database.read() as session:
        export.write_text("".join(live_lines(session, agency_of(storage), with_payloads=False)))
    assert alone(export, old.public_key, new.public_key) == (0, "未发现问题 / nothing is wrong\n")
    status, said = alone(export, old.public_key)
    assert status == 1
    assert "bad_signature" in said
    assert findings(storage) == []


def test_the_old_key_vouches_for_the_new_one(storage: Storage, clock: SettableClock) -> None:
    happen(storage)
    clock.advance(1)
    done = rotate(storage, Purpose.CHECKPOINT)
    old, new = keys_on_record(storage, Purpose.CHECKPOINT)
    with storage.database.read() as session:
        row = session.scalars(select(CustodyLeaf).where(CustodyLeaf.action == "key:rotated")).one()
        newest = custody.newest_checkpoint(session, agency_of(storage).id)
        (placed,) = custody.leaves_about(session, agency_of(storage).id, new.id)
    facts = parse_leaf(bytes(row.body)).facts
    assert facts == {"purpose": "checkpoint", "old": done.old_id, "public_key": new.public_key.hex()}
    assert newest is not None
    assert placed.index is not None
    assert placed.index < newest.tree_size
    assert verifier.Note.parse(newest.note).is_signed_by([verifier.PublicKey(old.public_key)])
    happen(storage)
    with storage.database.read() as session:
        notes = list(session.scalars(select(CustodyCheckpoint.note).order_by(CustodyCheckpoint.tree_size)))
    assert verifier.Note.parse(notes[-1]).is_signed_by([verifier.PublicKey(new.public_key)])
    assert [parse_checkpoint(note).sequence for note in notes] == list(range(1, len(notes) + 1))


def test_a_receipt_of_the_old_key_still_verifies(storage: Storage, clock: SettableClock) -> None:
    before = storage.keys.sign(Purpose.RECEIPT, b"one")
    clock.advance(1)
    rotate(storage, Purpose.RECEIPT)
    after = storage.keys.sign(Purpose.RECEIPT, b"two")
    public = {row.id: row.public_key for row in keys_on_record(storage, Purpose.RECEIPT)}
    assert before[0] != after[0]
    assert verify_signature(public[before[0]], b"one", before[1])
    assert verify_signature(public[after[0]], b"two", after[1])
    assert findings(storage) == []


def test_a_running_process_signs_with_the_new_key(storage: Storage) -> None:
    running = replace(storage, keys=KeyRing(storage.keys.folder))
    before = running.keys.sign(Purpose.RECEIPT, b"one")[0]
    done = rotate(storage, Purpose.RECEIPT)
    assert (before, running.keys.sign(Purpose.RECEIPT, b"two")[0]) == (done.old_id, done.new_id)


def token(storage: Storage, grant: UUID) -> str:
    return mint(
        storage.keys, Use.MEDIA, agency_of(storage).id, grant, storage.clock.now() + timedelta(hours=1)
    )


def test_addresses_of_the_old_key_live_their_time(storage: Storage) -> None:
    grant = new_id()
    before = token(storage, grant)
    rotate(storage, Purpose.GRANT)
    assert token(storage, grant) != before
    assert unfold(storage.keys, before, storage.clock.now()).subject_id == grant


def test_addresses_of_the_old_key_end_where_that_is_asked(storage: Storage) -> None:
    grant = new_id()
    before = token(storage, grant)
    rotate(storage, Purpose.GRANT, end_grants=True)
    with pytest.raises(NotFound):
        unfold(storage.keys, before, storage.clock.now())
    assert unfold(storage.keys, token(storage, grant), storage.clock.now()).subject_id == grant
    assert findings(storage) == []


class PowerCut(BaseException):
    """Nothing after it happens."""


@pytest.mark.parametrize("purpose", list(Purpose))
def test_a_rotation_cut_off_after_its_rows_is_finished_by_the_next(
    storage: Storage, purpose: Purpose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise PowerCut

    with monkeypatch.context() as broken, pytest.raises(PowerCut):
        broken.setattr(KeyRing, "use", cut)
        rotate(storage, purpose)
    assert findings(storage) == ["key_retired"]
    happen(storage)
    done = rotate(storage, purpose)
    assert done.was_unfinished
    assert len(keys_on_record(storage, purpose)) == 2
    happen(storage)
    assert findings(storage) == []


def test_a_rotation_cut_off_before_its_rows_has_changed_nothing(storage: Storage) -> None:
    storage.keys.make(Purpose.CHECKPOINT)
    happen(storage)
    assert findings(storage) == []
    assert not rotate(storage, Purpose.CHECKPOINT).was_unfinished
    happen(storage)
    assert findings(storage) == []


def test_the_command_says_which_key_signs_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIUHEN_DATA__FREE_FLOOR_BYTES", "0")
    data = ("--data", str(tmp_path / "data"))
    assert main(["init", "--agency-code", "demo", *data]) == 0
    capsys.readouterr()
    assert main(["keys", "rotate", "--purpose", "receipt", *data]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("receipt-")
    assert "keys export receipt" in said.err
    assert main(["keys", "rotate", "--purpose", "receipt", "--end-grants", *data]) == 2
    assert "option_invalid" in capsys.readouterr().err
