"""Carries out probes and readings: the gateway, this machine's Kubernetes from both sides, and the machine's facts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from agent.adapters.gateway import probes
from agent.adapters.host.docker import running_containers
from agent.adapters.host.facts import read_host
from agent.adapters.kubernetes.local import LocalKubernetes
from agent.adapters.nvidia.gpus import GpuReader
from agent.core.config import Connection
from agent.core.effects import ProbeApi, ProbeContest, ProbeKube, ProbeReverse, ReadFacts, ReadKubeLogins
from agent.core.events import (
    Answer,
    ApiProbed,
    ContestProbed,
    Event,
    FactsRead,
    KubeLoginsRead,
    KubeProbed,
    Probe,
    ReverseProbed,
)
from agent.core.host.facts import KubeLogins
from agent.core.tunnel.model import Holder
from agent.runtime.supervisor import Executor, Executors
from agent.settings import Settings


class Probing:
    """The executors that change nothing. `sockets`: the api child's forwards to the candidate addresses, in order."""

    def __init__(
        self,
        settings: Settings,
        kubernetes: LocalKubernetes,
        gpus: GpuReader,
        sockets: tuple[Path, ...],
        gateway_address: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._kubernetes = kubernetes
        self._gpus = gpus
        self._sockets = sockets
        self._gateway_address = gateway_address

    def executors(self) -> Executors:
        """Return the executors of probes and readings."""
        return {
            ProbeApi: Executor(self._probe_api, lambda c, e: ApiProbed(c.generation, _failed(e))),
            ProbeReverse: Executor(self._probe_reverse, lambda c, e: ReverseProbed(c.generation, _failed(e))),
            ProbeContest: Executor(
                lambda c: ContestProbed(
                    c.candidate,
                    self._kubernetes.holder_at(self._sockets[c.candidate], c.timeout_s),
                ),
                lambda c, _: ContestProbed(c.candidate, Holder.SILENT),
            ),
            ProbeKube: Executor(
                lambda c: self._kubernetes.probe(c.timeout_s), lambda _, e: KubeProbed(_failed(e))
            ),
            ReadKubeLogins: Executor(
                lambda _: self._kubernetes.read_logins(), lambda _, e: KubeLoginsRead(KubeLogins(), 0, str(e))
            ),
            ReadFacts: Executor(self._read_facts, lambda _, e: FactsRead(None, None, f"not read: {e}")),
        }

    def _probe_api(self, effect: ProbeApi) -> Event:
        echo = None if effect.spare is None else self._sockets[effect.spare]
        probe = probes.gateway_behind_tunnel(
            self._gateway_address(), self._settings.gateway_port, echo, effect.timeout_s
        )
        return ApiProbed(effect.generation, probe)

    def _probe_reverse(self, effect: ProbeReverse) -> Event:
        address: probes.Address = self._sockets[effect.candidate % len(self._sockets)]
        if self._settings.connection is Connection.TAILSCALE:
            address = (effect.address or "", self._settings.k3s_api.port)
        return ReverseProbed(effect.generation, self._kubernetes.probe_at(address, effect.timeout_s))

    def _read_facts(self, effect: ReadFacts) -> Event:
        facts = read_host(self._settings.state_dir)
        if effect.with_containers:
            facts = replace(facts, container_count=running_containers())
        return FactsRead(facts, self._gpus.read())


def _failed(error: Exception) -> Probe:
    return Probe(Answer.SILENT, text=f"could not be probed: {error}")
