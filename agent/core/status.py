"""Make `/status` from the agent's state, as plain JSON values. The shape is public: status_schema.py."""

from __future__ import annotations

import math

from agent.core.config import Connection
from agent.core.context import Context
from agent.core.degraded import degradations
from agent.core.host.facts import Gpu, PeerFacts
from agent.core.kubernetes.status import kubernetes_status
from agent.core.lifecycle.model import ShutdownKind
from agent.core.machine_api import offer
from agent.core.machine_api.capacity import capacity
from agent.core.machine_api.placement import functions_fail, unplaceable
from agent.core.policy import Policy
from agent.core.state import AgentState
from agent.core.status_schema import (
    CapacityStatus,
    Counters,
    DrainStatus,
    FunctionsStatus,
    GatewayStatus,
    GpuStatus,
    InterruptionStatus,
    KeepaliveStatus,
    LinkStatus,
    PeerStatus,
    PlacementStatus,
    ReverseFormStatus,
    Status,
    TailnetStatus,
    TunnelStatus,
    WaitingStatus,
)
from agent.core.tailnet import login
from agent.core.tunnel import reverse_form
from agent.core.tunnel.model import LinkPhase, Purpose
from agent.core.waiting import link_reason, waiting


def status(
    state: AgentState, now_s: float, policy: Policy, gateway_url: str, degraded: tuple[str, ...] = ()
) -> Status:
    """Return the whole status; `now_s` is on the clock of the state's times. The caller adds the transitions."""
    advertisement = state.registration.advertisement
    ctx = Context(now_s, policy)
    return {
        "machine_id": state.config.machine_id,
        "pool": state.config.pool_name,
        "state": state.displayed.value,
        "since_s": _age(state.since_s, now_s),
        "waiting": _waiting(state, ctx),
        "functions": _functions(state),
        "gateway": _gateway(state, now_s, gateway_url),
        "tunnel": _tunnel(state, gateway_url, ctx),
        "tailnet": _tailnet(state, now_s),
        "registration": {
            "hostname": advertisement.hostname if advertisement else None,
            "times": state.registration.times,
        },
        "keepalive": _keepalive(state, now_s, policy),
        "capacity": _capacity(state),
        "kubernetes": kubernetes_status(state, now_s),
        "placement": _placement(state),
        "gpus": [_gpu(gpu) for gpu in state.gpus.gpus],
        "interruption": _interruption(state, now_s),
        "drain": _drain(state, now_s),
        "version": state.config.version,
        "degraded": [*degraded, *degradations(state, now_s)],
        "counters": _counters(state),
        "probes": {
            "forward_s": state.api.probe_s,
            "reverse_s": state.reverse.probe_s,
            "kubernetes_s": state.kube.probe_s,
        },
        "transitions": [],
    }


def is_ready(state: AgentState, now_s: float) -> bool:
    """Return whether the state is READY, with a keepalive inside the lease."""
    expires_at_s = state.lease.expires_at_s
    return state.displayed.value == "READY" and expires_at_s is not None and now_s < expires_at_s


def _gateway(state: AgentState, now_s: float, url: str) -> GatewayStatus:
    return {
        "url": url,
        "last_ok_s": _age(_latest(state), now_s),
        "last_error": state.last_error or state.gateway_error,
        "last_error_s": _age(state.last_error_at_s, now_s),
    }


def _waiting(state: AgentState, ctx: Context) -> WaitingStatus | None:
    found = waiting(state, ctx)
    return {"what": found.what, "until": found.until} if found else None


def _functions(state: AgentState) -> FunctionsStatus:
    reason = functions_fail(state)
    return {"can_run": reason is None, "reason": reason}


def _tunnel(state: AgentState, gateway_url: str, ctx: Context) -> TunnelStatus:
    return {
        "connection": state.config.connection.value,
        "up": state.api.phase is LinkPhase.UP,
        "generation": state.api.generation,
        "restarts": sum(count for _, count in state.api.restarts),
        "forward": _link(state, Purpose.API, gateway_url, ctx),
        "reverse": _link(state, Purpose.REVERSE, state.address, ctx),
        "reverse_form": _reverse_form(state, ctx.now_s),
        "data": _link(state, Purpose.DATA, None, ctx) if state.config.data else None,
    }


def _reverse_form(state: AgentState, now_s: float) -> ReverseFormStatus:
    reason = reverse_form.plain_reason(state)
    is_passing = state.fallback.reason is not None
    return {
        "any_port": reason is None,
        "reason": reason,
        "retry_in_s": _left(state.fallback.trial_at_s, now_s) if is_passing else None,
    }


def _tailnet(state: AgentState, now_s: float) -> TailnetStatus | None:
    """The machine's place in its tailnet; None if the gateway is not reached through one."""
    if state.config.connection is not Connection.TAILSCALE:
        return None
    seen, fault = state.tailnet, login.current_fault(state)
    facts = seen.facts
    expires_s = login.key_expires_in_s(state, now_s)
    return {
        "up": facts is not None and fault is None,
        "state": facts.state.value if facts else None,
        "reason": fault.message if fault else None,
        "name": seen.name or None,
        "address": seen.address or None,
        "tailnet": facts.tailnet or None if facts else None,
        "version": facts.version or None if facts else None,
        "key_expires_in_s": None if expires_s is None else round(max(0.0, expires_s)),
        "peer": _peer(facts.peer) if facts and facts.peer else None,
        "seen_s": _age(seen.seen_at_s, now_s),
    }


