"""The embedded gateway's admin interface: calls that tests and the demo can make, and a client for them.

The client controls a gateway in another process (or in this one) through its second port; see agent/demo/remote.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agent.demo.dial import DialError, Dialler
from agent.demo.gateway.faults import Fault
from agent.demo.gateway.placement import JOBS_PATH
from agent.demo.gateway.tokens import TokenKind
from agent.demo.remote import CallClient, CallServer
from agent.demo.serving.dials import dial

if TYPE_CHECKING:
    from agent.demo.gateway.embedded import EmbeddedGateway


def _create_machine(
    gateway: EmbeddedGateway, pool: str = "gpu", machine_id: str | None = None
) -> dict[str, object]:
    return asdict(gateway.create_machine(pool, machine_id))


def _machines(gateway: EmbeddedGateway) -> list[dict[str, object]]:
    return [asdict(machine) for machine in gateway.machines()]


def _machine(gateway: EmbeddedGateway, machine_id: str) -> dict[str, object] | None:
    machine = gateway.machine(machine_id)
    return asdict(machine) if machine else None


def _would_place(gateway: EmbeddedGateway, machine_id: str) -> dict[str, object]:
    placed, reason = gateway.would_place(machine_id)
    return {"would_place": placed, "reason": reason}


def _set_fault(
    gateway: EmbeddedGateway,
    kind: str,
    route: str = "*",
    count: int | None = None,
    seconds: float | None = None,
    **params: Any,
) -> int:
    return gateway.set_fault(Fault(kind, route, count, seconds, params))


def _requests(
    gateway: EmbeddedGateway, route: str | None = None, machine_id: str | None = None
) -> list[dict[str, object]]:
    return [asdict(entry) for entry in gateway.requests(route, machine_id)]


def _workers(gateway: EmbeddedGateway, pool: str | None = None) -> list[dict[str, object]]:
    return [{**asdict(w), "job_name": w.job_name} for w in gateway.placement.workers(pool)]


def _new_token(gateway: EmbeddedGateway, kind: str = "machine") -> str:
    return gateway.new_token(TokenKind(kind))


def _deactivate_token(gateway: EmbeddedGateway, token: str, forget: bool = True) -> None:
    with gateway.state.lock:
        gateway.state.tokens.deactivate(token)
        if forget:
            gateway.state.tokens.forget_cache()


def _secrets(gateway: EmbeddedGateway) -> list[str]:
    return list(gateway.state.config.secrets()) if gateway.state.config else []


def _redis_down(gateway: EmbeddedGateway, error: str | None) -> None:
    gateway.state.redis_error = error


def _jobs(gateway: EmbeddedGateway, host: str, machine_id: str) -> list[str]:
    """Return the names of the Jobs of the k3s that answers at this host, by the token that the machine registered."""
    machine = gateway.machine(machine_id)
    token = machine.token if machine else ""
    try:
        listed = Dialler(gateway.settings.k3s_port).call(host, token, "GET", JOBS_PATH)
    except DialError as error:
        raise ConnectionError(str(error)) from error
    return [job["metadata"]["name"] for job in listed["items"]]


_CALLS: Mapping[str, Callable[..., Any]] = {
    "create_machine": _create_machine,
    "delete_machine": lambda gateway, machine_id: gateway.delete_machine(machine_id),
    "machines": _machines,
    "machine": _machine,
    "would_place": _would_place,
    "wipe": lambda gateway: gateway.wipe(),
    "set_fault": _set_fault,
    "clear_faults": lambda gateway, number=None: gateway.faults.clear(number),
    "requests": _requests,
    "workers": _workers,
    "placement": lambda gateway: gateway.placement.report(),
    "set_demand": lambda gateway, pool, wanted: gateway.placement.set_demand(pool, wanted),
    "pools_healthy": lambda gateway: dict(gateway.health.healthy),
    "advance": lambda gateway, seconds: gateway.advance(seconds),
    "now": lambda gateway: gateway.now_s(),
    "new_token": _new_token,
    "deactivate_token": _deactivate_token,
    "secrets": _secrets,
    "redis_down": _redis_down,
    "run": lambda gateway, **container: gateway.workloads.run(**container),
    "container": lambda gateway, container_id: gateway.workloads.container(container_id),
    "cancel": lambda gateway, container_id: gateway.workloads.cancel(container_id),
    "exec": lambda gateway, container_id, command: gateway.workloads.execute(container_id, command),
    "worker_ports": lambda gateway: gateway.workloads.ports(),
    "dial": lambda _, host, port, text="": dial(host, port, text),
    "jobs": _jobs,
    "stop_api": lambda gateway: gateway.stop(),
    "start_api": lambda gateway: gateway.start(),
}


def admin_server(gateway: EmbeddedGateway, port: int = 0) -> CallServer:
    """Return the admin interface of a gateway; the caller starts it."""
    return CallServer({name: functools.partial(call, gateway) for name, call in _CALLS.items()}, port)


class GatewayAdmin(CallClient):
    """Controls an embedded gateway through its admin interface. Methods raise AdminError when a call is rejected."""

    def create_machine(self, pool: str = "gpu", machine_id: str | None = None) -> dict[str, Any]:
        """Create a pending machine. A user would get its `registration_token` and `machine_id`."""
        machine: dict[str, Any] = self.call("create_machine", pool=pool, machine_id=machine_id)
        return machine

    def delete_machine(self, machine_id: str) -> int:
        """Remove a machine's entries and return how many there were."""
        return int(self.call("delete_machine", machine_id=machine_id))

    def machines(self) -> list[dict[str, Any]]:
        """Return every live entry, as the fields of `agent.demo.gateway.machines.Machine`."""
        machines: list[dict[str, Any]] = self.call("machines")
        return machines

    def machine(self, machine_id: str) -> dict[str, Any] | None:
        """Return one entry, None if it does not exist or has expired."""
        machine: dict[str, Any] | None = self.call("machine", machine_id=machine_id)
        return machine

    def status(self, machine_id: str) -> str | None:
        """Return `pending`, `registered`, `ready`, or None."""
        machine = self.machine(machine_id)
        return machine["status"] if machine else None

    def would_place(self, machine_id: str) -> tuple[bool, str]:
        """Return whether the gateway could place work on this machine, and why or why not."""
        answer = self.call("would_place", machine_id=machine_id)
        return answer["would_place"], answer["reason"]

    def wipe(self) -> None:
        """Lose machines, workers and token cache, as when Redis restarts."""
        self.call("wipe")

    def set_fault(
        self,
        kind: str,
        route: str = "*",
        count: int | None = None,
        seconds: float | None = None,
        **params: Any,
    ) -> int:
        """Inject a fault and return its number. agent.demo.gateway.faults.KINDS lists kinds and parameters."""
        return int(self.call("set_fault", kind=kind, route=route, count=count, seconds=seconds, **params))

    def clear_faults(self, number: int | None = None) -> None:
        """Clear one fault or all, and release the requests that they block."""
        self.call("clear_faults", number=number)

    def requests(self, route: str | None = None, machine_id: str | None = None) -> list[dict[str, Any]]:
        """Return the request log, as the fields of `agent.demo.gateway.embedded.LoggedRequest`."""
        requests: list[dict[str, Any]] = self.call("requests", route=route, machine_id=machine_id)
        return requests

    def workers(self, pool: str | None = None) -> list[dict[str, Any]]:
        """Return the workers that the gateway has placed."""
        workers: list[dict[str, Any]] = self.call("workers", pool=pool)
        return workers

    def placement(self) -> dict[str, Any]:
        """Return the placement counters by pool and machine."""
        report: dict[str, Any] = self.call("placement")
        return report

    def set_demand(self, pool: str, wanted: int) -> None:
        """Set how many workers the pool wants."""
        self.call("set_demand", pool=pool, wanted=wanted)

    def advance(self, seconds: float) -> None:
        """Move the gateway's clocks forward."""
        self.call("advance", seconds=seconds)

    def new_token(self, kind: str = "machine") -> str:
        """Create a token of the kind `machine`, `worker` or `workspace`."""
        return str(self.call("new_token", kind=kind))

    def deactivate_token(self, token: str, *, forget: bool = True) -> None:
        """Deactivate a token; with `forget`, also drop its cached approval, so that this takes effect at once."""
        self.call("deactivate_token", token=token, forget=forget)

    def secrets(self) -> list[str]:
        """Return the secrets in the configuration that register calls return."""
        values: list[str] = self.call("secrets")
        return values

    def redis_down(self, error: str | None = "dial tcp 127.0.0.1:6379: connect: connection refused") -> None:
        """Take Redis down with `error`, or bring it up again with None."""
        self.call("redis_down", error=error)

    def run(
        self, kind: str, command: Sequence[str], port: int | None = None, machine_id: str | None = None
    ) -> str:
        """Have a worker run a `function`, `endpoint` or `pod` (on that machine); return the container's id."""
        arguments = {"kind": kind, "command": list(command), "port": port, "machine_id": machine_id}
        return str(self.call("run", **arguments))

    def container(self, container_id: str) -> dict[str, Any]:
        """Return the fields of `agent.demo.serving.containers.Container`."""
        container: dict[str, Any] = self.call("container", container_id=container_id)
        return container

    def cancel(self, container_id: str) -> None:
        """End a container through its worker's port."""
        self.call("cancel", container_id=container_id)

    def execute(self, container_id: str, *command: str) -> dict[str, Any]:
        """Run a command in a container through its worker's port; return `exit_code` and `output`."""
        done: dict[str, Any] = self.call("exec", container_id=container_id, command=command)
        return done

    def worker_ports(self) -> dict[str, str]:
        """Return where each worker says it listens, by its id."""
        ports: dict[str, str] = self.call("worker_ports")
        return ports

    def dial(self, host: str, port: int, text: str = "") -> dict[str, Any]:
        """Connect as the gateway does; return the `answer` to `text`, or the `error`, and the seconds to connect."""
        result: dict[str, Any] = self.call("dial", host=host, port=port, text=text)
        return result

    def jobs(self, host: str, machine_id: str) -> list[str]:
        """Return the names of the Jobs on the k3s that answers at `host`, asked as this machine's."""
        jobs: list[str] = self.call("jobs", host=host, machine_id=machine_id)
        return jobs

    def stop_api(self) -> None:
        """Stop the machine API, so that connections are refused; the admin interface stays up."""
        self.call("stop_api")

    def start_api(self) -> None:
        """Start the machine API again on the same port."""
        self.call("start_api")
