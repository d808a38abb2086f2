"""The gateway's answers by route: the contract, without sockets.

Where an answer looks wrong (500 for an unknown machine, a machine marked ready by a call that fails), the real gateway
returns exactly that. Time comes from the clocks in `GatewayState`; the only wait is the pause of a register call
without directRedisHost.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from urllib.parse import parse_qs

from agent.demo.gateway import go_json
from agent.demo.gateway.cluster_config import ClusterConfig
from agent.demo.gateway.machines import (
    READY,
    REGISTERED,
    Machine,
    MachineNotFoundError,
    MachineRegistry,
    NoMetricsError,
    Pool,
    Registration,
)
from agent.demo.gateway.tokens import TokenKind, TokenTable
from agent.demo.messages import Reply, Request

BASE = "/api/v1"
ROUTES: Mapping[str, tuple[str, str]] = {
    "health": ("GET", f"{BASE}/health"),
    "register": ("POST", f"{BASE}/machine/register"),
    "keepalive": ("POST", f"{BASE}/machine/keepalive"),
    "list": ("GET", f"{BASE}/machine/list"),
    "config": ("GET", f"{BASE}/machine/config"),
}


def route_name(request: Request) -> str:
    """Return the route's short name, `unknown` if none matches method and path."""
    wanted = (request.method, request.path)
    return next((name for name, pair in ROUTES.items() if pair == wanted), "unknown")


class GatewayState:
    """Everything the gateway knows. `lock` guards all that is mutable."""

    def __init__(  # noqa: PLR0913 - what the settings decide, by keyword only
        self,
        *,
        pools: Mapping[str, Pool],
        machines: MachineRegistry,
        tokens: TokenTable,
        config: ClusterConfig | None,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        hostname_suffix: str = "",
        register_pause_s: float = 0.0,
        keepalive_route: bool = True,
    ) -> None:
        self.pools = pools
        self.machines = machines
        self.tokens = tokens
        self.config = config
        self.clock = clock
        self.wall_clock = wall_clock
        self.hostname_suffix = hostname_suffix
        self.register_pause_s = register_pause_s
        self.keepalive_route = keepalive_route
        self.redis_error: str | None = None
        self.stopping = threading.Event()
        """Set while the gateway is stopped; it ends every wait."""
        self.lock = threading.RLock()

    def live_machines(self) -> tuple[Machine, ...]:
        """Return every machine whose lease has not expired."""
        with self.lock:
            return self.machines.all(self.clock())


def message(status: int, text: str) -> Reply:
    """Return an error reply, whose JSON has `message` only."""
    return Reply(status, go_json.to_json({"message": text}))


def _internal_error() -> Reply:
    return message(500, "Internal Server Error")


def answer(state: GatewayState, request: Request) -> Reply:
    """Return the reply to a request. Below /machine/ the token is checked before the route, as in the gateway."""
    if request.path.startswith(f"{BASE}/machine/"):
        return _machine_route(state, request)
    if route_name(request) == "health":
        return _health(state)
    return message(HTTPStatus.NOT_FOUND, "Not Found")


def _health(state: GatewayState) -> Reply:
    if state.redis_error:
        return Reply(500, go_json.to_json({"error": state.redis_error, "status": "not ok"}))
    return Reply(200, go_json.to_json({"status": "ok"}))


def _machine_route(state: GatewayState, request: Request) -> Reply:
    kind = None
    if request.bearer:
        with state.lock:
            kind = state.tokens.authorize(request.bearer, state.clock())
        if kind is None:
            return message(401, "Unauthorized")
    handler = _HANDLERS.get(route_name(request))
    if handler is None or (route_name(request) == "keepalive" and not state.keepalive_route):
        return message(404, "Not Found")
    if kind is None or state.redis_error:
        return _internal_error()
    if kind is TokenKind.WORKSPACE:
        return message(403, "Invalid token")
    try:
        return handler(state, request)
    except go_json.PayloadError:
        return message(400, "Invalid payload")


