"""A Beta9 gateway to try the agent against: the machine API on loopback, leases, placement, faults.

Models the real gateway, which needs PostgreSQL, Redis and a cluster. routes.py decides its answers and placement.py
what it does with machines; this file serves it on a socket. `python -m agent.demo.gateway` runs it as a separate
process, controlled through the admin interface of admin.py. With a port for Redis it also runs functions, endpoints and
pods on its workers (agent/demo/serving); by default its workers get no work.
"""

from __future__ import annotations

import functools
import json
import logging
import secrets
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import TracebackType
from typing import Any

from agent.demo.gateway.cluster_config import ClusterConfig
from agent.demo.gateway.connection import GatewayConnection
from agent.demo.gateway.faults import Fault, FaultBook
from agent.demo.gateway.machines import Machine, MachineRegistry
from agent.demo.gateway.options import GatewaySettings, Log
from agent.demo.gateway.placement import Placement
from agent.demo.gateway.pool_health import HealthMonitor
from agent.demo.gateway.routes import GatewayState, route_name
from agent.demo.gateway.tokens import TokenKind, TokenTable, new_token
from agent.demo.httpd import HttpService
from agent.demo.messages import Request
from agent.demo.remote import CallServer
from agent.demo.serving.workloads import Workloads

LOG_LENGTH = 20_000


@dataclass(frozen=True)
class LoggedRequest:
    """One request in the gateway's log. Secrets appear only as their SHA-256."""

    at_s: float
    route: str
    machine_id: str
    status: int | None
    """None if no reply was sent."""
    bearer_sha256: str
    body: Any
    fault: str | None = None


