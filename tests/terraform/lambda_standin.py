"""Stands in for Lambda's API: the routes that Terraform and our steps use, as its OpenAPI 1.10 has them.

What it does not do: check regions, types and quotas, or start anything. Faults are asked for by `Faults`.
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
    """What goes wrong, by name; all of it off at first."""

    terminate_status: int = 0
    """Answer a request to end with this status, and end nothing."""
    read_status: int = 0
    too_often: int = 0
    """Answer so many requests with 429."""
    answer_lost: set[str] = field(default_factory=set)
    """Do what these paths ask for, and hang up without an answer."""
    names_another: bool = False
    ends_nothing: bool = False
    """Answer 200 to a request to end, and go on."""
    polls_until_ended: int = 1
    polls_until_active: int = 0


@dataclass
class LambdaCloud:
    """The account: its machines by id, and every request as (method, path, body)."""

    machines: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    url: str = ""
    _polls: dict[str, int] = field(default_factory=dict)

    def running(self) -> list[str]:
        return [name for name, each in self.machines.items() if each["status"] in RUNNING]

    def launch(self, wanted: dict[str, Any]) -> str:
        name = secrets.token_hex(16)
        self.machines[name] = {
            "id": name,
            "name": wanted.get("name", ""),
            "status": "booting",
            "ssh_key_names": wanted["ssh_key_names"],
            "file_system_names": wanted.get("file_system_names", []),
            "region": {"name": wanted["region_name"], "description": "stand-in"},
            "instance_type": {"name": wanted["instance_type_name"], "price_cents_per_hour": 199},
            "tags": wanted.get("tags", []),
            "actions": {},
            "jupyter_token": secrets.token_hex(16),
        }
        return name

    def vanish(self, name: str) -> None:
        """The machine is gone, and the API has forgotten it."""
        del self.machines[name]

    def read(self, name: str) -> dict[str, Any] | None:
        """One machine, a step further on its way from booting to active or from terminating to terminated."""
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
        """Begin to end these; None if one of them is unknown."""
        if any(name not in self.machines for name in names):
            return None
        if not self.faults.ends_nothing:
            for name in names:
                self.machines[name]["status"] = "terminating"
                self._polls[name] = 0
        if self.faults.names_another:
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
        """Say nothing: `requests` has it."""

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        body = json.loads(raw) if raw else None
        path = self.path.partition("?")[0]
        self.account.requests.append((self.command, path, body))
        status, said = self._routed(path, body)
        if any(path.endswith(each) for each in self.account.faults.answer_lost):
            self.close_connection = True
            return
        text = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _routed(self, path: str, body: Any) -> tuple[int, Any]:
        faults = self.account.faults
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            return 401, _error("global/invalid-api-key", "API key was invalid, expired, or deleted.")
        if faults.too_often:
            faults.too_often -= 1
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
        ended = self.account.terminate(body["instance_ids"])
        return _gone() if ended is None else (200, {"data": {"terminated_instances": ended}})


def _gone() -> tuple[int, Any]:
    return 404, _error("global/object-does-not-exist", "Specified instance does not exist.")


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}
