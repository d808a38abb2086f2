"""Builds the agent from its settings and runs it: the one place that knows every part."""

from __future__ import annotations

import os
import queue
import random
import threading

from agent.adapters.clock import SystemClock
from agent.adapters.gateway.machine_api import Gateway
from agent.adapters.hairpin.keeper import HairpinKeeper
from agent.adapters.host import docker
from agent.adapters.host.boot_record import boot_of
from agent.adapters.kubernetes.connect import open_kubernetes
from agent.adapters.nvidia.gpus import GpuReader
from agent.adapters.nvidia.nvml_library import driver_watch
from agent.adapters.secrets.credentials import Credentials
from agent.adapters.ssh.local_ports import holder_of
from agent.adapters.ssh.tunnel import Tunnel, probe_sockets
from agent.adapters.storage.state_dir import StateDir
from agent.core.effects import CheckHairpin, StartLink, StopLink
from agent.core.events import Event, HairpinChecked
from agent.core.hairpin.model import HairpinFault, HairpinFaultKind
from agent.core.host.boot_record import failure
from agent.core.machine_api.model import Registration
from agent.core.state import AgentState
from agent.core.status import is_ready, status
from agent.core.status_schema import Status
from agent.errors import ExitCode
from agent.observability.change_logger import ChangeLogger
from agent.observability.logs import EventLog
from agent.runtime import identity
from agent.runtime.autoscaling import autoscaling_reporter
from agent.runtime.core_config import local_bind, make_config, make_forwards, make_layout
from agent.runtime.gateway_calls import GatewayCalls
from agent.runtime.probing import Probing
from agent.runtime.shutdown import ShutdownHandling
from agent.runtime.signals import install_handlers
from agent.runtime.supervisor import Executor, Executors, Supervisor
from agent.runtime.tailnet import TailnetLogin
from agent.settings import Settings


class Agent:
    """All parts of a running agent.

    `degraded` holds what is wrong but does not end the agent, by subject; `/status` shows it.
    """

    def __init__(
        self,
        settings: Settings,
        state_dir: StateDir,
        credentials: Credentials,
        log: EventLog,
        degraded: dict[str, str],
    ) -> None:
        self.settings = settings
        self.credentials = credentials
        self.degraded = degraded
        self.log = log
        self.clock = SystemClock()
        self.config = make_config(settings, self._machine_id(state_dir))
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.tailnet = TailnetLogin(settings, state_dir, credentials)
        self.gateway = Gateway(
            settings.gateway_host,
            settings.gateway_port,
            credentials.token,
            settings.policy.http_connect_timeout_s,
            self.tailnet.gateway_address,
        )
        self.kubernetes = open_kubernetes(settings, credentials, self.config.machine_id)
        self.shutdown = ShutdownHandling(
            settings=settings,
            state_dir=state_dir,
            directory=credentials.directory,
            kubernetes=self.kubernetes,
            clock=self.clock,
            put=self._events.put,
            degraded=degraded,
        )
        self.gpus = GpuReader(driver_appeared=driver_watch(os.environ))
        self.change_logger = ChangeLogger(log, settings.policy)
        self.group = autoscaling_reporter(settings, log, lambda: identity.instance_id(settings))
        self._sockets = probe_sockets(credentials.directory, len(self.config.addresses))
        self.tunnel = self._make_tunnel()
        self.hairpin = HairpinKeeper(make_layout(settings))
        self.supervisor = self._make_supervisor()

    def _make_supervisor(self) -> Supervisor:
        return Supervisor(
            self._initial_state(),
            self.settings.policy,
            self._events,
            executors=self._executors(),
            on_step=self._on_step,
            now_s=self.clock.now_s,
            jitter=random.random,
            on_unforeseen=lambda what, error: self.log.error("unforeseen", error=error, during=what),
        )

    def _make_tunnel(self) -> Tunnel:
        settings = self.settings
        return Tunnel(
            endpoint=self.credentials.endpoint,
            forwards=make_forwards(settings, self.config, self._sockets),
            policy=settings.policy,
            emit=self._events.put,
            describe_holder=holder_of,
            local=(local_bind(settings), settings.gateway_port),
        )

    def _executors(self) -> Executors:
        gateway_address = self.tailnet.gateway_address
        probing = Probing(self.settings, self.kubernetes, self.gpus, self._sockets, gateway_address)
        calls = GatewayCalls(self.gateway, self.kubernetes.token, self.log, self.tailnet.remember)
        return {
            StartLink: Executor(self.tunnel.start),
            CheckHairpin: Executor(
                self.hairpin.check,
                lambda c, e: HairpinChecked(
                    c.lets_in, HairpinFault(HairpinFaultKind.BROKEN, f"not checked: {e}")
                ),
            ),
            StopLink: Executor(self._stop_link),
            **probing.executors(),
            **calls.executors(),
            **self.shutdown.executors(),
            **self.tailnet.executors(),
        }

    def _stop_link(self, effect: StopLink) -> None:
        self.tunnel.stop(effect.purpose)

    def _initial_state(self) -> AgentState:
        """Return what is known before anything has happened."""
        now_s = self.clock.now_s()
        registration = Registration(gateway_config=self.tailnet.gateway_config())
        return AgentState(self.config, born_at_s=now_s, since_s=now_s, registration=registration)

    def run(self) -> ExitCode:
        """Run until the agent is asked to stop, or until it turns out that it can never work."""
        install_handlers(self.supervisor.put, docker.stop_check())
        # The HTTP library takes a fifth of a second to load: load it while ssh connects.
        threading.Thread(target=self.gateway.prepare, name="prepare", daemon=True).start()
        self.shutdown.start()
        try:
            return self.supervisor.run()
        finally:
            self.shutdown.stop()
            if self.group is not None:
                self.group.close()
            self.tunnel.stop_all()
            self.hairpin.close()
            self.gpus.close()
            self.gateway.close()
            self.credentials.close()

    def _on_step(self, before: AgentState, after: AgentState, event: Event, now_s: float) -> None:
        """Log what has changed, and report it to the Auto Scaling group, if any."""
        self.change_logger.on_step(before, after, event, now_s)
        if self.group is not None:
            self.group.on_step(after)

    def status(self) -> Status:
        """Return what `/status` shows."""
        now_s = self.clock.now_s()
        # Read each time, because the bootstrap may run again beside a running agent.
        boot = boot_of(self.settings.state_dir)
        failed = failure(boot) if boot else None
        shown = status(
            self.supervisor.state,
            now_s,
            self.settings.policy,
            self.gateway.url,
            (*self.degraded.values(), *([failed] if failed else [])),
        )
        shown["transitions"] = [
            {"state": name, "age_s": round(now_s - at_s, 1), "why": why}
            for name, at_s, why in tuple(self.change_logger.transitions)
        ]
        return shown

    def is_ready(self) -> bool:
        """Return what `/readyz` answers."""
        return is_ready(self.supervisor.state, self.clock.now_s())

    def _machine_id(self, state_dir: StateDir) -> str:
        own = identity.machine_id(self.settings, state_dir)
        if own.note:
            self.log.warning("machine_id", text=own.note)
            self.degraded["identity"] = own.note
        return own.machine_id
