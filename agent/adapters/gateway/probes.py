"""Short questions over plain sockets: does the gateway answer, does a Kubernetes API answer, does the tunnel?

Each opens a connection, asks once and closes, within one deadline; the answer is a Probe, never an exception.
Nothing but the standard library is used: these run every few seconds for the whole life of the agent.
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

from agent.core.events import Answer, Probe
from agent.core.machine_api.wire import HEALTH_PATH

REPLY_LIMIT_BYTES = 4096
"""Only the status line is read for sense; a reply that is longer without one is no HTTP."""

JOBS_PATH = "/apis/batch/v1/namespaces/default/jobs?limit=1"
"""What the gateway itself asks a machine's Kubernetes for (its contract), so a token that may do this serves."""

Address = tuple[str, int] | Path
"""Host and port, or a unix socket."""


@dataclass(frozen=True)
class Seen:
    """A probe of a TLS server, and the SHA-256 of the certificate it showed (None if it came to none)."""

    probe: Probe
    certificate: str | None = None


def gateway_health(host: str, port: int, timeout_s: float) -> Probe:
    """Ask the gateway for its health. An answer that is not 200 still proves the way (UNWELL)."""
    return _timed(lambda deadline: _plain_get((host, port), host, HEALTH_PATH, deadline), timeout_s)


def gateway_behind_tunnel(host: str, port: int, spare: Path | None, timeout_s: float) -> Probe:
    """Ask the gateway; silence is told apart by whether the tunnel echoes (BEYOND_SILENT) or not (SILENT).

    The echo is asked for while the gateway is still waited for, so that a dead tunnel is known no later.
    """
    echoes: list[bool] = []
    if spare is None:
        return gateway_health(host, port, timeout_s)
    half_s = timeout_s / 2
    echo = threading.Timer(half_s, lambda: echoes.append(tunnel_echo(spare, half_s)))
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
    """Whether the tunnel itself is alive: the far side must at least refuse, or end, a connection.

    `path` is a forward to an address where nobody listens, so sshd closes it at once; ssh that is stopped, or
    a link that is dead, leaves it open.
    """
    probe = _timed(lambda deadline: _plain_get(path, "localhost", "/", deadline), timeout_s)
    return probe.answer is not Answer.SILENT and probe.answer is not Answer.NOT_LISTENING


def kubernetes(address: Address, token: str, timeout_s: float, expect: str | None = None) -> Seen:
    """Ask a Kubernetes API for jobs, as the gateway does.

    `expect` is the certificate it must show; the token is not sent to any other (DENIED). The gateway does not
    verify certificates, and a machine's own is signed by nobody we know: the one seen locally is what counts.
    """
    seen: list[str] = []

    def ask(deadline_s: float) -> Probe:
        with _connect(address, deadline_s) as plain, _tls().wrap_socket(plain) as secured:
            certificate = hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()
            seen.append(certificate)
            if expect is not None and certificate != expect:
                return Probe(
                    Answer.DENIED, text="its certificate is another one than this machine's k3s shows"
                )
            head = f"GET {JOBS_PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            secured.sendall(
                (head + "Accept: application/json\r\nConnection: close\r\n\r\n").encode("latin-1")
            )
            return _judge(_status(secured, deadline_s), ok=(200,), denied=(401, 403))

    probe = _timed(ask, timeout_s)
    return Seen(probe, seen[0] if seen else None)


def _plain_get(address: Address, host: str, path: str, deadline_s: float) -> Probe:
    with _connect(address, deadline_s) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return _judge(_status(connection, deadline_s), ok=(200,), denied=())


def _judge(status: int | None, ok: tuple[int, ...], denied: tuple[int, ...]) -> Probe:
    if status is None:
        return Probe(Answer.CLOSED, text="the connection was ended without an answer")
    if status in ok:
        return Probe(Answer.ANSWERED)
    return Probe(Answer.DENIED if status in denied else Answer.UNWELL, text=f"it answered {status}")


def _timed(ask: Callable[[float], Probe], timeout_s: float) -> Probe:
    began_s = time.monotonic()
    try:
        probe = ask(began_s + timeout_s)
    except TimeoutError:
        probe = Probe(Answer.SILENT, text=f"no answer within {timeout_s:g} s")
    except (ConnectionRefusedError, FileNotFoundError):
        probe = Probe(Answer.NOT_LISTENING, text="nothing listens there")
    except ssl.SSLError as error:
        # "The read operation timed out" is an SSLError on some versions; it is silence all the same.
        answer = Answer.SILENT if "timed out" in str(error) else Answer.CLOSED
        probe = Probe(answer, text=f"TLS: {error.reason or error}")
    except OSError as error:
        probe = Probe(Answer.CLOSED, text=error.strerror or str(error))
    return Probe(probe.answer, time.monotonic() - began_s, probe.text)


def _connect(address: Address, deadline_s: float) -> socket.socket:
    if isinstance(address, Path):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(_left_s(deadline_s))
        try:
            connection.connect(str(address))
        except OSError:
            connection.close()
            raise
    else:
        connection = socket.create_connection(address, timeout=_left_s(deadline_s))
    connection.settimeout(_left_s(deadline_s))
    return connection


def _status(connection: socket.socket, deadline_s: float) -> int | None:
    """The HTTP status, None if the connection ended before one came. Raises: TimeoutError."""
    got = b""
    while b"\r\n" not in got and len(got) < REPLY_LIMIT_BYTES:
        connection.settimeout(_left_s(deadline_s))
        piece = connection.recv(REPLY_LIMIT_BYTES)
        if not piece:
            break
        got += piece
    words = got.split(b"\r\n", 1)[0].split()
    if not got:
        return None
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ConnectionError("what answers there speaks no HTTP")
    return int(words[1][:3])


def _left_s(deadline_s: float) -> float:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # The certificate is compared with the one seen locally instead: `expect` above.
    context.verify_mode = ssl.CERT_NONE
    return context