class _Clocks:
    """The configured clocks, moved forward by `ahead_s`."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.ahead_s = 0.0
        self._settings = settings

    def monotonic(self) -> float:
        return self._settings.clock() + self.ahead_s

    def wall(self) -> float:
        return self._settings.wall_clock() + self.ahead_s


def log_line(text: str, fields: Mapping[str, object]) -> None:
    """Log one line through the logging module; the default log."""
    logging.getLogger("beta9.gateway").info("%s %s", text, " ".join(f"{k}={v}" for k, v in fields.items()))


class EmbeddedGateway:
    """The gateway, as a context manager or by start() and stop(). Its state survives a restart."""

    def __init__(self, settings: GatewaySettings | None = None, log: Log = log_line) -> None:
        self.settings = settings or GatewaySettings()
        self.faults = FaultBook()
        self._clocks = _Clocks(self.settings)
        self.state = _new_state(self.settings, self._clocks)
        self._requests: deque[LoggedRequest] = deque(maxlen=LOG_LENGTH)
        self._http = HttpService(
            functools.partial(GatewayConnection, self), self.settings.host, self.settings.port
        )
        self.placement = Placement(self.state, self.settings, log)
        self.health = HealthMonitor(self.state, self.placement, self.settings.health_interval_s, log)
        self.workloads = Workloads(self.placement.worker_of)
        self._redis = _redis(self.workloads, self.settings.redis_port)

    @property
    def port(self) -> int:
        """The port of the machine API; 0 before the first start if it was left open."""
        return self._http.port

    @property
    def url(self) -> str:
        return f"http://{self.settings.host}:{self.port}"

    def start(self) -> None:
        """Serve the machine API, and start placement and health checks."""
        self.state.stopping.clear()
        self._http.start()
        self.placement.start()
        self.health.start()
        if self._redis is not None:
            self._redis.start()

    def stop(self) -> None:
        """Close all connections and refuse new ones; machines, tokens and the request log are kept."""
        self.state.stopping.set()
        self._http.stop()
        self.placement.stop()
        self.health.stop()
        if self._redis is not None:
            self._redis.stop()

    def __enter__(self) -> EmbeddedGateway:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def create_machine(self, pool_name: str = "gpu", machine_id: str | None = None) -> Machine:
        """Do what `beta9 machine create --pool` does. Raises: KeyError for a pool that is not configured."""
        pool = self.state.pools[pool_name]
        with self.state.lock:
            return self.state.machines.create(
                pool, machine_id or secrets.token_hex(4), self.new_token(), self.now_s(), self._clocks.wall()
            )

    def new_token(self, kind: TokenKind = TokenKind.MACHINE) -> str:
        """Create a valid token of that kind."""
        with self.state.lock:
            return self.state.tokens.add(new_token(), kind)

    def delete_machine(self, machine_id: str) -> int:
        """Do what `beta9 machine delete` does: remove the entries, but neither token nor Jobs. Return their number."""
        with self.state.lock:
            entries = list(self.state.machines.find(machine_id, self.now_s()))
            return sum(self.state.machines.delete(machine.key) for machine in entries)

    def machines(self) -> tuple[Machine, ...]:
        """Return every entry whose lease has not expired."""
        return self.state.live_machines()

    def machine(self, machine_id: str) -> Machine | None:
        """Return the machine's entry in its pool, else one under another provider, else None."""
        entries = [machine for machine in self.machines() if machine.machine_id == machine_id]
        in_pool = [m for m in entries if m.provider == self.state.pools[m.pool_name].provider]
        return next(iter(in_pool or entries), None)

    def would_place(self, machine_id: str) -> tuple[bool, str]:
        """Return whether a worker could be placed on this machine, regardless of demand, and the reason."""
        machine = self.machine(machine_id)
        if machine is None:
            return False, "no such machine"
        reason = machine.placement_blocker(self.state.pools[machine.pool_name])
        return reason is None, reason or "ready, and capacity is offered"

    def wipe(self) -> None:
        """Lose machines, workers and the token cache, as when the gateway's Redis restarts."""
        with self.state.lock:
            self.state.machines.wipe()
            self.state.tokens.forget_cache()
        self.placement.wipe()

    def set_fault(self, fault: Fault) -> int:
        """Inject a fault from now on and return its number."""
        return self.faults.set(fault, self.now_s())

    def advance(self, seconds: float) -> None:
        """Move the gateway's clocks forward, so that leases expire without waiting."""
        self._clocks.ahead_s += seconds

    def now_s(self) -> float:
        """Return the time on the gateway's monotonic clock."""
        return self._clocks.monotonic()

    def requests(self, route: str | None = None, machine_id: str | None = None) -> tuple[LoggedRequest, ...]:
        """Return the logged requests, oldest first."""
        return tuple(
            entry
            for entry in tuple(self._requests)
            if route in {None, entry.route} and machine_id in {None, entry.machine_id}
        )

    def note(self, request: Request, status: int | None, fault: str | None) -> None:
        """Log a request for later assertions."""
        body = _loggable(request.body)
        fields = body if isinstance(body, dict) else {}
        self._requests.append(
            LoggedRequest(
                at_s=self.now_s(),
                route=route_name(request),
                machine_id=str(fields.get("machine_id", "")),
                status=status,
                bearer_sha256=_digest(request.bearer),
                body=body,
                fault=fault,
            )
        )


def _redis(workloads: Workloads, port: int | None) -> CallServer | None:
    """Return what stands in for Redis, by which workers get their containers and say where they run."""
    calls = (workloads.worker_started, workloads.next_container, workloads.container_started)
    return None if port is None else CallServer({each.__name__: each for each in calls}, port)


def _new_state(settings: GatewaySettings, clocks: _Clocks) -> GatewayState:
    suffix, config = "", None
    if settings.direct_redis_host:
        names = (pool.name for pool in settings.pools)
        config = ClusterConfig.generate(settings.direct_redis_host, names, settings.redis_port or 6379)
    else:
        parts = (settings.tailscale_user, settings.tailscale_host_name)
        suffix = "".join(f".{part}" for part in parts if part)
    return GatewayState(
        pools={pool.name: pool for pool in settings.pools},
        machines=MachineRegistry(settings.ttl_s, settings.pending_ttl_s),
        tokens=TokenTable(settings.token_cache_s),
        config=config,
        clock=clocks.monotonic,
        wall_clock=clocks.wall,
        hostname_suffix=suffix,
        register_pause_s=settings.register_pause_s,
        keepalive_route=settings.keepalive_route,
    )


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _loggable(body: bytes) -> Any:
    """Return the body as JSON with its token hashed, or its length if it is not JSON."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return f"{len(body)} bytes"
    if isinstance(value, dict) and isinstance(value.get("token"), str):
        return {**value, "token": _digest(value["token"])}
    return value
