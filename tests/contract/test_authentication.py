"""The gateway's contract: health, tokens and unknown routes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent.demo.gateway.embedded import EmbeddedGateway
from agent.demo.gateway.faults import Fault
from agent.demo.gateway.options import GatewaySettings
from agent.demo.gateway.tokens import TokenKind
from tests.contract.caller import CONFIG, HEALTH, KEEPALIVE, LIST, REGISTER, Caller


def test_health_needs_no_token(caller: Caller) -> None:
    answer = replace(caller, token=None).get(HEALTH)
    assert (answer.status, answer.json) == (200, {"status": "ok"})


def test_health_says_that_redis_is_down(gateway: EmbeddedGateway, caller: Caller) -> None:
    gateway.state.redis_error = "dial tcp 127.0.0.1:6379: connect: connection refused"
    answer = caller.get(HEALTH)
    assert answer.status == 500
    assert answer.json == {
        "error": "dial tcp 127.0.0.1:6379: connect: connection refused",
        "status": "not ok",
    }


def test_a_machine_route_answers_500_while_redis_is_down(gateway: EmbeddedGateway, caller: Caller) -> None:
    gateway.state.redis_error = "dial tcp"
    answer = caller.keepalive()
    assert (answer.status, answer.message) == (500, "Internal Server Error")


def test_a_machine_token_has_88_characters_of_url_safe_base64(gateway: EmbeddedGateway) -> None:
    token = gateway.create_machine().registration_token
    assert len(token) == 88
    assert set(token) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=")


@pytest.mark.parametrize("path", [REGISTER, KEEPALIVE])
def test_an_unknown_token_is_answered_401_not_403(caller: Caller, path: str) -> None:
    answer = replace(caller, token="unknown").post(path, {})
    assert (answer.status, answer.message) == (401, "Unauthorized")


def test_a_valid_token_gets_401_while_the_database_is_down_and_it_is_not_cached(
    gateway: EmbeddedGateway, caller: Caller
) -> None:
    gateway.state.tokens.database_down = True
    answer = caller.register()
    assert (answer.status, answer.message) == (401, "Unauthorized")


def test_a_cached_token_works_on_while_the_database_is_down(gateway: EmbeddedGateway, caller: Caller) -> None:
    caller.register()
    gateway.state.tokens.database_down = True
    assert caller.register().status == 200


def test_a_deactivated_token_works_on_until_the_cache_forgets_it(
    gateway: EmbeddedGateway, caller: Caller
) -> None:
    caller.register()
    assert caller.token is not None
    gateway.state.tokens.deactivate(caller.token)
    gateway.advance(599)
    assert caller.register().status == 200
    gateway.advance(2)
    answer = caller.register()
    assert (answer.status, answer.message) == (401, "Unauthorized")


def test_a_valid_token_that_is_no_machines_is_answered_403(gateway: EmbeddedGateway, caller: Caller) -> None:
    answer = replace(caller, token=gateway.new_token(TokenKind.WORKSPACE)).register()
    assert (answer.status, answer.message) == (403, "Invalid token")


def test_a_workers_token_is_taken_as_well(gateway: EmbeddedGateway, caller: Caller) -> None:
    assert replace(caller, token=gateway.new_token(TokenKind.WORKER)).register().status == 200


@pytest.mark.parametrize(
    ("method", "path"), [("POST", REGISTER), ("POST", KEEPALIVE), ("GET", LIST), ("GET", CONFIG)]
)
def test_no_authorization_header_is_answered_500(caller: Caller, method: str, path: str) -> None:
    answer = replace(caller, token=None).send(method, path, b"{}" if method == "POST" else b"")
    assert (answer.status, answer.message) == (500, "Internal Server Error")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", REGISTER),
        ("GET", KEEPALIVE),
        ("PUT", KEEPALIVE),
        ("POST", LIST),
        ("POST", HEALTH),
        ("GET", "/api/v1/machine/nothing"),
        ("GET", "/"),
    ],
)
def test_an_unknown_route_or_a_wrong_method_is_answered_404(caller: Caller, method: str, path: str) -> None:
    answer = caller.send(method, path)
    assert (answer.status, answer.message) == (404, "Not Found")


def test_an_unmodified_gateway_has_no_keepalive_route() -> None:
    with EmbeddedGateway(GatewaySettings(keepalive_route=False)) as gateway:
        caller = Caller(gateway.port, gateway.new_token())
        assert caller.register().status == 200
        answer = caller.keepalive()
        assert (answer.status, answer.message) == (404, "Not Found")


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/octet-stream"])
@pytest.mark.parametrize("path", [REGISTER, KEEPALIVE])
def test_a_body_that_is_not_declared_as_json_is_invalid(
    caller: Caller, path: str, content_type: str | None
) -> None:
    body = json.dumps(caller.registration()).encode()
    answer = caller.send("POST", path, body, content_type)
    assert (answer.status, answer.message) == (400, "Invalid payload")


def test_a_charset_in_the_content_type_is_fine(caller: Caller) -> None:
    body = json.dumps(caller.registration()).encode()
    assert caller.send("POST", REGISTER, body, "application/json; charset=utf-8").status == 200


def test_a_token_serves_many_machines_in_many_pools(caller: Caller) -> None:
    for machine_id in ("00000001", "00000002", "00000003"):
        machine = replace(caller, machine_id=machine_id)
        assert machine.register().status == 200
        assert machine.keepalive().status == 200


def test_a_token_outlives_its_pending_entry(gateway: EmbeddedGateway) -> None:
    created = gateway.create_machine()
    gateway.advance(3601)
    assert gateway.machines() == ()
    caller = Caller(gateway.port, created.registration_token, created.machine_id)
    assert caller.register().status == 200


def test_deleting_a_machine_leaves_its_token_and_registering_brings_it_back(
    gateway: EmbeddedGateway, caller: Caller
) -> None:
    caller.register()
    assert gateway.delete_machine(caller.machine_id) == 1
    assert gateway.machines() == ()
    assert caller.register().status == 200
    assert [machine.machine_id for machine in gateway.machines()] == [caller.machine_id]


def test_an_ingress_in_trouble_answers_with_any_body(gateway: EmbeddedGateway, caller: Caller) -> None:
    gateway.set_fault(Fault("status", count=1, params={"status": 502, "body": "<html>bad gateway"}))
    answer = caller.register()
    assert (answer.status, answer.raw) == (502, b"<html>bad gateway")
    assert caller.register().status == 200