def _register(state: GatewayState, request: Request) -> Reply:
    payload = go_json.bind(request.headers.get("content-type", ""), request.body, go_json.REGISTER_FIELDS)
    if state.config is None:
        state.stopping.wait(state.register_pause_s)
    try:
        cpu = go_json.cpu_millicores(payload["cpu"])
    except ValueError:
        return message(500, "Invalid machine cpu value")
    try:
        memory = go_json.memory_mib(payload["memory"])
    except ValueError:
        return message(500, "Invalid machine memory value")
    try:
        gpus = go_json.gpu_count(payload["gpu_count"])
    except ValueError:
        return message(500, "Invalid gpu count")
    pool = state.pools.get(payload["pool_name"])
    if pool is None:
        return message(500, "Invalid pool name")
    return _registered(state, pool, payload, Registration(
        payload["hostname"] + state.hostname_suffix, payload["token"], cpu, memory, gpus, payload["private_ip"]
    ))  # fmt: skip


def _registered(
    state: GatewayState, pool: Pool, payload: Mapping[str, str], registration: Registration
) -> Reply:
    with state.lock:
        machine = state.machines.register(
            payload["provider_name"],
            pool,
            payload["machine_id"],
            registration,
            state.clock(),
            state.wall_clock(),
        )
    machine_state = {
        "machine_id": machine.machine_id,
        "status": REGISTERED,
        "pool_name": pool.name,
        "ttl_seconds": int(state.machines.ttl_s),
    }
    config = state.config.value if state.config else None
    return Reply(200, go_json.to_json({"config": config, "machine_state": machine_state}))


def _keepalive(state: GatewayState, request: Request) -> Reply:
    payload = go_json.bind(request.headers.get("content-type", ""), request.body, go_json.KEEPALIVE_FIELDS)
    if not payload["machine_id"] or not payload["pool_name"]:
        return message(400, "machine_id and pool_name are required")
    provider = payload["provider_name"] or "generic"
    key = f"provider:machine:{provider}:{payload['pool_name']}:{payload['machine_id']}"
    try:
        with state.lock:
            machine = state.machines.keepalive(
                key, payload["agent_version"], payload["metrics"], state.clock(), state.wall_clock()
            )
    except MachineNotFoundError as error:
        return message(500, f"Failed to update keepalive: {error}")
    except NoMetricsError:
        return _internal_error()
    return Reply(200, go_json.to_json({"status": "ok", "machine_state": _ready_state(state, machine)}))


def _ready_state(state: GatewayState, machine: Machine) -> dict[str, object]:
    fields: dict[str, object] = {
        "machine_id": machine.machine_id,
        "status": READY,
        "pool_name": machine.pool_name,
        "last_keepalive": machine.last_keepalive,
        "ttl_seconds": int(state.machines.ttl_s),
    }
    if machine.agent_version:
        fields["agent_version"] = machine.agent_version
    return fields


def _list(state: GatewayState, request: Request) -> Reply:
    query = parse_qs(request.query, keep_blank_values=True)
    wanted = (query.get("provider_name", [""])[0], query.get("pool_name", [""])[0])
    listed = [
        {"state": wire_state(machine), "metrics": machine.metrics}
        for machine in state.live_machines()
        if machine.status == READY and (machine.provider, machine.pool_name) == wanted
    ]
    return Reply(200, go_json.to_json(listed))


def _config(state: GatewayState, _request: Request) -> Reply:
    if state.config is None:
        return message(500, "Unable to create remote config")
    return Reply(200, go_json.to_json({"config": state.config.value}))


def wire_state(machine: Machine) -> dict[str, object]:
    """Return a machine as the gateway lists it to any machine token: with the k3s token in clear text."""
    return {
        "machine_id": machine.machine_id,
        "pool_name": machine.pool_name,
        "status": machine.status,
        "hostname": machine.hostname,
        "token": machine.token,
        "cpu": machine.cpu_millicores,
        "memory": machine.memory_mib,
        "gpu": machine.gpu_type,
        "gpu_count": machine.gpu_count,
        "registration_token": machine.registration_token,
        "private_ip": machine.private_ip,
        "created": machine.created,
        "last_worker_seen": "",
        "last_keepalive": machine.last_keepalive,
        "auto_consolidate": False,
        "agent_version": machine.agent_version,
    }


_HANDLERS: Mapping[str, Callable[[GatewayState, Request], Reply]] = {
    "register": _register,
    "keepalive": _keepalive,
    "list": _list,
    "config": _config,
}
