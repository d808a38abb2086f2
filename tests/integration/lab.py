"""A laboratory: one gateway, one sshd, one k3s API and agents, each a process of its own, on loopback.

Gateway and k3s API are the embedded ones (their docstrings say what they stand for); sshd, ssh and the agent are
the real programs. Timings that a test cannot wait for come from BETA9_TUNING: `TUNING` says which and why.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from agent.adapters.process.run import Child, spawn
from agent.core.provisioning.authorized_keys import Grant, key_line
from agent.demo.gateway.admin import GatewayAdmin
from agent.demo.kubernetes.standin import KubernetesAdmin
from agent.demo.sshd.program import free_port
from agent.demo.sshd.throwaway import HOST
from tests.integration.netns import HERE, Place
from tests.sshd import Sshd

DEADLINE_S = 60.0
"""Generous: how long a condition may take on a slow, shared machine before the test gives up on it."""

SSH_PORT = 2222
"""In a namespace, where every port is free."""

T = TypeVar("T")


def wait_for(what: str, condition: Callable[[], T | None], deadline_s: float = DEADLINE_S) -> T:
    """Wait until `condition` gives something true, and return that."""
    end_s = time.monotonic() + deadline_s
    while True:
        got = condition()
        if got:
            return got
        assert time.monotonic() < end_s, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.02)


@dataclass
class AgentProcess:
    """One real agent and how to look at it."""

    environment: dict[str, str]
    machine_id: str
    lines: list[str] = field(default_factory=list)
    child: Child | None = None
    place: Place = HERE

    def start(self, *arguments: str) -> AgentProcess:
        """Start it (again)."""
        argv = [
            *self.place.prefix,
            sys.executable,
            "-m",
            "agent",
            "run",
            "--env-file",
            os.devnull,
            *arguments,
        ]
        self.child = spawn(argv, name="agent", env=self.environment, on_line=self.lines.append)
        return self

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.child is not None
        return self.child.pid

    def stop(self, grace_s: float = 20) -> int | None:
        """SIGTERM, and its exit code."""
        assert self.child is not None
        return self.child.stop(grace_s)

    def signal(self, number: int) -> None:
        """Signal the agent alone, not its children."""
        os.kill(self.pid, number)

    def wait_exit(self, deadline_s: float = DEADLINE_S) -> int:
        """Its exit code, once it ends by itself."""
        assert self.child is not None
        code = self.child.wait(deadline_s)
        assert code is not None, f"still runs after {deadline_s:g} s"
        return code

    def get(self, path: str) -> tuple[int, Any]:
        """GET from its status server; (0, None) while nobody answers."""
        url = f"http://{self.environment['BETA9_STATUS_ADDR']}{path}"
        try:
            with self.place.inside(), urllib.request.urlopen(url, timeout=5) as reply:
                body = reply.read()
                code = reply.status
        except urllib.error.HTTPError as error:
            body, code = error.read(), error.code
        except OSError:
            return 0, None
        try:
            return code, json.loads(body)
        except ValueError:
            return code, body.decode(errors="replace")

    def status(self) -> dict[str, Any]:
        """Its `/status`; {} while nobody answers."""
        return self.get("/status")[1] or {}

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """Its log lines as objects, those of one event name if given."""
        told = [json.loads(line) for line in list(self.lines) if line.startswith("{")]
        return [each for each in told if name is None or each["event"] == name]

    def is_back(self) -> bool:
        """READY, both ways up, and offering: the gateway was told so, and work can be placed."""
        status = self.status()
        return bool(
            status
            and status["state"] == "READY"
            and status["placement"]["work_can_be_placed"]
            and status["tunnel"]["up"]
            and status["tunnel"]["reverse"]["up"]
        )

    def wait_back(self, deadline_s: float = DEADLINE_S) -> float:
        """Wait until READY and offering; seconds that it took."""
        began_s = time.monotonic()
        try:
            wait_for("READY and offering", lambda: self.is_back() or self._has_ended(), deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; /status {self.status()}; log {self.lines[-15:]}") from error
        return time.monotonic() - began_s

    def _has_ended(self) -> bool:
        """False. Raises: AssertionError where the process is gone, with its last words."""
        assert self.child is not None
        assert self.child.code is None, f"the agent ended with {self.child.code}: {self.lines[-15:]}"
        return False

    def ssh_pids(self) -> dict[str, int]:
        """Pids of its ssh children by purpose (`api`, `reverse`, `data`)."""
        found = {}
        for pid in children_of(self.pid):
            words = _cmdline(pid)
            if not words or not words[0].endswith("ssh"):
                continue
            if "-R" in words:
                found["reverse"] = pid
            elif any(".sock:" in word for word in words):
                found["api"] = pid
            else:
                found["data"] = pid
        return found


def children_of(pid: int) -> list[int]:
    """Direct children of a process, as the kernel knows them now."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(words[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def _cmdline(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:  # it ended meanwhile
        return []


class FarGatewayAdmin(GatewayAdmin):
    """Drives a gateway in another place."""

    def __init__(self, url: str, place: Place) -> None:
        super().__init__(url)
        self._place = place

    def call(self, name: str, /, **arguments: Any) -> Any:
        with self._place.inside():
            return super().call(name, **arguments)


@dataclass
class Lab:
    """The other side, and agents on request. Use `laboratory()`."""

    directory: Path
    stack: ExitStack
    gateway_options: tuple[str, ...] = ()
    sshd_options: Mapping[str, Any] = field(default_factory=dict)
    near: Place = HERE
    """Where agents and k3s run."""
    far: Place = HERE
    """Where gateway and sshd run."""
    kubernetes_options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        gateway = self._serve(
            self.far, "gateway", "agent.demo.gateway", "--port", "0", "--pool", "gpu:", *self.gateway_options
        )
        self.gateway = FarGatewayAdmin(gateway["admin_url"], self.far)
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

    def install_kubernetes_anew(self) -> None:
        """Another cluster in the old one's place, as after k3s' uninstaller and installer: other keys, same port."""
        self.processes["kubernetes"].stop(5)
        for path in (self.directory / "kubernetes.ready", self.k3s_token_file, self.kubeconfig):
            path.unlink()
        self._serve_kubernetes(int(self.k3s_api.rpartition(":")[2]))

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
        """Let the lab's key open the tunnels of these machines (and no others)."""
        grant = Grant(machine_ids=machine_ids, targets=(self.target,))
        self.sshd.authorize(key_line(self.sshd.public_key(), grant))

    def agent(self, tuning: Mapping[str, float] | None = None, **settings: str) -> AgentProcess:
        """A machine that was created at the gateway, and its agent, not started yet."""
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
        """A free port that no other agent of this lab was given."""
        port = free_port(HOST)
        while port in self.ports:
            port = free_port(HOST)
        self.ports.add(port)
        return port

    def ready_agent(self, tuning: Mapping[str, float] | None = None, **settings: str) -> AgentProcess:
        """An agent that runs, is READY and offers."""
        agent = self.agent(tuning, **settings).start()
        agent.wait_back()
        return agent


def _end(agent: AgentProcess) -> None:
    if agent.child is not None and agent.child.code is None:
        agent.child.signal(signal.SIGCONT)
        agent.stop(grace_s=10)


@contextmanager
def laboratory(directory: Path, **options: Any) -> Iterator[Lab]:
    """A lab that is gone afterwards, with every process that it started."""
    with ExitStack() as stack:
        yield Lab(directory, stack, **options)
