"""Asks a running agent through its own status address."""

from __future__ import annotations

import http.client
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.settings import ETC
from agent.settings.sources import from_files

DEFAULT_ADDRESS = "127.0.0.1:9464"
REPLY_LIMIT_BYTES = 1 << 20


def _in_files() -> str | None:
    """What the agent's own settings files say: a container's health check is given no environment of its own."""
    layers, _ = from_files(None, Path.cwd(), ETC)
    return next((found for layer in layers if (found := layer.values.get("BETA9_STATUS_ADDR"))), None)


@dataclass(frozen=True)
class Reply:
    """What came back: an HTTP status with its JSON body, or status 0 with the problem."""

    status: int
    body: Any = None
    problem: str = ""


def ask(address: str | None, path: str, timeout_s: float) -> Reply:
    """GET `path` at `host:port`; by default where BETA9_STATUS_ADDR says. Never raises."""
    where = address or os.environ.get("BETA9_STATUS_ADDR") or _in_files() or DEFAULT_ADDRESS
    host, _, port = where.rpartition(":")
    if not port.isdigit():
        return Reply(0, problem=f"{where!r} is no host:port; correct --address or BETA9_STATUS_ADDR")
    connection = http.client.HTTPConnection(host.strip("[]") or "127.0.0.1", int(port), timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        text = response.read(REPLY_LIMIT_BYTES)
    except (OSError, http.client.HTTPException) as error:
        return Reply(
            0,
            problem=f"no agent answers at {where} ({error}); is it running? 'systemctl status beta9-worker'",
        )
    finally:
        connection.close()
    try:
        return Reply(response.status, json.loads(text))
    except ValueError:
        return Reply(
            response.status, problem=f"{where} answers {response.status} with something that is no JSON"
        )
