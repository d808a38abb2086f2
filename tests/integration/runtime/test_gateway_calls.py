"""The gateway adapter on real sockets: any reply, at any speed, becomes one Outcome within the time limit."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.adapters.gateway import probes
from agent.adapters.gateway.machine_api import Gateway
from agent.core.events import Answer
from agent.core.machine_api.model import CallKind
from agent.core.machine_api.wire import Outcome, OutcomeKind
from agent.demo.gateway.embedded import EmbeddedGateway
from agent.demo.gateway.options import GatewaySettings
from agent.errors import TransientError
from tests.integration.polling import wait_for

HOST = "127.0.0.1"
BODY = {"machine_id": "1165a9b6"}


class Scripted:
    """A TCP server that answers any request with fixed bytes and hangs up.

    It represents any broken program between the agent and the gateway.
    """

    def __init__(self) -> None:
        self.reply = b""
        self._server = socket.create_server((HOST, 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            # In half of the examples the caller hangs up first.
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                connection.recv(65536)
                connection.sendall(self.reply)

    def close(self) -> None:
        # Closing alone does not wake a thread that is blocked in accept.
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    server.close()


@pytest.fixture
def silent() -> Iterator[tuple[int, list[socket.socket]]]:
    """A port that accepts and never answers, and the list of accepted connections."""
    accepted: list[socket.socket] = []
    server = socket.create_server((HOST, 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted.append(server.accept()[0])

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.getsockname()[1], accepted
    server.shutdown(socket.SHUT_RDWR)
    thread.join()
    server.close()
    for connection in accepted:
        connection.close()


def gateway_at(port: int) -> Gateway:
    return Gateway(HOST, port, lambda _fresh: "token", connect_timeout_s=2)


heads = st.sampled_from(
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 500 \r\nRetry-After: soon\r\n\r\n",
        b"HTTP/1.1 999999 no\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 307 x\r\nLocation: \xff\xfe\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(heads, st.binary(max_size=200), st.sampled_from(CallKind))
def test_any_bytes_at_all_are_an_outcome(
    scripted: Scripted, head: bytes, body: bytes, kind: CallKind
) -> None:
    scripted.reply = head + body
    gateway = gateway_at(scripted.port)
    outcome = gateway.call(kind, BODY, timeout_s=5)
    gateway.close()
    assert isinstance(outcome, Outcome)
    assert outcome.kind in OutcomeKind
    assert "\n" not in outcome.text
    assert len(outcome.text) < 700


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(heads, st.binary(max_size=200))
def test_any_bytes_at_all_are_a_probe(scripted: Scripted, head: bytes, body: bytes) -> None:
    scripted.reply = head + body
    plain = probes.gateway_health(HOST, scripted.port, timeout_s=5)
    secured = probes.kubernetes((HOST, scripted.port), "token", timeout_s=5)
    assert plain.answer in Answer
    assert secured.probe.answer is Answer.CLOSED, "a server without TLS was taken for Kubernetes"
    assert secured.certificate is None


def test_a_token_that_cannot_be_had_just_now_is_no_answer() -> None:
    def token(fresh: bool) -> str:
        raise TransientError("the secret store does not answer")

    outcome = Gateway(HOST, 9, token, connect_timeout_s=1).call(CallKind.KEEPALIVE, BODY, 1)
    assert outcome.kind is OutcomeKind.NO_ANSWER
    assert outcome.text == "the secret store does not answer"


# --- Two calls at once -----------------------------------------------------------------------------------


def in_background(call: Callable[[], Outcome]) -> tuple[threading.Thread, list[Outcome]]:
    """Run a call in a thread; its outcome appears in the list."""
    ended: list[Outcome] = []
    thread = threading.Thread(target=lambda: ended.append(call()))
    thread.start()
    return thread, ended


def test_a_new_call_hangs_up_the_one_that_nobody_waits_for(silent: tuple[int, list[socket.socket]]) -> None:
    port, accepted = silent
    gateway = gateway_at(port)
    first, first_ended = in_background(lambda: gateway.call(CallKind.KEEPALIVE, BODY, 60, number=1))
    wait_for("the first is connected", lambda: accepted)
    began_s = time.monotonic()
    second, second_ended = in_background(lambda: gateway.call(CallKind.FAREWELL, BODY, 60, number=2))
    first.join(30)
    assert first_ended[0].kind is OutcomeKind.NO_ANSWER
    assert time.monotonic() - began_s < 20
    wait_for("a separate connection for the second", lambda: len(accepted) == 2)
    assert second.is_alive()
    assert not second_ended
    gateway.abandon()
    second.join(30)
    assert second_ended[0].kind is OutcomeKind.NO_ANSWER
    assert len(accepted) == 2, "an abandoned call was retried"


def test_a_call_given_up_while_its_secret_is_resolved_is_not_made() -> None:
    resolving, may_continue = threading.Event(), threading.Event()

    def token(fresh: bool) -> str:
        if fresh:
            resolving.set()
            may_continue.wait(30)
        return "token"

    with EmbeddedGateway(GatewaySettings(port=0)) as server:
        gateway = Gateway(HOST, server.port, token, connect_timeout_s=2)
        slow, slow_ended = in_background(
            lambda: gateway.call(CallKind.REGISTER, BODY, 60, fresh_secret=True, number=1)
        )
        assert resolving.wait(30)
        assert gateway.call(CallKind.CHECK, BODY, 10, number=2).kind is OutcomeKind.UNAUTHORIZED
        may_continue.set()
        slow.join(30)
        assert "another call took its place" in slow_ended[0].text
        assert not server.requests("register")
        gateway.close()


def test_a_thread_that_comes_late_does_not_hang_up_the_newer_call() -> None:
    with EmbeddedGateway(GatewaySettings(port=0)) as server:
        gateway = gateway_at(server.port)
        assert gateway.call(CallKind.CHECK, BODY, 10, number=2).kind is OutcomeKind.UNAUTHORIZED
        assert "another call took its place" in gateway.call(CallKind.REGISTER, BODY, 10, number=1).text
        assert not server.requests("register")
        gateway.close()


def test_a_reply_that_trickles_on_a_connection_of_its_own_is_ended_at_the_time_limit() -> None:
    """With `Connection: close` the response object owns the socket, which must be closed all the same."""
    server = socket.create_server((HOST, 0))
    ended = threading.Event()

    def serve() -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            while not ended.wait(0.1):
                connection.sendall(b" ")

    thread = threading.Thread(target=serve)
    thread.start()
    gateway = gateway_at(server.getsockname()[1])
    began_s = time.monotonic()
    outcome = gateway.call(CallKind.KEEPALIVE, BODY, timeout_s=1)
    took_s = time.monotonic() - began_s
    ended.set()
    thread.join(30)
    server.close()
    gateway.close()
    assert outcome.kind is not OutcomeKind.OK
    assert 0.9 < took_s < 15
