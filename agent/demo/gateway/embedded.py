"""A Beta9 gateway to try the agent against: the machine API on loopback, leases, faults, placement.

Stands for the real gateway, which needs PostgreSQL, Redis and a cluster. What it answers is in api.py, what it
does with the machines in placement.py; this file puts it on a socket. `python -m agent.demo.gateway` runs it as
a process of its own, driven through the admin interface of admin.py.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any

from agent.demo.gateway.admin import admin_server
from agent.demo.gateway.cluster_config import ClusterConfig
from agent.demo.gateway.connection import GatewayConnection
from agent.demo.gateway.faults import Fault, FaultBook
from agent.demo.gateway.machines import Machine, MachineRegistry
from agent.demo.gateway.options import GatewaySettings, Log, parsed_pool
from agent.demo.gateway.placement import Placement
from agent.demo.gateway.pool_health import HealthMonitor
from agent.demo.gateway.routes import GatewayState, route_name
from agent.demo.gateway.tokens import TokenKind, TokenTable, new_token
from agent.demo.httpd import HttpService
from agent.demo.messages import Request
from agent.demo.process import wait_for_a_signal, write_ready_file

LOG_LENGTH = 20_000


@dataclass(frozen=True)
class LoggedRequest:
    """One request in the gateway's log. Secrets are there as their SHA-256 only."""

    at_s: float
    route: str
    machine_id: str
    status: int | None
    """None where no reply was sent."""
    bearer_sha256: str
    body: Any
    fault: str | None = None


@dataclass
class _Clocks:
    settings: GatewaySettings
    ahead_s: float = 0.0

    def monotonic(self) -> float:
        return self.settings.clock() + self.ahead_s

    def wall(self) -> float:
        return self.settings.wall_clock() + self.ahead_s


def log_line(text: str, fields: Mapping[str, Any]) -> None:
    """The default log: one line through the logging module."""
    logging.getLogger("beta9.gateway").info("%s %s", text, " ".join(f"{k}={v}" for k, v in fields.items()))


class EmbeddedGateway:
    """The gateway, as a context manager or by start() and stop(); started again, it has its state still."""

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

    @property
    def port(self) -> int:
        """The port of the machine API; 0 before the first start if any would do."""
        return self._http.port

    @property
    def url(self) -> str:
        return f"http://{self.settings.host}:{self.port}"

    def start(self) -> None:
        self.state.pause.clear()
        self._http.start()
        self.placement.start()
        self.health.start()

    def stop(self) -> None:
        """Refuse connections and end those that there are; machines, tokens and log stay."""
        self.state.pause.set()
        self._http.stop()
        self.placement.stop()
        self.health.stop()

    def __enter__(self) -> EmbeddedGateway:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def create_machine(self, pool_name: str = "gpu", machine_id: str | None = None) -> Machine:
        """What `beta9 machine create --pool` does. Raises: KeyError for a pool that is not configured."""
        pool = self.state.pools[pool_name]
        with self.state.lock:
            return self.state.machines.create(
                pool, machine_id or secrets.token_hex(4), self.new_token(), self.now_s(), self._clocks.wall()
            )

    def new_token(self, kind: TokenKind = TokenKind.MACHINE) -> str:
        with self.state.lock:
            return self.state.tokens.add(new_token(), kind)

    def delete_machine(self, machine_id: str) -> int:
        """What `beta9 machine delete` does: remove the entry (how many there were), not token or Jobs."""
        with self.state.lock:
            found = list(self.state.machines.find(machine_id, self.now_s()))
            return sum(self.state.machines.delete(machine.key) for machine in found)

    def machines(self) -> tuple[Machine, ...]:
        return self.state.live_machines()

    def machine(self, machine_id: str) -> Machine | None:
        """The machine's entry in its pool; one elsewhere (wrong provider) if that is all there is."""
        found = [machine for machine in self.machines() if machine.machine_id == machine_id]
        at_home = [m for m in found if m.provider == self.state.pools[m.pool_name].provider]
        return next(iter(at_home or found), None)

    def would_place(self, machine_id: str) -> tuple[bool, str]:
        """Could a worker come to this machine, however many are wanted? With the reason if not."""
        machine = self.machine(machine_id)
        if machine is None:
            return False, "no such machine"
        reason = machine.why_nothing_is_placed(self.state.pools[machine.pool_name])
        return reason is None, reason or "ready, and capacity is offered"

    def wipe(self) -> None:
        """As when the gateway's Redis restarts: machines, workers and the token cache are lost."""
        with self.state.lock:
            self.state.machines.wipe()
            self.state.tokens.forget_cache()
        self.placement.wipe()

    def set_fault(self, fault: Fault) -> int:
        return self.faults.set(fault, self.now_s())

    def advance(self, seconds: float) -> None:
        """Let the gateway's clocks jump ahead, so that leases run out without waiting for them."""
        self._clocks.ahead_s += seconds

    def now_s(self) -> float:
        return self._clocks.monotonic()

    def requests(self, route: str | None = None, machine_id: str | None = None) -> tuple[LoggedRequest, ...]:
        """The requests that came, oldest first."""
        return tuple(
            entry
            for entry in tuple(self._requests)
            if route in {None, entry.route} and machine_id in {None, entry.machine_id}
        )

    def note(self, request: Request, status: int | None, fault: str | None) -> None:
        """Keep a request for later assertions."""
        body = _legible(request.body)
        shown = body if isinstance(body, dict) else {}
        self._requests.append(
            LoggedRequest(
                at_s=self.now_s(),
                route=route_name(request),
                machine_id=str(shown.get("machine_id", "")),
                status=status,
                bearer_sha256=_digest(request.bearer),
                body=body,
                fault=fault,
            )
        )


