"""Puts the agent together from its settings and runs it: the one place that knows every part."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from agent import __version__
from agent.adapters.clock import SystemClock
from agent.adapters.gateway import probe as probes
from agent.adapters.gateway.machine_api import Gateway
from agent.adapters.host.boot_record import boot_of
from agent.adapters.host.docker import running_containers
from agent.adapters.host.facts import read_host
from agent.adapters.kubernetes.connect import open_kubernetes
from agent.adapters.nvidia.gpus import GpuReader
from agent.adapters.secrets.credentials import Credentials
from agent.adapters.ssh.local_ports import holder_of
from agent.adapters.ssh.tunnel import Tunnel, probe_sockets
from agent.adapters.storage.state_dir import StateDir
from agent.core.config import Config, Connection
from agent.core.effects import (
    CallGateway,
    ProbeApi,
    ProbeKube,
    ProbeReverse,
    ReadFacts,
    ReadKubeLogins,
    StartLink,
    StopLink,
)
from agent.core.events import (
    Answer,
    ApiProbed,
    CallEnded,
    Event,
    FactsRead,
    KubeLoginsRead,
    KubeProbed,
    Probe,
    ReverseProbed,
    ShutdownRequested,
)
from agent.core.host.boot_record import trouble
from agent.core.host.facts import GpuReading, HostFacts, KubeLogins
from agent.core.lifecycle.model import ShutdownKind
from agent.core.machine_api import offer, wire
from agent.core.machine_api.model import CallKind, Registration
from agent.core.machine_api.wire import Outcome, OutcomeKind
from agent.core.state import AgentState
from agent.core.status import is_ready, status
from agent.core.tunnel import addresses, ssh_argv
from agent.errors import AgentError, ExitCode, SettingsError
from agent.observability.change_logger import ChangeLogger
from agent.observability.logs import EventLog
from agent.runtime import identity
from agent.runtime.autoscaling import autoscaling_reporter
from agent.runtime.shutdown import ShutdownHandling
from agent.runtime.supervisor import Executor, Supervisor
from agent.runtime.tailnet import TailnetLogin
from agent.settings import Settings

_SIGNALS = {
    signal.SIGTERM: ShutdownKind.STOP,
    signal.SIGINT: ShutdownKind.STOP,
    signal.SIGUSR1: ShutdownKind.HAND_OVER,
}


@dataclass
class Agent:
    """Every part of a running agent."""

    settings: Settings
    state: StateDir
    credentials: Credentials
    log: EventLog
    clock: SystemClock = field(default_factory=SystemClock)
    degraded: dict[str, str] = field(default_factory=dict)
    """What is wrong without ending anything, by what it is about; shown in `/status`."""

    def __post_init__(self) -> None:
        settings = self.settings
        self.setup = make_setup(settings, self._machine_id())
        self.joining = TailnetLogin(settings, self.state, self.credentials, lambda: self.supervisor.worker)
        self.gateway = Gateway(
            settings.gateway_host,
            settings.gateway_port,
            self.credentials.token,
            settings.policy.http_connect_timeout_s,
            self.joining.gateway_address,
        )
        self.kubernetes = open_kubernetes(settings, self.credentials)
        self.leaving = ShutdownHandling(
            settings,
            self.state,
            self.credentials.directory,
            self.kubernetes,
            self.clock,
            lambda event: self.supervisor.put(event),  # noqa: PLW0108 - the supervisor is made below
            self.degraded,
        )
        self.gpus = GpuReader()
        self.narrator = ChangeLogger(self.log)
        self.member = autoscaling_reporter(settings, self.log, lambda: identity.instance_id(settings))
        self.supervisor = Supervisor(
            worker=self._initial_state(),
            policy=settings.policy,
            executors=self._executors(),
            narrator=self,
            now_s=self.clock.now_s,
            jitter=random.random,
            on_unforeseen=lambda what, error: self.log.error("unforeseen", error=error, during=what),
        )
        self.sockets = probe_sockets(self.credentials.directory, len(self.setup.addresses))
        self.tunnel = Tunnel(
            endpoint=self.credentials.endpoint,
            forwards=make_forwards(settings, self.setup, self.sockets),
            policy=settings.policy,
            emit=self.supervisor.put,
            describe_holder=holder_of,
            local=(local_bind(settings), settings.gateway_port),
        )

    def _initial_state(self) -> AgentState:
        """All that is known before anything has happened."""
        now_s = self.clock.now_s()
        registration = Registration(gateway_config=self.joining.gateway_config())
        return AgentState(self.setup, born_at_s=now_s, since_s=now_s, registration=registration)

    def run(self) -> ExitCode:
        """Work until asked to go, or until it turns out that this can never work."""
        for number, kind in _SIGNALS.items():
            signal.signal(number, self._on_signal(kind))
        # The HTTP library takes a fifth of a second to load: meanwhile ssh connects.
        threading.Thread(target=self.gateway.prepare, name="prepare", daemon=True).start()
        self.leaving.start()
        try:
            return self.supervisor.run()
        finally:
            self.leaving.stop()
            if self.member is not None:
                self.member.close()
            self.tunnel.stop_all()
            self.gpus.close()
            self.gateway.close()
            self.credentials.close()

    def tell(self, before: AgentState, after: AgentState, event: Event, now_s: float) -> None:
        """Called after every step: people and, where there is one, the cloud's group hear what changed."""
        self.narrator.tell(before, after, event, now_s)
        if self.member is not None:
            self.member.look(after)

    def status(self) -> dict[str, Any]:
        """What `/status` shows."""
        now_s = self.clock.now_s()
        # Read each time: the bootstrap may be run again beside a running agent.
        boot = boot_of(self.settings.state_dir)
        failed = trouble(boot) if boot else None
        told = status(
            self.supervisor.worker,
            now_s,
            self.settings.policy,
            self.gateway.url,
            (*self.degraded.values(), *([failed] if failed else [])),
        )
        told["transitions"] = [
            {"state": name, "age_s": round(now_s - at_s, 1), "why": why}
            for name, at_s, why in tuple(self.narrator.transitions)
        ]
        return told

    def is_ready(self) -> bool:
        """What `/readyz` answers."""
        return is_ready(self.supervisor.worker, self.clock.now_s())

    def _on_signal(self, kind: ShutdownKind) -> Callable[[int, FrameType | None], None]:
        def handle(number: int, _frame: FrameType | None) -> None:
            self.supervisor.put(ShutdownRequested(kind, signal.Signals(number).name))

        return handle

    def _machine_id(self) -> str:
        found = identity.machine_id(self.settings, self.state)
        if found.note:
            self.log.warning("machine_id", text=found.note)
            self.degraded["identity"] = found.note
        return found.machine_id

    # --- Carrying commands out ---------------------------------------------------------------------------

    def _executors(self) -> dict[type, Executor]:
        return {
            StartLink: Executor(self._start_link),
            StopLink: Executor(self._stop_link),
            ProbeApi: Executor(self._probe_api, lambda c, e: ApiProbed(c.generation, _unasked(e))),
            ProbeReverse: Executor(
                self._probe_reverse, lambda c, e: ReverseProbed(c.generation, _unasked(e))
            ),
            ProbeKube: Executor(
                lambda c: self.kubernetes.probe(c.timeout_s), lambda _, e: KubeProbed(_unasked(e))
            ),
            ReadKubeLogins: Executor(
                lambda _: self.kubernetes.read_logins(), lambda _, e: KubeLoginsRead(KubeLogins(), 0, str(e))
            ),
            ReadFacts: Executor(self._read_facts, self._facts_failed),
            CallGateway: Executor(self._call, _call_failed),
            **self.leaving.executors(),
            **self.joining.executors(),
        }

    def _start_link(self, command: StartLink) -> None:
        self.tunnel.start(command)

    def _stop_link(self, command: StopLink) -> None:
        self.tunnel.stop(command.purpose)

    def _probe_api(self, command: ProbeApi) -> Event:
        probe = probes.gateway_behind_tunnel(
            self.joining.gateway_address(),
            self.settings.gateway_port,
            self._spare_socket(),
            command.timeout_s,
        )
        return ApiProbed(command.generation, probe)

    def _spare_socket(self) -> Path | None:
        """A forward to an address where nobody listens, if there is one."""
        if len(self.sockets) < 2 or self.setup.connection is not Connection.SSH:
            return None
        spare = (self.supervisor.worker.candidate + len(self.sockets) - 1) % len(self.sockets)
        return self.sockets[spare]

    def _probe_reverse(self, command: ProbeReverse) -> Event:
        if self.setup.connection is Connection.TAILSCALE:
            own = (self.supervisor.worker.address or "", self.settings.k3s_api.port)
            return ReverseProbed(command.generation, self.kubernetes.probe_at(own, command.timeout_s))
        socket = self.sockets[command.candidate % len(self.sockets)]
        return ReverseProbed(command.generation, self.kubernetes.probe_at(socket, command.timeout_s))

    def _read_facts(self, _command: ReadFacts) -> Event:
        facts = read_host(self.settings.state_dir)
        if self.supervisor.worker.host is not None:  # loading Docker's library would hold up the start
            facts = replace(facts, container_count=running_containers())
        return FactsRead(facts, self.gpus.read())

    def _facts_failed(self, _command: ReadFacts, error: Exception) -> Event:
        worker = self.supervisor.worker
        return FactsRead(worker.host or HostFacts(0, 0), GpuReading(worker.gpus.gpus, f"not read: {error}"))

    def _call(self, command: CallGateway) -> Event:
        worker = self.supervisor.worker
        body: dict[str, Any]
        if command.kind is CallKind.CHECK:
            body = wire.check_body()
        elif command.kind is CallKind.KEEPALIVE:
            body = wire.keepalive_body(self.setup, offer.capacity(worker), worker.host, worker.kube.node)
        else:
            assert command.promise is not None  # noqa: S101 - the core sends one with every registration
            private_ip = worker.host.private_ip if worker.host else ""
            body = wire.register_body(self.setup, command.promise, self._k3s_token(), private_ip)
        outcome = self.gateway.call(
            command.kind,
            body,
            command.timeout_s,
            fresh_secret=command.fresh_secret,
            number=command.call_id,
        )
        self.joining.remember(outcome)
        return CallEnded(command.call_id, outcome)

    def _k3s_token(self) -> str:
        try:
            return self.kubernetes.token() or ""
        except AgentError as error:
            # Without it nothing can be placed, and nothing is offered (core/machine_api/offer.py).
            self.log.warning("k3s_token", text=str(error))
            return ""


