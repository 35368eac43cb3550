"""Errors become problem details that say what to do and nothing of the inside."""

from __future__ import annotations

import pytest

from api.problems import http_problem, malformed, problem_of
from evidence.errors import (
    Conflict,
    CustodyError,
    EvidenceError,
    FixityError,
    InvalidInput,
    MediaError,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    Unavailable,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("item: expected one, found none"), 404),
        (NotFound("grant: found ended", code="grant_ended"), 410),
        (NotFound("derivative: found withdrawn", code="derivative_withdrawn"), 410),
        (Conflict("case: found closed"), 409),
        (InvalidInput("span: found none"), 422),
        (NotPermitted("act: found another role"), 403),
        (NotAuthenticated("session: found none"), 401),
        (Unavailable("database: found locked"), 503),
        (MediaError("footage: found noise"), 422),
        (FixityError("object: found other bytes"), 500),
        (CustodyError("log: found a gap"), 500),
        (EvidenceError("something"), 500),
    ],
)
def test_the_kind_decides_the_status(error: EvidenceError, status: int) -> None:
    problem = problem_of(error)
    assert problem.status == problem.body()["status"] == status
    assert problem.body()["type"] == f"urn:liuhen:error:{error.code}"
    assert " / " in problem.title


@pytest.mark.parametrize("kind", [Unavailable, FixityError, CustodyError, EvidenceError])
def test_a_server_fault_names_nothing_of_the_inside(kind: type[EvidenceError]) -> None:
    body = problem_of(kind("keys: expected one in /srv/data/keys on db1.internal", path="/srv/data")).body()
    assert "/srv" not in str(body)
    assert "db1" not in str(body)


def test_who_is_not_signed_in_is_told_how() -> None:
    assert problem_of(NotAuthenticated("session: none")).headers["WWW-Authenticate"].startswith("Bearer")


def test_who_should_try_again_is_told_when() -> None:
    assert int(problem_of(Unavailable("busy")).headers["Retry-After"]) > 0


def test_facts_of_a_conflict_are_told() -> None:
    body = problem_of(Conflict("two items", code="item_ambiguous", candidates=["a", "b"])).body()
    assert body["candidates"] == ["a", "b"]


def test_facts_never_replace_what_the_standard_names() -> None:
    assert problem_of(Conflict("x", status=200, type="about:blank")).body()["status"] == 409


def test_every_finding_of_a_bad_request_is_told() -> None:
    findings = [
        {"type": "missing", "loc": ("body", "purpose"), "msg": "Field required"},
        {"type": "extra_forbidden", "loc": ("body", "x"), "msg": "Extra inputs are not permitted"},
    ]
    problem = malformed(findings)
    assert problem.status == 422
    assert [found["where"] for found in problem.body()["findings"]] == ["body.purpose", "body.x"]


def test_unreadable_json_is_malformed() -> None:
    assert malformed([{"type": "json_invalid", "loc": ("body", 3), "msg": "bad"}]).status == 400


def test_a_status_alone_has_a_stable_code() -> None:
    assert http_problem(405).body()["code"] == "method_not_allowed"
