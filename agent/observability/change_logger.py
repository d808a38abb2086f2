"""One log line for each change worth knowing, none per tick. Event names are stable: docs/logs.md lists them."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from agent.core.events import (
    CallEnded,
    Event,
    FactsRead,
    NoticeReceived,
    StopWritten,
    TailnetJoinTried,
    WorkersListed,
)
from agent.core.host.facts import DaemonState, PeerFacts
from agent.core.lifecycle.model import DisplayedState
from agent.core.machine_api.wire import OutcomeKind
from agent.core.state import AgentState
from agent.core.tunnel.model import Link, LinkPhase, Purpose
from agent.observability.log_throttle import LogThrottle
from agent.observability.logs import EventLog

# While the gateway is out of reach these two alternate with every attempt: one outage, one line.
_TRYING = frozenset({DisplayedState.CONNECTING, DisplayedState.BACKOFF})


@dataclass
class ChangeLogger:
    """Compares the knowledge before and after a step and says what changed."""

    log: EventLog
    quiet: LogThrottle = field(default_factory=LogThrottle)
    transitions: deque[tuple[str, float, str]] = field(default_factory=lambda: deque(maxlen=20))
    """The latest states with the moment they began and why, for `/status`."""

    def on_step(self, before: AgentState, after: AgentState, event: Event, now_s: float) -> None:
        """Called after every step. The state comes last: a cause is read before what it led to."""
        for purpose in Purpose:
            self._link(purpose, before.link(purpose), after.link(purpose), after, now_s)
        self._tailnet(before, after, event)
        self._registration(before, after)
        self._offer(before, after)
        self._kubernetes(before, after, now_s)
        if isinstance(event, CallEnded) and before.call is not None and after.call is not before.call:
            self._call(event, before, now_s)
        if isinstance(event, FactsRead):
            self._gpus(before, after)
        self._leaving(before, after, event, now_s)
        self._state(before, after, now_s)

    def _state(self, before: AgentState, after: AgentState, now_s: float) -> None:
        if before.displayed is after.displayed:
            return
        why = _why(after)
        if not (before.displayed in _TRYING and after.displayed in _TRYING):
            self.transitions.append((after.displayed.value, now_s, why))
            level = self.log.warning if after.displayed is DisplayedState.FAILED else self.log.info
            level(
                "state",
                state=after.displayed.value,
                was=before.displayed.value,
                **({"why": why} if why else {}),
            )

    def _link(self, purpose: Purpose, before: Link, after: Link, worker: AgentState, now_s: float) -> None:
        name = f"tunnel_{purpose.value}"
        if after.phase is LinkPhase.UP and (
            before.phase is not LinkPhase.UP or (before.fault and not after.fault)
        ):
            fields: dict[str, Any] = {"generation": after.generation}
            if purpose is Purpose.REVERSE:
                fields["address"] = worker.address
            lasted = self.quiet.over(name, now_s)
            if lasted is not None:
                fields |= {"attempts": lasted.times, "down_s": round(lasted.lasted_s, 1)}
            self.log.info(f"{name}_up", **fields)
        elif after.fault is not None and _failed_again(before, after):
            again = self.quiet.again(name, now_s)
            if again is not None:
                self.log.warning(
                    f"{name}_down",
                    reason=after.fault.kind.value,
                    text=after.fault.message,
                    attempts=again.times,
                    retry_in_s=round(max(0.0, after.retry_at_s - now_s), 1),
                )

    def _tailnet(self, before: AgentState, after: AgentState, event: Event) -> None:
        """Its troubles are the api link's; here is what else becomes of it."""
        was, now = before.tailnet.facts, after.tailnet.facts
        if isinstance(event, TailnetJoinTried):
            level = self.log.warning if event.error else self.log.info
            level(
                "tailnet_login",
                text=event.error or "the key was given to tailscaled",
                attempts=after.tailnet.joins,
            )
        if now is None or now.state is not DaemonState.RUNNING:
            return
        if was is None or was.state is not DaemonState.RUNNING or was.name != now.name:
            self.log.info(
                "tailnet_up", name=now.name, address=now.address, tailnet=now.tailnet, version=now.version
            )
        peer, before_peer = now.peer, was.peer if was else None
        if peer is not None and (before_peer is None or _way(before_peer) != _way(peer)):
            self.log.info(
                "tailnet_peer", name=peer.name, online=peer.online, direct=peer.direct, relay=peer.relay
            )

    def _registration(self, before: AgentState, after: AgentState) -> None:
        if after.registration.times == before.registration.times:
            return
        promise = after.registration.advertisement
        if promise is None:
            return
        self.log.info(
            "registered",
            machine_id=after.config.machine_id,
            pool=after.config.pool_name,
            hostname=promise.hostname,
            cpu_millicores=promise.capacity.cpu_millicores,
            memory_mib=promise.capacity.memory_mib,
            gpu_count=promise.capacity.gpu_count,
            times=after.registration.times,
        )
        first = before.registration.gateway_config is None
        if first and after.registration.gateway_config is False and after.config.connection.value == "ssh":
            self.log.warning(
                "gateway_setting", text="directRedisHost is not set on the gateway; no work will come"
            )

    def _offer(self, before: AgentState, after: AgentState) -> None:
        if before.offer == after.offer:
            return
        if after.offer.offered:
            self.log.info("offering", what="everything")
        elif before.offer.offered or after.registration.known:
            level = self.log.info if after.shutdown else self.log.warning
            level("offering", what="nothing", reason=after.offer.reason)

    def _kubernetes(self, before: AgentState, after: AgentState, now_s: float) -> None:
        if after.kube.answering and not before.kube.answering:
            self.quiet.over("kubernetes", now_s)
            self.log.info("kubernetes_up")
        elif before.kube.answering and not after.kube.answering:
            self.log.warning("kubernetes_down", text=after.kube.reason)
        elif after.kube.looked and not before.kube.looked:
            self.log.info(
                "kubernetes_absent" if not after.kube.expected else "kubernetes_down", text=after.kube.reason
            )

    def _call(self, event: CallEnded, before: AgentState, now_s: float) -> None:
        outcome, call = event.outcome, before.call
        if call is None or call.call_id != event.call_id:
            return
        name = f"{call.kind.value}_failed"
        if outcome.kind is OutcomeKind.OK:
            lasted = self.quiet.over(name, now_s)
            if lasted is not None:
                self.log.info(
                    f"{call.kind.value}_recovered", attempts=lasted.times, lasted_s=round(lasted.lasted_s, 1)
                )
            else:
                self.log.debug(f"{call.kind.value}_ok", took_s=round(outcome.took_s, 3))
            return
        again = self.quiet.again(name, now_s)
        if again is not None:
            self.log.warning(name, reason=outcome.kind.value, text=outcome.text, attempts=again.times)

    def _leaving(self, before: AgentState, after: AgentState, event: Event, now_s: float) -> None:
        """One line for each step of leaving, and for what was announced."""
        if isinstance(event, NoticeReceived):
            in_s = None if event.deadline_at_s is None else round(event.deadline_at_s - now_s, 1)
            self.log.warning("notice", kind=event.kind.value, reason=event.reason, in_s=in_s)
        going = after.shutdown
        if going is not None and (before.shutdown is None or before.shutdown.phase is not going.phase):
            left_s = None if math.isinf(going.deadline_at_s) else round(going.deadline_at_s - now_s, 1)
            fields = {"kind": going.kind.value, "reason": going.reason, "deadline_in_s": left_s}
            # As counted last: the step itself has not looked yet.
            workers = event.count if isinstance(event, WorkersListed) else before.node_drain.workers
            self.log.info("drain", step=going.phase.value, workers=workers, **fields)
        if after.node_drain.cordoned is not before.node_drain.cordoned and (
            after.node_drain.cordoned or before.node_drain.cordoned
        ):
            self.log.info("cordon", cordoned=after.node_drain.cordoned)
        was, now = before.node_drain, after.node_drain
        for old, new in ((was.list_error, now.list_error), (was.cordon_error, now.cordon_error)):
            if new and new != old:
                self.log.warning("drain_trouble", text=new)
        if isinstance(event, StopWritten) and event.error:
            self.log.warning("stop_marker", text=event.error)

    def _gpus(self, before: AgentState, after: AgentState) -> None:
        was = {gpu.uuid: gpu.healthy for gpu in before.gpus.gpus}
        for gpu in after.gpus.gpus:
            if not gpu.healthy and was.get(gpu.uuid, True):
                self.log.error("gpu_failed", uuid=gpu.uuid, name=gpu.name, reason=gpu.reason)
            elif gpu.healthy and not was.get(gpu.uuid, True):
                self.log.info("gpu_recovered", uuid=gpu.uuid, name=gpu.name)
        if after.gpus.error and not before.gpus.error:
            self.log.warning("gpus_unread", text=after.gpus.error)


def _way(peer: PeerFacts) -> tuple[str, bool, bool | None]:
    return peer.name, peer.online, peer.direct


def _failed_again(before: Link, after: Link) -> bool:
    """Another attempt failed, if only in the same way as the last: it counts, and now and then it is said."""
    return (
        after.fault != before.fault or after.restarts != before.restarts or after.refusals > before.refusals
    )


def _why(worker: AgentState) -> str:
    if worker.exit_decision is not None:
        return worker.exit_decision.reason
    if worker.shutdown is not None:
        return worker.shutdown.reason
    if worker.displayed in _TRYING and worker.api.fault is not None:
        return worker.api.fault.message
    return ""