def _new_state(settings: GatewaySettings, clocks: _Clocks) -> GatewayState:
    suffix, config = "", None
    if settings.direct_redis_host:
        config = ClusterConfig.made(settings.direct_redis_host, (pool.name for pool in settings.pools))
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


def _legible(body: bytes) -> Any:
    """The body as JSON with its token hidden, or its length where it is no JSON object."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return f"{len(body)} bytes"
    if isinstance(value, dict) and isinstance(value.get("token"), str):
        return {**value, "token": _digest(value["token"])}
    return value


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m agent.demo.gateway", description="An embedded gateway.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1994, help="of the machine API; 0: any")
    parser.add_argument("--admin-port", type=int, default=0, help="of the admin interface; 0: any")
    parser.add_argument("--pool", action="append", help="NAME[:GPU_TYPE[:PROVIDER]], once for each pool")
    parser.add_argument("--ttl", type=float, default=300, metavar="SECONDS")
    parser.add_argument("--pending-ttl", type=float, default=3600, metavar="SECONDS")
    parser.add_argument("--direct-redis-host", default="127.0.0.1", help="empty: config is null")
    parser.add_argument("--register-pause", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--no-keepalive-route", action="store_true", help="as an unmodified upstream gateway")
    parser.add_argument("--k3s-port", type=int, default=6443)
    parser.add_argument("--demand", type=int, default=0, help="workers that each pool wants")
    parser.add_argument("--placement-interval", type=float, default=1, metavar="SECONDS")
    parser.add_argument("--cleanup-interval", type=float, default=60, metavar="SECONDS")
    parser.add_argument("--health-interval", type=float, default=10, metavar="SECONDS")
    parser.add_argument("--ready-file", type=Path, help="gets url and admin_url when the gateway listens")
    return parser.parse_args(argv)


def _settings(given: argparse.Namespace) -> GatewaySettings:
    return GatewaySettings(
        pools=tuple(parsed_pool(text) for text in given.pool or ["gpu"]),
        host=given.host,
        port=given.port,
        ttl_s=given.ttl,
        pending_ttl_s=given.pending_ttl,
        direct_redis_host=given.direct_redis_host,
        register_pause_s=given.register_pause,
        keepalive_route=not given.no_keepalive_route,
        k3s_port=given.k3s_port,
        demand=given.demand,
        placement_interval_s=given.placement_interval,
        cleanup_interval_s=given.cleanup_interval,
        health_interval_s=given.health_interval,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run a gateway until a signal ends it."""
    given = _arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with EmbeddedGateway(_settings(given)) as gateway:
        admin = admin_server(gateway, given.admin_port)
        admin.start()
        write_ready_file(given.ready_file, {"url": gateway.url, "admin_url": admin.url, "port": gateway.port})
        wait_for_a_signal()
        admin.stop()


if __name__ == "__main__":
    main()
