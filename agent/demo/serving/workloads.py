"""Functions, endpoints and pods of the embedded gateway, and how it reaches them on the machines.

As the real gateway does, it dials a worker's port once for each container, a tenth of a second after the worker listens
at the earliest, and tells the user if that is refused. It probes what is to be served twice a second.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from agent.demo.gateway.worker_job import Worker
from agent.demo.messages import Reply, Request
from agent.demo.serving.containers import FUNCTION, Container, WorkerPort, next_for, split_address
from agent.demo.serving.dials import fetch, probe
from agent.demo.worker.lines import WorkerCallError, call

FIRST_DIAL_S = 0.1
PROBE_S = 0.5
SERVE_S = 60.0
"""How long a request waits for its container to become ready."""
ROUTES = ("/pod/id/", "/endpoint/id/")


class Workloads:
    """The containers. `worker_of` returns the worker that a token belongs to; it raises PermissionError for others."""

    def __init__(self, worker_of: Callable[[str, str], Worker]) -> None:
        self._worker_of = worker_of
        self._changed = threading.Condition()
        self._containers: dict[str, Container] = {}
        self._ports: dict[str, WorkerPort] = {}

    # --- For users -------------------------------------------------------------------------------------------

    def run(
        self, kind: str, command: Sequence[str], port: int | None = None, machine_id: str | None = None
    ) -> str:
        """Have a worker run a container, as soon as one can; return its id."""
        container = Container(f"{kind}-{secrets.token_hex(4)}", kind, list(command), port, machine_id)
        with self._changed:
            self._containers[container.container_id] = container
            self._changed.notify_all()
        return container.container_id

    def container(self, container_id: str) -> dict[str, Any]:
        """Return what is known of a container. Raises: KeyError."""
        with self._changed:
            return asdict(self._containers[container_id])

    def cancel(self, container_id: str) -> None:
        """End a container. Raises: OSError, LookupError."""
        self._ask(container_id, "cancel")

    def execute(self, container_id: str, command: Sequence[str]) -> dict[str, Any]:
        """Run a command in a container; return exit code and output. Raises: OSError, LookupError."""
        return self._ask(container_id, "exec", command=list(command))

    def ports(self) -> dict[str, str]:
        """Return where each worker listens."""
        with self._changed:
            return {worker_id: port.address for worker_id, port in self._ports.items()}

    def serve(self, request: Request) -> Reply:
        """Answer a request to a pod or an endpoint, once that is ready."""
        container_id, _, path = request.path.removeprefix(_prefix(request)).partition("/")
        with self._changed:
            container = self._containers.get(container_id)
            if container is None:
                return Reply(404, b'{"message":"Not Found"}')
            if not self._changed.wait_for(lambda: container.ready or container.is_over, SERVE_S):
                return Reply(504, b'{"message":"Gateway Timeout"}')
        try:
            return fetch(container.address, replace(request, path=f"/{path}"))
        except OSError as error:
            return Reply(502, str(error).encode())

    # --- For workers -----------------------------------------------------------------------------------------

    def worker_started(self, worker_id: str, token: str, address: str) -> None:
        """A worker listens. Raises: PermissionError."""
        self._worker_of(worker_id, token)
        with self._changed:
            self._ports[worker_id] = WorkerPort(address, time.monotonic())

    def next_container(self, worker_id: str, token: str, wait_s: float) -> dict[str, Any] | None:
        """Return a container for a worker to run, or None if there is none after a while. Raises: PermissionError."""
        port = self._ports.get(worker_id)

        def find() -> Container | None:
            # A worker may have ended while it waited, or have been started again.
            worker = self._worker_of(worker_id, token)
            is_asking = self._ports.get(worker_id) is port
            return next_for(self._containers.values(), worker.machine_id) if is_asking else None

        with self._changed:
            container = self._changed.wait_for(find, wait_s)
            if container is None:
                return None
            container.worker_id = worker_id
            return {name: getattr(container, name) for name in ("container_id", "command", "port")}

    def container_started(self, container_id: str, address: str) -> None:
        """A worker has made a container; `address` is its published port. Raises: KeyError."""
        with self._changed:
            container = self._containers[container_id]
            container.address = address
        self._in_background(self._follow, container)
        if container.kind != FUNCTION:
            self._in_background(self._probe, container)

    # --- Dials -----------------------------------------------------------------------------------------------

    @staticmethod
    def _in_background(act: Callable[[Container], None], container: Container) -> None:
        threading.Thread(target=act, args=(container,), name=container.container_id, daemon=True).start()

    def _follow(self, container: Container) -> None:
        """Take the log from the worker's port: one dial, and no other if that fails."""
        port = self._ports[container.worker_id]
        time.sleep(max(0.0, port.known_at_s + FIRST_DIAL_S - time.monotonic()))
        error = "the log broke off"
        try:
            for answer in call(split_address(port.address), "logs", container_id=container.container_id):
                with self._changed:
                    container.lines += [answer["line"]] if "line" in answer else []
                    container.exit_code = answer.get("exit_code")
                    self._changed.notify_all()
        except (OSError, WorkerCallError) as failure:
            error = f"dial tcp {port.address}: {getattr(failure, 'strerror', None) or failure}"
        with self._changed:
            container.error = "" if container.exit_code is not None else error
            self._changed.notify_all()

    def _probe(self, container: Container) -> None:
        while not container.is_over and not container.ready:
            began_s = time.monotonic()
            try:
                is_ready, is_refused = probe(container), False
            except OSError:
                is_ready, is_refused = False, True
            took_s = time.monotonic() - began_s
            with self._changed:
                container.ready = is_ready
                container.refused_probes += is_refused
                container.longest_probe_s = max(container.longest_probe_s, took_s)
                self._changed.notify_all()
            time.sleep(max(0.0, PROBE_S - took_s))

    def _ask(self, container_id: str, name: str, **arguments: object) -> dict[str, Any]:
        with self._changed:
            port = self._ports[self._containers[container_id].worker_id]
        try:
            return next(call(split_address(port.address), name, container_id=container_id, **arguments))
        except WorkerCallError as error:
            raise LookupError(str(error)) from error


def _prefix(request: Request) -> str:
    return next(route for route in ROUTES if request.path.startswith(route))
