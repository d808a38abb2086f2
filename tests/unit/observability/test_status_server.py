"""The status server over real sockets: its answers, whom it serves, and misbehaving clients."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent.observability import status_page
from agent.observability.status_server import CONNECTIONS_MAX, StatusServer, split_address

GENEROUS_S = 30.0
Start = Callable[..., StatusServer]


@pytest.fixture
def start() -> Iterator[Start]:
    started = []

    def make(**changes: Any) -> StatusServer:
        settings = {
            "addr": "127.0.0.1:0",
            "status": lambda: {"state": "READY", "token": "hush"},
            "live": lambda: True,
            "ready": lambda: False,
            "render_metrics": lambda status: f"# {status['state']}\n".encode(),
            **changes,
        }
        server = StatusServer(**settings)
        assert server.start() is None
        started.append(server)
        return server

    yield make
    for server in started:
        server.stop()


def connect(server: StatusServer) -> socket.socket:
    assert server.port is not None
    return socket.create_connection(("127.0.0.1", server.port), timeout=GENEROUS_S)


def ask(server: StatusServer, request: str) -> tuple[int, dict[str, str], bytes]:
    """Send a request as it stands; return code, headers and body."""
    with connect(server) as connection:
        connection.sendall(request.encode("latin-1"))
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body


def get(
    server: StatusServer, path: str, host: str | None = "localhost:9464"
) -> tuple[int, dict[str, str], bytes]:
    host_line = f"Host: {host}\r\n" if host is not None else ""
    return ask(server, f"GET {path} HTTP/1.1\r\n{host_line}\r\n")


def test_health_and_readiness_are_codes(start: Start) -> None:
    server = start()
    assert get(server, "/healthz")[::2] == (200, b"ok\n")
    assert get(server, "/readyz")[::2] == (503, b"not ok\n")


def test_the_status_is_json(start: Start) -> None:
    code, headers, body = get(start(), "/status?pretty=1")
    assert code == 200
    assert headers["Content-Type"] == "application/json"
    assert headers["Cache-Control"] == "no-store"
    assert json.loads(body)["state"] == "READY"


def test_the_metrics_are_prometheus_text(start: Start) -> None:
    code, headers, body = get(start(), "/metrics")
    assert (code, body) == (200, b"# READY\n")
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")


def test_the_real_metrics_are_served(start: Start) -> None:
    server = StatusServer("127.0.0.1:0", lambda: {"state": "READY"}, lambda: True, lambda: True)
    assert server.start() is None
    try:
        assert b'beta9_worker_state{state="READY"} 1.0' in get(server, "/metrics")[2]
    finally:
        server.stop()


@pytest.mark.fault(63)
def test_fault_63_secrets_are_taken_out_of_what_is_shown(start: Start) -> None:
    server = start(
        clean=lambda text: text.replace("hush", "[redacted]"),
        render_metrics=lambda status: status["token"].encode(),
    )
    for path in ("/status", "/metrics"):
        code, _, body = get(server, path)
        assert code == 200
        assert b"hush" not in body
        assert b"[redacted]" in body


def test_it_does_not_tell_which_python_serves_it(start: Start) -> None:
    assert get(start(), "/healthz")[1]["Server"] == "beta9-worker"


@pytest.mark.parametrize(
    ("head", "code"),
    [
        ("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("GET /healthz/.. HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 405),
        ("HEAD /status HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("BREW /coffee HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("GET /status HTTP/3.7\r\nHost: localhost\r\n\r\n", 505),
        ("nonsense\r\n\r\n", 400),
        ("GET /" + "x" * 9000, 431),
        ("GET /status HTTP/1.1\r\n" + "".join(f"X-{n}: y\r\n" for n in range(120)) + "\r\n", 431),
        ("GET /status\r\n\r\n", 400),
        ("GET /status HTTP/1.0\n\n", 200),
    ],
)
def test_bad_requests_get_an_answer(start: Start, head: str, code: int) -> None:
    assert ask(start(), head)[0] == code


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("localhost", 200),
        ("LOCALHOST:9464", 200),
        ("127.0.0.1:9464", 200),
        ("[::1]:9464", 200),
        ("[::1]", 200),
        (None, 200),
        ("attacker.example", 403),
        ("attacker.example:9464", 403),
        ("localhost.attacker.example", 403),
        ("127.0.0.1.attacker.example:9464", 403),
        ("", 403),
    ],
)
def test_on_loopback_no_other_name_is_served(start: Start, host: str | None, code: int) -> None:
    assert get(start(), "/status", host)[0] == code


def test_on_other_addresses_any_name_is_served(start: Start) -> None:
    assert get(start(addr="0.0.0.0:0"), "/status", "worker-7.internal:9464")[0] == 200


def test_a_port_that_is_taken_is_said_and_nothing_else_happens(start: Start) -> None:
    first = start()
    second = StatusServer(f"127.0.0.1:{first.port}", dict, lambda: True, lambda: True)
    assert "BETA9_STATUS_ADDR" in str(second.start())
    assert second.port is None
    second.stop()
    assert get(first, "/healthz")[0] == 200


@pytest.mark.parametrize(
    "addr", ["", "localhost", "127.0.0.1:", ":9464", "127.0.0.1:http", "127.0.0.1:99999"]
)
def test_an_address_that_is_none_is_said(addr: str) -> None:
    assert "cannot serve the status page" in str(StatusServer(addr, dict, lambda: True, lambda: True).start())


def test_addresses_are_taken_apart() -> None:
    assert split_address("[::1]:9464") == ("::1", 9464)
    assert split_address("0.0.0.0:80") == ("0.0.0.0", 80)


def test_a_bug_in_a_call_back_costs_one_answer(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> bool:
        raise RuntimeError("bug")

    server = start(ready=broken)
    assert get(server, "/readyz")[::2] == (500, b"500 internal error; see the agent's log\n")
    assert get(server, "/healthz")[0] == 200
    deadline_s = time.monotonic() + GENEROUS_S
    while "status_page_failed" not in caplog.text and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert "status_page_failed" in caplog.text


def test_one_byte_at_a_time_is_too_slow(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_page, "REQUEST_S", 0.3)
    with connect(start()) as connection:
        connection.settimeout(0.05)
        deadline_s = time.monotonic() + GENEROUS_S
        while not is_closed(connection) and time.monotonic() < deadline_s:
            pass
        assert time.monotonic() < deadline_s


def is_closed(connection: socket.socket) -> bool:
    """Send one more byte; return whether the server has closed the connection."""
    try:
        connection.sendall(b"G")
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def code_of(server: StatusServer) -> int | None:
    """Return the code that `/healthz` answers; None if the server turned the connection away."""
    try:
        return get(server, "/healthz")[0]
    except (OSError, IndexError):
        return None


def test_many_that_say_nothing_are_held_off_and_then_let_go(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_page, "REQUEST_S", 0.5)
    server = start()
    idle = [connect(server) for _ in range(CONNECTIONS_MAX + 10)]
    try:
        deadline_s = time.monotonic() + GENEROUS_S
        while (code := code_of(server)) != 200 and time.monotonic() < deadline_s:
            time.sleep(0.05)
        assert code == 200
    finally:
        for connection in idle:
            connection.close()


def status_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("status")]


def test_stopping_frees_the_port_and_leaves_no_thread() -> None:
    server = StatusServer("127.0.0.1:0", dict, lambda: True, lambda: True)
    server.start()
    port = server.port
    get(server, "/healthz")
    server.stop()
    server.stop()
    deadline_s = time.monotonic() + GENEROUS_S
    while status_threads() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert status_threads() == []
    again = StatusServer(f"127.0.0.1:{port}", dict, lambda: True, lambda: True)
    assert again.start() is None
    again.stop()
