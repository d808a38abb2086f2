"""The machine's Docker Engine, if it has one: how many containers it runs, and whether it is being stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

SOCKET = Path("/var/run/docker.sock")
TIMEOUT_S = 2
INSIDE = Path("/.dockerenv")
"""Docker creates this file in every container."""
PING_S = 1.0


def stop_check(socket: Path = SOCKET, inside: Path = INSIDE) -> Callable[[], bool] | None:
    """Return a function that tells, in a container, whether its engine is being stopped; None where that is unknown.

    dockerd closes its API before it stops the containers (tried with 20.10 and 28), while `docker stop` needs the API.
    """
    if not (inside.exists() and socket.exists()):
        return None
    return lambda: not _answers(socket)


def _answers(socket: Path) -> bool:
    from http.client import HTTPException

    from agent.adapters.bounded_http import UnixConnection, exchange

    connection = UnixConnection(socket)
    try:
        exchange(connection, "GET", "/_ping", deadline_s=time.monotonic() + PING_S, limit_bytes=1024)
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
    return True


def running_containers(socket: Path = SOCKET) -> int:
    """Return the number of running containers; 0 if no engine answers, which is fine: Kubernetes needs none.

    Takes a few time-outs at most, and never raises for what the engine does.
    """
    if not socket.exists():
        return 0
    import docker
    import requests

    try:
        client = docker.DockerClient(base_url=f"unix://{socket}", timeout=TIMEOUT_S)
        try:
            return int(client.info().get("ContainersRunning", 0))
        finally:
            client.close()
    # The SDK does not wrap all of requests' errors.
    except (docker.errors.DockerException, requests.RequestException, TypeError, ValueError, AttributeError):
        return 0