def make_setup(settings: Settings, machine_id: str) -> Config:
    """The settings as far as decisions need them."""
    is_ssh = settings.connection is Connection.SSH
    if settings.reverse_bind != "auto":
        bound: tuple[str, ...] = (settings.reverse_bind,)
    else:
        bound = addresses.candidates(machine_id)
    return Config(
        machine_id=machine_id,
        pool_name=settings.pool_name,
        provider_name=settings.provider_name,
        connection=settings.connection,
        k3s=settings.k3s,
        hostname=settings.hostname,
        addresses=bound,
        reserve_cpu_millicores=settings.reserve_cpu_millicores,
        reserve_memory_mib=settings.reserve_memory_mib,
        joins_tailnet=settings.tailscale_auth is not None,
        data=is_ssh and bool(settings.ssh_forwards),
        once=settings.once,
        heeds_rebalance=settings.rebalance == "drain",
        version=__version__,
    )


def local_bind(settings: Settings) -> str:
    """Where the tunnel's local end listens."""
    return "127.0.0.1" if settings.gateway_host == "localhost" else settings.gateway_host


def make_forwards(settings: Settings, setup: Config, sockets: tuple[Path, ...]) -> ssh_argv.Forwards:
    """What the ssh children open, by the settings."""
    return ssh_argv.Forwards(
        gateway=f"{local_bind(settings)}:{settings.gateway_port}:{settings.ssh_target}",
        data=tuple(str(forward) for forward in settings.ssh_forwards),
        probe_sockets=tuple(str(path) for path in sockets),
        addresses=setup.addresses,
        kubernetes=str(settings.k3s_api),
    )


def _unasked(error: Exception) -> Probe:
    return Probe(Answer.SILENT, text=f"could not be asked: {error}")


def _call_failed(command: CallGateway, error: Exception) -> Event:
    return CallEnded(command.call_id, Outcome(OutcomeKind.NO_ANSWER, f"could not be called: {error}"))


def wait_for_lock(state: StateDir, conflict_s: float) -> None:
    """Become the only agent in this state directory, waiting for one that is just leaving.

    Raises: SettingsError naming the other's pid.
    """
    deadline_s = time.monotonic() + conflict_s
    pause = threading.Event()
    while (holder := state.try_lock()) is not None:
        if time.monotonic() >= deadline_s:
            raise SettingsError(
                f"another agent (pid {holder}) holds {state.path}; stop it, or give this one its own BETA9_STATE_DIR"
            )
        pause.wait(0.2)
