"""Stands in for Crusoe's API: the routes that the provider's VMs, networks, subnets and firewall rules use.

As the provider's own client has them: what takes time answers with an operation, here one that has succeeded. Nothing
is started, signatures are not checked, and any request may be told to fail.
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
"""What is made at once stands under this name in the answer."""


@dataclass
class CrusoeCloud:
    """One account: what there is, by kind and id, and every request as (method, path, body)."""

    things: dict[str, dict[str, dict[str, Any]]] = field(
        default_factory=lambda: {VMS: {}, NETWORKS: {}, SUBNETS: {}, RULES: {}}
    )
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    vm_read_status: int = 200
    """Answer this when a VM is asked for; 403 is an error that the provider does not repeat."""
    url: str = ""

    def make(self, kind: str, project: str, wanted: dict[str, Any]) -> dict[str, Any]:
        made = {**wanted, "id": str(uuid.uuid4())}
        if kind == VMS:
            made = _vm(made, project)
        elif kind == RULES:
            made["state"] = "active"
        self.things[kind][made["id"]] = made
        return made


def _vm(wanted: dict[str, Any], project: str) -> dict[str, Any]:
    interface = (wanted.get("network_interfaces") or [{}])[0]
    address = {
        "private_ipv4": {"address": "10.200.0.2"},
        "public_ipv4": {"address": "127.0.0.1", "id": str(uuid.uuid4()), "type": "dynamic"},
    }
    return {
        "id": wanted["id"],
        "name": wanted["name"],
        "type": wanted["type"],
        "location": wanted["location"],
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
        """Say nothing: `requests` has it."""

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(raw) if raw else None
        path = self.path.partition("?")[0]
        self.account.requests.append((self.command, path, body))
        status, said = self._routed(path, body)
        text = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _routed(self, path: str, body: Any) -> tuple[int, Any]:
        if path == "/v1/users/identities":
            return 200, {"identity": {"id": str(uuid.uuid4()), "email": "me@example.com"}}
        if path.startswith("/v1/organizations/projects/"):
            return 200, {
                "id": path.rpartition("/")[2],
                "name": "default",
                "organization_id": str(uuid.uuid4()),
            }
        return self._thing(path, body)

    def _thing(self, path: str, body: Any) -> tuple[int, Any]:
        route = ROUTE.match(path)
        if route is None or route[2] not in self.account.things:
            return 404, {"code": "not_found", "message": f"no such path {path}"}
        project, kind, name = route.groups()
        if self.command == "POST":
            made = self.account.make(kind, project, body)
            return 200, {INLINE[kind]: made} if kind in INLINE else _operation(made)
        if kind == VMS and self.account.vm_read_status != 200:
            return self.account.vm_read_status, {"code": "error", "message": "an unforeseen error"}
        if name not in self.account.things[kind]:
            return 404, {"code": "not_found", "message": "there is none"}
        if self.command == "DELETE":
            return 200, _operation(self.account.things[kind].pop(name))
        return 200, self.account.things[kind][name]


def _operation(result: dict[str, Any]) -> dict[str, Any]:
    return {"operation": {"operation_id": str(uuid.uuid4()), "state": "SUCCEEDED", "result": result}}
