"""A client of the machine API that sends bytes, headers and JSON unchanged."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

REGISTER = "/api/v1/machine/register"
KEEPALIVE = "/api/v1/machine/keepalive"
LIST = "/api/v1/machine/list"
CONFIG = "/api/v1/machine/config"
HEALTH = "/api/v1/health"

METRICS = {
    "total_cpu_available": 8000,
    "total_memory_available": 16384,
    "total_disk_space_bytes": 0,
    "total_disk_free_bytes": 0,
    "cpu_utilization_pct": 15.5,
    "memory_utilization_pct": 42.3,
    "worker_count": 0,
    "container_count": 0,
    "free_gpu_count": 1,
    "cache_usage_pct": 0.0,
    "cache_capacity": 0,
    "cache_memory_usage": 0,
    "cache_cpu_usage": 0.0,
}


@dataclass(frozen=True)
class Answer:
    """A reply as received."""

    status: int
    raw: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def message(self) -> str:
        """The text of an error, which has no other field."""
        assert list(self.json) == ["message"]
        return str(self.json["message"])


@dataclass
class Caller:
    """A client of one gateway. Without a `token` it sends no Authorization header."""

    port: int
    token: str | None
    machine_id: str = "1165a9b6"

    def send(
        self, method: str, path: str, body: bytes = b"", content_type: str | None = "application/json"
    ) -> Answer:
        headers = {}
        if content_type is not None:
            headers["Content-Type"] = content_type
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body or None, headers)
            reply = connection.getresponse()
            return Answer(reply.status, reply.read(), {k.lower(): v for k, v in reply.getheaders()})
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.send("GET", path)

    def post(self, path: str, body: Any) -> Answer:
        return self.send("POST", path, json.dumps(body).encode())

    def registration(self, **changes: Any) -> dict[str, Any]:
        """Return a valid registration with changes; a change to `...` omits the field."""
        body = {
            "token": "k3s-token",
            "machine_id": self.machine_id,
            "hostname": "127.71.0.7",
            "provider_name": "generic",
            "pool_name": "gpu",
            "cpu": "8000m",
            "memory": "16384Mi",
            "gpu_count": "1",
            "private_ip": "10.0.0.5",
        }
        return {name: value for name, value in (body | changes).items() if value is not ...}

    def register(self, **changes: Any) -> Answer:
        return self.post(REGISTER, self.registration(**changes))

    def keepalive(self, **changes: Any) -> Answer:
        """Send a valid keepalive with changes; a change to `...` omits the field."""
        body = {
            "machine_id": self.machine_id,
            "provider_name": "generic",
            "pool_name": "gpu",
            "agent_version": "0.1.0",
            "metrics": METRICS,
        }
        return self.post(KEEPALIVE, {k: v for k, v in (body | changes).items() if v is not ...})
