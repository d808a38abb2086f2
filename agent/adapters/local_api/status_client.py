"""A client of the running agent's status server."""

from __future__ import annotations

import http.client
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.adapters.bounded_http import exchange
from agent.settings import ETC
from agent.settings.sources import from_files

DEFAULT_ADDRESS = "127.0.0.1:9464"
REPLY_LIMIT_BYTES = 1 << 20


def _configured() -> str | None:
    """Read the address from the agent's settings files: a container's health check lacks the agent's environment."""
    layers, _ = from_files(None, Path.cwd(), ETC)
    return next((found for layer in layers if (found := layer.values.get("BETA9_STATUS_ADDR"))), None)


@dataclass(frozen=True)
class Reply:
    """The reply: an HTTP status with its JSON body, or status 0 with the problem."""

    status: int
    body: Any = None
    problem: str = ""


def ask(address: str | None, path: str, timeout_s: float) -> Reply:
    """GET `path` from `address` (host:port), by default from BETA9_STATUS_ADDR. Never raises."""
    where = address or os.environ.get("BETA9_STATUS_ADDR") or _configured() or DEFAULT_ADDRESS
    host, _, port = where.rpartition(":")
    if not port.isdigit():
        return Reply(
            0, problem=f"{where!r} is not of the form host:port; correct --address or BETA9_STATUS_ADDR"
        )
    connection = http.client.HTTPConnection(host.strip("[]") or "127.0.0.1", int(port))
    try:
        status, body = exchange(
            connection, "GET", path, deadline_s=time.monotonic() + timeout_s, limit_bytes=REPLY_LIMIT_BYTES
        )
    except (OSError, http.client.HTTPException) as error:
        return Reply(
            0,
            problem=f"no agent answers at {where} ({error}); is it running? 'systemctl status beta9-worker'",
        )
    finally:
        connection.close()
    try:
        return Reply(status, json.loads(body))
    except ValueError:
        return Reply(status, problem=f"{where} answers {status} with a body that is not JSON")
