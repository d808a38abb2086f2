"""What `/status` shows: the worker's knowledge as plain JSON values. Every `*_s` is seconds of age, None = never.

The shape is fixed by the project's interface; scripts outside it read this.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from agent.core.config import Connection
from agent.core.lifecycle.model import ShutdownKind
from agent.core.machine_api import offer
from agent.core.machine_api.capacity import capacity
from agent.core.policy import Policy
from agent.core.state import AgentState
from agent.core.tailnet import login
from agent.core.tunnel.model import Link, LinkPhase

FULL_DISK_BYTES = 64 * 1024
"""Less than this free, and the state directory's few small files may not be written any more."""


def status(
    state: AgentState, now_s: float, policy: Policy, gateway_url: str, degraded: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The whole status as a JSON object; `now_s` on the clock that the worker's moments are on."""
    advertisement = state.registration.advertisement
    return {
        "machine_id": state.config.machine_id,
        "pool": state.config.pool_name,
        "state": state.displayed.value,
        "since_s": _age(state.since_s, now_s),
        "gateway": _gateway(state, now_s, gateway_url),
        "tunnel": _tunnel(state, gateway_url),
        "tailnet": _tailnet(state, now_s),
        "registration": {
            "hostname": advertisement.hostname if advertisement else None,
            "times": state.registration.times,
        },
        "keepalive": _keepalive(state, now_s, policy),
        "capacity": _capacity(state),
        "kubernetes": _kubernetes(state),
        "placement": _placement(state),
        "gpus": [asdict(gpu) for gpu in state.gpus.gpus],
        "interruption": _interruption(state, now_s),
        "drain": _drain(state, now_s),
        "version": state.config.version,
        "degraded": [*degraded, *_degraded(state), *_key_degraded(state, now_s)],
        "counters": _counters(state),
        "probes": {
            "forward_s": state.api.probe_s,
            "reverse_s": state.reverse.probe_s,
            "kubernetes_s": state.kube.probe_s,
        },
    }


def is_ready(state: AgentState, now_s: float) -> bool:
    """READY, with a keepalive inside the lease."""
    expires_at_s = state.lease.expires_at_s
    return state.displayed.value == "READY" and expires_at_s is not None and now_s < expires_at_s


def _gateway(state: AgentState, now_s: float, url: str) -> dict[str, Any]:
    return {
        "url": url,
        "last_ok_s": _age(_latest(state), now_s),
        "last_error": state.last_error or state.gateway_error,
        "last_error_s": _age(state.last_error_at_s, now_s),
    }


def _tunnel(state: AgentState, gateway_url: str) -> dict[str, Any]:
    return {
        "connection": state.config.connection.value,
        "up": state.api.phase is LinkPhase.UP,
        "generation": state.api.generation,
        "restarts": sum(count for _, count in state.api.restarts),
        "forward": _link(state.api, gateway_url),
        "reverse": _link(state.reverse, state.address, state.detour),
        "data": _link(state.data, None) if state.config.data else None,
    }


def _tailnet(state: AgentState, now_s: float) -> dict[str, Any] | None:
    """The machine's place in its tailnet; None where that is not the way to the gateway."""
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
        "peer": asdict(facts.peer) if facts and facts.peer else None,
        "seen_s": _age(seen.seen_at_s, now_s),
    }


def _keepalive(state: AgentState, now_s: float, policy: Policy) -> dict[str, Any]:
    lease = state.lease
    left_s = None if lease.expires_at_s is None else max(0.0, round(lease.expires_at_s - now_s, 1))
    return {
        "last_ok_s": _age(lease.last_ok_s, now_s),
        "ttl_s": left_s,
        "interval_s": policy.keepalive_interval_s,
        "failures": lease.failures,
    }


def _capacity(state: AgentState) -> dict[str, Any]:
    return {
        **asdict(capacity(state)),
        "offered": _offered(state),
        "reason": state.offer.reason,
    }


def _kubernetes(state: AgentState) -> dict[str, Any]:
    kube = state.kube
    return {
        "expected": kube.expected,
        "answering": kube.answering,
        "reason": kube.reason or kube.node_reason,
        "token_serial": kube.token_serial,
        "node": _node(state),
    }


