"""The gateway's contract for POST /machine/keepalive."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.demo.gateway.embedded import EmbeddedGateway
from tests.contract.caller import KEEPALIVE, METRICS, Caller

NOT_FOUND = "Failed to update keepalive: failed to get machine state <{}>: machine not found"


def key(machine_id: str = "1165a9b6", provider: str = "generic", pool: str = "gpu") -> str:
    return f"provider:machine:{provider}:{pool}:{machine_id}"


@pytest.fixture
def registered(caller: Caller) -> Caller:
    assert caller.register().status == 200
    return caller


def test_a_keepalive_makes_a_registered_machine_ready(gateway: EmbeddedGateway, registered: Caller) -> None:
    answer = registered.keepalive()
    assert answer.status == 200
    state = answer.json["machine_state"]
    assert answer.json["status"] == "ok"
    assert state.pop("last_keepalive").isdigit()
    assert state == {
        "machine_id": "1165a9b6",
        "status": "ready",
        "pool_name": "gpu",
        "ttl_seconds": 300,
        "agent_version": "0.1.0",
    }


@pytest.mark.parametrize("version", ["", None, ...])
def test_an_empty_agent_version_is_left_out_of_the_answer(registered: Caller, version: Any) -> None:
    assert "agent_version" not in registered.keepalive(agent_version=version).json["machine_state"]


@pytest.mark.parametrize("metrics", [None, ...])
def test_without_metrics_the_machine_is_marked_ready_the_lease_not_refreshed_and_the_answer_500(
    gateway: EmbeddedGateway, registered: Caller, metrics: Any
) -> None:
    gateway.advance(200)
    answer = registered.keepalive(metrics=metrics)
    assert (answer.status, answer.message) == (500, "Internal Server Error")
    machine = gateway.machines()[0]
    assert machine.status == "ready"
    assert machine.expires_at_s - gateway.now_s() <= 100


def test_empty_metrics_are_accepted_and_all_zero(gateway: EmbeddedGateway, registered: Caller) -> None:
    assert registered.keepalive(metrics={}).status == 200
    metrics = gateway.machines()[0].metrics
    assert metrics is not None
    assert metrics.keys() == METRICS.keys()
    assert not any(metrics.values())


@pytest.mark.parametrize("number", ["15.0", '"1"', "1e3", "1.5", "true", "9223372036854775808"])
@pytest.mark.parametrize("field", ["total_cpu_available", "free_gpu_count", "cache_capacity"])
def test_an_integer_metric_that_is_no_json_integer_is_refused_and_changes_nothing(
    gateway: EmbeddedGateway, registered: Caller, field: str, number: str
) -> None:
    body = {"machine_id": "1165a9b6", "pool_name": "gpu", "metrics": {field: "NUMBER"}}
    raw = json.dumps(body).replace('"NUMBER"', number).encode()
    answer = registered.send("POST", KEEPALIVE, raw)
    assert (answer.status, answer.message) == (400, "Invalid payload")
    assert gateway.machines()[0].status == "registered"


@pytest.mark.parametrize("number", ["15", "15.5", "1e1", "null"])
def test_a_percentage_may_be_any_number(registered: Caller, number: str) -> None:
    body = {"machine_id": "1165a9b6", "pool_name": "gpu", "metrics": {"cpu_utilization_pct": "NUMBER"}}
    raw = json.dumps(body).replace('"NUMBER"', number).encode()
    assert registered.send("POST", KEEPALIVE, raw).status == 200


def test_the_metrics_are_kept(gateway: EmbeddedGateway, registered: Caller) -> None:
    registered.keepalive()
    assert gateway.machines()[0].metrics == METRICS


def test_a_keepalive_for_a_pending_machine_makes_it_ready_without_cpu(
    gateway: EmbeddedGateway, caller: Caller
) -> None:
    gateway.create_machine("gpu", caller.machine_id)
    assert caller.keepalive().json["machine_state"]["status"] == "ready"
    assert gateway.machines()[0].cpu_millicores == 0
    assert gateway.would_place(caller.machine_id) == (False, "no cpu or memory is offered")


@pytest.mark.parametrize("field", ["machine_id", "pool_name"])
@pytest.mark.parametrize("value", ["", None, ...])
def test_an_empty_machine_id_or_pool_name_is_refused(registered: Caller, field: str, value: Any) -> None:
    answer = registered.keepalive(**{field: value})
    assert (answer.status, answer.message) == (400, "machine_id and pool_name are required")


def test_route_and_token_can_be_checked_without_a_machine(caller: Caller) -> None:
    answer = caller.post(KEEPALIVE, {"machine_id": "", "pool_name": "", "metrics": {}})
    assert (answer.status, answer.message) == (400, "machine_id and pool_name are required")


def test_a_machine_that_was_never_there_is_not_found(caller: Caller) -> None:
    answer = caller.keepalive(machine_id="deadbeef")
    assert (answer.status, answer.message) == (500, NOT_FOUND.format(key("deadbeef")))


def test_an_expired_machine_is_not_found(gateway: EmbeddedGateway, registered: Caller) -> None:
    gateway.advance(301)
    answer = registered.keepalive()
    assert (answer.status, answer.message) == (500, NOT_FOUND.format(key()))


def test_a_machine_in_an_unknown_pool_is_not_found(registered: Caller) -> None:
    answer = registered.keepalive(pool_name="other")
    assert (answer.status, answer.message) == (500, NOT_FOUND.format(key(pool="other")))


def test_after_a_restart_of_redis_every_machine_is_not_found(
    gateway: EmbeddedGateway, registered: Caller
) -> None:
    gateway.wipe()
    answer = registered.keepalive()
    assert (answer.status, answer.message) == (500, NOT_FOUND.format(key()))


def test_angle_brackets_are_escaped_on_the_wire_and_there_is_no_error_code(caller: Caller) -> None:
    answer = caller.keepalive(machine_id="a&b")
    assert rb"failed to get machine state \u003cprovider:machine:generic:gpu:a\u0026b\u003e:" in answer.raw
    assert b"error_code" not in answer.raw


def test_the_provider_is_generic_unless_it_is_given(gateway: EmbeddedGateway, registered: Caller) -> None:
    assert registered.keepalive(provider_name=...).status == 200
    assert registered.keepalive(provider_name="").status == 200
    answer = registered.keepalive(provider_name="other")
    assert answer.message == NOT_FOUND.format(key(provider="other"))


def test_every_keepalive_refreshes_the_lease(gateway: EmbeddedGateway, registered: Caller) -> None:
    for _ in range(3):
        gateway.advance(299)
        assert registered.keepalive().status == 200
    gateway.advance(301)
    assert gateway.machines() == ()
