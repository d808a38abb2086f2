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
from agent.core.policy import Policy
from agent.core.state import AgentState
from agent.core.tailnet import login as tailnet
from agent.core.tunnel.model import Link, LinkPhase

FULL_DISK_BYTES = 64 * 1024
"""Less than this free, and the state directory's few small files may not be written any more."""


def status(
    worker: AgentState, now_s: float, policy: Policy, gateway_url: str, degraded: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The whole status as a JSON object; `now_s` on the clock that the worker's moments are on."""
    promise = worker.registration.promise
    return {
        "machine_id": worker.setup.machine_id,
        "pool": worker.setup.pool_name,
        "state": worker.state.value,
        "since_s": _age(worker.since_s, now_s),
        "gateway": _gateway(worker, now_s, gateway_url),
        "tunnel": _tunnel(worker, gateway_url),
        "tailnet": _tailnet(worker, now_s),
        "registration": {
            "hostname": promise.hostname if promise else None,
            "times": worker.registration.times,
        },
        "keepalive": _keepalive(worker, now_s, policy),
        "capacity": _capacity(worker),
        "kubernetes": _kubernetes(worker),
        "placement": _placement(worker),
        "gpus": [asdict(gpu) for gpu in worker.gpus.gpus],
        "interruption": _interruption(worker, now_s),
        "drain": _drain(worker, now_s),
        "version": worker.setup.version,
        "degraded": [*degraded, *_degraded(worker), *_key_degraded(worker, now_s)],
        "counters": _counters(worker),
        "probes": {
            "forward_s": worker.api.probe_s,
            "reverse_s": worker.reverse.probe_s,
            "kubernetes_s": worker.kube.probe_s,
        },
    }


def is_ready(worker: AgentState, now_s: float) -> bool:
    """READY, with a keepalive inside the lease."""
    expires_at_s = worker.lease.expires_at_s
    return worker.state.value == "READY" and expires_at_s is not None and now_s < expires_at_s


def _gateway(worker: AgentState, now_s: float, url: str) -> dict[str, Any]:
    return {
        "url": url,
        "last_ok_s": _age(_latest(worker), now_s),
        "last_error": worker.last_error or worker.gateway_trouble,
        "last_error_s": _age(worker.last_error_at_s, now_s),
    }


def _tunnel(worker: AgentState, gateway_url: str) -> dict[str, Any]:
    return {
        "connection": worker.setup.connection.value,
        "up": worker.api.phase is LinkPhase.UP,
        "generation": worker.api.generation,
        "restarts": sum(count for _, count in worker.api.restarts),
        "forward": _link(worker.api, gateway_url),
        "reverse": _link(worker.reverse, worker.address, worker.detour),
        "data": _link(worker.data, None) if worker.setup.data else None,
    }


def _tailnet(worker: AgentState, now_s: float) -> dict[str, Any] | None:
    """The machine's place in its tailnet; None where that is not the way to the gateway."""
    if worker.setup.connection is not Connection.TAILSCALE:
        return None
    seen, wrong = worker.tailnet, tailnet.trouble(worker)
    facts = seen.facts
    expires_s = tailnet.key_expires_in_s(worker, now_s)
    return {
        "up": facts is not None and wrong is None,
        "state": facts.state.value if facts else None,
        "reason": wrong.text if wrong else None,
        "name": seen.name or None,
        "address": seen.address or None,
        "tailnet": facts.tailnet or None if facts else None,
        "version": facts.version or None if facts else None,
        "key_expires_in_s": None if expires_s is None else round(max(0.0, expires_s)),
        "peer": asdict(facts.peer) if facts and facts.peer else None,
        "seen_s": _age(seen.seen_at_s, now_s),
    }


def _keepalive(worker: AgentState, now_s: float, policy: Policy) -> dict[str, Any]:
    lease = worker.lease
    left_s = None if lease.expires_at_s is None else max(0.0, round(lease.expires_at_s - now_s, 1))
    return {
        "last_ok_s": _age(lease.last_ok_s, now_s),
        "ttl_s": left_s,
        "interval_s": policy.keepalive_interval_s,
        "failures": lease.failures,
    }


def _capacity(worker: AgentState) -> dict[str, Any]:
    return {
        **asdict(offer.capacity(worker)),
        "offered": _offered(worker),
        "reason": worker.offer.reason,
    }


def _kubernetes(worker: AgentState) -> dict[str, Any]:
    kube = worker.kube
    return {
        "expected": kube.expected,
        "answering": kube.answering,
        "reason": kube.trouble or kube.node_trouble,
        "token_serial": kube.token_serial,
        "node": _node(worker),
    }


def _placement(worker: AgentState) -> dict[str, Any]:
    lease = worker.lease
    return {
        "keepalives_go": lease.ready and lease.failures == 0,
        "work_can_be_placed": offer.is_placeable(worker),
        "reason": _unplaceable(worker),
        "blocked_by": worker.offer.by,
    }


def _counters(worker: AgentState) -> dict[str, Any]:
    lease, registration = worker.lease, worker.registration
    return {
        "keepalives": {"ok": lease.oks, "failed": lease.failed},
        "registrations": {"ok": registration.times, "failed": registration.failures},
        "tunnel_restarts": _restarts(worker),
    }


def _offered(worker: AgentState) -> bool:
    """What the gateway was last told, which lags what we want by one call."""
    promise = worker.registration.promise
    return worker.registration.known and promise is not None and promise.offered


def _unplaceable(worker: AgentState) -> str | None:
    """Why the gateway can start no work here, None where it can."""
    if worker.offer.reason is not None:
        return worker.offer.reason
    if offer.is_placeable(worker):
        return None
    if offer.is_told(worker):
        return "the gateway has accepted no keepalive since the machine was registered"
    return "the gateway was not told yet"


def _node(worker: AgentState) -> dict[str, Any] | None:
    node = worker.kube.node
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


def _interruption(worker: AgentState, now_s: float) -> dict[str, Any] | None:
    """What the cloud has announced, and how far the agent is with it."""
    going = worker.going
    if going is not None and going.kind is ShutdownKind.TERMINATE:
        return {
            "kind": "terminate",
            "reason": going.reason,
            "deadline_in_s": _left(going.deadline_at_s, now_s),
            "step": going.step.value,
        }
    if worker.rebalance is None:
        return None
    step = "withdrawn" if offer.is_withdrawn(worker) else "ignored"
    return {"kind": "rebalance", "reason": worker.rebalance, "deadline_in_s": None, "step": step}


def _drain(worker: AgentState, now_s: float) -> dict[str, Any] | None:
    """How far leaving has come, whoever asked for it."""
    going, room = worker.going, worker.room
    if going is None:
        return None
    return {
        "kind": going.kind.value,
        "reason": going.reason,
        "step": going.step.value,
        "since_s": _age(going.since_s, now_s),
        "deadline_in_s": _left(going.deadline_at_s, now_s),
        "workers": room.workers,
        "cordoned": bool(room.cordoned),
        "trouble": room.trouble or room.cordon_trouble,
    }


def _left(at_s: float, now_s: float) -> float | None:
    return None if math.isinf(at_s) else round(max(0.0, at_s - now_s), 1)


def _degraded(worker: AgentState) -> list[str]:
    texts = [] if worker.kube.problem is None else [f"Kubernetes: {worker.kube.problem}"]
    host = worker.host
    if host is not None and host.disk_total_bytes and host.disk_free_bytes < FULL_DISK_BYTES:
        texts.append(
            f"the state directory's disk is full ({host.disk_free_bytes} bytes free): the machine's id and a stop "
            "marker could not be kept there; free space"
        )
    if worker.gpus.problem:
        texts.append(f"GPUs: {worker.gpus.problem}")
    texts += [f"GPU {gpu.uuid} ({gpu.name}): {gpu.reason}" for gpu in worker.gpus.gpus if not gpu.healthy]
    if worker.registration.gateway_config is False and worker.setup.connection.value == "ssh":
        texts.append("directRedisHost is not set on the gateway; no work will come")
    refused = [name for name in ("api", "reverse", "data") if not getattr(worker, name).session]
    if worker.rebalance is not None and worker.room.cordon_trouble:
        texts.append(f"the node is not cordoned: {worker.room.cordon_trouble}")
    if refused:
        texts.append(f"sshd refuses session channels; small writes are slower ({', '.join(refused)})")
    return texts


def _key_degraded(worker: AgentState, now_s: float) -> list[str]:
    expires_s = tailnet.key_expires_in_s(worker, now_s)
    if expires_s is None or not 0 < expires_s < tailnet.EXPIRES_SOON_S:
        return []
    return [
        f"this machine's key in the tailnet expires in {expires_s / 3600:.1f} h; renew it, or switch its expiry off at "
        "the control server"
    ]


def _restarts(worker: AgentState) -> dict[str, int]:
    total: dict[str, int] = {}
    for link in (worker.api, worker.reverse, worker.data):
        for reason, count in link.restarts:
            total[reason] = total.get(reason, 0) + count
    return total


def _link(link: Link, address: str | None, note: str | None = None) -> dict[str, Any]:
    return {
        "up": link.phase is LinkPhase.UP,
        "address": address,
        "reason": link.trouble.text if link.trouble else note,
        "generation": link.generation,
    }


def _latest(worker: AgentState) -> float | None:
    moments = [at_s for at_s in (worker.lease.last_ok_s, worker.api.answered_at_s) if at_s is not None]
    return max(moments, default=None)


def _age(at_s: float | None, now_s: float) -> float | None:
    return None if at_s is None else round(max(0.0, now_s - at_s), 3)