def _placement(state: AgentState) -> dict[str, Any]:
    lease = state.lease
    return {
        "keepalives_go": lease.ready and lease.failures == 0,
        "work_can_be_placed": offer.is_placeable(state),
        "reason": _unplaceable(state),
        "blocked_by": state.offer.by,
    }


def _counters(state: AgentState) -> dict[str, Any]:
    lease, registration = state.lease, state.registration
    return {
        "keepalives": {"ok": lease.oks, "failed": lease.failed},
        "registrations": {"ok": registration.times, "failed": registration.failures},
        "tunnel_restarts": _restarts(state),
    }


def _offered(state: AgentState) -> bool:
    """What the gateway was last told, which lags what we want by one call."""
    advertisement = state.registration.advertisement
    return state.registration.known and advertisement is not None and advertisement.offered


def _unplaceable(state: AgentState) -> str | None:
    """Why the gateway can start no work here, None where it can."""
    if state.offer.reason is not None:
        return state.offer.reason
    if offer.is_placeable(state):
        return None
    if offer.is_told(state):
        return "the gateway has accepted no keepalive since the machine was registered"
    return "the gateway was not told yet"


def _node(state: AgentState) -> dict[str, Any] | None:
    node = state.kube.node
    if node is None:
        return None
    return {
        "ready": node.ready,
        "schedulable": node.schedulable,
        "pressures": list(node.pressures),
        "gpus_allocatable": node.gpus_allocatable,
        "gpus_requested": node.gpus_requested,
        "worker_count": node.worker_count,
        "container_count": node.container_count,
    }


def _interruption(state: AgentState, now_s: float) -> dict[str, Any] | None:
    """What the cloud has announced, and how far the agent is with it."""
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


def _drain(state: AgentState, now_s: float) -> dict[str, Any] | None:
    """How far leaving has come, whoever asked for it."""
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


def _degraded(state: AgentState) -> list[str]:
    texts = [] if state.kube.read_error is None else [f"Kubernetes: {state.kube.read_error}"]
    host = state.host
    if host is not None and host.disk_total_bytes and host.disk_free_bytes < FULL_DISK_BYTES:
        texts.append(
            f"the state directory's disk is full ({host.disk_free_bytes} bytes free): the machine's id and a stop "
            "marker could not be kept there; free space"
        )
    if state.gpus.error:
        texts.append(f"GPUs: {state.gpus.error}")
    texts += [f"GPU {gpu.uuid} ({gpu.name}): {gpu.reason}" for gpu in state.gpus.gpus if not gpu.healthy]
    if state.registration.gateway_config is False and state.config.connection.value == "ssh":
        texts.append("directRedisHost is not set on the gateway; no work will come")
    refused = [name for name in ("api", "reverse", "data") if not getattr(state, name).session]
    if state.rebalance is not None and state.node_drain.cordon_error:
        texts.append(f"the node is not cordoned: {state.node_drain.cordon_error}")
    if refused:
        texts.append(f"sshd refuses session channels; small writes are slower ({', '.join(refused)})")
    return texts


def _key_degraded(state: AgentState, now_s: float) -> list[str]:
    expires_s = login.key_expires_in_s(state, now_s)
    if expires_s is None or not 0 < expires_s < login.EXPIRES_SOON_S:
        return []
    return [
        f"this machine's key in the tailnet expires in {expires_s / 3600:.1f} h; renew it, or switch its expiry off at "
        "the control server"
    ]


def _restarts(state: AgentState) -> dict[str, int]:
    total: dict[str, int] = {}
    for link in (state.api, state.reverse, state.data):
        for reason, count in link.restarts:
            total[reason] = total.get(reason, 0) + count
    return total


def _link(link: Link, address: str | None, note: str | None = None) -> dict[str, Any]:
    return {
        "up": link.phase is LinkPhase.UP,
        "address": address,
        "reason": link.fault.message if link.fault else note,
        "generation": link.generation,
    }


def _latest(state: AgentState) -> float | None:
    moments = [at_s for at_s in (state.lease.last_ok_s, state.api.answered_at_s) if at_s is not None]
    return max(moments, default=None)


def _age(at_s: float | None, now_s: float) -> float | None:
    return None if at_s is None else round(max(0.0, now_s - at_s), 3)
