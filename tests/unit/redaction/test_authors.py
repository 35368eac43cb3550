"""Who wrote what would be shown, through undoing and undoing that."""

from __future__ import annotations

from redaction.amend import amend, restore
from redaction.authors import Version, writers
from redaction.plan import Key, RedactionPlan
from tests.unit.redaction.plans import face, plan_of

BARE = {"op": "delete_box", "track": "a"}
MORE = {"op": "add_box", "shape": "rectangle", "reason": "privacy", "keys": [[0, 1, 1, 9, 9, 0]]}
LESS = {"op": "delete_box", "track": "b"}
FIRST = plan_of(face("a", Key(0, 10, 10, 30, 30)), face("b", Key(0, 50, 50, 70, 70)))


def versions(*plans: RedactionPlan) -> list[Version]:
    return [Version(plan.number, plan.parent, plan.author, plan.to_json()) for plan in plans]


def test_whoever_wrote_since_the_version_in_force_and_nobody_before() -> None:
    second = amend(FIRST, [MORE], "early")
    third = amend(second, [BARE], "alice")
    fourth = amend(third, [{"op": "set_reason", "track": "b", "reason": "minor"}], "helper")
    assert writers(versions(FIRST, second, third, fourth), 2) == {"alice", "helper"}
    assert writers(versions(FIRST, second), 2) == {"early"}
    assert writers(versions(FIRST), None) == {"model"}


def test_undoing_does_not_make_another_the_author_of_what_was_written() -> None:
    second = amend(FIRST, [MORE], "early")
    third = amend(second, [BARE], "alice")
    fourth = restore(third, second, "carol")
    fifth = restore(fourth, third, "bob")
    assert writers(versions(FIRST, second, third, fourth, fifth), 4) == {"alice", "bob"}
    # Nor does building on what was undone.
    sixth = amend(fifth, [LESS], "dave")
    seventh = restore(sixth, second, "carol")
    eighth = restore(seventh, sixth, "bob")
    line = versions(FIRST, second, third, fourth, fifth, sixth, seventh, eighth)
    assert writers(line, 7) == {"alice", "bob", "dave"}
