"""Settings of the embedded gateway: those of a real configuration, and the intervals that tests shorten."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.demo.gateway.machines import Pool

Log = Callable[[str, Mapping[str, object]], None]
"""Receives an event's text and its fields, as in the gateway's own log."""


@dataclass(frozen=True)
class GatewaySettings:
    """The gateway's configuration, with defaults as on a real gateway unless noted."""

    pools: tuple[Pool, ...] = (Pool(),)
    host: str = "127.0.0.1"
    port: int = 0
    ttl_s: float = 300
    pending_ttl_s: float = 3600
    token_cache_s: float = 600
    direct_redis_host: str = "127.0.0.1"
    """If empty, as on a gateway that expects Tailscale, config is null and hostnames get a suffix."""
    tailscale_host_name: str = "tailnet.example"
    tailscale_user: str = "beta9"
    register_pause_s: float = 0
    """A real gateway without directRedisHost takes 5 s."""
    keepalive_route: bool = True
    """False: an unmodified upstream gateway."""
    k3s_port: int = 6443
    redis_port: int | None = None
    """Where workers get their containers; None: nothing is run on them."""
    demand: int = 0
    """Number of workers that each pool wants."""
    placement_interval_s: float = 1
    cleanup_interval_s: float = 60
    worker_ttl_s: float = 60
    """A worker's own state at the gateway outlives the worker this long."""
    health_interval_s: float = 10
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time

    @property
    def domain(self) -> str:
        """The domain in which the gateway dials machines, as `machine-<id>.<domain>`."""
        return f"{self.tailscale_user}.{self.tailscale_host_name}"


def parse_pool(text: str) -> Pool:
    """Parse `NAME[:GPU_TYPE[:PROVIDER[:RUNTIME]]]`; an empty GPU type makes a pool without GPUs."""
    name, *rest = text.split(":")
    gpu_type, provider, runtime = [*rest, *("A10G", "generic", "")[len(rest) :]][:3]
    count = 1 if gpu_type else 0
    return Pool(name=name, gpu_type=gpu_type, provider=provider, worker_gpu_count=count, runtime=runtime)
