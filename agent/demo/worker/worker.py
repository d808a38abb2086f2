"""A stand-in for the worker that the gateway's Jobs start: `python -m agent.demo.worker`, with a Job's environment.

Like the real one it runs in the machine's own network, listens on a random port, says where that is under the machine's
name, and is dialled there for logs, cancelling and exec. It gets its work by way of a stand-in for Redis, and exits
with 1 if it cannot reach that. It needs root, ip, iptables, unshare and nsenter.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from agent.demo.remote import AdminError, CallClient
from agent.demo.worker.bridge import set_up_bridge
from agent.demo.worker.container import Container
from agent.demo.worker.lines import LineServer

REDIS_PATIENCE_S = 2.0
"""The real worker gives up after two seconds without Redis at its start."""
POLL_S = 5.0
_UNREACHABLE = object()


class Worker:
    """One worker; `environment` is what the Job gives to its container."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        redis = json.loads(environment["CONFIG_JSON"])["database"]["redis"]["addrs"][0]
        self._redis = CallClient(f"http://{redis}")
        self._id = {"worker_id": environment["WORKER_ID"], "token": environment["WORKER_TOKEN"]}
        self._hostname = environment["POD_HOSTNAME"]
        self._containers: dict[str, Container] = {}
        self._port = LineServer({
            "worker": self._describe,
            "logs": lambda container_id: self._containers[container_id].follow(),
            "cancel": self._cancel,
            "exec": lambda container_id, command: [self._containers[container_id].execute(command)],
        })  # fmt: skip

    def run(self, stop: threading.Event) -> int:
        """Take and run containers until `stop`. Return the exit code."""
        set_up_bridge()
        self._port.start()
        try:
            if not self._announce():
                return 1
            while not stop.is_set():
                request = self._reach("next_container", **self._id, wait_s=POLL_S)
                if request is _UNREACHABLE:
                    stop.wait(1)
                elif request is not None:
                    self._start(request)
        except AdminError as error:
            print(f"the gateway rejects this worker: {error}", file=sys.stderr)
            return 1
        return 0

    def close(self) -> None:
        """End the containers."""
        for container in self._containers.values():
            with contextlib.suppress(LookupError):  # it has not been started
                container.cancel()

    def _announce(self) -> bool:
        """Say where this worker listens; return whether Redis took it in time."""
        deadline_s = time.monotonic() + REDIS_PATIENCE_S
        address = f"{self._hostname}:{self._port.port}"
        while self._reach("worker_started", **self._id, address=address) is _UNREACHABLE:
            if time.monotonic() > deadline_s:
                return False
            time.sleep(0.1)
        return True

    def _reach(self, name: str, **arguments: object) -> Any:
        """Make a call to Redis. Raises: AdminError."""
        try:
            return self._redis.call(name, **arguments)
        except OSError as error:
            print(f"Redis: {error}", file=sys.stderr)
            return _UNREACHABLE

    def _start(self, request: Mapping[str, Any]) -> None:
        container = Container(request["container_id"], request["command"], request["port"])
        self._containers[container.container_id] = container
        # As with the real worker, the gateway knows the addresses before anything runs there.
        address = f"{self._hostname}:{container.host_port}" if container.host_port else ""
        self._reach("container_started", container_id=container.container_id, address=address)
        threading.Thread(target=container.start, daemon=True).start()

    def _describe(self) -> Iterator[Mapping[str, object]]:
        yield {"worker_id": self._id["worker_id"], "hostname": self._hostname}

    def _cancel(self, container_id: str) -> Iterator[Mapping[str, object]]:
        self._containers[container_id].cancel()
        yield {"ok": True}


def main() -> None:
    """Run a worker until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    worker = Worker(os.environ)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(worker.run(stop)), daemon=True)
    thread.start()
    while thread.is_alive() and not stop.is_set():
        thread.join(0.2)
    worker.close()
    # Without a code the thread was stopped, or broke off with a traceback.
    raise SystemExit(codes[0] if codes else int(not stop.is_set()))
