"""A laboratory: one gateway, one sshd, one k3s API and agents, each a process of its own, on loopback.

Gateway and k3s API are the embedded stand-ins (their docstrings say what they model); sshd, ssh and the agent are the
real programs. Timings too long for a test are shortened through BETA9_TUNING; each test's `TUNING` lists them.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.adapters.process.run import Child, spawn
from agent.core.provisioning.authorized_keys import Grant, key_line
from agent.demo.gateway.admin import GatewayAdmin
from agent.demo.kubernetes.standin import KubernetesAdmin
from agent.demo.sshd.program import free_port
from agent.demo.sshd.throwaway import HOST
from tests.integration.agent_process import AgentProcess, children_of
from tests.integration.netns import HERE, Place
from tests.integration.polling import DEADLINE_S, wait_for
from tests.sshd import Sshd

__all__ = [
    "DEADLINE_S",
    "SSH_PORT",
    "AgentProcess",
    "Lab",
    "RemoteGatewayAdmin",
    "children_of",
    "laboratory",
    "wait_for",
]

SSH_PORT = 2222
"""sshd's port inside a network namespace, where every port is free."""


class RemoteGatewayAdmin(GatewayAdmin):
    """Controls a gateway that runs in another network namespace."""

    def __init__(self, url: str, place: Place) -> None:
        super().__init__(url)
        self._place = place

    def call(self, name: str, /, **arguments: Any) -> Any:
        with self._place.inside():
            return super().call(name, **arguments)


