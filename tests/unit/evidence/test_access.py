"""Deny unless allowed."""

from __future__ import annotations

import itertools

import pytest

from evidence.access import Act, Actor, Subject, check_roles, may, may_with_session, require
from evidence.errors import InvalidInput, NotPermitted
from evidence.ids import new_id
from evidence.kinds import SEPARATED_ROLES, Role


def actor(*roles: Role, officer: bool = False) -> Actor:
    return Actor(new_id(), new_id(), "demo", "u", frozenset(roles), new_id() if officer else None)


def test_nobody_without_a_role_may_do_anything() -> None:
    nobody = actor()
    assert not any(may(nobody, act, Subject()) for act in Act)


def test_the_three_separated_roles_see_no_footage() -> None:
    for role, act in itertools.product(SEPARATED_ROLES, (Act.SEE_REDACTED, Act.SEE_ORIGINAL, Act.LIST_ITEMS)):
        assert not may(actor(role), act, Subject())


def test_no_two_of_the_three_are_held_together_nor_with_another() -> None:
    for one, other in itertools.permutations(Role, 2):
        roles = frozenset({one, other})
        if roles & SEPARATED_ROLES:
            with pytest.raises(InvalidInput):
                check_roles(roles)
        else:
            assert check_roles(roles) == roles
    with pytest.raises(InvalidInput):
        check_roles(frozenset())


def test_a_handler_sees_originals_of_their_own_cases_only() -> None:
    handler = actor(Role.HANDLER)
    assert may(handler, Act.SEE_ORIGINAL, Subject(handler_ids=frozenset({handler.account_id})))
    assert not may(handler, Act.SEE_ORIGINAL, Subject(handler_ids=frozenset({new_id()})))
    assert not may(handler, Act.SEE_ORIGINAL)


def test_an_officer_sees_originals_they_recorded_only() -> None:
    officer = actor(Role.OFFICER, officer=True)
    assert officer.officer_id is not None
    assert may(officer, Act.SEE_ORIGINAL, Subject(collector_officer_ids=frozenset({officer.officer_id})))
    assert not may(officer, Act.SEE_ORIGINAL, Subject(collector_officer_ids=frozenset({new_id()})))
    assert not may(actor(Role.OFFICER), Act.SEE_ORIGINAL, Subject())


def test_a_reviewer_never_sees_an_original() -> None:
    reviewer = actor(Role.REVIEWER)
    mine = Subject(frozenset({reviewer.account_id}), frozenset({reviewer.account_id}))
    assert may(reviewer, Act.SEE_REDACTED)
    assert not may(reviewer, Act.SEE_ORIGINAL, mine)


def test_a_refusal_names_the_act_and_no_person() -> None:
    someone = actor(Role.AUDITOR)
    with pytest.raises(NotPermitted) as refused:
        require(someone, Act.SEE_ORIGINAL)
    assert "see_original" in refused.value.message
    assert someone.username not in refused.value.message.split()


def test_a_session_that_a_recorder_began_is_run_by_whoever_may_run_any_until_it_is_somebody_s() -> None:
    runs = {Role.OFFICER, Role.HANDLER}
    for role in Role:
        someone = actor(role)
        found = may_with_session(someone, Act.RUN_SESSIONS, Subject(), "trigger:1", is_nobodys=True)
        assert found == (role in runs)
        assert not may_with_session(someone, Act.RUN_SESSIONS, Subject(), "trigger:1")
