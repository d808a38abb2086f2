"""The configuration that the gateway returns to every machine that registers: large, and full of secrets.

Models the real one (13 kB: database, object store, Tailscale key …), which an agent must never log or store. Each
gateway generates its own secrets, so that tests can search for them everywhere.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

SIZE_BYTES = 13_000  # as observed on a real gateway


def _secret() -> str:
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class ClusterConfig:
    """`value` is sent as JSON; `secrets()` are the values in it that must appear nowhere else."""

    direct_redis_host: str
    value: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def generate(
        cls, direct_redis_host: str, pool_names: Iterator[str], redis_port: int = 6379
    ) -> ClusterConfig:
        """Return a configuration with new random secrets."""
        host = direct_redis_host
        value: dict[str, Any] = {
            "clusterName": "beta9-demo",
            "database": {
                "redis": {"mode": "single", "addrs": [f"{host}:{redis_port}"], "password": _secret()},
                "postgres": {"host": host, "port": 5432, "username": "postgres", "password": _secret()},
            },
            "storage": {
                "mode": "juicefs",
                "juicefs": {"redisURI": f"redis://:{_secret()}@{host}:6379/0"},
                "objectStore": {
                    "endpointURL": f"http://{host}:31566",
                    "accessKey": _secret(),
                    "secretKey": _secret(),
                },
            },
            "tailscale": {"enabled": False, "authKey": _secret(), "directRedisHost": host},
            "worker": {"pools": {name: {"mode": "external"} for name in pool_names}},
            "monitoring": {"victoriametrics": {"authToken": _secret()}},
        }
        value["gateway"] = {"motd": "x" * (SIZE_BYTES - len(str(value)))}
        return cls(direct_redis_host, value)

    def secrets(self) -> tuple[str, ...]:
        """Return every secret in `value`."""
        database, storage = self.value["database"], self.value["storage"]
        return (
            database["redis"]["password"],
            database["postgres"]["password"],
            storage["juicefs"]["redisURI"],
            storage["objectStore"]["accessKey"],
            storage["objectStore"]["secretKey"],
            self.value["tailscale"]["authKey"],
            self.value["monitoring"]["victoriametrics"]["authToken"],
        )
