"""One log line per notable change of state, none per tick. Event names are stable: docs/logs.md lists them."""

from __future__ import annotations

import math
from collections import deque

from agent.core.context import Context
from agent.core.events import (
    CallEnded,
    Event,
    FactsRead,
    JobsCleared,
    NoticeReceived,
    StopWritten,
    TailnetJoinTried,
    WorkersListed,
)
from agent.core.host.facts import DaemonState, PeerFacts
from agent.core.lifecycle.model import DisplayedState
from agent.core.machine_api.model import Offer
from agent.core.machine_api.wire import OutcomeKind
from agent.core.policy import Policy
from agent.core.state import AgentState
from agent.core.tunnel import contest, reverse_form
from agent.core.tunnel.model import Link, LinkPhase, Purpose
from agent.core.waiting import waiting
from agent.observability.log_throttle import LogThrottle
from agent.observability.logs import EventLog

TRANSITIONS_KEPT = 20

# These two alternate with every attempt while the gateway is unreachable; one outage should be one line.
_TRYING = frozenset({DisplayedState.CONNECTING, DisplayedState.BACKOFF})


class ChangeLogger:
    """Compares the agent's state before and after a step and logs what changed."""

    def __init__(self, log: EventLog, policy: Policy) -> None:
        self.transitions: deque[tuple[str, float, str]] = deque(maxlen=TRANSITIONS_KEPT)
        """The latest states, each with its start time and reason, for `/status`."""
        self._log = log
        self._policy = policy
        self._throttle = LogThrottle()
        self._offer_logged: Offer | None = None

    def on_step(self, before: AgentState, after: AgentState, event: Event, now_s: float) -> None:
        """Log what one step changed. The state comes last, so that a cause is read before its effect."""
        for purpose in Purpose:
            self._link(purpose, before.link(purpose), after.link(purpose), after, now_s)
        if (text := contest.warning(after)) is not None and text != contest.warning(before):
            self._log.warning("machine_id", text=text)
        self._reverse_form(before, after, now_s)
        self._tailnet(before, after, event)
        self._registration(before, after)
        self._offer(before, after)
        self._kubernetes(before, after, now_s)
        if isinstance(event, CallEnded) and before.call is not None and after.call is not before.call:
            self._call(event, before, now_s)
        if isinstance(event, FactsRead):
            self._gpus(before, after)
        self._shutdown(before, after, event, now_s)
        self._state(before, after, now_s)

    def _state(self, before: AgentState, after: AgentState, now_s: float) -> None:
        if before.displayed is after.displayed:
            return
        reason = _reason(after, Context(now_s, self._policy))
        if not (before.displayed in _TRYING and after.displayed in _TRYING):
            self.transitions.append((after.displayed.value, now_s, reason))
            level = self._log.warning if after.displayed is DisplayedState.FAILED else self._log.info
            level(
                "state",
                state=after.displayed.value,
                was=before.displayed.value,
                **({"why": reason} if reason else {}),
            )

    def _link(self, purpose: Purpose, before: Link, after: Link, state: AgentState, now_s: float) -> None:
        name = f"tunnel_{purpose.value}"
        if after.phase is LinkPhase.UP and (
            before.phase is not LinkPhase.UP or (before.fault and not after.fault)
        ):
            fields: dict[str, object] = {"generation": after.generation}
            if purpose is Purpose.REVERSE:
                fields["address"] = state.address
            outage = self._throttle.resolve(name, now_s)
            if outage is not None:
                fields |= {"attempts": outage.times, "down_s": round(outage.lasted_s, 1)}
            self._log.info(f"{name}_up", **fields)
        elif after.fault is not None and _attempt_failed(before, after):
            repeats = self._throttle.record(name, now_s)
            if repeats is not None:
                self._log.warning(
                    f"{name}_down",
                    reason=after.fault.kind.value,
                    text=after.fault.message,
                    attempts=repeats.times,
                    retry_in_s=round(max(0.0, after.retry_at_s - now_s), 1),
                )

    def _reverse_form(self, before: AgentState, after: AgentState, now_s: float) -> None:
        """Log when the plain form begins to stand in for any port, and when it no longer does."""
        if reverse_form.always_plain(after.config) is not None:
            return
        was, reason = reverse_form.plain_reason(before), reverse_form.plain_reason(after)
        if reason is not None and (was is None or was != reason):
            # Each trial of any port ends with the same line.
            if self._throttle.record("reverse_form", now_s) is not None:
                self._log.warning("reverse_form", form="k3s", text=reason)
        elif (
            reason is None and after.reverse.any_port and not _is_up(before.reverse) and _is_up(after.reverse)
        ):
            self._throttle.resolve("reverse_form", now_s)
            self._log.info("reverse_form", form="any-port")

    def _tailnet(self, before: AgentState, after: AgentState, event: Event) -> None:
        """Log logins, coming up, and changes of the peer; faults are logged as the API link's."""
        old, new = before.tailnet.facts, after.tailnet.facts
        if isinstance(event, TailnetJoinTried):
            level = self._log.warning if event.error else self._log.info
            level(
                "tailnet_login",
                text=event.error or "gave tailscaled the auth key",
                attempts=after.tailnet.joins,
            )
        if new is None or new.state is not DaemonState.RUNNING:
            return
        if old is None or old.state is not DaemonState.RUNNING or old.name != new.name:
            self._log.info(
                "tailnet_up", name=new.name, address=new.address, tailnet=new.tailnet, version=new.version
            )
        peer, old_peer = new.peer, old.peer if old else None
        if peer is not None and (old_peer is None or _route(old_peer) != _route(peer)):
            self._log.info(
                "tailnet_peer", name=peer.name, online=peer.online, direct=peer.direct, relay=peer.relay
            )

    def _registration(self, before: AgentState, after: AgentState) -> None:
        if after.registration.times == before.registration.times:
            return
        advertisement = after.registration.advertisement
        if advertisement is None:
            return
        self._log.info(
            "registered",
            machine_id=after.config.machine_id,
            pool=after.config.pool_name,
            hostname=advertisement.hostname,
            cpu_millicores=advertisement.capacity.cpu_millicores,
            memory_mib=advertisement.capacity.memory_mib,
            gpu_count=advertisement.capacity.gpu_count,
            times=after.registration.times,
        )
        first = before.registration.gateway_config is None
        if first and after.registration.gateway_config is False and after.config.connection.value == "ssh":
            self._log.warning(
                "gateway_setting",
                text="directRedisHost is not set on the gateway; it will not place work on this machine",
            )

    def _offer(self, before: AgentState, after: AgentState) -> None:
        """Log what is offered, and whenever a registration is about to say that it is nothing, why."""
        if after.offer == self._offer_logged:
            return
        has_changed = before.offer != after.offer
        call = after.call if after.call is not before.call else None
        is_told = call is not None and call.advertisement is not None
        if after.offer.offered and has_changed:
            self._log.info("offering", what="everything")
        elif is_told or (has_changed and (before.offer.offered or after.registration.known)):
            level = self._log.info if after.shutdown else self._log.warning
            level("offering", what="nothing", reason=after.offer.reason)
        else:
            return
        self._offer_logged = after.offer

    def _kubernetes(self, before: AgentState, after: AgentState, now_s: float) -> None:
        if after.kube.answering and not before.kube.answering:
            self._throttle.resolve("kubernetes", now_s)
            self._log.info("kubernetes_up")
        elif before.kube.answering and not after.kube.answering:
            self._log.warning("kubernetes_down", text=after.kube.reason)
        elif after.kube.looked and not before.kube.looked:
            self._log.info(
                "kubernetes_absent" if not after.kube.expected else "kubernetes_down", text=after.kube.reason
            )

    def _call(self, event: CallEnded, before: AgentState, now_s: float) -> None:
        outcome, call = event.outcome, before.call
        if call is None or call.call_id != event.call_id:
            return
        name = f"{call.kind.value}_failed"
        if outcome.kind is OutcomeKind.OK:
            outage = self._throttle.resolve(name, now_s)
            if outage is not None:
                self._log.info(
                    f"{call.kind.value}_recovered", attempts=outage.times, lasted_s=round(outage.lasted_s, 1)
                )
            else:
                self._log.debug(f"{call.kind.value}_ok", took_s=round(outcome.took_s, 3))
            return
        repeats = self._throttle.record(name, now_s)
        if repeats is not None:
            self._log.warning(name, reason=outcome.kind.value, text=outcome.text, attempts=repeats.times)

    def _shutdown(self, before: AgentState, after: AgentState, event: Event, now_s: float) -> None:
        """Log the cloud's notices and each phase of a drain."""
        if isinstance(event, NoticeReceived):
            in_s = None if event.deadline_at_s is None else round(event.deadline_at_s - now_s, 1)
            self._log.warning("notice", kind=event.kind.value, reason=event.reason, in_s=in_s)
        shutdown = after.shutdown
        if shutdown is not None and (before.shutdown is None or before.shutdown.phase is not shutdown.phase):
            unbounded = math.isinf(shutdown.deadline_at_s)
            left_s = None if unbounded else round(shutdown.deadline_at_s - now_s, 1)
            fields = {"kind": shutdown.kind.value, "reason": shutdown.reason, "deadline_in_s": left_s}
            # The previous count: a step that enters a phase has not listed the workers of that phase yet.
            workers = event.count if isinstance(event, WorkersListed) else before.node_drain.workers
            self._log.info("drain", step=shutdown.phase.value, workers=workers, **fields)
        if isinstance(event, JobsCleared) and event.found:
            self._log.info("jobs_cleared", jobs=list(event.found))
        self._node_drain(before, after)
        if isinstance(event, StopWritten) and event.error:
            self._log.warning("stop_marker", text=event.error)

    def _node_drain(self, before: AgentState, after: AgentState) -> None:
        old, new = before.node_drain, after.node_drain
        # From None (never cordoned) to False is not a change worth a line.
        if new.cordoned is not old.cordoned and (new.cordoned or old.cordoned):
            self._log.info("cordon", cordoned=new.cordoned)
        errors = (
            (old.list_error, new.list_error),
            (old.cordon_error, new.cordon_error),
            (old.clear_error, new.clear_error),
        )
        for old_error, new_error in errors:
            if new_error and new_error != old_error:
                self._log.warning("drain_trouble", text=new_error)

    def _gpus(self, before: AgentState, after: AgentState) -> None:
        healthy_before = {gpu.uuid: gpu.healthy for gpu in before.gpus.gpus}
        for gpu in after.gpus.gpus:
            if not gpu.healthy and healthy_before.get(gpu.uuid, True):
                self._log.error("gpu_failed", uuid=gpu.uuid, name=gpu.name, reason=gpu.reason)
            elif gpu.healthy and not healthy_before.get(gpu.uuid, True):
                self._log.info("gpu_recovered", uuid=gpu.uuid, name=gpu.name)
        if after.gpus.error and not before.gpus.error:
            self._log.warning("gpus_unread", text=after.gpus.error)


def _is_up(link: Link) -> bool:
    return link.phase is LinkPhase.UP


def _route(peer: PeerFacts) -> tuple[str, bool, bool | None]:
    return peer.name, peer.online, peer.direct


def _attempt_failed(before: Link, after: Link) -> bool:
    """Return whether another attempt failed, even if in the same way as the last one."""
    return (
        after.fault != before.fault or after.restarts != before.restarts or after.refusals > before.refusals
    )


def _reason(state: AgentState, ctx: Context) -> str:
    """Return why the displayed state is what it is, or what it waits for; an empty string if all is well."""
    if state.exit_decision is not None:
        return state.exit_decision.reason
    if state.shutdown is not None:
        return state.shutdown.reason
    if state.displayed in _TRYING and state.api.fault is not None:
        return state.api.fault.message
    found = waiting(state, ctx)
    return f"waiting for {found.what}" if found else ""
