"""The embedded gateway answers every request as openapi.yaml documents.

schemathesis generates the requests from the document: valid and invalid ones, wrong methods and headers. Its checks of
conventions (no 500, 405 for a wrong method, 401 without a token) are left out, since the real gateway does not follow
them; the other modules of this folder assert its actual behaviour.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from agent.demo.gateway.embedded import EmbeddedGateway
from agent.demo.gateway.routes import ROUTES
from tests import ROOT
from tests.contract.caller import METRICS, Caller

DOCUMENT = ROOT / "agent" / "demo" / "gateway" / "openapi.yaml"
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
GOOD = {"cpu": "8000m", "memory": "16384Mi", "gpu_count": "1", "pool_name": "gpu"}

schema = schemathesis.openapi.from_path(DOCUMENT)
bounded = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedGateway]:
    with EmbeddedGateway() as gateway:
        yield gateway


def check(case: schemathesis.Case[Any], gateway: EmbeddedGateway, token: str | None) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    case.headers.pop("Authorization", None)
    case.call_and_validate(base_url=f"{gateway.url}/api/v1", headers=headers, checks=CHECKS)


@schema.parametrize()
@bounded
def test_whatever_is_asked_is_answered_as_documented(
    case: schemathesis.Case[Any], running: EmbeddedGateway
) -> None:
    check(case, running, running.new_token())


@schema.include(path_regex="/machine/").parametrize()
@settings(bounded, max_examples=10)
def test_so_it_is_with_an_unknown_token_and_without_one(
    case: schemathesis.Case[Any], running: EmbeddedGateway
) -> None:
    check(case, running, "unknown")
    check(case, running, None)


@schema.include(path_regex="/machine/(register|keepalive)").parametrize()
@bounded
def test_so_it_is_for_a_machine_that_is_there_and_a_capacity_that_can_be_read(
    case: schemathesis.Case[Any], running: EmbeddedGateway
) -> None:
    if isinstance(case.body, dict):
        machine_id = case.body.get("machine_id")
        if isinstance(machine_id, str) and machine_id:
            Caller(running.port, running.new_token(), machine_id).register(provider_name="generic")
        case.body |= GOOD | {"provider_name": "generic"}
    check(case, running, running.new_token())


def test_the_document_names_every_route_and_no_other() -> None:
    document = yaml.safe_load(DOCUMENT.read_text())
    documented = {
        (method.upper(), f"/api/v1{path}", operation["operationId"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert documented == {(method, path, name) for name, (method, path) in ROUTES.items()}


def test_the_document_names_every_metric() -> None:
    document = yaml.safe_load(DOCUMENT.read_text())
    assert document["components"]["schemas"]["Metrics"]["properties"].keys() == METRICS.keys()
