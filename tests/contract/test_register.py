"""The gateway's contract for POST /machine/register."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest

from agent.demo.gateway.embedded import EmbeddedGateway
from agent.demo.gateway.machines import Machine
from tests.contract.caller import REGISTER, Caller
from tests.contract.waiting import wait_until


def registered(gateway: EmbeddedGateway, caller: Caller) -> Machine:
    machine = gateway.machine(caller.machine_id)
    assert machine is not None
    return machine


def test_a_registration_is_answered_with_the_machines_state(caller: Caller) -> None:
    answer = caller.register()
    assert answer.status == 200
    assert list(answer.json) == ["config", "machine_state"]
    assert answer.json["machine_state"] == {
        "machine_id": "1165a9b6",
        "status": "registered",
        "pool_name": "gpu",
        "ttl_seconds": 300,
    }


def test_a_registration_keeps_what_was_said(gateway: EmbeddedGateway, caller: Caller) -> None:
    caller.register()
    machine = registered(gateway, caller)
    assert (machine.token, machine.hostname, machine.private_ip) == ("k3s-token", "127.71.0.7", "10.0.0.5")
    assert (machine.cpu_millicores, machine.memory_mib, machine.gpu_count) == (8000, 16384, 1)
    assert machine.provider == "generic"


@pytest.mark.parametrize("field", ["cpu", "memory", "gpu_count", "machine_id", "token", "hostname"])
@pytest.mark.parametrize("value", [8, 8.5, True, ["8"], {"a": 1}])
def test_a_value_that_is_no_string_is_an_invalid_payload(caller: Caller, field: str, value: Any) -> None:
    answer = caller.register(**{field: value})
    assert (answer.status, answer.message) == (400, "Invalid payload")


@pytest.mark.parametrize("body", [b"{", b"[]", b'"text"', b"1", b"{'a': 1}", b'{"cpu": NaN}', b"\xff\xfe"])
def test_a_body_that_is_no_json_object_is_an_invalid_payload(caller: Caller, body: bytes) -> None:
    answer = caller.send("POST", REGISTER, body)
    assert (answer.status, answer.message) == (400, "Invalid payload")


@pytest.mark.parametrize("left_out", [..., None])
@pytest.mark.parametrize("field", ["token", "hostname", "machine_id", "private_ip", "provider_name"])
def test_a_field_that_is_missing_or_null_is_empty_and_nothing_else_is_checked(
    gateway: EmbeddedGateway, caller: Caller, field: str, left_out: Any
) -> None:
    assert caller.register(**{field: left_out}).status == 200
    assert vars(gateway.machines()[0])["provider" if field == "provider_name" else field] == ""


@pytest.mark.parametrize("machine_id", ["", "not hexadecimal at all", "1165A9B6", "ü"])
def test_any_machine_id_is_accepted(caller: Caller, machine_id: str) -> None:
    answer = caller.register(machine_id=machine_id)
    assert (answer.status, answer.json["machine_state"]["machine_id"]) == (200, machine_id)


def test_field_names_match_without_regard_to_case_and_others_are_ignored(
    gateway: EmbeddedGateway, caller: Caller
) -> None:
    body = {name.upper(): value for name, value in caller.registration().items()} | {"more": [1, 2]}
    assert caller.post(REGISTER, body).status == 200
    assert registered(gateway, caller).memory_mib == 16384


@pytest.mark.parametrize(
    ("text", "millicores"), [("8000m", 8000), ("8000", 8000), ("8", 8), ("8m", 8), ("0m", 0), ("0", 0)]
)
def test_cpu_is_millicores_with_or_without_an_m(
    gateway: EmbeddedGateway, caller: Caller, text: str, millicores: int
) -> None:
    assert caller.register(cpu=text).status == 200
    assert registered(gateway, caller).cpu_millicores == millicores


@pytest.mark.parametrize(
    "text",
    ["", "8.0", "-1", "-1m", "8000mm", " 8000m", "8000m ", "8000 m", "8_000", "٨", "m", "9" * 20],
)
def test_another_cpu_is_refused(caller: Caller, text: str) -> None:
    answer = caller.register(cpu=text)
    assert (answer.status, answer.message) == (500, "Invalid machine cpu value")


@pytest.mark.parametrize(
    ("text", "mib"),
    [("16384Mi", 16384), ("16384", 16384), ("16Gi", 16384), ("1048576Ki", 1024), ("1023Ki", 0), ("0Mi", 0)],
)
def test_memory_is_kept_in_mib_and_a_bare_number_is_mib(
    gateway: EmbeddedGateway, caller: Caller, text: str, mib: int
) -> None:
    assert caller.register(memory=text).status == 200
    assert registered(gateway, caller).memory_mib == mib


@pytest.mark.parametrize(
    "text", ["16GB", "16G", "16M", "16gi", "1.5Gi", "1Ti", "16 Gi", "", "-1Mi", "+1Mi", "Mi"]
)
def test_another_memory_is_refused(caller: Caller, text: str) -> None:
    answer = caller.register(memory=text)
    assert (answer.status, answer.message) == (500, "Invalid machine memory value")


@pytest.mark.parametrize("text", ["", "-1", "1.0", "one", " 1", "4294967296"])
def test_a_gpu_count_that_is_no_unsigned_integer_is_refused(caller: Caller, text: str) -> None:
    answer = caller.register(gpu_count=text)
    assert (answer.status, answer.message) == (500, "Invalid gpu count")


@pytest.mark.parametrize("field", ["cpu", "memory", "gpu_count"])
@pytest.mark.parametrize("left_out", [..., None])
def test_a_capacity_that_is_missing_or_null_is_refused_as_empty(
    caller: Caller, field: str, left_out: Any
) -> None:
    assert caller.register(**{field: left_out}).status == 500


@pytest.mark.parametrize("pool_name", ["", "GPU", "other", None, ...])
def test_a_pool_that_is_not_configured_is_refused_case_counts(caller: Caller, pool_name: Any) -> None:
    answer = caller.register(pool_name=pool_name)
    assert (answer.status, answer.message) == (500, "Invalid pool name")


@pytest.mark.parametrize("provider", [..., "", "other"])
def test_any_provider_is_accepted_and_the_machine_then_lives_where_no_pool_looks(
    gateway: EmbeddedGateway, caller: Caller, provider: Any
) -> None:
    assert caller.register(provider_name=provider).status == 200
    segment = "" if provider is ... else provider
    assert gateway.machines()[0].key == f"provider:machine:{segment}:gpu:1165a9b6"
    assert gateway.would_place("1165a9b6")[0] is False


def test_a_keepalive_without_provider_does_not_find_a_registration_without_provider(caller: Caller) -> None:
    caller.register(provider_name=...)
    answer = caller.keepalive(provider_name=...)
    assert answer.status == 500
    assert "provider:machine:generic:gpu:1165a9b6" in answer.message


def test_the_reply_holds_the_whole_configuration_with_its_secrets(
    gateway: EmbeddedGateway, caller: Caller
) -> None:
    answer = caller.register()
    assert gateway.state.config is not None
    secrets = gateway.state.config.secrets()
    assert len(secrets) >= 5
    text = json.dumps(answer.json["config"])
    assert all(secret in text for secret in secrets)
    assert 12_500 < len(answer.raw) < 14_500


def test_the_hostname_is_used_as_it_is_with_direct_redis_host(
    gateway: EmbeddedGateway, caller: Caller
) -> None:
    caller.register(hostname="127.71.0.7")
    assert registered(gateway, caller).hostname == "127.71.0.7"


def test_without_direct_redis_host_config_is_null_and_the_hostname_gets_the_tailnets_suffix(
    tailnet_gateway: EmbeddedGateway,
) -> None:
    caller = Caller(tailnet_gateway.port, tailnet_gateway.new_token())
    answer = caller.register(hostname="worker-1")
    assert answer.json["config"] is None
    assert registered(tailnet_gateway, caller).hostname == "worker-1.beta9.tail.example"


def test_without_direct_redis_host_a_registration_takes_long_also_when_it_is_refused(
    tailnet_gateway: EmbeddedGateway,
) -> None:
    caller = Caller(tailnet_gateway.port, tailnet_gateway.new_token())
    for pool_name, status in (("gpu", 200), ("other", 500)):
        began_s = time.monotonic()
        assert caller.register(pool_name=pool_name).status == status
        assert time.monotonic() - began_s >= 0.3  # the fixture's pause


def test_a_client_that_gives_up_early_has_registered(tailnet_gateway: EmbeddedGateway) -> None:
    caller = Caller(tailnet_gateway.port, tailnet_gateway.new_token())
    body = json.dumps(caller.registration())
    head = (
        f"POST {REGISTER} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {caller.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", tailnet_gateway.port)) as connection:
        connection.sendall((head + body).encode())
    wait_until(lambda: tailnet_gateway.machine(caller.machine_id) is not None)
    assert registered(tailnet_gateway, caller).status == "registered"


def test_registering_again_replaces_everything_and_takes_ready_away(
    gateway: EmbeddedGateway, caller: Caller
) -> None:
    caller.register()
    caller.keepalive()
    assert registered(gateway, caller).status == "ready"
    gateway.advance(200)
    caller.register(token="renewed", hostname="127.71.0.8", cpu="0m", memory="0Mi", gpu_count="2")
    machine = registered(gateway, caller)
    assert (machine.status, machine.token, machine.hostname) == ("registered", "renewed", "127.71.0.8")
    assert (machine.cpu_millicores, machine.memory_mib, machine.gpu_count) == (0, 0, 2)
    assert machine.expires_at_s - gateway.now_s() > 299


def test_values_are_checked_in_the_gateways_order(caller: Caller) -> None:
    wrong = {"cpu": "", "memory": "", "gpu_count": "", "pool_name": "other"}
    messages = []
    for field, valid in (("cpu", "1"), ("memory", "1"), ("gpu_count", "1"), ("pool_name", "gpu")):
        messages.append(caller.register(**wrong).message)
        wrong[field] = valid
    assert messages == [
        "Invalid machine cpu value",
        "Invalid machine memory value",
        "Invalid gpu count",
        "Invalid pool name",
    ]
