"""What goes over the wire, with exactly the types that the gateway takes, and what each of its answers means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.host.facts import HostFacts, NodeFacts
from agent.core.machine_api.model import Advertisement, CallKind, Capacity
from agent.core.machine_api.wire import (
    OutcomeKind,
    check_body,
    keepalive_body,
    read_reply,
    register_body,
    with_k3s_token,
)
from tests.unit.core_cases import ADDRESSES, HOST, SSH

ALL = Advertisement(ADDRESSES[0], Capacity(7500, 15360, 2), offered=True)
INTEGERS = frozenset(
    {
        "total_cpu_available",
        "total_memory_available",
        "total_disk_space_bytes",
        "total_disk_free_bytes",
        "worker_count",
        "container_count",
        "free_gpu_count",
        "cache_capacity",
        "cache_memory_usage",
    }
)
FLOATS = frozenset({"cpu_utilization_pct", "memory_utilization_pct", "cache_usage_pct", "cache_cpu_usage"})


def reply(status: int, body: Any, kind: CallKind = CallKind.KEEPALIVE, **more: Any) -> OutcomeKind:
    return read_reply(kind, status, json.dumps(body).encode(), **more).kind


# --- Bodies -----------------------------------------------------------------------------------------------


def test_a_registration_is_made_of_strings_only() -> None:
    assert with_k3s_token(register_body(SSH, ALL, "10.0.0.7"), "k3s-token") == {
        "token": "k3s-token",
        "machine_id": "1165a9b6",
        "hostname": "127.70.1.1",
        "provider_name": "generic",
        "pool_name": "gpu",
        "cpu": "7500m",
        "memory": "15360Mi",
        "gpu_count": "2",
        "private_ip": "10.0.0.7",
    }


def test_offering_nothing_means_no_cpu_and_no_memory_and_as_many_gpus_as_before() -> None:
    nothing = Advertisement(ADDRESSES[0], Capacity(7500, 15360, 2), offered=False)
    body = register_body(SSH, nothing, "")
    assert (body["cpu"], body["memory"], body["gpu_count"]) == ("0m", "0Mi", "2")


def test_a_keepalive_carries_every_metric() -> None:
    node = NodeFacts(worker_count=3, container_count=5)
    body = keepalive_body(SSH, Capacity(7500, 15360, 2, 1), HOST, node)
    assert body == {
        "machine_id": "1165a9b6",
        "provider_name": "generic",
        "pool_name": "gpu",
        "agent_version": "0.1.0",
        "metrics": {
            "total_cpu_available": 7500,
            "total_memory_available": 15360,
            "total_disk_space_bytes": 10**12,
            "total_disk_free_bytes": 5 * 10**11,
            "cpu_utilization_pct": 15.5,
            "memory_utilization_pct": 42.3,
            "worker_count": 3,
            "container_count": 5,
            "free_gpu_count": 1,
            "cache_usage_pct": 0.0,
            "cache_capacity": 0,
            "cache_memory_usage": 0,
            "cache_cpu_usage": 0.0,
        },
    }


@given(
    st.none() | st.builds(HostFacts, *[st.integers(0, 2**50)] * 4, *[st.floats(0, 100)] * 2, st.just("")),
    st.none() | st.builds(NodeFacts, worker_count=st.integers(0, 99), container_count=st.integers(0, 99)),
)
def test_metrics_are_always_there_and_integers_stay_integers_in_json(
    host: HostFacts | None, node: NodeFacts | None
) -> None:
    # `15.0` where the gateway wants an integer is a 400; null metrics make a machine ready that then expires.
    text = json.dumps(keepalive_body(SSH, Capacity(), host, node))
    metrics = json.loads(text)["metrics"]
    assert set(metrics) == INTEGERS | FLOATS
    assert all(type(metrics[name]) is int for name in INTEGERS)
    assert all(type(metrics[name]) is float for name in FLOATS)


def test_the_check_of_route_and_token_names_no_machine() -> None:
    body = check_body()
    assert (body["machine_id"], body["pool_name"]) == ("", "")
    assert body["metrics"] == {}


# --- Answers ----------------------------------------------------------------------------------------------

NOT_FOUND = (
    "Failed to update keepalive: failed to get machine state <provider:machine:generic:gpu:1165a9b6>: "
    "machine not found"
)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "Invalid payload", OutcomeKind.BAD_REQUEST),
        (400, "machine_id and pool_name are required", OutcomeKind.BAD_REQUEST),
        (401, "Unauthorized", OutcomeKind.UNAUTHORIZED),
        (403, "Invalid token", OutcomeKind.FORBIDDEN),
        (404, "Not Found", OutcomeKind.NO_ROUTE),
        (404, "no such backend", OutcomeKind.GATEWAY_ERROR),
        (429, "Too Many Requests", OutcomeKind.SLOW_DOWN),
        (500, "Internal Server Error", OutcomeKind.GATEWAY_ERROR),
        (500, NOT_FOUND, OutcomeKind.MACHINE_NOT_FOUND),
        (500, "Invalid pool name", OutcomeKind.BAD_POOL),
        (500, "Invalid machine cpu value", OutcomeKind.BAD_REQUEST),
        (500, "Invalid machine memory value", OutcomeKind.BAD_REQUEST),
        (500, "Invalid gpu count", OutcomeKind.BAD_REQUEST),
        (500, "Failed to register machine", OutcomeKind.GATEWAY_ERROR),
        (500, "machine not found", OutcomeKind.GATEWAY_ERROR),
        (502, "Bad Gateway", OutcomeKind.GATEWAY_ERROR),
        (503, "Service Unavailable", OutcomeKind.GATEWAY_ERROR),
        (504, "Gateway Timeout", OutcomeKind.GATEWAY_ERROR),
        (302, "Found", OutcomeKind.BAD_REPLY),
    ],
)
def test_every_text_of_the_contract_means_one_thing(status: int, message: str, kind: OutcomeKind) -> None:
    assert reply(status, {"message": message}) is kind


def test_the_gateway_escapes_angle_brackets_and_is_understood_all_the_same() -> None:
    body = json.dumps({"message": NOT_FOUND}).replace("<", "\\u003c").replace(">", "\\u003e").encode()
    assert b"\\u003cprovider" in body
    outcome = read_reply(CallKind.KEEPALIVE, 500, body)
    assert outcome.kind is OutcomeKind.MACHINE_NOT_FOUND
    assert "<provider:machine:generic:gpu:1165a9b6>" in outcome.text


def test_only_the_check_takes_the_complaint_about_empty_ids_for_good_news() -> None:
    body = {"message": "machine_id and pool_name are required"}
    assert reply(400, body, CallKind.CHECK) is OutcomeKind.OK
    assert reply(400, body, CallKind.REGISTER) is OutcomeKind.BAD_REQUEST


def test_a_registration_tells_whether_the_configuration_came_and_keeps_nothing_of_it() -> None:
    state = {"machine_id": "1165a9b6", "status": "registered", "pool_name": "gpu", "ttl_seconds": 300}
    body = json.dumps({"config": {"database": {"password": "very-secret"}}, "machine_state": state}).encode()
    outcome = read_reply(CallKind.REGISTER, 200, body)
    assert (outcome.kind, outcome.ttl_s, outcome.gateway_config) == (OutcomeKind.OK, 300.0, True)
    assert "very-secret" not in repr(outcome)
    without = json.dumps({"config": None, "machine_state": state}).encode()
    assert read_reply(CallKind.REGISTER, 200, without).gateway_config is False


def test_a_keepalive_renews_the_lease_for_as_long_as_the_gateway_says() -> None:
    body = json.dumps({"status": "ok", "machine_state": {"status": "ready", "ttl_seconds": 120}}).encode()
    assert read_reply(CallKind.KEEPALIVE, 200, body).ttl_s == 120.0


@pytest.mark.parametrize("ttl", [None, "300", True, 0, -1, 1e9, [], {}])
def test_a_lease_that_makes_no_sense_is_not_believed(ttl: object) -> None:
    body = json.dumps({"machine_state": {"ttl_seconds": ttl}}).encode()
    outcome = read_reply(CallKind.KEEPALIVE, 200, body)
    assert outcome.kind is OutcomeKind.OK
    assert outcome.ttl_s is None


@pytest.mark.parametrize(
    "body", [b"", b"<html>welcome</html>", b"[]", b"null", b'{"status":"ok"}', b"[" * 99999]
)
def test_a_200_that_is_no_answer_of_a_gateway_is_not_taken_for_one(body: bytes) -> None:
    assert read_reply(CallKind.KEEPALIVE, 200, body).kind is OutcomeKind.BAD_REPLY


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        (None, None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("-1", None),
        ("9" * 30, None),
        ("\u0667", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_read_where_it_is_a_number_of_seconds(
    status: int, header: str | None, seconds: float | None
) -> None:
    assert read_reply(CallKind.KEEPALIVE, status, b"", header).retry_after_s == seconds


def test_a_body_that_cannot_be_read_is_described_and_not_repeated() -> None:
    outcome = read_reply(CallKind.KEEPALIVE, 502, b"<html>token=abc</html>")
    assert "22 bytes" in outcome.text
    assert "abc" not in outcome.text


@given(st.sampled_from(CallKind), st.integers(100, 599), st.binary(max_size=300), st.none() | st.text())
def test_no_answer_whatsoever_is_an_exception(
    kind: CallKind, status: int, body: bytes, header: str | None
) -> None:
    assert read_reply(kind, status, body, header).kind in OutcomeKind


@given(
    st.sampled_from(CallKind),
    st.sampled_from([200, 400, 404, 500]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["message", "machine_state", "config"]), inner)
        ),
        max_leaves=8,
    ),
)
def test_no_json_whatsoever_is_an_exception(kind: CallKind, status: int, body: object) -> None:
    assert read_reply(kind, status, json.dumps(body).encode()).kind in OutcomeKind
