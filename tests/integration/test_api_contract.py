"""The OpenAPI document is a contract: whatever fits it, or nearly fits it, gets an answer it promises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.auth.gate import DECLARED
from evidence.access import Act, Actor, may
from evidence.ids import new_id
from evidence.kinds import Role
from tests.support.scene import Live, live_scene

EXAMPLES = 4
# An endless answer, and the end of the session that asks.
APART = {("GET", "/api/v1/events"), ("DELETE", "/api/v1/sessions/current")}
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("contract")) as live:
        live.scene.record(case=live.scene.case_a)
        yield live


def who_may(declared: str) -> str:
    """Somebody whose role carries the act, so that the request comes as far as it can."""
    for role in (Role.LEGAL_REVIEWER, Role.HANDLER, *Role):
        actor = Actor(new_id(), new_id(), "demo", "x", frozenset({role}))
        if declared in set(Act) and may(actor, Act(declared)):
            return str(role)
    return "reviewer"


def test_every_operation_keeps_its_contract(live: Live) -> None:
    document = live.anyone.get("/api/v1/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if (operation.method.upper(), operation.path) in APART:
            continue
        declared = document["paths"][operation.path][operation.method][DECLARED]
        token = live.as_(who_may(declared)).headers["authorization"]
        for mode in GenerationMode:
            tried += keeps(live, operation, mode, {"Authorization": token})
    assert tried > 45 * EXAMPLES // 2


def keeps(
    live: Live, operation: schemathesis.APIOperation, mode: GenerationMode, headers: dict[str, str]
) -> int:
    """Ask one operation in several ways; how often it was asked."""
    tried = 0

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        nonlocal tried
        response = case.call(base_url=live.api_url, headers=headers)
        case.validate_response(response, checks=CHECKS)
        tried += 1

    ask()
    return tried
