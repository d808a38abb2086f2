"""A stand-in for Crusoe's API: the routes for VMs, networks, subnets and firewall rules that the provider uses.

The routes follow the provider's client. Slow requests return an operation, here always a succeeded one. Nothing is
started, signatures are not checked, and reading a VM can be made to fail.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VMS, NETWORKS, SUBNETS, RULES = "instances", "vpc-networks", "vpc-subnets", "vpc-firewall-rules"
ROUTE = re.compile(r"^/v1/projects/([0-9a-f-]+)/(?:compute/vms|networking)/([a-z-]+)(?:/([0-9a-f-]+))?$")
INLINE = {NETWORKS: "network", SUBNETS: "subnet"}
"""Resources created synchronously, and the key of the resource in the response."""


@dataclass
class CrusoeCloud:
    """One account: its resources by kind and id, and every request as (method, path, body)."""

    resources: dict[str, dict[str, dict[str, Any]]] = field(
        default_factory=lambda: {VMS: {}, NETWORKS: {}, SUBNETS: {}, RULES: {}}
    )
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    vm_read_status: int = 200
    """Status of the response when a VM is read; 403 is an error that the provider does not retry."""
    url: str = ""

    def create(self, kind: str, project: str, request: dict[str, Any]) -> dict[str, Any]:
        made = {**request, "id": str(uuid.uuid4())}
        if kind == VMS:
            made = _vm(made, project)
        elif kind == RULES:
            made["state"] = "active"
        self.resources[kind][made["id"]] = made
        return made


def _vm(request: dict[str, Any], project: str) -> dict[str, Any]:
    interface = (request.get("network_interfaces") or [{}])[0]
    address = {
        "private_ipv4": {"address": "10.200.0.2"},
        "public_ipv4": {"address": "127.0.0.1", "id": str(uuid.uuid4()), "type": "dynamic"},
    }
    return {
        "id": request["id"],
        "name": request["name"],
        "type": request["type"],
        "location": request["location"],
        "project_id": project,
        "state": "STATE_RUNNING",
        "disks": [{"id": str(uuid.uuid4()), "attachment_type": "os", "mode": "read-write"}],
        "host_channel_adapters": [],
        "network_interfaces": [
            {
                "id": str(uuid.uuid4()),
                "name": "eth0",
                "network": str(uuid.uuid4()),
                "subnet": interface.get("subnet") or str(uuid.uuid4()),
                "interface_type": "virtio",
                "external_dns_name": "vm.example.com",
                "ips": [address],
            }
        ],
    }


@contextlib.contextmanager
def crusoe_cloud() -> Iterator[CrusoeCloud]:
    """Serve one account on loopback."""
    cloud = CrusoeCloud()

    class Handler(_Handler):
        account = cloud

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        cloud.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield cloud
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    account: CrusoeCloud

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, *_: Any) -> None:
        """Log nothing: `requests` records every request."""

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(raw) if raw else None
        path = self.path.partition("?")[0]
        self.account.requests.append((self.command, path, body))
        status, reply = self._reply(path, body)
        text = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _reply(self, path: str, body: Any) -> tuple[int, Any]:
        if path == "/v1/users/identities":
            return 200, {"identity": {"id": str(uuid.uuid4()), "email": "me@example.com"}}
        if path.startswith("/v1/organizations/projects/"):
            return 200, {
                "id": path.rpartition("/")[2],
                "name": "default",
                "organization_id": str(uuid.uuid4()),
            }
        return self._resource(path, body)

    def _resource(self, path: str, body: Any) -> tuple[int, Any]:
        route = ROUTE.match(path)
        if route is None or route[2] not in self.account.resources:
            return 404, {"code": "not_found", "message": f"no such path {path}"}
        project, kind, name = route.groups()
        if self.command == "POST":
            made = self.account.create(kind, project, body)
            return 200, {INLINE[kind]: made} if kind in INLINE else _operation(made)
        if kind == VMS and self.account.vm_read_status != 200:
            return self.account.vm_read_status, {"code": "error", "message": "internal error"}
        if name not in self.account.resources[kind]:
            return 404, {"code": "not_found", "message": "not found"}
        if self.command == "DELETE":
            return 200, _operation(self.account.resources[kind].pop(name))
        return 200, self.account.resources[kind][name]


def _operation(result: dict[str, Any]) -> dict[str, Any]:
    return {"operation": {"operation_id": str(uuid.uuid4()), "state": "SUCCEEDED", "result": result}}