def _peer(peer: PeerFacts) -> PeerStatus:
    return {
        "name": peer.name,
        "address": peer.address,
        "online": peer.online,
        "key_expired": peer.key_expired,
        "direct": peer.direct,
        "relay": peer.relay,
    }


def _keepalive(state: AgentState, now_s: float, policy: Policy) -> KeepaliveStatus:
    lease = state.lease
    left_s = None if lease.expires_at_s is None else max(0.0, round(lease.expires_at_s - now_s, 1))
    return {
        "last_ok_s": _age(lease.last_ok_s, now_s),
        "ttl_s": left_s,
        "interval_s": policy.keepalive_interval_s,
        "failures": lease.failures,
    }


def _capacity(state: AgentState) -> CapacityStatus:
    has = capacity(state)
    return {
        "cpu_millicores": has.cpu_millicores,
        "memory_mib": has.memory_mib,
        "gpu_count": has.gpu_count,
        "free_gpu_count": has.free_gpu_count,
        "offered": _offered(state),
        "reason": state.offer.reason,
    }


def _gpu(gpu: Gpu) -> GpuStatus:
    return {
        "uuid": gpu.uuid,
        "name": gpu.name,
        "healthy": gpu.healthy,
        "reason": gpu.reason,
        "utilization_pct": gpu.utilization_pct,
        "memory_used_mib": gpu.memory_used_mib,
        "memory_total_mib": gpu.memory_total_mib,
        "temperature_c": gpu.temperature_c,
    }


def _placement(state: AgentState) -> PlacementStatus:
    lease = state.lease
    return {
        "keepalives_go": lease.ready and lease.failures == 0,
        "work_can_be_placed": offer.is_placeable(state),
        "reason": unplaceable(state),
        "blocked_by": state.offer.by,
    }


def _counters(state: AgentState) -> Counters:
    lease, registration = state.lease, state.registration
    return {
        "keepalives": {"ok": lease.oks, "failed": lease.failed},
        "registrations": {"ok": registration.times, "failed": registration.failures},
        "tunnel_restarts": _restarts(state),
    }


def _offered(state: AgentState) -> bool:
    """What the gateway was told last, which may lag one call behind the offer."""
    return state.registration.known and state.registration.offered


def _interruption(state: AgentState, now_s: float) -> InterruptionStatus | None:
    """What the cloud has announced, and how far the agent has come with it."""
    shutdown = state.shutdown
    if shutdown is not None and shutdown.kind is ShutdownKind.TERMINATE:
        return {
            "kind": "terminate",
            "reason": shutdown.reason,
            "deadline_in_s": _left(shutdown.deadline_at_s, now_s),
            "step": shutdown.phase.value,
        }
    if state.rebalance is None:
        return None
    step = "withdrawn" if offer.is_withdrawn(state) else "ignored"
    return {"kind": "rebalance", "reason": state.rebalance, "deadline_in_s": None, "step": step}


def _drain(state: AgentState, now_s: float) -> DrainStatus | None:
    """How far a shutdown has come, whoever requested it."""
    shutdown, node_drain = state.shutdown, state.node_drain
    if shutdown is None:
        return None
    return {
        "kind": shutdown.kind.value,
        "reason": shutdown.reason,
        "step": shutdown.phase.value,
        "since_s": _age(shutdown.since_s, now_s),
        "deadline_in_s": _left(shutdown.deadline_at_s, now_s),
        "workers": node_drain.workers,
        "cordoned": bool(node_drain.cordoned),
        "trouble": node_drain.list_error or node_drain.cordon_error,
    }


def _left(at_s: float, now_s: float) -> float | None:
    return None if math.isinf(at_s) else round(max(0.0, at_s - now_s), 1)


def _restarts(state: AgentState) -> dict[str, int]:
    total: dict[str, int] = {}
    for link in (state.api, state.reverse, state.data):
        for reason, count in link.restarts:
            total[reason] = total.get(reason, 0) + count
    return total


def _link(state: AgentState, purpose: Purpose, address: str | None, ctx: Context) -> LinkStatus:
    link, reason = state.link(purpose), link_reason(state, purpose, ctx)
    if reason is None and purpose is Purpose.REVERSE:
        reason = state.detour
    return {
        "up": link.phase is LinkPhase.UP,
        "address": address,
        "reason": reason,
        "generation": link.generation,
    }


def _latest(state: AgentState) -> float | None:
    moments = [at_s for at_s in (state.lease.last_ok_s, state.api.answered_at_s) if at_s is not None]
    return max(moments, default=None)


def _age(at_s: float | None, now_s: float) -> float | None:
    return None if at_s is None else round(max(0.0, now_s - at_s), 3)
