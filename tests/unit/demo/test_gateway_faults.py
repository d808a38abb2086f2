"""Each fault of the embedded gateway, as a caller observes it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from agent.demo.gateway.embedded import EmbeddedGateway
from agent.demo.gateway.faults import KINDS, Fault, FaultBook
from tests.contract.caller import HEALTH, Caller


@pytest.fixture
def gateway() -> Iterator[EmbeddedGateway]:
    with EmbeddedGateway() as running:
        yield running


@pytest.fixture
def caller(gateway: EmbeddedGateway) -> Caller:
    return Caller(gateway.port, gateway.new_token())


def arm(gateway: EmbeddedGateway, kind: str, route: str = "*", count: int | None = 1, **params: Any) -> int:
    return gateway.set_fault(Fault(kind, route, count, params=params))


def test_a_fault_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="known: status, database_down"):
        Fault("explode")


def test_a_fault_hits_as_often_as_told() -> None:
    book = FaultBook()
    book.set(Fault("status", count=2), 0)
    assert [book.take("register", 1) is None for _ in range(3)] == [False, False, True]


def test_a_fault_hits_for_as_long_as_told() -> None:
    book = FaultBook()
    book.set(Fault("status", seconds=60), 0)
    assert book.take("register", 59) is not None
    assert book.take("register", 60) is None


def test_a_fault_hits_until_it_is_cleared_and_only_its_route() -> None:
    book = FaultBook()
    number = book.set(Fault("status", "keepalive"), 0)
    assert book.take("register", 0) is None
    assert book.take("keepalive", 1e9) is not None
    book.clear(number)
    assert book.take("keepalive", 0) is None


def test_the_newest_fault_wins() -> None:
    book = FaultBook()
    book.set(Fault("hang"), 0)
    book.set(Fault("close", count=1), 0)
    taken = [book.take("list", 0) for _ in range(2)]
    assert [hit.fault.kind for hit in taken if hit] == ["close", "hang"]


def test_a_status_comes_with_the_body_and_headers_that_were_asked_for(
    gateway: EmbeddedGateway, caller: Caller
) -> None:
    arm(gateway, "status", status=429, headers={"Retry-After": "7"})
    answer = caller.register()
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    arm(gateway, "status", status=200, body="<html>", headers={"Content-Type": "text/html"})
    answer = caller.register()
    assert (answer.status, answer.raw, answer.headers["content-type"]) == (200, b"<html>", "text/html")
    assert gateway.machines() == ()


def test_a_database_that_is_down_answers_401_to_machines_and_leaves_health(
    gateway: EmbeddedGateway, caller: Caller
) -> None:
    arm(gateway, "database_down", count=None)
    assert caller.register().message == "Unauthorized"
    assert caller.get(HEALTH).status == 200


def test_a_redirect_names_its_location(gateway: EmbeddedGateway, caller: Caller) -> None:
    arm(gateway, "redirect", location="http://127.0.0.1:9/elsewhere")
    answer = caller.register()
    assert (answer.status, answer.headers["location"]) == (307, "http://127.0.0.1:9/elsewhere")


def test_a_big_body_is_as_big_as_told(gateway: EmbeddedGateway, caller: Caller) -> None:
    arm(gateway, "big")
    assert len(caller.register().raw) == 10_000_000


def test_a_request_that_hangs_gets_no_answer_until_it_is_let_go(
    gateway: EmbeddedGateway, caller: Caller
) -> None:
    number = arm(gateway, "hang", count=1)
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.settimeout(0.2)
        connection.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises(TimeoutError):
            connection.recv(1)
        assert caller.get(HEALTH).status == 200  # the next request is answered
        gateway.faults.clear(number)
        connection.settimeout(30)
        assert connection.recv(1) == b""


def test_stopping_the_gateway_lets_hanging_requests_go(gateway: EmbeddedGateway) -> None:
    arm(gateway, "hang")
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while not gateway.requests():
            time.sleep(0.01)
        gateway.stop()
        connection.settimeout(30)
        assert connection.recv(1) == b""


def test_a_hang_for_some_seconds_ends_with_them(gateway: EmbeddedGateway, caller: Caller) -> None:
    gateway.set_fault(Fault("hang", seconds=0.2))
    with pytest.raises(http.client.RemoteDisconnected):
        caller.get(HEALTH)


@pytest.mark.parametrize(("reset", "error"), [(False, http.client.RemoteDisconnected), (True, OSError)])
def test_a_closed_connection_gives_no_answer_and_nothing_is_done(
    gateway: EmbeddedGateway, caller: Caller, reset: bool, error: type[Exception]
) -> None:
    arm(gateway, "close", reset=reset)
    with pytest.raises(error) as caught:
        caller.register()
    assert isinstance(caught.value, ConnectionResetError)
    assert isinstance(caught.value, http.client.RemoteDisconnected) is not reset
    assert gateway.machines() == ()


def test_a_dropped_reply_belongs_to_a_registration_that_was_made(
    gateway: EmbeddedGateway, caller: Caller
) -> None:
    arm(gateway, "drop_reply")
    with pytest.raises(http.client.RemoteDisconnected):
        caller.register()
    assert [machine.status for machine in gateway.machines()] == ["registered"]


def test_a_truncated_reply_breaks_off_in_the_middle(gateway: EmbeddedGateway, caller: Caller) -> None:
    arm(gateway, "truncate")
    with pytest.raises(http.client.IncompleteRead):
        caller.register()
    assert len(gateway.machines()) == 1


def test_a_delayed_reply_is_the_true_one(gateway: EmbeddedGateway, caller: Caller) -> None:
    arm(gateway, "delay", delay_s=0.2)
    began_s = time.monotonic()
    assert caller.register().status == 200
    assert time.monotonic() - began_s >= 0.2


def test_a_trickled_reply_is_the_true_one_byte_by_byte(gateway: EmbeddedGateway, caller: Caller) -> None:
    arm(gateway, "trickle", interval_s=0.001)
    assert caller.get(HEALTH).json == {"status": "ok"}


def test_a_pooled_connection_serves_many_requests_until_the_gateway_stops(gateway: EmbeddedGateway) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    for _ in range(3):
        connection.request("GET", HEALTH)
        assert connection.getresponse().read() == b'{"status":"ok"}\n'
    held = connection.sock
    gateway.stop()
    assert held.recv(1) == b""
    connection.close()


def test_a_stopped_gateway_refuses_and_is_itself_again_when_started(
    gateway: EmbeddedGateway, caller: Caller
) -> None:
    caller.register()
    gateway.stop()
    with pytest.raises(ConnectionRefusedError):
        caller.get(HEALTH)
    gateway.start()
    assert caller.keepalive().status == 200


def test_many_callers_at_once_are_all_answered(gateway: EmbeddedGateway) -> None:
    token = gateway.new_token()
    statuses: list[int] = []

    def join(number: int) -> None:
        machine = Caller(gateway.port, token, f"{number:08x}")
        statuses.extend([machine.register().status, machine.keepalive().status])

    threads = [threading.Thread(target=join, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 100
    assert len(gateway.machines()) == 50


def test_the_log_holds_no_secret_only_its_digest(gateway: EmbeddedGateway, caller: Caller) -> None:
    caller.register(token="k3s-secret")
    (entry,) = gateway.requests("register", caller.machine_id)
    assert (entry.status, entry.fault, entry.body["cpu"]) == (200, None, "8000m")
    text = json.dumps(entry.body) + entry.bearer_sha256
    assert "k3s-secret" not in text
    assert caller.token is not None
    assert caller.token not in text
    assert len(entry.body["token"]) == len(entry.bearer_sha256) == 64


def test_the_log_names_the_fault_and_that_no_reply_was_sent(gateway: EmbeddedGateway, caller: Caller) -> None:
    arm(gateway, "drop_reply", "register")
    with pytest.raises(http.client.RemoteDisconnected):
        caller.register()
    caller.get(HEALTH)
    assert [(e.route, e.status, e.fault) for e in gateway.requests()] == [
        ("register", None, "drop_reply"),
        ("health", 200, None),
    ]


def test_every_kind_of_fault_is_tried_here() -> None:
    assert KINDS.keys() == {
        *("status", "database_down", "redirect", "big", "hang", "close"),
        *("delay", "trickle", "truncate", "drop_reply"),
    }
