"""Probes over plain sockets: does the gateway answer, does a Kubernetes API answer, is the tunnel alive?

Each opens a connection, sends one request and closes, within one deadline. It returns a Probe and never raises. Only
the standard library is used, since probes run every few seconds for the agent's whole life. And only sockets, not
bounded_http: a probe must see the server's certificate before it sends the token, and needs no more than a status line.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from agent.adapters.bounded_http import connect, remaining_s
from agent.core.events import Answer, Probe
from agent.core.machine_api.wire import HEALTH_PATH

REPLY_LIMIT_BYTES = 4096
"""Only the status line matters; a reply of this length without one is not HTTP."""

JOBS_PATH = "/apis/batch/v1/namespaces/default/jobs?limit=1"
"""The gateway's own request to a machine's Kubernetes (its contract): a token that may do this is sufficient."""

Address = tuple[str, int] | Path
"""Host and port, or a unix socket."""


@dataclass(frozen=True)
class Seen:
    """A probe of a TLS server, and the SHA-256 of the certificate that it showed (None if it showed none)."""

    probe: Probe
    certificate: str | None = None


def gateway_health(host: str, port: int, timeout_s: float) -> Probe:
    """Request the gateway's health. A status other than 200 still proves the path (UNWELL)."""
    return _timed(lambda deadline_s: _plain_get((host, port), host, HEALTH_PATH, deadline_s), timeout_s)


def gateway_behind_tunnel(host: str, port: int, echo_socket: Path | None, timeout_s: float) -> Probe:
    """Probe the gateway. If it is silent, tell whether the tunnel is alive (BEYOND_SILENT) or not (SILENT).

    `echo_socket` is the forward for `tunnel_echo`; None: the two are not told apart. The echo is requested while the
    gateway may still answer, so that a dead tunnel is noticed no later.
    """
    echoes: list[bool] = []
    if echo_socket is None:
        return gateway_health(host, port, timeout_s)
    half_s = timeout_s / 2
    echo = threading.Timer(half_s, lambda: echoes.append(tunnel_echo(echo_socket, half_s)))
    echo.daemon = True
    echo.start()
    probe = gateway_health(host, port, timeout_s)
    echo.cancel()
    if probe.answer is not Answer.SILENT:
        return probe
    echo.join()
    text = "the gateway accepts connections and does not answer"
    return Probe(Answer.BEYOND_SILENT, probe.took_s, text) if any(echoes) else probe


def tunnel_echo(path: Path, timeout_s: float) -> bool:
    """Return whether the tunnel itself is alive: the far side must at least refuse or close a connection.

    `path` is a forward to an address where nothing listens, so sshd closes the connection at once; a stopped ssh or a
    dead link leaves it open.
    """
    probe = _timed(lambda deadline_s: _plain_get(path, "localhost", "/", deadline_s), timeout_s)
    return probe.answer is not Answer.SILENT and probe.answer is not Answer.NOT_LISTENING


def kubernetes(address: Address, token: str, timeout_s: float, expect: str | None = None) -> Seen:
    """Request jobs from a Kubernetes API, as the gateway does.

    `expect` is the certificate that the server must show; the token is sent to no other (DENIED). The gateway does not
    verify certificates, and k3s signs its own: the certificate that was seen locally is what counts.
    """
    certificates: list[str] = []

    def request(deadline_s: float) -> Probe:
        with _connect(address, deadline_s) as plain, _tls().wrap_socket(plain) as secured:
            certificate = hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()
            certificates.append(certificate)
            if expect is not None and certificate != expect:
                return Probe(Answer.DENIED, text="its certificate differs from that of this machine's k3s")
            head = f"GET {JOBS_PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            secured.sendall(
                (head + "Accept: application/json\r\nConnection: close\r\n\r\n").encode("latin-1")
            )
            return _classify(_status(secured, deadline_s), ok=(200,), denied=(401, 403))

    probe = _timed(request, timeout_s)
    return Seen(probe, certificates[0] if certificates else None)


def _plain_get(address: Address, host: str, path: str, deadline_s: float) -> Probe:
    with _connect(address, deadline_s) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return _classify(_status(connection, deadline_s), ok=(200,), denied=())


def _classify(status: int | None, ok: tuple[int, ...], denied: tuple[int, ...]) -> Probe:
    if status is None:
        return Probe(Answer.CLOSED, text="the connection was closed without a reply")
    if status in ok:
        return Probe(Answer.ANSWERED)
    return Probe(Answer.DENIED if status in denied else Answer.UNWELL, text=f"it answered {status}")


def _timed(attempt: Callable[[float], Probe], timeout_s: float) -> Probe:
    began_s = time.monotonic()
    try:
        probe = attempt(began_s + timeout_s)
    except TimeoutError:
        probe = Probe(Answer.SILENT, text=f"no answer within {timeout_s:g} s")
    except (ConnectionRefusedError, FileNotFoundError):
        probe = Probe(Answer.NOT_LISTENING, text="nothing listens there")
    except ssl.SSLError as error:
        # On some versions "The read operation timed out" is an SSLError; it counts as silence, too.
        answer = Answer.SILENT if "timed out" in str(error) else Answer.CLOSED
        probe = Probe(answer, text=f"TLS: {error.reason or error}")
    except OSError as error:
        probe = Probe(Answer.CLOSED, text=error.strerror or str(error))
    return Probe(probe.answer, time.monotonic() - began_s, probe.text)


def _connect(address: Address, deadline_s: float) -> socket.socket:
    if isinstance(address, Path):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(remaining_s(deadline_s))
        try:
            connection.connect(str(address))
        except OSError:
            connection.close()
            raise
    else:
        connection = connect(*address, deadline_s)
    connection.settimeout(remaining_s(deadline_s))
    return connection


def _status(connection: socket.socket, deadline_s: float) -> int | None:
    """Return the HTTP status, or None if the connection ended before one arrived. Raises: TimeoutError."""
    received = b""
    while b"\r\n" not in received and len(received) < REPLY_LIMIT_BYTES:
        connection.settimeout(remaining_s(deadline_s))
        piece = connection.recv(REPLY_LIMIT_BYTES)
        if not piece:
            break
        received += piece
    words = received.split(b"\r\n", 1)[0].split()
    if not received:
        return None
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ConnectionError("the program that answers there does not speak HTTP")
    return int(words[1][:3])


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # The certificate is compared with the one seen locally instead, see `expect` above.
    context.verify_mode = ssl.CERT_NONE
    return context
