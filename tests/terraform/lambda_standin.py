"""A stand-in for Lambda's API: the routes that Terraform and lambda_api.py use, following its OpenAPI 1.10.

It does not check regions, types and quotas, and starts nothing. `Faults` makes it fail.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "secret_beta9-standin_0123456789abcdef"
RUNNING = ("booting", "active", "unhealthy")


@dataclass
class Faults:
    """Faults to inject, all off by default."""

    terminate_status: int = 0
    """Respond to terminate requests with this status, and terminate nothing."""
    read_status: int = 0
    too_many_requests: int = 0
    """Respond to this many requests with 429."""
    response_lost: set[str] = field(default_factory=set)
    """Carry out requests to these paths, and hang up without a response."""
    lists_another: bool = False
    keeps_running: bool = False
    """Respond 200 to terminate requests, and keep the machine running."""
    polls_until_ended: int = 1
    polls_until_active: int = 0


@dataclass
class LambdaCloud:
    """One account: its machines by id, and every request as (method, path, body)."""

    machines: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    url: str = ""
    _polls: dict[str, int] = field(default_factory=dict)

    def running(self) -> list[str]:
        return [name for name, each in self.machines.items() if each["status"] in RUNNING]

    def launch(self, request: dict[str, Any]) -> str:
        name = secrets.token_hex(16)
        self.machines[name] = {
            "id": name,
            "name": request.get("name", ""),
            "status": "booting",
            "ssh_key_names": request["ssh_key_names"],
            "file_system_names": request.get("file_system_names", []),
            "region": {"name": request["region_name"], "description": "stand-in"},
            "instance_type": {"name": request["instance_type_name"], "price_cents_per_hour": 199},
            "tags": request.get("tags", []),
            "actions": {},
            "jupyter_token": secrets.token_hex(16),
        }
        return name

    def vanish(self, name: str) -> None:
        """Remove the machine, which the API then no longer knows."""
        del self.machines[name]

    def read(self, name: str) -> dict[str, Any] | None:
        """Return one machine, advancing it from booting to active or from terminating to terminated."""
        machine = self.machines.get(name)
        if machine is None:
            return None
        self._polls[name] = self._polls.get(name, 0) + 1
        if machine["status"] == "booting" and self._polls[name] > self.faults.polls_until_active:
            machine.update(status="active", ip="127.0.0.1")
        elif machine["status"] == "terminating" and self._polls[name] > self.faults.polls_until_ended:
            machine["status"] = "terminated"
        return machine

    def terminate(self, names: list[str]) -> list[dict[str, Any]] | None:
        """Begin to terminate these machines; return None if one of them is unknown."""
        if any(name not in self.machines for name in names):
            return None
        if not self.faults.keeps_running:
            for name in names:
                self.machines[name]["status"] = "terminating"
                self._polls[name] = 0
        if self.faults.lists_another:
            return [{"id": "f" * 32, "status": "terminating"}]
        return [dict(self.machines[name], status="terminating") for name in names]


@contextlib.contextmanager
def lambda_cloud() -> Iterator[LambdaCloud]:
    """Serve one account on loopback."""
    cloud = LambdaCloud()

    class Handler(_Handler):
        account = cloud

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        cloud.url = f"http://127.0.0.1:{server.server_address[1]}/api/v1"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield cloud
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    account: LambdaCloud

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, *_: Any) -> None:
        """Log nothing: `requests` records every request."""

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        body = json.loads(raw) if raw else None
        path = self.path.partition("?")[0]
        self.account.requests.append((self.command, path, body))
        status, reply = self._reply(path, body)
        if any(path.endswith(each) for each in self.account.faults.response_lost):
            self.close_connection = True
            return
        text = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _reply(self, path: str, body: Any) -> tuple[int, Any]:
        faults = self.account.faults
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            return 401, _error("global/invalid-api-key", "API key was invalid, expired, or deleted.")
        if faults.too_many_requests:
            faults.too_many_requests -= 1
            return 429, _error("global/too-many-requests", "Too many requests.")
        route = path.removeprefix("/api/v1")
        if self.command == "GET" and route.startswith("/instances"):
            return self._read(route.removeprefix("/instances").lstrip("/"))
        if (self.command, route) == ("POST", "/instance-operations/launch"):
            return 200, {"data": {"instance_ids": [self.account.launch(body)]}}
        if (self.command, route) == ("POST", "/instance-operations/terminate"):
            return self._terminate(body)
        return 404, _error("global/not-found", "The requested resource was not found.")

    def _read(self, name: str) -> tuple[int, Any]:
        if self.account.faults.read_status:
            return self.account.faults.read_status, _error(
                "global/internal-error", "An unknown error occurred."
            )
        if not name:
            return 200, {"data": list(self.account.machines.values())}
        machine = self.account.read(name)
        return (200, {"data": machine}) if machine else _gone()

    def _terminate(self, body: Any) -> tuple[int, Any]:
        status = self.account.faults.terminate_status
        if status:
            return status, _error("global/internal-error", "An unknown error occurred.")
        terminated = self.account.terminate(body["instance_ids"])
        return _gone() if terminated is None else (200, {"data": {"terminated_instances": terminated}})


def _gone() -> tuple[int, Any]:
    return 404, _error("global/object-does-not-exist", "Specified instance does not exist.")


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}
