"""The demo: an embedded gateway, a throwaway sshd and a stand-in k3s API around one real agent process.

Real: the agent, OpenSSH at both ends, the reverse path and its probe. Stand-ins: the gateway and the k3s API; their
docstrings say what they model.
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
from pathlib import Path

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
STOP_TIMEOUT_S = 15.0
GPU_DEVICE = Path("/dev/nvidia0")


class Show:
    """One run of the demo."""

    def __init__(self, *, once: bool = False) -> None:
        self._once = once
        self._stop = threading.Event()

    def run(self) -> ExitCode:
        """Run until Ctrl-C, or with `once` until the machine is ready and a worker Job has arrived."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stop.set())
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
        stack.callback(agent.stop, STOP_TIMEOUT_S)
        return self._watch(agent, gateway, kubernetes, machine, environment)

    # --- The agent and its settings ------------------------------------------------------------------------

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
            # The demo has no relay, and leaves this machine's network as it is.
            "BETA9_REVERSE": "k3s",
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

    # --- Output --------------------------------------------------------------------------------------------

    def _introduce(self, gateway: EmbeddedGateway, sshd: ThrowAwaySshd, machine: Machine, pool: Pool) -> None:
        print(f"Embedded gateway on {gateway.url}, throwaway sshd on {sshd.host}:{sshd.port}.")
        if not pool.gpu_type:
            print("This machine has no NVIDIA GPU, so the demo uses a pool without GPUs.")
        print(f"\n$ beta9 machine create --pool {POOL}")
        print(created_text(machine))

    def _agent_line(self, line: str) -> None:
        print(f"  agent    {line}", flush=True)

    def _gateway_log(self, text: str, fields: Mapping[str, object]) -> None:
        suffix = " ".join(f"{name}={value}" for name, value in fields.items())
        print(f"  gateway  {text} {suffix}".rstrip(), flush=True)

    def _watch(
        self,
        agent: Child,
        gateway: EmbeddedGateway,
        kubernetes: StandInKubernetes,
        machine: Machine,
        settings: Mapping[str, str],
    ) -> ExitCode:
        history = _StatusHistory(gateway, machine.machine_id)
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        ready = False
        while not self._stop.wait(0.05):
            for status in history.new():
                print(f"  machine  {machine.machine_id} is {status}", flush=True)
            if agent.code is not None:
                print(f"The agent exited with code {agent.code}.", file=sys.stderr)
                # Exit code 0 follows `leave` or a simulated interruption, which the demo suggests.
                return ExitCode.OK if ready and agent.code == ExitCode.OK else ExitCode.BUG
            if not ready and history.latest == "ready" and kubernetes.cluster.jobs:
                ready = True
                self._print_ready(gateway, kubernetes, settings)
                if self._once:
                    return ExitCode.OK
            if not ready and time.monotonic() > deadline_s:
                message = f"Not ready after {READY_TIMEOUT_S:g} s; the agent's output above says why."
                print(message, file=sys.stderr)
                return ExitCode.GAVE_UP
        print("\nStopping: the agent drains the machine and withdraws it from the gateway.")
        return ExitCode.OK

    def _print_ready(
        self, gateway: EmbeddedGateway, kubernetes: StandInKubernetes, settings: Mapping[str, str]
    ) -> None:
        job = next(iter(kubernetes.cluster.jobs.values()))
        print(
            f"  k3s      worker Job {job['metadata']['name']} arrived through the reverse tunnel", flush=True
        )
        print("\n$ beta9 machine list")
        print(list_text(gateway.machines(), time.time()))
        if not self._once:
            print("The demo runs until Ctrl-C. In a second terminal, try:")
            print(
                f"  BETA9_STATUS_ADDR={settings['BETA9_STATUS_ADDR']} .venv/bin/beta9-worker status --watch"
            )
            print(
                f"  BETA9_STATE_DIR={settings['BETA9_STATE_DIR']} .venv/bin/beta9-worker simulate-interruption --in 30s"
            )
            print(
                "  pkill -KILL -f 'ssh .*probe0.sock'        # kill the tunnel and watch it recover\n",
                flush=True,
            )


_STATUS_AFTER = {"register": "registered", "keepalive": "ready"}
"""The machine's status after each call that the gateway accepts."""


class _StatusHistory:
    """The machine's statuses at the gateway, each reported once, however short it was."""

    def __init__(self, gateway: EmbeddedGateway, machine_id: str) -> None:
        self._gateway, self._machine_id = gateway, machine_id
        self._read = 0
        self.latest = ""

    def new(self) -> list[str]:
        """Return the statuses since the last call, oldest first."""
        requests = self._gateway.requests(machine_id=self._machine_id)
        accepted = [
            _STATUS_AFTER[request.route]
            for request in requests[self._read :]
            if request.status == 200 and request.route in _STATUS_AFTER
        ]
        self._read = len(requests)
        machine = self._gateway.machine(self._machine_id)
        changes = []
        for status in [*accepted, machine.status if machine else "gone"]:
            if status != self.latest:
                changes.append(status)
                self.latest = status
        return changes
