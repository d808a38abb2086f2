"""The demo: an embedded gateway, a throw-away sshd and a stand-in k3s API around one real agent process.

What is real: the agent, OpenSSH at both ends, the reverse path and its probe. What stands in: the gateway and
the k3s API (each says in its docstring what it stands for).
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.adapters.process.run import Child, spawn
from agent.core.provisioning.authorized_keys import Grant
from agent.demo.gateway.embedded import EmbeddedGateway
from agent.demo.gateway.machines import Machine, Pool
from agent.demo.gateway.options import GatewaySettings
from agent.demo.kubernetes.standin import StandInKubernetes
from agent.demo.listing import created_text, list_text
from agent.demo.sshd.program import free_port
from agent.demo.sshd.throwaway import HOST, ThrowAwaySshd
from agent.errors import ExitCode

POOL = "gpu"
READY_TIMEOUT_S = 60.0
LEAVE_TIMEOUT_S = 15.0
GPU_DEVICE = Path("/dev/nvidia0")


@dataclass
class Show:
    """One run of the demo."""

    once: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    said: list[str] = field(default_factory=list)

    def run(self) -> ExitCode:
        """Until Ctrl-C; with `once` until the machine is ready and a worker Job arrived."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self.done.set())
        with ExitStack() as stack:
            return self._run(stack)

    def _run(self, stack: ExitStack) -> ExitCode:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="beta9-demo-")))
        pool = Pool(name=POOL) if GPU_DEVICE.exists() else Pool(name=POOL, gpu_type="", worker_gpu_count=0)
        settings = GatewaySettings(pools=(pool,), demand=1, health_interval_s=2)
        gateway = stack.enter_context(EmbeddedGateway(settings, log=self._gateway_log))
        kubernetes = stack.enter_context(StandInKubernetes())
        machine = gateway.create_machine(POOL)
        target = f"127.0.0.1:{gateway.port}"
        grant = Grant(machine_ids=(machine.machine_id,), targets=(target,))
        sshd = stack.enter_context(ThrowAwaySshd(directory / "sshd", grant=grant))
        self._introduce(gateway, sshd, machine, pool)
        environment = self._settings(directory, machine, sshd, kubernetes, target)
        agent = self._start_agent(environment)
        stack.callback(agent.stop, LEAVE_TIMEOUT_S)
        return self._watch(agent, gateway, kubernetes, machine, environment)

    # --- What the agent is given ---------------------------------------------------------------------------

    def _settings(
        self,
        directory: Path,
        machine: Machine,
        sshd: ThrowAwaySshd,
        kubernetes: StandInKubernetes,
        target: str,
    ) -> dict[str, str]:
        secrets = directory / "secrets"
        secrets.mkdir(mode=0o700)
        for name, text in (("token", machine.registration_token), ("kubeconfig", kubernetes.kubeconfig())):
            (secrets / name).touch(0o600)
            (secrets / name).write_text(text + "\n", encoding="utf-8")
        return {
            "BETA9_TOKEN_FILE": str(secrets / "token"),
            "BETA9_POOL_NAME": POOL,
            "BETA9_MACHINE_ID": machine.machine_id,
            "BETA9_GATEWAY_PORT": str(free_port(HOST)),
            "BETA9_SSH_HOST": sshd.host,
            "BETA9_SSH_PORT": str(sshd.port),
            "BETA9_SSH_USER": sshd.user,
            "BETA9_SSH_KEY_FILE": str(sshd.key_path),
            "BETA9_SSH_KNOWN_HOSTS_FILE": str(sshd.known_hosts_path),
            "BETA9_SSH_TARGET": target,
            "BETA9_KUBECONFIG": str(secrets / "kubeconfig"),
            "BETA9_K3S_API": f"{kubernetes.host}:{kubernetes.port}",
            "BETA9_STATE_DIR": str(directory / "state"),
            "BETA9_STATUS_ADDR": f"127.0.0.1:{free_port(HOST)}",
            "BETA9_INTERRUPTION": "none",
        }

    def _start_agent(self, settings: Mapping[str, str]) -> Child:
        print("$ " + " \\\n    ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items()))
        print("    beta9-worker run\n")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BETA9_")}
        argv = [sys.executable, "-m", "agent", "run", "--env-file", os.devnull]
        environment = {**inherited, "LC_ALL": "C", "BETA9_LOG_FORMAT": "text", **settings}
        return spawn(argv, name="agent", env=environment, on_line=self._agent_line)

    # --- What a person sees --------------------------------------------------------------------------------

    def _introduce(self, gateway: EmbeddedGateway, sshd: ThrowAwaySshd, machine: Machine, pool: Pool) -> None:
        print(f"Embedded gateway on {gateway.url}, throw-away sshd on {sshd.host}:{sshd.port}.")
        if not pool.gpu_type:
            print("This machine has no NVIDIA GPU: the pool is one without GPUs.")
        print(f"\n$ beta9 machine create --pool {POOL}")
        print(created_text(machine))

    def _agent_line(self, line: str) -> None:
        print(f"  agent    {line}", flush=True)

    def _gateway_log(self, text: str, fields: Mapping[str, Any]) -> None:
        told = " ".join(f"{name}={value}" for name, value in fields.items())
        print(f"  gateway  {text} {told}".rstrip(), flush=True)

    def _watch(
        self,
        agent: Child,
        gateway: EmbeddedGateway,
        kubernetes: StandInKubernetes,
        machine: Machine,
        settings: Mapping[str, str],
    ) -> ExitCode:
        life = _Life(gateway, machine.machine_id)
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        told = False
        while not self.done.wait(0.05):
            for status in life.news():
                print(f"  machine  {machine.machine_id} is {status}", flush=True)
            if agent.code is not None:
                print(f"The agent ended with exit code {agent.code}.", file=sys.stderr)
                # Told to leave, by `leave` or a drill: that is an end as it should be.
                return ExitCode.OK if told and agent.code == ExitCode.OK else ExitCode.BUG
            if not told and life.shown == "ready" and kubernetes.cluster.jobs:
                told = True
                self._tell_ready(gateway, kubernetes, settings)
                if self.once:
                    return ExitCode.OK
            if not told and time.monotonic() > deadline_s:
                why = f"Not ready after {READY_TIMEOUT_S:g} s; the agent's lines above say why."
                print(why, file=sys.stderr)
                return ExitCode.GAVE_UP
        print("\nStopping: the agent drains and says goodbye.")
        return ExitCode.OK

    def _tell_ready(
        self, gateway: EmbeddedGateway, kubernetes: StandInKubernetes, settings: Mapping[str, str]
    ) -> None:
        job = next(iter(kubernetes.cluster.jobs.values()))
        print(
            f"  k3s      worker Job {job['metadata']['name']} arrived through the reverse tunnel", flush=True
        )
        print("\n$ beta9 machine list")
        print(list_text(gateway.machines(), time.time()))
        if not self.once:
            print("It stays until Ctrl-C. In a second terminal:")
            print(
                f"  BETA9_STATUS_ADDR={settings['BETA9_STATUS_ADDR']} .venv/bin/beta9-worker status --watch"
            )
            print(
                f"  BETA9_STATE_DIR={settings['BETA9_STATE_DIR']} .venv/bin/beta9-worker simulate-interruption --in 30s"
            )
            print(
                "  pkill -KILL -f 'ssh .*probe0.sock'        # pull the plug, and watch it come back\n",
                flush=True,
            )


_MADE = {"register": "registered", "keepalive": "ready"}
"""What a call that the gateway accepted makes of the machine (its contract)."""


class _Life:
    """The machine's statuses at the gateway, each once, also those that last a millisecond."""

    def __init__(self, gateway: EmbeddedGateway, machine_id: str) -> None:
        self._gateway, self._machine_id = gateway, machine_id
        self._read = 0
        self.shown = ""

    def news(self) -> list[str]:
        """The statuses since the last time, oldest first."""
        requests = self._gateway.requests(machine_id=self._machine_id)
        accepted = [
            _MADE[each.route] for each in requests[self._read :] if each.status == 200 and each.route in _MADE
        ]
        self._read = len(requests)
        machine = self._gateway.machine(self._machine_id)
        told = []
        for status in [*accepted, machine.status if machine else "gone"]:
            if status != self.shown:
                told.append(status)
                self.shown = status
        return told
