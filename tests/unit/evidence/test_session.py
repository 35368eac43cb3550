"""A session: which way it goes, what of it is stated, and when it was paused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from evidence.errors import Conflict, InvalidInput
from evidence.kinds import GapReason
from evidence.session import (
    NOTE_WORDS,
    REASON_WORDS,
    STATE_WORDS,
    Facts,
    Note,
    NoteKind,
    State,
    begin_at,
    case_named_by,
    line,
    move,
    pauses,
)

NOW = datetime(2026, 3, 3, 2, tzinfo=UTC)


def test_who_named_the_case_last_is_who_said_it() -> None:
    def stated(by: str, text: str) -> Note:
        return Note(NoteKind.FACTS, 0, by, text)

    marker = Note(NoteKind.MARKER, 0, "account:m", "case_no")
    assert case_named_by([marker, stated("account:p", '{"party": "x"}')], "account:s") == "account:s"
    notes = [stated("account:a", '{"case_no": "x"}'), stated("account:b", '{"case_no": null}'), marker]
    assert case_named_by(notes, "account:s") == "account:b"


def test_a_session_ends_once_and_is_sealed_once() -> None:
    allowed = {(now, then) for now in State for then in State if not _refused(now, then)}
    assert allowed == {(State.OPEN, State.ENDED), (State.ENDED, State.SEALED)}


def _refused(now: State, then: State) -> bool:
    try:
        return move(now, then) is not then
    except Conflict as error:
        assert error.code == "session_state"
        return True


def test_a_forgotten_start_is_claimed_as_far_back_as_the_room_keeps_and_no_further() -> None:
    assert begin_at(None, NOW, 0) == NOW
    assert begin_at(NOW - timedelta(hours=1), NOW, 3600) == NOW - timedelta(hours=1)
    for asked, kept_s in (
        (NOW - timedelta(hours=1, microseconds=1), 3600),
        (NOW + timedelta(seconds=1), 3600),
    ):
        with pytest.raises(InvalidInput) as refused:
            begin_at(asked, NOW, kept_s)
        assert refused.value.code == "session_start"


def test_what_is_missing_is_listed_and_one_officer_is_not_two() -> None:
    assert Facts().missing() == ["case_no", "place", "officers", "party", "object_of_proof"]
    stated = Facts("示〔2026〕1号", "一号询问室", ("330101",), "李某", "是否知情")
    assert stated.missing() == ["second_officer"]
    # The same officer named twice is one.
    assert stated.changed({"officers": ["330101", " 330101 "]}).missing() == ["second_officer"]
    assert stated.changed({"officers": ["330101", "330102"]}).missing() == []
    assert stated.changed({"party": None}).missing() == ["party", "second_officer"]
    assert Facts.from_json(stated.to_json()) == stated


@pytest.mark.parametrize(
    "said", [{"party": "两\n行"}, {"place": ""}, {"party": "长" * 501}, {"officers": "330101"},
             {"officers": [str(n) for n in range(17)]}, {"weather": "x"}, {"case_no": 7}],
)  # fmt: skip
def test_what_is_no_line_or_no_fact_is_refused(said: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as refused:
        Facts().changed(said)
    assert refused.value.code == "session_fact"
    assert line("  甲  ", "party") == "甲"


def test_a_pause_ends_by_resuming_or_with_the_session_and_no_two_lie_in_each_other() -> None:
    def note(kind: NoteKind, at_us: int) -> Note:
        return Note(kind, at_us, "system", "休息", GapReason.OTHER)

    notes = [note(NoteKind.RESUME, 5), note(NoteKind.PAUSE, 10), note(NoteKind.PAUSE, 12),
             note(NoteKind.MARKER, 15), note(NoteKind.RESUME, 20), note(NoteKind.PAUSE, 30)]  # fmt: skip
    assert [(each.from_us, each.to_us) for each in pauses(notes)] == [(10, 20), (30, None)]
    assert [(each.from_us, each.to_us) for each in pauses(notes, 40)] == [(10, 20), (30, 40)]
    # A clock that was set back in between makes no pause of negative length.
    assert [(each.from_us, each.to_us) for each in pauses(notes, 25)][-1] == (30, 30)


def test_every_word_is_told_in_both_languages() -> None:
    assert set(STATE_WORDS) == set(State)
    assert set(NOTE_WORDS) == set(NoteKind)
    assert set(REASON_WORDS) == set(GapReason)
