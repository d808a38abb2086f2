"""The stand-in API with the same methods as the real one, for tests that run against both."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.demo.kubernetes.standin import StandInKubernetes
from tests.kubernetes.server import ask

NODE = "/api/v1/nodes/demo-node"


@dataclass
class StandIn:
    """A running stand-in."""

    served: StandInKubernetes
    kubeconfig: Path
    node_path: str = NODE

    @classmethod
    @contextmanager
    def running(cls, directory: Path) -> Iterator[StandIn]:
        """Run a stand-in within the `with` block."""
        with StandInKubernetes() as served:
            kubeconfig = directory / "kubeconfig"
            kubeconfig.write_text(served.kubeconfig())
            yield cls(served, kubeconfig)

    @property
    def address(self) -> tuple[str, int]:
        return self.served.host, self.served.port

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        token: str | None = None,
        content: str = "application/json",
    ) -> tuple[int, Any]:
        """Send a request as the administrator or with a token; return the status and the JSON (or text)."""
        context = ssl.create_default_context(cadata=self.served.certificate_pem)
        own = self.served.token if token is None else token
        return ask(self.address, method, path, body, token=own, content=content, context=context)

    def freeze(self) -> None:
        self.served.freeze()

    def thaw(self) -> None:
        self.served.thaw()

    def set_node(
        self, gpus: int = 1, ready: bool = True, pressures: tuple[str, ...] = (), **allocatable: str
    ) -> None:
        """Report the node's status in place of a kubelet and the device plugin."""
        cluster = self.served.cluster
        cluster.gpus, cluster.ready, cluster.pressures = gpus, ready, frozenset(pressures)
        cluster.allocatable = allocatable
        cluster.schedule()

    def taint(self, *taints: dict[str, str]) -> None:
        """Replace the node's taints."""
        self.served.cluster.taints = list(taints)
        self.served.cluster.schedule()

    def run_pod(self, name: str, requests: dict[str, str]) -> None:
        """Bind somebody else's pod to the node."""
        self.served.cluster.add_pod(name, requests)
        self.served.cluster.schedule()

    def remove_node(self) -> None:
        """Delete the node, as before a kubelet has registered it."""
        self.served.cluster.absent = True

    def add_node(self) -> None:
        """Register the node."""
        self.served.cluster.absent = False
