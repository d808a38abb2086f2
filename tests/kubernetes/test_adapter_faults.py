"""Responses that neither API server can be made to send: errors, truncated or garbled bodies, one byte at a time.

A relay in front of the stand-in replaces the response to one path and passes everything else through.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.kubernetes.api import Api, SilentError
from agent.adapters.kubernetes.local import Cluster
from agent.adapters.kubernetes.token import GatewayToken
from agent.demo.certificate import throwaway_context
from agent.demo.kubernetes.standin import StandInKubernetes
from tests.integration.bounds import within
from tests.kubernetes.server import ask

LIMIT_S = 1.0


class Relay:
    """A TLS proxy on loopback. `replacement` stands in for the response to `path`; None passes it through."""

    def __init__(self, behind: StandInKubernetes) -> None:
        self._behind = behind
        self._context, self.certificate_pem = throwaway_context("127.0.0.1")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.path = "/api/v1/nodes"
        self.replacement: bytes | None = None
        self.pause_s = 0.0
        """Pause between two bytes of the replacement."""
        self.ended = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.ended.set()
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # the test closes the listener
            while True:
                accepted, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(accepted,), daemon=True).start()

    def _answer(self, accepted: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            self._context.wrap_socket(accepted, server_side=True) as connection,
        ):
            while head := _head(connection):
                method, path = head.split(b" ")[:2]
                if self.replacement is None or path.partition(b"?")[0].decode() != self.path:
                    address = (self._behind.host, self._behind.port)
                    code, body = ask(address, method.decode(), path.decode(), token=self._behind.token)
                    connection.sendall(_reply(code, json.dumps(body).encode()))
                elif self.pause_s:
                    for number in self.replacement:
                        connection.sendall(bytes([number]))
                        if self.ended.wait(self.pause_s):
                            return
                else:
                    connection.sendall(self.replacement)
                    return


def _head(connection: socket.socket) -> bytes:
    got = b""
    while b"\r\n\r\n" not in got:
        piece = connection.recv(4096)
        if not piece:
            return b""
        got += piece
    return got


def _reply(code: int, body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"HTTP/1.1 %d Said\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        code,
        size,
        body,
    )


@pytest.fixture
def relay() -> Iterator[Relay]:
    with StandInKubernetes() as behind:
        made = Relay(behind)
        yield made
        made.close()


@pytest.fixture
def cluster(relay: Relay, tmp_path: Path) -> Cluster:
    """A cluster that reads the node each time."""
    config = json.loads(relay._behind.kubeconfig())
    config["clusters"][0]["cluster"] = {
        "server": f"https://127.0.0.1:{relay.port}",
        "insecure-skip-tls-verify": True,
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    api = Api(path, lambda _: None)
    return Cluster(api, GatewayToken(api, 86_400, 43_200, lambda _: None), interval_s=0)


def status(code: int, message: str) -> bytes:
    return _reply(code, json.dumps({"kind": "Status", "message": message, "code": code}).encode())


@pytest.mark.parametrize(
    ("replacement", "message"),
    [
        (status(429, "too many requests"), "429"),
        (status(410, "too old resource version"), "too old resource version"),
        (status(503, "apiserver is shutting down"), "503"),
        (status(403, "nodes is forbidden"), "BETA9_KUBECONFIG"),
        (_reply(500, b"<html>"), "500"),
        (
            _reply(200, b'{"items": [', length=4096),
            "11 bytes read, 4085 more expected",
        ),
        (_reply(200, b"no JSON"), "7 bytes"),
        (_reply(200, b"[]"), "unexpected shape"),
        (_reply(200, b'{"items": [{}]}'), "unexpected shape"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0"),
        (b"", "closed connection"),
    ],
)
def test_the_last_known_node_is_kept_and_the_error_reported(
    relay: Relay, cluster: Cluster, replacement: bytes, message: str
) -> None:
    known = cluster.read_node(20)
    assert known is not None
    assert cluster.problem is None
    relay.replacement = replacement
    assert cluster.read_node(20) == known
    assert cluster.problem is not None
    assert message in cluster.problem
    relay.replacement = None
    assert cluster.read_node(20) == known
    assert cluster.problem is None


def test_a_cluster_without_nodes_is_no_fault_of_the_reading(relay: Relay, cluster: Cluster) -> None:
    assert cluster.read_node(20) is not None
    relay.replacement = _reply(200, b'{"items": []}')
    assert cluster.read_node(20) is None
    assert cluster.problem is None
    assert cluster.no_node is not None
    assert "none of the 0" in cluster.no_node


@pytest.mark.parametrize("where", ["/api/v1/nodes", "/api/v1/pods"])
def test_a_trickling_response_counts_as_silence_after_the_timeout(
    relay: Relay, cluster: Cluster, where: str
) -> None:
    relay.path, relay.replacement, relay.pause_s = where, _reply(200, b'{"items": []}' * 100), 0.05
    began_s = time.monotonic()
    with pytest.raises(SilentError, match="did not answer within 1 s"):
        cluster.read_node(LIMIT_S)
    assert time.monotonic() - began_s < within(LIMIT_S)
