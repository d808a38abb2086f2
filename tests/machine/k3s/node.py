"""The machine's node object, as a kubelet would report it: registered, ready, with this machine's resources."""

from __future__ import annotations

import json
import os
import ssl
import time
from datetime import datetime, timezone
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

from .config import Config

MERGE = "application/merge-patch+json"
HEARTBEAT_S = 60.0
TIMEOUT_S = 60.0


class Node:
    """Reports this machine's node. `tls` is the directory with the administrator's client certificate."""

    def __init__(self, config: Config, tls: Path, port: int) -> None:
        self._name = config.node_name
        self._labels = dict(each.split("=", 1) for each in config.list("node-label") if "=" in each)
        self._port = port
        self._context = ssl.create_default_context(cafile=str(tls / "server-ca.crt"))
        self._context.load_cert_chain(tls / "client-admin.crt", tls / "client-admin.key")
        self._reported_at_s = -HEARTBEAT_S

    def api_answers(self) -> bool:
        """Return whether the API server is ready."""
        try:
            return self._ask("GET", "/readyz")[0] == 200
        except (OSError, HTTPException):
            return False

    def report(self) -> None:
        """Create the node if it does not exist, and report it as ready, at most once a minute."""
        if time.monotonic() < self._reported_at_s + HEARTBEAT_S:
            return
        labels = {"kubernetes.io/hostname": self._name, "kubernetes.io/os": "linux", **self._labels}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self._name, "labels": labels}}
        code, reply = self._ask("POST", "/api/v1/nodes", node)
        if code not in {201, 409}:
            raise RuntimeError(f"cannot create the node: {reply}")
        if code == 201:
            # The not-ready taint is set on registration and normally removed by a controller once a kubelet is ready.
            self._ask("PATCH", f"/api/v1/nodes/{self._name}", {"spec": {"taints": None}})
        code, _ = self._ask("PATCH", f"/api/v1/nodes/{self._name}/status", {"status": self._status()})
        if code == 200:
            self._reported_at_s = time.monotonic()

    def _status(self) -> dict[str, Any]:
        memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        resources = {"cpu": str(os.cpu_count()), "memory": f"{memory_bytes // 1024}Ki", "pods": "110"}
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        conditions = [
            {"type": kind, "status": status, "lastHeartbeatTime": now}
            for kind, status in (
                ("MemoryPressure", "False"),
                ("DiskPressure", "False"),
                ("PIDPressure", "False"),
                ("Ready", "True"),
            )
        ]
        return {"capacity": resources, "allocatable": resources, "conditions": conditions}

    def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        connection = HTTPSConnection("127.0.0.1", self._port, timeout=TIMEOUT_S, context=self._context)
        try:
            kind = MERGE if method == "PATCH" else "application/json"
            headers = {"Content-Type": kind, "Accept": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            reply = connection.getresponse()
            return reply.status, reply.read().decode(errors="replace")
        finally:
            connection.close()
