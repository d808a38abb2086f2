"""A gateway and machines with stand-in Kubernetes APIs, for tests of the contract on placement."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from agent.demo.gateway.embedded import EmbeddedGateway
from agent.demo.kubernetes.cluster import Cluster
from agent.demo.kubernetes.standin import StandInKubernetes
from tests.contract.caller import Caller
from tests.contract.waiting import wait_until


@dataclass
class Site:
    """A gateway and its machines; each k3s has its own loopback address, all use the same port."""

    gateway: EmbeddedGateway
    k3s_port: int
    stack: ExitStack
    lines: list[tuple[str, dict[str, Any]]]
    machines: dict[str, StandInKubernetes] = field(default_factory=dict)
    clock_ahead_s: list[float] = field(default_factory=lambda: [0.0])
    """How far the gateway's clock is ahead."""

    def machine(self, machine_id: str, gpus: int = 1) -> Caller:
        """Create a machine with a running k3s, not registered yet; return its client of the gateway."""
        host = f"127.71.0.{len(self.machines) + 2}"
        k3s = StandInKubernetes(host, self.k3s_port, cluster=Cluster(gpus=gpus))
        self.machines[machine_id] = self.stack.enter_context(k3s)
        return Caller(self.gateway.port, self.gateway.new_token(), machine_id)

    def ready(self, caller: Caller, **changes: Any) -> None:
        """Register with a token granted by the machine's k3s, and send a keepalive."""
        k3s = self.machines[caller.machine_id]
        registration = {"hostname": k3s.host, "token": k3s.grant()[0], "gpu_count": str(k3s.cluster.gpus)}
        assert caller.register(**(registration | changes)).status == 200
        assert caller.keepalive().status == 200

    def workers(self, machine_id: str) -> list[Any]:
        return [w for w in self.gateway.placement.workers() if w.machine_id == machine_id]

    def jobs(self, machine_id: str) -> list[dict[str, Any]]:
        return list(self.machines[machine_id].cluster.jobs.values())

    def counters(self, machine_id: str) -> dict[str, Any]:
        counted: dict[str, Any] = self.gateway.placement.report()["gpu"]["machines"].get(machine_id, {})
        return counted

    def rounds(self, count: int = 3) -> None:
        """Wait for `count` more rounds of placement."""
        target = self.gateway.placement.report()["gpu"]["rounds"] + count
        wait_until(lambda: self.gateway.placement.report()["gpu"]["rounds"] >= target)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