@dataclass
class Lab:
    """The gateway's side, and agents on request. Create it with `laboratory()`."""

    directory: Path
    stack: ExitStack
    gateway_options: tuple[str, ...] = ()
    sshd_options: Mapping[str, Any] = field(default_factory=dict)
    near: Place = HERE
    """Network namespace of agents and k3s."""
    far: Place = HERE
    """Network namespace of gateway and sshd."""
    kubernetes_options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        gateway = self._serve(
            self.far, "gateway", "agent.demo.gateway", "--port", "0", "--pool", "gpu:", *self.gateway_options
        )
        self.gateway = RemoteGatewayAdmin(gateway["admin_url"], self.far)
        self.gateway_port = int(gateway["port"])
        self.target = f"{HOST}:{self.gateway_port}"
        self.k3s_token_file = self.directory / "k3s_token"
        self.kubeconfig = self.directory / "kubeconfig"
        self._serve_kubernetes(0)
        self.sshd = self.stack.enter_context(
            Sshd(
                self.directory / "sshd",
                options=self.sshd_options,
                host=self.far.address,
                port=SSH_PORT if self.far.name else 0,
                prefix=self.far.prefix,
            )
        )
        self.processes: dict[str, Child]
        self.machine_ids: list[str] = []
        self.ports: set[int] = set()

    def _serve_kubernetes(self, port: int) -> None:
        files = ("--token-file", str(self.k3s_token_file), "--kubeconfig", str(self.kubeconfig))
        kubernetes = self._serve(
            self.near,
            "kubernetes",
            "agent.demo.kubernetes",
            *("--port", str(port), *files),
            *self.kubernetes_options,
        )
        self.kubernetes = KubernetesAdmin(kubernetes["admin_url"])
        self.k3s_api = kubernetes["url"].removeprefix("https://")

    def reinstall_kubernetes(self) -> None:
        """Replace the cluster, as k3s's uninstaller and installer do: new keys, same port."""
        self.processes["kubernetes"].stop(5)
        for path in (self.directory / "kubernetes.ready", self.k3s_token_file, self.kubeconfig):
            path.unlink()
        self._serve_kubernetes(int(self.k3s_api.rpartition(":")[2]))

    def neighbour(self, name: str, near: Place) -> Lab:
        """Return the lab as another machine sees it: same gateway and sshd, a k3s API of its own."""
        other = copy.copy(self)
        other.near, other.processes = near, {}
        other.directory = self.directory / name
        other.directory.mkdir()
        other.k3s_token_file = other.directory / "k3s_token"
        other.kubeconfig = other.directory / "kubeconfig"
        other._serve_kubernetes(0)
        return other

    def _serve(self, place: Place, name: str, module: str, *arguments: str) -> dict[str, Any]:
        ready = self.directory / f"{name}.ready"
        argv = [*place.prefix, sys.executable, "-m", module, "--ready-file", str(ready), *arguments]
        child = spawn(argv, name=name)
        self.stack.callback(child.stop, 5)
        if not hasattr(self, "processes"):
            self.processes = {}
        self.processes[name] = child
        wait_for(f"{name} listens", lambda: ready.exists() or child.code is not None)
        assert child.code is None, child.tail
        facts: dict[str, Any] = json.loads(ready.read_text())
        return facts

    def authorize(self, *machine_ids: str) -> None:
        """Allow the lab's key to open the tunnels of exactly these machines."""
        grant = Grant(machine_ids=machine_ids, targets=(self.target,))
        self.sshd.authorize(key_line(self.sshd.public_key(), grant))

    def agent(self, tuning: Mapping[str, float] | None = None, **settings: str) -> AgentProcess:
        """Create a machine at the gateway and return its agent, not started yet."""
        machine = self.gateway.create_machine("gpu", settings.get("BETA9_MACHINE_ID") or None)
        machine_id = str(machine["machine_id"])
        self.machine_ids.append(machine_id)
        self.authorize(*self.machine_ids)
        home = self.directory / machine_id
        home.mkdir(exist_ok=True)
        token = home / "token"
        token.touch(0o600)
        token.write_text(machine["registration_token"] + "\n")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BETA9_")}
        environment = {
            **inherited,
            "LC_ALL": "C",
            "BETA9_TOKEN_FILE": str(token),
            "BETA9_POOL_NAME": "gpu",
            "BETA9_MACHINE_ID": machine_id,
            "BETA9_GATEWAY_PORT": str(self._port()),
            "BETA9_SSH_HOST": self.sshd.host,
            "BETA9_SSH_PORT": str(self.sshd.port),
            "BETA9_SSH_USER": self.sshd.user,
            "BETA9_SSH_KEY_FILE": str(self.sshd.key_path),
            "BETA9_SSH_KNOWN_HOSTS_FILE": str(self.sshd.known_hosts_path),
            "BETA9_SSH_TARGET": self.target,
            # Any port needs a relay beside the gateway: tests/gateway.
            "BETA9_REVERSE": "k3s",
            "BETA9_K3S_TOKEN_FILE": str(self.k3s_token_file),
            "BETA9_K3S_API": self.k3s_api,
            "BETA9_STATE_DIR": str(home / "state"),
            "BETA9_STATUS_ADDR": f"{HOST}:{self._port()}",
            "BETA9_INTERRUPTION": "none",
            "BETA9_LOG_FORMAT": "json",
            **settings,
        }
        if tuning:
            environment["BETA9_TUNING"] = ",".join(f"{name}={value}" for name, value in tuning.items())
        environment = {name: value for name, value in environment.items() if value}
        agent = AgentProcess(environment, machine_id, place=self.near)
        self.stack.callback(_end, agent)
        return agent

    def _port(self) -> int:
        """Return a free port that no other agent of this lab uses."""
        port = free_port(HOST)
        while port in self.ports:
            port = free_port(HOST)
        self.ports.add(port)
        return port

    def ready_agent(self, tuning: Mapping[str, float] | None = None, **settings: str) -> AgentProcess:
        """Start an agent and wait until it is READY and offers capacity."""
        agent = self.agent(tuning, **settings).start()
        agent.wait_back()
        return agent


def _end(agent: AgentProcess) -> None:
    if agent.child is not None and agent.child.code is None:
        agent.child.signal(signal.SIGCONT)
        agent.stop(grace_s=10)


@contextmanager
def laboratory(directory: Path, **options: Any) -> Iterator[Lab]:
    """Run a lab; stop every process it started at the end."""
    with ExitStack() as stack:
        yield Lab(directory, stack, **options)
